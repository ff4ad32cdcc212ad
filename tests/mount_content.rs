//! Content on a live mount: which way the kernel reaches it, that every way shows the same bytes, and that what somebody else
//! has written is seen at the next open (close-to-open).

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use live::mapping::with_shared_mapping;
use live::requests::Requests;
use live::waits::until;
use live::{Backing, Mount, OWNER, POD, ROOT, Who, errno};

/// Several identities, each shown as itself; `data` as asked for.
fn rules(data: &str) -> String {
    format!("{}\n[profile.transparent.cache]\ndata = \"{data}\"\n", live::TRANSPARENT)
}

fn airflow(data: &str) -> String {
    format!("{}\n[profile.airflow.cache]\ndata = \"{data}\"\n", live::AIRFLOW)
}

/// Every way that this kernel has.
const WAYS: &[&str] = &["passthrough", "auto", "page", "none"];

/// One whose own kernel is all that there is to ask, and one of which that is not known.
const EXPORTS: &[Backing] = &[Backing::TempDir, Backing::Ramfs];

fn everywhere() -> impl Iterator<Item = (&'static &'static str, Backing)> {
    WAYS.iter().flat_map(|way| EXPORTS.iter().map(move |export| (way, *export)))
}

/// How often it is tried whether the kernel needs no READ: it may let go of a page whenever it likes. (Where this was written, somebody
/// has it do so every five seconds, whatever memory is free; fincore(1) shows it.)
const TRIES: u32 = 5;

/// Long enough that no change from now on can have the same times as one before.
fn let_doubt_pass() {
    sleep(Duration::from_millis(2200));
}

#[test]
fn reads_and_writes_pass_the_daemon_by() {
    let mount = Mount::of(&airflow("passthrough"));
    let requests = Requests::of(&mount);
    POD.run(|| {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(mount.at("log")).unwrap();
        for line in 0..100 {
            writeln!(file, "line {line}").unwrap();
        }
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 100);
    });
    let made = requests.since();
    assert_eq!((made.of("read"), made.of("write")), (0, 0), "{made:?}");
    // Before the first write to a file, not before each.
    assert!(made.of("getxattr") <= 1, "{made:?}");
    let stored = fs::metadata(mount.source().join("log")).unwrap();
    assert_eq!((stored.uid(), stored.gid(), stored.len()), (2001, 2001, 790));
}

#[test]
fn in_the_page_cache_content_stays_from_one_open_to_the_next() {
    let mount = Mount::of(&airflow("page"));
    let content = vec![7; 300_000];
    POD.run(|| fs::write(mount.at("f"), &content).unwrap());
    let_doubt_pass();
    let read = || POD.run(|| assert!(fs::read(mount.at("f")).unwrap() == content));
    read();
    let reads_of_ten = |_| {
        let requests = Requests::of(&mount);
        (0..10).for_each(|_| read());
        requests.since().of("read")
    };
    assert!((0..TRIES).map(reads_of_ten).any(|reads| reads == 0));
}

/// No two seconds must pass: the first open after a tick of any server's clock reads it once more, and whoever comes then does not.
#[test]
fn content_that_was_just_written_stays_once_it_was_seen_for_a_moment() {
    let mount = Mount::of(&airflow("page"));
    let content = vec![7; 300_000];
    let stays = |number| {
        let file = mount.at(format!("f{number}"));
        let read = || POD.run(|| assert!(fs::read(&file).unwrap() == content));
        let begun = Instant::now();
        POD.run(|| fs::write(&file, &content).unwrap());
        read();
        let requests = Requests::of(&mount);
        read();
        let (at_once, took) = (requests.since().of("read"), begun.elapsed());
        // Where it came later, it need not have.
        assert!(
            at_once > 0 || took > Duration::from_millis(100),
            "the second change of a tick would not be seen"
        );
        sleep(Duration::from_millis(120));
        read();
        let requests = Requests::of(&mount);
        (0..10).for_each(|_| read());
        // After two seconds it would in any case.
        requests.since().of("read") == 0 && begun.elapsed() < Duration::from_secs(2)
    };
    assert!((0..TRIES).any(stays));
}

