//! Locks that reach the server (`locks.scope = "server"`).
//!
//! A daemon is one process to fcntl(2), so the locks of all its pods would be one owner's. Each lock owner therefore
//! gets an open file description of its own, and OFD locks on that: they conflict exactly where the pods' own locks
//! would. flock(2) locks belong to an open file, so each of the kernel's that takes one gets one here.
//!
//! What this cannot do: tell a deadlock (EDEADLK); OFD locks, like NFS, do not look for one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::OFlag;

use super::handles::OpenFile;
use super::inodes::{Inode, lock};
use super::lock_waiters::Waiting;
use super::{
    ByteRange, Errno, FileHandleId, Filesystem, HeldLock, LockKind, LockOwner, LockReply, LockRequest,
    NodeId, Pid, RequestId,
};
use crate::backing::BackingFs;

/// Lock owners per mount: each holds a descriptor from its first lock on a file to its next close of it.
const MAX_LOCK_OWNERS: usize = 1 << 16;

/// Ranges remembered per owner and file, for naming the holder in F_GETLK; locks themselves have no such bound.
const MAX_NAMED_RANGES: usize = 64;

/// Owners in this process, of all mounts.
static LOCK_OWNERS: AtomicUsize = AtomicUsize::new(0);

/// The byte-range locks of one inode.
#[derive(Debug)]
pub(super) struct LockTable<B: BackingFs> {
    owners: Vec<Holder<B>>,
}

impl<B: BackingFs> Default for LockTable<B> {
    fn default() -> Self {
        Self { owners: Vec::new() }
    }
}

#[derive(Debug)]
struct Holder<B: BackingFs> {
    owner: LockOwner,
    /// The open file through which it last asked.
    handle: FileHandleId,
    pid: Pid,
    file: Arc<LockFile<B>>,
    ranges: Vec<(LockKind, ByteRange)>,
}

/// An owner's open file: what its locks hang on.
#[derive(Debug)]
pub(super) struct LockFile<B: BackingFs> {
    file: B::File,
}

impl<B: BackingFs> LockFile<B> {
    fn new(file: B::File) -> Result<Self, Errno> {
        if LOCK_OWNERS.fetch_add(1, Ordering::Relaxed) >= MAX_LOCK_OWNERS {
            LOCK_OWNERS.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOLCK);
        }
        Ok(Self { file })
    }
}

