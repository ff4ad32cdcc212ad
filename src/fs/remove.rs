//! unlink(2) and rmdir(2).

use std::sync::Arc;

use super::visit::Visit;
use super::{CallerId, Errno, Filesystem, Name, NodeId};
use crate::backing::BackingFs;
use crate::policy::{Credentials, Operation};

impl<B: BackingFs> Filesystem<B> {
    /// unlink(2). Whoever has the file open goes on.
    ///
    /// # Errors
    /// EACCES for a denied caller, EROFS in a read-only subtree, else the backing's.
    pub fn unlink(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<(), Errno> {
        let at = self.visit(caller, parent)?;
        at.child_writable(name)?;
        let who = self.actor(&at, Operation::Remove, at.rules())?;
        self.as_shown(&at, &who, |who| self.backing.unlink(who, &at.node, name))
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// As [`Self::unlink`].
    pub fn rmdir(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<(), Errno> {
        let at = self.visit(caller, parent)?;
        at.child_writable(name)?;
        let who = self.actor(&at, Operation::Remove, at.rules())?;
        let going = self.directory_to_keep(&at, &who, name);
        self.as_shown(&at, &who, |who| self.backing.rmdir(who, &at.node, name))?;
        if let Some((inode, node)) = going {
            // A second removal of one inode does not exist.
            let _ = inode.live().removed.set(Arc::new(node));
        }
        Ok(())
    }

    /// The directory that is about to lose its name, where the kernel knows it: it may be somebody's working directory,
    /// and on a local filesystem its handle will be stale. On NFS nothing of it would work any more in any case.
    pub(super) fn directory_to_keep(
        &self,
        at: &Visit<B>,
        who: &Credentials,
        name: Name<'_>,
    ) -> Option<(Arc<super::inodes::Inode<B>>, B::Node)> {
        if self.backing.features().nfs {
            return None;
        }
        let found = self.backing.lookup(who, &at.node, name).ok()?;
        let inode = self.inodes.find(&found.id)?;
        inode.pinned.is_none().then_some((inode, found.node))
    }
}
