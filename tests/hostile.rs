//! Callers that try to leave the export, or to bring something with them.
//!
//! The clients here resolve paths with RESOLVE_NO_SYMLINKS: whatever they reach outside the export, the daemon fetched.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use live::tree::listing;
use live::{AIRFLOW, Mount, OWNER, POD, ROOT, TRANSPARENT, Who, copy_program, errno};
use nix::errno::Errno;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW, XattrFlags,
};

/// How long each race is run.
const RACE: Duration = Duration::from_secs(4);
const INSIDE: &str = "inside";
const SECRET: &str = "secret: nobody may read this through the mount";

/// A directory beside the export that 2001 could read and write, if it got there.
fn outside(mount: &Mount) -> PathBuf {
    let outside = mount.outside().join("outside");
    fs::create_dir_all(outside.join("etc")).unwrap();
    for name in ["x", "victim", "etc/passwd"] {
        fs::write(outside.join(name), SECRET).unwrap();
        fs::set_permissions(outside.join(name), Permissions::from_mode(0o666)).unwrap();
        chown(outside.join(name), Some(2001), Some(2001)).unwrap();
    }
    for name in ["", "etc"] {
        fs::set_permissions(outside.join(name), Permissions::from_mode(0o777)).unwrap();
    }
    outside
}

/// Everything outside: it must be the same before and after.
fn snapshot(outside: &Path) -> Vec<String> {
    let listed = listing(outside);
    assert_eq!(listed.len(), 5);
    listed
}

/// In `directory`: `dir` with `x`, `victim` and `etc/passwd` inside, `link` to outside, `f` and `flink` to outside's victim.
fn bait(directory: &Path, outside: &Path) {
    fs::create_dir_all(directory.join("dir/etc")).unwrap();
    for name in ["dir/x", "dir/victim", "dir/etc/passwd", "f"] {
        fs::write(directory.join(name), INSIDE).unwrap();
    }
    symlink(outside, directory.join("link")).unwrap();
    symlink(outside.join("victim"), directory.join("flink")).unwrap();
}

/// Exchanges `dir` with the symlink that leads outside, and `f` with its symlink, until told to stop.
fn swap(directory: &Path, stop: &AtomicBool) -> u64 {
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        for (one, other) in [("dir", "link"), ("f", "flink")] {
            let exchanged = rustix::fs::renameat_with(
                CWD,
                directory.join(one),
                CWD,
                directory.join(other),
                RenameFlags::EXCHANGE,
            );
            // Between the two the attacker also uses what it swaps.
            if exchanged.is_ok() {
                swaps += 1;
            }
        }
    }
    swaps
}

/// Does everything to `dir/...` and `f` below `root`, without ever following a symlink itself.
fn probe(root: &Path, attempt: u64) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).unwrap();
    let open = |path: &str, flags, mode: u32| {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve)
    };
    let mut reached = 0;
    for path in ["dir/x", "dir/etc/passwd", "dir/victim", "f"] {
        if let Ok(file) = open(path, OFlags::RDONLY, 0) {
            let mut content = String::new();
            if File::from(file).read_to_string(&mut content).is_ok() {
                assert!(!content.contains("secret"), "{path} was read from outside");
                reached += 1;
            }
        }
    }
    // Whatever is made, changed or removed must be inside; the snapshot tells.
    if let Ok(file) = open(&format!("dir/new{attempt}"), OFlags::CREATE | OFlags::RDWR, 0o666) {
        let _ = rustix::io::write(file, INSIDE.as_bytes());
    }
    let _ = open("dir/x", OFlags::WRONLY | OFlags::TRUNC, 0)
        .and_then(|file| rustix::io::write(file, INSIDE.as_bytes()));
    let _ = open("f", OFlags::WRONLY | OFlags::TRUNC, 0)
        .and_then(|file| rustix::io::write(file, INSIDE.as_bytes()));
    if let Ok(directory) = open("dir", OFlags::PATH | OFlags::DIRECTORY, 0) {
        let _ = rustix::fs::mkdirat(&directory, format!("d{attempt}"), 0o777.into());
        let _ = rustix::fs::symlinkat("x", &directory, format!("s{attempt}"));
        let _ =
            rustix::fs::renameat(&directory, format!("d{attempt}"), &directory, format!("moved{attempt}"));
        let _ = rustix::fs::linkat(&directory, "x", &directory, format!("l{attempt}"), AtFlags::empty());
        let _ = rustix::fs::unlinkat(&directory, format!("l{attempt}"), AtFlags::empty());
        let _ = rustix::fs::unlinkat(&directory, format!("moved{attempt}"), AtFlags::REMOVEDIR);
        let _ = rustix::fs::unlinkat(&directory, format!("s{attempt}"), AtFlags::empty());
        let _ = rustix::fs::unlinkat(&directory, format!("new{attempt}"), AtFlags::empty());
    }
    for path in ["dir/victim", "f"] {
        if let Ok(object) = open(path, OFlags::PATH, 0) {
            change_everything(&format!("/proc/thread-self/fd/{}", object.as_raw_fd()));
        }
    }
    reached
}

