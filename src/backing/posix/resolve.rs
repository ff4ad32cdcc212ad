//! Finding objects: by name, by handle, and the identity of what was found.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::super::{Found, Freshness, Identified, MountIndex, ObjectId};
use super::acting::{act_as_root, act_to_look};
use super::files::reopen;
use super::mounts::{MountTable, Place, handle_of};
use super::{File, Node, PosixBacking, attr};
use crate::policy::Credentials;
use crate::sys::handle::{name_to_handle_at, open_by_handle};
use crate::sys::stat::{Statx, statx, statx_at};
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
    act_to_look(who)?;
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

/// By two paths of one name instead of one descriptor: half the system calls. Whether both led to one object is seen
/// by the number that the handle holds; where that is not so, or the object is of an uncommon sort, [`lookup`] decides.
pub(super) fn find(
    mounts: &MountTable,
    who: &Credentials,
    parent: &Node,
    name: Name<'_>,
    freshness: Freshness,
) -> Result<Identified<Node>, Errno> {
    if mounts.has_handles(parent.mount) {
        act_to_look(who)?;
        let stat = statx_at(parent.as_fd(), name.as_c_str(), freshness == Freshness::Known)?;
        if !stat.is_automount() && mounts.is(parent.mount, &stat) {
            let handle = name_to_handle_at(parent.as_fd(), name.as_c_str());
            if let Some(handle) = handle.ok().filter(|handle| handle.names_ino(stat.ino())) {
                let id = ObjectId { mount: parent.mount, ino: stat.ino(), handle: Some(handle) };
                return Ok(Identified { pin: None, id, attr: attr::stored(&stat, parent.mount)? });
            }
        }
    }
    lookup(mounts, who, parent, name).map(Identified::from)
}

pub(super) fn identify(mounts: &MountTable, file: &File) -> Result<Identified<Node>, Errno> {
    identify_as(mounts, file, &statx(file.as_fd(), true)?)
}

/// As [`identify`], where `stat` has just been asked.
pub(super) fn identify_as(mounts: &MountTable, file: &File, stat: &Statx) -> Result<Identified<Node>, Errno> {
    let handle = if mounts.has_handles(file.mount) { handle_of(file.as_fd())? } else { None };
    let pin = if handle.is_none() { Some(reference(file)?) } else { None };
    let id = ObjectId { mount: file.mount, ino: stat.ino(), handle };
    Ok(Identified { pin, id, attr: attr::stored(stat, file.mount)? })
}

/// SOURCE itself, as `fd` has found it again.
pub(super) fn root_node(fd: OwnedFd) -> Node {
    Node { fd, mount: MountIndex(0) }
}

pub(super) fn reference(file: &File) -> Result<Node, Errno> {
    Ok(Node { fd: reopen(file.as_fd(), REFERENCE)?, mount: file.mount })
}

pub(super) fn resolve(mounts: &MountTable, who: &Credentials, id: &ObjectId) -> Result<Node, Errno> {
    let handle = id.handle.as_ref().ok_or(Errno::ESTALE)?;
    let find = |anchor: BorrowedFd<'_>| {
        act_to_look(who)?;
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
