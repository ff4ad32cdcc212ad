//! Names to inodes, and back to nothing when the kernel forgets them.

use std::sync::Arc;
use std::time::Duration;

use super::inode::Inode;
use super::visit::Visit;
use super::{CallerId, Entry, Errno, Filesystem, Name, NodeId};
use crate::backing::{BackingFs, Identified, StatFs};
use crate::policy::{Credentials, FileKind, Operation};
use crate::state::journal;

impl<B: BackingFs> Filesystem<B> {
    /// Finds a name.
    ///
    /// # Errors
    /// ENOENT where there is none: the kernel may remember that for the policy's `negative_timeout`. EACCES for a
    /// denied caller.
    pub fn lookup(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<Entry, Errno> {
        self.look_up(caller, parent, |at, who| {
            let found = self.backing.find(who, at.node(self)?, name)?;
            self.enter(at, name, found)
        })
    }

    /// As [`Self::lookup`], for a caller who is shown nothing of what is there: what it is like is told as far as it is known, and the
    /// kernel is to believe none of it.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn lookup_identity(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> Result<Entry, Errno> {
        self.look_up(caller, parent, |at, who| {
            let found = self.backing.find_known(who, at.node(self)?, name)?;
            if found.attr.kind == FileKind::Directory {
                // It may be on the way only, and the kernel is to know who may go through it.
                let found = self.backing.find(who, at.node(self)?, name)?;
                return self.enter(at, name, found);
            }
            let (entry, inode) = self.enter_inode(at, name, found)?;
            inode.told.forgets();
            Ok(Entry { attr_valid: Duration::ZERO, ..entry })
        })
    }

    fn look_up(
        &self,
        caller: CallerId,
        parent: NodeId,
        find: impl FnOnce(&Visit<B>, &Credentials) -> Result<Entry, Errno>,
    ) -> Result<Entry, Errno> {
        let look = || {
            let at = self.visit(caller, parent)?;
            let who = self.actor(&at, Operation::Look, at.rules())?;
            find(&at, &who)
        };
        let found = look();
        self.returning.finds(caller.pid, found.as_ref().ok().map(|entry| entry.node));
        found
    }

    /// Takes back `lookups` of the lookups that entries have counted.
    pub fn forget(&self, node: NodeId, lookups: u64) {
        if self.inodes.forget(node, lookups) == Some(FileKind::Directory) {
            self.listings.drop_of(node);
        }
    }

    /// Takes back a lookup that was counted for an answer which will not be given.
    pub fn forget_unanswered(&self, node: NodeId) {
        journal::uncount();
        self.inodes.forget(node, 1);
    }

    /// statfs(2): the export's. Also for a caller that the rules deny.
    ///
    /// # Errors
    /// The backing's.
    pub fn statfs(&self, caller: CallerId, node: NodeId) -> Result<StatFs, Errno> {
        let at = self.visit_to_look(caller, node)?;
        if self.shall_not_wait(caller, &at) {
            return Ok(self.known_space(node));
        }
        let space = self.backing.statfs(at.node(self)?)?;
        self.remember_space(at.inode.object.mount, space);
        Ok(space)
    }

    /// Enters what was found or made as `name` in the visited directory.
    pub(super) fn enter(
        &self,
        at: &Visit<B>,
        name: Name<'_>,
        found: Identified<B::Node>,
    ) -> Result<Entry, Errno> {
        Ok(self.enter_inode(at, name, found)?.0)
    }

    pub(super) fn enter_inode(
        &self,
        at: &Visit<B>,
        name: Name<'_>,
        found: Identified<B::Node>,
    ) -> Result<(Entry, Arc<Inode<B>>), Errno> {
        let stored = found.attr;
        if found.id.mount != at.inode.object.mount {
            self.doors.remember(at.inode.id, name, found.id.mount);
        }
        let inode = self.inodes.enter(&self.backing, found)?;
        // A file with several names may be reached by paths under different rules.
        let several = stored.kind != FileKind::Directory && stored.nlink > 1;
        let scope = self.place(at, &inode, name, several);
        match inode.kind {
            FileKind::Regular => self.names.remember(inode.id, at.inode.id, name),
            FileKind::Directory => self.forget_listing(&at.policy, &inode),
            _ => {}
        }
        let attr = at.policy.present(&stored, at.policy.scopes().rules(scope));
        let cache = at.policy.cache();
        inode.told.tell(&stored, cache.attr_timeout);
        let entry =
            Entry { node: inode.id, attr, entry_valid: cache.entry_timeout, attr_valid: cache.attr_timeout };
        Ok((entry, inode))
    }
}
