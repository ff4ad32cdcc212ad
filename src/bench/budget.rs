//! How much room a run takes: bounded, and a small part of what is free, since others live on the export.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::Halt;
use super::data::BLOCK;
use super::halt::Attempt as _;

/// The largest file, in bytes. More would say no more, and would not stay cached in a small pod.
const MAX_FILE: u64 = 128 << 20;
/// The largest file of a quick run.
const MAX_FILE_QUICK: u64 = 16 << 20;
/// The smallest file that tells anything about throughput.
const MIN_FILE: u64 = 1 << 20;
/// The most files and directories that exist at one time, on each side.
const MAX_NAMES: u64 = 20_000;
/// The same in a quick run.
const MAX_NAMES_QUICK: u64 = 2_000;
/// Fewer than these and the tree and the parallel work do not fit.
const MIN_NAMES: u64 = 256;
/// One in so many of the free bytes and inodes may be one file, or all names: there are two sides, each with two large
/// files and the small ones, so that a run takes less than half of what is free.
const PART: u64 = 16;
/// Bytes that a small file takes at most: a block, and its part of the directory.
const SMALL_FILE: u64 = 8 << 10;

/// The sizes of a run's work on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Bytes of one large file, in whole blocks; two exist at a time.
    pub(super) file: u64,
    /// Small files and directories that may exist at a time.
    pub(super) names: u64,
}

impl Budget {
    /// What `dir` can spare.
    ///
    /// # Errors
    /// [`Halt::Cramped`]; those of statvfs(3).
    pub(super) fn of(dir: &Path, quick: bool) -> Result<Self, Halt> {
        let free = statvfs(dir).attempt("ask for the free space of", dir)?;
        let bytes = free.blocks_available().saturating_mul(free.fragment_size());
        // Filesystems that make inodes as they need them (btrfs, many NFS servers) tell 0 of 0.
        let inodes = if free.files() == 0 { u64::MAX } else { free.files_available() };
        Self::within(bytes, inodes, quick).ok_or_else(|| Halt::Cramped {
            path: dir.to_owned(),
            free: bytes,
            names: inodes,
            needed: format!("{} MiB and {} inodes", (MIN_FILE * PART) >> 20, MIN_NAMES * PART),
        })
    }

    fn within(bytes: u64, inodes: u64, quick: bool) -> Option<Self> {
        let (most_file, most_names) =
            if quick { (MAX_FILE_QUICK, MAX_NAMES_QUICK) } else { (MAX_FILE, MAX_NAMES) };
        let file = (bytes / PART).min(most_file) / BLOCK * BLOCK;
        let names = (bytes / PART / SMALL_FILE).max(MIN_NAMES).min(inodes / PART).min(most_names);
        (file >= MIN_FILE && names >= MIN_NAMES).then_some(Self { file, names })
    }

    /// What both sides can spare, so that both do the same.
    pub(super) fn min(self, other: Self) -> Self {
        Self { file: self.file.min(other.file), names: self.names.min(other.names) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_sides_take_less_than_half_of_what_is_free(bytes: u64, inodes: u64, quick: bool) {
            if let Some(budget) = Budget::within(bytes, inodes, quick) {
                let taken = 2 * (2 * budget.file + budget.names * SMALL_FILE);
                prop_assert!(taken <= bytes / 2, "{budget:?} of {bytes}");
                prop_assert_eq!(budget.file % BLOCK, 0);
                prop_assert!(2 * budget.names <= inodes / 8);
                prop_assert!(budget.file <= MAX_FILE && budget.names <= MAX_NAMES);
            }
        }
    }

    #[test]
    fn a_filesystem_that_is_nearly_full_is_left_alone() {
        assert_eq!(Budget::within(15 << 20, u64::MAX, true), None);
        assert_eq!(Budget::within(u64::MAX, 4000, true), None);
        assert!(Budget::within(16 << 20, 1 << 20, true).is_some());
    }
}
