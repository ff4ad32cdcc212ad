//! Making objects: look up the parent, ask who acts, ask the policy for the mode, make it as them, enter it.

use std::borrow::Cow;
use std::ffi::CStr;

use nix::fcntl::OFlag;
use nix::unistd::AccessFlags;

use super::content::OpenAs;
use super::replay;
use super::visit::Visit;
use super::{CallerId, Entry, Errno, Filesystem, Name, NewNode, NewTime, NodeId, Opened};
use crate::backing::{BackingFs, Freshness, Identified};
use crate::policy::{Credentials, FileKind, Operation, Owner, Permissions};

impl<B: BackingFs> Filesystem<B> {
    /// mkdir(2).
    ///
    /// # Errors
    /// EACCES for a denied caller, EROFS in a read-only subtree, else the backing's.
    pub fn mkdir(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        permissions: Permissions,
        umask: Permissions,
    ) -> Result<Entry, Errno> {
        let at = self.visit(caller, parent)?;
        let (who, owner) = self.creator(&at, name)?;
        let mode = at.policy.new_mode(FileKind::Directory, permissions, umask, owner, at.child_rules(name));
        let (again, begun) = (replay::attempt(), replay::begun());
        let made = self.as_shown(&at, &who, |who| self.backing.mkdir(who, at.node(self)?, name, mode));
        let made = self.seen(again, made, &[&at], &who);
        again.made(made, || {
            let found = self.made_by(&at, &who, name, FileKind::Directory)?;
            (!self.clocks.is_older(found.attr.mtime, begun)).then_some(())
        })?;
        let found = self.find_made(&at, name, &who).inspect_err(|_| {
            // Half made is not made; where even this fails there is nothing left to try.
            let _ = at.node(self).and_then(|directory| self.backing.rmdir(&who, directory, name));
        })?;
        self.enter(&at, name, found)
    }

    /// mknod(2).
    ///
    /// # Errors
    /// As [`Self::mkdir`]; EPERM for a device, unless the acting identity may make one.
    pub fn mknod(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        new: &NewNode,
    ) -> Result<Entry, Errno> {
        let at = self.visit(caller, parent)?;
        let (who, owner) = self.creator(&at, name)?;
        let mode = at.policy.new_mode(new.kind, new.permissions, new.umask, owner, at.child_rules(name));
        let again = replay::attempt();
        let made = self.as_shown(&at, &who, |who| {
            self.backing.mknod(who, at.node(self)?, name, new.kind, mode, new.rdev)
        });
        let made = self.seen(again, made, &[&at], &who);
        again.made(made, || self.made_by(&at, &who, name, new.kind).map(drop))?;
        let found = self.find_made(&at, name, &who).inspect_err(|_| {
            let _ = at.node(self).and_then(|directory| self.backing.unlink(&who, directory, name));
        })?;
        self.enter(&at, name, found)
    }

