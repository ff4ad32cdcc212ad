//! Looking at objects.

use super::Server;
use crate::fs::{BackingFs, CallerId, FileHandleId, NodeId, SetAttr};
use crate::fuse::encode;
use crate::fuse::reply::Reply;

impl<B: BackingFs> Server<B> {
    pub(super) fn getattr(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        handle: Option<FileHandleId>,
    ) {
        reply.value(self.fs.getattr(caller, node, handle).map(|found| encode::attributes(&found)));
    }

    /// As getattr, with the time of birth.
    pub(super) fn statx(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        handle: Option<FileHandleId>,
    ) {
        reply.value(self.fs.getattr(caller, node, handle).map(|found| encode::statx(&found)));
    }

    pub(super) fn setattr(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        change: &SetAttr,
        clears_set_ids: bool,
    ) {
        let mut changed = self.fs.setattr(caller, node, change);
        if clears_set_ids && changed.is_ok() {
            changed = self
                .fs
                .clear_set_ids(caller, node, change.handle)
                .and_then(|cleared| cleared.map_or(changed, Ok));
        }
        reply.value(changed.map(|found| encode::attributes(&found)));
    }

    pub(super) fn readlink(&self, reply: Reply<'_>, caller: CallerId, node: NodeId) {
        match self.fs.readlink(caller, node) {
            Ok(target) => _ = reply.bytes(&target),
            Err(error) => reply.error(error),
        }
    }

    pub(super) fn statfs(&self, reply: Reply<'_>, caller: CallerId, node: NodeId) {
        reply.value(self.fs.statfs(caller, node).map(|found| encode::statfs(&found)));
    }
}
