//! Who has locks on an inode, and on which open file of ours each owner's hang; written down for a successor.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::handles::OpenFile;
use super::{ByteRange, Errno, FileHandleId, LockKind, LockOwner, LockRequest, NodeId, Pid};
use crate::backing::BackingFs;
use crate::state::State;
use crate::state::lock::LockData;
use crate::state::table::RecordId;

/// Lock owners per mount: each holds a descriptor from its first lock on a file to its next close of it.
pub(super) const MAX_LOCK_OWNERS: usize = 1 << 16;

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

/// A lock owner.
#[derive(Debug)]
pub(super) struct Holder<B: BackingFs> {
    pub(super) owner: LockOwner,
    /// The open file through which it last asked.
    pub(super) handle: FileHandleId,
    pub(super) pid: Pid,
    pub(super) ranges: Vec<(LockKind, ByteRange)>,
    /// Whether those are all that it has.
    pub(super) all_named: bool,
    // Before the file, so that the record goes before the descriptor does.
    pub(super) written: Option<Written>,
    pub(super) file: Arc<LockFile<B>>,
}

impl<B: BackingFs> Holder<B> {
    fn write_down(&self) {
        if let Some(written) = &self.written {
            written.state.locks.update(written.record, &written.data(self));
        }
    }
}

/// Where an owner is written down for a successor. Gone with it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) record: RecordId,
    pub(super) node: NodeId,
    pub(super) fd: RawFd,
    pub(super) state: Arc<State>,
}

impl Written {
    fn data<B: BackingFs>(&self, held: &Holder<B>) -> LockData {
        LockData {
            owner: held.owner.0,
            node: self.node.0.get(),
            handle: held.handle.0,
            pid: held.pid.0,
            fd: self.fd,
            ranges: held
                .ranges
                .iter()
                .map(|(kind, range)| (*kind == LockKind::Exclusive, range.start, range.end))
                .collect(),
            all_named: held.all_named,
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.state.locks.forget(self.record);
    }
}

/// An owner's open file: what its locks hang on.
#[derive(Debug)]
pub(super) struct LockFile<B: BackingFs> {
    pub(super) file: B::File,
}

impl<B: BackingFs> LockFile<B> {
    /// # Errors
    /// ENOLCK past [`MAX_LOCK_OWNERS`].
    pub(super) fn new(file: B::File) -> Result<Self, Errno> {
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

impl<B: BackingFs> LockTable<B> {
    /// Whether nobody has asked for a lock since they last closed the file.
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// The file on which an owner's locks hang, if it has asked for one.
    pub(super) fn file_of(&self, owner: LockOwner) -> Option<Arc<LockFile<B>>> {
        self.owners.iter().find(|held| held.owner == owner).map(|held| Arc::clone(&held.file))
    }

    /// Takes an owner out, whose locks go when it is dropped.
    pub(super) fn take(&mut self, owner: LockOwner) -> Option<Holder<B>> {
        let at = self.owners.iter().position(|held| held.owner == owner)?;
        Some(self.owners.swap_remove(at))
    }

    /// Takes those out that last asked through this open file.
    pub(super) fn take_through(&mut self, handle: FileHandleId) -> Vec<Holder<B>> {
        self.owners.extract_if(.., |held| held.handle == handle).collect()
    }

    /// Enters one that another process has left.
    pub(super) fn enter_left(&mut self, left: Holder<B>) {
        self.owners.push(left);
    }

    /// Enters an owner's file, unless another thread of the same owner was faster.
    pub(super) fn adopt(
        &mut self,
        wanted: &LockRequest,
        handle: FileHandleId,
        file: Arc<LockFile<B>>,
        written: Option<Written>,
    ) -> Arc<LockFile<B>> {
        if let Some(known) = self.file_of(wanted.owner) {
            return known;
        }
        self.owners.push(Holder {
            owner: wanted.owner,
            handle,
            pid: wanted.pid,
            ranges: Vec::new(),
            all_named: true,
            written,
            file: Arc::clone(&file),
        });
        file
    }

    /// Remembers what was set, for [`Self::holder_of`] and for a successor.
    pub(super) fn record(&mut self, handle: FileHandleId, set: &LockRequest) {
        let Some(held) = self.owners.iter_mut().find(|held| held.owner == set.owner) else { return };
        held.handle = handle;
        // An unlock says nothing of who it is (`fuse_setlk`).
        if set.kind != LockKind::Unlock {
            held.pid = set.pid;
        }
        held.ranges.retain(|(_, range)| !(set.range.start <= range.start && range.end <= set.range.end));
        match set.kind {
            LockKind::Unlock if set.range == ByteRange::WHOLE => held.all_named = true,
            LockKind::Unlock => {}
            _ if held.ranges.len() < MAX_NAMED_RANGES => held.ranges.push((set.kind, set.range)),
            _ => held.all_named = false,
        }
        held.write_down();
    }

    /// Who else has a lock there, as far as it is remembered.
    pub(super) fn holder_of(&self, asking: LockOwner, range: ByteRange) -> Option<Pid> {
        let overlaps = |held: &ByteRange| held.start <= range.end && range.start <= held.end;
        self.owners
            .iter()
            .find(|held| held.owner != asking && held.ranges.iter().any(|(_, range)| overlaps(range)))
            .map(|held| held.pid)
    }
}
