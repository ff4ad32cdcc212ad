//! What stands in the model export of a test: directories, files and symlinks, each with the owner and mode that it needs.

use std::ffi::CString;

use crate::backing::model::ModelBacking;
use crate::backing::{BackingFs, Name};
use crate::policy::{Credentials, FileKind, NewMode, NfsGid, NfsUid, Permissions};

/// Makes an object of `owner`, both uid and gid, as an administrator at the server.
pub(super) fn make(export: &ModelBacking, path: &str, kind: FileKind, owner: u32, mode: u32) {
    at_name(export, path, |node, name| {
        let new = NewMode { permissions: Permissions::NONE, umask: Permissions::NONE, setgid: false };
        match kind {
            FileKind::Directory => export.mkdir(&admin(), node, name, new).unwrap(),
            kind => export.mknod(&admin(), node, name, kind, new, 0).unwrap(),
        }
        let made = export.lookup(&admin(), node, name).unwrap().node;
        let (uid, gid) = (NfsUid::new(owner).unwrap(), NfsGid::new(owner).unwrap());
        export.chown(&admin(), &made, Some(uid), Some(gid)).unwrap();
        export.chmod(&admin(), &made, Permissions::from_mode(mode)).unwrap();
    });
}

/// Makes a symlink.
pub(super) fn link(export: &ModelBacking, path: &str, target: &str) {
    let target = CString::new(target).unwrap();
    at_name(export, path, |node, name| export.symlink(&admin(), &target, node, name).unwrap());
}

fn at_name(export: &ModelBacking, path: &str, make: impl FnOnce(&u64, Name<'_>)) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let mut node = export.root().unwrap().node;
    for name in parent.split('/').filter(|name| !name.is_empty()) {
        let name = CString::new(name).unwrap();
        node = export.lookup(&admin(), &node, Name::new(&name).unwrap()).unwrap().node;
    }
    let name = CString::new(name).unwrap();
    make(&node, Name::new(&name).unwrap());
}

fn admin() -> Credentials {
    Credentials::new(NfsUid::ROOT, NfsGid::ROOT, [])
}
