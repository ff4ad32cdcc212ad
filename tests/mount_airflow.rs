//! The main job, line by line: a directory of 2001:2001 755, used by a pod that runs as 50000:0 with umask 022.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use live::{AIRFLOW, Backing, Mount, OWNER, POD, ROOT, Stat, Who, errno, stored_as};
use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

/// Does `work` on a fresh mount over the temporary directory, then on one over a tmpfs.
fn on_both(work: impl Fn(&Mount)) {
    for backing in [Backing::TempDir, Backing::Tmpfs] {
        println!("on {backing:?}");
        work(&Mount::on(backing, AIRFLOW));
    }
}

#[test]
fn directories_are_stored_2775_and_files_664_whatever_the_umask() {
    on_both(|mount| {
        for (name, umask) in [("usual", 0o022), ("private", 0o077), ("open", 0)] {
            POD.with_umask(umask).run(|| {
                fs::create_dir(mount.at(name)).unwrap();
                fs::write(mount.at(name).join("file"), "x").unwrap();
            });
        }
        stored_as(mount.stored("usual"), 2001, 2001, 0o2775);
        stored_as(mount.stored("usual/file"), 2001, 2001, 0o664);
        stored_as(mount.stored("private"), 2001, 2001, 0o2770);
        stored_as(mount.stored("private/file"), 2001, 2001, 0o660);
        stored_as(mount.stored("open"), 2001, 2001, 0o2777);
        stored_as(mount.stored("open/file"), 2001, 2001, 0o666);
    });
}

#[test]
fn the_pod_sees_its_own_ids() {
    on_both(|mount| {
        POD.run(|| {
            fs::create_dir(mount.at("d")).unwrap();
            fs::write(mount.at("d/f"), "x").unwrap();
            symlink("f", mount.at("d/s")).unwrap();
        });
        for (name, mode) in [("", 0o755), ("d", 0o2775), ("d/f", 0o664), ("d/s", 0o777)] {
            assert_eq!(POD.run(|| Stat::of(mount.at(name))), Stat::new(50000, 0, mode), "{name}");
        }
    });
}

#[test]
fn a_day_in_the_pods_life_leaves_only_2001_on_the_export() {
    on_both(|mount| {
        POD.run(|| {
            let at = |name: &str| mount.at(name);
            fs::create_dir_all(at("logs/dag/run")).unwrap();
            fs::write(at("logs/dag/run/1.log"), "first\n").unwrap();
            let mut log = OpenOptions::new().append(true).open(at("logs/dag/run/1.log")).unwrap();
            log.write_all(b"second\n").unwrap();
            drop(log);
            assert_eq!(fs::read_to_string(at("logs/dag/run/1.log")).unwrap(), "first\nsecond\n");

            fs::rename(at("logs/dag/run/1.log"), at("logs/dag/run/2.log")).unwrap();
            assert!(!at("logs/dag/run/1.log").exists());
            fs::hard_link(at("logs/dag/run/2.log"), at("logs/latest.log")).unwrap();
            assert_eq!(fs::metadata(at("logs/latest.log")).unwrap().nlink(), 2);
            symlink("dag/run/2.log", at("logs/current")).unwrap();
            assert_eq!(fs::read_link(at("logs/current")).unwrap(), Path::new("dag/run/2.log"));
            assert_eq!(fs::read_to_string(at("logs/current")).unwrap(), "first\nsecond\n");

            fs::rename(at("logs/dag"), at("logs/moved")).unwrap();
            fs::write(at("gone"), "x").unwrap();
            fs::remove_file(at("gone")).unwrap();
            fs::create_dir_all(at("gone/with/children")).unwrap();
            fs::write(at("gone/with/children/f"), "x").unwrap();
            fs::remove_dir_all(at("gone")).unwrap();
            assert!(!at("gone").exists());
        });
        assert_eq!(fs::read_to_string(mount.stored("logs/moved/run/2.log")).unwrap(), "first\nsecond\n");
        assert_eq!(fs::metadata(mount.stored("logs/latest.log")).unwrap().nlink(), 2);
        assert!(!mount.stored("gone").exists());
        all_of_it_is_2001(&mount.source());
    });
}

