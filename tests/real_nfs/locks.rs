//! Locks reach the server: between two mounts, against the bare NFS client, and against the server's own processes.
//!
//! Every lock is taken by a process of its own ([`Locker`]), because that is what owns a lock.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::FlockOperation;

use super::live::{AIRFLOW, OWNER, POD, Who};
use super::runner::Scenario;
use super::stage::{PATIENCE, Stage, wait_until, within};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "locks: fcntl, OFD and flock exclude a second mount, the bare client and the server",
        run: locks_exclude,
    },
    Scenario {
        name: "locks: a lock taken on the bare mount or at the server excludes the pods",
        run: locks_from_outside,
    },
    Scenario { name: "locks: who waits gets the lock when its holder lets go, or dies", run: waiting_ends },
    Scenario {
        name: "locks: who waits can be interrupted, and leaves no claim behind",
        run: waiting_can_be_interrupted,
    },
    Scenario { name: "locks: byte ranges that do not touch do not exclude each other", run: ranges },
];

fn locks_exclude(stage: &Stage) {
    let other = stage.mount_again(AIRFLOW);
    stage.write_as_pod("f", "content");
    for kind in Kind::ALL {
        let holder = Locker::holding(POD, kind, &stage.pod("f"));
        assert_eq!(Locker::attempt(POD, kind, &stage.pod("f")), Outcome::Busy, "{kind:?} on the same mount");
        assert_eq!(Locker::attempt(POD, kind, &other.at("f")), Outcome::Busy, "{kind:?} on another mount");
        assert_eq!(
            Locker::attempt(OWNER, kind, &stage.client("f")),
            Outcome::Busy,
            "{kind:?} on the bare mount"
        );
        // The server holds flock, too, as a lock of the whole file by fcntl.
        assert_eq!(
            Locker::attempt(Who::new(0, 0), Kind::Fcntl, &stage.server("f")),
            Outcome::Busy,
            "{kind:?} at the server"
        );
        drop(holder);
        let free = || Locker::attempt(POD, kind, &other.at("f")) == Outcome::Held;
        wait_until(PATIENCE, free).unwrap_or_else(|()| panic!("{kind:?} is not let go"));
    }
}

fn locks_from_outside(stage: &Stage) {
    stage.write_as_pod("f", "content");
    for kind in Kind::ALL {
        let holder = Locker::holding(OWNER, kind, &stage.client("f"));
        assert_eq!(Locker::attempt(POD, kind, &stage.pod("f")), Outcome::Busy, "{kind:?} on the bare mount");
        drop(holder);
    }
    let holder = Locker::holding(Who::new(0, 0), Kind::Fcntl, &stage.server("f"));
    for kind in Kind::ALL {
        assert_eq!(Locker::attempt(POD, kind, &stage.pod("f")), Outcome::Busy, "{kind:?} against the server");
    }
    drop(holder);
}

fn waiting_ends(stage: &Stage) {
    let other = stage.mount_again(AIRFLOW);
    stage.write_as_pod("f", "content");
    for kind in Kind::ALL {
        let holder = Locker::holding(POD, kind, &stage.pod("f"));
        let mut waiter = Locker::waiting(POD, kind, &other.at("f"));
        assert!(!waiter.has_it_within(Duration::from_millis(500)), "{kind:?}: it is held");
        // Killed outright, as a pod that runs out of memory is.
        drop(holder);
        assert!(waiter.has_it_within(PATIENCE), "{kind:?}: the holder is dead");
    }
}

fn waiting_can_be_interrupted(stage: &Stage) {
    stage.write_as_pod("f", "content");
    for kind in Kind::ALL {
        let holder = Locker::holding(POD, kind, &stage.pod("f"));
        let mut waiter = Locker::waiting(POD, kind, &stage.pod("f"));
        assert!(!waiter.has_it_within(Duration::from_millis(500)), "{kind:?}: it is held");
        let ended = within(PATIENCE, "SIGTERM", || waiter.end(Signal::SIGTERM));
        assert_eq!(ended, Some(Signal::SIGTERM), "{kind:?}");
        drop(holder);
        let free = || Locker::attempt(POD, kind, &stage.pod("f")) == Outcome::Held;
        wait_until(PATIENCE, free).unwrap_or_else(|()| panic!("{kind:?}: a dead waiter got the lock"));
    }
}

fn ranges(stage: &Stage) {
    stage.write_as_pod("f", "content");
    let other = stage.mount_again(AIRFLOW);
    let _first = Locker::holding(POD, Kind::Bytes(0, 10), &stage.pod("f"));
    let _second = Locker::holding(POD, Kind::Bytes(10, 10), &other.at("f"));
    assert_eq!(Locker::attempt(POD, Kind::Bytes(9, 1), &other.at("f")), Outcome::Busy);
    assert_eq!(Locker::attempt(POD, Kind::Bytes(19, 2), &stage.pod("f")), Outcome::Busy);
    assert_eq!(
        Locker::attempt(POD, Kind::Bytes(20, 0), &stage.pod("f")),
        Outcome::Held,
        "to the end of the file"
    );
}

