//! What follows a request's head, operation by operation: a struct of the protocol, then names or data.

use std::num::NonZeroU64;

use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};
use nix::sys::stat::makedev;
use nix::unistd::{AccessFlags, Whence};
use zerocopy::FromBytes;

use super::cursor::Cursor;
use super::{CopyRange, Dialect, MALFORMED, Request};
use crate::fs::{
    ByteRange, Errno, FileHandleId, LockKind, LockOwner, LockRequest, NewNode, NewTime, NodeId, Pid,
    RequestId, SetAttr, SuidBits, WriteHow,
};
use crate::fuse::wire;
use crate::policy::{FileKind, Permissions, PodGid, PodUid, Timestamp};

type Decoded<'a> = Result<Request<'a>, Errno>;

/// The inodes of a BATCH_FORGET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forgets<'a> {
    /// Whole [`wire::ForgetOne`]s.
    records: &'a [u8],
}

impl Forgets<'_> {
    /// Each inode, and how many of its lookups are taken back.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.records.chunks_exact(size_of::<wire::ForgetOne>()).filter_map(|record| {
            let one = wire::ForgetOne::read_from_bytes(record).ok()?;
            Some((NodeId(NonZeroU64::new(one.nodeid)?), one.nlookup))
        })
    }
}

pub(super) fn forget<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let forget: wire::ForgetIn = body.take()?;
    Ok(Request::Forget { node, lookups: forget.nlookup })
}

pub(super) fn batch_forget<'a>(body: &mut Cursor<'a>) -> Decoded<'a> {
    let batch: wire::BatchForgetIn = body.take()?;
    let record = u32::try_from(size_of::<wire::ForgetOne>()).expect("sixteen");
    let length = batch.count.checked_mul(record).ok_or(MALFORMED)?;
    Ok(Request::BatchForget(Forgets { records: body.bytes(length)? }))
}

pub(super) fn getattr<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let getattr: wire::GetattrIn = body.take()?;
    Ok(Request::Getattr { node, handle: handle_if(getattr.getattr_flags, getattr.fh) })
}

pub(super) fn statx<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let statx: wire::StatxIn = body.take()?;
    Ok(Request::Statx { node, handle: handle_if(statx.getattr_flags, statx.fh) })
}

fn handle_if(getattr_flags: u32, fh: u64) -> Option<FileHandleId> {
    (getattr_flags & wire::FUSE_GETATTR_FH != 0).then_some(FileHandleId(fh))
}

pub(super) fn setattr<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let set: wire::SetattrIn = body.take()?;
    let asks = |bit: u32| set.valid & bit != 0;
    // A chown to 4294967295 asks for nothing (chown(2)), and the kernel does not send one.
    let uid = asks(wire::FATTR_UID).then(|| PodUid::new(set.uid).ok_or(Errno::EINVAL)).transpose()?;
    let gid = asks(wire::FATTR_GID).then(|| PodGid::new(set.gid).ok_or(Errno::EINVAL)).transpose()?;
    let time = |set: u32, now: u32, seconds: u64, nanoseconds: u32| match (asks(set), asks(now)) {
        (_, true) => Ok(NewTime::Now),
        (true, false) if nanoseconds < 1_000_000_000 => {
            Ok(NewTime::At(Timestamp { seconds: seconds.cast_signed(), nanoseconds }))
        }
        (true, false) => Err(Errno::EINVAL),
        (false, false) => Ok(NewTime::Omit),
    };
    // FATTR_LOCKOWNER is for mandatory locks, which are no more.
    let change = SetAttr {
        permissions: asks(wire::FATTR_MODE).then(|| Permissions::from_mode(set.mode)),
        uid,
        gid,
        size: asks(wire::FATTR_SIZE).then_some(set.size),
        atime: time(wire::FATTR_ATIME, wire::FATTR_ATIME_NOW, set.atime, set.atimensec)?,
        mtime: time(wire::FATTR_MTIME, wire::FATTR_MTIME_NOW, set.mtime, set.mtimensec)?,
        handle: asks(wire::FATTR_FH).then_some(FileHandleId(set.fh)),
    };
    // A chown clears them by itself, whoever asks.
    let clears_set_ids = asks(wire::FATTR_KILL_SUIDGID) && change.size.is_some();
    Ok(Request::Setattr { node, change, clears_set_ids })
}

pub(super) fn access<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let access: wire::AccessIn = body.take()?;
    // The kernel adds hints of its own above R_OK, W_OK and X_OK.
    Ok(Request::Access { node, mask: AccessFlags::from_bits_truncate(access.mask.cast_signed()) })
}

pub(super) fn mknod<'a>(parent: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let make: wire::MknodIn = body.take()?;
    let new = NewNode {
        kind: FileKind::from_mode(make.mode).ok_or(Errno::EINVAL)?,
        permissions: Permissions::from_mode(make.mode),
        umask: Permissions::from_mode(make.umask),
        rdev: device_number(make.rdev),
    };
    Ok(Request::Mknod { parent, name: body.name()?, new })
}

