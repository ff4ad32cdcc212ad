//! Making names over what is there already: what is known of a name only at the server, and what permfs leaves to the server to
//! tell, must come out as on the bare mount.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, mknod};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::live::{OWNER, POD, Who, errno};
use super::runner::Scenario;
use super::stage::Stage;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "making: over what is there it fails with the bare mount's errors, whoever knows of it",
        run: errors,
    },
    Scenario { name: "making: a rename over what nobody knows of ends as on the bare mount", run: renames },
    Scenario {
        name: "making: a file that is open through another mount works on when it is renamed over unseen",
        run: rename_over_open,
    },
    Scenario {
        name: "making: whoever looks for a name while it is being made has the truth",
        run: meanwhile,
    },
];

/// Directories by who may write into them.
const WRITABLE: &str = "writable";
const NOT_WRITABLE: &str = "not-writable";
/// What is in each of them, by kind; the last is not there.
const THERE: [&str; 5] = ["directory", "file", "dangling", "link", "missing"];
/// What may stand behind a name in a path.
const ENDS: [&str; 4] = ["", "/", "/.", "/below"];
/// Names that are made while somebody looks for them.
const ROUNDS: u32 = 150;

type Make = fn(&Path) -> io::Result<()>;

const CALLS: [(&str, Make); 5] = [
    ("mkdir", |path| fs::create_dir(path)),
    ("symlink", |path| symlink("nowhere", path)),
    ("mknod", |path| Ok(mknod(path, SFlag::S_IFREG, Mode::S_IRWXU, 0)?)),
    ("link", |path| fs::hard_link(of_the_same_mount(path), path)),
    ("open, O_EXCL", |path| OpenOptions::new().write(true).create_new(true).open(path).map(drop)),
];

/// A file beside the directories.
fn of_the_same_mount(path: &Path) -> PathBuf {
    let top = path.ancestors().find(|directory| directory.join("to-link").exists()).unwrap();
    top.join("to-link")
}

fn prepare(stage: &Stage) {
    let make = |name: &str| {
        let directory = stage.server(name);
        fs::create_dir(&directory).unwrap();
        fs::create_dir(directory.join("directory")).unwrap();
        fs::write(directory.join("file"), "x").unwrap();
        symlink("nowhere", directory.join("dangling")).unwrap();
        symlink("directory", directory.join("link")).unwrap();
        for of in ["directory", "file", "."] {
            chown(directory.join(of), Some(2001), Some(2001)).unwrap();
        }
    };
    [WRITABLE, NOT_WRITABLE].into_iter().for_each(make);
    // No setgid bit, nor group-write: the rules take neither away from the owner.
    fs::set_permissions(stage.server(NOT_WRITABLE), Permissions::from_mode(0o555)).unwrap();
    fs::write(stage.server("to-link"), "x").unwrap();
    chown(stage.server("to-link"), Some(2001), Some(2001)).unwrap();
}

