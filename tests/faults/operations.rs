//! The operations: what is there before, what is done, and what that says. Whatever is opened is closed in the end.
//!
//! What a run without a death says and leaves is what every other run has to.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, RenameFlags, SeekFrom, Timespec, Timestamps, XattrFlags,
};

use crate::live::POD;
use crate::live::mapping::with_shared_mapping;
use crate::stage::Ground;

pub struct Operation {
    pub name: &'static str,
    /// By the pod, before any death is arranged.
    pub prepare: fn(&Ground),
    /// Files that the kernel has not seen yet, made on the export itself; also over what is prepared.
    pub hidden: &'static [&'static str],
    /// By the pod, unless it is root's affair.
    pub by_root: bool,
    pub act: fn(&Ground) -> String,
    /// Whether the kernel is made to forget what it knows afterwards.
    pub forgets: bool,
    /// Whether it takes time, and is made of more requests the longer it takes.
    pub lasts: bool,
}

const fn operation(name: &'static str, prepare: fn(&Ground), act: fn(&Ground) -> String) -> Operation {
    Operation { name, prepare, hidden: &[], by_root: false, act, forgets: false, lasts: false }
}

/// The same, done by root with a file of the pod's.
const fn of_root(name: &'static str, act: fn(&Ground) -> String) -> Operation {
    Operation { name, prepare: file, hidden: &[], by_root: true, act, forgets: false, lasts: false }
}

/// After which a successor's successor, and the keeper's, are looked at more closely.
pub const BEGINNINGS: &[Operation] = &[
    operation("create, write: keepers", nothing, |g| said(fs::write(g.at("f"), "written"))),
    operation("unlink: keepers", file, |g| said(fs::remove_file(g.at("f")))),
];

/// The same with files made on the export itself.
const fn hidden(
    name: &'static str,
    hidden: &'static [&'static str],
    act: fn(&Ground) -> String,
) -> Operation {
    Operation { name, prepare: nothing, hidden, by_root: false, act, forgets: false, lasts: false }
}

/// The same with a file that the kernel believes to be another: whoever opens it is sent to look again.
const fn replaced(name: &'static str, act: fn(&Ground) -> String) -> Operation {
    Operation { prepare: file, ..hidden(name, &["f"], act) }
}

