//! Names: renames, links, removals, and what happens to files that are open meanwhile; times.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use rustix::fs::{
    AtFlags, CWD, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, renameat_with, utimensat,
};

use super::live::{OWNER, POD, errno};
use super::runner::Scenario;
use super::stage::{Stage, within};

/// Files that are closed right before their directory goes: without a remedy about one in five was still there.
const ROUNDS: usize = 240;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "names: a file that is removed while open works on and leaves nothing behind",
        run: unlink_open,
    },
    Scenario {
        name: "names: a file that is renamed over while open works on and leaves nothing behind",
        run: rename_over_open,
    },
    Scenario { name: "names: rm -r of a tree that was just read leaves nothing", run: remove_a_hot_tree },
    Scenario {
        name: "names: a directory can be removed or replaced right after the last close of what was in it",
        run: remove_right_after_close,
    },
    Scenario {
        name: "names: a directory with what is still open in it is not empty, nor is one with a file",
        run: remove_what_is_in_use,
    },
    Scenario { name: "names: rename fails with the same errors as on the bare mount", run: rename_errors },
    Scenario { name: "names: hard links are one inode", run: hard_links },
    Scenario {
        name: "names: many names are listed completely, and can be removed while they are",
        run: long_listing,
    },
    Scenario { name: "names: times keep their nanoseconds, NOW and OMIT", run: times },
];

fn unlink_open(stage: &Stage) {
    POD.run(|| {
        fs::create_dir(stage.pod("d")).unwrap();
        let mut file = open_new(&stage.pod("d/f"));
        file.write_all(b"before").unwrap();
        fs::remove_file(stage.pod("d/f")).unwrap();
        assert_eq!(errno(fs::metadata(stage.pod("d/f"))), Errno::ENOENT);
        assert_eq!(fs::read_dir(stage.pod("d")).unwrap().filter(shown).count(), 0);
        file.write_all(b" and after").unwrap();
        file.set_len(13).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 13);
        assert_eq!(content(&mut file), "before and af");
        drop(file);
    });
    stage.server_comes_to_have("d", &[]);
    POD.run(|| fs::remove_dir(stage.pod("d")).unwrap());
    assert_eq!(stage.names_at_server(""), [""; 0]);
}

/// Whether an entry is one that a user made: the NFS client's own silly names may show while a file is open.
fn shown(entry: &std::io::Result<fs::DirEntry>) -> bool {
    !entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".nfs")
}

fn rename_over_open(stage: &Stage) {
    POD.run(|| {
        stage_two_files(stage);
        let mut old = OpenOptions::new().read(true).write(true).open(stage.pod("target")).unwrap();
        fs::rename(stage.pod("source"), stage.pod("target")).unwrap();
        assert_eq!(content(&mut old), "old");
        old.write_all(b"er").unwrap();
        assert_eq!(content(&mut old), "older");
        assert_eq!(fs::read_to_string(stage.pod("target")).unwrap(), "new");
        drop(old);
    });
    stage.server_comes_to_have("", &["target"]);
    assert_eq!(fs::read_to_string(stage.server("target")).unwrap(), "new");

    // The other way round: what is open goes on under its new name.
    POD.run(|| {
        let mut file = OpenOptions::new().append(true).open(stage.pod("target")).unwrap();
        fs::rename(stage.pod("target"), stage.pod("moved")).unwrap();
        file.write_all(b"er").unwrap();
    });
    assert_eq!(fs::read_to_string(stage.server("moved")).unwrap(), "newer");
    stage.server_comes_to_have("", &["moved"]);
}

fn stage_two_files(stage: &Stage) {
    fs::write(stage.pod("source"), "new").unwrap();
    fs::write(stage.pod("target"), "old").unwrap();
}

