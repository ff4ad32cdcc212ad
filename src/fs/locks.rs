//! Locks that reach the server (`locks.scope = "server"`).
//!
//! A daemon is one process to fcntl(2), so the locks of all its pods would be one owner's. Each lock owner therefore
//! gets an open file description of its own, and OFD locks on that: they conflict exactly where the pods' own locks
//! would. flock(2) locks belong to an open file, so each of the kernel's that takes one gets one here.
//!
//! What this cannot do: tell a deadlock (EDEADLK); OFD locks, like NFS, do not look for one.

use std::num::NonZeroU64;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::handles::OpenFile;
use super::inode::Inode;
use super::inodes::lock;
use super::lock_table::{Holder, LockFile, Lockable, Written};
use super::lock_waiters::Waiting;
use super::{
    ByteRange, Errno, FileHandleId, Filesystem, HeldLock, LockKind, LockOwner, LockReply, LockRequest,
    NodeId, Pid, RequestId,
};
use crate::backing::BackingFs;
use crate::state::journal;
use crate::state::lock::{LockData, WaitingData};
use crate::state::slot::Slot;
use crate::state::table::RecordId;
use crate::sys::{descriptors, fault};

impl<B: BackingFs> Filesystem<B> {
    /// F_GETLK: the lock in the way, if one is.
    ///
    /// # Errors
    /// EBADF for a handle that is not open, else the backing's.
    pub fn getlk(&self, handle: FileHandleId, wanted: &LockRequest) -> Result<Option<HeldLock>, Errno> {
        let open = self.handles.file(handle)?;
        let table = &open.inode.live().locks;
        let own = lock(table).file_of(wanted.owner);
        let file = match &own {
            Some(own) => &own.file,
            None => self.at_hand(&open)?,
        };
        let Some((kind, range)) = self.backing.test_lock(file, wanted.kind, wanted.range)? else {
            return Ok(None);
        };
        let pid = lock(table).holder_of(wanted.owner, range).unwrap_or(Pid(0));
        Ok(Some(HeldLock { kind, range, pid }))
    }

