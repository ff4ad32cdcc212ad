//! Files as programs use them, beyond what is made and read: links, open files without a name, ranges, mappings.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};

use live::waits::until;
use live::{AIRFLOW, Mount, POD, ROOT, TRANSPARENT, errno};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, RenameFlags};

/// A file open for reading and writing, made anew.
fn made(path: impl AsRef<std::path::Path>) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap()
}

#[test]
fn hard_links_share_an_inode_whichever_was_looked_up_first() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::create_dir(mount.at("d")).unwrap();
        fs::write(mount.at("a"), "x").unwrap();
        fs::hard_link(mount.at("a"), mount.at("d/b")).unwrap();
        let [a, b] = ["a", "d/b"].map(|name| fs::metadata(mount.at(name)).unwrap());
        assert_eq!((a.ino(), a.dev(), a.nlink()), (b.ino(), b.dev(), b.nlink()));
        assert_eq!(a.nlink(), 2);
        OpenOptions::new().append(true).open(mount.at("d/b")).unwrap().write_all(b"y").unwrap();
        assert_eq!(fs::read_to_string(mount.at("a")).unwrap(), "xy");
        assert_eq!(fs::metadata(mount.at("a")).unwrap().len(), 2);
        fs::remove_file(mount.at("a")).unwrap();
        assert_eq!(fs::metadata(mount.at("d/b")).unwrap().nlink(), 1);
    });
    // A pair that the export made by itself.
    fs::hard_link(mount.stored("d/b"), mount.stored("d/c")).unwrap();
    POD.run(|| {
        let [b, c] = ["d/c", "d/b"].map(|name| fs::metadata(mount.at(name)).unwrap().ino());
        assert_eq!(b, c);
    });
}

#[test]
fn a_file_goes_on_working_after_its_last_name_is_gone() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let mut file = made(mount.at("f"));
        file.write_all(b"before").unwrap();
        fs::remove_file(mount.at("f")).unwrap();
        assert_eq!(errno(fs::metadata(mount.at("f"))), Errno::ENOENT);

        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.write_all(b" and after").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 16);
        file.set_len(11).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 11);
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o757, 0o640 & 0o757);
        let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        file.set_times(times).unwrap();
        assert_eq!(file.metadata().unwrap().mtime(), 0);
        std::os::unix::fs::fchown(&file, Some(50000), Some(0)).unwrap();
        file.sync_all().unwrap();
        let mut read = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, "before and ");

        // A new file of the same name is another file.
        fs::write(mount.at("f"), "other").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 11);
        assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "other");
    });
    let kept = fs::read_dir(mount.source()).unwrap().count();
    assert_eq!(kept, 1, "nothing else was left on the export");
}

#[test]
fn a_directory_goes_on_answering_after_it_was_removed() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::create_dir(mount.at("d")).unwrap();
        let directory = File::open(mount.at("d")).unwrap();
        fs::remove_dir(mount.at("d")).unwrap();
        assert_eq!(directory.metadata().unwrap().nlink(), 0);
        let inside = format!("/proc/thread-self/fd/{}/f", directory.as_raw_fd());
        assert_eq!(errno(File::create(inside)), Errno::ENOENT);
        fs::create_dir(mount.at("d")).unwrap();
        assert_ne!(fs::metadata(mount.at("d")).unwrap().nlink(), 0);
    });
}

#[test]
fn a_rename_over_an_open_file_leaves_the_reader_its_content() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::write(mount.at("f"), "old").unwrap();
        let mut old = File::open(mount.at("f")).unwrap();
        fs::write(mount.at("new"), "new content").unwrap();
        fs::rename(mount.at("new"), mount.at("f")).unwrap();
        let mut read = String::new();
        old.read_to_string(&mut read).unwrap();
        assert_eq!(read, "old");
        assert_eq!(old.metadata().unwrap().nlink(), 0);
        assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "new content");
        assert_eq!(fs::metadata(mount.at("f")).unwrap().len(), 11);
        assert!(!mount.at("new").exists());
    });
}

