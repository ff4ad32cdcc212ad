//! The real backing: an export mounted on this node.
//!
//! A [`Node`] is an O_PATH descriptor, found one component at a time and never by following a symlink, so attributes,
//! identity and whatever is done next belong to one object. Calls that act as somebody first make the calling thread
//! that identity ([`acting`]); it stays so afterwards.
//!
//! This file is the table of contents: each operation lives in the room of its kind.

mod acting;
mod attr;
mod dirs;
mod files;
mod locks;
mod mounts;
mod names;
mod path;
mod resolve;
mod source;
mod xattr;

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};
use nix::unistd::{AccessFlags, Whence};

pub use self::dirs::Dir;
use self::mounts::MountTable;
use super::{
    BackingFeatures, BackingFs, ByteRange, Errno, Found, Freshness, Identified, LockKind, MountIndex, Name,
    NewTime, ObjectId, RawEntry, StatFs, WriteHow,
};
use crate::policy::{Credentials, FileKind, NewMode, NfsGid, NfsUid, Permissions, StoredAttr, Timestamp};
use crate::sys::fault::around;

/// An export mounted on this node.
#[derive(Debug)]
pub struct PosixBacking {
    /// SOURCE, O_PATH.
    root: OwnedFd,
    /// How to come to it again, should the server replace it.
    way: source::Way,
    mounts: MountTable,
    features: BackingFeatures,
}

/// A resolved object: an O_PATH descriptor.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
    mount: MountIndex,
}

/// An open regular file.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    mount: MountIndex,
    writable: bool,
    /// O_DIRECT.
    direct: bool,
}

