//! The export as a set of system calls: one method each, done as the [`Credentials`] it is given.
//!
//! `&Credentials` in a signature means that the call resolves, makes, removes, changes or opens something and runs as
//! them, or changes content: the local kernel looks at who writes to decide about suid and sgid. Calls without
//! credentials work on what is already open: NFS uses the opener's. Nothing here decides anything.
//!
//! [`posix`] is the real one, [`model`] one in memory for tests and benchmarks.

pub mod model;
pub mod posix;
mod types;

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};

use crate::policy::{Credentials, FileKind, NewMode, NfsGid, NfsUid, Permissions, StoredAttr, Timestamp};
pub use crate::sys::{Errno, FileHandle, Name};
pub use types::{
    BackingFeatures, ByteRange, Found, Freshness, Identified, LockKind, MountIndex, NewTime, ObjectId,
    RawEntry, StatFs, SuidBits, WriteHow,
};

/// A backing filesystem.
pub trait BackingFs: Send + Sync + 'static {
    /// A resolved object, for the duration of one request (an O_PATH descriptor).
    type Node: Send + Sync + std::fmt::Debug;
    /// An open file.
    type File: Send + Sync + std::fmt::Debug;
    /// An open directory.
    type Dir: Send + Sync + std::fmt::Debug;

    /// Prepares the calling thread, once, before it makes any other call (its own umask, no inherited credentials).
    fn enter_thread(&self) -> Result<(), Errno>;
    /// What the export can do.
    fn features(&self) -> BackingFeatures;
    /// SOURCE itself.
    fn root(&self) -> Result<Found<Self::Node>, Errno>;

    /// The descriptor behind a reference, for a successor to take over. None where there is no such thing.
    fn node_descriptor(&self, _node: &Self::Node) -> Option<RawFd> {
        None
    }
    /// The descriptor behind an open file, likewise.
    fn file_descriptor(&self, _file: &Self::File) -> Option<RawFd> {
        None
    }
    /// A reference that another process has left. EOPNOTSUPP where there is no such thing.
    fn adopt_node(&self, _fd: OwnedFd, _mount: MountIndex) -> Result<Self::Node, Errno> {
        Err(Errno::EOPNOTSUPP)
    }
    /// An open file that another process has left, opened with these flags. EOPNOTSUPP likewise.
    fn adopt_file(&self, _fd: OwnedFd, _mount: MountIndex, _flags: OFlag) -> Result<Self::File, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Finds an object again by its handle. ESTALE where it is gone, or `id` has no handle.
    fn resolve(&self, who: &Credentials, id: &ObjectId) -> Result<Self::Node, Errno>;
    /// Where an object lies below SOURCE, as this node knows it: names with slashes between them. None where that is not known:
    /// it was found by its handle, or has no name any more.
    fn path(&self, _node: &Self::Node) -> Option<Vec<u8>> {
        None
    }
    /// Finds a name in a directory, without following a symlink.
    fn lookup(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<Found<Self::Node>, Errno>;
    /// As [`Self::lookup`], in fewer system calls where the filesystem has handles.
    fn find(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<Identified<Self::Node>, Errno> {
        self.lookup(who, parent, name).map(Identified::from)
    }
    /// As [`Self::find`], for whom it is enough what this node knows of the object's attributes ([`Freshness::Known`]).
    fn find_known(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<Identified<Self::Node>, Errno> {
        self.find(who, parent, name)
    }
    /// Attributes.
    fn stat(&self, node: &Self::Node, freshness: Freshness) -> Result<StoredAttr, Errno>;
    /// Attributes of an open file, also when it has no name any more.
    fn stat_file(&self, file: &Self::File, freshness: Freshness) -> Result<StoredAttr, Errno>;
    /// Identity and attributes of a file just created.
    fn identify(&self, file: &Self::File) -> Result<Identified<Self::Node>, Errno>;
    /// A reference to an open file.
    fn reference(&self, file: &Self::File) -> Result<Self::Node, Errno>;
    /// A symlink's target.
    fn readlink(&self, who: &Credentials, node: &Self::Node) -> Result<Vec<u8>, Errno>;
    /// access(2) with these credentials; `mask` of R_OK 4, W_OK 2, X_OK 1, as access(2) has it.
    fn access(
        &self,
        who: &Credentials,
        node: &Self::Node,
        mask: nix::unistd::AccessFlags,
    ) -> Result<(), Errno>;
    /// statfs(2).
    fn statfs(&self, node: &Self::Node) -> Result<StatFs, Errno>;

    /// mkdir(2). A setgid bit asked for by `mode.setgid` is the caller's to add by [`Self::chmod`].
    fn mkdir(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        mode: NewMode,
    ) -> Result<(), Errno>;
    /// mknod(2).
    fn mknod(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        kind: FileKind,
        mode: NewMode,
        rdev: u64,
    ) -> Result<(), Errno>;
    /// symlink(2).
    fn symlink(
        &self,
        who: &Credentials,
        target: &CStr,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<(), Errno>;
    /// link(2): a new name for `node`.
    fn link(
        &self,
        who: &Credentials,
        node: &Self::Node,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<(), Errno>;
    /// unlink(2).
    fn unlink(&self, who: &Credentials, parent: &Self::Node, name: Name<'_>) -> Result<(), Errno>;
    /// rmdir(2).
    fn rmdir(&self, who: &Credentials, parent: &Self::Node, name: Name<'_>) -> Result<(), Errno>;
    /// renameat2(2).
    fn rename(
        &self,
        who: &Credentials,
        from: &Self::Node,
        name: Name<'_>,
        to: &Self::Node,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno>;

    /// chmod(2).
    fn chmod(&self, who: &Credentials, node: &Self::Node, permissions: Permissions) -> Result<(), Errno>;
    /// fchmod(2).
    fn chmod_file(&self, who: &Credentials, file: &Self::File, permissions: Permissions)
    -> Result<(), Errno>;
    /// chown(2), of a symlink itself.
    fn chown(
        &self,
        who: &Credentials,
        node: &Self::Node,
        uid: Option<NfsUid>,
        gid: Option<NfsGid>,
    ) -> Result<(), Errno>;
    /// truncate(2).
    fn truncate(&self, who: &Credentials, node: &Self::Node, size: u64) -> Result<(), Errno>;
    /// ftruncate(2): the opener's right to write is enough.
    fn truncate_file(&self, who: &Credentials, file: &Self::File, size: u64) -> Result<(), Errno>;
    /// utimensat(2), of a symlink itself.
    fn set_times(
        &self,
        who: &Credentials,
        node: &Self::Node,
        atime: NewTime,
        mtime: NewTime,
    ) -> Result<(), Errno>;

    /// open(2) of a regular file already resolved. O_CREAT, O_EXCL and O_NOFOLLOW in `flags` are ignored.
    fn open(&self, who: &Credentials, node: &Self::Node, flags: OFlag) -> Result<Self::File, Errno>;
    /// As [`Self::open`], for locks alone: by the daemon where the mode forbids by now what it allowed when `who` opened the file.
    fn open_to_lock(&self, who: &Credentials, node: &Self::Node, flags: OFlag) -> Result<Self::File, Errno> {
        self.open(who, node, flags)
    }
    /// As [`Self::open`], by a name that the object was last known to have, which is cheaper than by its handle, and its
    /// attributes. O_TRUNC in `flags` is ignored too. ESTALE where the name is another object's by now, or nobody's.
    /// `only_its` is a ctime that no other object of its number can have: where it has that, its handle need not be asked for.
    fn open_name(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        id: &ObjectId,
        flags: OFlag,
        only_its: Option<Timestamp>,
    ) -> Result<(Self::File, StoredAttr), Errno>;
    /// Does `call`, which gives an open file to the kernel to use with the calling thread's credentials, as `who`, but without
    /// what root alone has: on a local file system all of it, elsewhere what keeps suid on a file whoever writes it (CAP_FSETID).
    /// EOPNOTSUPP where a file has no descriptor.
    fn hand_over<T>(
        &self,
        who: &Credentials,
        file: &Self::File,
        call: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno>;
    /// openat(2) with O_CREAT, and what [`Self::identify`] says of it: never follows a symlink, never blocks on a FIFO.
    /// ESTALE where the name is, by now, something else than a regular file.
    fn create_identified(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        flags: OFlag,
        mode: NewMode,
    ) -> Result<(Self::File, Identified<Self::Node>), Errno>;
    /// [`Self::create_identified`] for who needs the file alone.
    fn create(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        flags: OFlag,
        mode: NewMode,
    ) -> Result<Self::File, Errno> {
        self.create_identified(who, parent, name, flags, mode).map(|(file, _)| file)
    }
    /// open(2) with O_TMPFILE.
    fn tmpfile(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        flags: OFlag,
        mode: NewMode,
    ) -> Result<Self::File, Errno>;
    /// pread(2); may be short at the end of the file only.
    fn read(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno>;
    /// pwritev2(2). Runs as the opener, since the local kernel looks at the writer to decide about suid and sgid.
    fn write(
        &self,
        who: &Credentials,
        file: &Self::File,
        data: &[u8],
        offset: u64,
        how: WriteHow,
    ) -> Result<usize, Errno>;
    /// What close(2) does on NFS: writes back and reports what went wrong (ENOSPC, EDQUOT, EIO), without closing.
    fn flush(&self, file: &Self::File) -> Result<(), Errno>;
    /// fsync(2), or fdatasync(2).
    fn fsync(&self, file: &Self::File, data_only: bool) -> Result<(), Errno>;
    /// fallocate(2).
    fn fallocate(
        &self,
        who: &Credentials,
        file: &Self::File,
        flags: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno>;
    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    fn seek(&self, file: &Self::File, offset: u64, whence: nix::unistd::Whence) -> Result<u64, Errno>;
    /// copy_file_range(2).
    fn copy_range(
        &self,
        who: &Credentials,
        from: &Self::File,
        from_offset: u64,
        to: &Self::File,
        to_offset: u64,
        length: usize,
    ) -> Result<usize, Errno>;

    /// F_OFD_GETLK: the lock that is in the way, if one is.
    fn test_lock(
        &self,
        file: &Self::File,
        kind: LockKind,
        range: ByteRange,
    ) -> Result<Option<(LockKind, ByteRange)>, Errno>;
    /// F_OFD_SETLK: never waits; EAGAIN where somebody else has it. The lock belongs to this open file.
    fn set_lock(&self, file: &Self::File, kind: LockKind, range: ByteRange) -> Result<(), Errno>;
    /// flock(2), never waiting; EAGAIN (EWOULDBLOCK) where somebody else has it.
    fn flock(&self, file: &Self::File, kind: LockKind) -> Result<(), Errno>;

    /// Opens a directory for reading.
    fn opendir(&self, who: &Credentials, node: &Self::Node) -> Result<Self::Dir, Errno>;
    /// Reads the next batch of entries into `buffer` (at least 32 KiB) and calls `each` for every one; 0 at the end.
    /// Starts at `from` where that is not where the last batch ended; reads forward to it where the filesystem
    /// cannot seek there.
    fn read_dir(
        &self,
        dir: &Self::Dir,
        from: u64,
        each: &mut dyn FnMut(RawEntry<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<(), Errno>;
    /// fsync(2) of a directory, as the daemon: who has it open may sync it, also where nobody may open it any more.
    fn fsync_dir(&self, node: &Self::Node, data_only: bool) -> Result<(), Errno>;

    /// getxattr(2), of a symlink itself: the value's length, the value written to `buffer`; ERANGE where it does not
    /// fit; with an empty `buffer` only the length.
    fn getxattr(
        &self,
        who: &Credentials,
        node: &Self::Node,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno>;
    /// [`Self::getxattr`] of an open file.
    fn getxattr_file(
        &self,
        who: &Credentials,
        file: &Self::File,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        self.getxattr(who, &self.reference(file)?, name, buffer)
    }
    /// listxattr(2): as [`Self::getxattr`].
    fn listxattr(&self, who: &Credentials, node: &Self::Node, buffer: &mut [u8]) -> Result<usize, Errno>;
    /// setxattr(2); `flags` 0, XATTR_CREATE or XATTR_REPLACE.
    fn setxattr(
        &self,
        who: &Credentials,
        node: &Self::Node,
        name: &CStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno>;
    /// removexattr(2).
    fn removexattr(&self, who: &Credentials, node: &Self::Node, name: &CStr) -> Result<(), Errno>;
}
