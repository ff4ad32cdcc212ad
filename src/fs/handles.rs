//! Open files: what the kernel's file handles stand for.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;
use nix::fcntl::OFlag;

use super::inode::Inode;
use super::inodes::{InodeTable, lock};
use super::{BackingId, Content, Errno, FileHandleId, NodeId};
use crate::backing::BackingFs;
use crate::policy::{Credentials, NfsGid, NfsUid};
use crate::state::State;
use crate::state::file::FileData;
use crate::state::layout::HeaderWord;
use crate::state::table::RecordId;
use crate::sys::{descriptors, fault};

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile<B: BackingFs> {
    pub(super) inode: Arc<Inode<B>>,
    /// None where processes that have died with all they had open had it, and nobody has used it since (`reopen`).
    pub(super) file: OnceLock<B::File>,
    /// As whom it was opened: the identity of everything done through it.
    pub(super) opener: Credentials,
    pub(super) flags: OFlag,
    /// How the kernel treats its content.
    pub(super) content: Content,
    /// What flock(2) is taken on, once it was asked for. Not `file`: under passthrough the kernel may hold that for
    /// others who have the same file open, and the lock with it.
    pub(super) flocked: OnceLock<B::File>,
    /// Where it is written down, once it is.
    record: OnceLock<RecordId>,
}

impl<B: BackingFs> OpenFile<B> {
    pub(super) fn new(
        inode: Arc<Inode<B>>,
        file: B::File,
        opener: Credentials,
        flags: OFlag,
        content: Content,
    ) -> Self {
        let (file, flocked, record) = (OnceLock::from(file), OnceLock::new(), OnceLock::new());
        Self { inode, file, opener, flags, content, flocked, record }
    }

    /// Whether it was opened for writing.
    pub(super) fn writes(&self) -> bool {
        self.flags & OFlag::O_ACCMODE != OFlag::O_RDONLY
    }
}

/// The handles of one mount.
#[derive(Debug)]
pub(crate) struct Handles<B: BackingFs> {
    files: DashMap<FileHandleId, Arc<OpenFile<B>>, DefaultHashBuilder>,
    open: AtomicUsize,
    /// The last one took the last descriptor that a file may have, and none was closed since.
    full: AtomicBool,
    state: Arc<State>,
}

/// Where the mount ends before the process does: an open file and its inode hold each other.
impl<B: BackingFs> Drop for Handles<B> {
    fn drop(&mut self) {
        for open in &self.files {
            lock(&open.inode.live().open).clear();
        }
    }
}

