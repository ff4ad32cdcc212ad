//! Whose identity a call runs under, and that it is that thread's alone.

use std::sync::Barrier;

use nix::fcntl::OFlag;
use nix::unistd::AccessFlags;
use permfs::backing::{BackingFs, Errno, Freshness};
use permfs::policy::FileKind;

use super::*;

#[test]
fn what_is_made_belongs_to_who_made_it() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    create(&backing, &owner(), c"file").unwrap();
    backing.mkdir(&owner(), &node, name(c"dir"), mode(0o777, 0o027)).unwrap();
    backing.symlink(&owner(), c"anywhere", &node, name(c"symlink")).unwrap();
    backing.mknod(&owner(), &node, name(c"fifo"), FileKind::Fifo, mode(0o666, 0), 0).unwrap();
    assert_eq!(export.look("file"), (0o100_644, 2001, 2001));
    assert_eq!(export.look("dir"), (0o040_750, 2001, 2001));
    assert_eq!(export.look("symlink"), (0o120_777, 2001, 2001));
    assert_eq!(export.look("fifo"), (0o010_666, 2001, 2001));
}

#[test]
fn two_threads_are_two_users_at_the_same_time() {
    let export = Export::tmpfs();
    export.chmod("", 0o777);
    let backing = export.open();
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        for uid in [2001, 2002] {
            let (backing, together) = (&backing, &together);
            scope.spawn(move || {
                backing.enter_thread().unwrap();
                let me = user(uid, uid, &[]);
                for turn in 0..200 {
                    let file = std::ffi::CString::new(format!("{uid}-{turn}")).unwrap();
                    together.wait();
                    let file = create(backing, &me, &file).unwrap();
                    let attr = backing.stat_file(&file, Freshness::Known).unwrap();
                    assert_eq!((attr.uid.get(), attr.gid.get()), (uid, uid));
                }
            });
        }
    });
}

#[test]
fn each_thread_has_the_umask_of_its_own_request() {
    let export = Export::tmpfs();
    let backing = export.open();
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        for umask in [0o022, 0o077] {
            let (backing, together) = (&backing, &together);
            scope.spawn(move || {
                let node = root_node(backing);
                for turn in 0..200 {
                    let dir = std::ffi::CString::new(format!("{umask:o}-{turn}")).unwrap();
                    together.wait();
                    backing.mkdir(&owner(), &node, name(&dir), mode(0o777, umask)).unwrap();
                    let made = backing.lookup(&owner(), &node, name(&dir)).unwrap();
                    assert_eq!(made.attr.permissions.bits(), 0o777 & !umask);
                }
            });
        }
    });
}

#[test]
fn a_directory_of_one_user_is_closed_to_another_and_open_to_its_group() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    backing.mkdir(&owner(), &node, name(c"private"), mode(0o700, 0)).unwrap();
    let private = lookup(&backing, &owner(), c"private").unwrap().node;
    backing.mkdir(&owner(), &private, name(c"inner"), mode(0o700, 0)).unwrap();

    let other = user(2002, 2002, &[]);
    assert_eq!(backing.lookup(&other, &private, name(c"inner")).unwrap_err(), Errno::EACCES);
    assert_eq!(backing.opendir(&other, &private).unwrap_err(), Errno::EACCES);
    assert_eq!(backing.access(&other, &private, AccessFlags::R_OK), Err(Errno::EACCES));
    assert_eq!(backing.mkdir(&other, &private, name(c"x"), mode(0o700, 0)), Err(Errno::EACCES));

    backing.chmod(&owner(), &private, Permissions::from_mode(0o750)).unwrap();
    assert_eq!(backing.access(&other, &private, AccessFlags::R_OK), Err(Errno::EACCES));
    let member = user(2002, 2002, &[2001, 3001]);
    assert_eq!(backing.access(&member, &private, AccessFlags::R_OK | AccessFlags::X_OK), Ok(()));
    assert_eq!(backing.access(&member, &private, AccessFlags::W_OK), Err(Errno::EACCES));
    assert_eq!(backing.access(&user(2002, 2001, &[]), &private, AccessFlags::R_OK), Ok(()));
    // A former request's groups are not left over.
    assert_eq!(backing.access(&other, &private, AccessFlags::R_OK), Err(Errno::EACCES));
}

