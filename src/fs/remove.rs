//! unlink(2) and rmdir(2).

use std::sync::Arc;

use super::inode::Inode;
use super::replay;
use super::visit::Visit;
use super::{CallerId, Errno, Filesystem, Name, NodeId};
use crate::backing::BackingFs;
use crate::policy::{Credentials, FileKind, Operation};

impl<B: BackingFs> Filesystem<B> {
    /// unlink(2). Whoever has the file open goes on.
    ///
    /// # Errors
    /// EACCES for a denied caller, EROFS in a read-only subtree, else the backing's.
    pub fn unlink(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<(), Errno> {
        let at = self.visit(caller, parent)?;
        at.child_writable(name)?;
        self.about_to_change(&at.inode);
        let who = self.actor(&at, Operation::Remove, at.rules())?;
        let going = self.object_to_keep(&at, &who, name);
        let again = replay::attempt();
        let removed = self.as_shown(&at, &who, |who| self.backing.unlink(who, at.node(self)?, name));
        let removed = self.seen(again, removed, &[&at], &who);
        if let Err(error) = again.removed(removed, Errno::ENOENT) {
            self.stays(going);
            return Err(error);
        }
        self.keep(going);
        Ok(())
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// As [`Self::unlink`].
    pub fn rmdir(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<(), Errno> {
        let at = self.visit(caller, parent)?;
        at.child_writable(name)?;
        self.about_to_change(&at.inode);
        let who = self.actor(&at, Operation::Remove, at.rules())?;
        let going = self.object_to_keep(&at, &who, name);
        let again = replay::attempt();
        let removed = self.once_closed(&at, &who, name, || {
            self.as_shown(&at, &who, |who| self.backing.rmdir(who, at.node(self)?, name))
        });
        let removed = self.seen(again, removed, &[&at], &who);
        if let Err(error) = again.removed(removed, Errno::ENOENT) {
            self.stays(going);
            return Err(error);
        }
        self.keep(going);
        Ok(())
    }

    /// The object that is about to lose a name, where the kernel knows it and it is the last one: it may be somebody's
    /// working directory, or a file opened with O_PATH, and on a local filesystem its handle will be stale. On NFS a
    /// reference would make the client silly-rename, and nothing would work through it any more in any case.
    pub(super) fn object_to_keep(
        &self,
        at: &Visit<B>,
        who: &Credentials,
        name: Name<'_>,
    ) -> Option<Going<B>> {
        if self.backing.features().nfs {
            return None;
        }
        let found = self.backing.lookup(who, at.node(self).ok()?, name).ok()?;
        let last = found.attr.kind == FileKind::Directory || found.attr.nlink == 1;
        let inode = last.then(|| self.inodes.find(&found.id)).flatten()?;
        if inode.pinned.is_some() {
            return None;
        }
        // Before it goes: a successor must not be without it.
        inode.about_to_go(self.backing.node_descriptor(&found.node));
        Some((inode, found.node))
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// It has lost its last name: the reference stays until the kernel forgets the inode, which for an object that nobody uses is
    /// at once.
    pub(super) fn keep(&self, going: Option<Going<B>>) {
        if let Some((inode, node)) = going {
            // A second removal of one inode does not exist.
            let _ = inode.live().removed.set(Arc::new(node));
            self.listings.drop_of(inode.id);
        }
    }

    /// It has not lost it.
    pub(super) fn stays(&self, going: Option<Going<B>>) {
        if let Some((inode, _)) = &going {
            inode.about_to_go(None);
        }
    }
}

/// An inode that loses its last name, and a reference to it.
pub(super) type Going<B> = (Arc<Inode<B>>, <B as BackingFs>::Node);
