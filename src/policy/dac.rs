//! What the kernel will say: `default_permissions` checks every request against the *shown* attributes before it
//! reaches us. A model of generic_permission(), setattr_prepare() and may_delete() of Linux for `explain`; the mount
//! itself asks here only to leave out a request that cannot change the outcome.
//!
//! Not modelled: POSIX ACLs, user namespaces and capabilities other than those of uid 0.

use super::{Caller, FileKind, Permissions, PodGid, PodUid, ShownAttr};

/// What is wanted of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// To read and write and execute (or search), as far as each is set.
    Access {
        /// r.
        read: bool,
        /// w.
        write: bool,
        /// x.
        execute: bool,
    },
    /// What only the owner may do: chmod, setting times, chown to one's own group.
    OwnerOnly,
}

/// Which part of the mode decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The owner's bits, or being the owner.
    Owner,
    /// The group's bits.
    Group,
    /// Everybody's bits.
    Other,
    /// uid 0, whose capabilities override the mode.
    Root,
}

/// The kernel's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request is let through.
    pub allowed: bool,
    /// What decided.
    pub by: Class,
}

/// Whether the kernel lets `caller` have `want` of an object that is shown as `attr`. `caller.groups` are all groups
/// of the process here: the kernel knows nothing of the profile's `groups` key.
#[must_use]
pub fn may(caller: &Caller<'_>, attr: &ShownAttr, want: Want) -> Verdict {
    let by = class(caller, attr.uid, attr.gid);
    let allowed = match want {
        Want::OwnerOnly => matches!(by, Class::Owner | Class::Root),
        Want::Access { read, write, execute } => {
            let wanted = u32::from(read) << 2 | u32::from(write) << 1 | u32::from(execute);
            let granted = match by {
                Class::Owner => attr.permissions.bits() >> 6,
                Class::Group => attr.permissions.bits() >> 3,
                Class::Other => attr.permissions.bits(),
                Class::Root => root_bits(attr),
            };
            wanted & !granted & 0o7 == 0
        }
    };
    Verdict { allowed, by }
}

/// Whether a sticky `directory` lets `caller`, who may write in it, take `object` out of it.
#[must_use]
pub fn may_remove(caller: &Caller<'_>, directory: &ShownAttr, object: &ShownAttr) -> Verdict {
    let by = class(caller, object.uid, object.gid);
    let sticky = directory.permissions.contains(Permissions::STICKY);
    let owns = by == Class::Root || caller.uid == object.uid || caller.uid == directory.uid;
    Verdict { allowed: !sticky || owns, by }
}

fn class(caller: &Caller<'_>, uid: PodUid, gid: PodGid) -> Class {
    if caller.uid.is_root() {
        Class::Root
    } else if caller.uid == uid {
        Class::Owner
    } else if caller.gid == gid || caller.groups.contains(&gid) {
        Class::Group
    } else {
        Class::Other
    }
}

/// CAP_DAC_OVERRIDE: everything, but execution only of what somebody may execute.
fn root_bits(attr: &ShownAttr) -> u32 {
    let executable = attr.kind == FileKind::Directory || attr.permissions.bits() & 0o111 != 0;
    0o6 | u32::from(executable)
}