fn change_everything(path: &str) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: Timespec { tv_sec: 1, tv_nsec: 0 }, last_modification: now };
    let _ = rustix::fs::chmod(path, Mode::from_raw_mode(0o640));
    let _ = rustix::fs::utimensat(CWD, path, &times, AtFlags::empty());
    let _ = rustix::fs::setxattr(path, "user.mark", b"x", XattrFlags::empty());
    let _ = chown(path, Some(50_000), Some(0));
    let _ = nix::unistd::truncate(path, 3);
}

/// One attacker swaps in `swapping`, two probe through the mount.
fn race(mount: &Mount, swapper: Who, swapping: &Path) {
    let outside = outside(mount);
    swapper.run(|| bait(swapping, &outside));
    let before = snapshot(&outside);
    let stop = AtomicBool::new(false);
    let (swaps, reached) = thread::scope(|scope| {
        let swapping = scope.spawn(|| swapper.run(|| swap(swapping, &stop)));
        let probing: Vec<_> = (0..2)
            .map(|prober| {
                scope.spawn(move || {
                    let begun = Instant::now();
                    POD.run(|| {
                        let (mut attempt, mut reached) = (prober, 0);
                        while begun.elapsed() < RACE {
                            reached += probe(&mount.target(), attempt);
                            attempt += 2;
                        }
                        reached
                    })
                })
            })
            .collect();
        let reached: u64 = probing.into_iter().map(|prober| prober.join().unwrap()).sum();
        stop.store(true, Ordering::Relaxed);
        (swapping.join().unwrap(), reached)
    });
    println!("{swaps} swaps, {reached} reads that reached a file");
    assert_eq!(snapshot(&outside), before, "something outside the export was changed");
    assert!(swaps > 100 && reached > 100, "not much of a race: {swaps} swaps, {reached} reads");
}

#[test]
fn a_pod_that_swaps_a_directory_with_a_symlink_never_gets_out() {
    let mount = Mount::of(AIRFLOW);
    race(&mount, POD, &mount.target());
}

#[test]
fn another_client_that_swaps_it_on_the_server_never_gets_a_pod_out() {
    let rules =
        format!("{AIRFLOW}\n[profile.airflow.cache]\nattr_timeout = \"0s\"\nentry_timeout = \"0s\"\n");
    let mount = Mount::of(&rules);
    race(&mount, OWNER, &mount.source());
}

#[test]
fn a_symlink_is_text_that_only_the_client_resolves() {
    let mount = Mount::of(AIRFLOW);
    let outside = outside(&mount);
    // Outside exists, so a server side resolution would find it; /proc/self exists on both sides and differs.
    for (name, target) in
        [("absolute", outside.to_str().unwrap()), ("up", "../outside"), ("self", "/proc/self/cwd")]
    {
        POD.run(|| {
            symlink(target, mount.at(name)).unwrap();
            assert_eq!(fs::read_link(mount.at(name)).unwrap(), Path::new(target));
            assert!(fs::symlink_metadata(mount.at(name)).unwrap().is_symlink());
        });
        assert_eq!(fs::read_link(mount.stored(name)).unwrap(), Path::new(target));
    }
    POD.run(|| {
        // The client follows it, in its own name space and with its own rights.
        assert_eq!(fs::read_to_string(mount.at("absolute/x")).unwrap(), SECRET);
        symlink("/etc/shadow", mount.at("shadow")).unwrap();
        assert_eq!(errno(fs::read(mount.at("shadow"))), Errno::EACCES);
        symlink("loop", mount.at("loop")).unwrap();
        assert_eq!(errno(fs::read(mount.at("loop"))), Errno::ELOOP);
    });
}

#[test]
fn a_symlink_in_the_place_of_a_file_is_never_opened_as_one() {
    // What the kernel believes to be a file has become a symlink on the server: with a long timeout it asks for the file.
    let rules =
        format!("{AIRFLOW}\n[profile.airflow.cache]\nattr_timeout = \"60s\"\nentry_timeout = \"60s\"\n");
    let mount = Mount::of(&rules);
    let outside = outside(&mount);
    let before = snapshot(&outside);
    POD.run(|| fs::write(mount.at("f"), INSIDE).unwrap());
    fs::remove_file(mount.stored("f")).unwrap();
    OWNER.run(|| symlink(outside.join("victim"), mount.stored("f")).unwrap());
    POD.run(|| {
        let open = |flags| {
            let path = mount.at("f");
            rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map(File::from)
        };
        if let Ok(mut file) = open(OFlags::RDONLY) {
            let mut read = String::new();
            let _ = file.read_to_string(&mut read);
            assert!(!read.contains("secret"));
        }
        let _ = open(OFlags::WRONLY | OFlags::TRUNC);
        let _ =
            rustix::fs::chmodat(CWD, mount.at("f"), Mode::from_raw_mode(0o600), AtFlags::SYMLINK_NOFOLLOW);
    });
    assert_eq!(snapshot(&outside), before);
}

