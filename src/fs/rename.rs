//! renameat2(2).

use std::sync::atomic::Ordering;

use nix::fcntl::RenameFlags;

use super::replay::{self, Side};
use super::visit::Visit;
use super::{CallerId, Errno, Filesystem, Name, NodeId};
use crate::backing::BackingFs;
use crate::policy::{Credentials, FileKind, Operation};

impl<B: BackingFs> Filesystem<B> {
    /// Moves `name` to `new_name`, over what is there unless `flags` say otherwise.
    ///
    /// # Errors
    /// EACCES for a denied caller, EROFS where either name lies in a read-only subtree, EINVAL for flags the backing
    /// does not have (NFS: all but a NOREPLACE onto an existing name, which is EEXIST), else the backing's.
    pub fn rename(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        new_parent: NodeId,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        if flags.is_empty() && self.replaces_unseen() {
            self.targets.renames(caller.pid, (parent, name), (new_parent, new_name));
        }
        let from = self.visit(caller, parent)?;
        let to = self.visit_also(&from, new_parent)?;
        from.child_writable(name)?;
        to.child_writable(new_name)?;
        self.about_to_change(&from.inode);
        self.about_to_change(&to.inode);
        let who = self.actor(&from, Operation::Remove, from.rules())?;
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        let replaced = if exchange { None } else { self.object_to_keep(&to, &who, new_name) };
        if exchange && self.exchanged_before(&from, &to, &who, (name, new_name)) {
            return Ok(());
        }
        let again = replay::attempt();
        let act = || self.move_name(&from, &to, &who, name, new_name, flags);
        let replaces = flags.is_empty();
        let outcome = if replaces { self.once_closed(&to, &who, new_name, act) } else { act() };
        let outcome = self.seen(again, outcome, &[&from, &to], &who);
        let moved = again.moved(outcome, |side| {
            let (at, name) = if side == Side::Old { (&from, name) } else { (&to, new_name) };
            at.node(self).is_ok_and(|directory| self.backing.find(&who, directory, name).is_ok())
        });
        if let Err(error) = moved {
            self.stays(replaced);
            return Err(error);
        }
        self.keep(replaced);
        self.names.renamed((parent, name), (new_parent, new_name), exchange);
        if !from.policy.scopes().is_trivial() {
            self.place_again(&to, &who, new_name);
            if exchange {
                self.place_again(&from, &who, name);
            }
        }
        Ok(())
    }

    /// As the old parent's actor; where the new parent's is somebody else (`act_as = "owner"`) and the server refuses
    /// the first, as them.
    fn move_name(
        &self,
        from: &Visit<B>,
        to: &Visit<B>,
        who: &Credentials,
        name: Name<'_>,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let act = |who: &Credentials| {
            self.backing.rename(who, from.node(self)?, name, to.node(self)?, new_name, flags)
        };
        let refused = match self.as_shown(from, who, act) {
            Err(refused @ (Errno::EACCES | Errno::EPERM)) => refused,
            done => return done,
        };
        let other = self.actor(to, Operation::Remove, to.rules())?;
        if *other == *who && !to.rules().apply_to_all {
            return Err(refused);
        }
        self.as_shown(to, &other, act)
    }

    /// A moved object lies under the rules of its new path, and so does what is below a directory.
    fn place_again(&self, to: &Visit<B>, who: &Credentials, name: Name<'_>) {
        let Ok(found) = to.node(self).and_then(|directory| self.backing.find(who, directory, name)) else {
            return;
        };
        let Some(inode) = self.inodes.find(&found.id) else { return };
        let is_directory = inode.kind == FileKind::Directory;
        if is_directory && self.scope(&to.policy, who, &inode) != to.child_scope(name) {
            self.moves.fetch_add(1, Ordering::Relaxed);
        }
        self.place(to, &inode, name, !is_directory && found.attr.nlink > 1);
    }
}
