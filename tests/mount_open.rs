//! What an open leads to, when names are others' by now through somebody whom the kernel does not see. It believes its names for a
//! second; an open finds what has the name when it comes.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::errno::Errno;

use live::{Backing, Mount, POD, errno};

/// Every way to its content that this kernel has, on an export whose files have handles, and on one whose files have none.
fn everywhere() -> impl Iterator<Item = (&'static str, Mount)> {
    let ways = ["passthrough", "page", "none"].into_iter();
    ways.flat_map(|way| [Backing::TempDir, Backing::Ramfs].map(|export| (way, export))).map(
        |(way, export)| {
            let rules = format!("{}\n[profile.airflow.cache]\ndata = \"{way}\"\n", live::AIRFLOW);
            (way, Mount::on(export, &rules))
        },
    )
}

/// At the export, as its owner's.
fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    std::os::unix::fs::chown(path, Some(2001), Some(2001)).unwrap();
}

/// What is called `name` at the export gets another name, and something else has it then.
fn change_places(mount: &Mount, name: &str, aside: &str, text: &str) {
    let there = mount.source().join(name);
    fs::rename(&there, mount.source().join(aside)).unwrap();
    put(&there, text);
}

fn read(path: &Path) -> String {
    POD.run(|| fs::read_to_string(path).unwrap())
}

fn number(path: &Path) -> u64 {
    POD.run(|| fs::symlink_metadata(path).unwrap().ino())
}

#[test]
fn an_open_leads_to_what_has_the_name_by_now() {
    for (way, mount) in everywhere() {
        let (f, at_export) = (mount.at("f"), |name: &str| mount.source().join(name));
        POD.run(|| fs::write(&f, "first").unwrap());
        assert_eq!(read(&f), "first");
        change_places(&mount, "f", "f.1", "second");
        assert_eq!(read(&f), "second", "{way}");

        number(&f);
        change_places(&mount, "f", "f.2", "third");
        POD.run(|| OpenOptions::new().append(true).open(&f).unwrap().write_all(b" and more").unwrap());
        assert_eq!(fs::read_to_string(at_export("f")).unwrap(), "third and more", "{way}");
        assert_eq!(fs::read_to_string(at_export("f.2")).unwrap(), "second", "{way}");

        number(&f);
        fs::remove_file(at_export("f")).unwrap();
        symlink("f.1", at_export("f")).unwrap();
        assert_eq!(read(&f), "first", "{way}: a symlink");
        fs::remove_file(at_export("f")).unwrap();
        put(&at_export("f"), "fourth");
        sleep(Duration::from_millis(1100));

        number(&f);
        fs::rename(at_export("f"), at_export("f.3")).unwrap();
        fs::create_dir(at_export("f")).unwrap();
        assert_eq!(errno(POD.run(|| OpenOptions::new().write(true).open(&f))), Errno::EISDIR, "{way}");
        fs::remove_dir(at_export("f")).unwrap();
        fs::rename(at_export("f.3"), at_export("f")).unwrap();
        sleep(Duration::from_millis(1100));

        number(&f);
        fs::rename(at_export("f"), at_export("f.3")).unwrap();
        assert_eq!(errno(POD.run(|| File::open(&f))), Errno::ENOENT, "{way}");
    }
}

#[test]
fn what_is_cut_is_what_has_the_name_by_now() {
    for (way, mount) in everywhere() {
        let (f, at_export) = (mount.at("f"), |name: &str| mount.source().join(name));
        POD.run(|| fs::write(&f, "first").unwrap());
        number(&f);
        change_places(&mount, "f", "f.1", "second");
        POD.run(|| fs::write(&f, "2").unwrap());
        assert_eq!(fs::read_to_string(at_export("f")).unwrap(), "2", "{way}");
        assert_eq!(fs::read_to_string(at_export("f.1")).unwrap(), "first", "{way}");
        assert_eq!((read(&f), number(&f)), ("2".into(), fs::metadata(at_export("f")).unwrap().ino()));
        // By who may only read, nothing is cut.
        fs::set_permissions(at_export("f"), std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
        sleep(Duration::from_millis(1100));
        let cut = |options: &mut OpenOptions| errno(POD.run(|| options.custom_flags(libc::O_TRUNC).open(&f)));
        assert_eq!(cut(OpenOptions::new().write(true)), Errno::EACCES, "{way}");
        assert_eq!(cut(OpenOptions::new().read(true)), Errno::EACCES, "{way}");
        assert_eq!(read(&f), "2", "{way}");
    }
}

#[test]
fn what_is_opened_by_no_name_is_what_it_was() {
    for (way, mount) in everywhere() {
        let f = mount.at("f");
        let by_path = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = POD.run(|| {
            fs::write(&f, "first").unwrap();
            OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&f).unwrap()
        });
        change_places(&mount, "f", "f.1", "second");
        POD.run(|| {
            for _ in 0..3 {
                assert_eq!(fs::read_to_string(by_path(&file)).unwrap(), "first", "{way}");
            }
            fs::write(by_path(&file), "cut").unwrap();
        });
        assert_eq!(fs::read_to_string(mount.source().join("f.1")).unwrap(), "cut", "{way}");
        assert_eq!(read(&f), "second", "{way}");

        POD.run(|| {
            let mut file = OpenOptions::new().read(true).write(true).open(&f).unwrap();
            fs::remove_file(&f).unwrap();
            file.write_all(b"unnamed").unwrap();
            for _ in 0..3 {
                assert_eq!(fs::read_to_string(by_path(&file)).unwrap(), "unnamed", "{way}");
            }
        });
    }
}

