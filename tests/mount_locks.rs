//! fcntl, OFD and flock locks: between processes of the node, against the export itself, waited for and interrupted.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use live::waits::{IN_A_REQUEST, PATIENCE, until, waits_in};
use live::{AIRFLOW, Mount, POD};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use rustix::fs::FlockOperation;

/// How soon something must happen that need not wait for anything.
const AT_ONCE: Duration = PATIENCE;

/// Does `work` as the pod, in what the kernel takes for a process of its own: POSIX locks belong to a table of files.
fn in_a_process<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    POD.run(|| {
        unshare(CloneFlags::CLONE_FILES).unwrap();
        work()
    })
}

fn open(path: impl AsRef<Path>) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Where locks are kept.
const SCOPES: [&str; 2] =
    ["\n[profile.airflow.locks]\nscope = \"server\"\n", "\n[profile.airflow.locks]\nscope = \"node\"\n"];

/// A mount with an empty file `f`.
fn mount_with_a_file(more: &str) -> Mount {
    let mount = Mount::of(&format!("{AIRFLOW}{more}"));
    POD.run(|| fs::write(mount.at("f"), "").unwrap());
    mount
}

fn range(kind: libc::c_int, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

fn posix(file: &File, kind: libc::c_int, start: i64, length: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_SETLK(&range(kind, start, length))).map(drop)
}

fn posix_waiting(file: &File, kind: libc::c_int) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_SETLKW(&range(kind, 0, 0))).map(drop)
}

fn ofd(file: &File, kind: libc::c_int, start: i64, length: i64) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind, start, length))).map(drop)
}

fn in_the_way(file: &File, kind: libc::c_int, start: i64, length: i64) -> Option<(i16, i64, i64, i32)> {
    let mut found = range(kind, start, length);
    fcntl(file, FcntlArg::F_GETLK(&mut found)).unwrap();
    let free = i32::from(found.l_type) == libc::F_UNLCK;
    (!free).then_some((found.l_type, found.l_start, found.l_len, found.l_pid))
}

fn flock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    rustix::fs::flock(file, operation).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

const WRITE: libc::c_int = libc::F_WRLCK;
const READ: libc::c_int = libc::F_RDLCK;
const UNLOCK: libc::c_int = libc::F_UNLCK;
const BUSY: Result<(), Errno> = Err(Errno::EAGAIN);

#[test]
fn byte_ranges_conflict_between_processes_exactly_where_they_overlap() {
    for scope in ["server", "node"] {
        let mount = mount_with_a_file(&format!("\n[profile.airflow.locks]\nscope = \"{scope}\"\n"));
        in_a_process(|| {
            let ours = open(mount.at("f"));
            posix(&ours, WRITE, 0, 100).unwrap();
            posix(&ours, READ, 200, 100).unwrap();
            in_a_process(|| {
                let theirs = open(mount.at("f"));
                assert_eq!(posix(&theirs, READ, 50, 10), BUSY, "{scope}");
                assert_eq!(posix(&theirs, WRITE, 99, 1), BUSY, "{scope}");
                assert_eq!(posix(&theirs, WRITE, 250, 1), BUSY, "{scope}");
                posix(&theirs, WRITE, 100, 100).unwrap();
                posix(&theirs, READ, 200, 100).unwrap();
                let (kind, start, length, pid) = in_the_way(&theirs, WRITE, 0, 50).unwrap();
                assert_eq!((i32::from(kind), start, length), (WRITE, 0, 100), "{scope}");
                assert_eq!(pid, i32::try_from(std::process::id()).unwrap(), "{scope}: the holder is named");
            });
            // A hole in the middle is free; what is left on both sides is not.
            posix(&ours, UNLOCK, 40, 10).unwrap();
            in_a_process(|| {
                let theirs = open(mount.at("f"));
                posix(&theirs, WRITE, 40, 10).unwrap();
                assert_eq!(posix(&theirs, WRITE, 39, 1), BUSY, "{scope}");
                assert_eq!(posix(&theirs, WRITE, 50, 1), BUSY, "{scope}");
                let holders = [0, 60].map(|start| in_the_way(&theirs, WRITE, start, 10).unwrap().3);
                let us = i32::try_from(std::process::id()).unwrap();
                assert_eq!(holders, [us, us], "{scope}: the holder is named still");
            });
        });
        // Whoever held them has ended.
        in_a_process(|| posix(&open(mount.at("f")), WRITE, 0, 0).unwrap());
    }
}

