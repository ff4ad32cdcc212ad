//! The inode table: which [`NodeId`] stands for which object, and how often the kernel was told so.
//!
//! An inode lives from the first lookup that finds its object until the kernel has forgotten all its lookups. Both
//! directions (id to inode, object to inode) change only under the lock of the object's shard, so a lookup and a
//! forget of one object cannot pass each other. Lock order: an object's shard, then `by_id`.
//!
//! What is kept is data (see [`ObjectId`]), so that a successor could rebuild it; the descriptors in [`Live`] are not
//! state but a convenience that can be opened again.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dashmap::DashMap;
use hashbrown::HashTable;

use super::NodeId;
use super::content::OpenContent;
use super::handles::OpenFile;
use super::locks::LockTable;
use super::places::Place;
use crate::backing::{BackingFs, Found, Identified, ObjectId};
use crate::policy::{FileKind, NfsGid, NfsUid, Owner};

/// Shards of the object index: enough that 64 threads rarely meet.
const SHARDS: usize = 64;

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
    /// Lookups that the kernel has not forgotten. Changes under the object's shard only.
    lookups: AtomicU64,
    /// Where in the tree of path rules it lies; kept only where there are path rules.
    pub(super) place: Mutex<Option<Box<Place<B>>>>,
    /// Owner and group when it was last looked at: as whom to find it again where the caller cannot.
    owner: AtomicU64,
    /// When the kernel was given a listing of this directory; 0 where it has none.
    listed: AtomicU32,
    live: OnceLock<Box<Live<B>>>,
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
}

impl<B: BackingFs> Inode<B> {
    /// Owner and group when last seen; whether it hands its group down is not kept.
    pub(super) fn last_owner(&self) -> Owner {
        let packed = self.owner.load(Ordering::Relaxed).to_be_bytes();
        let [a, b, c, d, e, f, g, h] = packed;
        let (uid, gid) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        Owner {
            uid: NfsUid::new(uid).unwrap_or(NfsUid::NOBODY),
            gid: NfsGid::new(gid).unwrap_or(NfsGid::NOBODY),
            setgid: false,
        }
    }

    pub(super) fn saw_owner(&self, owner: Owner) {
        let packed = u64::from(owner.uid.get()) << 32 | u64::from(owner.gid.get());
        if self.owner.load(Ordering::Relaxed) != packed {
            self.owner.store(packed, Ordering::Relaxed);
        }
    }

    /// The kernel was given a listing of this directory, at a moment that is never 0.
    pub(super) fn set_listed(&self, moment: u32) {
        self.listed.store(moment, Ordering::Relaxed);
    }

    /// When it was, unless [`Self::forget_listed`] has been called since.
    pub(super) fn listed(&self) -> Option<u32> {
        Some(self.listed.load(Ordering::Relaxed)).filter(|moment| *moment != 0)
    }

    /// The kernel has no listing any more.
    pub(super) fn forget_listed(&self) {
        self.listed.store(0, Ordering::Relaxed);
    }

    pub(super) fn live(&self) -> &Live<B> {
        self.live.get_or_init(|| {
            Box::new(Live {
                directory: Mutex::new(None),
                removed: OnceLock::new(),
                open: Mutex::new(Vec::new()),
                locks: Mutex::new(LockTable::default()),
                content: Mutex::default(),
            })
        })
    }

    /// [`Self::live`], where anybody has needed it yet.
    pub(super) fn live_if_any(&self) -> Option<&Live<B>> {
        self.live.get().map(|live| &**live)
    }
}

/// A mutex whose data stays meaningful after a panic elsewhere: every change under it is a single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The inodes of the objects whose identity hashes here.
type Shard<B> = Mutex<HashTable<Arc<Inode<B>>>>;

/// The table of one mount.
#[derive(Debug)]
pub(crate) struct InodeTable<B: BackingFs> {
    by_object: Box<[Shard<B>]>,
    by_id: DashMap<NodeId, Arc<Inode<B>>>,
    hasher: RandomState,
    next: AtomicU64,
}

