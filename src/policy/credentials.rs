//! As whom an operation is done at the server.
//!
//! [`Credentials`] is the only thing the backing accepts in the place of a user. They are chosen by one pure function,
//! [`super::Policy::credentials`], from the operation, the admitted caller, the object's owner and its parent's.

use std::borrow::Cow;
use std::sync::Arc;

use super::{NfsGid, NfsUid, Owner, PodGid, PodUid, Rules};

/// Who asks, in the pod's ids. `groups` are the supplementary groups that count under the profile's `groups` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The filesystem uid of the calling thread.
    pub uid: PodUid,
    /// The filesystem gid of the calling thread.
    pub gid: PodGid,
    /// Supplementary groups.
    pub groups: &'a [PodGid],
}

/// The identity under which a backing call runs: fsuid, fsgid and supplementary groups of the calling thread.
///
/// `gid` is the group that matters for the operation at hand: many servers ignore the client's group list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user the server sees.
    pub uid: NfsUid,
    /// The group the server sees first, and the one a new object takes where the directory does not decide.
    pub gid: NfsGid,
    /// Supplementary groups, without `gid`, sorted and without repeats. At most 16 travel over AUTH_SYS.
    pub groups: Arc<[NfsGid]>,
}

impl Credentials {
    /// Credentials with these groups, in whatever order they come.
    #[must_use]
    pub fn new(uid: NfsUid, gid: NfsGid, groups: impl IntoIterator<Item = NfsGid>) -> Self {
        let mut groups: Vec<_> = groups.into_iter().filter(|&group| group != gid).collect();
        groups.sort_unstable();
        groups.dedup();
        Self { uid, gid, groups: groups.into() }
    }

    /// Whether these credentials belong to `gid`, first or supplementary.
    #[must_use]
    pub fn is_member(&self, gid: NfsGid) -> bool {
        self.gid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// The same user with `gid` in the place that every server honours; the former one moves to the list.
    /// The caller has made sure that these credentials may use `gid`.
    #[must_use]
    pub fn with_gid_first(&self, gid: NfsGid) -> Self {
        if self.gid == gid {
            return self.clone();
        }
        let mut groups: Vec<_> =
            self.groups.iter().copied().filter(|&g| g != gid).chain([self.gid]).collect();
        groups.sort_unstable();
        groups.dedup();
        Self { uid: self.uid, gid, groups: groups.into() }
    }
}

/// What is being done, as far as it decides whom to act as. The names are those of `permfs explain --op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Look at an object: lookup, stat, readlink, statfs.
    Look,
    /// Open a file or directory, access(2), locks, xattrs read: whatever reads or writes content.
    Open,
    /// Change an object's mode, times, size, owner, ACL or xattrs.
    Change,
    /// Make a new object in a directory: create, mkdir, mknod, symlink, and the new name of a link.
    Create,
    /// Take a name out of a directory, or move it: unlink, rmdir, rename.
    Remove,
}

/// The profile's `act_as`: as whom the server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActAs {
    /// The mapped caller: the server stays the authority.
    Caller,
    /// The object's real owner: the kernel has already enforced what is shown.
    Owner,
    /// Always the same.
    Fixed(Credentials),
}

/// As whom to act: see [`super::Policy::credentials`].
pub(super) fn choose<'a>(
    act_as: &'a ActAs,
    operation: Operation,
    caller: &'a Credentials,
    object: Option<Owner>,
    parent: Option<Owner>,
    rules: &Rules,
) -> Cow<'a, Credentials> {
    let owner = match (act_as, operation) {
        (ActAs::Fixed(fixed), _) => return Cow::Borrowed(fixed),
        (_, Operation::Create) => return as_maker(caller, parent, rules),
        (_, Operation::Remove) => parent,
        (_, Operation::Look | Operation::Open | Operation::Change) => object,
    };
    let Some(owner) = owner else { return Cow::Borrowed(caller) };
    match act_as {
        ActAs::Owner if !owner.uid.is_root() => Cow::Owned(as_owner(caller, owner)),
        _ => with_group(caller, owner.gid),
    }
}

/// A new object takes the directory's group where the directory hands it down, or the rules do.
fn as_maker<'a>(caller: &'a Credentials, parent: Option<Owner>, rules: &Rules) -> Cow<'a, Credentials> {
    match parent {
        Some(parent) if rules.setgid || parent.setgid => with_group(caller, parent.gid),
        _ => Cow::Borrowed(caller),
    }
}

/// Group 0 goes out only where a rule gave it to the caller: root_squash squashes it too.
fn as_owner(caller: &Credentials, owner: Owner) -> Credentials {
    let gid = if owner.gid.is_root() { caller.gid } else { owner.gid };
    Credentials { uid: owner.uid, gid, groups: Arc::default() }
}

fn with_group(caller: &Credentials, gid: NfsGid) -> Cow<'_, Credentials> {
    if caller.gid != gid && caller.is_member(gid) {
        Cow::Owned(caller.with_gid_first(gid))
    } else {
        Cow::Borrowed(caller)
    }
}