#[test]
fn what_somebody_else_wrote_is_seen_at_the_next_open() {
    for way in WAYS {
        let mount = Mount::of(&airflow(way));
        let at_export = mount.source().join("f");
        POD.run(|| fs::write(mount.at("f"), b"first").unwrap());
        for (round, pause) in [0, 0, 0, 5, 120, 120, 0, 2200, 0].into_iter().enumerate() {
            POD.run(|| fs::read(mount.at("f")).unwrap());
            sleep(Duration::from_millis(pause));
            POD.run(|| fs::read(mount.at("f")).unwrap());
            // As long as the one before, and at once: nothing but content and times can tell them apart.
            let text = format!("{round:05}");
            fs::write(&at_export, &text).unwrap();
            assert_eq!(POD.run(|| fs::read_to_string(mount.at("f")).unwrap()), text, "{way}, round {round}");
        }
    }
}

#[test]
fn content_with_its_old_size_and_mtime_is_seen_all_the_same() {
    let mount = Mount::of(&airflow("page"));
    let at_export = mount.source().join("f");
    POD.run(|| fs::write(mount.at("f"), b"old").unwrap());
    let_doubt_pass();
    POD.run(|| fs::read(mount.at("f")).unwrap());
    let mtime = fs::metadata(&at_export).unwrap().modified().unwrap();
    fs::write(&at_export, b"new").unwrap();
    File::options().write(true).open(&at_export).unwrap().set_modified(mtime).unwrap();
    assert_eq!(POD.run(|| fs::read(mount.at("f")).unwrap()), b"new");
}

#[test]
fn several_identities_have_one_file_open_at_a_time_in_every_way() {
    for (way, export) in everywhere() {
        let mount = Mount::prepared(export, &rules(way), |export| {
            fs::set_permissions(export, fs::Permissions::from_mode(0o777)).unwrap();
        });
        let path = mount.at("shared");
        let everybody = [OWNER, ROOT, POD, Who::new(7, 7)];
        OWNER.run(|| {
            fs::write(&path, b"0123456789").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        });
        let mut open: Vec<(Who, File, bool)> = Vec::new();
        for (n, who) in everybody.into_iter().cycle().take(12).enumerate() {
            let writes = n % 3 != 0;
            let file = who.run(|| OpenOptions::new().read(true).write(writes).open(&path).unwrap());
            if writes {
                who.run(|| file.write_all_at(&[b'a' + u8::try_from(n).unwrap()], 3).unwrap());
            }
            open.push((who, file, writes));
            let first = open[0].1.try_clone().unwrap();
            let mut byte = [0; 1];
            first.read_exact_at(&mut byte, 3).unwrap();
            assert_eq!(
                byte,
                [if writes { b'a' + u8::try_from(n).unwrap() } else { byte[0] }],
                "{way} {export:?}, open {n}"
            );
            if n == 5 {
                open.remove(0);
            }
        }
        // And mapped by each, which only content that no cache may hold does not allow.
        for (who, file, writes) in &open {
            if *writes && *way != "none" {
                who.run(|| with_shared_mapping(file, 10, |bytes| bytes[9] = b'm'));
            }
        }
        drop(open);
        assert_eq!(fs::read(mount.source().join("shared")).unwrap().len(), 10);
        OWNER.run(|| fs::remove_file(&path).unwrap());
    }
}

/// Of two that have a file open each may do what the other may not. On NFS the kernel opens the file for both with the credentials of
/// the first.
#[test]
fn whoever_may_open_a_file_can_whoever_else_has_it_open() {
    for (way, export) in everywhere() {
        let mount = Mount::on(export, &rules(way));
        let path = mount.at("f");
        OWNER.run(|| fs::write(&path, b"text").unwrap());
        let reader = POD.run(|| File::open(&path).unwrap());
        let writer = OWNER.run(|| OpenOptions::new().append(true).open(&path).unwrap());
        OWNER.run(|| (&writer).write_all(b" and more").unwrap());
        assert_eq!(errno(POD.run(|| OpenOptions::new().append(true).open(&path))), Errno::EACCES);
        let both = OWNER.run(|| OpenOptions::new().read(true).write(true).open(&path).unwrap());
        OWNER.run(|| both.write_all_at(b"T", 0).unwrap());
        let mut text = String::new();
        (&reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "Text and more", "{way} {export:?}");
        drop(reader);
        assert_eq!(POD.run(|| fs::read(&path).unwrap()), b"Text and more");

        // And the other way round: who writes may not read.
        let path = mount.at("g");
        let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o244).open(&path);
        let writer = OWNER.run(|| open().unwrap());
        let reader = POD.run(|| File::open(&path).unwrap());
        OWNER.run(|| (&writer).write_all(b"unread").unwrap());
        let mut text = String::new();
        (&reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "unread", "{way} {export:?}");
        drop((writer, reader));
        assert_eq!(fs::read(mount.source().join("g")).unwrap(), b"unread");

        // Nobody writes as root who is not.
        let root = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let writer = OWNER.run(|| OpenOptions::new().write(true).open(&path).unwrap());
        OWNER.run(|| writer.write_all_at(b"U", 0).unwrap());
        let mut byte = [0; 1];
        root.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte, *b"U", "{way} {export:?}");
    }
}

