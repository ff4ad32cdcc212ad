//! As whom an operation is done: the one function from (mode, operation, caller, object, parent) to credentials.
//!
//! Two rules hold throughout. The group that matters goes first, because many servers ignore the client's list of
//! groups. And id 0 is never taken from an object's owner unless the profile says `allow_root`: root_squash would make
//! nobody of it, and without root_squash it would be root.

use std::borrow::Cow;

use super::profile::ActAs;
use super::*;

impl Policy {
    /// As whom to do `operation`, given the admitted caller, the object's owner (absent for a new object) and the
    /// parent directory's (absent where no directory is changed). `rules` are those of the object's (for `Create` and
    /// `Remove`: the parent's) scope.
    ///
    /// Puts the group that matters first, where the credentials are a member: the object's, for `Remove` the
    /// directory's, and for `Create` the directory's where new objects take it. Borrows where nothing changes.
    pub fn credentials<'a>(
        &self,
        operation: Operation,
        caller: &'a Credentials,
        object: Option<Owner>,
        parent: Option<Owner>,
        rules: &Rules,
    ) -> Cow<'a, Credentials> {
        let group = group_that_matters(operation, object, parent, rules);
        match &self.act_as.value {
            ActAs::Caller => led_by(caller, group),
            // A clone of shared groups: no allocation, unless another group has to lead.
            ActAs::Fixed(fixed) => Cow::Owned(led_by(fixed, group).into_owned()),
            ActAs::Owner => match owner_to_act_as(operation, object, parent) {
                Some(owner) if self.may_act_as(owner) => self.as_owner(owner, caller),
                _ => led_by(caller, group),
            },
        }
    }

    /// Whether [`Self::credentials`] can depend on the object's or the parent's owner here. Where not, it need not be
    /// found out.
    pub fn owner_matters(&self, operation: Operation, caller: &Credentials, _rules: &Rules) -> bool {
        match &self.act_as.value {
            ActAs::Caller => !caller.groups.is_empty(),
            ActAs::Fixed(fixed) => !fixed.groups.is_empty(),
            ActAs::Owner => operation != Operation::Create || !caller.groups.is_empty(),
        }
    }

    /// The group a new object must take that these credentials are not a member of: the directory's, where
    /// `setgid = true` and the directory's own setgid bit does not see to it. The conductor first checks, as
    /// `creator`, that the server lets it write in the directory, and then creates with this group first.
    ///
    /// Group 0 is adopted only under `allow_root`: the new object then keeps its creator's group.
    pub fn group_to_adopt(&self, creator: &Credentials, parent: Owner, rules: &Rules) -> Option<NfsGid> {
        let wanted = rules.setgid && !parent.setgid && !creator.is_member(parent.gid);
        (wanted && self.may_use_group(parent.gid)).then_some(parent.gid)
    }

    fn as_owner<'a>(&self, owner: Owner, caller: &'a Credentials) -> Cow<'a, Credentials> {
        let gid = if self.may_use_group(owner.gid) { owner.gid } else { caller.gid };
        if (caller.uid, caller.gid) == (owner.uid, gid) && caller.groups.is_empty() {
            return Cow::Borrowed(caller);
        }
        Cow::Owned(Credentials { uid: owner.uid, gid, groups: self.no_groups.clone() })
    }

    fn may_act_as(&self, owner: Owner) -> bool {
        !owner.uid.is_root() || self.allow_root
    }

    fn may_use_group(&self, gid: NfsGid) -> bool {
        !gid.is_root() || self.allow_root
    }
}

/// Whose authority an operation needs under `act_as = "owner"`; none: the caller's own.
fn owner_to_act_as(operation: Operation, object: Option<Owner>, parent: Option<Owner>) -> Option<Owner> {
    match operation {
        Operation::Look | Operation::Open | Operation::Change => object.or(parent),
        Operation::Remove => parent,
        Operation::Create => None,
    }
}

/// The group by which the server will decide, or that a new object is to take.
fn group_that_matters(
    operation: Operation,
    object: Option<Owner>,
    parent: Option<Owner>,
    rules: &Rules,
) -> Option<NfsGid> {
    let owner = match operation {
        Operation::Look | Operation::Open | Operation::Change => object.or(parent),
        Operation::Remove => parent,
        Operation::Create => parent.filter(|parent| rules.setgid || parent.setgid),
    };
    owner.map(|owner| owner.gid)
}

fn led_by(credentials: &Credentials, group: Option<NfsGid>) -> Cow<'_, Credentials> {
    match group {
        Some(group) if credentials.gid != group && credentials.is_member(group) => {
            Cow::Owned(credentials.with_gid_first(group))
        }
        _ => Cow::Borrowed(credentials),
    }
}
