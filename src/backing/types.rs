//! What the calls of [`BackingFs`](super::BackingFs) are given and give back: plain data, and nothing that acts.

use std::ffi::CStr;

use crate::policy::{FileKind, StoredAttr, Timestamp};
use crate::sys::FileHandle;

/// Which of the export's mounts an object lies on, numbered in the order of discovery; 0 is SOURCE itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountIndex(pub u32);

/// An object's identity: plain data, equal exactly when it is the same object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// The mount it lies on.
    pub mount: MountIndex,
    /// Its number there.
    pub ino: u64,
    /// Its handle. None on a filesystem without handles: then whoever keeps the id must also keep the
    /// [`BackingFs::Node`](super::BackingFs::Node) it came with, which pins the object.
    pub handle: Option<FileHandle>,
}

/// What a lookup finds.
#[derive(Debug)]
pub struct Found<N> {
    /// A reference to work with now. Drop it soon: on NFS it makes an unlink silly-rename.
    pub node: N,
    /// What to remember.
    pub id: ObjectId,
    /// Its attributes, `ino` already unique across the export's mounts.
    pub attr: StoredAttr,
}

/// What is known of an object without taking a reference to it.
#[derive(Debug)]
pub struct Identified<N> {
    /// What pins it: on a filesystem without handles only.
    pub pin: Option<N>,
    /// What to remember.
    pub id: ObjectId,
    /// Its attributes, as in [`Found`].
    pub attr: StoredAttr,
}

impl<N> From<Found<N>> for Identified<N> {
    fn from(Found { node, id, attr }: Found<N>) -> Self {
        Self { pin: id.handle.is_none().then_some(node), id, attr }
    }
}

/// How fresh attributes must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As stat(2) would have it: an NFS client asks the server where its own cache has run out.
    AsStat,
    /// What this node has just learnt by an operation of its own; no request to the server (AT_STATX_DONT_SYNC).
    Known,
}

/// A new time for [`BackingFs::set_times`](super::BackingFs::set_times).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTime {
    /// Leave it (UTIME_OMIT).
    Omit,
    /// The server's now (UTIME_NOW): allowed to whoever may write.
    Now,
    /// This time: allowed to the owner.
    At(Timestamp),
}

/// One entry of a directory as getdents64(2) gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// Its name; may be `.` or `..`.
    pub name: &'a CStr,
    /// Its number, unique across the export's mounts as in [`StoredAttr::ino`].
    pub ino: u64,
    /// Its kind, where the filesystem tells.
    pub kind: Option<FileKind>,
    /// Where reading goes on after it: opaque, may exceed `i64::MAX`.
    pub next: u64,
}

/// A byte-range lock as fcntl(2) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Last byte, included; `i64::MAX` for "to the end, wherever that is".
    pub end: u64,
}

impl ByteRange {
    /// All of a file, however long it becomes.
    pub const WHOLE: Self = Self { start: 0, end: i64::MAX.unsigned_abs() };
}

/// How a write is done: what the writer's descriptor said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteHow {
    /// At the end, wherever that is by now (O_APPEND); not for a page that is written back, which has its place.
    pub append: bool,
    /// The content is on the server when the write returns (O_DSYNC).
    pub data_sync: bool,
    /// And so are the attributes (O_SYNC).
    pub sync: bool,
    /// A page of the kernel's that is written back.
    pub written_back: bool,
    /// What becomes of suid and sgid.
    pub suid: SuidBits,
}

/// What a write does to suid and sgid. The local kernel decides it by the writer's CAP_FSETID, which is not the
/// opener's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SuidBits {
    /// As when the opener writes.
    #[default]
    AsOpener,
    /// They go: the writer has no CAP_FSETID.
    Clear,
    /// They stay: the writer has it.
    Keep,
}

/// What kind of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// F_RDLCK, LOCK_SH.
    Shared,
    /// F_WRLCK, LOCK_EX.
    Exclusive,
    /// F_UNLCK, LOCK_UN.
    Unlock,
}

/// Space and inodes of the export (statfs(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    /// Blocks in all, free, and free to unprivileged users, in units of `fragment_size`.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for unprivileged users.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Bytes, preferred I/O size.
    pub block_size: u32,
    /// Bytes.
    pub fragment_size: u32,
    /// Longest name in bytes.
    pub name_max: u32,
}

/// What the export can do, probed once at mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackingFeatures {
    /// It is NFS: an open reference makes unlink silly-rename, the server has the last word.
    pub nfs: bool,
    /// SOURCE's own mount belongs to this kernel alone: rights are looked at when a file is opened, and not when it is
    /// read or written, and what is written is there for everybody at once. Others may be mounted below it.
    pub local: bool,
    /// After a change in a directory this node asks the server for the directory's attributes: NFSv4, where the answer to the
    /// change has not brought them.
    pub asks_after_changes: bool,
    /// POSIX ACLs (system.posix_acl_*).
    pub posix_acl: bool,
    /// Objects have handles.
    pub handles: bool,
}
