//! What the daemon asks of the kernel: to forget what it caches, and to read and write files by itself.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

use zerocopy::IntoBytes;

use super::device::Device;
use super::pool::Pool;
use super::wire::{FUSE_NOTIFY_INC_EPOCH, FUSE_NOTIFY_INVAL_INODE, NotifyInvalInodeOut};
use crate::fs::{BackingId, Errno, Kernel, NodeId};
use crate::state::journal;
use crate::sys::{fault, fuse_dev};

/// The kernel behind a session.
#[derive(Debug)]
pub(super) struct OurKernel {
    device: Arc<Device>,
    passthrough: bool,
    /// Weak, since the file system that holds this is held by the pool.
    pool: Weak<Pool>,
}

impl OurKernel {
    pub(super) fn new(pool: &Arc<Pool>, passthrough: bool) -> Self {
        Self { device: Arc::clone(pool.device()), passthrough, pool: Arc::downgrade(pool) }
    }
}

impl Kernel for OurKernel {
    fn passes_through(&self) -> bool {
        self.passthrough
    }

    fn pass_through(&self, file: BorrowedFd<'_>) -> Result<BackingId, Errno> {
        fault::around!(
            "a file is registered",
            fuse_dev::backing_open(self.device.as_fd(), file).map(BackingId)
        )
    }

    fn take_back(&self, id: BackingId) {
        // A connection that has ended has given everything back.
        if let Err(error) = fuse_dev::backing_close(self.device.as_fd(), id.0) {
            tracing::trace!(id = id.0, %error, "the kernel keeps a file");
        }
    }

    fn forget_content(&self, node: NodeId) {
        // The kernel waits here for pages that a READ is filling. That READ may not have found a worker yet: so whoever
        // waits here does not count as one.
        let pool = self.pool.upgrade();
        let _aside = pool.as_ref().map(|pool| pool.step_aside());
        // A length of 0 is "to the end".
        let all = NotifyInvalInodeOut { ino: node.0.get(), off: 0, len: 0 };
        // ENOENT: the kernel knows no such inode, so it caches nothing of it.
        // Nor may its process's end be waited for, where the READ's worker died with it: a successor answers that.
        let _ = fault::around!(
            "content is forgotten",
            journal::apart(|| self.device.notify(FUSE_NOTIFY_INVAL_INODE, all.as_bytes()))
        );
    }

    fn forget_attributes(&self, node: NodeId) {
        // A negative offset is "no content", and then nothing is waited for (fuse_reverse_inval_inode).
        let none = NotifyInvalInodeOut { ino: node.0.get(), off: -1, len: 0 };
        let _ = fault::around!(
            "attributes are forgotten",
            self.device.notify(FUSE_NOTIFY_INVAL_INODE, none.as_bytes())
        );
    }

    fn forget_names(&self) -> bool {
        // A kernel that does not know the notification calls it invalid.
        fault::around!("names are forgotten", self.device.notify(FUSE_NOTIFY_INC_EPOCH, &[]).is_ok())
    }

    fn has_ended(&self) -> bool {
        self.pool.upgrade().is_none_or(|pool| pool.has_ended())
    }
}
