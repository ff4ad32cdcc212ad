//! Files: making, reading, writing, and what writing does to suid.

use std::os::unix::fs::MetadataExt;

use nix::fcntl::{FallocateFlags, OFlag};
use nix::unistd::Whence;
use permfs::backing::{BackingFs, Errno, Freshness, NewTime, SuidBits, WriteHow};
use permfs::policy::{FileKind, Timestamp};

use super::*;

#[test]
fn what_is_written_is_read_back() {
    let export = Export::ext4();
    let backing = export.open();
    let file = create(&backing, &owner(), c"file").unwrap();
    let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(backing.write(&owner(), &file, &data, 5, PLAIN), Ok(data.len()));
    let mut buffer = vec![1; data.len() + 100];
    assert_eq!(backing.read(&file, &mut buffer, 5), Ok(data.len()));
    assert_eq!(buffer[..data.len()], data[..]);
    assert_eq!(backing.read(&file, &mut buffer, 1 << 40), Ok(0));
    assert_eq!(backing.read(&file, &mut buffer, u64::MAX), Err(Errno::EINVAL));
    backing.flush(&file).unwrap();
    backing.fsync(&file, true).unwrap();
    backing.truncate_file(&owner(), &file, 3).unwrap();
    assert_eq!(backing.stat_file(&file, Freshness::AsStat).unwrap().size, 3);
}

#[test]
fn appending_goes_to_the_end_whatever_the_offset() {
    let export = Export::tmpfs();
    let backing = export.open();
    create(&backing, &owner(), c"log").unwrap();
    let node = lookup(&backing, &owner(), c"log").unwrap().node;
    let file = backing.open(&owner(), &node, OFlag::O_WRONLY).unwrap();
    for line in ["one\n", "two\n"] {
        let how = WriteHow { append: true, ..PLAIN };
        backing.write(&owner(), &file, line.as_bytes(), 0, how).unwrap();
    }
    backing.write(&owner(), &file, b"O", 0, PLAIN).unwrap();
    assert_eq!(outside(|| std::fs::read_to_string(export.path("log"))).unwrap(), "One\ntwo\n");
}

#[test]
fn writing_clears_suid_where_asked_and_for_a_user_always() {
    for export in [Export::tmpfs(), Export::ext4()] {
        let backing = export.open();
        create(&backing, &owner(), c"file").unwrap();
        let node = lookup(&backing, &owner(), c"file").unwrap().node;
        let wrote = |who: &Credentials, suid| {
            export.chmod("file", 0o6775);
            let file = backing.open(who, &node, OFlag::O_WRONLY).unwrap();
            backing.write(who, &file, b"x", 0, WriteHow { suid, ..PLAIN }).unwrap();
            export.look("file").0 & 0o7777
        };
        assert_eq!(wrote(&root(), SuidBits::AsOpener), 0o6775);
        assert_eq!(wrote(&root(), SuidBits::Clear), 0o775);
        assert_eq!(wrote(&owner(), SuidBits::AsOpener), 0o775);
        assert_eq!(wrote(&owner(), SuidBits::Clear), 0o775);
        assert_eq!(wrote(&owner(), SuidBits::Keep), 0o6775);
        // The capability is back.
        assert_eq!(wrote(&root(), SuidBits::AsOpener), 0o6775);
    }
}

#[test]
fn creating_over_something_that_is_no_file_neither_follows_nor_waits() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    backing.symlink(&owner(), c"target", &node, name(c"symlink")).unwrap();
    backing.mknod(&owner(), &node, name(c"fifo"), FileKind::Fifo, mode(0o666, 0), 0).unwrap();
    backing.mkdir(&owner(), &node, name(c"dir"), mode(0o755, 0)).unwrap();
    for access in [OFlag::O_RDONLY, OFlag::O_WRONLY, OFlag::O_RDWR] {
        for file in [c"symlink", c"fifo"] {
            let made = backing.create(&owner(), &node, name(file), access, mode(0o644, 0));
            assert_eq!(made.unwrap_err(), Errno::ESTALE, "{file:?}");
        }
        let made = backing.create(&owner(), &node, name(c"dir"), access, mode(0o644, 0));
        assert_eq!(made.unwrap_err(), Errno::EISDIR);
    }
    assert!(!outside(|| export.path("target").exists()));
}

#[test]
fn creating_what_exists_opens_it_unless_it_must_not_exist() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    let file = create(&backing, &owner(), c"file").unwrap();
    backing.write(&owner(), &file, b"kept", 0, PLAIN).unwrap();
    let again = create(&backing, &owner(), c"file").unwrap();
    assert_eq!(backing.stat_file(&again, Freshness::AsStat).unwrap().size, 4);
    let flags = OFlag::O_RDWR | OFlag::O_EXCL;
    let exclusive = backing.create(&owner(), &node, name(c"file"), flags, mode(0o644, 0));
    assert_eq!(exclusive.unwrap_err(), Errno::EEXIST);
    let flags = OFlag::O_RDWR | OFlag::O_TRUNC;
    let emptied = backing.create(&owner(), &node, name(c"file"), flags, mode(0o644, 0)).unwrap();
    assert_eq!(backing.stat_file(&emptied, Freshness::AsStat).unwrap().size, 0);
}