#[test]
fn chmod_keeps_group_write_and_setgid() {
    on_both(|mount| {
        let chmod =
            |name: &str, mode| fs::set_permissions(mount.at(name), Permissions::from_mode(mode)).unwrap();
        POD.run(|| {
            fs::create_dir(mount.at("d")).unwrap();
            for name in ["f640", "f600", "f755", "f000"] {
                fs::write(mount.at(name), "x").unwrap();
            }
            chmod("f640", 0o640);
            chmod("f600", 0o600);
            chmod("f755", 0o755);
            chmod("f000", 0);
            chmod("d", 0o755);
        });
        stored_as(mount.stored("f640"), 2001, 2001, 0o660);
        stored_as(mount.stored("f600"), 2001, 2001, 0o660);
        stored_as(mount.stored("f755"), 2001, 2001, 0o775);
        stored_as(mount.stored("f000"), 2001, 2001, 0o060);
        stored_as(mount.stored("d"), 2001, 2001, 0o2775);
        assert_eq!(POD.run(|| Stat::of(mount.at("f640"))), Stat::new(50000, 0, 0o660));
        POD.run(|| chmod("d", 0o700));
        stored_as(mount.stored("d"), 2001, 2001, 0o2770);
    });
}

#[test]
fn times_are_set_to_the_nanosecond_to_now_or_not_at_all() {
    on_both(|mount| {
        let set = |atime: (i64, i64), mtime: (i64, i64)| {
            let spec = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
            let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
            POD.run(|| utimensat(CWD, mount.at("f"), &times, AtFlags::empty()).unwrap());
            let (shown, stored) =
                (fs::metadata(mount.at("f")).unwrap(), fs::metadata(mount.stored("f")).unwrap());
            let times = |found: &fs::Metadata| {
                ((found.atime(), found.atime_nsec()), (found.mtime(), found.mtime_nsec()))
            };
            assert_eq!(times(&shown), times(&stored));
            times(&stored)
        };
        POD.run(|| fs::write(mount.at("f"), "x").unwrap());
        assert_eq!(set((1, 123_456_789), (1_000_000_000, 1)), ((1, 123_456_789), (1_000_000_000, 1)));
        assert_eq!(set((2, 0), (0, UTIME_OMIT)), ((2, 0), (1_000_000_000, 1)));
        let (atime, mtime) = set((0, UTIME_OMIT), (0, UTIME_NOW));
        assert_eq!(atime, (2, 0));
        assert!(mtime.0 > 1_700_000_000, "now is {mtime:?}");
        assert_eq!(set((3, 0), (-1, 999_999_999)), ((3, 0), (-1, 999_999_999)));
    });
}

#[test]
fn a_chown_to_oneself_succeeds() {
    on_both(|mount| {
        POD.run(|| {
            fs::write(mount.at("f"), "x").unwrap();
            fs::create_dir(mount.at("d")).unwrap();
            symlink("f", mount.at("s")).unwrap();
            for (uid, gid) in [(Some(50000), Some(0)), (Some(50000), None), (None, Some(0)), (None, None)] {
                chown(mount.at("f"), uid, gid).unwrap();
                chown(mount.at("d"), uid, gid).unwrap();
                lchown(mount.at("s"), uid, gid).unwrap();
                std::os::unix::fs::fchown(File::open(mount.at("f")).unwrap(), uid, gid).unwrap();
            }
        });
        stored_as(mount.stored("f"), 2001, 2001, 0o664);
        stored_as(mount.stored("d"), 2001, 2001, 0o2775);
    });
}

#[test]
fn another_pod_the_exports_own_owner_and_root_get_eacces() {
    on_both(|mount| {
        POD.run(|| {
            fs::write(mount.at("f"), "x").unwrap();
            fs::create_dir(mount.at("d")).unwrap();
        });
        for who in [Who::new(50001, 0), Who::new(50001, 50001), OWNER, ROOT, Who::new(50000, 1)] {
            who.run(|| {
                println!("{who:?}");
                let refused = |what: &str, result: std::io::Result<()>| {
                    assert_eq!(errno(result), Errno::EACCES, "{who:?}: {what}");
                };
                refused("read a file", File::open(mount.at("f")).map(drop));
                refused("create", File::create_new(mount.at("new")).map(drop));
                refused("mkdir", fs::create_dir(mount.at("new")));
                refused("symlink", symlink("f", mount.at("new")));
                refused("mkfifo", mkfifo(&mount.at("new")));
                refused("unlink", fs::remove_file(mount.at("f")));
                refused("rmdir", fs::remove_dir(mount.at("d")));
                refused("rename", fs::rename(mount.at("f"), mount.at("g")));
                refused("list", live::list(mount.target()).map(drop));
                refused("look up", fs::metadata(mount.at("never looked up")).map(drop));
            });
        }
        assert_eq!(fs::read_dir(mount.source()).unwrap().count(), 2);
    });
}

