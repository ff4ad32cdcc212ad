//! Names, symlinks and devices.

use nix::fcntl::RenameFlags;
use permfs::backing::{BackingFs, Errno, Freshness, NewTime};
use permfs::policy::{FileKind, Timestamp};

use super::*;

#[test]
fn a_symlink_is_read_changed_and_linked_itself_and_never_followed() {
    let export = Export::ext4();
    let backing = export.open();
    let node = root_node(&backing);
    create(&backing, &owner(), c"target").unwrap();
    backing.symlink(&owner(), c"target", &node, name(c"symlink")).unwrap();
    let found = lookup(&backing, &owner(), c"symlink").unwrap();
    assert_eq!((found.attr.kind, found.attr.size), (FileKind::Symlink, 6));
    assert_eq!(backing.readlink(&owner(), &found.node).unwrap(), b"target");
    backing.link(&owner(), &found.node, &node, name(c"second")).unwrap();
    assert_eq!(lookup(&backing, &owner(), c"second").unwrap().id, found.id);
    let time = Timestamp { seconds: 1, nanoseconds: 2 };
    backing.set_times(&owner(), &found.node, NewTime::At(time), NewTime::At(time)).unwrap();
    assert_eq!(backing.stat(&found.node, Freshness::AsStat).unwrap().mtime, time);
    backing.chown(&root(), &found.node, NfsUid::new(7), NfsGid::new(8)).unwrap();
    assert_eq!(export.look("symlink"), (0o120_777, 7, 8));
    assert_eq!(export.look("target"), (0o100_644, 2001, 2001));
    let target = lookup(&backing, &owner(), c"target").unwrap().node;
    assert_eq!(backing.readlink(&owner(), &target).unwrap_err(), Errno::EINVAL);
}

#[test]
fn a_long_symlink_is_read_whole() {
    let export = Export::tmpfs();
    let backing = export.open();
    let target = std::ffi::CString::new(vec![b'x'; 4095]).unwrap();
    backing.symlink(&owner(), &target, &root_node(&backing), name(c"long")).unwrap();
    let node = lookup(&backing, &owner(), c"long").unwrap().node;
    assert_eq!(backing.readlink(&owner(), &node).unwrap(), target.as_bytes());
}

#[test]
fn rename_knows_its_flags() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    create(&backing, &owner(), c"a").unwrap();
    create(&backing, &owner(), c"b").unwrap();
    let a = lookup(&backing, &owner(), c"a").unwrap().id;
    let rename = |flags| backing.rename(&owner(), &node, name(c"a"), &node, name(c"b"), flags);
    assert_eq!(rename(RenameFlags::RENAME_NOREPLACE), Err(Errno::EEXIST));
    rename(RenameFlags::RENAME_EXCHANGE).unwrap();
    assert_eq!(lookup(&backing, &owner(), c"b").unwrap().id, a);
    rename(RenameFlags::empty()).unwrap();
    assert_eq!(lookup(&backing, &owner(), c"a").unwrap_err(), Errno::ENOENT);
    assert_ne!(lookup(&backing, &owner(), c"b").unwrap().id, a);
}

#[test]
fn a_device_takes_root_and_keeps_its_number() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    let device = nix::sys::stat::makedev(1, 3);
    let make = |who: &Credentials, file: &CStr| {
        backing.mknod(who, &node, name(file), FileKind::CharDevice, mode(0o666, 0), device)
    };
    assert_eq!(make(&owner(), c"null"), Err(Errno::EPERM));
    make(&root(), c"null").unwrap();
    let attr = lookup(&backing, &owner(), c"null").unwrap().attr;
    assert_eq!((attr.kind, attr.rdev), (FileKind::CharDevice, device));
}

#[test]
fn removing_says_what_the_kernel_says() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    backing.mkdir(&owner(), &node, name(c"dir"), mode(0o755, 0)).unwrap();
    let dir = lookup(&backing, &owner(), c"dir").unwrap().node;
    backing.mkdir(&owner(), &dir, name(c"inner"), mode(0o755, 0)).unwrap();
    assert_eq!(backing.rmdir(&owner(), &node, name(c"dir")), Err(Errno::ENOTEMPTY));
    assert_eq!(backing.unlink(&owner(), &node, name(c"dir")), Err(Errno::EISDIR));
    assert_eq!(backing.unlink(&owner(), &node, name(c"none")), Err(Errno::ENOENT));
    assert_eq!(backing.rmdir(&user(2002, 2002, &[]), &node, name(c"dir")), Err(Errno::EACCES));
    backing.rmdir(&owner(), &dir, name(c"inner")).unwrap();
    backing.rmdir(&owner(), &node, name(c"dir")).unwrap();
    assert_eq!(backing.mkdir(&owner(), &dir, name(c"x"), mode(0o755, 0)), Err(Errno::ENOENT));
}

#[test]
fn source_must_be_a_directory_that_is_there() {
    let export = Export::tmpfs();
    let backing = export.open();
    create(&backing, &owner(), c"file").unwrap();
    assert_eq!(PosixBacking::open(&export.path("none")).unwrap_err(), Errno::ENOENT);
    assert_eq!(PosixBacking::open(&export.path("file")).unwrap_err(), Errno::ENOTDIR);
}