#[test]
fn an_open_file_follows_its_renames() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::create_dir_all(mount.at("a/b")).unwrap();
        let mut file = made(mount.at("a/b/f"));
        fs::rename(mount.at("a/b/f"), mount.at("a/g")).unwrap();
        fs::rename(mount.at("a"), mount.at("z")).unwrap();
        file.write_all(b"followed").unwrap();
        file.set_permissions(Permissions::from_mode(0o660)).unwrap();
        assert_eq!(fs::read_to_string(mount.at("z/g")).unwrap(), "followed");
    });
}

#[test]
fn rename_flags_are_honoured() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let rename = |from: &str, to: &str, flags| {
            rustix::fs::renameat_with(CWD, mount.at(from), CWD, mount.at(to), flags)
        };
        fs::write(mount.at("a"), "a").unwrap();
        fs::create_dir(mount.at("d")).unwrap();
        fs::write(mount.at("d/b"), "b").unwrap();
        assert_eq!(rename("a", "d/b", RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
        rename("a", "d/c", RenameFlags::NOREPLACE).unwrap();
        assert!(!mount.at("a").exists());
        rename("d/c", "d/b", RenameFlags::EXCHANGE).unwrap();
        assert_eq!(fs::read_to_string(mount.at("d/b")).unwrap(), "a");
        assert_eq!(fs::read_to_string(mount.at("d/c")).unwrap(), "b");
        // A file and a directory trade places.
        fs::create_dir(mount.at("e")).unwrap();
        rename("e", "d/c", RenameFlags::EXCHANGE).unwrap();
        assert!(mount.at("d/c").is_dir());
        assert_eq!(fs::read_to_string(mount.at("e")).unwrap(), "b");
        assert_eq!(rename("e", "missing", RenameFlags::EXCHANGE), Err(rustix::io::Errno::NOENT));
    });
}

#[test]
fn a_file_without_a_name_can_be_given_one() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_TMPFILE);
        let mut file = options.open(mount.target()).unwrap();
        file.write_all(b"whole").unwrap();
        assert_eq!(fs::read_dir(mount.target()).unwrap().count(), 0);
        let link = |file: &File, name: &str| {
            let own = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, own, CWD, mount.at(name), AtFlags::SYMLINK_FOLLOW)
        };
        link(&file, "f").unwrap();
        assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "whole");
        assert_eq!(fs::metadata(mount.at("f")).unwrap().nlink(), 1);
        let never = options.custom_flags(libc::O_TMPFILE | libc::O_EXCL).open(mount.target()).unwrap();
        assert_eq!(link(&never, "g"), Err(rustix::io::Errno::NOENT));
    });
    let stored = fs::metadata(mount.stored("f")).unwrap();
    assert_eq!((stored.uid(), stored.gid()), (2001, 2001));
}

#[test]
fn fifos_and_sockets_are_made_and_work_and_devices_are_not() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let mode = Mode::from_bits_truncate(0o644);
        let make = |name: &str, kind| mknod(&mount.at(name), kind, mode, makedev(1, 3));
        make("fifo", SFlag::S_IFIFO).unwrap();
        make("file", SFlag::S_IFREG).unwrap();
        assert_eq!(make("char", SFlag::S_IFCHR), Err(Errno::EPERM));
        assert_eq!(make("block", SFlag::S_IFBLK), Err(Errno::EPERM));
        assert!(fs::symlink_metadata(mount.at("fifo")).unwrap().file_type().is_fifo());
        assert!(fs::symlink_metadata(mount.at("file")).unwrap().is_file());

        // Both ends in one process: opening for both never waits.
        let mut fifo = OpenOptions::new().read(true).write(true).open(mount.at("fifo")).unwrap();
        fifo.write_all(b"through").unwrap();
        let mut read = [0; 7];
        fifo.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"through");

        let listener = std::os::unix::net::UnixListener::bind(mount.at("sock")).unwrap();
        let mut client = std::os::unix::net::UnixStream::connect(mount.at("sock")).unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut read = String::new();
        listener.accept().unwrap().0.read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
    });
    for name in ["fifo", "file", "sock"] {
        let stored = fs::symlink_metadata(mount.stored(name)).unwrap();
        assert_eq!((stored.uid(), stored.gid()), (2001, 2001), "{name}");
    }
    assert!(fs::symlink_metadata(mount.stored("sock")).unwrap().file_type().is_socket());
}