    /// symlink(2). The target is the pod's own text: it is never followed here.
    ///
    /// # Errors
    /// As [`Self::mkdir`].
    pub fn symlink(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry, Errno> {
        let at = self.visit(caller, parent)?;
        let (who, _) = self.creator(&at, name)?;
        let again = replay::attempt();
        let made = self.as_shown(&at, &who, |who| self.backing.symlink(who, target, at.node(self)?, name));
        let made = self.seen(again, made, &[&at], &who);
        again.made(made, || self.made_link(&at, &who, name, target))?;
        let found = self.backing.find(&who, at.node(self)?, name)?;
        self.enter(&at, name, found)
    }

    /// open(2) with O_CREAT.
    ///
    /// # Errors
    /// As [`Self::mkdir`]; ESTALE where the name is something else than a file by now, or was not looked up and may be an older
    /// file's, so that the kernel looks again.
    pub fn create(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        flags: OFlag,
        permissions: Permissions,
        umask: Permissions,
    ) -> Result<(Entry, Opened), Errno> {
        let unseen = replay::was_unseen(
            self.backing.features().asks_after_changes && self.makers.makes(caller.pid, (parent, name)),
        );
        // What was not looked up may be there, and the kernel has not said who may change it.
        let careful = if unseen { flags.difference(OFlag::O_TRUNC) } else { flags };
        let made = self.make_file(caller, parent, name, careful, (permissions, umask), unseen);
        let is_the_answer = |error| error == Errno::EEXIST && flags.contains(OFlag::O_EXCL);
        made.map_err(|error| {
            if !unseen || is_the_answer(error) {
                return error;
            }
            self.makers.doubts(caller.pid, (parent, name));
            Errno::ESTALE
        })
    }

    fn make_file(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        flags: OFlag,
        (permissions, umask): (Permissions, Permissions),
        unseen: bool,
    ) -> Result<(Entry, Opened), Errno> {
        self.handles.has_room()?;
        let at = self.visit(caller, parent)?;
        let (who, owner) = self.creator(&at, name)?;
        let mode = at.policy.new_mode(FileKind::Regular, permissions, umask, owner, at.child_rules(name));
        let create = |who: &Credentials, flags| {
            self.backing.create_identified(who, at.node(self)?, name, self.backing_flags(flags), mode)
        };
        let (again, begun) = (replay::attempt(), unseen.then(replay::begun));
        let made = self.as_shown(&at, &who, |who| create(who, flags));
        // Who makes it exclusively and is told that it is made has made it.
        let is_new = made.is_ok() && flags.contains(OFlag::O_EXCL);
        let made = self.seen(again, made, &[&at], &who);
        let (file, mut found) = again.made(made, || {
            self.finish_creating(&at, &who, name, mode.permissions.without(mode.umask))?;
            create(&who, flags.difference(OFlag::O_EXCL)).ok()
        })?;
        let as_made = found.attr.uid == who.uid && found.attr.size == 0;
        if let Some(begun) = begun.filter(|_| !is_new) {
            // The name may have been there all along.
            if !as_made || found.attr.nlink != 1 || self.clocks.is_older(found.attr.ctime, begun) {
                return Err(Errno::ESTALE);
            }
        } else if !as_made {
            // What root makes is nobody's on any server that squashes root.
            if !who.uid.is_root() {
                self.makers.cannot_tell();
            }
        } else if self.is_on_nfs(&at.inode) {
            self.clocks.learn(found.attr.ctime);
        }
        if as_made && let Some(held) = held_beside(&at, name, &found) {
            // As far as anybody can tell it is new; where it is not, it is the caller's own and empty.
            self.backing.chmod_file(&who, &file, held)?;
            found.attr = self.backing.stat_file(&file, Freshness::Known)?;
        }
        self.enter_open(&at, name, found, file, &who, flags)
    }

    /// open(2) with O_TMPFILE: a file without a name, which link(2) may give one.
    ///
    /// # Errors
    /// As [`Self::mkdir`]; EOPNOTSUPP where the backing has no such files (NFS).
    pub fn tmpfile(
        &self,
        caller: CallerId,
        parent: NodeId,
        flags: OFlag,
        permissions: Permissions,
        umask: Permissions,
    ) -> Result<(Entry, Opened), Errno> {
        self.handles.has_room()?;
        let name = Name::new(c"(unnamed)")?;
        let at = self.visit(caller, parent)?;
        let (who, owner) = self.creator(&at, name)?;
        let mode = at.policy.new_mode(FileKind::Regular, permissions, umask, owner, at.child_rules(name));
        let file = self.as_shown(&at, &who, |who| {
            self.backing.tmpfile(who, at.node(self)?, self.backing_flags(flags), mode)
        })?;
        let found = self.backing.identify(&file)?;
        self.enter_open(&at, name, found, file, &who, flags)
    }

    /// The empty file `name`, if it is as a worker that died would have left it, gets what it may not have come to: NFSv3 makes a
    /// file exclusively with no mode, and with times that say who made it, and sets both afterwards (RFC 1813, 3.3.8).
    fn finish_creating(
        &self,
        at: &Visit<B>,
        who: &Credentials,
        name: Name<'_>,
        permissions: Permissions,
    ) -> Option<()> {
        let found = self.made_by(at, who, name, FileKind::Regular).filter(|found| found.attr.size == 0)?;
        if found.attr.permissions == Permissions::from_mode(0) {
            let node = match found.pin {
                Some(node) => node,
                None => self.backing.resolve(who, &found.id).ok()?,
            };
            self.backing.chmod(who, &node, permissions).ok()?;
            self.backing.set_times(who, &node, NewTime::Now, NewTime::Now).ok()?;
        }
        Some(())
    }

    /// The symlink `name`, if it is as a worker that died would have left it.
    fn made_link(&self, at: &Visit<B>, who: &Credentials, name: Name<'_>, target: &CStr) -> Option<()> {
        let found = self.made_by(at, who, name, FileKind::Symlink)?;
        let node = match found.pin {
            Some(node) => node,
            None => self.backing.resolve(who, &found.id).ok()?,
        };
        (self.backing.readlink(who, &node).ok()? == target.to_bytes()).then_some(())
    }

    /// Who makes `name` in the visited directory, and the directory's owner.
    ///
    /// A new object takes the directory's group under `setgid = true`. A maker that is no member of it first shows that
    /// the server lets it write there by its own right, and only then asks for that group.
    pub(super) fn creator<'a>(
        &self,
        at: &'a Visit<B>,
        name: Name<'_>,
    ) -> Result<(Cow<'a, Credentials>, Owner), Errno> {
        at.child_writable(name)?;
        self.inodes.has_room()?;
        self.about_to_change(&at.inode);
        let rules = at.child_rules(name);
        // Where neither the group that is handed down nor the choice of groups depends on it, as it was last seen.
        let matters = rules.setgid || at.policy.owner_matters(Operation::Create, &at.caller, rules);
        let owner = if matters { self.owner(at)? } else { at.inode.last_owner() };
        let who = at.policy.credentials(Operation::Create, &at.caller, None, Some(owner), rules);
        match at.policy.group_to_adopt(&who, owner, rules) {
            None => Ok((who, owner)),
            Some(group) => {
                let may_write = AccessFlags::W_OK | AccessFlags::X_OK;
                self.as_shown(at, &who, |who| self.backing.access(who, at.node(self)?, may_write))?;
                Ok((Cow::Owned(who.with_gid_first(group)), owner))
            }
        }
    }