/// Which call takes the lock; always an exclusive one.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Fcntl,
    Ofd,
    Flock,
    /// fcntl on a start and a length; 0 is to the end.
    Bytes(i64, i64),
}

impl Kind {
    /// Those that lock the whole file.
    const ALL: [Self; 3] = [Self::Fcntl, Self::Ofd, Self::Flock];

    fn words(self) -> [String; 3] {
        let (name, start, length) = match self {
            Self::Fcntl => ("fcntl", 0, 0),
            Self::Ofd => ("ofd", 0, 0),
            Self::Flock => ("flock", 0, 0),
            Self::Bytes(start, length) => ("fcntl", start, length),
        };
        [name.to_owned(), start.to_string(), length.to_string()]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Held,
    Busy,
}

/// A process that takes a lock and keeps it until it is dropped, which kills it.
struct Locker {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Locker {
    /// Has the lock when this returns.
    #[track_caller]
    fn holding(who: Who, kind: Kind, path: &Path) -> Self {
        let mut locker = Self::start("wait", who, kind, path);
        assert_eq!(locker.line(), "asking");
        assert_eq!(locker.line(), "held", "{kind:?} of {} by {who:?}", path.display());
        locker
    }

    /// Is about to wait for the lock when this returns.
    fn waiting(who: Who, kind: Kind, path: &Path) -> Self {
        let mut locker = Self::start("wait", who, kind, path);
        assert_eq!(locker.line(), "asking");
        locker
    }

    /// Asks for the lock without waiting, and gives it back.
    fn attempt(who: Who, kind: Kind, path: &Path) -> Outcome {
        let mut locker = Self::start("try", who, kind, path);
        assert_eq!(locker.line(), "asking");
        match locker.line().as_str() {
            "held" => Outcome::Held,
            "busy" => Outcome::Busy,
            other => panic!("{kind:?} of {}: {other}", path.display()),
        }
    }

    fn start(patience: &str, who: Who, kind: Kind, path: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--locker", patience, &who.uid.to_string(), &who.gid.to_string()])
            .args(kind.words())
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Whether it says within this time that it has the lock.
    fn has_it_within(&mut self, limit: Duration) -> bool {
        use std::os::fd::AsFd;
        let timeout = nix::poll::PollTimeout::try_from(limit).unwrap();
        let mut polled = [nix::poll::PollFd::new(self.lines.get_ref().as_fd(), nix::poll::PollFlags::POLLIN)];
        let ready = nix::poll::poll(&mut polled, timeout).unwrap() == 1;
        ready && self.line() == "held"
    }

    /// Sends a signal and waits; which signal ended it.
    fn end(&mut self, signal: Signal) -> Option<Signal> {
        use std::os::unix::process::ExitStatusExt;
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
        let status = self.process.wait().unwrap();
        status.signal().and_then(|number| Signal::try_from(number).ok())
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a [`Locker`] runs: `wait|try UID GID KIND START LENGTH PATH`. Keeps the lock until its input ends.
pub fn locker(arguments: &mut impl Iterator<Item = String>) -> ExitCode {
    let mut word = || arguments.next().expect("seven words");
    let wait = word() == "wait";
    let who = Who::new(word().parse().unwrap(), word().parse().unwrap());
    let (kind, start, length) = (word(), word().parse().unwrap(), word().parse().unwrap());
    who.become_them();
    let file = OpenOptions::new().read(true).write(true).open(word()).unwrap();
    println!("asking");
    match take(&file, &kind, start, length, wait) {
        Ok(()) => println!("held"),
        Err(Errno::EAGAIN | Errno::EACCES) => println!("busy"),
        Err(error) => println!("{error}"),
    }
    let _ = std::io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}

fn take(file: &File, kind: &str, start: i64, length: i64, wait: bool) -> nix::Result<()> {
    if kind == "flock" {
        let operation =
            if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        return rustix::fs::flock(file, operation).map_err(|error| Errno::from_raw(error.raw_os_error()));
    }
    let lock = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    let request = match (kind, wait) {
        ("fcntl", true) => FcntlArg::F_SETLKW(&lock),
        ("fcntl", false) => FcntlArg::F_SETLK(&lock),
        ("ofd", true) => FcntlArg::F_OFD_SETLKW(&lock),
        ("ofd", false) => FcntlArg::F_OFD_SETLK(&lock),
        _ => panic!("no kind of lock: {kind}"),
    };
    fcntl(file, request).map(drop)
}
