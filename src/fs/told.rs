//! What the kernel was told that a file is like, and believes for `attr_timeout`.
//!
//! It reads no further than the size among that (`fuse_cache_read_iter`), and fstat(2) shows it. An open is to see what others have
//! closed, so one that finds something else has the kernel forget its attributes: it asks when it next needs them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Filesystem;
use super::handles::OpenFile;
use super::inode::Inode;
use super::seen::Version;
use crate::backing::{BackingFs, Freshness};
use crate::policy::{StoredAttr, Timestamp};

/// A hash of it; one of the two below, which are no hashes, where it is none.
#[derive(Debug)]
pub(super) struct Told(AtomicU64);

/// It believes nothing.
const NOTHING: u64 = 0;
/// A worker before this one has told it.
const UNKNOWN: u64 = 2;

impl Default for Told {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }
}

impl Told {
    /// It will believe this for so long.
    #[inline]
    pub(super) fn tell(&self, attr: &StoredAttr, valid: Duration) {
        self.0.store(if valid.is_zero() { NOTHING } else { hash(attr) }, Ordering::Relaxed);
    }

    /// It has forgotten it, as it does by itself of a file that is written to (`fuse_write_update_attr`).
    #[inline]
    pub(super) fn forgets(&self) {
        self.0.store(NOTHING, Ordering::Relaxed);
    }

    fn is_nothing(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOTHING
    }

    #[inline]
    fn is_otherwise(&self, attr: &StoredAttr) -> bool {
        let told = self.0.load(Ordering::Relaxed);
        told != NOTHING && told != hash(attr)
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// An open finds the file like this.
    pub(super) fn shows_what_is_there(&self, inode: &Inode<B>, attr: &StoredAttr) {
        if inode.told.is_otherwise(attr)
            && let Some(kernel) = self.kernel.get()
        {
            // First: what it is told from now on counts.
            inode.told.forgets();
            kernel.forget_attributes(inode.id);
        }
    }

    /// What was written past the daemon shows when the file is closed. What somebody else wrote meanwhile does not show apart from it.
    pub(super) fn has_written_past_us(&self, open: &OpenFile<B>) {
        if open.writes()
            && open.content.backing().is_some()
            && !open.inode.told.is_nothing()
            && let Some(file) = open.file.get()
            && let Ok(attr) = self.backing.stat_file(file, Freshness::Known)
            && open.inode.told.is_otherwise(&attr)
        {
            open.inode.told.forgets();
        }
    }
}

/// Of what tells two contents apart. An odd number.
#[inline]
fn hash(attr: &StoredAttr) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let Version { size, mtime, ctime } = Version::of(attr);
    let both = |time: Timestamp| [time.seconds.cast_unsigned(), u64::from(time.nanoseconds)];
    let times = both(mtime).into_iter().chain(both(ctime));
    times.fold(size.wrapping_mul(FACTOR), |hash, value| (hash.rotate_left(5) ^ value).wrapping_mul(FACTOR))
        | 1
}
