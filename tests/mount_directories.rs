//! Directories: large ones, changing ones, mounts inside them, names at the limit.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::mem::MaybeUninit;
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use live::waits::until;
use live::{AIRFLOW, Backing, Mount, POD, TRANSPARENT, errno};
use nix::errno::Errno;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom};

/// As many as a busy log directory has; well past what one getdents64 returns.
const MANY: usize = 20_000;

/// Makes files `0` to `count - 1` on the export, as its owner.
fn fill(directory: &Path, count: usize) {
    live::OWNER.run(|| {
        for name in 0..count {
            File::create(directory.join(name.to_string())).unwrap();
        }
    });
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_directory_of_20_000_names_lists_each_once() {
    for backing in [Backing::TempDir, Backing::Tmpfs] {
        let mount = Mount::on(backing, AIRFLOW);
        fill(&mount.source(), MANY);
        let found = POD.run(|| names(&mount.target()));
        assert_eq!(found.len(), MANY, "{backing:?}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), MANY, "{backing:?}");
    }
}

#[test]
fn a_listing_carries_the_kind_and_number_that_stat_gives() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::create_dir(mount.at("directory")).unwrap();
        fs::write(mount.at("file"), "x").unwrap();
        fs::hard_link(mount.at("file"), mount.at("link")).unwrap();
        symlink("file", mount.at("symlink")).unwrap();
        nix::unistd::mkfifo(&mount.at("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(mount.at("socket")).unwrap();
        for _ in 0..2 {
            // Once by readdirplus's own lookups, once with everything known.
            for entry in fs::read_dir(mount.target()).unwrap() {
                let entry = entry.unwrap();
                let stat = fs::symlink_metadata(entry.path()).unwrap();
                assert_eq!(entry.ino(), stat.ino(), "{entry:?}");
                assert_eq!(entry.file_type().unwrap(), stat.file_type(), "{entry:?}");
            }
        }
    });
    for name in names(&mount.source()) {
        let stored = fs::symlink_metadata(mount.stored(&name)).unwrap();
        let shown = POD.run(|| fs::symlink_metadata(mount.at(&name)).unwrap());
        assert_eq!(shown.ino(), stored.ino(), "{name} keeps the export's number");
    }
}

#[test]
fn dot_and_dotdot_are_listed_once() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::create_dir(mount.at("d")).unwrap();
        for directory in [mount.target(), mount.at("d")] {
            let found: Vec<_> = raw_entries(&directory).into_iter().map(|(name, ..)| name).collect();
            for dots in [".", ".."] {
                assert_eq!(found.iter().filter(|name| *name == dots).count(), 1, "{found:?}");
            }
        }
        let inside = raw_entries(&mount.at("d"));
        let (_, ino, _) = inside.iter().find(|(name, ..)| name == ".").unwrap();
        assert_eq!(*ino, fs::metadata(mount.at("d")).unwrap().ino());
    });
}

/// Name, number and position after it, of each entry, as getdents64(2) gives them.
fn raw_entries(directory: &Path) -> Vec<(String, u64, u64)> {
    let directory =
        rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .unwrap();
    // Small, so that the listing takes several calls.
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.unwrap();
        assert_ne!(entry.file_type(), FileType::Unknown);
        found.push((entry.file_name().to_str().unwrap().to_owned(), entry.ino(), entry.next_entry_cookie()));
    }
    found
}

