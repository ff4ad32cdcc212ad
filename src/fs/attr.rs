//! Attributes: looking at them and changing them.

use std::borrow::Cow;

use super::visit::{Visit, errno_of};
use super::{Attributes, CallerId, Errno, FileHandleId, Filesystem, NewTime, NodeId, SetAttr};
use crate::backing::{BackingFs, Freshness};
use crate::policy::{ChownOutcome, Credentials, Operation, Permissions, StoredAttr};
use nix::unistd::AccessFlags;

impl<B: BackingFs> Filesystem<B> {
    /// stat(2). Also for a caller that the rules deny: it holds the inode already, and what is shown is the same for
    /// every caller.
    ///
    /// # Errors
    /// The backing's.
    pub fn getattr(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: Option<FileHandleId>,
    ) -> Result<Attributes, Errno> {
        if let Some(lost) = self.of_a_lost_inode(node) {
            return Ok(lost);
        }
        if let Some(handle) = handle.filter(|handle| *handle != FileHandleId::NONE) {
            let open = self.handles.file(handle)?;
            let policy = self.reign.load_full();
            let stored = self.backing.stat_file(self.at_hand(&open)?, Freshness::AsStat)?;
            let scope = self.scope(&policy, &open.opener, &open.inode);
            let attr = policy.present(&stored, policy.scopes().rules(scope));
            let valid = policy.cache().attr_timeout;
            open.inode.told.tell(&stored, valid);
            return Ok(Attributes { attr, valid });
        }
        let at = self.visit_to_look(caller, node)?;
        if self.shall_not_wait(caller, &at) {
            return self.as_known(&at);
        }
        let may_be_a_walk = self.may_be_a_walk(&at.inode);
        if may_be_a_walk && let Some(known) = self.for_a_walk(caller, &at)? {
            return Ok(known);
        }
        self.forget_listing(&at.policy, &at.inode);
        let stored = self.backing.stat(at.node(self)?, Freshness::AsStat)?;
        if may_be_a_walk {
            self.makers.asks(caller.pid, None, at.inode.id);
            self.note_look(&at.inode);
        }
        Ok(self.attributes(&at, &stored))
    }

    /// chown(2), truncate(2), chmod(2) and utimensat(2), in this order: a truncate changes times, a chown clears suid.
    ///
    /// # Errors
    /// EACCES for a denied caller, EROFS in a read-only subtree, EOVERFLOW for an owner without a rule, else the
    /// backing's. What was done before the part that failed stays done.
    pub fn setattr(&self, caller: CallerId, node: NodeId, change: &SetAttr) -> Result<Attributes, Errno> {
        let at = self.visit(caller, node)?;
        at.writable()?;
        if change.uid.is_some() || change.gid.is_some() {
            self.chown(&at, change)?;
        } else if change.is_empty() {
            // Either a chown(2) of nobody to nobody, which clears suid for the owner, or the kernel about to write for
            // somebody who need not be the owner: it looks the same, so a refusal is not passed on.
            let who = self.actor(&at, Operation::Change, at.rules())?;
            self.chown_to_nobody(&at, &who)?;
        }
        if let Some(size) = change.size {
            self.truncate(caller, &at, change.handle, size)?;
        }
        if let Some(requested) = change.permissions {
            let who = self.actor(&at, Operation::Change, at.rules())?;
            let permissions = at.policy.chmod(at.inode.kind, requested, at.rules());
            self.backing.chmod(&who, at.node(self)?, permissions)?;
        }
        if change.atime != NewTime::Omit || change.mtime != NewTime::Omit {
            let who = self.actor(&at, Operation::Change, at.rules())?;
            self.as_shown(&at, &who, |who| {
                self.backing.set_times(who, at.node(self)?, change.atime, change.mtime)
            })?;
        }
        let stored = self.backing.stat(at.node(self)?, Freshness::Known)?;
        Ok(self.attributes(&at, &stored))
    }

