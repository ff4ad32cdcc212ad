//! What can be said of an object without its server, to the node's own root. A kubelet looks at what it is about to unmount
//! (stat(2), statfs(2)), and would be held by a server that is away for as long as that is: with it, pods could not be deleted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::inodes::lock;
use super::visit::Visit;
use super::{Attributes, CallerId, Errno, Filesystem, NodeId};
use crate::backing::{BackingFs, Freshness, MountIndex, StatFs};
use crate::policy::FileKind;
use crate::sys::process::has_our_pid_namespace;
use crate::sys::sync::Mutex;

/// Of the export's mounts.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Looks at each mount that were answered with this, and have no answer of the server's yet.
    waiting: Mutex<HashMap<MountIndex, usize>>,
    /// All of them.
    all: AtomicUsize,
    /// Space and inodes when they were last asked for.
    space: Mutex<HashMap<MountIndex, StatFs>>,
}

/// A mount's server lets a look wait, until this is dropped. This node's root is told what is known of its objects at once.
#[derive(Debug)]
pub(crate) struct Absence {
    known: Arc<Known>,
    mount: MountIndex,
}

impl Absence {
    fn new(known: &Arc<Known>, mount: MountIndex) -> Self {
        *lock(&known.waiting).entry(mount).or_default() += 1;
        known.all.fetch_add(1, Ordering::Relaxed);
        Self { known: Arc::clone(known), mount }
    }
}

impl Drop for Absence {
    fn drop(&mut self) {
        self.known.all.fetch_sub(1, Ordering::Relaxed);
        let mut waiting = lock(&self.known.waiting);
        if let Some(looks) = waiting.get_mut(&self.mount) {
            *looks -= 1;
            if *looks == 0 {
                waiting.remove(&self.mount);
            }
        }
    }
}

/// Where nothing is known of it, nothing is said, as the kernel does for whoever may not ask (`fuse_statfs`).
const NO_SPACE: StatFs = StatFs {
    blocks: 0,
    blocks_free: 0,
    blocks_available: 0,
    files: 0,
    files_free: 0,
    block_size: 4096,
    fragment_size: 4096,
    name_max: 255,
};

/// Whether a caller is root on this node, and in no container with a pid namespace of its own. False where that cannot be seen. It is
/// allowed nothing by that.
pub(crate) fn is_this_nodes_root(caller: CallerId) -> bool {
    caller.uid.is_some_and(|uid| uid.is_root()) && has_our_pid_namespace(caller.pid.0)
}

impl<B: BackingFs> Filesystem<B> {
    /// The server lets a look at this object wait. None for a file's attributes, which may take as long as it takes to write
    /// back what has been written to it.
    pub(crate) fn keeps_waiting(&self, node: NodeId, for_space: bool) -> Option<Absence> {
        let inode = self.inodes.get(node)?;
        let by_itself = for_space || inode.kind == FileKind::Directory;
        by_itself.then(|| Absence::new(&self.known, inode.object.mount))
    }

    /// An object as it was last seen, which is believed for no time. Asks no server where the object is at hand.
    ///
    /// # Errors
    /// ESTALE where it is gone.
    pub fn known_attributes(&self, node: NodeId) -> Result<Attributes, Errno> {
        self.as_known(&self.visit_as(self.reign.load_full(), None, node)?)
    }

    /// statfs(2) as it was last answered.
    pub fn known_space(&self, node: NodeId) -> StatFs {
        let mount = self.inodes.get(node).map(|inode| inode.object.mount);
        mount.and_then(|mount| lock(&self.known.space).get(&mount).copied()).unwrap_or(NO_SPACE)
    }

    /// Whether this caller is not to wait for the visited object's server.
    #[inline]
    pub(super) fn shall_not_wait(&self, caller: CallerId, at: &Visit<B>) -> bool {
        self.known.all.load(Ordering::Relaxed) > 0
            && lock(&self.known.waiting).contains_key(&at.inode.object.mount)
            && is_this_nodes_root(caller)
    }

    pub(super) fn as_known(&self, at: &Visit<B>) -> Result<Attributes, Errno> {
        let stored = self.backing.stat(at.node(self)?, Freshness::Known)?;
        Ok(Attributes { attr: self.present(at, &stored), valid: Duration::ZERO })
    }

    pub(super) fn remember_space(&self, mount: MountIndex, space: StatFs) {
        lock(&self.known.space).insert(mount, space);
    }
}
