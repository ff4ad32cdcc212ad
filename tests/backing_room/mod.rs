//! Short words for what every test of the real backing says: who acts, under which name, with which mode.
//!
//! A call as somebody leaves the thread as that somebody, so each look from outside goes through [`outside`].

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::ffi::CStr;

use permfs::backing::posix::{File, Node, PosixBacking};
use permfs::backing::{BackingFs, Errno, Found, Name, SuidBits, WriteHow};
use permfs::policy::{Credentials, NewMode, NfsGid, NfsUid, Permissions};
use permfs::sys::credentials;

/// A write at its offset, by somebody whose suid bits may stay.
pub const PLAIN: WriteHow =
    WriteHow { append: false, data_sync: false, sync: false, written_back: false, suid: SuidBits::AsOpener };

/// Does `call` as root, whoever the thread has been.
pub fn outside<T>(call: impl FnOnce() -> T) -> T {
    credentials::reset().unwrap();
    call()
}

pub fn user(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
    let groups = groups.iter().map(|&group| NfsGid::new(group).unwrap()).collect();
    Credentials { uid: NfsUid::new(uid).unwrap(), gid: NfsGid::new(gid).unwrap(), groups }
}

/// The export's owner.
pub fn owner() -> Credentials {
    user(2001, 2001, &[])
}

pub fn root() -> Credentials {
    user(0, 0, &[])
}

pub fn name(name: &CStr) -> Name<'_> {
    Name::new(name).unwrap()
}

pub fn mode(permissions: u32, umask: u32) -> NewMode {
    NewMode {
        permissions: Permissions::from_mode(permissions),
        umask: Permissions::from_mode(umask),
        setgid: false,
    }
}

pub fn root_node(backing: &PosixBacking) -> Node {
    backing.root().unwrap().node
}

pub fn create(backing: &PosixBacking, who: &Credentials, file: &CStr) -> Result<File, Errno> {
    let flags = nix::fcntl::OFlag::O_RDWR;
    backing.create(who, &root_node(backing), name(file), flags, mode(0o666, 0o022))
}

pub fn lookup(backing: &PosixBacking, who: &Credentials, file: &CStr) -> Result<Found<Node>, Errno> {
    backing.lookup(who, &root_node(backing), name(file))
}
