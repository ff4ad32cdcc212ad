//! Extended attributes.

use permfs::backing::{BackingFs, Errno};

use super::*;

#[test]
fn attributes_are_set_listed_read_and_removed() {
    let export = Export::ext4();
    let backing = export.open();
    assert!(backing.features().posix_acl);
    create(&backing, &owner(), c"file").unwrap();
    let node = lookup(&backing, &owner(), c"file").unwrap().node;
    backing.setxattr(&owner(), &node, c"user.one", b"value", libc::XATTR_CREATE).unwrap();
    let again = backing.setxattr(&owner(), &node, c"user.one", b"value", libc::XATTR_CREATE);
    assert_eq!(again, Err(Errno::EEXIST));
    let mut buffer = [0; 16];
    assert_eq!(backing.getxattr(&owner(), &node, c"user.one", &mut []), Ok(5));
    assert_eq!(backing.getxattr(&owner(), &node, c"user.one", &mut buffer), Ok(5));
    assert_eq!(&buffer[..5], b"value");
    assert_eq!(backing.getxattr(&owner(), &node, c"user.one", &mut buffer[..2]), Err(Errno::ERANGE));
    assert_eq!(backing.listxattr(&owner(), &node, &mut buffer), Ok(9));
    assert_eq!(&buffer[..9], b"user.one\0");
    let other = user(2002, 2002, &[]);
    assert_eq!(backing.removexattr(&other, &node, c"user.one"), Err(Errno::EACCES));
    backing.removexattr(&owner(), &node, c"user.one").unwrap();
    assert_eq!(backing.getxattr(&owner(), &node, c"user.one", &mut []), Err(Errno::ENODATA));
}

#[test]
fn a_symlink_has_attributes_of_its_own() {
    let export = Export::ext4();
    let backing = export.open();
    create(&backing, &owner(), c"target").unwrap();
    backing.symlink(&owner(), c"target", &root_node(&backing), name(c"symlink")).unwrap();
    let node = lookup(&backing, &owner(), c"symlink").unwrap().node;
    backing.setxattr(&root(), &node, c"trusted.own", b"1", 0).unwrap();
    let target = lookup(&backing, &root(), c"target").unwrap().node;
    assert_eq!(backing.getxattr(&root(), &node, c"trusted.own", &mut []), Ok(1));
    assert_eq!(backing.getxattr(&root(), &target, c"trusted.own", &mut []), Err(Errno::ENODATA));
}

#[test]
fn a_default_acl_overrules_the_umask() {
    let export = Export::ext4();
    let backing = export.open();
    // Version 2; user::rwx, group::rwx, other::r-x (linux/posix_acl_xattr.h).
    let entry = |tag: u16, bits: u16| [tag.to_le_bytes(), bits.to_le_bytes(), [0xff; 2], [0xff; 2]].concat();
    let acl = [vec![2, 0, 0, 0], entry(0x01, 7), entry(0x04, 7), entry(0x20, 5)].concat();
    let node = root_node(&backing);
    backing.setxattr(&owner(), &node, c"system.posix_acl_default", &acl, 0).unwrap();
    backing.mkdir(&owner(), &node, name(c"dir"), mode(0o777, 0o077)).unwrap();
    assert_eq!(export.look("dir").0 & 0o777, 0o775);
}
