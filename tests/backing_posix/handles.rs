//! An object's identity, and finding it again.

use nix::fcntl::{OFlag, RenameFlags};
use permfs::backing::{BackingFs, Errno, Freshness, MountIndex, ObjectId};
use permfs::policy::{FileKind, Timestamp};

use super::*;

#[test]
fn an_object_is_found_again_after_its_name_has_changed() {
    for export in [Export::tmpfs(), Export::ext4()] {
        let backing = export.open();
        let node = root_node(&backing);
        backing.mkdir(&owner(), &node, name(c"dir"), mode(0o755, 0)).unwrap();
        let dir = lookup(&backing, &owner(), c"dir").unwrap();
        create(&backing, &owner(), c"file").unwrap();
        backing.symlink(&owner(), c"/etc/passwd", &node, name(c"symlink")).unwrap();
        let found = [lookup(&backing, &owner(), c"file"), lookup(&backing, &owner(), c"symlink")];
        for (found, file) in found.into_iter().zip([c"file", c"symlink"]) {
            let found = found.unwrap();
            backing.rename(&owner(), &node, name(file), &dir.node, name(file), RenameFlags::empty()).unwrap();
            let again = backing.resolve(&owner(), &found.id).unwrap();
            let attr = backing.stat(&again, Freshness::AsStat).unwrap();
            assert_eq!((attr.ino, attr.kind), (found.attr.ino, found.attr.kind));
            assert_eq!(backing.lookup(&owner(), &dir.node, name(file)).unwrap().id, found.id);
        }
        let attr = backing.stat(&backing.resolve(&owner(), &dir.id).unwrap(), Freshness::AsStat).unwrap();
        assert_eq!(attr.kind, FileKind::Directory);
    }
}

#[test]
fn a_removed_object_is_stale() {
    for export in [Export::tmpfs(), Export::ext4()] {
        let backing = export.open();
        let node = root_node(&backing);
        create(&backing, &owner(), c"file").unwrap();
        backing.mkdir(&owner(), &node, name(c"dir"), mode(0o755, 0)).unwrap();
        let file = lookup(&backing, &owner(), c"file").unwrap().id;
        let dir = lookup(&backing, &owner(), c"dir").unwrap().id;
        backing.unlink(&owner(), &node, name(c"file")).unwrap();
        backing.rmdir(&owner(), &node, name(c"dir")).unwrap();
        assert_eq!(backing.resolve(&owner(), &file).unwrap_err(), Errno::ESTALE);
        assert_eq!(backing.resolve(&root(), &file).unwrap_err(), Errno::ESTALE);
        assert_eq!(backing.resolve(&owner(), &dir).unwrap_err(), Errno::ESTALE);
    }
}

#[test]
fn a_name_is_believed_by_number_and_handle_or_by_number_and_a_ctime_that_is_its_alone() {
    let export = Export::ext4();
    let backing = export.open();
    let node = root_node(&backing);
    for file in [c"file", c"other"] {
        create(&backing, &owner(), file).unwrap();
    }
    let [file, other] = [c"file", c"other"].map(|file| lookup(&backing, &owner(), file).unwrap());
    let open = |id: &ObjectId, only_its| {
        backing.open_name(&owner(), &node, name(c"file"), id, OFlag::O_RDONLY, only_its).map(|(_, attr)| attr)
    };
    let handle = other.id.handle.clone();
    let other_handle = ObjectId { handle, ..file.id.clone() };
    let ctime = Some(file.attr.ctime);
    let before = Some(Timestamp { seconds: file.attr.ctime.seconds - 1, ..file.attr.ctime });
    assert_eq!(open(&file.id, None).unwrap(), file.attr);
    assert_eq!(open(&file.id, before).unwrap(), file.attr);
    assert_eq!(open(&other_handle, ctime).unwrap(), file.attr);
    assert_eq!(open(&other_handle, None).unwrap_err(), Errno::ESTALE);
    assert_eq!(open(&other_handle, before).unwrap_err(), Errno::ESTALE);
    assert_eq!(open(&other.id, ctime).unwrap_err(), Errno::ESTALE, "it has another number");
}

#[test]
fn a_number_used_again_is_another_object() {
    let export = Export::ext4();
    let backing = export.open();
    let node = root_node(&backing);
    let mut before = std::collections::HashMap::new();
    let mut reused = 0;
    for _ in 0..20 {
        create(&backing, &owner(), c"file").unwrap();
        let id = lookup(&backing, &owner(), c"file").unwrap().id;
        if let Some(former) = before.insert(id.ino, id.clone()) {
            reused += 1;
            assert_ne!(former, id);
            assert_eq!(backing.resolve(&owner(), &former).unwrap_err(), Errno::ESTALE);
        }
        backing.unlink(&owner(), &node, name(c"file")).unwrap();
    }
    assert!(reused > 0, "ext4 did not reuse a number, so this test says nothing");
}

#[test]
fn names_of_one_object_have_one_identity() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    let file = create(&backing, &owner(), c"one").unwrap();
    let one = lookup(&backing, &owner(), c"one").unwrap();
    backing.link(&owner(), &one.node, &node, name(c"two")).unwrap();
    let two = lookup(&backing, &owner(), c"two").unwrap();
    assert_eq!(one.id, two.id);
    assert_eq!(two.attr.nlink, 2);
    assert_eq!(backing.identify(&file).unwrap().id, one.id);
    assert_ne!(backing.root().unwrap().id, one.id);
}

#[test]
fn without_handles_a_node_pins_its_object() {
    let export = Export::overlay();
    let backing = export.open();
    assert!(!backing.features().handles);
    let file = create(&backing, &owner(), c"file").unwrap();
    let found = lookup(&backing, &owner(), c"file").unwrap();
    assert_eq!(found.id.handle, None);
    assert_eq!(backing.identify(&file).unwrap().id, found.id);
    assert_eq!(backing.resolve(&owner(), &found.id).unwrap_err(), Errno::ESTALE);
    let node = root_node(&backing);
    backing.rename(&owner(), &node, name(c"file"), &node, name(c"moved"), RenameFlags::empty()).unwrap();
    backing.chmod(&owner(), &found.node, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(export.look("moved"), (0o100_600, 2001, 2001));
}

#[test]
fn an_identity_of_nothing_is_stale() {
    let export = Export::tmpfs();
    let backing = export.open();
    let root_id = backing.root().unwrap().id;
    assert!(backing.features().handles && root_id.handle.is_some());
    let elsewhere = ObjectId { mount: MountIndex(9), ..root_id };
    assert_eq!(backing.resolve(&owner(), &elsewhere).unwrap_err(), Errno::ESTALE);
}