/// A worker that has taken over does not know any more with whose credentials the kernel has a file open.
#[test]
fn after_a_takeover_a_file_is_opened_for_more_than_it_was() {
    for export in EXPORTS {
        let mount = Mount::on(*export, &airflow("passthrough"));
        let path = mount.at("f");
        POD.run(|| fs::write(&path, b"text").unwrap());
        let reader = POD.run(|| File::open(&path).unwrap());
        kill(Pid::from_raw(i32::try_from(mount.daemon()).unwrap()), Signal::SIGKILL).unwrap();
        let writer = POD.run(|| OpenOptions::new().read(true).write(true).open(&path).unwrap());
        writer.write_all_at(b"T", 0).unwrap();
        with_shared_mapping(&writer, 4, |bytes| bytes[3] = b'T');
        drop(writer);
        let mut text = String::new();
        (&reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "TexT", "{export:?}");
        drop(reader);
        assert_eq!(POD.run(|| fs::read(&path).unwrap()), b"TexT");
    }
}

#[test]
fn suid_is_lost_when_somebody_else_writes_in_every_way() {
    for way in WAYS {
        let mount = Mount::of(&rules(way));
        let path = mount.at("program");
        let bits = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        OWNER.run(|| {
            fs::write(&path, b"x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
        });
        POD.run(|| OpenOptions::new().write(true).open(&path).unwrap().write_all(b"y").unwrap());
        assert_eq!(bits(&mount.source().join("program")), 0o777, "{way}");
        // And where it became such a program only when somebody had it open.
        let open = POD.run(|| OpenOptions::new().write(true).open(&path).unwrap());
        OWNER.run(|| fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap());
        POD.run(|| (&open).write_all(b"z").unwrap());
        assert_eq!(bits(&mount.source().join("program")), 0o777, "{way}, open before");
        drop(open);
        ROOT.run(|| {
            OpenOptions::new().write(true).open(&path).unwrap().write_all(b"by root").unwrap();
        });
    }
}

#[test]
fn a_file_goes_on_after_it_was_removed_and_is_another_when_made_again() {
    for way in WAYS {
        let mount = Mount::of(&airflow(way));
        POD.run(|| {
            let path = mount.at("f");
            fs::write(&path, b"first").unwrap();
            let mut first = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, b"second").unwrap();
            first.seek(std::io::SeekFrom::End(0)).unwrap();
            first.write_all(b" goes on").unwrap();
            let mut text = String::new();
            first.rewind().unwrap();
            first.read_to_string(&mut text).unwrap();
            assert_eq!(text, "first goes on", "{way}");
            assert_eq!(fs::read(&path).unwrap(), b"second", "{way}");
        });
    }
}

#[test]
fn direct_io_is_what_the_exports_filesystem_makes_of_it() {
    let mount = Mount::on(Backing::TempDir, &airflow("passthrough"));
    let native = OpenOptions::new()
        .write(true)
        .create(true)
        .custom_flags(libc::O_DIRECT)
        .open(mount.source().join("native"))
        .map(drop)
        .map_err(|error| error.raw_os_error());
    let ours = POD
        .run(|| {
            OpenOptions::new().write(true).create(true).custom_flags(libc::O_DIRECT).open(mount.at("ours"))
        })
        .map(|file| {
            let zeros: Vec<u8> = vec![0; 8192];
            let aligned = zeros.as_ptr().align_offset(4096);
            if zeros.len() >= aligned + 4096 {
                file.write_all_at(&zeros[aligned..aligned + 4096], 0).unwrap();
            }
        })
        .map_err(|error| error.raw_os_error());
    assert_eq!(ours, native);
}

