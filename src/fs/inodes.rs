//! The inode table: which [`NodeId`] stands for which object, and how often the kernel was told so.
//!
//! An inode lives from the first lookup that finds its object until the kernel has forgotten all its lookups. Both
//! directions (id to inode, object to inode) change only under the lock of the object's shard, so a lookup and a
//! forget of one object cannot pass each other. Lock order: an object's shard, then `by_id`.
//!
//! What is kept is data (see [`ObjectId`]), so that a successor can rebuild it.

use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use dashmap::DashMap;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::inode::{Inode, pack};
use super::listed::Listed;
use super::{Errno, NodeId};
use crate::backing::{BackingFs, Found, Identified, MountIndex, ObjectId};
use crate::policy::FileKind;
use crate::state::inode::InodeData;
use crate::state::layout::HeaderWord;
use crate::state::table::RecordId;
use crate::state::{State, journal};
use crate::sys::sync::{Mutex, MutexGuard, moment};
use crate::sys::{descriptors, fault, heap};

/// Inodes forgotten between two looks at whether memory is to be given back.
const FORGOTTEN: usize = 1 << 15;

/// Shards of the object index: enough that 64 threads rarely meet.
const SHARDS: usize = 64;

/// The type bits of a mode, which fit.
fn kind_bits(kind: FileKind) -> u8 {
    u8::try_from(kind.bits() >> 12 & 0xf).unwrap_or_default()
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
    // Seeded at random as std's is, with a few multiplications where that one has a hundred instructions. The numbers are a
    // server's, and nobody sees how they are hashed.
    by_id: DashMap<NodeId, Arc<Inode<B>>, DefaultHashBuilder>,
    hasher: DefaultHashBuilder,
    state: Arc<State>,
    /// Whether any is lost.
    pub(super) has_lost: bool,
    /// Inodes forgotten since memory was last given back.
    forgotten: AtomicUsize,
}

impl<B: BackingFs> InodeTable<B> {
    /// A table that knows the root, which is never forgotten.
    ///
    /// # Errors
    /// ENFILE where `state` has no room.
    pub(crate) fn new(backing: &B, root: Found<B::Node>, state: Arc<State>) -> Result<Self, Errno> {
        let table = Self::empty(state);
        table.enter(backing, root.into())?;
        Ok(table)
    }

    fn empty(state: Arc<State>) -> Self {
        Self {
            by_object: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            by_id: DashMap::default(),
            hasher: DefaultHashBuilder::default(),
            state,
            has_lost: false,
            forgotten: AtomicUsize::new(0),
        }
    }

    /// The table that another process has left in `state`, after what it did not finish was taken back.
    pub(crate) fn left_in(backing: &B, state: Arc<State>) -> Self {
        state.inodes.find_free();
        let mut table = Self::empty(state);
        for record in table.state.inodes.all() {
            let left = table.state.inodes.read(record);
            let node = NonZeroU64::new(left.node).map(NodeId);
            let known = table.state.inodes.lookups(record) > 0;
            let (Some(id), true, Some(kind)) = (node, known, FileKind::from_mode(u32::from(left.kind) << 12))
            else {
                // What it had open goes with it; its record first, so that nobody finds the numbers there once they are others'.
                let held = left.pin.into_iter().chain(table.state.inodes.removed(record));
                let held: Vec<_> = held.filter_map(|fd| descriptors::adopt(fd).ok()).collect();
                table.state.inodes.forget(record);
                table.state.inodes.give_back(record);
                drop(held);
                continue;
            };
            let mount = MountIndex(left.mount);
            let adopt = |fd: RawFd| {
                let adopted = descriptors::adopt(fd).and_then(|fd| backing.adopt_node(fd, mount));
                adopted.inspect_err(|error| tracing::error!(%error, fd, "an inode's descriptor is gone")).ok()
            };
            let pinned = left.pin.and_then(adopt);
            let removed = table.state.inodes.removed(record).and_then(adopt);
            let object = ObjectId { mount, ino: left.ino, handle: left.handle };
            let mut inode = Inode::new(id, object, kind, pinned, record, Arc::clone(&table.state));
            if kind == FileKind::Directory {
                inode.listed = Listed::inherited();
            }
            let inode = Arc::new(inode);
            if inode.lost {
                table.has_lost = true;
                table.by_id.insert(id, inode);
                continue;
            }
            if let Some(node) = removed {
                let _ = inode.live().removed.set(Arc::new(node));
            }
            let hash = table.hasher.hash_one(&inode.object);
            table.by_id.insert(id, Arc::clone(&inode));
            let mut shard = lock(table.shard(hash));
            match shard.find_mut(hash, |other| other.object == inode.object) {
                // One of the two was displaced: the older one.
                Some(other) if other.id > inode.id => {}
                Some(other) => *other = inode,
                None => _ = shard.insert_unique(hash, inode, |inode| table.hasher.hash_one(&inode.object)),
            }
        }
        table
    }