#[test]
fn a_denied_root_cannot_change_what_it_sees() {
    on_both(|mount| {
        POD.run(|| fs::write(mount.at("f"), "x").unwrap());
        let before = Stat::of(mount.stored("f"));
        let f = mount.at("f");
        assert_eq!(errno(fs::set_permissions(&f, Permissions::from_mode(0o777))), Errno::EACCES);
        assert_eq!(errno(chown(&f, Some(0), Some(0))), Errno::EACCES);
        assert_eq!(errno(chown(&f, Some(50000), Some(0))), Errno::EACCES);
        assert_eq!(errno(OpenOptions::new().write(true).truncate(true).open(&f)), Errno::EACCES);
        assert_eq!(nix::unistd::truncate(&f, 0), Err(Errno::EACCES));
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        assert_eq!(utimensat(CWD, &f, &times, AtFlags::empty()), Err(rustix::io::Errno::ACCESS));
        assert_eq!(
            fs::hard_link(&f, mount.at("g")).map_err(|error| error.raw_os_error()),
            Err(Some(libc::EACCES))
        );
        assert_eq!(Stat::of(mount.stored("f")), before);
        assert_eq!(fs::read_to_string(mount.stored("f")).unwrap(), "x");
    });
}

#[test]
fn root_may_still_stat_the_mount_and_ask_for_its_space_as_kubelet_does() {
    on_both(|mount| {
        assert!(fs::metadata(mount.target()).unwrap().is_dir());
        rustix::fs::statvfs(mount.target()).unwrap();
    });
}

#[test]
fn an_owner_without_a_rule_is_shown_as_nobody() {
    on_both(|mount| {
        fs::write(mount.stored("foreign"), "x").unwrap();
        chown(mount.stored("foreign"), Some(7), Some(8)).unwrap();
        fs::write(mount.stored("roots"), "x").unwrap();
        POD.run(|| {
            assert_eq!(Stat::of(mount.at("foreign")), Stat::new(65534, 65534, 0o644));
            assert_eq!(Stat::of(mount.at("roots")), Stat::new(65534, 65534, 0o644));
            assert_eq!(fs::read_to_string(mount.at("foreign")).unwrap(), "x");
            assert_eq!(errno(OpenOptions::new().write(true).open(mount.at("foreign"))), Errno::EACCES);
        });
    });
}

#[test]
fn new_objects_take_the_directorys_group_where_it_is_not_setgid() {
    on_both(|mount| {
        // The pod owns the directory, and does not belong to its group.
        fs::create_dir(mount.stored("team")).unwrap();
        fs::set_permissions(mount.stored("team"), Permissions::from_mode(0o775)).unwrap();
        chown(mount.stored("team"), Some(2001), Some(3001)).unwrap();
        POD.run(|| {
            fs::write(mount.at("team/f"), "x").unwrap();
            fs::create_dir(mount.at("team/d")).unwrap();
            fs::write(mount.at("team/d/f"), "x").unwrap();
            symlink("f", mount.at("team/s")).unwrap();
        });
        stored_as(mount.stored("team/f"), 2001, 3001, 0o664);
        stored_as(mount.stored("team/d"), 2001, 3001, 0o2775);
        stored_as(mount.stored("team/d/f"), 2001, 3001, 0o664);
        assert_eq!(Stat::of(mount.stored("team/s")).gid, 3001);
        assert_eq!(POD.run(|| Stat::of(mount.at("team/f"))), Stat::new(50000, 65534, 0o664));
    });
}

#[test]
fn the_exports_space_is_shown_as_it_is() {
    on_both(|mount| {
        let shown = POD.run(|| rustix::fs::statvfs(mount.target()).unwrap());
        let stored = rustix::fs::statvfs(mount.source()).unwrap();
        let fixed = |found: &rustix::fs::StatVfs| {
            (found.f_blocks, found.f_files, found.f_bsize, found.f_frsize, found.f_namemax)
        };
        assert_eq!(fixed(&shown), fixed(&stored));
        // Others write to the temporary directory's filesystem meanwhile.
        let apart = shown.f_bavail.abs_diff(stored.f_bavail) * stored.f_frsize;
        assert!(apart < 1 << 30, "free space differs by {apart} bytes");
    });
}

fn mkfifo(path: &Path) -> std::io::Result<()> {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o644)).map_err(Into::into)
}

/// Everything below and including `directory`: owner 2001:2001, directories 2775 (the root keeps its 755), files 664.
fn all_of_it_is_2001(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            stored_as(&path, 2001, 2001, 0o2775);
            all_of_it_is_2001(&path);
        } else if kind.is_symlink() {
            stored_as(&path, 2001, 2001, 0o777);
        } else {
            stored_as(&path, 2001, 2001, 0o664);
        }
    }
}
