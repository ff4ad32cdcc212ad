//! Asking for locks.

use super::Server;
use crate::fs::{BackingFs, FileHandleId, LockRequest};
use crate::fuse::encode;
use crate::fuse::reply::Reply;

impl<B: BackingFs> Server<B> {
    pub(super) fn getlk(&self, reply: Reply<'_>, handle: FileHandleId, lock: &LockRequest) {
        reply.value(self.fs.getlk(handle, lock).map(|held| encode::lock(held.as_ref())));
    }
}