    /// F_SETLK, or flock(2) with LOCK_NB, or an unlock: never waits.
    ///
    /// # Errors
    /// EAGAIN where somebody else has it; ENOLCK past [`MAX_LOCK_OWNERS`](super::lock_table::MAX_LOCK_OWNERS); EBADF as fcntl(2) and flock(2) have it.
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
        let record = match self.state.waiting.enter(&waiting_data(handle, wanted, request)) {
            Ok(record) => record,
            Err(error) => return reply(Err(error)),
        };
        fault::point!("locks: written down as waiting");
        journal::note(QUEUED, 1);
        fault::point!("locks: noted as waiting");
        self.queue(handle, wanted, Asks { request, record, was_left: false }, reply);
        fault::point!("locks: queued");
    }

    /// Queues a request that is written down.
    fn queue(self: &Arc<Self>, handle: FileHandleId, wanted: &LockRequest, asks: Asks, reply: LockReply) {
        let (state, filesystem, wanted) = (Arc::clone(&self.state), Arc::downgrade(self), *wanted);
        let Asks { request, record, was_left } = asks;
        let reply: LockReply = Box::new(move |mut outcome| {
            if outcome.is_ok()
                && let Some(filesystem) = filesystem.upgrade()
                && let Ok(open) = filesystem.handles.file(handle)
            {
                if was_left && let Ok(Some(target)) = filesystem.lockable(&open, handle, &wanted) {
                    outcome = filesystem.sees_through(&open, &target, &wanted);
                }
                match outcome {
                    Ok(()) => filesystem.locked(&open.inode, handle, &wanted),
                    Err(Errno::EAGAIN) => return filesystem.queue(handle, &wanted, asks, reply),
                    Err(_) => {}
                }
            }
            // Once it is answered the lock is its owner's to let go, and must not be taken again.
            state.waiting.answer(record, outcome.err().map_or(0, Errno::raw));
            reply(outcome);
            fault::point!("locks: answered");
            state.waiting.forget(record);
            fault::point!("locks: waits no more");
        });
        let target = self
            .handles
            .file(handle)
            .and_then(|open| self.lockable(&open, handle, &wanted)?.ok_or(Errno::EAGAIN));
        match target {
            Err(error) => reply(Err(error)),
            Ok(target) => self.waiters.wait(Waiting { request, target, kind: wanted.kind, reply }),
        }
    }

    /// Goes on with the lock requests that waited when the process before this one died. `reply` makes the answer to one;
    /// each was the business of no slot any more.
    pub fn go_on_waiting(self: &Arc<Self>, reply: impl Fn(RequestId) -> LockReply) {
        let left: Vec<RecordId> = self.state.waiting.all().collect();
        for record in left {
            let (handle, wanted, request) = waiting_of(&self.state.waiting.read(record));
            match self.state.waiting.answered(record) {
                Some(0) => self.answer_again(record, reply(request), Ok(())),
                Some(error) => self.answer_again(record, reply(request), Err(Errno::from_raw(error))),
                None => {
                    self.queue(handle, &wanted, Asks { request, record, was_left: true }, reply(request));
                }
            }
        }
    }

    /// Whether the request in a slot is written down as one that waits, and so is the slot's business no more.
    pub fn is_waiting(&self, slot: &Slot) -> bool {
        let request = slot.request();
        let queued = journal::has_noted(&slot.control, QUEUED);
        queued
            || self.state.waiting.all().any(|record| Some(self.state.waiting.read(record).request) == request)
    }

    fn answer_again(&self, record: RecordId, reply: LockReply, outcome: Result<(), Errno>) {
        reply(outcome);
        self.state.waiting.forget(record);
    }

    /// The lock owners that another process has left.
    pub(super) fn take_over_locks(&self) {
        self.state.locks.find_free();
        self.state.waiting.find_free();
        let left: Vec<RecordId> = self.state.locks.all().collect();
        for record in left {
            let inode = |node| self.inodes.get(NodeId(NonZeroU64::new(node)?));
            let data = self.state.locks.read(record);
            let Some((data, inode)) = data.and_then(|data| inode(data.node).map(|inode| (data, inode)))
            else {
                self.state.locks.forget(record);
                continue;
            };
            let mount = inode.object.mount;
            let adopted = descriptors::adopt(data.fd)
                .and_then(|fd| self.backing.adopt_file(fd, mount, OFlag::O_RDONLY))
                .and_then(LockFile::new);
            let Ok(file) = adopted.inspect_err(|error| tracing::error!(%error, "a lock is gone")) else {
                self.state.locks.forget(record);
                continue;
            };
            let written = Written { record, node: inode.id, fd: data.fd, state: Arc::clone(&self.state) };
            lock(&inode.live().locks).enter_left(Holder {
                owner: LockOwner(data.owner),
                handle: FileHandleId(data.handle),
                pid: Pid(data.pid),
                ranges: data
                    .ranges
                    .iter()
                    .map(|&(exclusive, start, end)| named(exclusive, start, end))
                    .collect(),
                all_named: data.all_named,
                written: Some(written),
                file: Arc::new(file),
            });
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
        let dropped = lock(&live.locks).take(owner);
        if dropped.is_some() {
            // The descriptor closes here, and its locks with it.
            drop(dropped);
            fault::point!("locks: an owner's are dropped");
            self.waiters.wake();
        }
    }

    /// The last close of an open file: locks of an open file description (F_OFD_SETLK), which no flush names, go with it.
    /// A process's own locks were dropped when it closed the file.
    pub(super) fn drop_locks_through(&self, inode: &Inode<B>, handle: FileHandleId) {
        let Some(live) = inode.live_if_any() else { return };
        let dropped = lock(&live.locks).take_through(handle);
        drop(dropped);
    }

    fn try_lock(&self, handle: FileHandleId, wanted: &LockRequest) -> Result<(), Errno> {
        let open = self.handles.file(handle)?;
        let Some(target) = self.lockable(&open, handle, wanted)? else { return Ok(()) };
        target.set(&self.backing, wanted.kind)?;
        fault::point!("locks: had");
        if journal::is_replay() {
            self.sees_through(&open, &target, wanted)?;
        }
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
        let known = lock(table).file_of(wanted.owner);
        let file = match known {
            Some(file) => file,
            None if wanted.kind == LockKind::Unlock => return Ok(None),
            None => {
                let file = self.open_for_locks(open)?;
                let written = self.write_down(open, handle, wanted, &file)?;
                let file = Arc::new(LockFile::new(file)?);
                lock(table).adopt(wanted, handle, file, written)
            }
        };
        Ok(Some(Lockable::Range(file, wanted.range)))
    }

    /// Writes a new owner down, where its file has a descriptor.
    fn write_down(
        &self,
        open: &OpenFile<B>,
        handle: FileHandleId,
        wanted: &LockRequest,
        file: &B::File,
    ) -> Result<Option<Written>, Errno> {
        let Some(fd) = self.backing.file_descriptor(file) else { return Ok(None) };
        let (owner, node, handle, pid) = (wanted.owner.0, open.inode.id.0.get(), handle.0, wanted.pid.0);
        let record = self.state.locks.enter(&LockData {
            owner,
            node,
            handle,
            pid,
            fd,
            ranges: Vec::new(),
            all_named: true,
        })?;
        Ok(Some(Written { record, node: open.inode.id, fd, state: Arc::clone(&self.state) }))
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
            let file = self.backing.open_to_lock(&open.opener, &node, open.flags & OFlag::O_ACCMODE)?;
            self.handles.add_flocked(&self.backing, open, file);
        }
        Ok(Some(Lockable::Whole(Arc::clone(open))))
    }

    /// A file for an owner's locks: of either kind where the opener may write, else of the kind that `open` allows.
    ///
    /// Locks are the open file's affair: whoever was handed the descriptor may set them, as whom it was opened.
    pub(super) fn open_for_locks(&self, open: &OpenFile<B>) -> Result<B::File, Errno> {
        let node = self.resolve(&open.opener, &open.inode)?;
        let policy = self.reign.load_full();
        let scope = self.scope(&policy, &open.opener, &open.inode);
        let read_only = policy.scopes().rules(scope).read_only;
        if !read_only {
            match self.backing.open(&open.opener, &node, OFlag::O_RDWR) {
                // The opener may not write: then only what was opened for.
                Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY) => {}
                opened => return opened,
            }
        }
        self.backing.open_to_lock(&open.opener, &node, open.flags & OFlag::O_ACCMODE)
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