#[test]
fn a_position_that_was_told_can_be_sought() {
    const FILES: usize = 2_000;
    let mount = Mount::of(AIRFLOW);
    fill(&mount.source(), FILES);
    POD.run(|| {
        let all = raw_entries(&mount.target());
        assert_eq!(all.len(), FILES + 2);
        let directory = File::open(mount.target()).unwrap();
        for at in [0, 1, 2, 100, 999, 1_000, FILES, FILES + 1] {
            let (_, _, position) = all[at];
            // A position is opaque and may use all 64 bits, but lseek(2) has only the positive half.
            rustix::fs::seek(&directory, SeekFrom::Start(position)).unwrap();
            let mut buffer = [MaybeUninit::uninit(); 2048];
            let mut entries = RawDir::new(&directory, &mut buffer);
            let next = entries.next().map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
            assert_eq!(next.as_deref(), all.get(at + 1).map(|(name, ..)| &**name), "after entry {at}");
        }
        // rewinddir(3) sees what was made since.
        fs::write(mount.at("new"), "x").unwrap();
        rustix::fs::seek(&directory, SeekFrom::Start(0)).unwrap();
        let mut buffer = [MaybeUninit::uninit(); 65_536];
        let mut entries = RawDir::new(&directory, &mut buffer);
        let mut found = Vec::new();
        while let Some(entry) = entries.next() {
            found.push(entry.unwrap().file_name().to_owned());
        }
        assert_eq!(found.len(), FILES + 3);
        assert!(found.contains(&CString::new("new").unwrap()));
    });
}

/// Linux completes a listing that was broken off with what whoever reads next is given, and shows it to whoever goes back in that.
#[test]
fn who_goes_back_in_a_listing_is_not_shown_what_somebody_else_has_seen_before() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        for name in 0..500 {
            fs::write(mount.at(format!("with-a-name-of-some-length-{name}")), "x").unwrap();
        }
        let first = fs::read_dir(mount.target()).unwrap().nth(5).unwrap().unwrap();
        fs::remove_file(first.path()).unwrap();
        let directory = File::open(mount.target()).unwrap();
        let all = rest_of(&directory);
        assert_eq!(all.len(), 500 - 1 + 2);
        for at in (0..all.len()).step_by(50) {
            rustix::fs::seek(&directory, SeekFrom::Start(all[at].1)).unwrap();
            let rest = rest_of(&directory);
            let other: Vec<_> = rest.iter().filter(|entry| !all[at + 1..].contains(entry)).collect();
            assert!(other.is_empty(), "after entry {at} there is now {other:?}");
            assert_eq!(rest.len(), all.len() - at - 1, "after entry {at}");
        }
    });
}

/// The names from where the directory stands, and the place after each.
fn rest_of(directory: &File) -> Vec<(String, u64)> {
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut found = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.unwrap();
        found.push((entry.file_name().to_str().unwrap().to_owned(), entry.next_entry_cookie()));
    }
    found
}

#[test]
fn what_is_not_removed_is_still_listed_while_the_rest_is() {
    const FILES: usize = 5_000;
    let mount = Mount::of(AIRFLOW);
    fill(&mount.source(), FILES);
    let seen = POD.run(|| {
        let mut seen = BTreeSet::new();
        for entry in fs::read_dir(mount.target()).unwrap() {
            let name: usize = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
            assert!(seen.insert(name), "{name} is listed twice");
            // Odd ones go as they are met, and each takes an even neighbour's place in the directory's blocks along.
            if name % 2 == 1 {
                fs::remove_file(mount.at(name.to_string())).unwrap();
            }
        }
        seen
    });
    let missed: Vec<_> = (0..FILES).filter(|name| name % 2 == 0 && !seen.contains(name)).collect();
    assert!(missed.is_empty(), "{missed:?} were there all the time");
    assert_eq!(names(&mount.source()).len(), FILES / 2);
}

#[test]
fn rm_r_of_a_hot_tree_leaves_nothing() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        for directory in 0..50 {
            let path = mount.at(format!("tree/{directory}/deeper"));
            fs::create_dir_all(&path).unwrap();
            for file in 0..20 {
                fs::write(path.join(file.to_string()), "x").unwrap();
            }
        }
        let removed = std::process::Command::new("rm").arg("-r").arg(mount.at("tree")).status().unwrap();
        assert!(removed.success());
    });
    assert_eq!(fs::read_dir(mount.source()).unwrap().count(), 0);
}