impl<B: BackingFs> Drop for LockFile<B> {
    fn drop(&mut self) {
        LOCK_OWNERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a lock is taken on.
#[derive(Debug, Clone)]
pub(super) enum Lockable<B: BackingFs> {
    /// fcntl(2): the owner's file.
    Range(Arc<LockFile<B>>, ByteRange),
    /// flock(2): the open file's own.
    Whole(Arc<OpenFile<B>>),
}

impl<B: BackingFs> Lockable<B> {
    /// Tries once. EAGAIN where somebody else has it.
    pub(super) fn set(&self, backing: &B, kind: LockKind) -> Result<(), Errno> {
        match self {
            Self::Range(lock, range) => backing.set_lock(&lock.file, kind, *range),
            Self::Whole(open) => match open.flocked.get() {
                Some(file) => backing.flock(file, kind),
                None => Ok(()),
            },
        }
        .map_err(|error| if error == Errno::EACCES { Errno::EAGAIN } else { error })
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// F_GETLK: the lock in the way, if one is.
    ///
    /// # Errors
    /// EBADF for a handle that is not open, else the backing's.
    pub fn getlk(&self, handle: FileHandleId, wanted: &LockRequest) -> Result<Option<HeldLock>, Errno> {
        let open = self.handles.file(handle)?;
        let table = &open.inode.live().locks;
        let own =
            lock(table).owners.iter().find(|held| held.owner == wanted.owner).map(|held| held.file.clone());
        let file = own.as_ref().map_or(&open.file, |own| &own.file);
        let Some((kind, range)) = self.backing.test_lock(file, wanted.kind, wanted.range)? else {
            return Ok(None);
        };
        let pid = lock(table).holder_of(wanted.owner, range).unwrap_or(Pid(0));
        Ok(Some(HeldLock { kind, range, pid }))
    }

    /// F_SETLK, or flock(2) with LOCK_NB, or an unlock: never waits.
    ///
    /// # Errors
    /// EAGAIN where somebody else has it; ENOLCK past [`MAX_LOCK_OWNERS`]; EBADF as fcntl(2) and flock(2) have it.
    pub fn setlk(&self, handle: FileHandleId, wanted: &LockRequest) -> Result<(), Errno> {
        match self.try_lock(handle, wanted) {
            Err(Errno::EAGAIN) => {
                // A close that came before may still be letting the lock go: the kernel does not wait for it.
                self.releases.settle();
                self.try_lock(handle, wanted)
            }
            done => done,
        }
    }

    /// F_SETLKW, or flock(2): waits without holding the calling thread; `reply` is called when the lock is had, refused,
    /// or the wait interrupted.
    pub fn setlkw(
        self: &Arc<Self>,
        handle: FileHandleId,
        wanted: &LockRequest,
        request: RequestId,
        reply: LockReply,
    ) {
        match self.try_lock(handle, wanted) {
            Err(Errno::EAGAIN) => {}
            done => return reply(done),
        }
        let target = self.handles.file(handle).and_then(|open| {
            let target = self.lockable(&open, handle, wanted)?.ok_or(Errno::EAGAIN)?;
            Ok((open, target))
        });
        match target {
            Err(error) => reply(Err(error)),
            Ok((open, target)) => {
                let (filesystem, wanted) = (Arc::downgrade(self), *wanted);
                let reply: LockReply = Box::new(move |outcome| {
                    if outcome.is_ok()
                        && let Some(filesystem) = filesystem.upgrade()
                    {
                        filesystem.locked(&open.inode, handle, &wanted);
                    }
                    reply(outcome);
                });
                self.waiters.wait(Waiting { request, target, kind: wanted.kind, reply });
            }
        }
    }

    /// Ends a waiting lock request with EINTR; remembered for a moment where it has not begun to wait yet.
    pub fn interrupt(&self, request: RequestId) {
        self.waiters.interrupt(request);
    }

    /// A close by `owner`: its byte-range locks on the file go.
    pub(super) fn drop_locks(&self, node: NodeId, owner: LockOwner) {
        let Some(inode) = self.inodes.get(node) else { return };
        let Some(live) = inode.live_if_any() else { return };
        let dropped = {
            let mut table = lock(&live.locks);
            let at = table.owners.iter().position(|held| held.owner == owner);
            at.map(|at| table.owners.swap_remove(at))
        };
        if dropped.is_some() {
            // The descriptor closes here, and its locks with it.
            drop(dropped);
            self.waiters.wake();
        }
    }

    /// The last close of an open file: locks of an open file description (F_OFD_SETLK), which no flush names, go with it.
    /// A process's own locks were dropped when it closed the file.
    pub(super) fn drop_locks_through(&self, inode: &Inode<B>, handle: FileHandleId) {
        let Some(live) = inode.live_if_any() else { return };
        let dropped: Vec<_> = lock(&live.locks).owners.extract_if(.., |held| held.handle == handle).collect();
        drop(dropped);
    }

    fn try_lock(&self, handle: FileHandleId, wanted: &LockRequest) -> Result<(), Errno> {
        let open = self.handles.file(handle)?;
        let Some(target) = self.lockable(&open, handle, wanted)? else { return Ok(()) };
        target.set(&self.backing, wanted.kind)?;
        self.locked(&open.inode, handle, wanted);
        Ok(())
    }

    /// What `wanted` is to be taken on; none for unlocking what was never locked.
    fn lockable(
        &self,
        open: &Arc<OpenFile<B>>,
        handle: FileHandleId,
        wanted: &LockRequest,
    ) -> Result<Option<Lockable<B>>, Errno> {
        if wanted.flock {
            return self.lockable_as_a_whole(open, wanted.kind);
        }
        let table = &open.inode.live().locks;
        let known =
            lock(table).owners.iter().find(|held| held.owner == wanted.owner).map(|held| held.file.clone());
        let file = match known {
            Some(file) => file,
            None if wanted.kind == LockKind::Unlock => return Ok(None),
            None => {
                let file = Arc::new(LockFile::new(self.open_for_locks(open)?)?);
                lock(table).adopt(wanted, handle, file)
            }
        };
        Ok(Some(Lockable::Range(file, wanted.range)))
    }

    fn lockable_as_a_whole(
        &self,
        open: &Arc<OpenFile<B>>,
        kind: LockKind,
    ) -> Result<Option<Lockable<B>>, Errno> {
        if open.flocked.get().is_none() {
            if kind == LockKind::Unlock {
                return Ok(None);
            }
            let node = self.resolve(&open.opener, &open.inode)?;
            let file = self.backing.open(&open.opener, &node, open.flags & OFlag::O_ACCMODE)?;
            // Where another thread was faster, it is that one's.
            let _ = open.flocked.set(file);
        }
        Ok(Some(Lockable::Whole(Arc::clone(open))))
    }

    /// A file for an owner's locks: of either kind where the opener may write, else of the kind that `open` allows.
    ///
    /// Locks are the open file's affair: whoever was handed the descriptor may set them, as whom it was opened.
    fn open_for_locks(&self, open: &OpenFile<B>) -> Result<B::File, Errno> {
        let node = self.resolve(&open.opener, &open.inode)?;
        let policy = self.reign.load_full();
        let scope = self.scope(&policy, &open.opener, &open.inode);
        let read_only = policy.scopes().rules(scope).read_only;
        if !read_only && let Ok(file) = self.backing.open(&open.opener, &node, OFlag::O_RDWR) {
            return Ok(file);
        }
        self.backing.open(&open.opener, &node, open.flags & OFlag::O_ACCMODE)
    }

    /// A lock was set: remember whose, wake who waits, and let the kernel forget what it cached before, since locks are
    /// how processes on two nodes agree that content is new.
    fn locked(&self, inode: &Arc<Inode<B>>, handle: FileHandleId, wanted: &LockRequest) {
        if !wanted.flock {
            lock(&inode.live().locks).record(handle, wanted);
        }
        if wanted.kind == LockKind::Unlock {
            self.waiters.wake();
        } else if let Some(kernel) = self.kernel.get() {
            kernel.forget_content(inode.id);
        }
    }
}

impl<B: BackingFs> LockTable<B> {
    /// Whether nobody has asked for a lock since they last closed the file.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Enters an owner's file, unless another thread of the same owner was faster.
    fn adopt(
        &mut self,
        wanted: &LockRequest,
        handle: FileHandleId,
        file: Arc<LockFile<B>>,
    ) -> Arc<LockFile<B>> {
        if let Some(known) = self.owners.iter().find(|held| held.owner == wanted.owner) {
            return Arc::clone(&known.file);
        }
        self.owners.push(Holder {
            owner: wanted.owner,
            handle,
            pid: wanted.pid,
            file: Arc::clone(&file),
            ranges: Vec::new(),
        });
        file
    }

    fn record(&mut self, handle: FileHandleId, set: &LockRequest) {
        let Some(held) = self.owners.iter_mut().find(|held| held.owner == set.owner) else { return };
        (held.pid, held.handle) = (set.pid, handle);
        held.ranges.retain(|(_, range)| !(set.range.start <= range.start && range.end <= set.range.end));
        if set.kind != LockKind::Unlock && held.ranges.len() < MAX_NAMED_RANGES {
            held.ranges.push((set.kind, set.range));
        }
    }

    fn holder_of(&self, asking: LockOwner, range: ByteRange) -> Option<Pid> {
        let overlaps = |held: &ByteRange| held.start <= range.end && range.start <= held.end;
        self.owners
            .iter()
            .find(|held| held.owner != asking && held.ranges.iter().any(|(_, range)| overlaps(range)))
            .map(|held| held.pid)
    }
}
