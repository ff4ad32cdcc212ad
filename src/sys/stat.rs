//! statx(2): attributes, and which mount an object lies on.

use std::ffi::CStr;
use std::fs::Metadata;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use super::{Errno, check};

/// What statx(2) reports, as the kernel gave it.
pub struct Statx(libc::statx);

/// A point in time of statx(2): seconds (negative before 1970) and nanoseconds.
pub type Time = (i64, u32);

/// Which mount, and which filesystem on it: btrfs has several numberings of inodes on one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MountKey {
    /// Never used again where the kernel has STATX_MNT_ID_UNIQUE (6.8); else only as long as the mount lasts.
    id: u64,
    dev: (u32, u32),
}

/// Attributes of what `fd`, which may be an O_PATH descriptor, refers to; `known`: as this node knows them, without
/// asking a server (AT_STATX_DONT_SYNC).
///
/// # Errors
/// Those of statx(2): ESTALE and EIO where an NFS server does not answer for it.
pub fn statx(fd: BorrowedFd<'_>, known: bool) -> Result<Statx, Errno> {
    call(fd, c"", libc::AT_EMPTY_PATH | sync(known))
}

const fn sync(known: bool) -> libc::c_int {
    if known { libc::AT_STATX_DONT_SYNC } else { libc::AT_STATX_SYNC_AS_STAT }
}

/// Whether a server still knows what `fd` refers to: asks it, whatever this node knows (AT_STATX_FORCE_SYNC).
///
/// # Errors
/// Those of statx(2): ESTALE where it does not.
pub fn is_known_to_server(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    call(fd, c"", libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC).map(drop)
}

/// Attributes of `name` in the directory `dir`, of a symlink itself; nothing is mounted for it. `known` as for [`statx`].
///
/// # Errors
/// Those of statx(2).
pub fn statx_at(dir: BorrowedFd<'_>, name: &CStr, known: bool) -> Result<Statx, Errno> {
    call(dir, name, libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | sync(known))
}

/// [`std::fs::metadata`] of what may lie on NFS.
///
/// # Errors
/// Those of stat(2).
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    twice(|| std::fs::metadata(path), |error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// Looks once more where that is refused. Linux 7.2's NFSv4 client asks for a delegation along with a directory's attributes, and where the
/// caller may not read it, who is squashed for one, fails the first stat(2) of it with EACCES, and no other (on the bare mount, too).
fn twice<T, E>(look: impl Fn() -> Result<T, E>, is_refusal: impl Fn(&E) -> bool) -> Result<T, E> {
    look().or_else(|error| if is_refusal(&error) { look() } else { Err(error) })
}

fn call(dir: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> Result<Statx, Errno> {
    twice(|| ask(dir, path, flags), |errno| *errno == Errno::EACCES)
}

fn ask(dir: BorrowedFd<'_>, path: &CStr, flags: libc::c_int) -> Result<Statx, Errno> {
    // A kernel without the unique id (before 6.8) gives the other one instead.
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME | libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE;
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends in NUL, and the buffer has the size that statx(2) writes. All zeros is a
    // valid statx, whatever the kernel leaves unwritten.
    unsafe {
        check(libc::statx(dir.as_raw_fd(), path.as_ptr(), flags, mask, buffer.as_mut_ptr()).into())?;
        Ok(Statx(buffer.assume_init()))
    }
}

impl MountKey {
    /// The device that the filesystem goes by, major and minor number.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        self.dev
    }

    /// As two words, good for [`Self::from_words`] on this machine until it is started again.
    #[must_use]
    pub fn to_words(self) -> [u64; 2] {
        [self.id, u64::from(self.dev.0) << 32 | u64::from(self.dev.1)]
    }

    /// What [`Self::to_words`] gave.
    #[must_use]
    pub fn from_words([id, dev]: [u64; 2]) -> Self {
        let half = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or_default();
        Self { id, dev: (half(dev >> 32), half(dev)) }
    }
}

impl Statx {
    /// The inode number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.0.stx_ino
    }
    /// Type and permission bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.0.stx_mode.into()
    }
    /// Hard links.
    #[must_use]
    pub fn nlink(&self) -> u32 {
        self.0.stx_nlink
    }
    /// Owner.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.stx_uid
    }
    /// Group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.0.stx_gid
    }
    /// Device number of a device node, packed as makedev(3) does.
    #[must_use]
    pub fn rdev(&self) -> u64 {
        libc::makedev(self.0.stx_rdev_major, self.0.stx_rdev_minor)
    }
    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.stx_size
    }
    /// 512-byte blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.0.stx_blocks
    }
    /// Preferred I/O size in bytes.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.0.stx_blksize
    }
    /// Last access.
    #[must_use]
    pub fn atime(&self) -> Time {
        time(&self.0.stx_atime)
    }
    /// Last change of content.
    #[must_use]
    pub fn mtime(&self) -> Time {
        time(&self.0.stx_mtime)
    }
    /// Last change of attributes.
    #[must_use]
    pub fn ctime(&self) -> Time {
        time(&self.0.stx_ctime)
    }
    /// Birth, where the filesystem keeps it.
    #[must_use]
    pub fn btime(&self) -> Option<Time> {
        (self.0.stx_mask & libc::STATX_BTIME != 0).then(|| time(&self.0.stx_btime))
    }
    /// Which mount it lies on.
    #[must_use]
    pub fn mount(&self) -> MountKey {
        MountKey { id: self.0.stx_mnt_id, dev: (self.0.stx_dev_major, self.0.stx_dev_minor) }
    }
    /// Whether something is mounted here as soon as one enters (STATX_ATTR_AUTOMOUNT): an NFS export inside another.
    #[must_use]
    pub fn is_automount(&self) -> bool {
        const AUTOMOUNT: u64 = 0x1000;
        self.0.stx_attributes & AUTOMOUNT != 0
    }
}

fn time(t: &libc::statx_timestamp) -> Time {
    (t.tv_sec, t.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(answers: &[Result<u8, Errno>]) -> Result<u8, Errno> {
        let left = std::cell::Cell::new(answers);
        let next = || {
            let (first, rest) = left.get().split_first().unwrap();
            left.set(rest);
            *first
        };
        twice(next, |errno| *errno == Errno::EACCES)
    }

    #[test]
    fn what_is_refused_is_looked_at_once_more_and_nothing_else() {
        assert_eq!(looks(&[Ok(1)]), Ok(1));
        assert_eq!(looks(&[Err(Errno::EACCES), Ok(2)]), Ok(2));
        assert_eq!(looks(&[Err(Errno::EACCES), Err(Errno::EACCES)]), Err(Errno::EACCES));
        assert_eq!(looks(&[Err(Errno::ESTALE), Ok(2)]), Err(Errno::ESTALE));
    }
}
