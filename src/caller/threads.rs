//! What the kernel says that a waiting thread is doing, for the price of one system call.
//!
//! A file in /proc belongs to the thread that it was opened for, and not to its number: once the thread is gone it holds nothing
//! (ESRCH), also where another has that number by then. So it may stay open, and each question is one pread(2). It keeps neither
//! the thread nor its namespace from ending.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock, PoisonError};

use super::Pid;
use crate::sys::capabilities::{self, Capabilities};
use crate::sys::sync::Mutex;

/// Files that stay open; some 6 KiB of the kernel's memory each.
const MAX_OPEN: usize = 64;

/// Bytes that are read of one; a stack has 64 lines at most, of 40 or so.
const LONGEST: usize = 4096;

/// To open them: they are the thread's user's alone, and a stack is shown to whoever was an administrator then.
const TO_OPEN: &[Capabilities] =
    &[Capabilities::DAC_READ_SEARCH, Capabilities::SYS_PTRACE, Capabilities::SYS_ADMIN];

/// To read them, each time: ptrace(2)'s rules. A thread of ours mostly has it, whoever it acts as.
const TO_READ: Capabilities = Capabilities::SYS_PTRACE;

/// The files that tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    /// The system call: its number and arguments, as text (proc_pid_syscall(5)).
    Call,
    /// The functions of the kernel that it is in, the innermost first (proc_pid_stack(5)).
    Stack,
}

/// The threads that were asked about last. One for each mount.
#[derive(Debug, Default)]
pub struct Threads {
    /// Last used last.
    open: Mutex<VecDeque<Open>>,
}

#[derive(Debug)]
struct Open {
    of: (Pid, Tells),
    file: Arc<File>,
}

impl Threads {
    /// What `judge` makes of the text. None where nothing can be read.
    pub(super) fn ask<T>(&self, of: Pid, tells: Tells, judge: impl FnOnce(&str) -> T) -> Option<T> {
        if of.0 == 0 {
            return None;
        }
        let mut text = [0; LONGEST];
        let length = match self.known((of, tells)).and_then(|file| read(&file, &mut text)) {
            Some(length) => length,
            None => {
                let file = self.open((of, tells))?;
                read(&file, &mut text)?
            }
        };
        std::str::from_utf8(&text[..length]).ok().map(judge)
    }

    fn known(&self, of: (Pid, Tells)) -> Option<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().rposition(|open| open.of == of)?;
        let found = open.remove(at)?;
        let file = Arc::clone(&found.file);
        open.push_back(found);
        Some(file)
    }

    fn open(&self, of: (Pid, Tells)) -> Option<Arc<File>> {
        let (Pid(number), tells) = of;
        let name = if tells == Tells::Call { "syscall" } else { "stack" };
        let open = || File::open(format!("/proc/{number}/{name}"));
        let file = Arc::new(capabilities::raised(Capabilities::all_of(TO_OPEN), open).ok()?.ok()?);
        let gone = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            // The one of a thread that had this number before.
            let before = open.iter().position(|open| open.of == of).and_then(|at| open.remove(at));
            open.push_back(Open { of, file: Arc::clone(&file) });
            before.or_else(|| if open.len() > MAX_OPEN { open.pop_front() } else { None })
        };
        drop(gone);
        Some(file)
    }
}

/// Whether this machine tells system calls by number; not every architecture does (user-mode Linux).
pub(super) fn calls_have_numbers() -> bool {
    static HAVE: OnceLock<bool> = OnceLock::new();
    *HAVE.get_or_init(|| fs::exists("/proc/thread-self/syscall").unwrap_or(false))
}

/// Of a stack's lines `[<0>] FUNCTION+OFFSET/LENGTH`, with ` [MODULE]` where it is of one, what is behind the dummy address.
pub(super) fn lines(stack: &str) -> impl Iterator<Item = &str> + Clone {
    stack.lines().filter_map(|line| line.strip_prefix("[<0>] "))
}

/// The function that such a line names.
pub(super) fn function(line: &str) -> &str {
    line.split('+').next().unwrap_or(line)
}

/// None for a thread that is gone.
fn read(file: &File, text: &mut [u8]) -> Option<usize> {
    let read = || file.read_at(text, 0);
    let length = capabilities::raised(TO_READ, read).ok()?.ok()?;
    (length > 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid(child.id());
        // Before it sleeps it has no stack to show, or another one.
        while Threads::default().ask(pid, Tells::Stack, |stack| stack.contains("nanosleep")) != Some(true) {
            std::thread::yield_now();
        }
        (child, pid)
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_thread_that_is_gone_tells_nothing_though_its_file_is_open_and_does_not_keep_it() {
        let threads = Threads::default();
        let (child, pid) = sleeper();
        assert_eq!(threads.ask(pid, Tells::Stack, str::is_empty), Some(false));
        let file = threads.known((pid, Tells::Stack)).unwrap();
        end(child);
        assert_eq!(file.read_at(&mut [0; 10], 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert!(!fs::exists(format!("/proc/{}", pid.0)).unwrap());
        assert_eq!(threads.ask(pid, Tells::Stack, str::is_empty), None);
        assert_eq!(threads.ask(Pid(0), Tells::Stack, str::is_empty), None);
    }

    #[test]
    fn a_file_of_somebody_who_had_the_number_before_is_opened_anew() {
        let threads = Threads::default();
        let ((gone, old), (child, pid)) = (sleeper(), sleeper());
        threads.ask(old, Tells::Stack, |_| ()).unwrap();
        end(gone);
        // As if the second had the first one's number.
        threads.open.lock().unwrap()[0].of.0 = pid;
        assert_eq!(threads.ask(pid, Tells::Stack, str::is_empty), Some(false));
        assert_eq!(threads.open.lock().unwrap().len(), 1);
        end(child);
    }

    #[test]
    fn no_more_stay_open_than_the_bound_and_the_last_used_do() {
        let threads = Threads::default();
        let children: Vec<_> = (0..=MAX_OPEN).map(|_| sleeper()).collect();
        for (_, pid) in &children {
            threads.ask(*pid, Tells::Stack, |_| ()).unwrap();
            threads.ask(children[0].1, Tells::Stack, |_| ()).unwrap();
        }
        assert_eq!(threads.open.lock().unwrap().len(), MAX_OPEN);
        assert!(threads.known((children[0].1, Tells::Stack)).is_some());
        assert!(threads.known((children[1].1, Tells::Stack)).is_none());
        children.into_iter().for_each(|(child, _)| end(child));
    }
}
