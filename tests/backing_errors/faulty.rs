//! An export whose calls fail when they are told to, and that counts what is held of it.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};
use permfs::backing::model::ModelBacking;
use permfs::backing::{
    BackingFeatures, BackingFs, ByteRange, Errno, Found, Freshness, Identified, LockKind, Name, NewTime,
    ObjectId, RawEntry, StatFs, WriteHow,
};
use permfs::policy::{Credentials, FileKind, NewMode, NfsGid, NfsUid, Permissions, StoredAttr, Timestamp};

/// Which calls fail, counted from 0 and from when it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    None,
    /// This one, without having done anything.
    Only(usize, Errno),
    /// This one and all that come after it: the server is gone.
    From(usize, Errno),
}

/// The export in memory behind calls that fail.
#[derive(Debug, Clone)]
pub struct Faulty {
    pub inner: ModelBacking,
    pub local: bool,
    script: Arc<Mutex<(Failing, Vec<&'static str>)>>,
    held: Arc<AtomicUsize>,
}

/// Something of the export that is held: a descriptor, were this a real one.
#[derive(Debug)]
pub struct Held<T> {
    it: T,
    held: Arc<AtomicUsize>,
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Faulty {
    pub fn new(local: bool) -> Self {
        let script = Arc::new(Mutex::new((Failing::None, Vec::new())));
        Self { inner: ModelBacking::default(), local, script, held: Arc::default() }
    }

    /// From now on; answers with the calls made since it was last told.
    pub fn tell(&self, failing: Failing) -> Vec<&'static str> {
        let mut script = self.script.lock().unwrap();
        script.0 = failing;
        std::mem::take(&mut script.1)
    }

    /// How much of the export is held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    fn come_to(&self, call: &'static str) -> Result<(), Errno> {
        let mut script = self.script.lock().unwrap();
        let index = script.1.len();
        script.1.push(call);
        match script.0 {
            Failing::Only(at, error) if at == index => Err(error),
            Failing::From(at, error) if at <= index => Err(error),
            _ => Ok(()),
        }
    }

    fn hold<T>(&self, it: T) -> Held<T> {
        self.held.fetch_add(1, Ordering::SeqCst);
        Held { it, held: Arc::clone(&self.held) }
    }

    fn found<T>(&self, Found { node, id, attr }: Found<T>) -> Found<Held<T>> {
        Found { node: self.hold(node), id, attr }
    }

    fn identified<T>(&self, Identified { pin, id, attr }: Identified<T>) -> Identified<Held<T>> {
        Identified { pin: pin.map(|pin| self.hold(pin)), id, attr }
    }
}

impl BackingFs for Faulty {
    type Node = Held<<ModelBacking as BackingFs>::Node>;
    type File = Held<<ModelBacking as BackingFs>::File>;
    type Dir = Held<<ModelBacking as BackingFs>::Dir>;

