//! What a mount's process leaves for others to find, in the runtime directory: one directory per mount with a lock that
//! is held exactly as long as the process lives, a record of what it serves, its control socket, its log, and the NFS
//! mount that permfs made for it.
//!
//! The kernel's mount table stays the truth about what is mounted; this says who serves it. A directory whose lock is
//! free belongs to a dead process: it is swept by the next mount or unmount.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::{Flock, FlockArg};

use serde::{Deserialize, Serialize};

use super::table::{DeviceNumber, MountEntry, MountTable};
use super::{MountFailure, path_text};
use crate::sys::{self, Errno};

/// Where the runtime directory is, unless PERMFS_RUNTIME_DIR says otherwise.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/permfs";
/// Overrides [`DEFAULT_RUNTIME_DIR`].
pub const RUNTIME_DIR_VARIABLE: &str = "PERMFS_RUNTIME_DIR";

const LOCK: &str = "lock";
const RECORD: &str = "mount.json";
const CONTROL: &str = "control";
const LOG: &str = "log";
const NFS: &str = "nfs";
const MEETING: &str = "handover";

/// A mount as its process describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it is mounted, as text.
    #[serde(serialize_with = "path_text::lossy")]
    pub target: PathBuf,
    /// What is shown, as given.
    pub source: String,
    /// The profile; none where the rules came from flags.
    pub profile: Option<String>,
    /// The process that serves it.
    pub worker: Process,
    /// The process that keeps the mount while that one is replaced.
    pub keeper: Process,
    /// The mounted filesystem.
    pub device: DeviceNumber,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since boot (proc_pid_stat(5), field 22): a pid alone may be reused.
    pub started: u64,
}

impl Process {
    /// The process that has this number now.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { pid, started: start_time(pid).unwrap_or_default() }
    }

    /// Whether it is still there.
    #[must_use]
    pub fn lives(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// The runtime directory of this node.
#[derive(Debug, Clone)]
pub struct RuntimeDir {
    path: PathBuf,
}

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

impl RuntimeDir {
    /// The one that the environment names, or the default.
    #[must_use]
    pub fn from_env() -> Self {
        let path = std::env::var_os(RUNTIME_DIR_VARIABLE).filter(|path| !path.is_empty());
        Self { path: path.map_or_else(|| DEFAULT_RUNTIME_DIR.into(), PathBuf::from) }
    }

    /// A test's own.
    #[cfg(test)]
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes a directory for a mount of this process, after sweeping what dead ones left.
    ///
    /// # Errors
    /// Where the runtime directory cannot be made or written, or belongs to somebody else.
    pub fn claim(&self) -> Result<Claim, MountFailure> {
        self.prepare().map_err(failed(&self.path))?;
        let _guard = self.guard().map_err(failed(&self.path))?;
        self.sweep_unlocked();
        let pid = process::id();
        let path = (0..=u16::MAX)
            .map(|n| if n == 0 { pid.to_string() } else { format!("{pid}.{n}") })
            .map(|name| self.path.join(name))
            .find(|path| !path.exists())
            .unwrap_or_else(|| self.path.join(pid.to_string()));
        DirBuilder::new().mode(0o700).create(&path).map_err(failed(&path))?;
        let lock = lock_file(&path, true).map_err(failed(&path))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, error)| failed(&path)(io::Error::from(error)))?;
        Ok(Claim { path, _lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what dead processes left, where their mount is gone too.
    pub fn sweep(&self) {
        if let Ok(_guard) = self.guard() {
            self.sweep_unlocked();
        }
    }

    /// What is known about a mounted filesystem. A live process's word goes before a dead one's.
    #[must_use]
    pub fn find(&self, device: DeviceNumber, target: &Path) -> Option<Trace> {
        let mut found: Vec<Trace> = self.traces();
        found.retain(|trace| trace.record.as_ref().is_some_and(|record| record.device == device));
        // The number of a mount that is gone may be another's already, while its process is still leaving.
        let text = |path: &Path| path.display().to_string();
        let elsewhere =
            |trace: &Trace| trace.record.as_ref().is_none_or(|record| text(&record.target) != text(target));
        found.sort_by_key(|trace| (!trace.is_alive(), elsewhere(trace)));
        found.into_iter().next()
    }

    /// That what is known about mounts may be read.
    ///
    /// # Errors
    /// Where it is another user's: then nothing is known, of whatever serves.
    pub(super) fn expect_readable(&self) -> Result<(), MountFailure> {
        match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(MountFailure::RuntimePrivate(self.path.clone()))
            }
            _ => Ok(()),
        }
    }

    /// What is known about a mount whose process is to be asked.
    ///
    /// # Errors
    /// Where that is nothing, or another user's to know.
    pub(super) fn known(&self, entry: &MountEntry) -> Result<Trace, MountFailure> {
        self.expect_readable()?;
        self.find(entry.device, &entry.target).ok_or_else(|| MountFailure::NoAnswer {
            path: entry.target.clone(),
            why: "nothing is known of its process".to_owned(),
        })
    }

    fn traces(&self) -> Vec<Trace> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        paths.filter(|path| path.join(LOCK).exists()).map(Trace::read).collect()
    }

    /// Private to root: the record says which process may be killed.
    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let found = fs::symlink_metadata(&self.path)?;
        if !found.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))
    }

    /// A file for locks, for this process alone.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub(super) fn guard_file(&self) -> Result<File, MountFailure> {
        self.prepare().and_then(|()| self.open_guard()).map_err(failed(&self.path))
    }

    /// Keeps two processes from claiming and sweeping at once.
    fn guard(&self) -> io::Result<Flock<File>> {
        Flock::lock(self.open_guard()?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    fn open_guard(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).open(self.path.join(".guard"))
    }

    fn sweep_unlocked(&self) {
        let Ok(table) = MountTable::read() else { return };
        for trace in self.traces() {
            let mounted = |record: &Record| table.of_device(record.device).any(|entry| entry.is_permfs());
            if !trace.is_alive() && !trace.record.as_ref().is_some_and(mounted) {
                trace.remove();
            }
        }
    }
}