#[test]
fn one_process_never_conflicts_with_itself() {
    let mount = mount_with_a_file("");
    in_a_process(|| {
        let (one, other) = (open(mount.at("f")), open(mount.at("f")));
        posix(&one, WRITE, 0, 0).unwrap();
        posix(&other, WRITE, 0, 0).unwrap();
        posix(&other, READ, 10, 10).unwrap();
        posix(&one, UNLOCK, 0, 0).unwrap();
    });
}

#[test]
fn closing_any_descriptor_of_the_file_drops_the_processs_byte_ranges() {
    for scope in SCOPES {
        let mount = mount_with_a_file(scope);
        in_a_process(|| {
            let ours = open(mount.at("f"));
            posix(&ours, WRITE, 0, 10).unwrap();
            in_a_process(|| assert_eq!(posix(&open(mount.at("f")), WRITE, 0, 10), BUSY));
            drop(open(mount.at("f")));
            in_a_process(|| posix(&open(mount.at("f")), WRITE, 0, 10).unwrap());
        });
    }
}

#[test]
fn an_owners_close_drops_its_byte_ranges_though_a_child_has_the_file_open_still() {
    for scope in SCOPES {
        let mount = mount_with_a_file(scope);
        in_a_process(|| {
            let ours = open(mount.at("f"));
            posix(&ours, WRITE, 0, 10).unwrap();
            let (inherited, has_inherited) = mpsc::channel();
            let (may_end, end) = mpsc::channel::<()>();
            thread::scope(|scope| {
                scope.spawn(move || {
                    // A table of files of its own, with the parent's in it: a fork, as far as files go.
                    unshare(CloneFlags::CLONE_FILES).unwrap();
                    inherited.send(()).unwrap();
                    // Until the parent is through.
                    let _ = end.recv();
                });
                has_inherited.recv().unwrap();
                in_a_process(|| assert_eq!(posix(&open(mount.at("f")), WRITE, 0, 10), BUSY));
                drop(ours);
                in_a_process(|| posix(&open(mount.at("f")), WRITE, 0, 10).unwrap());
                drop(may_end);
            });
        });
    }
}

#[test]
fn locks_of_an_open_file_description_survive_that() {
    let mount = mount_with_a_file("");
    in_a_process(|| {
        let ours = open(mount.at("f"));
        ofd(&ours, WRITE, 0, 10).unwrap();
        drop(open(mount.at("f")));
        let other = open(mount.at("f"));
        assert_eq!(ofd(&other, WRITE, 0, 10), BUSY, "two descriptions conflict, even in one process");
        ofd(&other, WRITE, 10, 10).unwrap();
        let same = ours.try_clone().unwrap();
        ofd(&same, WRITE, 5, 5).unwrap();
        drop(same);
        assert_eq!(ofd(&other, READ, 0, 1), BUSY);
        drop(ours);
        ofd(&other, WRITE, 0, 10).unwrap();
    });
}