    /// Room for one more, or ENFILE.
    pub(super) fn has_room(&self) -> Result<(), Errno> {
        if self.len() < self.state.bounds.inodes { Ok(()) } else { Err(Errno::ENFILE) }
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<Arc<Inode<B>>> {
        moment();
        self.by_id.get(&id).map(|inode| Arc::clone(&inode))
    }

    /// The inode of an object, if the kernel knows it.
    pub(super) fn find(&self, object: &ObjectId) -> Option<Arc<Inode<B>>> {
        let hash = self.hasher.hash_one(object);
        lock(self.shard(hash)).find(hash, |inode| inode.object == *object).cloned()
    }

    /// The inode of what a lookup found, with one lookup more to forget.
    ///
    /// # Errors
    /// ENFILE where there is no room for another.
    pub(super) fn enter(&self, backing: &B, found: Identified<B::Node>) -> Result<Arc<Inode<B>>, Errno> {
        let Identified { pin, id: object, attr } = found;
        let hash = self.hasher.hash_one(&object);
        let mut shard = lock(self.shard(hash));
        if let Some(inode) = shard.find(hash, |inode| inode.object == object) {
            self.count(inode.record);
            inode.saw_owner(attr.owner());
            return Ok(Arc::clone(inode));
        }
        self.has_room()?;
        let descriptor = pin.as_ref().and_then(|pin| backing.node_descriptor(pin));
        descriptor.map_or(Ok(()), |fd| self.state.bounds.allow(fd))?;
        let id = NodeId(
            NonZeroU64::new(self.state.count(HeaderWord::NextNode))
                .expect("2^64 inodes take centuries to see"),
        );
        let data = InodeData {
            node: id.0.get(),
            mount: object.mount.0,
            ino: object.ino,
            handle: object.handle.clone(),
            kind: kind_bits(attr.kind),
            pin: descriptor,
        };
        fault::point!("inodes: before one is entered");
        let record = self.state.inodes.enter(&data, pack(attr.owner()))?;
        fault::point!("inodes: entered, not counted");
        self.count(record);
        fault::point!("inodes: entered");
        let inode = Arc::new(Inode::new(id, object, attr.kind, pin, record, Arc::clone(&self.state)));
        moment();
        self.by_id.insert(id, Arc::clone(&inode));
        moment();
        shard.insert_unique(hash, Arc::clone(&inode), |inode| self.hasher.hash_one(&inode.object));
        Ok(inode)
    }

    /// From now on a lookup of what this inode is finds another one. Who has this one goes on with it, until the kernel forgets it.
    pub(super) fn displace(&self, inode: &Inode<B>) {
        let hash = self.hasher.hash_one(&inode.object);
        if let Ok(entry) = lock(self.shard(hash)).find_entry(hash, |other| other.id == inode.id) {
            entry.remove();
        }
    }

    /// Counts a lookup; under the object's shard.
    fn count(&self, record: RecordId) {
        let before = self.state.inodes.lookups(record);
        journal::counting(record, before);
        self.state.inodes.set_lookups(record, before + 1);
        journal::counted();
    }

    /// Counts one lookup more of a known inode: a link's new name.
    pub(super) fn enter_again(&self, inode: &Arc<Inode<B>>) {
        let hash = self.hasher.hash_one(&inode.object);
        let _shard = lock(self.shard(hash));
        self.count(inode.record);
    }

    /// Takes `lookups` back; the inode goes with the last one, and its kind is the answer then. A number that is too large, or an
    /// id that is unknown, is the kernel's mistake and does nothing worse than that.
    pub(crate) fn forget(&self, id: NodeId, lookups: u64) -> Option<FileKind> {
        let inode = if id == NodeId::ROOT { None } else { self.get(id) };
        let Some(inode) = inode else {
            journal::forgot();
            return None;
        };
        let hash = self.hasher.hash_one(&inode.object);
        let mut shard = lock(self.shard(hash));
        let left = self.state.inodes.lookups(inode.record).saturating_sub(lookups);
        let mut forgotten = 0;
        journal::forgetting(inode.record, left);
        self.state.inodes.set_lookups(inode.record, left);
        // An inode that was forgotten twice at once has no record any more.
        moment();
        let gone = left == 0 && self.by_id.remove(&id).is_some();
        if gone {
            if let Ok(entry) = shard.find_entry(hash, |other| other.id == id) {
                entry.remove();
            }
            // Its place is free when the last who works with it is done.
            self.state.inodes.forget(inode.record);
            forgotten = self.forgotten.fetch_add(1, Ordering::Relaxed) + 1;
        }
        drop(shard);
        journal::forgot();
        if forgotten > 0 && forgotten.is_multiple_of(FORGOTTEN) {
            self.give_back_memory(forgotten);
        }
        gone.then_some(inode.kind)
    }

    /// Gives memory back, after `forgotten` inodes were, where fewer than those are left. Nobody waits for a forget, and no lock is
    /// held for longer than a shard or the list of free records takes.
    fn give_back_memory(&self, forgotten: usize) {
        let left = self.len();
        if forgotten < left {
            return;
        }
        self.forgotten.store(0, Ordering::Relaxed);
        for shard in &self.by_object {
            lock(shard).shrink_to(0, |inode| self.hasher.hash_one(&inode.object));
        }
        self.by_id.shrink_to_fit();
        self.state.inodes.give_back_memory();
        heap::give_back();
        tracing::debug!(forgotten, left, "memory of forgotten inodes was given back");
    }

    /// The number that the next inode gets.
    pub(super) fn next_id(&self) -> u64 {
        self.state.get(HeaderWord::NextNode)
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
        moment();
        self.by_id.len()
    }

    fn shard(&self, hash: u64) -> &Shard<B> {
        // The top bits: hashbrown uses the low ones inside a shard.
        let index = usize::try_from(hash >> 58).expect("six bits");
        &self.by_object[index]
    }
}