/// The kernel's 32 bits (new_decode_dev) as makedev(3) has them.
fn device_number(device: u32) -> u64 {
    let major = (device & 0x000f_ff00) >> 8;
    let minor = (device & 0xff) | ((device >> 12) & 0x000f_ff00);
    makedev(u64::from(major), u64::from(minor))
}

pub(super) fn mkdir<'a>(parent: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let make: wire::MkdirIn = body.take()?;
    Ok(Request::Mkdir {
        parent,
        name: body.name()?,
        permissions: Permissions::from_mode(make.mode),
        umask: Permissions::from_mode(make.umask),
    })
}

pub(super) fn link<'a>(new_parent: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let link: wire::LinkIn = body.take()?;
    Ok(Request::Link { node: node(link.oldnodeid)?, new_parent, new_name: body.name()? })
}

pub(super) fn rename<'a>(parent: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let rename: wire::RenameIn = body.take()?;
    renamed(parent, rename.newdir, RenameFlags::empty(), body)
}

pub(super) fn rename2<'a>(parent: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let rename: wire::Rename2In = body.take()?;
    let flags = RenameFlags::from_bits(rename.flags).ok_or(Errno::EINVAL)?;
    renamed(parent, rename.newdir, flags, body)
}

fn renamed<'a>(parent: NodeId, newdir: u64, flags: RenameFlags, body: &mut Cursor<'a>) -> Decoded<'a> {
    let new_parent = node(newdir)?;
    Ok(Request::Rename { parent, name: body.name()?, new_parent, new_name: body.name()?, flags })
}

pub(super) fn open<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let open: wire::OpenIn = body.take()?;
    let clears_set_ids = open.open_flags & wire::FUSE_OPEN_KILL_SUIDGID != 0;
    Ok(Request::Open { node, flags: open_flags(open.flags), clears_set_ids })
}

pub(super) fn create<'a>(parent: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let create: wire::CreateIn = body.take()?;
    Ok(Request::Create {
        parent,
        name: body.name()?,
        flags: open_flags(create.flags),
        permissions: Permissions::from_mode(create.mode),
        umask: Permissions::from_mode(create.umask),
    })
}

pub(super) fn tmpfile<'a>(parent: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    // The name that follows is the kernel's placeholder.
    let create: wire::CreateIn = body.take()?;
    Ok(Request::Tmpfile {
        parent,
        flags: open_flags(create.flags),
        permissions: Permissions::from_mode(create.mode),
        umask: Permissions::from_mode(create.umask),
    })
}

/// The flags of open(2) that have a name here; the kernel's private ones (FMODE_EXEC) fall away.
fn open_flags(flags: u32) -> OFlag {
    OFlag::from_bits_truncate(flags.cast_signed())
}

pub(super) fn read<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let read: wire::ReadIn = body.take()?;
    Ok(Request::Read { node, handle: FileHandleId(read.fh), offset: read.offset, size: size(read.size)? })
}

pub(super) fn write<'a>(body: &mut Cursor<'a>) -> Decoded<'a> {
    let write: wire::WriteIn = body.take()?;
    Ok(Request::Write {
        handle: FileHandleId(write.fh),
        offset: write.offset,
        data: body.bytes(write.size)?,
        how: how_to_write(&write),
    })
}

/// A page that the kernel writes back belongs where it lies, also in a file that is open for appending; and the flags
/// beside it are those of any of the file's openers.
fn how_to_write(write: &wire::WriteIn) -> WriteHow {
    let written_back = write.write_flags & wire::FUSE_WRITE_CACHE != 0;
    let flags = if written_back { OFlag::empty() } else { open_flags(write.flags) };
    WriteHow {
        append: flags.contains(OFlag::O_APPEND),
        data_sync: flags.contains(OFlag::O_DSYNC),
        sync: flags.contains(OFlag::O_SYNC),
        written_back,
        suid: if write.write_flags & wire::FUSE_WRITE_KILL_SUIDGID != 0 {
            SuidBits::Clear
        } else {
            SuidBits::Keep
        },
    }
}

pub(super) fn flush<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let flush: wire::FlushIn = body.take()?;
    Ok(Request::Flush { node, handle: FileHandleId(flush.fh), owner: LockOwner(flush.lock_owner) })
}

pub(super) fn fsync<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let (handle, data_only) = synced(body)?;
    Ok(Request::Fsync { node, handle, data_only })
}

pub(super) fn fsyncdir<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let (_, data_only) = synced(body)?;
    Ok(Request::Fsyncdir { node, data_only })
}

fn synced(body: &mut Cursor<'_>) -> Result<(FileHandleId, bool), Errno> {
    let fsync: wire::FsyncIn = body.take()?;
    Ok((FileHandleId(fsync.fh), fsync.fsync_flags & wire::FUSE_FSYNC_FDATASYNC != 0))
}

pub(super) fn release<'a>(body: &mut Cursor<'a>) -> Decoded<'a> {
    let release: wire::ReleaseIn = body.take()?;
    Ok(Request::Release { handle: FileHandleId(release.fh) })
}

pub(super) fn releasedir<'a>(body: &mut Cursor<'a>) -> Decoded<'a> {
    let _: wire::ReleaseIn = body.take()?;
    Ok(Request::Releasedir)
}

