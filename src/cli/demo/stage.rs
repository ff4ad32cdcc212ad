//! Where the demo takes place: a temporary export, a directory to mount on, and how both go away again.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::super::failure::Failure;
use crate::mount::{MountFailure, preflight, signals, unmount};

/// How long the mount point may stay busy.
const CLEAR_PATIENCE: Duration = Duration::from_secs(10);
const CLEAR_PAUSE: Duration = Duration::from_millis(10);

/// A temporary directory with `export`, `pod` and `rules.toml` in it. Cleared when dropped.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    /// Whoever holds it clears.
    clearing: Arc<Mutex<()>>,
}

impl Stage {
    /// Builds it. From here on a signal waits until [`Self::clear_on_signal`] takes it: there is no moment at which one
    /// could leave something behind.
    pub(super) fn build(rules: &str) -> Result<Self, Failure> {
        signals::block().map_err(|error| Failure::failed(format!("cannot hold back signals: {error}")))?;
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
        let stage = Self { dir: dir.clone(), clearing: Arc::default() };
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

    /// Where everything is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
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
            // Ctrl-C is for this process alone, which then takes everything down in order.
            .process_group(0)
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
        let (dir, clearing) = (self.dir.clone(), Arc::clone(&self.clearing));
        signals::deliver(move |_signal| {
            // Kept to the end: the main thread, whose commands fail now, waits here instead of saying so.
            let _only_one = clearing.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(failure) = clear(&dir) {
                failure.print();
            }
            process::exit(code)
        })
        .map_err(|error| Failure::failed(format!("cannot wait for signals: {error}")))
    }

    /// Unmounts and removes.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        let _only_one = self.clearing.lock().unwrap_or_else(PoisonError::into_inner);
        clear(&self.dir)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Where it failed, `clear` has been called before and said so.
        let _ = self.clear();
    }
}

/// Also while a command of the demo is still at work in it, or about to mount: then once more, until it has ended.
fn clear(dir: &Path) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        match unmount(&dir.join("pod"), true) {
            Ok(_) | Err(MountFailure::NotMounted(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
        match remove(dir) {
            Ok(()) => return Ok(()),
            Err(error) if is_in_use(&error) && begin.elapsed() < CLEAR_PATIENCE => thread::sleep(CLEAR_PAUSE),
            Err(error) => return Err(Failure::failed(format!("cannot remove {}: {error}", dir.display()))),
        }
    }
}

/// The mount point by itself and first: were something mounted there again, nothing would be removed through it.
fn remove(dir: &Path) -> io::Result<()> {
    let gone = |outcome: io::Result<()>| match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(fs::remove_dir(dir.join("pod")))?;
    gone(fs::remove_dir_all(dir))
}

fn is_in_use(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty)
}
