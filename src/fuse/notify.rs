//! Makes the kernel forget what it caches.

use std::sync::{Arc, Weak};

use zerocopy::IntoBytes;

use super::device::Device;
use super::pool::Pool;
use super::wire::{FUSE_NOTIFY_INVAL_INODE, NotifyInvalInodeOut};
use crate::fs::{KernelCache, NodeId};

/// The kernel behind a session.
#[derive(Debug)]
pub(super) struct Kernel {
    device: Arc<Device>,
    /// Weak, since the file system that holds this is held by the pool.
    pool: Weak<Pool>,
}

impl Kernel {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self { device: Arc::clone(pool.device()), pool: Arc::downgrade(pool) }
    }
}

impl KernelCache for Kernel {
    fn forget_content(&self, node: NodeId) {
        // The kernel waits here for pages that a READ is filling. That READ may not have found a worker yet: so whoever
        // waits here does not count as one.
        let pool = self.pool.upgrade();
        let _aside = pool.as_ref().map(|pool| pool.step_aside());
        // A length of 0 is "to the end".
        let all = NotifyInvalInodeOut { ino: node.0.get(), off: 0, len: 0 };
        // ENOENT: the kernel knows no such inode, so it caches nothing of it.
        let _ = self.device.notify(FUSE_NOTIFY_INVAL_INODE, all.as_bytes());
    }
}