#[test]
fn passthrough_ends_with_the_last_close_and_leaves_nothing_registered() {
    let mount = Mount::of(&airflow("passthrough"));
    POD.run(|| {
        fs::write(mount.at("f"), b"x").unwrap();
        for _ in 0..2000 {
            let one = File::open(mount.at("f")).unwrap();
            let two = OpenOptions::new().append(true).open(mount.at("f")).unwrap();
            drop(one);
            drop(two);
        }
    });
    // As many descriptors as before: what was registered was taken back.
    let daemon = mount.daemon();
    let open = || fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count();
    until("no descriptors are left", || open() < 40);
}

#[test]
fn mapped_writes_reach_the_export() {
    for way in ["passthrough", "page"] {
        let mount = Mount::of(&airflow(way));
        POD.run(|| {
            let file =
                OpenOptions::new().read(true).write(true).create_new(true).open(mount.at("mapped")).unwrap();
            file.set_len(8192).unwrap();
            with_shared_mapping(&file, 8192, |bytes| bytes[5000] = 9);
            file.sync_all().unwrap();
        });
        assert_eq!(fs::read(mount.source().join("mapped")).unwrap()[5000], 9, "{way}");
    }
}

#[test]
fn what_was_stored_through_a_mapping_is_on_the_export_after_a_close_wherever_locks_are_kept() {
    for scope in ["server", "node"] {
        for way in ["passthrough", "page"] {
            let locks = format!("[profile.airflow.locks]\nscope = \"{scope}\"\n");
            let mount = Mount::of(&format!("{}{locks}", airflow(way)));
            POD.run(|| fs::write(mount.at("mapped"), [0; 8192]).unwrap());
            let stored = File::open(mount.source().join("mapped")).unwrap();
            POD.run(|| {
                let file = OpenOptions::new().read(true).write(true).open(mount.at("mapped")).unwrap();
                with_shared_mapping(&file, 8192, |bytes| {
                    bytes[5000] = 9;
                    // The mapping goes on; one descriptor of several is closed.
                    drop(file.try_clone().unwrap());
                    let mut byte = [0];
                    stored.read_exact_at(&mut byte, 5000).unwrap();
                    assert_eq!(byte, [9], "{scope}, {way}");
                });
            });
        }
    }
}

#[test]
fn a_size_and_a_time_that_changed_by_writing_are_shown_at_once() {
    for way in WAYS {
        let mount = Mount::of(&airflow(way));
        POD.run(|| {
            let mut file = File::create(mount.at("f")).unwrap();
            let before = fs::metadata(mount.at("f")).unwrap();
            sleep(Duration::from_millis(20));
            file.write_all(&[1; 5000]).unwrap();
            let after = fs::metadata(mount.at("f")).unwrap();
            assert_eq!((before.len(), after.len()), (0, 5000), "{way}");
            assert!(after.modified().unwrap() > before.modified().unwrap(), "{way}");
            assert!(after.modified().unwrap() <= SystemTime::now() + Duration::from_secs(1));
        });
    }
}