fn errors(stage: &Stage) {
    prepare(stage);
    let read_only = tempfile::tempdir().unwrap();
    let bound = |name: &str, at: &Path| {
        let to = read_only.path().join(name);
        fs::create_dir(&to).unwrap();
        mount(Some(at), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &to, None::<&str>, flags, None::<&str>).unwrap();
        to
    };
    let (bare, pods) = (bound("bare", &stage.client("")), bound("pod", &stage.pod("")));
    fs::set_permissions(read_only.path(), Permissions::from_mode(0o755)).unwrap();
    let places = [
        (stage.client(WRITABLE), stage.pod(WRITABLE)),
        (stage.client(NOT_WRITABLE), stage.pod(NOT_WRITABLE)),
        (bare.join(WRITABLE), pods.join(WRITABLE)),
    ];
    let mut failures = Vec::new();
    for (call, make) in CALLS {
        for (bare, pods) in &places {
            for (there, end) in THERE.iter().flat_map(|there| ENDS.map(|end| (there, end))) {
                for cold in [true, false] {
                    let name = format!("{there}{end}");
                    let theirs = outcome(OWNER, &bare.join(&name), cold, make);
                    let ours = outcome(POD, &pods.join(&name), cold, make);
                    // The bare mount refuses before it knows that something is there. Here that mostly is known first, as on any
                    // other file system.
                    let better =
                        matches!(theirs, Some(Errno::EACCES | Errno::EROFS)) && ours == Some(Errno::EEXIST);
                    if ours != theirs && !better {
                        failures.push(format!(
                            "{call} {}, cold {cold}: {ours:?}, not {theirs:?}",
                            pods.join(name).display()
                        ));
                    }
                }
            }
        }
    }
    for at in ["bare", "pod"] {
        umount2(&read_only.path().join(at), MntFlags::MNT_DETACH).unwrap();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What making `path` ends with; what was made is gone again. Cold: nobody on this node knows of the name.
fn outcome(who: Who, path: &Path, cold: bool, make: Make) -> Option<Errno> {
    if cold {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
    who.run(|| {
        if !cold {
            let _ = fs::symlink_metadata(path);
        }
        if let Err(error) = make(path) {
            return Some(Errno::from_raw(error.raw_os_error().unwrap()));
        }
        fs::remove_dir(path).or_else(|_| fs::remove_file(path)).unwrap();
        None
    })
}

fn meanwhile(stage: &Stage) {
    for at in ["d", "d/there"] {
        fs::create_dir(stage.server(at)).unwrap();
        chown(stage.server(at), Some(2001), Some(2001)).unwrap();
    }
    let name = |kind: &str, round: u32| format!("d/{kind}-{round}");
    for round in 0..ROUNDS {
        fs::create_dir(stage.server(name("there", round))).unwrap();
        fs::write(stage.server(name("file", round)), "x").unwrap();
    }
    fs::metadata(stage.client("d")).unwrap();
    for kind in ["there", "file", "new"] {
        for round in 0..ROUNDS {
            let path = stage.pod(name(kind, round));
            let made = AtomicBool::new(false);
            thread::scope(|threads| {
                let looks = threads.spawn(|| {
                    POD.run(|| {
                        loop {
                            let was_made = made.load(Ordering::SeqCst);
                            let found = fs::symlink_metadata(&path);
                            if kind != "new" || was_made {
                                assert_eq!(found.unwrap().is_dir(), kind != "file", "{path:?}");
                            }
                            if was_made {
                                break;
                            }
                        }
                    });
                });
                POD.run(|| {
                    let outcome = fs::create_dir(&path);
                    made.store(true, Ordering::SeqCst);
                    if kind == "new" { outcome.unwrap() } else { assert_eq!(errno(outcome), Errno::EEXIST) }
                });
                looks.join().unwrap();
            });
        }
    }
}

/// Enough renames for permfs to know from where in the kernel their new names are looked up. What fails before anything is renamed
/// makes it forget.
fn teach(stage: &Stage) {
    POD.run(|| {
        let (one, other) = (stage.pod("taught"), stage.pod("taught-too"));
        fs::write(&one, "x").unwrap();
        for _ in 0..3 {
            fs::rename(&one, &other).unwrap();
            fs::rename(&other, &one).unwrap();
        }
    });
}

/// What a rename may find, in a directory that no client has seen.
fn lay_out(directory: &Path) {
    for name in ["", "empty", "empty-too", "full", "full-too", "other", "other/empty", "sticky"] {
        fs::create_dir(directory.join(name)).unwrap();
    }
    for name in ["file", "file-too", "full/x", "full-too/y", "other/file", "sticky/own", "sticky/foreign"] {
        fs::write(directory.join(name), name).unwrap();
    }
    fs::hard_link(directory.join("file"), directory.join("same")).unwrap();
    symlink("nowhere", directory.join("dangling")).unwrap();
    symlink("empty", directory.join("link")).unwrap();
    for (name, mode) in [("sticky", 0o1777), ("other", 0o755)] {
        fs::set_permissions(directory.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let own = [
        "",
        "empty",
        "empty-too",
        "full",
        "full-too",
        "other",
        "other/empty",
        "file",
        "file-too",
        "sticky/own",
    ];
    own.iter().for_each(|name| chown(directory.join(name), Some(2001), Some(2001)).unwrap());
}

fn renames(stage: &Stage) {
    let mut failures = Vec::new();
    let olds = ["file", "empty", "full", "dangling", "missing", "file/", "empty/"];
    let news = [
        "new",
        "file-too",
        "empty-too",
        "full-too",
        "dangling",
        "link",
        "same",
        "other/file",
        "other/new",
        "other/empty",
        "new/",
        "file-too/",
        "empty-too/",
        "sticky/own",
        "sticky/foreign",
        "empty/below",
        "full/x",
        "file",
        "empty",
        "missing/x",
    ];
    for (case, (old, new)) in olds.iter().flat_map(|old| news.map(|new| (*old, new))).enumerate() {
        for flags in [RenameFlags::empty(), RenameFlags::NOREPLACE] {
            // Each flag on some of them: the machine is slow.
            if !flags.is_empty() && case % 5 != 0 {
                continue;
            }
            let outcome = |side: &str, who: Who, at: &dyn Fn(&str) -> PathBuf| {
                let name = format!("{side}-{case}-{}", flags.bits());
                lay_out(&stage.server(&name));
                let (from, to) = (at(&format!("{name}/{old}")), at(&format!("{name}/{new}")));
                let done = who.run(|| renameat_with(CWD, &from, CWD, &to, flags).err().map(Into::into));
                let left = describe(&stage.server(&name));
                fs::remove_dir_all(stage.server(&name)).unwrap();
                (done.map(|error: io::Error| Errno::from_raw(error.raw_os_error().unwrap())), left)
            };
            let theirs = outcome("bare", OWNER, &|path| stage.client(path));
            teach(stage);
            let ours = outcome("pod", POD, &|path| stage.pod(path));
            // The bare mount does not know that something is there, and has no such flag.
            let better = flags == RenameFlags::NOREPLACE && ours == (Some(Errno::EEXIST), theirs.1.clone());
            if ours != theirs && !better {
                failures.push(format!("{old} to {new} {flags:?}: {ours:?}\n  not {theirs:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Names, and what is behind each.
fn describe(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut below = vec![directory.to_owned()];
    while let Some(next) = below.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let content = if kind.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
            all.push(format!("{} {content}", path.strip_prefix(directory).unwrap().display()));
            if kind.is_dir() {
                below.push(path);
            }
        }
    }
    all.sort();
    all
}

fn rename_over_open(stage: &Stage) {
    let other = stage.mount_again(super::live::AIRFLOW);
    for round in 0..8 {
        let name = format!("open-{round}");
        fs::write(stage.server(&name), "before").unwrap();
        chown(stage.server(&name), Some(2001), Some(2001)).unwrap();
        teach(stage);
        let mut open = POD.run(|| fs::File::open(other.at(&name)).unwrap());
        POD.run(|| {
            fs::write(stage.pod("after"), "after").unwrap();
            fs::rename(stage.pod("after"), stage.pod(&name)).unwrap();
            assert_eq!(fs::read_to_string(stage.pod(&name)).unwrap(), "after");
        });
        let mut content = String::new();
        open.read_to_string(&mut content).unwrap();
        assert_eq!(content, "before");
    }
}
