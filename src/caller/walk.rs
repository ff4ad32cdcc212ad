//! What a waiting thread is doing: whether it merely walks through directories, and will be shown the attributes of none.

use libc::c_long;

use super::Pid;
use super::purpose::{Site, asks};
use super::threads::{Tells, Threads, calls_have_numbers, function, lines};

/// What a thread is about that is shown the attributes of no directory that it goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// To open or to make what its path leads to; it need not change anything.
    Through,
    /// To open something in the directory that it asks about, which it may have to make: it is not on its way there any more.
    ToOpen(Site),
    /// To make the name at its path's end, which must not be there.
    ToMake,
    /// To remove or to replace that name.
    ToChange,
}

/// What a system call does with the name at its path's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Opens it, and makes it where it is told to and must.
    Opens,
    Makes,
    Changes,
    /// Any of these or none.
    Walks,
}

/// System calls that take paths and tell nothing of the directories on the way.
const CALLS: &[(&str, c_long, Does)] = &[
    ("openat", libc::SYS_openat, Does::Opens),
    ("openat2", libc::SYS_openat2, Does::Opens),
    ("mkdirat", libc::SYS_mkdirat, Does::Makes),
    ("mknodat", libc::SYS_mknodat, Does::Walks),
    ("symlinkat", libc::SYS_symlinkat, Does::Walks),
    ("linkat", libc::SYS_linkat, Does::Walks),
    ("unlinkat", libc::SYS_unlinkat, Does::Changes),
    ("renameat", libc::SYS_renameat, Does::Changes),
    // With RENAME_NOREPLACE it ends at a name that it finds.
    ("renameat2", libc::SYS_renameat2, Does::Walks),
];

/// Those that newer machines do not have any more.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(&str, c_long, Does)] = &[
    ("open", libc::SYS_open, Does::Opens),
    ("creat", libc::SYS_creat, Does::Opens),
    ("mkdir", libc::SYS_mkdir, Does::Makes),
    ("mknod", libc::SYS_mknod, Does::Walks),
    ("rmdir", libc::SYS_rmdir, Does::Changes),
    ("symlink", libc::SYS_symlink, Does::Walks),
    ("link", libc::SYS_link, Does::Walks),
    ("unlink", libc::SYS_unlink, Does::Changes),
    ("rename", libc::SYS_rename, Does::Changes),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(&str, c_long, Does)] = &[];

impl Threads {
    /// What the thread, which waits to hear who may do what in a directory, is about, where it is in a call that shows nobody the
    /// attributes of the directories that it goes through. None where it is not, or that cannot be told.
    pub fn walk(&self, thread: Pid) -> Option<Walk> {
        if !calls_have_numbers() {
            // The call is on the kernel's stack too.
            return self.ask(thread, Tells::Stack, |stack| Some(does(stack)?.walk(|| asks(stack))))?;
        }
        let (does, makes) = self.ask(thread, Tells::Call, told)??;
        // A stack costs five times as much.
        Some(does.walk(|| if makes { self.ask(thread, Tells::Stack, asks)? } else { None }))
    }
}

impl Does {
    /// The walk that such a call is on; `site` is from where it asks to open something.
    fn walk(self, site: impl FnOnce() -> Option<Site>) -> Walk {
        match self {
            Self::Opens => site().map_or(Walk::Through, Walk::ToOpen),
            Self::Makes => Walk::ToMake,
            Self::Changes => Walk::ToChange,
            Self::Walks => Walk::Through,
        }
    }
}

fn calls() -> impl Iterator<Item = &'static (&'static str, c_long, Does)> {
    CALLS.iter().chain(OLD_CALLS)
}

/// Of a line `NUMBER SIX-ARGUMENTS STACK-POINTER PROGRAM-COUNTER`, what the call does and whether it may have to make the name;
/// `running` or `-1 ...` for a thread that is in no call. A 32-bit program's calls have other numbers, and its stack lies below 4 GiB.
pub(super) fn told(line: &str) -> Option<(Does, bool)> {
    let mut words = line.split_ascii_whitespace();
    let number: c_long = words.next()?.parse().ok()?;
    let mut values = [0; 7];
    for value in &mut values {
        *value = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    let [arguments @ .., stack] = values;
    let does = calls().find(|call| call.1 == number)?.2;
    (stack > u64::from(u32::MAX)).then(|| (does, flags(number, arguments).is_none_or(makes)))
}

/// open(2)'s, where they are an argument: openat2(2) has them in memory, creat(2) none.
fn flags(number: c_long, arguments: [u64; 6]) -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_open {
        return Some(arguments[1]);
    }
    (number == libc::SYS_openat).then_some(arguments[2])
}

fn makes(flags: u64) -> bool {
    flags & u64::from(libc::O_CREAT.unsigned_abs()) != 0
}

