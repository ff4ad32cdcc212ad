//! An inode: an object that the kernel knows, and what is kept for it.
//!
//! Most of it is in the record, in shared memory, and outlives this process. The descriptors in [`Live`] are not state
//! but a convenience that can be opened again. Who enters and forgets inodes is the table ([`super::inodes`]).

use std::os::fd::RawFd;
use std::sync::{Arc, OnceLock};

use super::NodeId;
use super::content::OpenContent;
use super::handles::OpenFile;
use super::inodes::lock;
use super::listed::Listed;
use super::lock_table::LockTable;
use super::places::Place;
use super::told::Told;
use super::walks::Changes;
use crate::backing::{BackingFs, ObjectId};
use crate::policy::{FileKind, NfsGid, NfsUid, Owner};
use crate::state::State;
use crate::state::table::RecordId;
use crate::sys::sync::Mutex;

/// An object that the kernel knows.
#[derive(Debug)]
pub(crate) struct Inode<B: BackingFs> {
    /// The kernel's name for it.
    pub(crate) id: NodeId,
    /// Its identity.
    pub(crate) object: ObjectId,
    /// Its kind, which never changes.
    pub(crate) kind: FileKind,
    /// What pins it, on a filesystem without handles.
    pub(super) pinned: Option<B::Node>,
    /// Processes that died with all that they had open had something of it that cannot be had again (`reopen`). The object is another
    /// inode for whoever finds it now.
    pub(super) lost: bool,
    /// Where it is written down: how many lookups the kernel has not forgotten (changes under the object's shard only), and owner and
    /// group when it was last looked at (as whom to find it again where the caller cannot).
    pub(super) record: RecordId,
    state: Arc<State>,
    /// Where in the tree of path rules it lies; kept only where there are path rules.
    pub(super) place: Mutex<Option<Box<Place<B>>>>,
    /// What the kernel has of the listing of a directory.
    pub(super) listed: Listed,
    pub(super) told: Told,
    live: OnceLock<Box<Live<B>>>,
}

impl<B: BackingFs> Drop for Inode<B> {
    fn drop(&mut self) {
        self.state.inodes.give_back(self.record);
    }
}

/// What an inode has only while somebody uses it.
#[derive(Debug)]
pub(super) struct Live<B: BackingFs> {
    /// A directory's descriptor, one of a bounded number (see `visit`).
    pub(super) directory: Mutex<Option<Arc<B::Node>>>,
    /// On a local filesystem, a removed object that the kernel still knew: somebody's working directory, say. Kept until
    /// the kernel forgets it; without a name, its handle is stale.
    pub(super) removed: OnceLock<Arc<B::Node>>,
    /// Open files: how an object without a name is reached.
    pub(super) open: Mutex<Vec<Arc<OpenFile<B>>>>,
    /// Byte-range locks.
    pub(super) locks: Mutex<LockTable<B>>,
    /// How its open files reach its content.
    pub(super) content: Mutex<OpenContent>,
    /// What has changed in it, a directory.
    pub(super) changes: Changes,
}

impl<B: BackingFs> Live<B> {
    /// A file that is open here, and not only for whoever uses the mount.
    pub(super) fn at_hand(&self) -> Option<Arc<OpenFile<B>>> {
        lock(&self.open).iter().find(|open| open.file.get().is_some()).cloned()
    }
}

impl<B: BackingFs> Inode<B> {
    /// One that has its record in `state`, which it gives back in the end.
    pub(super) fn new(
        id: NodeId,
        object: ObjectId,
        kind: FileKind,
        pinned: Option<B::Node>,
        record: RecordId,
        state: Arc<State>,
    ) -> Self {
        Self {
            id,
            object,
            kind,
            pinned,
            lost: state.inodes.is_lost(record),
            record,
            state,
            place: Mutex::new(None),
            listed: Listed::default(),
            told: Told::default(),
            live: OnceLock::new(),
        }
    }

    /// Owner and group when last seen; whether it hands its group down is not kept.
    #[inline]
    pub(super) fn last_owner(&self) -> Owner {
        let packed = self.state.inodes.owner(self.record).to_be_bytes();
        let [a, b, c, d, e, f, g, h] = packed;
        let (uid, gid) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        Owner {
            uid: NfsUid::new(uid).unwrap_or(NfsUid::NOBODY),
            gid: NfsGid::new(gid).unwrap_or(NfsGid::NOBODY),
            setgid: false,
        }
    }

    #[inline]
    pub(super) fn saw_owner(&self, owner: Owner) {
        self.state.inodes.set_owner(self.record, pack(owner));
    }

    /// It may be about to lose its last name, or not (none): how a successor reaches it then.
    pub(super) fn about_to_go(&self, descriptor: Option<RawFd>) {
        // A worker before this one may have seen it go.
        if self.live().removed.get().is_none() {
            self.state.inodes.set_removed(self.record, descriptor);
        }
    }

    #[inline]
    pub(super) fn live(&self) -> &Live<B> {
        self.live.get_or_init(|| {
            Box::new(Live {
                directory: Mutex::new(None),
                removed: OnceLock::new(),
                open: Mutex::new(Vec::new()),
                locks: Mutex::new(LockTable::default()),
                content: Mutex::default(),
                changes: Changes::default(),
            })
        })
    }

    /// [`Self::live`], where anybody has needed it yet.
    #[inline]
    pub(super) fn live_if_any(&self) -> Option<&Live<B>> {
        self.live.get().map(|live| &**live)
    }
}

/// As the record has it.
#[inline]
pub(super) fn pack(owner: Owner) -> u64 {
    u64::from(owner.uid.get()) << 32 | u64::from(owner.gid.get())
}
