//! One mount after the other on a target: to see that it is free and to mount there are two steps, and between them another
//! process may do the same.
//!
//! The locks are bytes of one file in the runtime directory, one for each target, so that nothing is left to be removed and
//! mounts on other targets do not wait.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::runtime::RuntimeDir;
use super::table::MountTable;
use super::{MountFailure, preflight};

/// Held until it is dropped, or the last process that shares this one's descriptors is gone.
#[derive(Debug)]
pub(super) struct TargetLock(#[expect(unused)] File);

impl TargetLock {
    /// Waits while another process mounts on `path`, and gives TARGET, resolved, on which nothing is mounted.
    ///
    /// # Errors
    /// Those of [`preflight::target`]; where the runtime directory cannot be used.
    pub(super) fn take(path: &Path, runtime: &RuntimeDir) -> Result<(Self, PathBuf), MountFailure> {
        let target = preflight::target(path, &MountTable::read()?)?;
        let lock = Self(wait(runtime.guard_file()?, &target, runtime)?);
        let target = preflight::target(&target, &MountTable::read()?)?;
        Ok((lock, target))
    }
}

// The kinds are 0 to 2.
#[expect(clippy::cast_possible_truncation)]
const EXCLUSIVE: libc::c_short = libc::F_WRLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation)]
const FROM_START: libc::c_short = libc::SEEK_SET as libc::c_short;

fn wait(file: File, target: &Path, runtime: &RuntimeDir) -> Result<File, MountFailure> {
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    let byte = libc::flock {
        l_type: EXCLUSIVE,
        l_whence: FROM_START,
        // Two targets that have the same byte wait for each other, and do no harm.
        l_start: (hasher.finish() >> 1).cast_signed(),
        l_len: 1,
        l_pid: 0,
    };
    loop {
        match fcntl(&file, FcntlArg::F_OFD_SETLKW(&byte)) {
            Ok(_) => return Ok(file),
            Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(MountFailure::Runtime { path: runtime.path().to_owned(), errno: errno.into() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_target_is_waited_for_and_another_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = RuntimeDir::at(dir.path().join("run"));
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&other).unwrap();
        let (held, _) = TargetLock::take(&one, &runtime).unwrap();
        let _other = TargetLock::take(&other, &runtime).unwrap();
        let next = thread::spawn(move || TargetLock::take(&one, &runtime).map(|(_, target)| target));
        thread::sleep(Duration::from_millis(50));
        assert!(!next.is_finished());
        drop(held);
        assert_eq!(next.join().unwrap().unwrap(), dir.path().join("one").canonicalize().unwrap());
    }
}