#[test]
fn a_device_that_root_made_is_there_and_inert() {
    let mount = Mount::of(TRANSPARENT);
    let mode = Mode::from_bits_truncate(0o666);
    ROOT.run(|| mknod(&mount.at("null"), SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap());
    let stored = fs::symlink_metadata(mount.stored("null")).unwrap();
    assert!(stored.file_type().is_char_device());
    assert_eq!(fs::symlink_metadata(mount.at("null")).unwrap().rdev(), stored.rdev());
    assert_eq!(errno(File::open(mount.at("null"))), Errno::EACCES, "the mount is nodev");
}

#[test]
fn space_is_allocated_punched_and_found_again() {
    const BLOCK: u64 = 64 * 1024;
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let file = made(mount.at("f"));
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 4 * BLOCK).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4 * BLOCK);
        rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 4 * BLOCK, BLOCK).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4 * BLOCK);

        file.write_all_at(&vec![7; usize::try_from(4 * BLOCK).unwrap()], 0).unwrap();
        file.sync_all().unwrap();
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, punch, BLOCK, BLOCK).unwrap();
        let seek = |to| rustix::fs::seek(&file, to).unwrap();
        assert_eq!(seek(rustix::fs::SeekFrom::Hole(0)), BLOCK);
        assert_eq!(seek(rustix::fs::SeekFrom::Data(BLOCK)), 2 * BLOCK);
        assert_eq!(seek(rustix::fs::SeekFrom::Hole(2 * BLOCK)), 4 * BLOCK);
        let past = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(4 * BLOCK));
        assert_eq!(past, Err(rustix::io::Errno::NXIO));
        let mut read = vec![1; usize::try_from(BLOCK).unwrap()];
        file.read_exact_at(&mut read, BLOCK).unwrap();
        assert!(read.iter().all(|&byte| byte == 0), "the hole reads as zeros");
        file.read_exact_at(&mut read, 2 * BLOCK).unwrap();
        assert!(read.iter().all(|&byte| byte == 7));
    });
}

#[test]
fn a_range_is_copied_between_files() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let (from, to) = (made(mount.at("from")), made(mount.at("to")));
        let data: Vec<_> = (0..300_000_u32).map(|at| u8::try_from(at % 253).unwrap()).collect();
        from.write_all_at(&data, 0).unwrap();
        let (mut from_offset, mut to_offset) = (1_000, 10);
        while from_offset < 300_000 {
            let copied = rustix::fs::copy_file_range(
                &from,
                Some(&mut from_offset),
                &to,
                Some(&mut to_offset),
                200_000,
            );
            assert!(copied.unwrap() > 0);
        }
        let mut expected = vec![0; 10];
        expected.extend(&data[1_000..]);
        assert!(fs::read(mount.at("to")).unwrap() == expected);
        assert!(fs::read(mount.stored("to")).unwrap() == expected);
    });
}

#[test]
fn offsets_beyond_four_gib_are_kept() {
    const FAR: u64 = (5 << 30) + 12_345;
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let file = made(mount.at("f"));
        file.write_all_at(b"far out", FAR).unwrap();
        assert_eq!(file.metadata().unwrap().len(), FAR + 7);
        let mut read = [0; 7];
        file.read_exact_at(&mut read, FAR).unwrap();
        assert_eq!(&read, b"far out");
        file.set_len(FAR + 3).unwrap();
        assert_eq!(fs::metadata(mount.at("f")).unwrap().len(), FAR + 3);
    });
    let stored = fs::metadata(mount.stored("f")).unwrap();
    assert_eq!(stored.len(), FAR + 3);
    assert!(stored.blocks() < 1024, "it is sparse on the export too");
}

