//! The NFS mount that permfs makes for itself where SOURCE is `server:/export`, by mount.nfs(8): version and transport
//! negotiation, name lookup and security flavours are its trade.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::MountFailure;
use crate::sys::{self, Errno};

/// How long mount.nfs may try, where nobody says less. By itself it gives up after two minutes (`retry`, see nfs(5)).
const NFS_PATIENCE: Duration = Duration::from_secs(150);
/// How long an unmount is tried before the mount is only detached: descriptors of the last requests may linger.
const RELEASE_PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

/// An NFS mount, unmounted when dropped.
#[derive(Debug)]
pub struct NfsMount {
    path: PathBuf,
}

impl NfsMount {
    /// Mounts `export` on the directory `path`, which it makes.
    ///
    /// # Errors
    /// Where mount.nfs is absent, refuses, or does not come to an end.
    pub fn new(
        export: &str,
        options: &[String],
        read_only: bool,
        path: PathBuf,
    ) -> Result<Self, MountFailure> {
        Self::within(NFS_PATIENCE, export, options, read_only, path)
    }

    /// The same within `limit`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn within(
        limit: Duration,
        export: &str,
        options: &[String],
        read_only: bool,
        path: PathBuf,
    ) -> Result<Self, MountFailure> {
        let failed = |errno: Errno| MountFailure::Runtime { path: path.clone(), errno };
        fs::create_dir(&path).map_err(|error| failed(error.into()))?;
        match attach(limit, export, options, read_only, &path) {
            Ok(()) => Ok(Self { path }),
            Err(failure) => {
                let _ = fs::remove_dir(&path);
                Err(failure)
            }
        }
    }

    /// The one that a program before this one has mounted.
    #[must_use]
    pub fn resume(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the export is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for NfsMount {
    fn drop(&mut self) {
        let begin = Instant::now();
        while let Err(error) = sys::mount::unmount(&self.path, false) {
            if error == Errno::EBUSY && begin.elapsed() < RELEASE_PATIENCE {
                thread::sleep(POLL);
                continue;
            }
            tracing::warn!(path = %self.path.display(), %error, "the NFS mount is in use; it is detached");
            let _ = sys::mount::unmount(&self.path, true);
            break;
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// Mounts `export` on the directory `path`, for longer than this process lives. After `limit` mount.nfs is killed.
///
/// # Errors
/// Where mount.nfs is absent, refuses, or does not come to an end.
pub fn attach(
    limit: Duration,
    export: &str,
    options: &[String],
    read_only: bool,
    path: &Path,
) -> Result<(), MountFailure> {
    let mut words = vec!["nosuid", "nodev", if read_only { "ro" } else { "rw" }];
    words.extend(options.iter().map(String::as_str));
    let child = Command::new(program())
        .args([export.as_ref(), path.as_os_str(), "-o".as_ref(), words.join(",").as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env("LC_ALL", "C")
        .spawn();
    match child {
        Ok(child) => wait(child, limit).map_err(|said| MountFailure::Nfs { export: export.to_owned(), said }),
        Err(error) => Err(MountFailure::NoNfsTools { export: export.to_owned(), errno: error.into() }),
    }
}

fn program() -> &'static Path {
    // sbin is not in everybody's PATH.
    let places = ["/sbin/mount.nfs", "/usr/sbin/mount.nfs"].map(Path::new);
    places.into_iter().find(|path| path.exists()).unwrap_or(Path::new("mount.nfs"))
}

/// Waits for mount.nfs; where it failed, says why in its own words.
fn wait(mut child: Child, limit: Duration) -> Result<(), String> {
    let begin = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() < limit => thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "the server does not answer within {} s: check the server",
                    limit.as_secs()
                ));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut said);
    }
    Err(in_its_words(&said).unwrap_or_else(|| format!("mount.nfs ended with {status}")))
}

/// The telling line of mount.nfs's output.
fn in_its_words(output: &str) -> Option<String> {
    let line = output.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.strip_prefix("mount.nfs: ").unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_in_the_words_of_mount_nfs() {
        let said =
            "mount.nfs: timeout set for Sat\nmount.nfs: access denied by server while mounting nas:/x\n";
        assert_eq!(in_its_words(said).unwrap(), "access denied by server while mounting nas:/x");
        assert_eq!(in_its_words("\n"), None);
    }
}
