//! What a waiting thread is doing: whether it merely walks through directories, and will be shown the attributes of none.

use libc::c_long;

use super::Pid;
use super::threads::{Tells, Threads, calls_have_numbers, function, lines};

/// What a thread is about that is shown the attributes of no directory that it goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// To open or to make what its path leads to; it need not change anything.
    Through,
    /// To make the name at its path's end, which must not be there.
    ToMake,
    /// To remove or to replace that name.
    ToChange,
}

/// System calls that take paths and tell nothing of the directories on the way.
const WALKS: &[(&str, c_long, Walk)] = &[
    ("openat", libc::SYS_openat, Walk::Through),
    ("openat2", libc::SYS_openat2, Walk::Through),
    ("mkdirat", libc::SYS_mkdirat, Walk::ToMake),
    ("mknodat", libc::SYS_mknodat, Walk::Through),
    ("symlinkat", libc::SYS_symlinkat, Walk::Through),
    ("linkat", libc::SYS_linkat, Walk::Through),
    ("unlinkat", libc::SYS_unlinkat, Walk::ToChange),
    ("renameat", libc::SYS_renameat, Walk::ToChange),
    // With RENAME_NOREPLACE it ends at a name that it finds.
    ("renameat2", libc::SYS_renameat2, Walk::Through),
];

/// Those that newer machines do not have any more.
#[cfg(target_arch = "x86_64")]
const OLD_WALKS: &[(&str, c_long, Walk)] = &[
    ("open", libc::SYS_open, Walk::Through),
    ("creat", libc::SYS_creat, Walk::Through),
    ("mkdir", libc::SYS_mkdir, Walk::ToMake),
    ("mknod", libc::SYS_mknod, Walk::Through),
    ("rmdir", libc::SYS_rmdir, Walk::ToChange),
    ("symlink", libc::SYS_symlink, Walk::Through),
    ("link", libc::SYS_link, Walk::Through),
    ("unlink", libc::SYS_unlink, Walk::ToChange),
    ("rename", libc::SYS_rename, Walk::ToChange),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_WALKS: &[(&str, c_long, Walk)] = &[];

impl Threads {
    /// What the thread, which waits for the kernel, is about, where it is in a call that shows nobody the attributes of the
    /// directories that it goes through. None where it is not, or that cannot be told.
    pub fn walk(&self, thread: Pid) -> Option<Walk> {
        if calls_have_numbers() {
            self.ask(thread, Tells::Call, walk_of_call)?
        } else {
            // The call is on the kernel's stack too.
            self.ask(thread, Tells::Stack, walk_of_stack)?
        }
    }
}

fn walks() -> impl Iterator<Item = &'static (&'static str, c_long, Walk)> {
    WALKS.iter().chain(OLD_WALKS)
}

/// Of a line `NUMBER SIX-ARGUMENTS STACK-POINTER PROGRAM-COUNTER`; `running` or `-1 ...` for a thread that is in no call. A 32-bit
/// program's calls have other numbers, and its stack lies below 4 GiB.
fn walk_of_call(line: &str) -> Option<Walk> {
    let mut words = line.split_ascii_whitespace();
    let number: c_long = words.next()?.parse().ok()?;
    let stack = u64::from_str_radix(words.nth(6)?.strip_prefix("0x")?, 16).ok()?;
    let walk = walks().find(|walk| walk.1 == number)?.2;
    (stack > u64::from(u32::MAX)).then_some(walk)
}

fn walk_of_stack(stack: &str) -> Option<Walk> {
    let mut calls = lines(stack).filter_map(|line| function(line).strip_prefix("sys_"));
    calls.find_map(|call| walks().find(|walk| walk.0 == call)).map(|walk| walk.2)
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
        assert_eq!(walk_of_call(&line(libc::SYS_unlinkat, "0x7ffd00001000")), Some(Walk::ToChange));
        assert_eq!(walk_of_call(&line(libc::SYS_mkdirat, "0x7ffd00001000")), Some(Walk::ToMake));
        assert_eq!(walk_of_call(&line(libc::SYS_openat, "0xc000012000")), Some(Walk::Through));
        assert_eq!(walk_of_call(&line(libc::SYS_unlinkat, "0xffd01000")), None);
        assert_eq!(walk_of_call(&line(libc::SYS_statx, "0x7ffd00001000")), None);
        for none in [&line(-1, "0x7ffd00001000"), "running\n", ""] {
            assert_eq!(walk_of_call(none), None);
        }
    }

    #[test]
    fn where_there_are_no_numbers_the_stack_tells() {
        let stack = |call: &str| {
            format!("[<0>] fuse_permission+0x50/0x7f\n[<0>] {call}+0x10/0x12\n[<0>] userspace+0x451/0x570\n")
        };
        assert_eq!(walk_of_stack(&stack("sys_unlinkat")), Some(Walk::ToChange));
        assert_eq!(walk_of_stack(&stack("sys_open")), Some(Walk::Through));
        for none in [&stack("sys_newfstatat"), &stack("do_sys_openat2"), ""] {
            assert_eq!(walk_of_stack(none), None);
        }
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
