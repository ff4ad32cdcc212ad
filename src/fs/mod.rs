//! Each operation, conducted: fetch the objects, decide as whom and how, do it at the backing, present the result.
//!
//! [`create`] is the one to read first. The rooms beside the operations: [`inodes`] and [`handles`] are the tables,
//! [`visit`] is how an operation comes to an object with a caller in hand.
//!
//! Not here: what FUSE looks like on the wire (`fuse/`), what may be done and as whom (`policy/`), how it is done
//! (`backing/`).

mod acl;
mod api;
mod attr;
mod clocks;
mod content;
mod create;
mod dir;
mod doors;
mod handles;
mod inode;
mod inodes;
mod io;
mod known;
mod lately;
mod link;
mod listed;
mod lock_replay;
mod lock_table;
mod lock_waiters;
mod locks;
mod lookup;
mod makers;
mod names;
mod open;
mod passthrough;
mod places;
mod readers;
mod reign;
mod releases;
mod remove;
mod rename;
mod reopen;
mod replay;
mod returning;
mod seen;
mod silly;
mod succession;
mod targets;
mod told;
mod trails;
mod unasked;
mod visit;
mod walks;
mod xattr;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;

pub use api::*;
use clocks::Clocks;
use dir::Listings;
use doors::Doors;
use handles::Handles;
use inodes::InodeTable;
use known::Known;
pub(crate) use known::{Absence, is_this_nodes_root};
use lock_waiters::LockWaiters;
use makers::Makers;
use names::Names;
use readers::Readers;
use reign::Reign;
use releases::Releases;
use returning::Returning;
pub use succession::Succession;
use targets::Targets;
use trails::Trails;
pub use unasked::LooksFor;
use visit::DirectoryCache;
pub(crate) use visit::errno_of;
use walks::Believed;

use crate::backing::BackingFeatures;
use crate::caller::Threads;
use crate::policy::Policy;
use crate::state::State;
use crate::state::layout::HeaderWord;

/// The translated filesystem of one mount.
#[derive(Debug)]
pub struct Filesystem<B: BackingFs> {
    backing: Arc<B>,
    state: Arc<State>,
    reign: ArcSwap<Reign>,
    inodes: InodeTable<B>,
    handles: Handles<B>,
    directories: DirectoryCache<B>,
    names: Names,
    returning: Returning,
    doors: Doors,
    listings: Listings<B>,
    trails: Trails,
    readers: Readers<B>,
    waiters: LockWaiters<B>,
    releases: Releases,
    threads: Threads,
    targets: Targets,
    makers: Makers,
    believed: Believed,
    clocks: Clocks,
    known: Arc<Known>,
    kernel: OnceLock<Box<dyn Kernel>>,
    /// The export keeps times of birth.
    has_birth: bool,
    /// When it began.
    since: Instant,
    /// Directories moved from one path rule's reach to another's so far.
    moves: AtomicU64,
}

impl<B: BackingFs> Filesystem<B> {
    /// Looks at the root and is ready.
    ///
    /// # Errors
    /// Whatever the backing says of its root.
    pub fn new(backing: B, policy: Arc<Policy>) -> Result<Self, Errno> {
        Self::begin(backing, policy, State::new()?)
    }

    /// As [`Self::new`], and keeps in `state` whatever a successor needs.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn begin(backing: B, policy: Arc<Policy>, state: Arc<State>) -> Result<Self, Errno> {
        let root = backing.root()?;
        state.set(HeaderWord::HasBirth, root.attr.btime.is_some().into());
        let inodes = InodeTable::new(&backing, root, Arc::clone(&state))?;
        let handles = Handles::new(Arc::clone(&state));
        Ok(Self::of(backing, Reign::first(policy), state, inodes, handles))
    }

    /// Goes on where another process has died, from what it has left in `state`. Asks neither kernel nor export. What is not whole
    /// is left out, and logged.
    pub fn go_on(backing: B, policy: Arc<Policy>, state: Arc<State>) -> Self {
        let inodes = InodeTable::left_in(&backing, Arc::clone(&state));
        let handles = Handles::left_in(&backing, &inodes, Arc::clone(&state));
        let mut filesystem = Self::of(backing, Reign::taken_over(policy), state, inodes, handles);
        filesystem.makers = Makers::of_a_successor();
        filesystem.take_over_locks();
        filesystem
    }

    fn of(backing: B, reign: Reign, state: Arc<State>, inodes: InodeTable<B>, handles: Handles<B>) -> Self {
        let backing = Arc::new(backing);
        let has_birth = state.get(HeaderWord::HasBirth) != 0;
        let waiters = LockWaiters::new(Arc::clone(&backing));
        Self {
            backing,
            reign: ArcSwap::from_pointee(reign),
            inodes,
            handles,
            state,
            directories: DirectoryCache::default(),
            names: Names::default(),
            returning: Returning::default(),
            doors: Doors::default(),
            listings: Listings::default(),
            trails: Trails::default(),
            readers: Readers::default(),
            waiters,
            releases: Releases::default(),
            threads: Threads::default(),
            targets: Targets::default(),
            makers: Makers::default(),
            believed: Believed::default(),
            clocks: Clocks::default(),
            known: Arc::default(),
            kernel: OnceLock::new(),
            has_birth,
            since: Instant::now(),
            moves: AtomicU64::new(0),
        }
    }

    /// Each serving thread calls this once, before its first request.
    ///
    /// # Errors
    /// Where the thread cannot be given a umask of its own.
    pub fn enter_thread(&self) -> Result<(), Errno> {
        self.backing.enter_thread()
    }

    /// Tells how to reach the kernel. At most once; until then nothing is forgotten early, and no file passes through.
    pub fn attach_kernel(&self, kernel: Box<dyn Kernel>) {
        // A second session for one filesystem does not exist.
        let _ = self.kernel.set(kernel);
    }

    /// What outlives this process.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// What the export can do.
    pub fn features(&self) -> BackingFeatures {
        self.backing.features()
    }

    /// Whether the time of birth is shown: where nothing is translated, and the export has it. Most programs that ask for it
    /// have no use for it, and each would cost a request beside the one for everything else.
    pub fn shows_birth(&self) -> bool {
        self.has_birth && self.reign.load().transparent
    }

    /// The rules in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.reign.load().policy)
    }

    /// Inodes that the kernel knows, and files and directories that are open.
    pub fn population(&self) -> Population {
        Population { inodes: self.inodes.len(), open: self.handles.len() }
    }
}
