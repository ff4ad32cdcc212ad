//! Extended attributes: passed on, but for those whose meaning a translation would break.
//!
//! * POSIX ACLs are translated (see [`super::acl`]).
//! * Other `system.` attributes (NFSv4 ACLs) name owners in the server's words. They pass where nothing is translated and
//!   are otherwise hidden.
//! * `security.` and `trusted.` belong to the node's root. The kernel asked the caller for its capabilities, but a
//!   container may have those: only who acts as root at the server may change them, and see `trusted.` ones.

use std::ffi::CStr;

use super::inode::Live;
use super::replay;
use super::visit::Visit;
use super::{CallerId, Errno, Filesystem, NodeId, acl};
use crate::backing::{BackingFs, Freshness};
use crate::policy::{Credentials, Operation, Permissions};

/// The longest list of names and the largest value (XATTR_LIST_MAX, XATTR_SIZE_MAX; limits.h).
const XATTR_MAX: usize = 65_536;

/// Capabilities of a file (XATTR_NAME_CAPS, linux/xattr.h), which the kernel asks for before it writes to one for the first time.
/// An NFS client has none (EOPNOTSUPP): of `security.` it knows labels alone (`nfs4_xattr_get_nfs4_label`, fs/nfs/nfs4proc.c).
const CAPABILITIES: &CStr = c"security.capability";

impl<B: BackingFs> Filesystem<B> {
    /// getxattr(2): the value's length; with an empty `buffer` only that.
    ///
    /// # Errors
    /// ERANGE where the value does not fit, ENODATA where there is none, EOPNOTSUPP for one that is hidden.
    pub fn getxattr(
        &self,
        caller: CallerId,
        node: NodeId,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let at = self.visit(caller, node)?;
        let who = self.actor(&at, Operation::Open, at.rules())?;
        if hidden(&at, &who, name.to_bytes()) || name == CAPABILITIES && self.is_on_nfs(&at.inode) {
            return Err(Errno::EOPNOTSUPP);
        }
        let open = at.inode.live_if_any().and_then(Live::at_hand);
        let length = match open.as_ref().and_then(|open| open.file.get()) {
            Some(file) => self.backing.getxattr_file(&who, file, name, buffer)?,
            None => self.backing.getxattr(&who, at.node(self)?, name, buffer)?,
        };
        if acl::is_acl(name.to_bytes())
            && let Some(value) = buffer.get_mut(..length)
        {
            acl::show(&at.policy, value);
        }
        Ok(length)
    }

    /// listxattr(2): as [`Self::getxattr`].
    ///
    /// # Errors
    /// ERANGE where the names do not fit.
    pub fn listxattr(&self, caller: CallerId, node: NodeId, buffer: &mut [u8]) -> Result<usize, Errno> {
        let at = self.visit(caller, node)?;
        let who = self.actor(&at, Operation::Look, at.rules())?;
        if at.policy.is_transparent() && who.uid.is_root() {
            return self.backing.listxattr(&who, at.node(self)?, buffer);
        }
        let mut all = vec![0; XATTR_MAX];
        let length = self.backing.listxattr(&who, at.node(self)?, &mut all)?;
        let shown: Vec<u8> = all[..length]
            .split_inclusive(|&byte| byte == 0)
            .filter(|name| !hidden(&at, &who, name.strip_suffix(b"\0").unwrap_or(name)))
            .flatten()
            .copied()
            .collect();
        if !buffer.is_empty() {
            buffer.get_mut(..shown.len()).ok_or(Errno::ERANGE)?.copy_from_slice(&shown);
        }
        Ok(shown.len())
    }

    /// setxattr(2); `flags` as there.
    ///
    /// # Errors
    /// EPERM for what belongs to the node's root, EOVERFLOW for an ACL that names somebody without a rule, EROFS in a
    /// read-only subtree, else the backing's.
    pub fn setxattr(
        &self,
        caller: CallerId,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        let at = self.visit(caller, node)?;
        at.writable()?;
        let who = self.actor(&at, Operation::Change, at.rules())?;
        may_change(&at, &who, name.to_bytes())?;
        if !acl::is_acl(name.to_bytes()) {
            let again = replay::attempt();
            let made = self.backing.setxattr(&who, at.node(self)?, name, value, flags);
            return again.made(made, || self.has_value(&at, &who, name, value));
        }
        let mut value = value.to_vec();
        acl::store(&at.policy, &mut value)?;
        self.backing.setxattr(&who, at.node(self)?, name, &value, flags)?;
        self.hold_group_bits(&at, &who)
    }

    /// removexattr(2).
    ///
    /// # Errors
    /// As [`Self::setxattr`].
    pub fn removexattr(&self, caller: CallerId, node: NodeId, name: &CStr) -> Result<(), Errno> {
        let at = self.visit(caller, node)?;
        at.writable()?;
        let who = self.actor(&at, Operation::Change, at.rules())?;
        may_change(&at, &who, name.to_bytes())?;
        // Once it is attempted nobody can tell any more whether there was one. To take away an ACL that is not there is no error.
        if !acl::is_acl(name.to_bytes())
            && !replay::was_attempted()
            && self.backing.getxattr(&who, at.node(self)?, name, &mut []) == Err(Errno::ENODATA)
        {
            return Err(Errno::ENODATA);
        }
        let again = replay::attempt();
        again.removed(self.backing.removexattr(&who, at.node(self)?, name), Errno::ENODATA)
    }

    fn has_value(&self, at: &Visit<B>, who: &Credentials, name: &CStr, value: &[u8]) -> Option<()> {
        let mut there = vec![0; value.len() + 1];
        let length = self.backing.getxattr(who, at.node(self).ok()?, name, &mut there).ok()?;
        (there[..length] == *value).then_some(())
    }

    /// An ACL's mask is the mode's group bits: what a chmod cannot take away, an ACL cannot either.
    fn hold_group_bits(&self, at: &Visit<B>, who: &Credentials) -> Result<(), Errno> {
        let stored = self.backing.stat(at.node(self)?, Freshness::Known)?;
        let held: Permissions = at.policy.chmod(stored.kind, stored.permissions, at.rules());
        if held == stored.permissions {
            return Ok(());
        }
        self.backing.chmod(who, at.node(self)?, held)
    }
}

/// Whether an attribute is not shown to these credentials under this policy.
fn hidden<B: BackingFs>(at: &Visit<B>, who: &Credentials, name: &[u8]) -> bool {
    if name.starts_with(b"system.") {
        return !acl::is_acl(name) && !at.policy.is_transparent();
    }
    name.starts_with(b"trusted.") && !who.uid.is_root()
}

fn may_change<B: BackingFs>(at: &Visit<B>, who: &Credentials, name: &[u8]) -> Result<(), Errno> {
    if hidden(at, who, name) {
        return Err(Errno::EOPNOTSUPP);
    }
    let privileged = name.starts_with(b"security.") || name.starts_with(b"trusted.");
    if privileged && !who.uid.is_root() { Err(Errno::EPERM) } else { Ok(()) }
}
