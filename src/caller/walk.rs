//! What a waiting thread is doing: whether it merely walks through directories, and will be shown the attributes of none.

use libc::c_long;

use super::Pid;
use super::threads::{Tells, Threads, calls_have_numbers, function, lines};

/// System calls that take paths and tell nothing of the directories on the way: they change names, or open what the path leads
/// to.
const WALKS: &[(&str, c_long)] = &[
    ("openat", libc::SYS_openat),
    ("openat2", libc::SYS_openat2),
    ("mkdirat", libc::SYS_mkdirat),
    ("mknodat", libc::SYS_mknodat),
    ("symlinkat", libc::SYS_symlinkat),
    ("linkat", libc::SYS_linkat),
    ("unlinkat", libc::SYS_unlinkat),
    ("renameat", libc::SYS_renameat),
    ("renameat2", libc::SYS_renameat2),
];

/// Those that newer machines do not have any more.
#[cfg(target_arch = "x86_64")]
const OLD_WALKS: &[(&str, c_long)] = &[
    ("open", libc::SYS_open),
    ("creat", libc::SYS_creat),
    ("mkdir", libc::SYS_mkdir),
    ("mknod", libc::SYS_mknod),
    ("rmdir", libc::SYS_rmdir),
    ("symlink", libc::SYS_symlink),
    ("link", libc::SYS_link),
    ("unlink", libc::SYS_unlink),
    ("rename", libc::SYS_rename),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_WALKS: &[(&str, c_long)] = &[];

impl Threads {
    /// Whether the thread, which waits for the kernel, is in a call that shows nobody the attributes of the directories that it
    /// goes through. False where that cannot be told.
    pub fn walks(&self, thread: Pid) -> bool {
        if calls_have_numbers() {
            self.ask(thread, Tells::Call, is_a_walk).unwrap_or(false)
        } else {
            // The call is on the kernel's stack too.
            self.ask(thread, Tells::Stack, begins_in_a_walk).unwrap_or(false)
        }
    }
}

fn walks() -> impl Iterator<Item = &'static (&'static str, c_long)> {
    WALKS.iter().chain(OLD_WALKS)
}

/// Of a line `NUMBER SIX-ARGUMENTS STACK-POINTER PROGRAM-COUNTER`; `running` or `-1 ...` for a thread that is in no call. A 32-bit
/// program's calls have other numbers, and its stack lies below 4 GiB.
fn is_a_walk(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let number = words.next().and_then(|word| word.parse::<c_long>().ok());
    let stack = words.nth(6).and_then(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    number.is_some_and(|number| walks().any(|walk| walk.1 == number))
        && stack.is_some_and(|at| at > u64::from(u32::MAX))
}

fn begins_in_a_walk(stack: &str) -> bool {
    lines(stack)
        .filter_map(|line| function(line).strip_prefix("sys_"))
        .any(|call| walks().any(|walk| walk.0 == call))
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
        assert!(is_a_walk(&line(libc::SYS_unlinkat, "0x7ffd00001000")));
        assert!(is_a_walk(&line(libc::SYS_openat, "0xc000012000")));
        assert!(!is_a_walk(&line(libc::SYS_unlinkat, "0xffd01000")));
        assert!(!is_a_walk(&line(libc::SYS_statx, "0x7ffd00001000")));
        assert!(!is_a_walk(&line(-1, "0x7ffd00001000")) && !is_a_walk("running\n") && !is_a_walk(""));
    }

    #[test]
    fn where_there_are_no_numbers_the_stack_tells() {
        let stack = |call: &str| {
            format!("[<0>] fuse_permission+0x50/0x7f\n[<0>] {call}+0x10/0x12\n[<0>] userspace+0x451/0x570\n")
        };
        assert!(begins_in_a_walk(&stack("sys_unlinkat")) && begins_in_a_walk(&stack("sys_open")));
        assert!(!begins_in_a_walk(&stack("sys_newfstatat")) && !begins_in_a_walk(&stack("do_sys_openat2")));
        assert!(!begins_in_a_walk(""));
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
        while !threads.walks(walker) {
            assert!(begun.elapsed() < Duration::from_secs(10));
            thread::yield_now();
        }
        fs::File::options().write(true).open(&fifo).unwrap();
        opens.join().unwrap();
        assert!(!threads.walks(walker) && !threads.walks(Pid(0)));

        let sleeps = thread::spawn(move || {
            tell.send(gettid()).unwrap();
            thread::park();
        });
        let sleeper = Pid(told.recv().unwrap().as_raw().cast_unsigned());
        thread::sleep(Duration::from_millis(20));
        assert!(!threads.walks(sleeper));
        sleeps.thread().unpark();
        sleeps.join().unwrap();
    }
}