#[test]
fn finding_an_object_by_its_handle_gives_no_right_to_read_it() {
    for export in [Export::tmpfs(), Export::ext4()] {
        let backing = export.open();
        let file = create(&backing, &owner(), c"secret").unwrap();
        backing.write(&owner(), &file, b"secret", 0, PLAIN).unwrap();
        let id = backing.identify(&file).unwrap().id;
        export.chmod("secret", 0o600);

        let other = user(2002, 2002, &[]);
        let node = backing.resolve(&other, &id).unwrap();
        assert_eq!(backing.open(&other, &node, OFlag::O_RDONLY).unwrap_err(), Errno::EACCES);
        assert_eq!(backing.access(&other, &node, AccessFlags::R_OK), Err(Errno::EACCES));
        assert_eq!(backing.truncate(&other, &node, 0), Err(Errno::EACCES));
        assert_eq!(backing.chmod(&other, &node, Permissions::ALL), Err(Errno::EPERM));
        let root = root_node(&backing);
        assert!(backing.lookup(&other, &root, name(c"secret")).is_ok());
    }
}

#[test]
fn a_user_has_none_of_the_capabilities_that_decide_about_files() {
    let export = Export::tmpfs();
    let backing = export.open();
    create(&backing, &owner(), c"file").unwrap();
    // chown, dac_override, dac_read_search, fowner, fsetid, immutable, sys_admin, sys_resource, mknod, setfcap, mac_*
    assert_eq!(effective() & 0x0000_0003_8920_021f, 0);
    let found = lookup(&backing, &owner(), c"file").unwrap();
    // Finding an object by its handle takes one, which is gone with whatever is next done as somebody.
    let node = backing.resolve(&owner(), &found.id).unwrap();
    backing.open(&owner(), &node, OFlag::O_RDONLY).unwrap();
    assert_eq!(effective() & 0x0000_0003_8920_021f, 0);
    // Root has all of them back.
    lookup(&backing, &root(), c"file").unwrap();
    assert_eq!(effective() & 0x21f, 0x21f);
}

#[test]
fn a_panic_does_not_leave_a_capability_raised() {
    use permfs::sys::capabilities::{Capabilities, raised};
    let export = Export::tmpfs();
    let backing = export.open();
    lookup(&backing, &owner(), c"none").unwrap_err();
    let panicked = std::panic::catch_unwind(|| {
        raised(Capabilities::DAC_READ_SEARCH, || {
            assert_ne!(effective() & 4, 0);
            panic!("on purpose");
        })
    });
    assert!(panicked.is_err());
    assert_eq!(effective() & 4, 0);
}

#[test]
fn a_user_does_not_see_trusted_attributes_nor_make_a_file_privileged() {
    let export = Export::ext4();
    let backing = export.open();
    create(&backing, &owner(), c"file").unwrap();
    let node = lookup(&backing, &owner(), c"file").unwrap().node;
    backing.setxattr(&root(), &node, c"trusted.secret", b"1", 0).unwrap();
    assert_eq!(backing.listxattr(&owner(), &node, &mut []), Ok(0));
    assert_eq!(backing.getxattr(&owner(), &node, c"trusted.secret", &mut []), Err(Errno::ENODATA));
    assert_eq!(backing.listxattr(&root(), &node, &mut []), Ok(15));
    // VFS_CAP_REVISION_2 with CAP_CHOWN permitted (linux/capability.h).
    let capability = [0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let made = backing.setxattr(&owner(), &node, c"security.capability", &capability, 0);
    assert_eq!(made, Err(Errno::EPERM));
}

#[test]
fn more_groups_than_a_thread_can_have_are_refused_and_change_nothing() {
    let export = Export::tmpfs();
    let backing = export.open();
    let groups: Vec<_> = (10_000..10_000 + 65_537).collect();
    create(&backing, &owner(), c"file").unwrap();
    assert_eq!(create(&backing, &user(0, 0, &groups), c"other").unwrap_err(), Errno::EINVAL);
    assert_eq!(effective() & 0x21f, 0);
    create(&backing, &user(2001, 2001, &groups[1..]), c"file").unwrap();
}

/// The calling thread's effective capabilities, as the kernel tells.
fn effective() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}
