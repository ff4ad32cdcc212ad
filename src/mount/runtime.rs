//! The runtime directory: where the processes of this node's mounts leave what others find of them, each in a directory
//! of its own (`claim.rs`).
//!
//! The kernel's mount table stays the truth about what is mounted; this says who serves it. A directory whose lock is
//! free belongs to a dead process: it is swept by the next mount or unmount.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::{Flock, FlockArg};

use super::MountFailure;
use super::claim::{Claim, Trace};
use super::record::Record;
use super::table::{DeviceNumber, MountEntry, MountTable};

/// Where the runtime directory is, unless PERMFS_RUNTIME_DIR says otherwise.
pub const DEFAULT_RUNTIME_DIR: &str = "/run/permfs";
/// Overrides [`DEFAULT_RUNTIME_DIR`].
pub const RUNTIME_DIR_VARIABLE: &str = "PERMFS_RUNTIME_DIR";

/// The runtime directory of this node.
#[derive(Debug, Clone)]
pub struct RuntimeDir {
    path: PathBuf,
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
        self.prepare().map_err(MountFailure::runtime(&self.path))?;
        let _guard = self.guard().map_err(MountFailure::runtime(&self.path))?;
        self.sweep_unlocked();
        let pid = process::id();
        let path = (0..=u16::MAX)
            .map(|n| if n == 0 { pid.to_string() } else { format!("{pid}.{n}") })
            .map(|name| self.path.join(name))
            .find(|path| !path.exists())
            .unwrap_or_else(|| self.path.join(pid.to_string()));
        DirBuilder::new().mode(0o700).create(&path).map_err(MountFailure::runtime(&path))?;
        Claim::of(path)
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
        entries.filter_map(Result::ok).filter_map(|entry| Trace::at(entry.path())).collect()
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
        self.prepare().and_then(|()| self.open_guard()).map_err(MountFailure::runtime(&self.path))
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

#[cfg(test)]
mod tests {
    use super::super::claim::{LOCK, RECORD};
    use super::super::record::Process;
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