impl<B: BackingFs> Handles<B> {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self { files: DashMap::default(), open: AtomicUsize::new(0), full: AtomicBool::new(false), state }
    }

    /// The handles that another process has left in `state`.
    pub(crate) fn left_in(backing: &B, inodes: &InodeTable<B>, state: Arc<State>) -> Self {
        state.files.find_free();
        let handles = Self::new(state);
        for record in handles.state.files.all() {
            let left = handles.state.files.read(record);
            let inode = NonZeroU64::new(left.node).and_then(|node| inodes.get(NodeId(node)));
            let Some(inode) = inode else {
                // The kernel closes a file before it forgets the inode, so nobody has this open. Its record goes first, so that
                // nobody finds the numbers there once they are others'.
                let held = [left.fd, left.flocked].into_iter().flatten();
                let held: Vec<_> = held.filter_map(|fd| descriptors::adopt(fd).ok()).collect();
                handles.state.files.forget(record);
                drop(held);
                continue;
            };
            let flags = OFlag::from_bits_retain(left.flags);
            let adopt = |fd: RawFd| {
                let mount = inode.object.mount;
                let adopted = descriptors::adopt(fd).and_then(|fd| backing.adopt_file(fd, mount, flags));
                adopted.inspect_err(|error| tracing::error!(%error, fd, "an open file is gone")).ok()
            };
            let file = match left.fd.map(adopt) {
                Some(Some(file)) => OnceLock::from(file),
                Some(None) => {
                    handles.state.files.forget(record);
                    continue;
                }
                None => OnceLock::new(),
            };
            let flocked = left.flocked.and_then(adopt);
            let content = content_of(left.content, left.backing);
            let (opener, inode) = (opener_of(&left), Arc::clone(&inode));
            let (to_lock, at) = (OnceLock::new(), OnceLock::from(record));
            let open = OpenFile { inode, file, opener, flags, content, flocked: to_lock, record: at };
            if let Some(flocked) = flocked {
                let _ = open.flocked.set(flocked);
            }
            open.go_on();
            handles.enter(FileHandleId(left.handle), Arc::new(open));
            fault::point!("handles: one is taken over");
        }
        handles
    }

    /// Room for one more, or ENFILE.
    pub(super) fn has_room(&self) -> Result<(), Errno> {
        let open = self.len();
        let full = open >= self.state.bounds.files || (open > 0 && self.full.load(Ordering::Relaxed));
        if full { Err(Errno::ENFILE) } else { Ok(()) }
    }

    /// Enters an open file, and writes it down for a successor.
    ///
    /// # Errors
    /// ENFILE where there is no room.
    pub(super) fn add_file(&self, backing: &B, open: OpenFile<B>) -> Result<FileHandleId, Errno> {
        let id = FileHandleId(self.state.count(HeaderWord::NextHandle));
        if let Some(fd) = open.file.get().and_then(|file| backing.file_descriptor(file)) {
            self.full.store(self.state.bounds.allow(fd.saturating_add(1)).is_err(), Ordering::Relaxed);
            self.state.bounds.allow(fd)?;
            let record = self.state.files.enter(&data_of(id, fd, &open))?;
            // Nobody else has it yet.
            let _ = open.record.set(record);
        }
        fault::point!("handles: before one is entered");
        self.enter(id, Arc::new(open));
        Ok(id)
    }

    fn enter(&self, id: FileHandleId, open: Arc<OpenFile<B>>) {
        self.open.fetch_add(1, Ordering::Relaxed);
        lock(&open.inode.live().open).push(Arc::clone(&open));
        self.files.insert(id, open);
    }

    /// What flock(2) is taken on from now on; where another thread was faster, it is that one's.
    pub(super) fn add_flocked(&self, backing: &B, open: &OpenFile<B>, file: B::File) {
        let fd = backing.file_descriptor(&file);
        if open.flocked.set(file).is_ok()
            && let (Some(fd), Some(record)) = (fd, open.record.get())
        {
            self.state.files.set_flocked(*record, fd);
        }
    }

    /// It is open again; where another thread was faster, as that one's.
    pub(super) fn reopened<'a>(
        &self,
        backing: &B,
        open: &'a OpenFile<B>,
        file: B::File,
    ) -> Result<&'a B::File, Errno> {
        let fd = backing.file_descriptor(&file);
        fd.map_or(Ok(()), |fd| self.state.bounds.allow(fd))?;
        if open.file.set(file).is_ok()
            && let (Some(fd), Some(record)) = (fd, open.record.get())
        {
            self.state.files.set_descriptor(*record, fd);
        }
        open.file.get().ok_or(Errno::EBADF)
    }

    /// EBADF for a handle that is not open, EIO for one of a lost inode.
    pub(super) fn file(&self, id: FileHandleId) -> Result<Arc<OpenFile<B>>, Errno> {
        let open = self.files.get(&id).map(|open| Arc::clone(&open)).ok_or(Errno::EBADF)?;
        if open.inode.lost { Err(Errno::EIO) } else { Ok(open) }
    }

    /// The file, whose last reference this mostly is.
    pub(super) fn remove_file(&self, id: FileHandleId) -> Option<Arc<OpenFile<B>>> {
        let (_, open) = self.files.remove(&id)?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.full.store(false, Ordering::Relaxed);
        let mut others = lock(&open.inode.live().open);
        if let Some(at) = others.iter().rposition(|other| Arc::ptr_eq(other, &open)) {
            others.swap_remove(at);
        }
        drop(others);
        // Before its descriptors are closed, and their numbers another's.
        if let Some(record) = open.record.get() {
            self.state.files.forget(*record);
        }
        Some(open)
    }

    /// The files registered for passthrough that somebody has open.
    pub(super) fn registered(&self) -> HashSet<BackingId> {
        self.files.iter().filter_map(|open| open.content.backing()).collect()
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

fn data_of<B: BackingFs>(id: FileHandleId, fd: RawFd, open: &OpenFile<B>) -> FileData {
    let content = match open.content {
        Content::Revalidated => REVALIDATED,
        Content::Kept => KEPT,
        Content::Direct => DIRECT,
        Content::Passthrough(_) => PASSTHROUGH,
        Content::Beside(_) => BESIDE,
    };
    let backing = open.content.backing().map_or(0, |id| id.0);
    FileData {
        handle: id.0,
        node: open.inode.id.0.get(),
        fd: Some(fd),
        flocked: None,
        flags: open.flags.bits(),
        content,
        backing: u32::try_from(backing).unwrap_or_default(),
        uid: open.opener.uid.get(),
        gid: open.opener.gid.get(),
        groups: open.opener.groups.iter().map(|group| group.get()).collect(),
    }
}

fn content_of(content: u8, backing: u32) -> Content {
    let backing = BackingId(i32::try_from(backing).unwrap_or_default());
    match content {
        REVALIDATED => Content::Revalidated,
        KEPT => Content::Kept,
        PASSTHROUGH => Content::Passthrough(backing),
        BESIDE => Content::Beside(backing),
        _ => Content::Direct,
    }
}

fn opener_of(left: &FileData) -> Credentials {
    Credentials {
        uid: NfsUid::new(left.uid).unwrap_or(NfsUid::NOBODY),
        gid: NfsGid::new(left.gid).unwrap_or(NfsGid::NOBODY),
        groups: left.groups.iter().filter_map(|group| NfsGid::new(*group)).collect(),
    }
}

/// How [`Content`] is numbered in a record.
const REVALIDATED: u8 = 0;
const KEPT: u8 = 1;
const DIRECT: u8 = 2;
const PASSTHROUGH: u8 = 3;
const BESIDE: u8 = 4;