/// A request that waits, and is written down as `record`.
#[derive(Debug, Clone, Copy)]
struct Asks {
    request: RequestId,
    record: RecordId,
    /// A worker before this one has waited with it.
    was_left: bool,
}

/// The piece of evidence that says that a request is written down as waiting, and is the slot's business no more.
const QUEUED: usize = 3;

fn named(exclusive: bool, start: u64, end: u64) -> (LockKind, ByteRange) {
    (if exclusive { LockKind::Exclusive } else { LockKind::Shared }, ByteRange { start, end })
}

fn waiting_data(handle: FileHandleId, wanted: &LockRequest, request: RequestId) -> WaitingData {
    WaitingData {
        request: request.0,
        handle: handle.0,
        owner: wanted.owner.0,
        range: (wanted.range.start, wanted.range.end),
        pid: wanted.pid.0,
        exclusive: wanted.kind == LockKind::Exclusive,
        flock: wanted.flock,
    }
}

fn waiting_of(data: &WaitingData) -> (FileHandleId, LockRequest, RequestId) {
    let (kind, range) = named(data.exclusive, data.range.0, data.range.1);
    let (owner, pid) = (LockOwner(data.owner), Pid(data.pid));
    let wanted = LockRequest { owner, flock: data.flock, kind, range, pid };
    (FileHandleId(data.handle), wanted, RequestId(data.request))
}