pub const ALL: &[Operation] = &[
    // What takes longest comes first.
    UPGRADE,
    hidden("lookup, getattr", &["f"], |g| {
        said(fs::metadata(g.at("f")).map(|m| (m.len(), m.uid(), m.mode())))
    }),
    operation("lookup of nothing", nothing, |g| said(fs::metadata(g.at("none")).map(drop))),
    operation("chmod", file, |g| said(fs::set_permissions(g.at("f"), Permissions::from_mode(0o640)))),
    operation("chown", file, |g| said(chown(g.at("f"), Some(50_000), Some(0)))),
    operation("truncate", file, |g| said(nix::unistd::truncate(&g.at("f"), 3).map_err(io::Error::from))),
    operation("truncate of an open file", file, |g| {
        said(File::options().write(true).open(g.at("f")).unwrap().set_len(3))
    }),
    operation("chmod of a removed file", file, |g| {
        let open = File::open(g.at("f")).unwrap();
        let removed = said(fs::remove_file(g.at("f")));
        let changed = said(open.set_permissions(Permissions::from_mode(0o640)));
        removed + &changed + &said(open.metadata().map(|m| m.mode()))
    }),
    operation("utimens", file, |g| {
        let time = Timespec { tv_sec: 1_000, tv_nsec: 7 };
        let times = Timestamps { last_access: time, last_modification: time };
        said(rustix::fs::utimensat(CWD, g.at("f"), &times, AtFlags::empty()).map_err(io::Error::from))
    }),
    operation("mkdir", nothing, |g| said(fs::create_dir(g.at("d")))),
    operation("mkdir over something", directory, |g| said(fs::create_dir(g.at("d")))),
    operation("mknod", nothing, |g| {
        let (kind, mode) = (FileType::Fifo, Mode::from_raw_mode(0o622));
        said(rustix::fs::mknodat(CWD, g.at("p"), kind, mode, 0).map_err(io::Error::from))
    }),
    operation("symlink, readlink", nothing, |g| {
        said(symlink("somewhere", g.at("s"))) + &said(fs::read_link(g.at("s")))
    }),
    operation("symlink over something", file, |g| said(symlink("somewhere", g.at("f")))),
    operation("link", file, |g| said(fs::hard_link(g.at("f"), g.at("l")))),
    operation("link over something", two_files, |g| said(fs::hard_link(g.at("f"), g.at("g")))),
    operation("unlink", file, |g| said(fs::remove_file(g.at("f")))),
    operation("unlink of nothing", nothing, |g| said(fs::remove_file(g.at("f")))),
    operation("unlink of one of two names", linked, |g| said(fs::remove_file(g.at("f")))),
    operation("unlink of an open file", file, |g| {
        let mut open = File::options().read(true).write(true).open(g.at("f")).unwrap();
        let mut content = String::new();
        said(fs::remove_file(g.at("f")))
            + &said(open.read_to_string(&mut content))
            + &said(open.write(b"more"))
            + &said(open.metadata().map(|m| (m.len(), m.nlink())))
            + &content
    }),
    operation("rmdir", directory, |g| said(fs::remove_dir(g.at("d")))),
    operation("rmdir of what is not empty", full_directory, |g| said(fs::remove_dir(g.at("d")))),
    operation("rename", file, |g| said(fs::rename(g.at("f"), g.at("g")))),
    operation("rename over", two_files, |g| said(fs::rename(g.at("f"), g.at("g")))),
    operation("rename of nothing", nothing, |g| said(fs::rename(g.at("f"), g.at("g")))),
    operation("rename of a directory over another", two_directories, |g| {
        said(fs::rename(g.at("d"), g.at("e")))
    }),
    operation("rename to elsewhere", full_directory, |g| said(fs::rename(g.at("d/f"), g.at("g")))),
    operation("rename NOREPLACE", file, |g| renamed(g, RenameFlags::NOREPLACE)),
    operation("rename NOREPLACE over", two_files, |g| renamed(g, RenameFlags::NOREPLACE)),
    operation("rename EXCHANGE", two_files, |g| renamed(g, RenameFlags::EXCHANGE)),
    operation("create", nothing, |g| said(File::create(g.at("f")).map(drop))),
    operation("create O_EXCL", nothing, |g| said(File::create_new(g.at("f")).map(drop))),
    operation("create O_EXCL over", file, |g| said(File::create_new(g.at("f")).map(drop))),
    operation("create O_TRUNC over", file, |g| said(File::create(g.at("f")).map(drop))),
    operation("create, write", nothing, |g| said(fs::write(g.at("f"), "written"))),
    operation("create, append", nothing, |g| {
        let mut open = File::options().append(true).create(true).open(g.at("f")).unwrap();
        said(open.write(b"one")) + &said(open.write(b"two"))
    }),
    operation("tmpfile, link", nothing, |g| {
        let open =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(&g.pods).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        said((&open).write(b"unnamed"))
            + &said(
                rustix::fs::linkat(CWD, path, CWD, g.at("t"), AtFlags::SYMLINK_FOLLOW)
                    .map_err(io::Error::from),
            )
    }),
    hidden("open, read", &["f"], |g| said(fs::read_to_string(g.at("f")))),
    replaced("open, read of what was replaced", |g| said(fs::read_to_string(g.at("f")))),
    replaced("open O_TRUNC of what was replaced", |g| said(fs::write(g.at("f"), "anew"))),
    operation("open O_DIRECT", file, |g| {
        said(OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(g.at("f")).map(drop))
    }),
    operation("open for both, read, write", file, |g| {
        let open = File::options().read(true).write(true).open(g.at("f")).unwrap();
        let mut buffer = [0; 4];
        said(open.read_at(&mut buffer, 1)) + &said(open.write_at(b"XY", 2)) + &said(buffer)
    }),
    operation("two opens at once", file, |g| {
        let (one, two) =
            (File::open(g.at("f")).unwrap(), File::options().write(true).open(g.at("f")).unwrap());
        let mut buffer = [0; 4];
        said(two.write_at(b"Z", 0)) + &said(one.read_at(&mut buffer, 0)) + &said(buffer)
    }),
    operation("append", file, |g| {
        let mut open = File::options().append(true).open(g.at("f")).unwrap();
        said(open.write(b"-end")) + &said(open.write(b"-end"))
    }),
    operation("write, fsync", file, |g| {
        let open = File::options().write(true).open(g.at("f")).unwrap();
        said(open.write_at(b"AB", 0)) + &said(open.sync_all()) + &said(open.sync_data())
    }),
    operation("a long write", file, |g| said(fs::write(g.at("f"), vec![7; 300_000]))),
    operation("mmap", file, |g| {
        let open = File::options().read(true).write(true).open(g.at("f")).unwrap();
        with_shared_mapping(&open, 8, |bytes| bytes[3] = b'm');
        said(open.sync_all())
    }),
    operation("readdir", full_directory, |g| {
        let mut names: Vec<_> = fs::read_dir(g.at("d"))
            .unwrap()
            .map(|entry| entry.map(|entry| entry.file_name()).unwrap())
            .collect();
        names.sort();
        said(names)
    }),
    hidden("readdirplus", &["f", "g", "h"], |g| {
        let entries = fs::read_dir(&g.pods).unwrap().map(|entry| entry.unwrap());
        let mut seen: Vec<_> =
            entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().len())).collect();
        seen.sort();
        said(seen)
    }),
    operation("setxattr, getxattr, listxattr", file, |g| {
        let path = g.at("f");
        let mut buffer = vec![0; 64];
        said(rustix::fs::setxattr(&path, "user.a", b"1", XattrFlags::empty()))
            + &said(rustix::fs::getxattr(&path, "user.a", &mut buffer))
            + &said(rustix::fs::listxattr(&path, &mut buffer))
    }),
    operation("setxattr CREATE, REPLACE", file, |g| {
        let set = |value: &[u8], flags| said(rustix::fs::setxattr(g.at("f"), "user.a", value, flags));
        set(b"1", XattrFlags::CREATE) + &set(b"2", XattrFlags::CREATE) + &set(b"3", XattrFlags::REPLACE)
    }),
    operation("removexattr", marked, |g| {
        let remove = || said(rustix::fs::removexattr(g.at("f"), "user.mark"));
        remove() + &remove()
    }),
    operation("fcntl locks", file, |g| {
        let open = File::options().read(true).write(true).open(g.at("f")).unwrap();
        let other = File::options().read(true).write(true).open(g.at("f")).unwrap();
        ofd(&open, libc::F_WRLCK, false)
            + &ofd(&other, libc::F_WRLCK, false)
            + &ofd(&open, libc::F_UNLCK, false)
            + &ofd(&other, libc::F_RDLCK, false)
    }),
    operation("an fcntl lock that is asked about", file, |g| {
        let open = File::options().read(true).write(true).open(g.at("f")).unwrap();
        let other = File::options().read(true).write(true).open(g.at("f")).unwrap();
        let mut lock = whole(libc::F_WRLCK);
        let locked = ofd(&open, libc::F_WRLCK, false);
        locked + &said(fcntl(&other, FcntlArg::F_OFD_GETLK(&mut lock))) + &said(lock.l_type)
    }),
    operation("an fcntl lock that goes with a close", file, |g| {
        let open = File::options().read(true).write(true).open(g.at("f")).unwrap();
        let locked = said(fcntl(&open, FcntlArg::F_SETLK(&whole(libc::F_WRLCK))).map_err(io::Error::from));
        drop(File::open(g.at("f")).unwrap());
        let other = File::options().read(true).write(true).open(g.at("f")).unwrap();
        locked + &ofd(&other, libc::F_WRLCK, true)
    }),
    operation("an fcntl lock that is waited for", file, |g| {
        let open = File::options().read(true).write(true).open(g.at("f")).unwrap();
        let other = File::options().read(true).write(true).open(g.at("f")).unwrap();
        let had = ofd(&open, libc::F_WRLCK, false);
        let waited = thread::scope(|scope| {
            let waiting = scope.spawn(|| ofd(&other, libc::F_WRLCK, true));
            thread::sleep(Duration::from_millis(15));
            let let_go = ofd(&open, libc::F_UNLCK, false);
            let_go + &waiting.join().unwrap()
        });
        had + &waited
    }),
    operation("flock", file, |g| {
        let one = File::open(g.at("f")).unwrap();
        let two = File::open(g.at("f")).unwrap();
        let held = Flock::lock(one, FlockArg::LockExclusiveNonblock).unwrap();
        let refused =
            said(Flock::lock(two, FlockArg::LockSharedNonblock).map(drop).map_err(|(_, error)| error));
        drop(held);
        let three = File::open(g.at("f")).unwrap();
        refused + &said(Flock::lock(three, FlockArg::LockShared).map(drop).map_err(|(_, error)| error))
    }),
    operation("a flock that is waited for", file, |g| {
        let held = Flock::lock(File::open(g.at("f")).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        let two = File::open(g.at("f")).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                said(Flock::lock(two, FlockArg::LockExclusive).map(drop).map_err(|(_, error)| error))
            });
            thread::sleep(Duration::from_millis(15));
            drop(held);
            waiting.join().unwrap()
        })
    }),
    operation("fallocate", file, |g| {
        let open = File::options().write(true).open(g.at("f")).unwrap();
        said(rustix::fs::fallocate(&open, FallocateFlags::empty(), 0, 10_000))
            + &said(rustix::fs::fallocate(
                &open,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                0,
                4096,
            ))
    }),
    operation("copy_file_range", two_files, |g| {
        let from = File::open(g.at("f")).unwrap();
        let to = File::options().write(true).open(g.at("g")).unwrap();
        said(rustix::fs::copy_file_range(&from, Some(&mut 1), &to, Some(&mut 20), 5))
    }),
    operation("lseek", file, |g| {
        let open = File::open(g.at("f")).unwrap();
        said(rustix::fs::seek(&open, SeekFrom::Data(0))) + &said(rustix::fs::seek(&open, SeekFrom::Hole(0)))
    }),
    operation("statfs", nothing, |g| {
        said(nix::sys::statfs::statfs(&g.pods).map(|s| s.maximum_name_length()))
    }),
    operation("fsync of a directory", full_directory, |g| said(File::open(g.at("d")).unwrap().sync_all())),
    of_root("reload", |g| {
        g.toggle_rules();
        // Where the worker dies nobody answers; then the second time is the first, or nothing is left to do.
        for _ in 0..2 {
            g.permfs("reload");
        }
        POD.run(|| said(fs::read_to_string(g.at("f"))))
    }),
    Operation {
        name: "forgets",
        prepare: nothing,
        hidden: &[],
        by_root: false,
        act: |g| (0..3).map(|n| said(fs::write(g.at(&format!("f{n}")), "x"))).collect(),
        forgets: true,
        lasts: false,
    },
];