#[test]
fn dotdot_of_the_root_is_the_clients_own() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::create_dir_all(mount.at("a/b")).unwrap();
        let parent = fs::canonicalize(mount.at("a/b/../../..")).unwrap();
        assert_eq!(parent, fs::canonicalize(mount.outside()).unwrap());
        assert_eq!(errno(fs::create_dir(mount.at("..").join("made"))), Errno::EACCES);
        assert_eq!(errno(fs::rename(mount.at("a"), mount.at("a/b/c"))), Errno::EINVAL);
        for dots in [".", ".."] {
            let flags = AtFlags::empty();
            assert!(rustix::fs::unlinkat(CWD, mount.at("a").join(dots), flags).is_err());
            assert!(fs::create_dir(mount.at("a").join(dots)).is_err());
        }
    });
    assert!(!mount.outside().join("made").exists());
}

#[test]
fn a_directory_that_was_moved_out_of_the_export_leads_no_further() {
    let mount = Mount::of(AIRFLOW);
    let outside = outside(&mount);
    let directory = POD.run(|| {
        fs::create_dir(mount.at("d")).unwrap();
        File::open(mount.at("d")).unwrap()
    });
    fs::rename(mount.stored("d"), outside.join("d")).unwrap();
    POD.run(|| {
        // `..` is the kernel's own business; it never leads into outside.
        let up =
            rustix::fs::openat2(&directory, "../x", OFlags::RDONLY, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        assert!(up.is_err(), "{up:?}");
    });
}

#[test]
fn a_suid_program_is_inert() {
    let mount = Mount::of(TRANSPARENT);
    ROOT.run(|| {
        copy_program(Path::new("/usr/bin/id"), &mount.at("id"));
        chown(mount.at("id"), Some(0), Some(0)).unwrap();
        fs::set_permissions(mount.at("id"), Permissions::from_mode(0o6755)).unwrap();
    });
    assert_eq!(fs::metadata(mount.at("id")).unwrap().permissions().mode() & 0o7777, 0o6755);
    POD.run(|| {
        for (option, expected) in [("-u", "50000\n"), ("-ru", "50000\n"), ("-g", "0\n")] {
            let ran = Command::new(mount.at("id")).arg(option).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&ran.stdout), expected);
        }
    });
}

#[test]
fn a_write_by_another_takes_suid_away() {
    let mount = Mount::of(TRANSPARENT);
    OWNER.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        fs::set_permissions(mount.at("f"), Permissions::from_mode(0o6777)).unwrap();
    });
    Who::new(2002, 2002).run(|| fs::write(mount.at("f"), "y").unwrap());
    for path in [mount.stored("f"), mount.at("f")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o777);
    }
}

#[test]
fn overlong_names_paths_and_targets_are_refused_and_harm_nothing() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        assert_eq!(errno(File::create(mount.at("n".repeat(256)))), Errno::ENAMETOOLONG);
        assert_eq!(errno(File::create(mount.at("n".repeat(5_000)))), Errno::ENAMETOOLONG);
        assert_eq!(errno(fs::metadata(mount.at("d/".repeat(3_000)))), Errno::ENAMETOOLONG);
        assert_eq!(errno(symlink("t".repeat(4_096), mount.at("s"))), Errno::ENAMETOOLONG);
        let longest = "t".repeat(4_095);
        symlink(&longest, mount.at("s")).unwrap();
        assert_eq!(fs::read_link(mount.at("s")).unwrap(), Path::new(&longest));
    });
    assert_eq!(fs::read_dir(mount.source()).unwrap().count(), 1);
}

#[test]
fn requests_that_make_no_sense_get_an_error_and_no_more() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        let file = File::options().read(true).write(true).open(mount.at("f")).unwrap();
        assert!(file.set_len(u64::MAX / 2).is_err(), "EFBIG");
        let far = rustix::io::pwrite(&file, b"x", u64::MAX / 2 - 1);
        assert!(far.is_err(), "{far:?}");
        let negative = Timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
        let times = Timestamps { last_access: negative, last_modification: negative };
        assert_eq!(rustix::fs::futimens(&file, &times), Err(rustix::io::Errno::INVAL));
        assert!(rustix::fs::ioctl_getflags(&file).is_err() || fs::metadata(mount.at("f")).is_ok());
        assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "x");
    });
}