pub(super) fn fallocate<'a>(body: &mut Cursor<'a>) -> Decoded<'a> {
    let fallocate: wire::FallocateIn = body.take()?;
    Ok(Request::Fallocate {
        handle: FileHandleId(fallocate.fh),
        flags: FallocateFlags::from_bits(fallocate.mode.cast_signed()).ok_or(Errno::EOPNOTSUPP)?,
        offset: fallocate.offset,
        length: fallocate.length,
    })
}

pub(super) fn lseek<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let seek: wire::LseekIn = body.take()?;
    let whence = match seek.whence.cast_signed() {
        libc::SEEK_DATA => Whence::SeekData,
        libc::SEEK_HOLE => Whence::SeekHole,
        // The kernel answers the others by itself.
        _ => return Err(Errno::EINVAL),
    };
    Ok(Request::Lseek { node, handle: FileHandleId(seek.fh), offset: seek.offset, whence })
}

pub(super) fn copy_file_range<'a>(body: &mut Cursor<'a>, wide: bool) -> Decoded<'a> {
    let copy: wire::CopyFileRangeIn = body.take()?;
    if copy.flags != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Request::CopyFileRange(CopyRange {
        from: FileHandleId(copy.fh_in),
        from_offset: copy.off_in,
        to: FileHandleId(copy.fh_out),
        to_offset: copy.off_out,
        length: usize::try_from(copy.len).unwrap_or(usize::MAX),
        wide,
    }))
}

pub(super) fn opendir<'a>(body: &mut Cursor<'a>) -> Decoded<'a> {
    let _: wire::OpenIn = body.take()?;
    Ok(Request::Opendir)
}

pub(super) fn readdir<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let read: wire::ReadIn = body.take()?;
    Ok(Request::Readdir { node, from: read.offset, size: size(read.size)? })
}

pub(super) fn readdirplus<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let read: wire::ReadIn = body.take()?;
    Ok(Request::Readdirplus { node, from: read.offset, size: size(read.size)? })
}

pub(super) fn getxattr<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let get: wire::GetxattrIn = body.take()?;
    Ok(Request::Getxattr { node, name: body.c_str()?, size: size(get.size)? })
}

pub(super) fn listxattr<'a>(node: NodeId, body: &mut Cursor<'a>) -> Decoded<'a> {
    let list: wire::GetxattrIn = body.take()?;
    Ok(Request::Listxattr { node, size: size(list.size)? })
}

pub(super) fn setxattr<'a>(node: NodeId, body: &mut Cursor<'a>, dialect: Dialect) -> Decoded<'a> {
    let (length, flags, more) = if dialect.setxattr_ext {
        let set: wire::SetxattrIn = body.take()?;
        (set.size, set.flags, set.setxattr_flags)
    } else {
        let [size, flags]: [u32; wire::COMPAT_SETXATTR_IN / 4] = body.take()?;
        (size, flags, 0)
    };
    Ok(Request::Setxattr {
        node,
        name: body.c_str()?,
        value: body.bytes(length)?,
        flags: flags.cast_signed(),
        clears_setgid: more & wire::FUSE_SETXATTR_ACL_KILL_SGID != 0,
    })
}

pub(super) fn getlk<'a>(body: &mut Cursor<'a>) -> Decoded<'a> {
    let (handle, lock) = lock(body)?;
    Ok(Request::Getlk { handle, lock })
}

pub(super) fn setlk<'a>(body: &mut Cursor<'a>, waits: bool) -> Decoded<'a> {
    let (handle, lock) = lock(body)?;
    Ok(Request::Setlk { handle, lock, waits })
}

fn lock(body: &mut Cursor<'_>) -> Result<(FileHandleId, LockRequest), Errno> {
    let asked: wire::LkIn = body.take()?;
    let wire::FileLock { start, end, r#type, pid } = asked.lk;
    let kind = match r#type.cast_signed() {
        libc::F_RDLCK => LockKind::Shared,
        libc::F_WRLCK => LockKind::Exclusive,
        libc::F_UNLCK => LockKind::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    // OFFSET_MAX: the last byte a file can have.
    if start > end || end > i64::MAX.cast_unsigned() {
        return Err(Errno::EINVAL);
    }
    let lock = LockRequest {
        owner: LockOwner(asked.owner),
        flock: asked.lk_flags & wire::FUSE_LK_FLOCK != 0,
        kind,
        range: ByteRange { start, end },
        pid: Pid(pid),
    };
    Ok((FileHandleId(asked.fh), lock))
}

pub(super) fn interrupt<'a>(body: &mut Cursor<'a>) -> Decoded<'a> {
    let interrupt: wire::InterruptIn = body.take()?;
    Ok(Request::Interrupt { request: RequestId(interrupt.unique) })
}

fn node(id: u64) -> Result<NodeId, Errno> {
    NonZeroU64::new(id).map(NodeId).ok_or(MALFORMED)
}

fn size(size: u32) -> Result<usize, Errno> {
    usize::try_from(size).map_err(|_| MALFORMED)
}