/// Another program takes over, under a held lock and while files are opened.
const UPGRADE: Operation = Operation { lasts: true, ..of_root("upgrade", upgrade) };

fn upgrade(g: &Ground) -> String {
    let open = || File::options().read(true).write(true).open(g.at("f"));
    let before = POD.run(open).unwrap();
    let locked = ofd(&before, libc::F_WRLCK, false);
    let is_over = AtomicBool::new(false);
    let (upgraded, meanwhile) = thread::scope(|scope| {
        let opening = scope.spawn(|| POD.run(|| opened_again_and_again(open, &is_over)));
        // Where somebody dies it may come to nothing; never is that the end of it.
        let upgraded = (0..UPGRADES).any(|_| g.permfs("upgrade"));
        is_over.store(true, Ordering::Relaxed);
        (upgraded, opening.join().unwrap())
    });
    let written = POD.run(|| said(before.write_at(b"XY", 2)) + &said(fs::write(g.at("g"), "new")));
    // What is written may pass the processes by; what is synchronised does not.
    let used = |file: File| file.write_at(b"XY", 2).and_then(|_| file.sync_all());
    let held: io::Result<Vec<()>> = meanwhile.into_iter().map(|file| file.and_then(used)).collect();
    let other = POD.run(open).unwrap();
    locked + &said(upgraded) + &written + &said(held.map(drop)) + &ofd(&other, libc::F_WRLCK, false)
}