impl File {
    /// One that was opened with these flags.
    fn new(fd: OwnedFd, mount: MountIndex, flags: OFlag) -> Self {
        let writable = flags.intersection(OFlag::O_ACCMODE) != OFlag::O_RDONLY;
        Self { fd, mount, writable, direct: flags.contains(OFlag::O_DIRECT) }
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl BackingFs for PosixBacking {
    type Node = Node;
    type File = File;
    type Dir = Dir;

    fn enter_thread(&self) -> Result<(), Errno> {
        acting::enter_thread()
    }
    fn features(&self) -> BackingFeatures {
        self.features
    }
    fn root(&self) -> Result<Found<Node>, Errno> {
        resolve::root(self)
    }

    fn node_descriptor(&self, node: &Node) -> Option<RawFd> {
        Some(node.fd.as_raw_fd())
    }
    fn file_descriptor(&self, file: &File) -> Option<RawFd> {
        Some(file.fd.as_raw_fd())
    }
    fn adopt_node(&self, fd: OwnedFd, mount: MountIndex) -> Result<Node, Errno> {
        Ok(Node { fd, mount })
    }
    fn adopt_file(&self, fd: OwnedFd, mount: MountIndex, flags: OFlag) -> Result<File, Errno> {
        Ok(File::new(fd, mount, flags))
    }

    fn resolve(&self, who: &Credentials, id: &ObjectId) -> Result<Node, Errno> {
        around!("resolve", {
            if self.way.leads_to(id) {
                self.way.root_again(&self.mounts, who, id)
            } else {
                resolve::resolve(&self.mounts, who, id)
            }
        })
    }
    fn path(&self, node: &Node) -> Option<Vec<u8>> {
        path::below(self.root.as_fd(), node.as_fd())
    }
    fn lookup(&self, who: &Credentials, parent: &Node, name: Name<'_>) -> Result<Found<Node>, Errno> {
        around!("lookup", resolve::lookup(&self.mounts, who, parent, name))
    }
    fn find(&self, who: &Credentials, parent: &Node, name: Name<'_>) -> Result<Identified<Node>, Errno> {
        around!("find", resolve::find(&self.mounts, who, parent, name, Freshness::AsStat))
    }
    fn find_known(
        &self,
        who: &Credentials,
        parent: &Node,
        name: Name<'_>,
    ) -> Result<Identified<Node>, Errno> {
        // On NFS only, where no test counts the points at which a process may die.
        resolve::find(&self.mounts, who, parent, name, Freshness::Known)
    }
    fn stat(&self, node: &Node, freshness: Freshness) -> Result<StoredAttr, Errno> {
        around!("stat", attr::stat(node.as_fd(), node.mount, freshness))
    }
    fn stat_file(&self, file: &File, freshness: Freshness) -> Result<StoredAttr, Errno> {
        around!("stat_file", attr::stat(file.as_fd(), file.mount, freshness))
    }
    fn identify(&self, file: &File) -> Result<Identified<Node>, Errno> {
        around!("identify", resolve::identify(&self.mounts, file))
    }
    fn reference(&self, file: &File) -> Result<Node, Errno> {
        around!("reference", resolve::reference(file))
    }
    fn readlink(&self, who: &Credentials, node: &Node) -> Result<Vec<u8>, Errno> {
        around!("readlink", names::readlink(who, node))
    }
    fn access(&self, who: &Credentials, node: &Node, mask: AccessFlags) -> Result<(), Errno> {
        around!("access", attr::access(who, node, mask))
    }
    fn statfs(&self, node: &Node) -> Result<StatFs, Errno> {
        around!("statfs", attr::statfs(node))
    }

    fn mkdir(&self, who: &Credentials, parent: &Node, name: Name<'_>, mode: NewMode) -> Result<(), Errno> {
        around!("mkdir", names::mkdir(who, parent, name, mode))
    }
    fn mknod(
        &self,
        who: &Credentials,
        parent: &Node,
        name: Name<'_>,
        kind: FileKind,
        mode: NewMode,
        rdev: u64,
    ) -> Result<(), Errno> {
        around!("mknod", names::mknod(who, parent, name, kind, mode, rdev))
    }
    fn symlink(&self, who: &Credentials, target: &CStr, parent: &Node, name: Name<'_>) -> Result<(), Errno> {
        around!("symlink", names::symlink(who, target, parent, name))
    }
    fn link(&self, who: &Credentials, node: &Node, parent: &Node, name: Name<'_>) -> Result<(), Errno> {
        around!("link", names::link(who, node.as_fd(), parent, name))
    }
    fn unlink(&self, who: &Credentials, parent: &Node, name: Name<'_>) -> Result<(), Errno> {
        around!("unlink", names::unlink(who, parent, name))
    }
    fn rmdir(&self, who: &Credentials, parent: &Node, name: Name<'_>) -> Result<(), Errno> {
        around!("rmdir", names::rmdir(who, parent, name))
    }
    fn rename(
        &self,
        who: &Credentials,
        from: &Node,
        name: Name<'_>,
        to: &Node,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        around!("rename", names::rename(who, (from, name), (to, new_name), flags))
    }

    fn chmod(&self, who: &Credentials, node: &Node, permissions: Permissions) -> Result<(), Errno> {
        around!("chmod", attr::chmod(who, node, permissions))
    }
    fn chmod_file(&self, who: &Credentials, file: &File, permissions: Permissions) -> Result<(), Errno> {
        around!("chmod_file", files::chmod(who, file, permissions))
    }
    fn chown(
        &self,
        who: &Credentials,
        node: &Node,
        uid: Option<NfsUid>,
        gid: Option<NfsGid>,
    ) -> Result<(), Errno> {
        around!("chown", attr::chown(who, node, uid, gid))
    }
    fn truncate(&self, who: &Credentials, node: &Node, size: u64) -> Result<(), Errno> {
        around!("truncate", attr::truncate(who, node, size))
    }
    fn truncate_file(&self, who: &Credentials, file: &File, size: u64) -> Result<(), Errno> {
        around!("truncate_file", {
            acting::act_as(who)?;
            files::truncate(file, size)
        })
    }
    fn set_times(&self, who: &Credentials, node: &Node, atime: NewTime, mtime: NewTime) -> Result<(), Errno> {
        around!("set_times", attr::set_times(who, node, atime, mtime))
    }

    fn open(&self, who: &Credentials, node: &Node, flags: OFlag) -> Result<File, Errno> {
        around!("open", files::open(who, node, flags))
    }
    fn open_to_lock(&self, who: &Credentials, node: &Node, flags: OFlag) -> Result<File, Errno> {
        around!("open_to_lock", files::open_to_lock(who, node, flags))
    }
    fn open_name(
        &self,
        who: &Credentials,
        parent: &Node,
        name: Name<'_>,
        id: &ObjectId,
        flags: OFlag,
        only_its: Option<Timestamp>,
    ) -> Result<(File, StoredAttr), Errno> {
        around!("open_name", files::open_name(&self.mounts, who, parent, name, id, flags, only_its))
    }
    fn hand_over<T>(
        &self,
        who: &Credentials,
        file: &File,
        call: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let local = self.features.local && file.mount == MountIndex(0);
        around!("hand_over", acting::as_common_writer(who, local, || call(file.as_fd()))?)
    }
    fn create_identified(
        &self,
        who: &Credentials,
        parent: &Node,
        name: Name<'_>,
        flags: OFlag,
        mode: NewMode,
    ) -> Result<(File, Identified<Node>), Errno> {
        around!("create_identified", files::create(&self.mounts, who, parent, name, flags, mode))
    }
    fn tmpfile(&self, who: &Credentials, parent: &Node, flags: OFlag, mode: NewMode) -> Result<File, Errno> {
        around!("tmpfile", files::tmpfile(who, parent, flags, mode))
    }
    fn read(&self, file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        around!("read", files::read(file, buffer, offset))
    }
    fn write(
        &self,
        who: &Credentials,
        file: &File,
        data: &[u8],
        offset: u64,
        how: WriteHow,
    ) -> Result<usize, Errno> {
        around!("write", files::write(who, file, data, offset, how))
    }
    fn flush(&self, file: &File) -> Result<(), Errno> {
        around!("flush", files::flush(file))
    }
    fn fsync(&self, file: &File, data_only: bool) -> Result<(), Errno> {
        around!("fsync", files::fsync(file.as_fd(), data_only))
    }
    fn fallocate(
        &self,
        who: &Credentials,
        file: &File,
        flags: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        around!("fallocate", {
            acting::act_as(who)?;
            files::fallocate(file, flags, offset, length)
        })
    }
    fn seek(&self, file: &File, offset: u64, whence: Whence) -> Result<u64, Errno> {
        around!("seek", files::seek(file, offset, whence))
    }
    fn copy_range(
        &self,
        who: &Credentials,
        from: &File,
        from_offset: u64,
        to: &File,
        to_offset: u64,
        length: usize,
    ) -> Result<usize, Errno> {
        around!("copy_range", {
            acting::act_as(who)?;
            files::copy_range((from, from_offset), (to, to_offset), length)
        })
    }

    fn test_lock(
        &self,
        file: &File,
        kind: LockKind,
        range: ByteRange,
    ) -> Result<Option<(LockKind, ByteRange)>, Errno> {
        around!("test_lock", locks::test(file, kind, range))
    }
    fn set_lock(&self, file: &File, kind: LockKind, range: ByteRange) -> Result<(), Errno> {
        around!("set_lock", locks::set(file, kind, range))
    }
    fn flock(&self, file: &File, kind: LockKind) -> Result<(), Errno> {
        around!("flock", locks::flock(file, kind))
    }

    fn opendir(&self, who: &Credentials, node: &Node) -> Result<Dir, Errno> {
        around!("opendir", dirs::open(who, node))
    }
    fn read_dir(
        &self,
        dir: &Dir,
        from: u64,
        each: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        around!("read_dir", dir.read(from, each))
    }
    fn fsync_dir(&self, node: &Node, data_only: bool) -> Result<(), Errno> {
        around!("fsync_dir", dirs::sync(node, data_only))
    }

    fn getxattr(
        &self,
        who: &Credentials,
        node: &Node,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        around!("getxattr", xattr::get(who, node, name, buffer))
    }
    fn getxattr_file(
        &self,
        who: &Credentials,
        file: &File,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        around!("getxattr_file", xattr::get_open(who, file, name, buffer))
    }
    fn listxattr(&self, who: &Credentials, node: &Node, buffer: &mut [u8]) -> Result<usize, Errno> {
        around!("listxattr", xattr::list(who, node, buffer))
    }
    fn setxattr(
        &self,
        who: &Credentials,
        node: &Node,
        name: &CStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        around!("setxattr", xattr::set(who, node, name, value, flags))
    }
    fn removexattr(&self, who: &Credentials, node: &Node, name: &CStr) -> Result<(), Errno> {
        around!("removexattr", xattr::remove(who, node, name))
    }
}

/// An offset or size as the kernel takes it.
fn offset(value: u64) -> Result<libc::off_t, Errno> {
    libc::off_t::try_from(value).map_err(|_beyond| Errno::EINVAL)
}