#[test]
fn flock_is_held_by_the_open_file() {
    for scope in ["server", "node"] {
        let mount = mount_with_a_file(&format!("\n[profile.airflow.locks]\nscope = \"{scope}\"\n"));
        in_a_process(|| {
            let (one, other) = (open(mount.at("f")), open(mount.at("f")));
            flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
            assert_eq!(flock(&other, FlockOperation::NonBlockingLockShared), BUSY, "{scope}");
            flock(&one, FlockOperation::NonBlockingLockShared).unwrap();
            flock(&other, FlockOperation::NonBlockingLockShared).unwrap();
            assert_eq!(flock(&one, FlockOperation::NonBlockingLockExclusive), BUSY, "{scope}");
            flock(&other, FlockOperation::Unlock).unwrap();
            flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
            let same = one.try_clone().unwrap();
            drop(one);
            assert_eq!(
                flock(&other, FlockOperation::NonBlockingLockShared),
                BUSY,
                "{scope}: a duplicate is open"
            );
            drop(same);
            flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
        });
    }
}

#[test]
fn with_scope_server_locks_meet_those_taken_on_the_export() {
    let mount = mount_with_a_file("");
    let outside = open(mount.stored("f"));
    ofd(&outside, WRITE, 0, 10).unwrap();
    in_a_process(|| {
        let pods = open(mount.at("f"));
        assert_eq!(posix(&pods, WRITE, 5, 1), BUSY);
        assert!(in_the_way(&pods, READ, 0, 0).is_some());
        posix(&pods, WRITE, 10, 10).unwrap();
        assert_eq!(ofd(&outside, READ, 15, 1), BUSY);
    });
    ofd(&outside, UNLOCK, 0, 0).unwrap();

    flock(&outside, FlockOperation::NonBlockingLockExclusive).unwrap();
    in_a_process(|| {
        let pods = open(mount.at("f"));
        assert_eq!(flock(&pods, FlockOperation::NonBlockingLockShared), BUSY);
        flock(&outside, FlockOperation::Unlock).unwrap();
        flock(&pods, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(flock(&outside, FlockOperation::NonBlockingLockShared), BUSY);
    });
}

#[test]
fn with_scope_node_locks_stay_on_the_node() {
    let mount = mount_with_a_file("\n[profile.airflow.locks]\nscope = \"node\"\n");
    let outside = open(mount.stored("f"));
    ofd(&outside, WRITE, 0, 0).unwrap();
    flock(&outside, FlockOperation::NonBlockingLockExclusive).unwrap();
    in_a_process(|| {
        let pods = open(mount.at("f"));
        posix(&pods, WRITE, 0, 0).unwrap();
        flock(&pods, FlockOperation::NonBlockingLockExclusive).unwrap();
    });
}

#[test]
fn a_lock_through_a_descriptor_of_the_wrong_kind_is_ebadf() {
    let mount = mount_with_a_file("");
    in_a_process(|| {
        let reader = File::open(mount.at("f")).unwrap();
        assert_eq!(posix(&reader, WRITE, 0, 0), Err(Errno::EBADF));
        posix(&reader, READ, 0, 0).unwrap();
        let writer = OpenOptions::new().write(true).open(mount.at("f")).unwrap();
        assert_eq!(posix(&writer, READ, 0, 0), Err(Errno::EBADF));
        posix(&writer, WRITE, 0, 0).unwrap();
        flock(&reader, FlockOperation::NonBlockingLockExclusive).unwrap();
    });
}

#[test]
fn who_waits_is_given_the_lock_when_the_holder_lets_go() {
    for taken_on_the_export in [false, true] {
        let mount = mount_with_a_file("");
        let held =
            if taken_on_the_export { open(mount.stored("f")) } else { POD.run(|| open(mount.at("f"))) };
        ofd(&held, WRITE, 0, 0).unwrap();
        let mut waiting = Waiter::start(&mount.at("f"), "posix");
        assert!(waiting.ended_within(Duration::from_millis(300)).is_none(), "it waits");
        ofd(&held, UNLOCK, 0, 0).unwrap();
        assert!(waiting.ended_within(AT_ONCE).expect("it was woken").success());
    }
}

#[test]
fn many_who_wait_do_not_keep_the_mount_from_serving() {
    // More than any number of worker threads that a mount would have on this machine.
    const WAITING: usize = 40;
    let mount = mount_with_a_file("");
    let held = open(mount.stored("f"));
    ofd(&held, WRITE, 0, 0).unwrap();
    let mut waiting: Vec<_> = (0..WAITING).map(|_| Waiter::start(&mount.at("f"), "posix")).collect();
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    POD.run(|| {
        fs::write(mount.at("g"), "served").unwrap();
        assert_eq!(fs::read_to_string(mount.at("g")).unwrap(), "served");
    });
    assert!(begun.elapsed() < AT_ONCE);
    ofd(&held, UNLOCK, 0, 0).unwrap();
    for waiter in &mut waiting {
        assert!(waiter.ended_within(AT_ONCE).expect("each has its turn").success());
    }
}

#[test]
fn a_signal_ends_the_wait_with_eintr() {
    for kind in ["posix", "flock"] {
        let mount = mount_with_a_file("");
        let held = open(mount.stored("f"));
        ofd(&held, WRITE, 0, 0).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let mut waiting = Waiter::start(&mount.at("f"), kind);
        until("it waits", || waits_in(waiting.child.id(), IN_A_REQUEST));
        assert!(waiting.ended_within(Duration::from_millis(200)).is_none(), "{kind}: it waits");
        waiting.interrupt();
        let ended =
            waiting.ended_within(AT_ONCE).unwrap_or_else(|| panic!("{kind}: still waiting after a signal"));
        assert_eq!(ended.code(), Some(INTERRUPTED), "{kind}");
    }
}

#[test]
fn sigkill_ends_the_wait_and_leaves_no_lock_behind() {
    for kind in ["posix", "ofd", "flock"] {
        let mount = mount_with_a_file("");
        let held = open(mount.stored("f"));
        ofd(&held, WRITE, 0, 0).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        let mut waiting = Waiter::start(&mount.at("f"), kind);
        assert!(waiting.ended_within(Duration::from_millis(200)).is_none(), "{kind}: it waits");
        kill(waiting.pid(), Signal::SIGKILL).unwrap();
        assert!(waiting.ended_within(AT_ONCE).is_some(), "{kind}: it cannot be killed");
        // Not by a close: another test's thread with a table of files of its own has this one open as well.
        ofd(&held, UNLOCK, 0, 0).unwrap();
        flock(&held, FlockOperation::Unlock).unwrap();
        let begun = Instant::now();
        in_a_process(|| {
            let file = open(mount.at("f"));
            let both = || {
                posix(&file, WRITE, 0, 0)
                    .and_then(|()| flock(&file, FlockOperation::NonBlockingLockExclusive))
            };
            while let Err(error) = both() {
                assert!(begun.elapsed() < AT_ONCE, "{kind}: the dead process still holds a lock: {error}");
                thread::sleep(Duration::from_millis(10));
            }
        });
    }
}

#[test]
fn a_killed_holder_lets_go() {
    let mount = mount_with_a_file("");
    for kind in ["posix", "ofd", "flock"] {
        let mut holder = Waiter::holding(&mount.at("f"), kind);
        assert!(holder.ended_within(Duration::from_millis(50)).is_none());
        let mut waiting = Waiter::start(&mount.at("f"), kind);
        assert!(waiting.ended_within(Duration::from_millis(200)).is_none(), "{kind}: it waits");
        kill(holder.pid(), Signal::SIGKILL).unwrap();
        let ended = waiting
            .ended_within(AT_ONCE)
            .unwrap_or_else(|| panic!("{kind}: the dead process holds its lock"));
        assert!(ended.success(), "{kind}");
    }
}

#[test]
fn a_counter_under_a_lock_loses_no_count() {
    const EACH: u32 = 150;
    const COUNTING: u32 = 4;
    let mount = mount_with_a_file("");
    for flocked in [false, true] {
        fs::write(mount.stored("f"), 0_u32.to_le_bytes()).unwrap();
        thread::scope(|scope| {
            for _ in 0..COUNTING {
                scope.spawn(|| {
                    in_a_process(|| {
                        let file = open(mount.at("f"));
                        for _ in 0..EACH {
                            if flocked {
                                flock(&file, FlockOperation::LockExclusive).unwrap();
                            } else {
                                posix_waiting(&file, WRITE).unwrap();
                            }
                            let mut count = [0; 4];
                            file.read_exact_at(&mut count, 0).unwrap();
                            file.write_all_at(&(u32::from_le_bytes(count) + 1).to_le_bytes(), 0).unwrap();
                            if flocked {
                                flock(&file, FlockOperation::Unlock).unwrap();
                            } else {
                                posix(&file, UNLOCK, 0, 0).unwrap();
                            }
                        }
                    });
                });
            }
        });
        let count = fs::read(mount.stored("f")).unwrap();
        assert_eq!(count, (EACH * COUNTING).to_le_bytes(), "flock: {flocked}");
    }
}

/// Exit status of a waiter whose wait ended with EINTR.
const INTERRUPTED: i32 = 44;

/// A real process, as the pod, that waits for a lock on the whole of a file.
struct Waiter {
    child: Child,
    /// The thread of it that waits.
    thread: i32,
}

impl Waiter {
    /// Waits for the lock, and ends when it has it. Returns when it is about to wait.
    fn start(file: &Path, kind: &str) -> Self {
        Self::run(file, kind, "and end", "waiting")
    }

    /// Takes the lock and keeps it. Returns when it has it.
    fn holding(file: &Path, kind: &str) -> Self {
        Self::run(file, kind, "and keep it", "held")
    }

    fn run(file: &Path, kind: &str, then: &str, until: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "a_process_that_waits_for_a_lock", "--nocapture"])
            .env("PERMFS_LOCK_FILE", file)
            .env("PERMFS_LOCK_KIND", kind)
            .env("PERMFS_LOCK_THEN", then)
            .uid(50000)
            .gid(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        let waiting = lines.find_map(|line| line.strip_prefix("waiting ")?.parse().ok());
        let thread = waiting.expect("the child gets as far as waiting");
        assert!(until == "waiting" || lines.any(|line| line == until), "the child ended early");
        Self { child, thread }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// SIGUSR1 to the very thread that waits: one to the process would go to its main thread.
    #[allow(unsafe_code)]
    fn interrupt(&self) {
        // SAFETY: tgkill(2) takes three numbers.
        let sent =
            unsafe { libc::syscall(libc::SYS_tgkill, self.pid().as_raw(), self.thread, libc::SIGUSR1) };
        assert_eq!(sent, 0);
    }

    fn ended_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || begun.elapsed() > patience {
                return ended;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the other process of the tests above, which run it"]
fn a_process_that_waits_for_a_lock() {
    let variable =
        |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the test that runs this"));
    interruptible();
    let file = open(variable("PERMFS_LOCK_FILE"));
    println!("waiting {}", rustix::thread::gettid().as_raw_nonzero());
    let outcome = match &*variable("PERMFS_LOCK_KIND") {
        "posix" => posix_waiting(&file, WRITE),
        "ofd" => fcntl(&file, FcntlArg::F_OFD_SETLKW(&range(WRITE, 0, 0))).map(drop),
        "flock" => flock(&file, FlockOperation::LockExclusive),
        other => panic!("{other}"),
    };
    if outcome == Err(Errno::EINTR) {
        std::process::exit(INTERRUPTED);
    }
    outcome.unwrap();
    println!("held");
    if variable("PERMFS_LOCK_THEN") == "and keep it" {
        thread::sleep(Duration::from_secs(60));
    }
}

/// Has SIGUSR1 interrupt system calls: a handler that does nothing, without SA_RESTART.
#[allow(unsafe_code)]
fn interruptible() {
    extern "C" fn nothing(_: i32) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}