pub(super) fn does(stack: &str) -> Option<Does> {
    let mut names = lines(stack).filter_map(|line| function(line).strip_prefix("sys_"));
    names.find_map(|name| calls().find(|call| call.0 == name)).map(|call| call.2)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::{Duration, Instant};

    use nix::sys::stat::Mode;
    use nix::unistd::{gettid, mkfifo};

    use super::*;

    #[test]
    fn a_line_is_read_whole_and_a_32_bit_programs_numbers_mean_something_else() {
        let line =
            |number: i64, stack: &str| format!("{number} 0xffffff9c 0x1 0x2 0x0 0x0 0x0 {stack} 0x401000\n");
        let does = |line: &str| told(line).map(|told| told.0);
        assert_eq!(does(&line(libc::SYS_unlinkat, "0x7ffd00001000")), Some(Does::Changes));
        assert_eq!(does(&line(libc::SYS_mkdirat, "0x7ffd00001000")), Some(Does::Makes));
        assert_eq!(does(&line(libc::SYS_openat, "0xc000012000")), Some(Does::Opens));
        assert_eq!(does(&line(libc::SYS_unlinkat, "0xffd01000")), None);
        assert_eq!(does(&line(libc::SYS_statx, "0x7ffd00001000")), None);
        for none in [&line(-1, "0x7ffd00001000"), "running\n", ""] {
            assert_eq!(does(none), None);
        }
    }

    #[test]
    fn an_open_makes_nothing_that_is_not_told_to() {
        let makes = |call: c_long, second: i32, third: i32| {
            let line =
                format!("{call} 0xffffff9c {second:#x} {third:#x} 0x0 0x0 0x0 0x7ffd00001000 0x401000\n");
            told(&line).unwrap()
        };
        let to_make = libc::O_CREAT | libc::O_WRONLY;
        assert_eq!(makes(libc::SYS_openat, to_make, libc::O_RDONLY), (Does::Opens, false));
        assert_eq!(makes(libc::SYS_openat, 0, to_make), (Does::Opens, true));
        assert_eq!(makes(libc::SYS_openat2, 0, 0), (Does::Opens, true), "its flags are not told");
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(makes(libc::SYS_open, to_make, 0), (Does::Opens, true));
            assert_eq!(makes(libc::SYS_open, 0, to_make), (Does::Opens, false));
            assert_eq!(makes(libc::SYS_creat, 0, 0), (Does::Opens, true));
        }
    }

    #[test]
    fn where_there_are_no_numbers_the_stack_tells() {
        let stack = |by: &str, call: &str| {
            format!(
                "[<0>] fuse_permission+0x50/0x7f\n[<0>] inode_permission+0x7/0x9\n[<0>] {by}+0x1/0x2\n\
                 [<0>] {call}+0x10/0x12\n[<0>] userspace+0x451/0x570\n"
            )
        };
        let walk = |by: &str, call: &str| {
            let stack = stack(by, call);
            Some(does(&stack)?.walk(|| asks(&stack)))
        };
        assert_eq!(walk("link_path_walk", "sys_unlinkat"), Some(Walk::ToChange));
        assert_eq!(walk("link_path_walk", "sys_open"), Some(Walk::Through));
        assert!(matches!(walk("path_openat", "sys_open"), Some(Walk::ToOpen(_))));
        assert_eq!(walk("link_path_walk", "sys_newfstatat"), None);
        assert_eq!(walk("link_path_walk", "do_sys_openat2"), None);
        assert_eq!(does(""), None);
    }

    #[test]
    fn who_opens_walks_and_who_sleeps_does_not() {
        let room = tempfile::tempdir().unwrap();
        let fifo = room.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let (tell, told) = channel();
        let (opened, at) = (tell.clone(), fifo.clone());
        let opens = thread::spawn(move || {
            opened.send(gettid()).unwrap();
            // Waits for a writer.
            fs::File::open(at).unwrap()
        });
        let walker = Pid(told.recv().unwrap().as_raw().cast_unsigned());
        let (begun, threads) = (Instant::now(), Threads::default());
        while threads.walk(walker) != Some(Walk::Through) {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::yield_now();
        }
        fs::File::options().write(true).open(&fifo).unwrap();
        opens.join().unwrap();
        assert_eq!((threads.walk(walker), threads.walk(Pid(0))), (None, None));

        let sleeps = thread::spawn(move || {
            tell.send(gettid()).unwrap();
            thread::park();
        });
        let sleeper = Pid(told.recv().unwrap().as_raw().cast_unsigned());
        thread::sleep(Duration::from_millis(20));
        assert_eq!(threads.walk(sleeper), None);
        sleeps.thread().unpark();
        sleeps.join().unwrap();
    }
}
