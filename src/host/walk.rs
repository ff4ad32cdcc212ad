//! Finding a directory below a share as those whom the rules let, name by name and never through a symlink.

use super::SubPath;
use super::hands::Hands;
use crate::backing::{BackingFs, Errno, Found, Name};
use crate::policy::{FileKind, NewMode, Operation, Permissions};

/// The mode that new directories are asked for: the umask and the rules (`group_write`, `setgid`) act on it.
const ASKED: u32 = 0o777;
/// The umask of new directories: a volume is for all who act as its owner or its group.
const UMASK: u32 = 0o002;

/// How far it went, and why not farther.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stuck {
    /// The path up to the name that failed.
    pub(super) at: String,
    /// ELOOP for a symlink, ENOTDIR for anything else that is no directory.
    pub(super) errno: Errno,
}

/// The directory at `path`.
pub(super) fn walk<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    from: Found<B::Node>,
    path: &SubPath,
) -> Result<Found<B::Node>, Stuck> {
    go(backing, hands, from, path, |_, errno, _| Err(errno))
}

/// The directory at `path`, made where it is not there.
pub(super) fn make_way<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    from: Found<B::Node>,
    path: &SubPath,
) -> Result<Found<B::Node>, Stuck> {
    go(backing, hands, from, path, |parent, errno, name| {
        if errno != Errno::ENOENT {
            return Err(errno);
        }
        match make_directory(backing, hands, parent, name) {
            // Somebody else was faster.
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    })
}

/// A new directory, under the rules for new directories.
pub(super) fn make_directory<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    parent: &Found<B::Node>,
    name: Name<'_>,
) -> Result<(), Errno> {
    let owner = parent.attr.owner();
    let (asked, umask) = (Permissions::from_mode(ASKED), Permissions::from_mode(UMASK));
    let mode: NewMode = hands.policy().new_mode(FileKind::Directory, asked, umask, owner, hands.rules());
    hands.attempt(Operation::Create, None, Some(owner), |who| {
        backing.mkdir(who, &parent.node, name, mode)?;
        if mode.setgid {
            let made = backing.lookup(who, &parent.node, name)?;
            backing.chmod(who, &made.node, made.attr.permissions.with(Permissions::SETGID))?;
        }
        Ok(())
    })
}

/// The object called `name`, whatever it is.
pub(super) fn look_up<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    parent: &Found<B::Node>,
    name: Name<'_>,
) -> Result<Found<B::Node>, Errno> {
    hands.attempt(Operation::Look, Some(parent.attr.owner()), None, |who| {
        backing.lookup(who, &parent.node, name)
    })
}

/// ELOOP for a symlink, ENOTDIR for anything else that is no directory.
pub(super) fn directory<N>(found: Found<N>) -> Result<Found<N>, Errno> {
    match found.attr.kind {
        FileKind::Directory => Ok(found),
        FileKind::Symlink => Err(Errno::ELOOP),
        _ => Err(Errno::ENOTDIR),
    }
}

fn go<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    from: Found<B::Node>,
    path: &SubPath,
    mut missing: impl FnMut(&Found<B::Node>, Errno, Name<'_>) -> Result<(), Errno>,
) -> Result<Found<B::Node>, Stuck> {
    let mut here = from;
    let mut walked = String::new();
    for name in path.names() {
        walked.push_str(if walked.is_empty() { "" } else { "/" });
        walked.push_str(&String::from_utf8_lossy(name.as_bytes()));
        let stuck = |errno| Stuck { at: walked.clone(), errno };
        let found = match look_up(backing, hands, &here, name) {
            Ok(found) => found,
            Err(errno) => {
                missing(&here, errno, name).map_err(stuck)?;
                look_up(backing, hands, &here, name).map_err(stuck)?
            }
        };
        here = directory(found).map_err(stuck)?;
    }
    Ok(here)
}