#[test]
fn a_file_without_a_name_can_be_given_one() {
    let export = Export::tmpfs();
    let backing = export.open();
    let node = root_node(&backing);
    let file = backing.tmpfile(&owner(), &node, OFlag::O_RDWR, mode(0o666, 0o022)).unwrap();
    let found = backing.identify(&file).unwrap();
    let reference = backing.reference(&file).unwrap();
    assert_eq!((found.attr.nlink, found.attr.uid.get()), (0, 2001));
    backing.link(&owner(), &reference, &node, name(c"named")).unwrap();
    assert_eq!(export.look("named"), (0o100_644, 2001, 2001));
    assert_eq!(lookup(&backing, &owner(), c"named").unwrap().id, found.id);
}

#[test]
fn an_open_file_works_on_after_its_name_is_gone() {
    let export = Export::ext4();
    let backing = export.open();
    let file = create(&backing, &owner(), c"file").unwrap();
    backing.unlink(&owner(), &root_node(&backing), name(c"file")).unwrap();
    backing.write(&owner(), &file, b"data", 0, PLAIN).unwrap();
    let attr = backing.stat_file(&file, Freshness::AsStat).unwrap();
    assert_eq!((attr.nlink, attr.size), (0, 4));
}

#[test]
fn holes_ranges_and_copies_are_the_filesystems_own() {
    let export = Export::ext4();
    let backing = export.open();
    let from = create(&backing, &owner(), c"from").unwrap();
    let to = create(&backing, &owner(), c"to").unwrap();
    backing.write(&owner(), &from, b"data", 1 << 20, PLAIN).unwrap();
    assert_eq!(backing.seek(&from, 0, Whence::SeekData), Ok(1 << 20));
    assert_eq!(backing.seek(&from, 0, Whence::SeekHole), Ok(0));
    assert_eq!(backing.seek(&to, 0, Whence::SeekData), Err(Errno::ENXIO));
    assert_eq!(backing.copy_range(&owner(), &from, 1 << 20, &to, 2, 100), Ok(4));
    assert_eq!(backing.stat_file(&to, Freshness::AsStat).unwrap().size, 6);
    backing.fallocate(&owner(), &to, FallocateFlags::empty(), 0, 8192).unwrap();
    assert_eq!(backing.stat_file(&to, Freshness::AsStat).unwrap().size, 8192);
    assert_eq!(backing.fallocate(&owner(), &to, FallocateFlags::empty(), 0, 0), Err(Errno::EINVAL));
}

#[test]
fn attributes_are_changed_as_somebody_and_read_back() {
    let export = Export::ext4();
    let backing = export.open();
    create(&backing, &owner(), c"file").unwrap();
    let node = lookup(&backing, &owner(), c"file").unwrap().node;
    let at = |seconds| NewTime::At(Timestamp { seconds, nanoseconds: 123_456_789 });
    backing.set_times(&owner(), &node, at(-5), NewTime::Omit).unwrap();
    backing.set_times(&owner(), &node, NewTime::Omit, at(1_000_000_000)).unwrap();
    backing.chmod(&owner(), &node, Permissions::from_mode(0o4640)).unwrap();
    backing.truncate(&owner(), &node, 10).unwrap();
    let attr = backing.stat(&node, Freshness::AsStat).unwrap();
    assert_eq!(attr.atime, Timestamp { seconds: -5, nanoseconds: 123_456_789 });
    assert!(attr.mtime.seconds > 1_000_000_000, "truncate has changed it");
    assert!(attr.btime.is_some());
    assert_eq!(attr.size, 10);
    let meta = outside(|| std::fs::metadata(export.path("file"))).unwrap();
    assert_eq!((attr.ino, attr.blocks, attr.nlink), (meta.ino(), meta.blocks(), 1));

    assert_eq!(backing.chown(&owner(), &node, Some(NfsUid::new(2002).unwrap()), None), Err(Errno::EPERM));
    backing.chown(&root(), &node, Some(NfsUid::new(2002).unwrap()), None).unwrap();
    assert_eq!(backing.set_times(&owner(), &node, at(1), at(1)), Err(Errno::EPERM));
    assert_eq!(export.look("file").1, 2002);
}

#[test]
fn statfs_is_the_exports() {
    let export = Export::tmpfs();
    let backing = export.open();
    let fs = backing.statfs(&root_node(&backing)).unwrap();
    assert_eq!(fs.blocks * u64::from(fs.fragment_size), 64 << 20);
    assert_eq!(fs.name_max, 255);
}