fn remove_a_hot_tree(stage: &Stage) {
    const DIRECTORIES: usize = 6;
    const FILES: usize = 30;
    POD.run(|| {
        for directory in 0..DIRECTORIES {
            let directory = stage.pod(format!("tree/{directory}/below"));
            fs::create_dir_all(&directory).unwrap();
            for file in 0..FILES {
                fs::write(directory.join(file.to_string()), "content").unwrap();
            }
        }
        assert_eq!(read_all(&stage.pod("tree")), DIRECTORIES * FILES);
    });
    let removed = Command::new("rm").arg("-r").arg(stage.pod("tree")).uid(50000).gid(0).output().unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert_eq!(stage.names_at_server(""), [""; 0]);
}

fn remove_right_after_close(stage: &Stage) {
    POD.run(|| {
        for round in 0..ROUNDS {
            let directory = stage.pod(format!("d{round}"));
            fs::create_dir(&directory).unwrap();
            let mut file = open_new(&directory.join("f"));
            file.write_all(&[7; 5000]).unwrap();
            match round % 3 {
                0 => fs::remove_file(directory.join("f")).unwrap(),
                1 => {
                    drop(file);
                    file = File::open(directory.join("f")).unwrap();
                    fs::remove_file(directory.join("f")).unwrap();
                }
                _ => {
                    fs::write(directory.join("new"), "new").unwrap();
                    fs::rename(directory.join("new"), directory.join("f")).unwrap();
                    fs::remove_file(directory.join("f")).unwrap();
                }
            }
            drop(file);
            if round % 2 == 0 {
                fs::remove_dir(&directory).unwrap_or_else(|error| panic!("round {round}: {error}"));
            } else {
                let other = stage.pod("other");
                fs::create_dir(&other).unwrap();
                fs::rename(&other, &directory).unwrap_or_else(|error| panic!("round {round}: {error}"));
                fs::remove_dir(&directory).unwrap();
            }
        }
    });
    assert_eq!(stage.names_at_server(""), [""; 0]);
}

fn remove_what_is_in_use(stage: &Stage) {
    POD.run(|| {
        for name in ["open", "full", "other"] {
            fs::create_dir(stage.pod(name)).unwrap();
        }
        let held = open_new(&stage.pod("open/f"));
        fs::remove_file(stage.pod("open/f")).unwrap();
        fs::write(stage.pod("full/f"), "").unwrap();
        for name in ["open", "full"] {
            within(Duration::from_secs(5), "a refusal", || {
                assert_eq!(errno(fs::remove_dir(stage.pod(name))), Errno::ENOTEMPTY);
                let refused = errno(fs::rename(stage.pod("other"), stage.pod(name)));
                assert!(matches!(refused, Errno::ENOTEMPTY | Errno::EEXIST), "{refused}");
            });
        }
        drop(held);
        fs::remove_dir(stage.pod("open")).unwrap();
    });
    assert_eq!(stage.names_at_server(""), ["full", "other"]);
}

/// Stats and reads every file below; how many there are.
fn read_all(directory: &Path) -> usize {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                return read_all(&entry.path());
            }
            assert_eq!(fs::read_to_string(entry.path()).unwrap(), "content");
            1
        })
        .sum()
}

fn rename_errors(stage: &Stage) {
    let attempts = |root: &Path| {
        let at = |name: &str| root.join(name);
        let rename = |from: &str, to: &str, flags| {
            renameat_with(CWD, at(from), CWD, at(to), flags).map_err(|e| e.to_string())
        };
        fs::create_dir_all(at("full/below")).unwrap();
        fs::create_dir_all(at("empty")).unwrap();
        fs::write(at("file"), "file").unwrap();
        fs::write(at("other"), "other").unwrap();
        [
            rename("absent", "x", RenameFlags::empty()),
            rename("empty", "full", RenameFlags::empty()),
            rename("file", "empty", RenameFlags::empty()),
            rename("empty", "file", RenameFlags::empty()),
            rename("full", "full/below/x", RenameFlags::empty()),
            rename("file", "other", RenameFlags::NOREPLACE),
            rename("file", "free", RenameFlags::NOREPLACE),
            rename("file", "other", RenameFlags::EXCHANGE),
            rename("file", "file", RenameFlags::empty()),
            rename("full", "empty", RenameFlags::empty()),
            rename("other", "file", RenameFlags::empty()),
        ]
    };
    let bare = OWNER.run(|| {
        fs::create_dir(stage.client("bare")).unwrap();
        attempts(&stage.client("bare"))
    });
    let pods = POD.run(|| {
        fs::create_dir(stage.pod("pods")).unwrap();
        attempts(&stage.pod("pods"))
    });
    assert_eq!(pods, bare, "through permfs, and on the bare mount");
    assert_eq!(stage.names_at_server("pods"), stage.names_at_server("bare"));
}

