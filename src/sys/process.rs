//! Other processes: fork(2), for the one moment at which it is sound, and a look at another's open files.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::{ForkResult, Pid};

use super::Errno;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The caller, with its new child.
    Parent {
        /// The child.
        child: Pid,
    },
    /// The new process.
    Child,
}

/// Splits the process in two.
///
/// # Errors
/// EBUSY where the process has more than one thread: a child could then only call what is async-signal-safe; EAGAIN,
/// ENOMEM as fork(2) has them.
pub fn fork() -> Result<Fork, Errno> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: this is the only thread, so no lock of the allocator, of std or of ours can be held by another one that
    // does not exist in the child; the child may go on as any process (fork(2), signal-safety(7)).
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent { child }),
        ForkResult::Child => Ok(Fork::Child),
    }
}

/// Splits the process in two that share one table of descriptors (CLONE_FILES, clone(2)): what either opens the other has,
/// what either closes is closed, and when one dies everything stays open.
///
/// # Errors
/// As [`fork`].
pub fn fork_sharing_descriptors() -> Result<Fork, Errno> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: as in `fork`. glibc's own fork(2) also tells the library the child's thread id, which only robust and
    // error-checking mutexes look at, and there are none here. The child gets a copy of this stack: no other is named.
    let answer = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
    match i32::try_from(super::check(answer)?).map_err(|_| Errno::EINVAL)? {
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent { child: Pid::from_raw(child) }),
    }
}

/// Refers to a process for as long as this is open, whatever becomes of its number; readable (poll(2)) once all of its
/// threads have ended (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// ESRCH where there is no such process.
pub fn pidfd(process: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    new_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })
}

/// The file that another process has open as `fd`: the same open file, not another one (pidfd_getfd(2), Linux 5.6).
///
/// # Errors
/// ESRCH where there is no such process, EBADF where it has no such descriptor, EPERM where it may not be looked at.
pub fn open_file_of(process: u32, fd: RawFd) -> Result<OwnedFd, Errno> {
    let pidfd = pidfd(process)?;
    // SAFETY: pidfd_getfd(2) takes three integers and touches no memory of ours.
    new_fd(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// Whether a thread is on its way out by a signal that cannot be handled, or is not: killed, or ended by a signal and now
/// closing its files. False where nothing is known of it, as for a thread of another pid namespace (0).
#[must_use]
pub fn is_dying(thread: u32) -> bool {
    let read = |file| fs::read(format!("/proc/{thread}/{file}"));
    if thread == 0 {
        return false;
    }
    let Ok(status) = read("status") else { return false };
    // Reading `stat` waits while the process is in the middle of an execve(2), in which it may be closing a file of ours
    // (exec_update_lock, fs/proc/array.c). What has no memory any more does not execute anything.
    has_sigkill(&status)
        || !has_memory(&status) && read("stat").is_ok_and(|stat| ends_by_signal(&stat) == Some(true))
}

/// Whether a thread is in the pid namespace that /proc here shows, and in none below it, as a container's are. False where nothing is
/// known of it.
#[must_use]
pub fn has_our_pid_namespace(thread: u32) -> bool {
    thread != 0 && fs::read(format!("/proc/{thread}/status")).is_ok_and(|status| pid_namespaces(&status) == 1)
}

/// Of proc_pid_status(5): in how many of them the thread has a number (Linux 4.1).
fn pid_namespaces(status: &[u8]) -> usize {
    let numbers = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"NSpid:"));
    let is_digit = |text: &&[u8]| !text.is_empty();
    numbers.map_or(0, |numbers| numbers.split(|byte| !byte.is_ascii_digit()).filter(is_digit).count())
}

/// Of proc_pid_status(5): any signal that ends a process without a core is made a SIGKILL of each of its threads.
fn has_sigkill(status: &[u8]) -> bool {
    let pending = |line: &[u8]| {
        let mask = line.strip_prefix(b"SigPnd:").or_else(|| line.strip_prefix(b"ShdPnd:"))?;
        u64::from_str_radix(std::str::from_utf8(mask).ok()?.trim(), 16).ok()
    };
    status.split(|&byte| byte == b'\n').filter_map(pending).any(|mask| mask >> (libc::SIGKILL - 1) & 1 == 1)
}

/// Of proc_pid_status(5): what ends gives up its memory before it closes its files (do_exit, kernel/exit.c).
fn has_memory(status: &[u8]) -> bool {
    status.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"VmSize:"))
}

/// Of proc_pid_stat(5): PF_EXITING in `flags` (field 9), and a signal in `exit_code` (field 52).
fn ends_by_signal(stat: &[u8]) -> Option<bool> {
    const PF_EXITING: u64 = 4;
    // After the name, which may hold anything, a bracket included.
    let name = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = std::str::from_utf8(stat.get(name + 1..)?).ok()?;
    let field = |number: usize| fields.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
    Some(field(9)? & PF_EXITING != 0 && field(52)? & 0x7f != 0)
}

/// The new descriptor that a system call has answered with.
fn new_fd(answer: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(super::check(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test harness runs tests in threads of their own.
        assert_eq!(fork(), Err(Errno::EBUSY));
    }

    #[test]
    fn a_thread_is_dying_where_it_was_killed_or_ends_by_a_signal() {
        assert!(has_sigkill(b"Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(has_sigkill(b"SigPnd:\t0000000000000000\nShdPnd:\t0000000000004100\n"));
        assert!(!has_sigkill(b"SigPnd:\t0000000000004000\nSigCgt:\t0000000000000100\n"));
        let stat = |flags: &str, code: &str| {
            let between = ["0"; 42].join(" ");
            format!("7 (a ) b) D 1 1 1 0 -1 {flags} {between} {code}\n")
        };
        assert_eq!(ends_by_signal(stat("4194308", "9").as_bytes()), Some(true));
        assert_eq!(ends_by_signal(stat("4194308", "256").as_bytes()), Some(false), "exit(1)");
        assert_eq!(ends_by_signal(stat("4194304", "9").as_bytes()), Some(false));
        assert_eq!(ends_by_signal(b"7 (x"), None);
        assert!(!is_dying(std::process::id()) && !is_dying(0));
        assert!(has_memory(&fs::read("/proc/self/status").unwrap()) && !has_memory(b"Name:\tVmSize:\n"));
    }

    #[test]
    fn a_thread_of_a_container_has_a_number_in_each_pid_namespace() {
        assert_eq!(pid_namespaces(b"Name:\tNSpid\nNStgid:\t7\nNSpid:\t4711\t12\nNSpgid:\t7\n"), 2);
        assert_eq!(pid_namespaces(b"Name:\tx\nPid:\t12\n"), 0);
        assert!(has_our_pid_namespace(std::process::id()) && !has_our_pid_namespace(0));
    }

    #[test]
    fn an_open_file_of_a_process_is_the_same_open_file() {
        use std::io::{Read, Seek, Write};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        let mut same = fs::File::from(open_file_of(std::process::id(), file.as_raw_fd()).unwrap());
        file.rewind().unwrap();
        let mut text = String::new();
        same.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), file.stream_position().unwrap()), ("abc", 3));
        assert_eq!(open_file_of(std::process::id(), 1 << 20).unwrap_err(), Errno::EBADF);
    }
}
