//! Open files: what the kernel's file handles stand for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use nix::fcntl::OFlag;

use super::inodes::{Inode, lock};
use super::{Content, Errno, FileHandleId};
use crate::backing::BackingFs;
use crate::policy::Credentials;

/// Open files of one mount: each holds a descriptor, so this stays below RLIMIT_NOFILE.
pub(crate) const MAX_OPEN: usize = 1 << 19;

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile<B: BackingFs> {
    pub(super) inode: Arc<Inode<B>>,
    pub(super) file: B::File,
    /// As whom it was opened: the identity of everything done through it.
    pub(super) opener: Credentials,
    pub(super) flags: OFlag,
    /// How the kernel treats its content.
    pub(super) content: Content,
    /// What flock(2) is taken on, once it was asked for. Not `file`: under passthrough the kernel may hold that for
    /// others who have the same file open, and the lock with it.
    pub(super) flocked: OnceLock<B::File>,
}

impl<B: BackingFs> OpenFile<B> {
    /// Whether it was opened for writing.
    pub(super) fn writes(&self) -> bool {
        self.flags & OFlag::O_ACCMODE != OFlag::O_RDONLY
    }
}

/// The handles of one mount.
#[derive(Debug)]
pub(crate) struct Handles<B: BackingFs> {
    files: DashMap<FileHandleId, Arc<OpenFile<B>>>,
    next: AtomicU64,
    open: AtomicUsize,
}

impl<B: BackingFs> Handles<B> {
    pub(crate) fn new() -> Self {
        Self { files: DashMap::new(), next: AtomicU64::new(1), open: AtomicUsize::new(0) }
    }

    /// Room for one more, or ENFILE.
    pub(super) fn has_room(&self) -> Result<(), Errno> {
        if self.len() < MAX_OPEN { Ok(()) } else { Err(Errno::ENFILE) }
    }

    pub(super) fn add_file(&self, open: OpenFile<B>) -> FileHandleId {
        let open = Arc::new(open);
        let id = self.fresh_id();
        self.open.fetch_add(1, Ordering::Relaxed);
        lock(&open.inode.live().open).push(Arc::clone(&open));
        self.files.insert(id, open);
        id
    }

    /// EBADF for a handle that is not open.
    pub(super) fn file(&self, id: FileHandleId) -> Result<Arc<OpenFile<B>>, Errno> {
        self.files.get(&id).map(|open| Arc::clone(&open)).ok_or(Errno::EBADF)
    }

    /// The file, whose last reference this mostly is.
    pub(super) fn remove_file(&self, id: FileHandleId) -> Option<Arc<OpenFile<B>>> {
        let (_, open) = self.files.remove(&id)?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        let mut others = lock(&open.inode.live().open);
        if let Some(at) = others.iter().rposition(|other| Arc::ptr_eq(other, &open)) {
            others.swap_remove(at);
        }
        drop(others);
        Some(open)
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn fresh_id(&self) -> FileHandleId {
        FileHandleId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}