    /// A file was truncated by who cannot keep suid and sgid on what it changes (has not CAP_FSETID): they go, also where the
    /// backing has seen its root, who can. The new attributes, where there was something to do.
    ///
    /// # Errors
    /// As [`Self::setattr`].
    pub fn clear_set_ids(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: Option<FileHandleId>,
    ) -> Result<Option<Attributes>, Errno> {
        let at = self.visit(caller, node)?;
        at.writable()?;
        let who = match handle {
            // It may have been done as the opener, who may be root where the caller is not.
            Some(handle) => Cow::Owned(self.writer(caller, &*self.handles.file(handle)?).clone()),
            None => self.actor(&at, Operation::Change, at.rules())?,
        };
        if !who.uid.is_root() {
            return Ok(None);
        }
        self.chown_to_nobody(&at, &who)?;
        let stored = self.backing.stat(at.node(self)?, Freshness::Known)?;
        Ok(Some(self.attributes(&at, &stored)))
    }

    /// As [`Self::clear_set_ids`], of an ACL that was set by who is outside the object's group.
    ///
    /// # Errors
    /// As [`Self::setattr`].
    pub fn clear_setgid(&self, caller: CallerId, node: NodeId) -> Result<(), Errno> {
        let at = self.visit(caller, node)?;
        at.writable()?;
        let who = self.actor(&at, Operation::Change, at.rules())?;
        if !who.uid.is_root() {
            return Ok(());
        }
        let stored = self.backing.stat(at.node(self)?, Freshness::Known)?;
        if !stored.permissions.contains(Permissions::SETGID) {
            return Ok(());
        }
        self.backing.chmod(&who, at.node(self)?, stored.permissions.without(Permissions::SETGID))
    }

    /// readlink(2).
    ///
    /// # Errors
    /// EACCES for a denied caller, else the backing's.
    pub fn readlink(&self, caller: CallerId, node: NodeId) -> Result<Vec<u8>, Errno> {
        let at = self.visit(caller, node)?;
        let who = self.actor(&at, Operation::Look, at.rules())?;
        self.backing.readlink(&who, at.node(self)?)
    }

    /// access(2): the server's answer. Under `default_permissions` the kernel does not ask.
    ///
    /// # Errors
    /// EACCES, EROFS, else the backing's.
    pub fn access(&self, caller: CallerId, node: NodeId, mask: AccessFlags) -> Result<(), Errno> {
        let at = self.visit(caller, node)?;
        if mask.contains(AccessFlags::W_OK) {
            at.writable()?;
        }
        let who = self.actor(&at, Operation::Open, at.rules())?;
        self.as_shown(&at, &who, |who| self.backing.access(who, at.node(self)?, mask))
    }

    fn attributes(&self, at: &Visit<B>, stored: &StoredAttr) -> Attributes {
        let valid = at.policy.cache().attr_timeout;
        at.inode.told.tell(stored, valid);
        Attributes { attr: self.present(at, stored), valid }
    }

    /// Takes suid and sgid from a file, if `who` may do that, and changes nothing else.
    fn chown_to_nobody(&self, at: &Visit<B>, who: &Credentials) -> Result<(), Errno> {
        match self.backing.chown(who, at.node(self)?, None, None) {
            Err(Errno::EPERM | Errno::EACCES) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn chown(&self, at: &Visit<B>, change: &SetAttr) -> Result<(), Errno> {
        let stored = self.backing.stat(at.node(self)?, Freshness::Known)?;
        let shown = self.present(at, &stored);
        let outcome = at.policy.chown(change.uid, change.gid, &shown, at.rules()).map_err(errno_of)?;
        let ChownOutcome::Pass { uid, gid, absorb } = outcome else { return Ok(()) };
        let who =
            at.policy.credentials(Operation::Change, &at.caller, Some(stored.owner()), None, at.rules());
        // Many servers ignore the client's list of groups: the group that is asked for must come first.
        let who = match gid {
            Some(gid) if who.is_member(gid) => who.with_gid_first(gid),
            _ => who.into_owned(),
        };
        match self.backing.chown(&who, at.node(self)?, uid, gid) {
            Err(Errno::EPERM | Errno::EACCES) if absorb => Ok(()),
            done => done,
        }
    }

    fn truncate(
        &self,
        caller: CallerId,
        at: &Visit<B>,
        handle: Option<FileHandleId>,
        size: u64,
    ) -> Result<(), Errno> {
        if let Some(handle) = handle {
            let open = self.handles.file(handle)?;
            if open.writes() {
                return self.backing.truncate_file(&self.writer(caller, &open), self.at_hand(&open)?, size);
            }
        }
        let who = self.actor(at, Operation::Open, at.rules())?;
        self.as_shown(at, &who, |who| self.backing.truncate(who, at.node(self)?, size))
    }
}
