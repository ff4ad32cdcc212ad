//! Names that the kernel looks up only because it is about to make them, on NFS.
//!
//! An NFS client leaves such a lookup out (`nfs_is_exclusive_create`, linux/fs/nfs/dir.c): making the thing tells whether something
//! is there. Here the kernel asks first, which would be a request to the server more. So it is told that there is nothing, and not
//! to remember that; the answer to what it asks next is the server's. Until then it holds the directory's lock, so that whoever
//! else looks for the name waits.
//!
//! Only mkdir(2). link(2), symlink(2) and mknod(2) with a slash behind the name would fail with ENOENT where something is there, and
//! not with EEXIST, and nothing tells of that slash.

use super::visit::Visit;
use super::{CallerId, Errno, Filesystem, Name, NodeId};
use crate::backing::{BackingFs, Freshness, MountIndex};
use crate::policy::{Caller, dac};

impl<B: BackingFs> Filesystem<B> {
    /// Whether a LOOKUP may be answered with ENOENT unseen, if the kernel does not remember it.
    pub fn need_not_look(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> bool {
        // Another mount below SOURCE need not be NFS.
        self.backing.features().nfs
            && self.threads.makes_a_directory(caller.pid)
            && self.visit(caller, parent).is_ok_and(|at| {
                at.inode.object.mount == MountIndex(0)
                    && at.child_writable(name).is_ok()
                    && self.lets_write(&at, caller).unwrap_or(false)
            })
    }

    /// Whether the kernel will let the caller change the visited directory, for all that is known here. Where it will not, mkdir(2)
    /// fails before anything is made; then what is there must be known, for that is EEXIST first.
    fn lets_write(&self, at: &Visit<B>, caller: CallerId) -> Result<bool, Errno> {
        let (Some(uid), Some(gid)) = (caller.uid, caller.gid) else { return Ok(false) };
        let shown = self.present(at, &self.backing.stat(at.node(self)?, Freshness::Known)?);
        // Perhaps a member of it: reading its groups would cost more than it is worth.
        let caller = Caller { uid, gid, groups: &[shown.gid] };
        let want = dac::Want::Access { read: false, write: true, execute: true };
        Ok(dac::may(&caller, &shown, want).allowed)
    }
}
