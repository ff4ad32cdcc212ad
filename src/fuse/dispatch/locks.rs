//! Asking for locks.

use super::Server;
use crate::fs::{BackingFs, FileHandleId, LockRequest, NodeId};
use crate::fuse::encode;
use crate::fuse::reply::Reply;

impl<B: BackingFs> Server<B> {
    pub(super) fn getlk(&self, reply: Reply<'_>, node: NodeId, handle: FileHandleId, lock: &LockRequest) {
        reply.value(self.fs.getlk(node, handle, lock).map(|held| encode::lock(held.as_ref())));
    }
}