/// Which of its names an open came by, nothing tells.
#[test]
fn a_file_of_two_names_is_opened_by_either_when_the_other_is_gone() {
    for (way, mount) in everywhere() {
        POD.run(|| {
            fs::write(mount.at("a"), "text").unwrap();
            fs::hard_link(mount.at("a"), mount.at("b")).unwrap();
        });
        for (stays, goes) in [("a", "b"), ("b", "a")] {
            let (stays, goes, at_export) = (mount.at(stays), mount.at(goes), mount.source().join(goes));
            assert_eq!((number(&stays), read(&goes)), (number(&goes), "text".into()));
            fs::remove_file(&at_export).unwrap();
            assert_eq!(read(&stays), "text", "{way}");
            fs::hard_link(mount.source().join(stays.file_name().unwrap()), at_export).unwrap();
            sleep(Duration::from_millis(1100));
        }
    }
}

/// The versions are kept by other names, so that what is opened too late is there to be read.
#[test]
fn many_who_open_a_name_at_a_time_have_what_it_led_to_when_they_came_or_later() {
    const READERS: usize = 6;
    for (way, mount) in everywhere() {
        let (latest, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
        put(&mount.source().join("f"), "0");
        let opens = thread::scope(|scope| {
            let read_on = || {
                let mut opens = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let at_least = latest.load(Ordering::SeqCst);
                    let found: u32 = read(&mount.at("f")).parse().unwrap();
                    assert!(found >= at_least, "{way}: {found}, and {at_least} was there before");
                    opens += 1;
                }
                opens
            };
            let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read_on)).collect();
            for version in 1..=60 {
                let (new, old) = (mount.source().join("new"), mount.source().join(format!("f.{version}")));
                put(&new, &version.to_string());
                fs::hard_link(mount.source().join("f"), old).unwrap();
                fs::rename(&new, mount.source().join("f")).unwrap();
                latest.store(version, Ordering::SeqCst);
                sleep(Duration::from_millis(10));
            }
            is_over.store(true, Ordering::Relaxed);
            readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u32>()
        });
        assert!(opens > 60, "{way}: {opens}");
    }
}

#[test]
fn a_file_that_was_replaced_behind_the_mounts_back_is_the_new_one() {
    for (way, mount) in everywhere() {
        let at_export = mount.source().join("f");
        POD.run(|| fs::write(mount.at("f"), b"first").unwrap());
        let held = POD.run(|| File::open(mount.at("f")).unwrap());
        fs::remove_file(&at_export).unwrap();
        put(&at_export, "second");
        assert_eq!(read(&mount.at("f")), "second", "{way}");
        let mut text = String::new();
        (&held).read_to_string(&mut text).unwrap();
        assert_eq!(text, "first", "{way}");
    }
}

/// An open believes the number and the time of the last change where both have been the same for a while: one that is made anew has another
/// time, though everything that can be set is as before, and the number as well where the file system gives it again.
#[test]
fn a_file_that_was_replaced_by_its_like_is_the_new_one() {
    for (way, mount) in everywhere() {
        let at_export = mount.source().join("f");
        POD.run(|| fs::write(mount.at("f"), b"first").unwrap());
        for _ in 0..3 {
            assert_eq!(read(&mount.at("f")), "first");
            sleep(Duration::from_millis(120));
        }
        let mtime = fs::metadata(&at_export).unwrap().modified().unwrap();
        fs::remove_file(&at_export).unwrap();
        put(&at_export, "other");
        File::options().write(true).open(&at_export).unwrap().set_modified(mtime).unwrap();
        assert_eq!(read(&mount.at("f")), "other", "{way}");
    }
}
