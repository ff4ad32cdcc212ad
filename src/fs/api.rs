//! What the FUSE adapter may ask of a [`Filesystem`], and in which words.

use std::ffi::CStr;
use std::fmt;
use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;
use std::time::Duration;

pub use crate::backing::{BackingFs, ByteRange, LockKind, MountIndex, NewTime, StatFs, SuidBits, WriteHow};
pub use crate::caller::{CallerId, Pid};
use crate::policy::{FileKind, Permissions, PodGid, PodUid, ShownAttr};
pub use crate::sys::{Errno, Name};

/// The kernel's name for an inode of this mount. 1 is the root; a number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub NonZeroU64);

impl NodeId {
    /// The mount's root (FUSE_ROOT_ID).
    pub const ROOT: Self = Self(NonZeroU64::MIN);
}

/// The kernel's name for an open file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileHandleId(pub u64);

impl FileHandleId {
    /// What the kernel says for a file that it opened without asking.
    pub const NONE: Self = Self(0);
}

/// The kernel's name for the owner of a lock: a process's table of files, or an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockOwner(pub u64);

/// The kernel's number of a request, for interrupting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// A name found or made: what the kernel may keep, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its inode; one lookup more to forget.
    pub node: NodeId,
    /// What it looks like.
    pub attr: ShownAttr,
    /// How long the name may be believed.
    pub entry_valid: Duration,
    /// How long the attributes may.
    pub attr_valid: Duration,
}

/// Attributes, and how long they may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// What the object looks like.
    pub attr: ShownAttr,
    /// How long that may be believed.
    pub valid: Duration,
}

/// How the kernel is to treat the content of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Through the page cache, forgetting what it held before (close-to-open).
    Revalidated,
    /// Through the page cache, keeping what it holds (FOPEN_KEEP_CACHE).
    Kept,
    /// Past the page cache (FOPEN_DIRECT_IO).
    Direct,
    /// Past this daemon: the kernel reads and writes the registered file by itself (FOPEN_PASSTHROUGH).
    Passthrough(BackingId),
    /// Past the page cache, while the kernel reads and writes that file by itself for others: it lets an inode be open in no other
    /// way then (FOPEN_PASSTHROUGH | FOPEN_DIRECT_IO).
    Beside(BackingId),
}

impl Content {
    /// The registered file that the kernel holds for it.
    pub(crate) fn backing(self) -> Option<BackingId> {
        match self {
            Self::Passthrough(id) | Self::Beside(id) => Some(id),
            Self::Revalidated | Self::Kept | Self::Direct => None,
        }
    }
}

/// The kernel's name for a file that it was given to read and write by itself (FUSE_DEV_IOC_BACKING_OPEN).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BackingId(pub i32);

/// An open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its name from now on.
    pub handle: FileHandleId,
    /// How its content is cached.
    pub content: Content,
    /// Closes need not be told of, but for the last one (FOPEN_NOFLUSH).
    pub silent: bool,
}

/// What a setattr asks for; what is absent stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetAttr {
    /// chmod.
    pub permissions: Option<Permissions>,
    /// chown: the owner.
    pub uid: Option<PodUid>,
    /// chown: the group.
    pub gid: Option<PodGid>,
    /// truncate.
    pub size: Option<u64>,
    /// utimens: last access.
    pub atime: NewTime,
    /// utimens: last change.
    pub mtime: NewTime,
    /// The open file it was asked through, if any (ftruncate).
    pub handle: Option<FileHandleId>,
}

impl SetAttr {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let times = [self.atime, self.mtime] != [NewTime::Omit; 2];
        !times
            && self.permissions.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.size.is_none()
    }
}

/// What to make by mknod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewNode {
    /// Its kind.
    pub kind: FileKind,
    /// The mode asked for.
    pub permissions: Permissions,
    /// The caller's umask.
    pub umask: Permissions,
    /// The device number of a device.
    pub rdev: u64,
}

/// One entry for readdir.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// Its name; may be `.` or `..`.
    pub name: &'a CStr,
    /// Its number.
    pub ino: u64,
    /// Its kind, where known.
    pub kind: Option<FileKind>,
    /// Where reading goes on after it.
    pub next: u64,
    /// For readdirplus: what a lookup would have answered. None for `.`, `..`, and where the lookup failed.
    pub entry: Option<Entry>,
}

/// Takes directory entries until it is full.
pub trait DirSink {
    /// Whether an entry with a name of this many bytes still fits. Asked before a lookup is spent on it.
    fn has_room(&self, name_len: usize) -> bool;
    /// Takes one; only called after [`Self::has_room`] said yes.
    fn push(&mut self, entry: &DirEntry<'_>);
}

/// A byte-range lock, or (`flock`) one on the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRequest {
    /// Whose it is.
    pub owner: LockOwner,
    /// flock(2) instead of fcntl(2).
    pub flock: bool,
    /// Shared, exclusive, or off.
    pub kind: LockKind,
    /// Which bytes; all of them for flock.
    pub range: ByteRange,
    /// The process that asks, for F_GETLK's answer.
    pub pid: Pid,
}

/// The lock that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLock {
    /// Shared or exclusive.
    pub kind: LockKind,
    /// Which bytes.
    pub range: ByteRange,
    /// Its holder on this node; 0 where it is held elsewhere.
    pub pid: Pid,
}

/// Answers a lock request that had to wait; called once, from any thread.
pub type LockReply = Box<dyn FnOnce(Result<(), Errno>) + Send>;

/// What can be asked of the kernel, which otherwise does the asking.
pub trait Kernel: Send + Sync + fmt::Debug {
    /// Forgets a file's cached content and attributes, or a directory's cached listing (FUSE_NOTIFY_INVAL_INODE).
    fn forget_content(&self, node: NodeId);
    /// Forgets an inode's cached attributes and ACLs, and nothing of its content: never waits for a request.
    fn forget_attributes(&self, node: NodeId);
    /// Forgets every name it knows, so that each is looked up anew; false where it cannot (before Linux 6.16), and believes
    /// them for as long as it was told.
    fn forget_names(&self) -> bool;
    /// Whether the mount is served no more: then nobody is left to forget anything.
    fn has_ended(&self) -> bool;
    /// Whether it reads and writes files by itself where it is given them.
    fn passes_through(&self) -> bool;
    /// Gives it a file, to be used with the calling thread's credentials.
    ///
    /// # Errors
    /// EOPNOTSUPP and ELOOP where it cannot use files of this file system, EPERM without CAP_SYS_ADMIN.
    fn pass_through(&self, file: BorrowedFd<'_>) -> Result<BackingId, Errno>;
    /// Takes a file back that nobody has open any more.
    fn take_back(&self, id: BackingId);
}

/// How much a mount holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Population {
    /// Inodes that the kernel knows.
    pub inodes: usize,
    /// Open files and directories.
    pub open: usize,
}