fn hard_links(stage: &Stage) {
    POD.run(|| {
        fs::write(stage.pod("a"), "a").unwrap();
        fs::hard_link(stage.pod("a"), stage.pod("b")).unwrap();
        let (a, b) = (fs::metadata(stage.pod("a")).unwrap(), fs::metadata(stage.pod("b")).unwrap());
        assert_eq!((a.ino(), b.nlink()), (b.ino(), 2));
        OpenOptions::new().append(true).open(stage.pod("b")).unwrap().write_all(b"b").unwrap();
        assert_eq!(fs::read_to_string(stage.pod("a")).unwrap(), "ab");
        fs::remove_file(stage.pod("a")).unwrap();
        assert_eq!(fs::metadata(stage.pod("b")).unwrap().nlink(), 1);
    });
    assert_eq!(stage.names_at_server(""), ["b"]);
}

fn long_listing(stage: &Stage) {
    const NAMES: usize = 1_200;
    fs::create_dir(stage.server("many")).unwrap();
    std::os::unix::fs::chown(stage.server("many"), Some(2001), Some(2001)).unwrap();
    for number in 0..NAMES {
        stage.make_at_server(format!("many/a-name-of-some-length-{number:06}"), "", (2001, 2001), 0o664);
    }
    POD.run(|| {
        let mut listed: Vec<_> =
            fs::read_dir(stage.pod("many")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        listed.sort();
        listed.dedup();
        assert_eq!(listed.len(), NAMES);
        for entry in fs::read_dir(stage.pod("many")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::remove_dir(stage.pod("many")).unwrap();
    });
    assert_eq!(stage.names_at_server(""), [""; 0]);
}

fn times(stage: &Stage) {
    const THEN: Timespec = Timespec { tv_sec: 1_234_567_890, tv_nsec: 987_654_321 };
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    const OMIT: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let set = |last_access, last_modification| {
        let times = Timestamps { last_access, last_modification };
        utimensat(CWD, stage.pod("f"), &times, AtFlags::empty()).unwrap();
    };
    let mtime = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.mtime(), found.mtime_nsec())
    };
    POD.run(|| {
        fs::write(stage.pod("f"), "").unwrap();
        set(THEN, THEN);
        assert_eq!(mtime(&stage.pod("f")), (1_234_567_890, 987_654_321));
        assert_eq!(mtime(&stage.server("f")), (1_234_567_890, 987_654_321));
        set(NOW, OMIT);
        assert_eq!(mtime(&stage.pod("f")), (1_234_567_890, 987_654_321), "OMIT leaves it");
        assert!(fs::metadata(stage.pod("f")).unwrap().atime() > 1_700_000_000, "NOW is now");
        set(OMIT, NOW);
        assert!(fs::metadata(stage.pod("f")).unwrap().mtime() > 1_700_000_000, "NOW is now");
        assert_eq!(mtime(&stage.pod("f")), mtime(&stage.server("f")));
        set(THEN, THEN);
        OpenOptions::new().append(true).open(stage.pod("f")).unwrap().write_all(b"more").unwrap();
        assert!(mtime(&stage.pod("f")).0 > 1_700_000_000, "a write is a change");
        assert_eq!(mtime(&stage.pod("f")), mtime(&stage.server("f")));
    });
}

fn open_new(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap()
}

fn content(file: &mut File) -> String {
    let mut content = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut content).unwrap();
    content
}