/// How often an upgrade is asked for until one comes about.
const UPGRADES: usize = 3;

/// Files that are opened while an upgrade is under way, and how much later each.
const MEANWHILE: usize = 8;
const LATER: Duration = Duration::from_millis(40);

fn opened_again_and_again(open: impl Fn() -> io::Result<File>, until: &AtomicBool) -> Vec<io::Result<File>> {
    let goes_on = |_: &usize| {
        thread::sleep(LATER);
        !until.load(Ordering::Relaxed)
    };
    (0..MEANWHILE).take_while(goes_on).map(|_| open()).collect()
}

fn said<T: Debug>(what: T) -> String {
    format!("{what:?}; ")
}

fn nothing(_: &Ground) {}

fn file(ground: &Ground) {
    write(&ground.at("f"), "content of f");
}

fn two_files(ground: &Ground) {
    file(ground);
    write(&ground.at("g"), "g's");
}

fn linked(ground: &Ground) {
    file(ground);
    fs::hard_link(ground.at("f"), ground.at("other")).unwrap();
}

fn marked(ground: &Ground) {
    file(ground);
    rustix::fs::setxattr(ground.at("f"), "user.mark", b"x", XattrFlags::empty()).unwrap();
}

fn directory(ground: &Ground) {
    fs::create_dir(ground.at("d")).unwrap();
}

fn two_directories(ground: &Ground) {
    directory(ground);
    fs::create_dir(ground.at("e")).unwrap();
}

fn full_directory(ground: &Ground) {
    directory(ground);
    for name in ["f", "g", "h"] {
        write(&ground.at("d").join(name), name);
    }
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
}

fn renamed(ground: &Ground, flags: RenameFlags) -> String {
    said(rustix::fs::renameat_with(CWD, ground.at("f"), CWD, ground.at("g"), flags))
}

fn whole(kind: i32) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn ofd(file: &File, kind: i32, waits: bool) -> String {
    let lock = whole(kind);
    let asked = if waits { FcntlArg::F_OFD_SETLKW(&lock) } else { FcntlArg::F_OFD_SETLK(&lock) };
    said(fcntl(file, asked))
}
