//! What can be said of an object without its server, to the node's own root. A kubelet looks at what it is about to unmount
//! (stat(2), statfs(2)), and would be held by a server that is away for as long as that is: with it, pods could not be deleted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::inodes::lock;
use super::visit::Visit;
use super::{Attributes, CallerId, Errno, Filesystem, NodeId};
use crate::backing::{BackingFs, Freshness, MountIndex, StatFs};
use crate::sys::process::has_our_pid_namespace;
use crate::sys::sync::Mutex;

/// Of the export's mounts.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// One more than the mount of which somebody was told this instead of an answer; 0 where that is over.
    away: AtomicU64,
    /// Space and inodes when they were last asked for.
    space: Mutex<HashMap<MountIndex, StatFs>>,
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

/// Whether a caller is this node's root, and no pod's. False where that cannot be seen.
pub(crate) fn is_this_nodes_root(caller: CallerId) -> bool {
    caller.uid.is_some_and(|uid| uid.is_root()) && has_our_pid_namespace(caller.pid.0)
}

impl<B: BackingFs> Filesystem<B> {
    /// The server of this object lets somebody wait. Until [`Self::nobody_waits`] this node's root is told what is known at once.
    pub fn keeps_waiting(&self, node: NodeId) {
        if let Some(inode) = self.inodes.get(node) {
            self.known.away.store(u64::from(inode.object.mount.0) + 1, Ordering::Relaxed);
        }
    }

    /// The last of those for whose sake [`Self::keeps_waiting`] was called has its answer.
    pub fn nobody_waits(&self) {
        self.known.away.store(0, Ordering::Relaxed);
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
        let away = self.known.away.load(Ordering::Relaxed);
        away != 0 && away == u64::from(at.inode.object.mount.0) + 1 && is_this_nodes_root(caller)
    }

    pub(super) fn as_known(&self, at: &Visit<B>) -> Result<Attributes, Errno> {
        let stored = self.backing.stat(at.node(self)?, Freshness::Known)?;
        Ok(Attributes { attr: self.present(at, &stored), valid: Duration::ZERO })
    }

    pub(super) fn remember_space(&self, mount: MountIndex, space: StatFs) {
        lock(&self.known.space).insert(mount, space);
    }
}