#[test]
fn two_appending_processes_lose_nothing() {
    const LINES: usize = 2_000;
    let mount = Mount::of(AIRFLOW);
    POD.run(|| drop(made(mount.at("log"))));
    // O_APPEND is a promise across open files, so two threads with an open each are as good as two processes.
    std::thread::scope(|scope| {
        for writer in ["a", "b"] {
            let mount = &mount;
            scope.spawn(move || {
                POD.run(|| {
                    let mut log = OpenOptions::new().append(true).open(mount.at("log")).unwrap();
                    for line in 0..LINES {
                        log.write_all(format!("{writer}{line:07}\n").as_bytes()).unwrap();
                    }
                });
            });
        }
    });
    let log = fs::read_to_string(mount.stored("log")).unwrap();
    assert_eq!(log.len(), 2 * LINES * 9);
    for writer in ["a", "b"] {
        let expected: Vec<_> = (0..LINES).map(|line| format!("{writer}{line:07}")).collect();
        let found: Vec<_> = log.lines().filter(|line| line.starts_with(writer)).collect();
        assert_eq!(found, expected, "every line of {writer}, whole and in order");
    }
    let shown = POD.run(|| fs::read_to_string(mount.at("log")).unwrap());
    assert!(shown == log);
}

#[test]
fn a_shared_mapping_writes_through_to_the_export() {
    for data in ["auto", "page"] {
        let mount = Mount::of(&format!("{AIRFLOW}\n[profile.airflow.cache]\ndata = \"{data}\"\n"));
        POD.run(|| {
            let file = made(mount.at("f"));
            file.set_len(10_000).unwrap();
            live::mapping::with_shared_mapping(&file, 10_000, |bytes| {
                assert!(bytes.iter().all(|&byte| byte == 0));
                bytes[0] = b'a';
                bytes[9_999] = b'z';
            });
            file.sync_all().unwrap();
        });
        let stored = fs::read(mount.stored("f")).unwrap();
        assert_eq!(
            (stored.len(), stored[0], stored[1], stored[9_999]),
            (10_000, b'a', 0, b'z'),
            "data = {data}"
        );
        assert!(POD.run(|| fs::read(mount.at("f")).unwrap()) == stored, "data = {data}");
    }
}

#[test]
fn a_mapping_sees_what_a_write_changes() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let file = made(mount.at("f"));
        file.write_all_at(b"before", 0).unwrap();
        live::mapping::with_shared_mapping(&file, 6, |bytes| {
            assert_eq!(bytes, b"before");
            file.write_all_at(b"after!", 0).unwrap();
            assert_eq!(bytes, b"after!");
        });
    });
}

#[test]
fn direct_io_reads_and_writes_whole_blocks() {
    const BLOCK: usize = 4096;
    // A tmpfs has had O_DIRECT only since 6.6, so this is on the temporary directory.
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let mut options = OpenOptions::new();
        let direct = options.read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
        let file = direct.open(mount.at("f")).unwrap();
        // Somewhere in twice the room there is an aligned start.
        let mut room = vec![5_u8; 3 * BLOCK];
        let start = room.as_ptr().align_offset(BLOCK);
        file.write_all_at(&room[start..start + BLOCK], 0).unwrap();
        file.write_all_at(&room[start..start + BLOCK], 8 * 4096).unwrap();
        let back = &mut room[start..start + BLOCK];
        back.fill(0);
        file.read_exact_at(back, 8 * 4096).unwrap();
        assert!(back.iter().all(|&byte| byte == 5));
    });
    assert_eq!(fs::metadata(mount.stored("f")).unwrap().len(), 9 * 4096);
}

#[test]
fn a_sparse_read_at_and_beyond_the_end_is_short() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let file = made(mount.at("f"));
        file.write_all_at(b"1234567890", 0).unwrap();
        let mut read = [0; 100];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), 10);
        assert_eq!(file.read_at(&mut read, 7).unwrap(), 3);
        assert_eq!(file.read_at(&mut read, 10).unwrap(), 0);
        assert_eq!(file.read_at(&mut read, 1 << 40).unwrap(), 0);
    });
}

#[test]
fn what_another_client_writes_is_seen_at_the_next_open() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| fs::write(mount.at("f"), "ours").unwrap());
    assert_eq!(POD.run(|| fs::read_to_string(mount.at("f")).unwrap()), "ours");
    fs::write(mount.stored("f"), "theirs, and longer").unwrap();
    assert_eq!(POD.run(|| fs::read_to_string(mount.at("f")).unwrap()), "theirs, and longer");
    // The same length, so that only the time tells.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(mount.stored("f"), "theirs, and LONGER").unwrap();
    assert_eq!(POD.run(|| fs::read_to_string(mount.at("f")).unwrap()), "theirs, and LONGER");
    POD.run(|| OpenOptions::new().append(true).open(mount.at("f")).unwrap().write_all(b"!").unwrap());
    assert_eq!(fs::read_to_string(mount.stored("f")).unwrap(), "theirs, and LONGER!");
}