#[test]
fn names_of_255_bytes_work_and_longer_ones_are_enametoolong() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        // Not only letters: any byte but a slash and NUL is a name.
        let longest = "\u{fc}".repeat(127) + "x";
        assert_eq!(longest.len(), 255);
        fs::write(mount.at(&longest), "x").unwrap();
        assert_eq!(names(&mount.target()), [&*longest]);
        fs::rename(mount.at(&longest), mount.at("y".repeat(255))).unwrap();
        fs::create_dir(mount.at("z".repeat(255))).unwrap();
        let over = mount.at("x".repeat(256));
        for result in [
            File::create(&over).map(drop),
            fs::create_dir(&over),
            fs::metadata(&over).map(drop),
            fs::remove_file(&over),
            symlink("x", &over),
            fs::rename(mount.at("y".repeat(255)), &over),
        ] {
            assert_eq!(errno(result), Errno::ENAMETOOLONG);
        }
    });
}

#[test]
fn names_are_bytes_and_not_text() {
    use std::os::unix::ffi::OsStrExt;
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let name = std::ffi::OsStr::from_bytes(b"\xff\xfe \n\t\\\"*?");
        fs::write(mount.at(name), "x").unwrap();
        let found: Vec<_> =
            fs::read_dir(mount.target()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found, [name]);
        assert_eq!(fs::read(mount.at(name)).unwrap(), b"x");
    });
    assert!(mount.stored(std::ffi::OsStr::from_bytes(b"\xff\xfe \n\t\\\"*?")).exists());
}

#[test]
fn mounts_inside_the_export_never_share_a_number() {
    let mut mount = Mount::unmounted(Backing::TempDir);
    // Two fresh tmpfs number their files alike.
    for name in ["one", "two"] {
        let directory = mount.stored(name);
        fs::create_dir(&directory).unwrap();
        mount.cover(&directory, name);
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        fs::create_dir(directory.join("d")).unwrap();
        fs::write(directory.join("f"), name).unwrap();
        fs::write(directory.join("d/g"), name).unwrap();
    }
    let inner = |path: &str| fs::metadata(mount.stored(path)).unwrap().ino();
    assert_eq!(inner("one/f"), inner("two/f"), "the premise: the numbers collide below");
    mount.mount(TRANSPARENT);

    let mut by_number = HashMap::new();
    for path in ["", "one", "two", "one/d", "two/d", "one/f", "two/f", "one/d/g", "two/d/g"] {
        let stat = fs::metadata(mount.at(path)).unwrap();
        if let Some(other) = by_number.insert((stat.dev(), stat.ino()), path) {
            panic!("{path:?} and {other:?} have the same number");
        }
    }
    for name in ["one", "two"] {
        assert_eq!(fs::read_to_string(mount.at(name).join("f")).unwrap(), name);
        assert_eq!(fs::read_to_string(mount.at(name).join("d/g")).unwrap(), name);
        for entry in fs::read_dir(mount.at(name)).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.ino(), fs::metadata(entry.path()).unwrap().ino(), "{}", entry.path().display());
        }
    }
    // find, rm and tar look at these to tell a loop or a link from a tree.
    assert_eq!(errno(fs::rename(mount.at("one/f"), mount.at("two/h"))), Errno::EXDEV);
    assert_eq!(errno(fs::hard_link(mount.at("one/f"), mount.at("two/h"))), Errno::EXDEV);
    assert_eq!(errno(fs::remove_dir(mount.at("one"))), Errno::EBUSY);
}

#[test]
fn work_inside_a_nested_mount_lands_there() {
    let mut mount = Mount::unmounted(Backing::TempDir);
    let directory = mount.stored("inner");
    fs::create_dir(&directory).unwrap();
    mount.cover(&directory, "inner");
    std::os::unix::fs::chown(&directory, Some(2001), Some(2001)).unwrap();
    mount.mount(AIRFLOW);
    POD.run(|| {
        fs::create_dir(mount.at("inner/d")).unwrap();
        fs::write(mount.at("inner/d/f"), "x").unwrap();
        fs::rename(mount.at("inner/d/f"), mount.at("inner/g")).unwrap();
        fs::remove_dir(mount.at("inner/d")).unwrap();
        assert_eq!(fs::read_to_string(mount.at("inner/g")).unwrap(), "x");
    });
    live::stored_as(mount.stored("inner/g"), 2001, 2001, 0o664);
}

