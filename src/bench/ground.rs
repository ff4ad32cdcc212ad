//! The directory in which one side's work is done: `.permfs-bench.<random>`, made at the start and always removed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::halt::Attempt as _;
use super::random::Random;
use super::{Halt, Stop};
use crate::sys::stderr::say;

/// How the directory's name begins.
pub(super) const PREFIX: &str = ".permfs-bench.";

/// How long removing may be repeated: an NFS client renames a file that somebody still has open to `.nfsXXXX`, and FUSE
/// tells the daemon of a close only after close(2) has returned, so that a directory may be not empty for a moment.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);
const REMOVE_PAUSE: Duration = Duration::from_millis(20);

/// One side's directory, and what is in it.
#[derive(Debug)]
pub(super) struct Ground {
    dir: PathBuf,
    /// Bounds of what may be made.
    pub(super) budget: Budget,
    stop: Stop,
    ready: BTreeSet<&'static str>,
    serial: u64,
    removed: bool,
}

impl Ground {
    /// Makes the directory below `parent`.
    ///
    /// # Errors
    /// Those of mkdir(2); nothing has been made then.
    pub(super) fn make(parent: &Path, budget: Budget, stop: Stop) -> Result<Self, Halt> {
        stop.check()?;
        let dir =
            parent.join(format!("{PREFIX}{:08x}", RandomState::new().hash_one(std::process::id()) >> 32));
        // It fails where the name exists: nobody else's directory is worked in, and later removed.
        // Others may look: the source's side drops caches of files that the target's side has made.
        DirBuilder::new().mode(0o755).create(&dir).attempt("make", &dir)?;
        Ok(Self { dir, budget, stop, ready: BTreeSet::new(), serial: 0, removed: false })
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// To be called between operations: the work ends here when a signal has come.
    pub(super) fn go_on(&self) -> Result<(), Halt> {
        self.stop.check()
    }

    /// A name in the directory that has not been used.
    pub(super) fn fresh(&mut self, what: &str) -> PathBuf {
        self.serial += 1;
        self.dir.join(format!("{what}-{}", self.serial))
    }

    /// What stays for the whole run, made by `make` when it is first asked for.
    pub(super) fn standing(
        &mut self,
        name: &'static str,
        make: impl FnOnce(&Self, &Path) -> Result<(), Halt>,
    ) -> Result<PathBuf, Halt> {
        let path = self.dir.join(name);
        if !self.ready.contains(name) {
            make(self, &path)?;
            self.ready.insert(name);
        }
        Ok(path)
    }

    /// Bytes to write; the same on both sides.
    pub(super) fn bytes(len: usize) -> Vec<u8> {
        Random::new(1).bytes(len)
    }

    /// Removes a directory that the work has made, and all in it.
    pub(super) fn remove(&self, dir: &Path) -> Result<(), Halt> {
        self.go_on()?;
        remove_all(dir).attempt("remove", dir)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// [`Halt::LeftBehind`].
    pub(super) fn clear(&mut self) -> Result<(), Halt> {
        self.removed = true;
        remove_all(&self.dir).map_err(|error| Halt::LeftBehind { path: self.dir.clone(), error })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Only after a panic: otherwise `clear` has been called, and has told its error.
        if !self.removed
            && let Err(left) = self.clear()
        {
            say(format_args!("permfs: {left}"));
        }
    }
}

/// As often as it takes, within a bound.
pub(super) fn remove_all(dir: &Path) -> io::Result<()> {
    let end = Instant::now() + REMOVE_PATIENCE;
    loop {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && Instant::now() < end => {
                thread::sleep(REMOVE_PAUSE);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { file: 1 << 20, names: 256 };

    #[test]
    fn what_was_made_is_gone_also_when_nobody_clears_it() {
        let parent = tempfile::tempdir().unwrap();
        let ground = Ground::make(parent.path(), BUDGET, Stop::default()).unwrap();
        fs::create_dir_all(ground.dir().join("a/b")).unwrap();
        fs::write(ground.dir().join("a/b/c"), "x").unwrap();
        drop(ground);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_fills_again_while_it_is_removed_is_removed_again() {
        let parent = tempfile::tempdir().unwrap();
        let mut ground = Ground::make(parent.path(), BUDGET, Stop::default()).unwrap();
        let inside = ground.dir().to_owned();
        let noise = thread::spawn(move || {
            // As the `.nfsXXXX` that appear when an open file is removed: for a while.
            for serial in 0..50 {
                let _ = fs::write(inside.join(format!(".nfs{serial}")), "");
                thread::sleep(Duration::from_millis(1));
            }
        });
        ground.clear().unwrap();
        noise.join().unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_begun_after_a_signal() {
        let parent = tempfile::tempdir().unwrap();
        let stop = Stop::default();
        stop.raise();
        assert!(matches!(Ground::make(parent.path(), BUDGET, stop), Err(Halt::Interrupted { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