impl<B: BackingFs> InodeTable<B> {
    /// A table that knows the root, which is never forgotten.
    pub(crate) fn new(root: Found<B::Node>) -> Self {
        let table = Self {
            by_object: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            by_id: DashMap::new(),
            hasher: RandomState::new(),
            next: AtomicU64::new(NodeId::ROOT.0.get()),
        };
        table.enter(root.into());
        table
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<Arc<Inode<B>>> {
        self.by_id.get(&id).map(|inode| Arc::clone(&inode))
    }

    /// The inode of an object, if the kernel knows it.
    pub(super) fn find(&self, object: &ObjectId) -> Option<Arc<Inode<B>>> {
        let hash = self.hasher.hash_one(object);
        lock(self.shard(hash)).find(hash, |inode| inode.object == *object).cloned()
    }

    /// The inode of what a lookup found, with one lookup more to forget.
    pub(super) fn enter(&self, found: Identified<B::Node>) -> Arc<Inode<B>> {
        let Identified { pin, id: object, attr } = found;
        let hash = self.hasher.hash_one(&object);
        let mut shard = lock(self.shard(hash));
        if let Some(inode) = shard.find(hash, |inode| inode.object == object) {
            inode.lookups.fetch_add(1, Ordering::Relaxed);
            inode.saw_owner(attr.owner());
            return Arc::clone(inode);
        }
        let id = NodeId(
            NonZeroU64::new(self.next.fetch_add(1, Ordering::Relaxed))
                .expect("2^64 inodes take centuries to see"),
        );
        let inode = Arc::new(Inode {
            id,
            pinned: pin,
            object,
            kind: attr.kind,
            lookups: AtomicU64::new(1),
            place: Mutex::new(None),
            owner: AtomicU64::new(0),
            listed: AtomicU32::new(0),
            live: OnceLock::new(),
        });
        inode.saw_owner(attr.owner());
        self.by_id.insert(id, Arc::clone(&inode));
        shard.insert_unique(hash, Arc::clone(&inode), |inode| self.hasher.hash_one(&inode.object));
        inode
    }

    /// Counts one lookup more of a known inode: a link's new name.
    pub(super) fn enter_again(&self, inode: &Arc<Inode<B>>) {
        let hash = self.hasher.hash_one(&inode.object);
        let _shard = lock(self.shard(hash));
        inode.lookups.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes `lookups` back; the inode goes with the last one. A number that is too large, or an id that is unknown, is
    /// the kernel's mistake and does nothing worse than that.
    pub(crate) fn forget(&self, id: NodeId, lookups: u64) {
        if id == NodeId::ROOT {
            return;
        }
        let Some(inode) = self.get(id) else { return };
        let hash = self.hasher.hash_one(&inode.object);
        let mut shard = lock(self.shard(hash));
        let left = inode.lookups.load(Ordering::Relaxed).saturating_sub(lookups);
        inode.lookups.store(left, Ordering::Relaxed);
        if left == 0 {
            self.by_id.remove(&id);
            if let Ok(entry) = shard.find_entry(hash, |other| other.id == id) {
                entry.remove();
            }
        }
    }

    /// The number that the next inode gets.
    pub(super) fn next_id(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Gives `each` all inodes that the kernel knows, in batches and without a lock held; until it breaks off.
    pub(super) fn for_each(
        &self,
        mut each: impl FnMut(&Arc<Inode<B>>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for shard in &self.by_object {
            let batch: Vec<_> = lock(shard).iter().cloned().collect();
            batch.iter().try_for_each(&mut each)?;
        }
        ControlFlow::Continue(())
    }

    /// How many inodes the kernel knows.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn shard(&self, hash: u64) -> &Shard<B> {
        // The top bits: hashbrown uses the low ones inside a shard.
        let index = usize::try_from(hash >> 58).expect("six bits");
        &self.by_object[index]
    }
}