#[test]
fn an_open_directory_is_the_same_after_it_was_moved() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::create_dir_all(mount.at("a/b")).unwrap();
        let directory = File::open(mount.at("a/b")).unwrap();
        fs::rename(mount.at("a/b"), mount.at("c")).unwrap();
        rustix::fs::mkdirat(&directory, "made", 0o755.into()).unwrap();
        assert!(mount.at("c/made").is_dir());
        // `..` of the moved directory is where it lies now.
        let parent = rustix::fs::statat(&directory, "..", AtFlags::empty()).unwrap();
        assert_eq!(parent.st_ino, fs::metadata(mount.target()).unwrap().ino());
    });
}

#[test]
fn a_deep_tree_is_walked_to_its_end() {
    const DEEP: usize = 400;
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut here = rustix::fs::open(mount.target(), flags, Mode::empty()).unwrap();
        for _ in 0..DEEP {
            rustix::fs::mkdirat(&here, "abcdefghijklmnopqrstuvwxyz", 0o755.into()).unwrap();
            here = rustix::fs::openat(&here, "abcdefghijklmnopqrstuvwxyz", flags, Mode::empty()).unwrap();
        }
        // 400 x 27 bytes: no path names this place, but the directory works.
        rustix::fs::mkdirat(&here, "end", 0o755.into()).unwrap();
        rustix::fs::unlinkat(&here, "end", AtFlags::REMOVEDIR).unwrap();
        let removed =
            std::process::Command::new("rm").arg("-r").arg(mount.at("abcdefghijklmnopqrstuvwxyz")).status();
        assert!(removed.unwrap().success());
    });
    assert_eq!(fs::read_dir(mount.source()).unwrap().count(), 0);
}

/// The removed directories that the daemon has open for listing; what it merely refers to (O_PATH) is left out.
fn removed_and_open(mount: &Mount) -> usize {
    let process = format!("/proc/{}", mount.daemon());
    let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().map(|entry| entry.unwrap().file_name());
    let of_removed = descriptors.filter(|fd| {
        let fd = fd.to_str().unwrap();
        let leads_to = fs::read_link(format!("{process}/fd/{fd}")).unwrap_or_default();
        let info = fs::read_to_string(format!("{process}/fdinfo/{fd}")).unwrap_or_default();
        // Closed meanwhile.
        let Some(flags) = info.lines().find_map(|line| line.strip_prefix("flags:\t")) else { return false };
        let is_reference = i32::from_str_radix(flags, 8).unwrap() & libc::O_PATH != 0;
        leads_to.starts_with(mount.source())
            && leads_to.to_str().unwrap().ends_with("(deleted)")
            && !is_reference
    });
    of_removed.count()
}

#[test]
fn a_listing_that_nobody_goes_on_with_ends_when_its_directory_is_removed() {
    let mount = Mount::of(AIRFLOW);
    for held in [true, false] {
        let directory = POD.run(|| {
            fs::create_dir(mount.at("d")).unwrap();
            File::create(mount.at("d/f")).unwrap();
            // One portion of several: the end is not asked for.
            assert!(fs::read_dir(mount.at("d")).unwrap().next().is_some());
            let directory = held.then(|| File::open(mount.at("d")).unwrap());
            fs::remove_file(mount.at("d/f")).unwrap();
            fs::remove_dir(mount.at("d")).unwrap();
            directory
        });
        assert_eq!(removed_and_open(&mount), 0, "held: {held}");
        drop(directory);
    }
}

#[test]
fn a_listing_that_nobody_goes_on_with_ends_when_its_directory_is_forgotten() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::create_dir(mount.at("d")).unwrap();
        File::create(mount.at("d/f")).unwrap();
        assert!(fs::read_dir(mount.at("d")).unwrap().next().is_some());
    });
    // Not through the mount, which learns of it when it looks.
    fs::remove_dir_all(mount.stored("d")).unwrap();
    assert_eq!(removed_and_open(&mount), 1);
    until("the kernel knows the directory no more, and its listing is closed", || {
        POD.run(|| fs::metadata(mount.at("d"))).is_err() && removed_and_open(&mount) == 0
    });
}
