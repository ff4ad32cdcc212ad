//! Finding objects: by name, by handle, and the identity of what was found.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::super::{Found, MountIndex, ObjectId};
use super::acting::{act_as, act_as_root};
use super::files::reopen;
use super::mounts::{MountTable, Place, handle_of};
use super::{File, Node, PosixBacking, attr};
use crate::policy::Credentials;
use crate::sys::handle::open_by_handle;
use crate::sys::stat::{Statx, statx};
use crate::sys::{Errno, Name};

/// A reference to work with, not the object's content.
const REFERENCE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

pub(super) fn root(backing: &PosixBacking) -> Result<Found<Node>, Errno> {
    let stat = statx(backing.root.as_fd(), false)?;
    let fd = backing.root.try_clone()?;
    let place = Place { mount: MountIndex(0), handles: backing.mounts.has_handles(MountIndex(0)) };
    found(fd, place, &stat)
}

pub(super) fn lookup(
    mounts: &MountTable,
    who: &Credentials,
    parent: &Node,
    name: Name<'_>,
) -> Result<Found<Node>, Errno> {
    act_as(who)?;
    let find = |flags| openat(parent, name.as_c_str(), REFERENCE | OFlag::O_NOFOLLOW | flags, Mode::empty());
    let mut fd = find(OFlag::empty())?;
    let mut stat = statx(fd.as_fd(), false)?;
    if stat.is_automount() {
        // O_PATH alone does not mount what is to be mounted here; with O_DIRECTORY it does.
        fd = find(OFlag::O_DIRECTORY)?;
        stat = statx(fd.as_fd(), false)?;
    }
    let place = mounts.place(who, fd.as_fd(), &stat)?;
    found(fd, place, &stat)
}

pub(super) fn identify(mounts: &MountTable, file: &File) -> Result<Found<Node>, Errno> {
    let stat = statx(file.as_fd(), true)?;
    let fd = reopen(file.as_fd(), REFERENCE)?;
    let handles = mounts.has_handles(file.mount);
    found(fd, Place { mount: file.mount, handles }, &stat)
}

pub(super) fn resolve(mounts: &MountTable, who: &Credentials, id: &ObjectId) -> Result<Node, Errno> {
    let handle = id.handle.as_ref().ok_or(Errno::ESTALE)?;
    let find = |anchor: BorrowedFd<'_>| {
        act_as(who)?;
        match open_by_handle(anchor, handle) {
            // On NFS a directory's handle is only good for who may search the directories above it. Root may, where it
            // is not squashed; the reference gives no right that `who` does not have.
            Err(Errno::ESTALE) if !who.uid.is_root() => {
                act_as_root()?;
                open_by_handle(anchor, handle)
            }
            result => result,
        }
    };
    let fd = mounts.with_anchor(id.mount, find).ok_or(Errno::ESTALE)??;
    Ok(Node { fd, mount: id.mount })
}

fn found(fd: OwnedFd, place: Place, stat: &Statx) -> Result<Found<Node>, Errno> {
    let handle = if place.handles { handle_of(fd.as_fd())? } else { None };
    let id = ObjectId { mount: place.mount, ino: stat.ino(), handle };
    let attr = attr::stored(stat, place.mount)?;
    Ok(Found { node: Node { fd, mount: place.mount }, id, attr })
}
