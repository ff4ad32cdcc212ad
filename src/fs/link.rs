//! link(2): one more name for a file. It stays one inode.

use super::replay;
use super::{CallerId, Entry, Errno, Filesystem, Name, NodeId};
use crate::backing::{BackingFs, Freshness};
use crate::policy::FileKind;

impl<B: BackingFs> Filesystem<B> {
    /// Gives `node` the name `new_name` in `new_parent`.
    ///
    /// # Errors
    /// EACCES for a denied caller, EROFS where the file or the directory lies in a read-only subtree, else the
    /// backing's.
    pub fn link(
        &self,
        caller: CallerId,
        node: NodeId,
        new_parent: NodeId,
        new_name: Name<'_>,
    ) -> Result<Entry, Errno> {
        let at = self.visit(caller, node)?;
        at.writable()?;
        let to = self.visit_also(&at, new_parent)?;
        let (who, _) = self.creator(&to, new_name)?;
        let again = replay::attempt();
        let made =
            self.as_shown(&to, &who, |who| self.backing.link(who, at.node(self)?, to.node(self)?, new_name));
        let made = self.seen(again, made, &[&to], &who);
        again.made(made, || {
            let found = self.backing.find(&who, to.node(self).ok()?, new_name).ok()?;
            (found.id == at.inode.object).then_some(())
        })?;
        let stored = self.backing.stat(at.node(self)?, Freshness::Known)?;
        self.inodes.enter_again(&at.inode);
        at.inode.saw_owner(stored.owner());
        if at.inode.kind == FileKind::Regular {
            self.names.remember(at.inode.id, new_parent, new_name);
        }
        let scope = self.place_link(&at, &to, new_name);
        let attr = at.policy.present(&stored, at.policy.scopes().rules(scope));
        let cache = at.policy.cache();
        at.inode.told.tell(&stored, cache.attr_timeout);
        Ok(Entry {
            node: at.inode.id,
            attr,
            entry_valid: cache.entry_timeout,
            attr_valid: cache.attr_timeout,
        })
    }
}