impl Claim {
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
        write().map_err(|error| MountFailure::Runtime { path: self.path.join(RECORD), errno: error.into() })
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
    fn read(path: PathBuf) -> Self {
        let record = fs::read(path.join(RECORD)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { path, record }
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

fn failed(path: &Path) -> impl FnOnce(io::Error) -> MountFailure {
    let path = path.to_owned();
    move |error| MountFailure::Runtime { path, errno: error.into() }
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

/// When a process began, in clock ticks since boot; none where there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may contain anything: count from behind it. It ends field 2.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            target: "/t".into(),
            source: "/s".into(),
            profile: None,
            worker: Process::of(process::id()),
            keeper: Process::of(process::id()),
            device: DeviceNumber { major: 0, minor: 999_999 },
        }
    }

    fn runtime() -> (tempfile::TempDir, RuntimeDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        (dir, RuntimeDir { path })
    }

    #[test]
    fn a_claim_is_found_alive_while_it_is_held_and_leaves_nothing() {
        let (_dir, runtime) = runtime();
        let claim = runtime.claim().unwrap();
        claim.publish(&record()).unwrap();
        let trace = runtime.find(record().device, &record().target).unwrap();
        assert!(trace.is_alive());
        assert_eq!(trace.record, Some(record()));
        drop(claim);
        assert!(runtime.find(record().device, &record().target).is_none());
        assert_eq!(runtime.traces().len(), 0);
    }

    #[test]
    fn what_a_dead_process_left_is_swept() {
        let (_dir, runtime) = runtime();
        drop(runtime.claim().unwrap());
        let left = runtime.path.join("1");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        fs::write(left.join(RECORD), serde_json::to_vec(&record()).unwrap()).unwrap();
        assert!(!runtime.find(record().device, &record().target).unwrap().is_alive());
        runtime.sweep();
        assert!(!left.exists());
    }

    #[test]
    fn the_runtime_directory_is_private() {
        let (_dir, runtime) = runtime();
        let _claim = runtime.claim().unwrap();
        assert_eq!(fs::metadata(&runtime.path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
