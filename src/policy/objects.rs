//! What objects look like, and which modes and owners they get.

use super::rules::Chown;
use super::*;

impl Policy {
    /// Mode and umask for a new object.
    ///
    /// Without `group_write`, `setgid` and `umask` both are what was asked for. A setgid bit asked for in mkdir is left
    /// to the backing's kernel, which ignores it (mkdir(2)).
    pub fn new_mode(
        &self,
        kind: FileKind,
        requested: Permissions,
        umask: Permissions,
        parent: Owner,
        rules: &Rules,
    ) -> NewMode {
        let held = group_bits(kind, rules);
        NewMode {
            permissions: requested.with(held),
            umask: rules.umask.unwrap_or(umask).without(held),
            setgid: rules.setgid && kind == FileKind::Directory && !parent.setgid,
        }
    }

    /// The mode to store for a chmod to `requested`.
    pub fn chmod(&self, kind: FileKind, requested: Permissions, rules: &Rules) -> Permissions {
        requested.with(held_bits(kind, rules))
    }

    /// What to do with a chown of an object that is shown as `shown`.
    pub fn chown(
        &self,
        uid: Option<PodUid>,
        gid: Option<PodGid>,
        shown: &ShownAttr,
        rules: &Rules,
    ) -> Result<ChownOutcome, Denied> {
        if uid.is_none() && gid.is_none() {
            return Ok(ChownOutcome::Nothing);
        }
        match rules.chown {
            Chown::Deny => Err(Denied::Chown),
            Chown::Ignore => Ok(ChownOutcome::Nothing),
            Chown::Pass => Ok(ChownOutcome::Pass {
                uid: uid.map(|uid| self.owner_named(uid)).transpose()?,
                gid: gid.map(|gid| self.group_named(gid)).transpose()?,
                absorb: false,
            }),
            Chown::Absorb => self.absorb(uid, gid, shown),
        }
    }

    /// What an object looks like to every caller. Never fails.
    pub fn present(&self, stored: &StoredAttr, rules: &Rules) -> ShownAttr {
        let permissions = if rules.apply_to_all {
            stored.permissions.with(held_bits(stored.kind, rules))
        } else {
            stored.permissions
        };
        stored.shown_as(self.show_uid(stored.uid), self.show_gid(stored.gid), permissions)
    }

    /// What an owner or an ACL entry's user is shown as.
    pub fn show_uid(&self, uid: NfsUid) -> PodUid {
        self.uids.outbound(uid)
    }

    /// See [`Self::show_uid`].
    pub fn show_gid(&self, gid: NfsGid) -> PodGid {
        self.gids.outbound(gid)
    }

    /// The owner that a pod's id names on the export, for chown and ACLs.
    pub fn owner_named(&self, uid: PodUid) -> Result<NfsUid, Denied> {
        self.uids.named(uid).ok_or(Denied::NoOwner(uid))
    }

    /// The group that a pod's id names on the export, for chown and ACLs.
    pub fn group_named(&self, gid: PodGid) -> Result<NfsGid, Denied> {
        self.gids.named(gid).ok_or(Denied::NoGroup(gid))
    }

    /// Passed on, with leave to be refused where it only repeats what is shown. What is shown but names nobody on the
    /// export (65534 for all owners without a rule) cannot be passed on: that part is done already.
    fn absorb(
        &self,
        uid: Option<PodUid>,
        gid: Option<PodGid>,
        shown: &ShownAttr,
    ) -> Result<ChownOutcome, Denied> {
        let absorb = uid.is_none_or(|uid| uid == shown.uid) && gid.is_none_or(|gid| gid == shown.gid);
        let uid = uid.and_then(|uid| unless_shown(self.owner_named(uid), uid == shown.uid)).transpose()?;
        let gid = gid.and_then(|gid| unless_shown(self.group_named(gid), gid == shown.gid)).transpose()?;
        if uid.is_none() && gid.is_none() {
            return Ok(ChownOutcome::Nothing);
        }
        Ok(ChownOutcome::Pass { uid, gid, absorb })
    }
}

/// A refusal counts as nothing to do where the id is the shown one.
fn unless_shown<T>(named: Result<T, Denied>, shown: bool) -> Option<Result<T, Denied>> {
    if shown && named.is_err() { None } else { Some(named) }
}

/// The bits that `group_write` holds up.
fn group_bits(kind: FileKind, rules: &Rules) -> Permissions {
    match kind {
        _ if !rules.group_write => Permissions::NONE,
        // A link's own mode means nothing.
        FileKind::Symlink => Permissions::NONE,
        FileKind::Directory => Permissions::GROUP_RWX,
        _ => Permissions::GROUP_RW,
    }
}

/// The bits that `group_write` and `setgid` hold up on an object that exists.
fn held_bits(kind: FileKind, rules: &Rules) -> Permissions {
    let group = group_bits(kind, rules);
    if rules.setgid && kind == FileKind::Directory { group.with(Permissions::SETGID) } else { group }
}
