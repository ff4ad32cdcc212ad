//! Threads as /proc tells of them (proc_pid_stat(5)), also those of a process that was killed and cannot end yet.

use std::fs;
use std::path::Path;

/// A thread, told apart from whoever has its number later. Fits in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadMark {
    process: u32,
    thread: u32,
    /// When it began, in clock ticks since boot: the lowest bits of that.
    started: u32,
}

/// Bits of a process's or a thread's number (PID_MAX_LIMIT, include/linux/threads.h), and what they leave of a word.
const NUMBER_BITS: u32 = 22;
const STARTED_BITS: u32 = u64::BITS - 2 * NUMBER_BITS;

/// What proc_pid_stat(5) says of a thread.
struct Stat {
    number: u32,
    state: u8,
    started: u32,
}

impl ThreadMark {
    /// The calling thread. None without /proc.
    #[must_use]
    pub fn of_this_thread() -> Option<Self> {
        let stat = Stat::read(Path::new("/proc/thread-self/stat"))?;
        Some(Self { process: std::process::id(), thread: stat.number, started: stat.started })
    }

    /// Whether the thread has not ended.
    #[must_use]
    pub fn is_alive(self) -> bool {
        // Below the process, so that nothing is read of a process that merely has this thread's number now: that read waits
        // while it is in the middle of an execve(2) (exec_update_lock, fs/proc/array.c).
        let path = format!("/proc/{}/task/{}/stat", self.process, self.thread);
        Stat::read(Path::new(&path)).is_some_and(|stat| stat.is_alive() && stat.started == self.started)
    }

    /// As a word, which is not 0.
    #[must_use]
    pub fn to_word(self) -> u64 {
        let parts = u64::from(self.process) << NUMBER_BITS | u64::from(self.thread);
        parts << STARTED_BITS | u64::from(self.started)
    }

    /// The one that [`Self::to_word`] made the word of; none for 0.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        let part = |shift: u32, bits: u32| u32::try_from(word >> shift & ((1 << bits) - 1)).ok();
        (word != 0).then_some(())?;
        Some(Self {
            process: part(NUMBER_BITS + STARTED_BITS, NUMBER_BITS)?,
            thread: part(STARTED_BITS, NUMBER_BITS)?,
            started: part(0, STARTED_BITS)?,
        })
    }
}

impl Stat {
    fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read(path).ok()?)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The name, in parentheses, may hold anything, a bracket included.
        let name_begins = stat.iter().position(|&byte| byte == b'(')?;
        let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
        let number = std::str::from_utf8(&stat[..name_begins]).ok()?.trim().parse().ok()?;
        let fields = std::str::from_utf8(stat.get(name_ends + 1..)?).ok()?;
        let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3);
        let started = field(22)?.parse::<u64>().ok()? & ((1 << STARTED_BITS) - 1);
        Some(Self { number, state: *field(3)?.as_bytes().first()?, started: u32::try_from(started).ok()? })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Whether the first thread of a process has ended. Of a process that begins no thread's end by itself this means that the
/// whole was killed or has exited: no other thread of it will execute another instruction of the program.
#[must_use]
pub fn has_lost_its_first_thread(process: u32) -> bool {
    Stat::read(Path::new(&format!("/proc/{process}/stat"))).is_none_or(|stat| !stat.is_alive())
}

/// How many threads of a dead process are left, where each of them is in the middle of a system call, in a wait that
/// only that call's end ends. None where there is one of which this cannot be said, or nothing can be seen.
#[must_use]
pub fn threads_that_cannot_end(process: u32) -> Option<usize> {
    let mut left = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        match Stat::read(&task.ok()?.path().join("stat")) {
            Some(stat) if stat.state == b'D' => left += 1,
            Some(stat) if stat.is_alive() => return None,
            // It has ended.
            _ => {}
        }
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_alive_until_it_has_ended_and_nobody_else_is_taken_for_it() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(ThreadMark::of_this_thread().unwrap()).unwrap();
            let _ = wait.recv();
        });
        let mark = told.recv().unwrap();
        assert!(mark.is_alive());
        assert_eq!(ThreadMark::from_word(mark.to_word()), Some(mark));
        assert!(!ThreadMark { started: mark.started ^ 1, ..mark }.is_alive(), "another with its number");
        drop(end);
        thread.join().unwrap();
        // join(3) returns a moment before the kernel is through.
        while mark.is_alive() {
            std::thread::yield_now();
        }
        assert_eq!(ThreadMark::from_word(0), None);
    }

    #[test]
    fn numbers_of_any_size_fit_in_a_word() {
        let most = ThreadMark { process: (1 << 22) - 1, thread: (1 << 22) - 1, started: (1 << 20) - 1 };
        assert_eq!(most.to_word(), u64::MAX);
        assert_eq!(ThreadMark::from_word(u64::MAX), Some(most));
    }

    #[test]
    fn a_name_cannot_forge_a_state() {
        let rest = ["0"; 18].join(" ");
        let stat = Stat::parse(format!("7 (a ) Z (b) D {rest} 1048577 0\n").as_bytes()).unwrap();
        assert_eq!((stat.number, stat.state, stat.started), (7, b'D', 1));
        assert!(Stat::parse(b"7 (x").is_none());
    }

    #[test]
    fn a_process_that_runs_has_its_first_thread_and_threads_that_can_end() {
        let this = std::process::id();
        assert!(!has_lost_its_first_thread(this) && has_lost_its_first_thread(0));
        assert_eq!(threads_that_cannot_end(this), None);
    }
}