#[test]
fn a_trusted_mount_reads_without_opens_and_sees_changes_by_and_by() {
    let rules = format!("{}read_only = true\n[profile.airflow.cache]\nopen = \"trust\"\n", live::AIRFLOW);
    let mut mount = Mount::unmounted(Backing::TempDir);
    let at_export = mount.source().join("dag.py");
    fs::create_dir(mount.source().join("dags")).unwrap();
    fs::write(&at_export, vec![b'x'; 200_000]).unwrap();
    std::os::unix::fs::chown(&at_export, Some(2001), Some(2001)).unwrap();
    mount.mount(&rules);
    let read = || POD.run(|| fs::read(mount.at("dag.py")).unwrap());
    assert_eq!(read().len(), 200_000);
    let is_kept = |_| {
        let requests = Requests::of(&mount);
        (0..100).for_each(|_| assert_eq!(read().len(), 200_000));
        let made = requests.since();
        assert_eq!((made.of("open"), made.of("flush"), made.of("release")), (0, 0, 0), "{made:?}");
        made.of("read") == 0
    };
    assert!((0..TRIES).any(is_kept));
    // Nobody asks permfs for an open: whoever were let in would write into what everybody reads.
    for mut options in
        [OpenOptions::new().append(true).clone(), OpenOptions::new().read(true).write(true).clone()]
    {
        assert_eq!(errno(POD.run(|| options.open(mount.at("dag.py")))), Errno::EROFS);
        assert_eq!(
            errno(POD.run(|| options.truncate(false).create(true).open(mount.at("dags/new")))),
            Errno::EROFS
        );
    }
    assert_eq!(errno(POD.run(|| fs::write(mount.at("dag.py"), b"no"))), Errno::EROFS);
    // A change is seen once the attributes have been asked for anew.
    sleep(Duration::from_millis(20));
    fs::write(&at_export, b"changed").unwrap();
    sleep(Duration::from_millis(1100));
    assert_eq!(read(), b"changed");
    let seen = POD.run(|| {
        let file = File::open(mount.at("dag.py")).unwrap();
        let copy = OwnedFd::from(file);
        rustix::fs::seek(&copy, rustix::fs::SeekFrom::Hole(0)).map(|at| (at, copy.as_raw_fd() > 2))
    });
    assert_eq!(seen, Ok((7, true)));
}

/// Under passthrough all who have a file open write with the credentials of the first.
#[test]
fn who_joins_root_at_a_file_gets_none_of_the_blocks_reserved_for_root() {
    for way in WAYS {
        let mut mount = Mount::unmounted(Backing::TempDir);
        mount.cover_with_ext4(&["-m", "30"]);
        mount.mount(&rules(way));
        let path = mount.at("f");
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let room = nix::sys::statvfs::statvfs(&mount.source()).unwrap();
        let held = File::options().read(true).write(true).open(&path).unwrap();
        let written = POD.run(|| {
            let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            if way != &"none" {
                with_shared_mapping(&file, 1, |_| ());
            }
            let chunk = vec![b'x'; 64 << 10];
            std::iter::from_fn(|| file.write(&chunk).ok()).map(|n| u64::try_from(n).unwrap()).sum::<u64>()
        });
        drop(held);
        let available = room.blocks_available() * room.fragment_size();
        let free = room.blocks_free() * room.fragment_size();
        assert!(free > available + available / 4 && available > 0, "{free} and {available}");
        assert!(written <= available, "{way}: {written} bytes written, {available} available");
    }
}

/// The kernel lets an inode be open in one way at a time: whoever answers an open with the other one makes it EIO.
#[test]
fn no_open_fails_while_files_change_from_one_way_to_the_other() {
    EXPORTS.iter().for_each(|export| no_open_fails_on(*export));
}

fn no_open_fails_on(export: Backing) {
    const FILES: usize = 3;
    let mount = Mount::on(export, &rules("auto"));
    let old = SystemTime::now() - Duration::from_secs(3600);
    let files: Vec<_> = (0..FILES).map(|n| mount.at(format!("{n}"))).collect();
    OWNER.run(|| files.iter().for_each(|file| fs::write(file, [0; 1000]).unwrap()));
    let end = std::time::Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let files = &files;
            scope.spawn(move || {
                OWNER.run(|| {
                    for step in (thread..).take_while(|_| std::time::Instant::now() < end) {
                        let path = &files[step / 7 % FILES];
                        match step % 5 {
                            // At rest, and small: in the page cache the next time that nobody else has it open.
                            0 => File::options().write(true).open(path).unwrap().set_modified(old).unwrap(),
                            1 => _ = File::open(path).unwrap().read(&mut [0; 4096]).unwrap(),
                            2 => {
                                File::options().write(true).open(path).unwrap().write_all(&[7; 1000]).unwrap()
                            }
                            3 => {
                                let reader = File::open(path).unwrap();
                                let writer = OpenOptions::new().append(true).open(path).unwrap();
                                drop(reader);
                                writer.set_len(1000).unwrap();
                            }
                            _ => {
                                let file = File::options().read(true).write(true).open(path).unwrap();
                                with_shared_mapping(&file, 1000, |bytes| bytes[thread] = 9);
                            }
                        }
                    }
                });
            });
        }
    });
    for n in 0..FILES {
        assert_eq!(fs::read(mount.source().join(format!("{n}"))).unwrap().len(), 1000);
    }
}
