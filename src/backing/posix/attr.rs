//! Attributes: reading them, changing them, and access checks.

use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, fchmodat};
use nix::sys::statvfs::fstatvfs;
use nix::sys::time::TimeSpec;
use nix::unistd::{AccessFlags, Gid, Uid, fchownat};

use super::super::{Freshness, MountIndex, NewTime, StatFs};
use super::acting::{act_as, mode_of};
use super::mounts::unique_ino;
use super::{Node, offset};
use crate::policy::{Credentials, FileKind, NfsGid, NfsUid, Permissions, StoredAttr, Timestamp};
use crate::sys::capabilities::{Capabilities, lowered};
use crate::sys::proc_fd::ProcFdPath;
use crate::sys::stat::{Statx, Time, statx};
use crate::sys::{Errno, access as sys_access, times};

/// What statx(2) reports of an object on `mount`.
///
/// # Errors
/// EIO where its type is none that a file can have.
pub(super) fn stored(stat: &Statx, mount: MountIndex) -> Result<StoredAttr, Errno> {
    Ok(StoredAttr {
        ino: unique_ino(stat.ino(), mount),
        kind: FileKind::from_mode(stat.mode()).ok_or(Errno::EIO)?,
        permissions: Permissions::from_mode(stat.mode()),
        nlink: stat.nlink(),
        // The kernel itself shows an owner that it cannot name as 65534.
        uid: NfsUid::new(stat.uid()).unwrap_or(NfsUid::NOBODY),
        gid: NfsGid::new(stat.gid()).unwrap_or(NfsGid::NOBODY),
        rdev: stat.rdev(),
        size: stat.size(),
        blocks: stat.blocks(),
        block_size: stat.block_size(),
        atime: timestamp(stat.atime()),
        mtime: timestamp(stat.mtime()),
        ctime: timestamp(stat.ctime()),
        btime: stat.btime().map(timestamp),
    })
}

pub(super) fn stat(fd: BorrowedFd<'_>, mount: MountIndex, freshness: Freshness) -> Result<StoredAttr, Errno> {
    stored(&statx(fd, freshness == Freshness::Known)?, mount)
}

pub(super) fn access(who: &Credentials, node: &Node, mask: AccessFlags) -> Result<(), Errno> {
    act_as(who)?;
    sys_access::access(node.as_fd(), mask)
}

pub(super) fn statfs(node: &Node) -> Result<StatFs, Errno> {
    let fs = fstatvfs(node)?;
    // Sizes beyond 32 bits are none that a filesystem has.
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Ok(StatFs {
        blocks: fs.blocks(),
        blocks_free: fs.blocks_free(),
        blocks_available: fs.blocks_available(),
        files: fs.files(),
        files_free: fs.files_free(),
        block_size: small(fs.block_size()),
        fragment_size: small(fs.fragment_size()),
        name_max: small(fs.name_max()),
    })
}

/// By the /proc path also where the kernel has fchmodat2(2) (6.6): container runtimes of before answer an unknown call
/// with EPERM, which is also what chmod(2) says to who is not the owner.
pub(super) fn chmod(who: &Credentials, node: &Node, permissions: Permissions) -> Result<(), Errno> {
    act_as(who)?;
    let path = ProcFdPath::new(node.as_fd());
    path.with_at(|dir, path| Ok(fchmodat(dir, path, mode_of(permissions), FchmodatFlags::FollowSymlink)?))
}

pub(super) fn chown(
    who: &Credentials,
    node: &Node,
    uid: Option<NfsUid>,
    gid: Option<NfsGid>,
) -> Result<(), Errno> {
    act_as(who)?;
    let to_nobody = uid.is_none() && gid.is_none();
    let uid = uid.map(|uid| Uid::from_raw(uid.get()));
    let gid = gid.map(|gid| Gid::from_raw(gid.get()));
    let chown = || Ok(fchownat(node, c"", uid, gid, AtFlags::AT_EMPTY_PATH)?);
    // Then it is done for the sake of suid and sgid, and root would keep a sgid that runs nothing.
    if to_nobody && who.uid.is_root() { lowered(Capabilities::FSETID, chown)? } else { chown() }
}

pub(super) fn truncate(who: &Credentials, node: &Node, size: u64) -> Result<(), Errno> {
    act_as(who)?;
    Ok(nix::unistd::truncate(ProcFdPath::new(node.as_fd()).as_c_str(), offset(size)?)?)
}

pub(super) fn set_times(who: &Credentials, node: &Node, atime: NewTime, mtime: NewTime) -> Result<(), Errno> {
    act_as(who)?;
    times::set_times(node.as_fd(), time_spec(atime), time_spec(mtime))
}

fn timestamp((seconds, nanoseconds): Time) -> Timestamp {
    Timestamp { seconds, nanoseconds }
}

fn time_spec(time: NewTime) -> TimeSpec {
    match time {
        NewTime::Omit => TimeSpec::UTIME_OMIT,
        NewTime::Now => TimeSpec::UTIME_NOW,
        NewTime::At(time) => TimeSpec::new(time.seconds, time.nanoseconds.into()),
    }
}