    /// An object just made, with the bits that the rules hold.
    fn find_made(
        &self,
        at: &Visit<B>,
        name: Name<'_>,
        maker: &Credentials,
    ) -> Result<Identified<B::Node>, Errno> {
        let mut found = self.backing.find(maker, at.node(self)?, name)?;
        self.hold_mode(at, name, maker, &mut found)?;
        Ok(found)
    }

    /// Gives an object just made the bits that the rules hold and that it could not be made with: mkdir(2) ignores the
    /// setgid bit, and a directory's default ACL masks what it likes.
    fn hold_mode(
        &self,
        at: &Visit<B>,
        name: Name<'_>,
        maker: &Credentials,
        made: &mut Identified<B::Node>,
    ) -> Result<(), Errno> {
        let Some(held) = held_beside(at, name, made) else { return Ok(()) };
        let node = match &made.pin {
            Some(node) => node,
            None => &self.backing.resolve(maker, &made.id)?,
        };
        self.backing.chmod(maker, node, held)?;
        made.attr = self.backing.stat(node, Freshness::Known)?;
        Ok(())
    }

    fn enter_open(
        &self,
        at: &Visit<B>,
        name: Name<'_>,
        found: Identified<B::Node>,
        file: B::File,
        opener: &Credentials,
        flags: OFlag,
    ) -> Result<(Entry, Opened), Errno> {
        let attr = found.attr;
        let (entry, inode) = self.enter_inode(at, name, found)?;
        match self.opened(&at.policy, inode, file, OpenAs { opener, flags, attr: &attr }) {
            Ok(opened) => Ok((entry, opened)),
            Err(error) => {
                self.forget_unanswered(entry.node);
                Err(error)
            }
        }
    }
}

/// The mode that the rules hold for an object just made, where it could not be made with it.
fn held_beside<B: BackingFs>(
    at: &Visit<B>,
    name: Name<'_>,
    made: &Identified<B::Node>,
) -> Option<Permissions> {
    let held = at.policy.chmod(made.attr.kind, made.attr.permissions, at.child_rules(name));
    (held != made.attr.permissions).then_some(held)
}
