//! Signatures only, so that the FUSE adapter can be built beside the operations. Goes away with them.
#![allow(clippy::todo, missing_docs, unused_variables, clippy::too_many_arguments)]

use std::ffi::CStr;
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};
use nix::unistd::{AccessFlags, Whence};

use super::*;
use crate::backing::BackingFeatures;
use crate::policy::{Permissions, Policy};

pub struct Filesystem<B: BackingFs> {
    backing: B,
}

impl<B: BackingFs> Filesystem<B> {
    /// Looks at the root and is ready.
    pub fn new(backing: B, policy: Arc<Policy>) -> Result<Self, Errno> {
        todo!()
    }
    /// Each serving thread calls this once, before its first request.
    pub fn enter_thread(&self) -> Result<(), Errno> {
        todo!()
    }
    pub fn features(&self) -> BackingFeatures {
        todo!()
    }
    pub fn policy(&self) -> Arc<Policy> {
        todo!()
    }

    /// ENOENT where there is none: the adapter answers that with `policy().cache().negative_timeout`.
    pub fn lookup(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<Entry, Errno> {
        todo!()
    }
    /// The kernel gives back `lookups` of the lookups that entries counted.
    pub fn forget(&self, node: NodeId, lookups: u64) {
        todo!()
    }
    pub fn getattr(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: Option<FileHandleId>,
    ) -> Result<Attributes, Errno> {
        todo!()
    }
    pub fn setattr(&self, caller: CallerId, node: NodeId, change: &SetAttr) -> Result<Attributes, Errno> {
        todo!()
    }
    pub fn readlink(&self, caller: CallerId, node: NodeId) -> Result<Vec<u8>, Errno> {
        todo!()
    }
    pub fn access(&self, caller: CallerId, node: NodeId, mask: AccessFlags) -> Result<(), Errno> {
        todo!()
    }
    pub fn statfs(&self, caller: CallerId, node: NodeId) -> Result<StatFs, Errno> {
        todo!()
    }

    pub fn mknod(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        new: &NewNode,
    ) -> Result<Entry, Errno> {
        todo!()
    }
    pub fn mkdir(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        permissions: Permissions,
        umask: Permissions,
    ) -> Result<Entry, Errno> {
        todo!()
    }
    pub fn symlink(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry, Errno> {
        todo!()
    }
    pub fn link(
        &self,
        caller: CallerId,
        node: NodeId,
        new_parent: NodeId,
        new_name: Name<'_>,
    ) -> Result<Entry, Errno> {
        todo!()
    }
    pub fn unlink(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<(), Errno> {
        todo!()
    }
    pub fn rmdir(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<(), Errno> {
        todo!()
    }
    pub fn rename(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        new_parent: NodeId,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        todo!()
    }

    pub fn open(&self, caller: CallerId, node: NodeId, flags: OFlag) -> Result<Opened, Errno> {
        todo!()
    }
    pub fn create(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        flags: OFlag,
        permissions: Permissions,
        umask: Permissions,
    ) -> Result<(Entry, Opened), Errno> {
        todo!()
    }
    pub fn tmpfile(
        &self,
        caller: CallerId,
        parent: NodeId,
        flags: OFlag,
        permissions: Permissions,
        umask: Permissions,
    ) -> Result<(Entry, Opened), Errno> {
        todo!()
    }
    pub fn read(
        &self,
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        todo!()
    }
    /// `clear_suid`: FUSE_WRITE_KILL_SUIDGID.
    pub fn write(
        &self,
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        data: &[u8],
        clear_suid: bool,
    ) -> Result<usize, Errno> {
        todo!()
    }
    pub fn flush(&self, node: NodeId, handle: FileHandleId, owner: LockOwner) -> Result<(), Errno> {
        todo!()
    }
    pub fn fsync(&self, node: NodeId, handle: FileHandleId, data_only: bool) -> Result<(), Errno> {
        todo!()
    }
    pub fn release(&self, node: NodeId, handle: FileHandleId) {
        todo!()
    }
    pub fn fallocate(
        &self,
        node: NodeId,
        handle: FileHandleId,
        flags: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        todo!()
    }
    pub fn lseek(
        &self,
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        whence: Whence,
    ) -> Result<u64, Errno> {
        todo!()
    }
    pub fn copy_file_range(
        &self,
        from: FileHandleId,
        from_offset: u64,
        to: FileHandleId,
        to_offset: u64,
        length: usize,
    ) -> Result<usize, Errno> {
        todo!()
    }

    pub fn getlk(
        &self,
        node: NodeId,
        handle: FileHandleId,
        lock: &LockRequest,
    ) -> Result<Option<HeldLock>, Errno> {
        todo!()
    }
    /// Never waits: EAGAIN where somebody else has it.
    pub fn setlk(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        lock: &LockRequest,
    ) -> Result<(), Errno> {
        todo!()
    }
    /// Waits without holding the calling thread: `reply` is called when the lock is had, refused or interrupted.
    pub fn setlkw(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        lock: &LockRequest,
        request: RequestId,
        reply: LockReply,
    ) {
        todo!()
    }
    /// Ends a waiting lock request with EINTR; remembered for a moment where it has not begun to wait yet.
    pub fn interrupt(&self, request: RequestId) {
        todo!()
    }

    pub fn opendir(&self, caller: CallerId, node: NodeId) -> Result<Opened, Errno> {
        todo!()
    }
    pub fn readdir(
        &self,
        node: NodeId,
        handle: FileHandleId,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<(), Errno> {
        todo!()
    }
    /// As [`Self::readdir`], with a lookup for each entry, so each counts one lookup to forget.
    pub fn readdirplus(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<(), Errno> {
        todo!()
    }
    pub fn releasedir(&self, node: NodeId, handle: FileHandleId) {
        todo!()
    }
    pub fn fsyncdir(&self, node: NodeId, handle: FileHandleId, data_only: bool) -> Result<(), Errno> {
        todo!()
    }

    /// The value's length; with an empty `buffer` only that; ERANGE where it does not fit.
    pub fn getxattr(
        &self,
        caller: CallerId,
        node: NodeId,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        todo!()
    }
    pub fn listxattr(&self, caller: CallerId, node: NodeId, buffer: &mut [u8]) -> Result<usize, Errno> {
        todo!()
    }
    pub fn setxattr(
        &self,
        caller: CallerId,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        todo!()
    }
    pub fn removexattr(&self, caller: CallerId, node: NodeId, name: &CStr) -> Result<(), Errno> {
        todo!()
    }
}
