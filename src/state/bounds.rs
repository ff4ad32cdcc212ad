//! How much of everything one mount may have, where that is less than what the memory has room for.

use std::os::fd::RawFd;

use nix::sys::resource::{Resource, getrlimit};

use super::layout::{MAX_FILES, MAX_INODES};
use crate::sys::Errno;

/// Descriptors that files which somebody has open, and inodes that pin one, never take: those of directories and listings, of lock
/// owners, and of a worker that takes over.
const OTHER_DESCRIPTORS: usize = 2048;

/// Of one mount. A successor has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Inodes that the kernel may know; a lookup of one more is ENFILE.
    pub inodes: usize,
    /// Open files; one more is ENFILE.
    pub files: usize,
    /// Descriptors of files and pinned inodes lie below this.
    descriptors: usize,
}

impl Bounds {
    /// What there is room for, and `inodes` where that is less; for a process that may have `descriptors` (RLIMIT_NOFILE).
    #[must_use]
    pub fn of(inodes: Option<usize>, descriptors: usize) -> Self {
        // With few of them, half: some files can be opened, and something else done.
        let descriptors = descriptors - OTHER_DESCRIPTORS.min(descriptors / 2);
        Self {
            inodes: inodes.unwrap_or(MAX_INODES).clamp(1, MAX_INODES),
            files: MAX_FILES.min(descriptors),
            descriptors,
        }
    }

    /// The same, for this process.
    #[must_use]
    pub fn of_this_process(inodes: Option<usize>) -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        Self::of(inodes, usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Whether a file or a pinned inode may keep this descriptor. The kernel deals out the lowest number that is free, so a high one
    /// means that nearly all are in use.
    ///
    /// # Errors
    /// ENFILE where it may not.
    pub fn allow(&self, fd: RawFd) -> Result<(), Errno> {
        let number = usize::try_from(fd).map_err(|_negative| Errno::EBADF)?;
        if number < self.descriptors { Ok(()) } else { Err(Errno::ENFILE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_leave_descriptors_for_everything_else() {
        let many = Bounds::of(None, 1 << 20);
        assert_eq!((many.inodes, many.files), (MAX_INODES, MAX_FILES));
        assert_eq!(Bounds::of(None, 4096).files, 2048);
        assert_eq!(Bounds::of(None, 1024).files, 512);
        assert_eq!(Bounds::of(None, 4096).allow(2047), Ok(()));
        assert_eq!(Bounds::of(None, 4096).allow(2048), Err(Errno::ENFILE));
    }

    #[test]
    fn a_mount_has_an_inode_and_no_more_than_there_is_room_for() {
        assert_eq!(Bounds::of(Some(0), 4096).inodes, 1);
        assert_eq!(Bounds::of(Some(usize::MAX), 4096).inodes, MAX_INODES);
    }
}
