//! Where the demo takes place: a temporary export, a directory to mount on, and how both go away again.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::super::failure::Failure;
use crate::mount::table::MountTable;
use crate::mount::{preflight, signals, unmount};

/// How long the mount point may stay busy.
const CLEAR_PATIENCE: Duration = Duration::from_secs(10);

/// A temporary directory with `export`, `pod` and `rules.toml` in it. Cleared when dropped.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
}

impl Stage {
    /// Builds it.
    pub(super) fn build(rules: &str) -> Result<Self, Failure> {
        preflight::privilege()?;
        preflight::fuse_device()?;
        let dir = std::env::temp_dir().join(format!("permfs-demo-{}", process::id()));
        let failed = |error: io::Error| {
            Failure::failed(format!(
                "cannot prepare the demo in {}: {error}; set TMPDIR to a directory that root may write",
                dir.display()
            ))
        };
        // Refused where it exists: nobody else's directory is worked in.
        DirBuilder::new().mode(0o755).create(&dir).map_err(failed)?;
        let stage = Self { dir: dir.clone() };
        let prepare = || -> io::Result<()> {
            fs::set_permissions(&stage.dir, Permissions::from_mode(0o755))?;
            fs::create_dir(stage.export())?;
            fs::set_permissions(stage.export(), Permissions::from_mode(0o755))?;
            chown(stage.export(), Some(2001), Some(2001))?;
            fs::create_dir(stage.pod())?;
            fs::write(stage.rules(), rules)
        };
        prepare().map_err(failed)?;
        Ok(stage)
    }

    /// SOURCE.
    pub(super) fn export(&self) -> PathBuf {
        self.dir.join("export")
    }

    /// TARGET.
    pub(super) fn pod(&self) -> PathBuf {
        self.dir.join("pod")
    }

    fn rules(&self) -> PathBuf {
        self.dir.join("rules.toml")
    }

    /// Mounts as a user would: by this program.
    pub(super) fn mount(&self) -> Result<(), Failure> {
        let done = Command::new("/proc/self/exe")
            .arg("mount")
            .args([self.export(), self.pod()])
            .arg("--config")
            .arg(self.rules())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure::failed(format!("cannot run permfs for the demo: {error}")))?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr).trim().trim_start_matches("permfs: ").to_owned();
        Err(Failure::failed(said))
    }

    /// Clears it and ends the process when a signal comes.
    pub(super) fn clear_on_signal(&self, code: i32) -> Result<(), Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::failed(format!("cannot wait for signals: {error}"));
        signals::block().map_err(|error| failed(&error))?;
        let dir = self.dir.clone();
        signals::deliver(move |_signal| {
            let cleared = clear(&dir);
            if let Err(failure) = &cleared {
                failure.print();
            }
            process::exit(code)
        })
        .map_err(|error| failed(&error))
    }

    /// Unmounts and removes.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        clear(&self.dir)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Where it failed, `clear` has been called before and said so.
        let _ = clear(&self.dir);
    }
}

/// Also while a command of the demo is still at work in it, or about to mount.
fn clear(dir: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot remove {}: {error}", dir.display()));
    let pod = dir.join("pod");
    let begin = Instant::now();
    loop {
        if MountTable::read()?.on_top_of(&pod).is_some() {
            unmount(&pod, true)?;
        }
        // By itself and first: were the mount there again, nothing is removed through it.
        match fs::remove_dir(&pod) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && begin.elapsed() < CLEAR_PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => break,
        }
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}
