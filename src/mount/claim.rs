//! What one mount's process leaves for others to find, in a directory of its own: a lock that is held exactly as long as
//! the process lives, a record of what it serves, its control socket, its log, and the NFS mount that permfs made for it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::MountFailure;
use super::record::Record;
use crate::sys::{self, Errno};

pub(super) const LOCK: &str = "lock";
pub(super) const RECORD: &str = "mount.json";
const CONTROL: &str = "control";
const LOG: &str = "log";
const NFS: &str = "nfs";
const MEETING: &str = "handover";

/// One mount's directory, held by the process that serves it. Removed when dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: Flock<File>,
}

/// One mount's directory, as others find it.
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
    /// What it serves; none where its process has not come so far.
    pub record: Option<Record>,
}

impl Claim {
    /// The claim on a new, empty directory.
    ///
    /// # Errors
    /// Where its lock cannot be made or taken.
    pub(super) fn of(path: PathBuf) -> Result<Self, MountFailure> {
        let lock = lock_file(&path, true).map_err(MountFailure::runtime(&path))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, error)| MountFailure::runtime(&path)(error.into()))?;
        Ok(Self { path, _lock })
    }

    /// Says what this process serves.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn publish(&self, record: &Record) -> Result<(), MountFailure> {
        let write = || -> io::Result<()> {
            let draft = self.path.join("mount.json.new");
            fs::write(&draft, serde_json::to_vec(record)?)?;
            fs::rename(draft, self.path.join(RECORD))
        };
        write().map_err(MountFailure::runtime(&self.path.join(RECORD)))
    }

    /// The claim that a program before this one has made, with its lock.
    ///
    /// # Errors
    /// Where the lock is not held.
    pub(super) fn resume(path: PathBuf, lock: File) -> Result<Self, Errno> {
        // It belongs to the open file, and so is held already.
        let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
        Ok(Self { path, _lock })
    }

    /// The claim of processes that have died, at the same place.
    ///
    /// # Errors
    /// EAGAIN where one of them has the lock; else those of making it.
    pub(super) fn again(path: PathBuf) -> Result<Self, Errno> {
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let lock = lock_file(&path, true)?;
        Self::resume(path, lock)
    }

    /// Has the lock of processes that serve nothing any more mean nothing.
    pub(super) fn unlock(path: &Path) {
        let _ = fs::remove_file(path.join(LOCK));
    }

    /// It is another process's to remove. The lock is held as long as one has it open.
    pub(super) fn leave(self) {
        mem::forget(self);
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor of its lock.
    #[must_use]
    pub fn lock(&self) -> RawFd {
        self._lock.as_raw_fd()
    }

    /// Where the control socket goes.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.path.join(CONTROL)
    }

    /// Where the log goes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where permfs mounts the NFS export.
    #[must_use]
    pub fn nfs(&self) -> PathBuf {
        self.path.join(NFS)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        clear(&self.path);
    }
}

impl Trace {
    /// What is at this path; none where no claim was ever made there.
    pub(super) fn at(path: PathBuf) -> Option<Self> {
        if !path.join(LOCK).exists() {
            return None;
        }
        let record = fs::read(path.join(RECORD)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Some(Self { path, record })
    }

    /// Whether its process lives: it holds the lock, whatever pid namespace it is in.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let Ok(file) = lock_file(&self.path, false) else { return false };
        Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
    }

    /// Its control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.path.join(CONTROL)
    }

    /// Where a process of another container waits for the keeper's call.
    #[must_use]
    pub(super) fn meeting(&self) -> PathBuf {
        meeting_point(&self.path)
    }

    /// Removes what a dead process left: its NFS mount, which nobody uses any more, and its files.
    pub fn remove(&self) {
        // Detached, since its server may be the reason for the death.
        let _ = sys::mount::unmount(&self.path.join(NFS), true);
        clear(&self.path);
    }
}

/// As [`Trace::meeting`], of the mount with this claim.
pub(super) fn meeting_point(claim: &Path) -> PathBuf {
    claim.join(MEETING)
}

fn lock_file(dir: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(dir.join(LOCK))
}

/// Removes the known files, one by one and the lock last; never recursively, so that nothing is removed through a mount
/// that is still there.
fn clear(dir: &Path) {
    let _ = fs::remove_dir(dir.join(NFS));
    for name in [CONTROL, MEETING, RECORD, "mount.json.new", LOG, "log.old", LOCK] {
        let _ = fs::remove_file(dir.join(name));
    }
    let _ = fs::remove_dir(dir);
}