    fn enter_thread(&self) -> Result<(), Errno> {
        self.inner.enter_thread()
    }
    fn features(&self) -> BackingFeatures {
        BackingFeatures { nfs: !self.local, local: self.local, ..self.inner.features() }
    }
    fn root(&self) -> Result<Found<Self::Node>, Errno> {
        self.inner.root().map(|root| self.found(root))
    }
    fn hand_over<T>(
        &self,
        who: &Credentials,
        file: &Self::File,
        call: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.inner.hand_over(who, &file.it, call)
    }
    fn resolve(&self, who: &Credentials, id: &ObjectId) -> Result<Self::Node, Errno> {
        self.come_to("resolve")?;
        self.inner.resolve(who, id).map(|it| self.hold(it))
    }
    fn lookup(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<Found<Self::Node>, Errno> {
        self.come_to("lookup")?;
        self.inner.lookup(who, &parent.it, name).map(|found| self.found(found))
    }
    fn find(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<Identified<Self::Node>, Errno> {
        self.come_to("find")?;
        self.inner.find(who, &parent.it, name).map(|found| self.identified(found))
    }
    fn stat(&self, node: &Self::Node, freshness: Freshness) -> Result<StoredAttr, Errno> {
        self.come_to("stat")?;
        self.inner.stat(&node.it, freshness)
    }
    fn stat_file(&self, file: &Self::File, freshness: Freshness) -> Result<StoredAttr, Errno> {
        self.come_to("stat_file")?;
        self.inner.stat_file(&file.it, freshness)
    }
    fn identify(&self, file: &Self::File) -> Result<Identified<Self::Node>, Errno> {
        self.come_to("identify")?;
        self.inner.identify(&file.it).map(|found| self.identified(found))
    }
    fn reference(&self, file: &Self::File) -> Result<Self::Node, Errno> {
        self.come_to("reference")?;
        self.inner.reference(&file.it).map(|it| self.hold(it))
    }
    fn readlink(&self, who: &Credentials, node: &Self::Node) -> Result<Vec<u8>, Errno> {
        self.come_to("readlink")?;
        self.inner.readlink(who, &node.it)
    }
    fn access(
        &self,
        who: &Credentials,
        node: &Self::Node,
        mask: nix::unistd::AccessFlags,
    ) -> Result<(), Errno> {
        self.come_to("access")?;
        self.inner.access(who, &node.it, mask)
    }
    fn statfs(&self, node: &Self::Node) -> Result<StatFs, Errno> {
        self.come_to("statfs")?;
        self.inner.statfs(&node.it)
    }
    fn mkdir(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        mode: NewMode,
    ) -> Result<(), Errno> {
        self.come_to("mkdir")?;
        self.inner.mkdir(who, &parent.it, name, mode)
    }
    fn mknod(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        kind: FileKind,
        mode: NewMode,
        rdev: u64,
    ) -> Result<(), Errno> {
        self.come_to("mknod")?;
        self.inner.mknod(who, &parent.it, name, kind, mode, rdev)
    }
    fn symlink(
        &self,
        who: &Credentials,
        target: &CStr,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<(), Errno> {
        self.come_to("symlink")?;
        self.inner.symlink(who, target, &parent.it, name)
    }
    fn link(
        &self,
        who: &Credentials,
        node: &Self::Node,
        parent: &Self::Node,
        name: Name<'_>,
    ) -> Result<(), Errno> {
        self.come_to("link")?;
        self.inner.link(who, &node.it, &parent.it, name)
    }
    fn unlink(&self, who: &Credentials, parent: &Self::Node, name: Name<'_>) -> Result<(), Errno> {
        self.come_to("unlink")?;
        self.inner.unlink(who, &parent.it, name)
    }
    fn rmdir(&self, who: &Credentials, parent: &Self::Node, name: Name<'_>) -> Result<(), Errno> {
        self.come_to("rmdir")?;
        self.inner.rmdir(who, &parent.it, name)
    }
    fn rename(
        &self,
        who: &Credentials,
        from: &Self::Node,
        name: Name<'_>,
        to: &Self::Node,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        self.come_to("rename")?;
        self.inner.rename(who, &from.it, name, &to.it, new_name, flags)
    }
    fn chmod(&self, who: &Credentials, node: &Self::Node, permissions: Permissions) -> Result<(), Errno> {
        self.come_to("chmod")?;
        self.inner.chmod(who, &node.it, permissions)
    }
    fn chmod_file(
        &self,
        who: &Credentials,
        file: &Self::File,
        permissions: Permissions,
    ) -> Result<(), Errno> {
        self.come_to("chmod_file")?;
        self.inner.chmod_file(who, &file.it, permissions)
    }
    fn chown(
        &self,
        who: &Credentials,
        node: &Self::Node,
        uid: Option<NfsUid>,
        gid: Option<NfsGid>,
    ) -> Result<(), Errno> {
        self.come_to("chown")?;
        self.inner.chown(who, &node.it, uid, gid)
    }
    fn truncate(&self, who: &Credentials, node: &Self::Node, size: u64) -> Result<(), Errno> {
        self.come_to("truncate")?;
        self.inner.truncate(who, &node.it, size)
    }
    fn truncate_file(&self, who: &Credentials, file: &Self::File, size: u64) -> Result<(), Errno> {
        self.come_to("truncate_file")?;
        self.inner.truncate_file(who, &file.it, size)
    }
    fn set_times(
        &self,
        who: &Credentials,
        node: &Self::Node,
        atime: NewTime,
        mtime: NewTime,
    ) -> Result<(), Errno> {
        self.come_to("set_times")?;
        self.inner.set_times(who, &node.it, atime, mtime)
    }
    fn open(&self, who: &Credentials, node: &Self::Node, flags: OFlag) -> Result<Self::File, Errno> {
        self.come_to("open")?;
        self.inner.open(who, &node.it, flags).map(|it| self.hold(it))
    }
    fn open_name(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        id: &ObjectId,
        flags: OFlag,
        only_its: Option<Timestamp>,
    ) -> Result<(Self::File, StoredAttr), Errno> {
        self.come_to("open_name")?;
        self.inner
            .open_name(who, &parent.it, name, id, flags, only_its)
            .map(|(file, attr)| (self.hold(file), attr))
    }
    fn create_identified(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        name: Name<'_>,
        flags: OFlag,
        mode: NewMode,
    ) -> Result<(Self::File, Identified<Self::Node>), Errno> {
        self.come_to("create_identified")?;
        self.inner
            .create_identified(who, &parent.it, name, flags, mode)
            .map(|(file, found)| (self.hold(file), self.identified(found)))
    }
    fn tmpfile(
        &self,
        who: &Credentials,
        parent: &Self::Node,
        flags: OFlag,
        mode: NewMode,
    ) -> Result<Self::File, Errno> {
        self.come_to("tmpfile")?;
        self.inner.tmpfile(who, &parent.it, flags, mode).map(|it| self.hold(it))
    }
    fn read(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.come_to("read")?;
        self.inner.read(&file.it, buffer, offset)
    }
    fn write(
        &self,
        who: &Credentials,
        file: &Self::File,
        data: &[u8],
        offset: u64,
        how: WriteHow,
    ) -> Result<usize, Errno> {
        self.come_to("write")?;
        self.inner.write(who, &file.it, data, offset, how)
    }
    fn flush(&self, file: &Self::File) -> Result<(), Errno> {
        self.come_to("flush")?;
        self.inner.flush(&file.it)
    }
    fn fsync(&self, file: &Self::File, data_only: bool) -> Result<(), Errno> {
        self.come_to("fsync")?;
        self.inner.fsync(&file.it, data_only)
    }
    fn fallocate(
        &self,
        who: &Credentials,
        file: &Self::File,
        flags: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        self.come_to("fallocate")?;
        self.inner.fallocate(who, &file.it, flags, offset, length)
    }
    fn seek(&self, file: &Self::File, offset: u64, whence: nix::unistd::Whence) -> Result<u64, Errno> {
        self.come_to("seek")?;
        self.inner.seek(&file.it, offset, whence)
    }
    fn copy_range(
        &self,
        who: &Credentials,
        from: &Self::File,
        from_offset: u64,
        to: &Self::File,
        to_offset: u64,
        length: usize,
    ) -> Result<usize, Errno> {
        self.come_to("copy_range")?;
        self.inner.copy_range(who, &from.it, from_offset, &to.it, to_offset, length)
    }
    fn test_lock(
        &self,
        file: &Self::File,
        kind: LockKind,
        range: ByteRange,
    ) -> Result<Option<(LockKind, ByteRange)>, Errno> {
        self.come_to("test_lock")?;
        self.inner.test_lock(&file.it, kind, range)
    }
    fn set_lock(&self, file: &Self::File, kind: LockKind, range: ByteRange) -> Result<(), Errno> {
        self.come_to("set_lock")?;
        self.inner.set_lock(&file.it, kind, range)
    }
    fn flock(&self, file: &Self::File, kind: LockKind) -> Result<(), Errno> {
        self.come_to("flock")?;
        self.inner.flock(&file.it, kind)
    }
    fn opendir(&self, who: &Credentials, node: &Self::Node) -> Result<Self::Dir, Errno> {
        self.come_to("opendir")?;
        self.inner.opendir(who, &node.it).map(|it| self.hold(it))
    }
    fn read_dir(
        &self,
        dir: &Self::Dir,
        from: u64,
        each: &mut dyn FnMut(RawEntry<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<(), Errno> {
        self.come_to("read_dir")?;
        self.inner.read_dir(&dir.it, from, each)
    }
    fn fsync_dir(&self, node: &Self::Node, data_only: bool) -> Result<(), Errno> {
        self.come_to("fsync_dir")?;
        self.inner.fsync_dir(&node.it, data_only)
    }
    fn getxattr(
        &self,
        who: &Credentials,
        node: &Self::Node,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        self.come_to("getxattr")?;
        self.inner.getxattr(who, &node.it, name, buffer)
    }
    fn getxattr_file(
        &self,
        who: &Credentials,
        file: &Self::File,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        self.come_to("getxattr_file")?;
        self.inner.getxattr_file(who, &file.it, name, buffer)
    }
    fn listxattr(&self, who: &Credentials, node: &Self::Node, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.come_to("listxattr")?;
        self.inner.listxattr(who, &node.it, buffer)
    }
    fn setxattr(
        &self,
        who: &Credentials,
        node: &Self::Node,
        name: &CStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        self.come_to("setxattr")?;
        self.inner.setxattr(who, &node.it, name, value, flags)
    }
    fn removexattr(&self, who: &Credentials, node: &Self::Node, name: &CStr) -> Result<(), Errno> {
        self.come_to("removexattr")?;
        self.inner.removexattr(who, &node.it, name)
    }
}