#[test]
fn a_file_of_mode_0400_can_be_written_through_the_descriptor_that_made_it() {
    let mount = Mount::of(TRANSPARENT);
    fs::set_permissions(mount.source(), Permissions::from_mode(0o777)).unwrap();
    live::OWNER.run(|| {
        let file = rustix::fs::open(mount.at("f"), OFlags::CREATE | OFlags::RDWR, 0o400.into()).unwrap();
        let file = File::from(file);
        file.write_all_at(b"x", 0).unwrap();
        file.set_len(100).unwrap();
        assert_eq!(errno(OpenOptions::new().write(true).open(mount.at("f"))), Errno::EACCES);
    });
}

/// Starts a program that was just written. ETXTBSY for a moment is another test's fork, which has our descriptor until its exec.
fn run(command: &mut std::process::Command) -> std::process::Child {
    let mut started = command.spawn();
    until("the program is not busy any more", || {
        let is_busy = |error: &Error| error.kind() == ErrorKind::ExecutableFileBusy;
        if started.as_ref().is_err_and(is_busy) {
            started = command.spawn();
        }
        !started.as_ref().is_err_and(is_busy)
    });
    started.unwrap()
}

/// With FUSE_ATOMIC_O_TRUNC the daemon truncates before the kernel sees that the file is a program that runs.
#[test]
fn a_program_that_runs_is_not_emptied_by_an_open_that_truncates() {
    let mount = Mount::of(AIRFLOW);
    let program = mount.at("sleep");
    POD.run(|| {
        fs::copy("/bin/sleep", &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let length = fs::metadata(&program).unwrap().len();
        let mut running = run(std::process::Command::new(&program).arg("60"));
        for access in [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR] {
            let path = std::ffi::CString::new(program.to_str().unwrap()).unwrap();
            let flags = nix::fcntl::OFlag::from_bits_retain(access | libc::O_TRUNC);
            let opened = nix::fcntl::open(path.as_c_str(), flags, nix::sys::stat::Mode::empty());
            assert_eq!(opened.unwrap_err(), nix::errno::Errno::ETXTBSY, "{flags:?}");
        }
        assert_eq!(fs::metadata(&program).unwrap().len(), length);
        assert!(running.try_wait().unwrap().is_none(), "it still runs");
        running.kill().unwrap();
        running.wait().unwrap();
    });
}

#[test]
fn a_program_on_the_mount_runs() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::copy("/bin/true", mount.at("true")).unwrap();
        fs::set_permissions(mount.at("true"), Permissions::from_mode(0o755)).unwrap();
        fs::write(mount.at("script"), "#!/bin/sh\nexit 7\n").unwrap();
        fs::set_permissions(mount.at("script"), Permissions::from_mode(0o755)).unwrap();
        assert!(run(&mut std::process::Command::new(mount.at("true"))).wait().unwrap().success());
        let ended = run(&mut std::process::Command::new(mount.at("script"))).wait().unwrap();
        assert_eq!(ended.code(), Some(7));
    });
}

/// Found by mapping a log: the page that the kernel writes back carries its offset, and pwrite(2) on a descriptor with
/// O_APPEND ignores offsets, so the page came to stand at the end of the file a second time.
#[test]
fn a_mapped_page_of_a_file_open_for_appending_is_written_back_to_its_place() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let mut log = OpenOptions::new().read(true).append(true).create(true).open(mount.at("log")).unwrap();
        log.write_all(&[b'a'; 100]).unwrap();
        live::mapping::with_shared_mapping(&log, 100, |bytes| bytes[10] = b'B');
        log.write_all(b"end").unwrap();
    });
    let mut expected = vec![b'a'; 100];
    expected[10] = b'B';
    expected.extend(b"end");
    assert_eq!(fs::read(mount.stored("log")).unwrap(), expected);
}
