//! Locks reach the server: between two mounts, against the bare NFS client, and against the server's own processes.
//!
//! Every lock is taken by a process of its own ([`Locker`]), because that is what owns a lock.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::FlockOperation;

use super::live::mount::{permfs, runtime_dir};
use super::live::{AIRFLOW, OWNER, POD, Who};
use super::runner::Scenario;
use super::served::Served;
use super::stage::{Outage, PATIENCE, Stage, WHOSE_GROUPS, wait_until, within};

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
    Scenario {
        name: "locks: what a killed worker has asked the absent server for does not undo its successor's",
        run: asked_for_twice,
    },
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
            Locker::attempt(SERVER, Kind::Fcntl, &stage.server("f")),
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
    let holder = Locker::holding(SERVER, Kind::Fcntl, &stage.server("f"));
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

/// A worker is killed while it waits for the server to give it a lock, and its successor asks for the same. When the server is back it
/// gives it to both, and the client takes back what it gave to the dead one: that is the successor's (`fs/lock_replay.rs`).
fn asked_for_twice(stage: &Stage) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    let served = Served { target: stage.pod(""), permfs };
    let _tells = served.tells_its_log(&runtime_dir());
    let name = |kind: Kind| format!("{kind:?}");
    Kind::ALL.iter().for_each(|kind| stage.write_as_pod(name(*kind), "content"));
    let mut asking = Kind::ALL.map(|kind| Locker::that_had_it_before(POD, kind, &stage.pod(name(kind))));
    let outage = Outage::cut();
    asking.iter_mut().for_each(Locker::ask);
    sleep(ASKED);
    served.kill_worker();
    sleep(ASKED);
    drop(outage);
    have_it_alone(stage, asking);

    // They wait because of somebody at the server, who lets go while nobody hears of it.
    let holders = Kind::ALL.map(|kind| Locker::holding(SERVER, Kind::Fcntl, &stage.server(name(kind))));
    let waiting = Kind::ALL.map(|kind| Locker::waiting(POD, kind, &stage.pod(name(kind))));
    sleep(ASKED);
    let outage = Outage::cut();
    sleep(ASKED);
    drop(holders);
    served.kill_worker();
    sleep(ASKED);
    drop(outage);
    have_it_alone(stage, waiting);
}

/// Whoever asked for the lock of the file of its kind has it, and nobody else until it lets go.
#[track_caller]
fn have_it_alone(stage: &Stage, mut lockers: [Locker; 3]) {
    for (locker, kind) in lockers.iter_mut().zip(Kind::ALL) {
        assert!(locker.has_it_within(PATIENCE), "{kind:?}: nobody else wants it");
    }
    let name = |kind: Kind| format!("{kind:?}");
    for kind in Kind::ALL {
        let at_server = Locker::attempt(SERVER, Kind::Fcntl, &stage.server(name(kind)));
        assert_eq!(at_server, Outcome::Busy, "{kind:?} at the server");
        let beside = Locker::attempt(POD, kind, &stage.pod(name(kind)));
        assert_eq!(beside, Outcome::Busy, "{kind:?} on the same mount");
    }
    drop(lockers);
    for kind in Kind::ALL {
        let free = || Locker::attempt(POD, kind, &stage.pod(name(kind))) == Outcome::Held;
        wait_until(PATIENCE, free).unwrap_or_else(|()| panic!("{kind:?} is not let go"));
    }
}

/// Within this a request has come to where it waits for the server.
const ASKED: Duration = Duration::from_secs(1);
/// A process of the server's own.
const SERVER: Who = Who::new(0, 0);

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

    /// Has had the lock, let it go, and keeps the file open.
    fn that_had_it_before(who: Who, kind: Kind, path: &Path) -> Self {
        let mut locker = Self::start("again", who, kind, path);
        assert_eq!(locker.line(), "let go");
        locker
    }

    /// It is to ask for the lock once more, without waiting.
    fn ask(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(self.line(), "asking");
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

/// What a [`Locker`] runs: `wait|try|again UID GID KIND START LENGTH PATH`. Keeps the lock until its input ends.
pub fn locker(arguments: &mut impl Iterator<Item = String>) -> ExitCode {
    let mut word = || arguments.next().expect("seven words");
    let patience = word();
    let who = Who::new(word().parse().unwrap(), word().parse().unwrap());
    let (kind, start, length) = (word(), word().parse().unwrap(), word().parse().unwrap());
    who.become_them();
    let file = OpenOptions::new().read(true).write(true).open(word()).unwrap();
    let set = |operation| set(&file, &kind, start, length, operation);
    if patience == "again" {
        set(FlockOperation::NonBlockingLockExclusive).and_then(|()| set(FlockOperation::Unlock)).unwrap();
        println!("let go");
        std::io::stdin().read_exact(&mut [0]).unwrap();
    }
    println!("asking");
    let wait = patience == "wait";
    match set(if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive }) {
        Ok(()) => println!("held"),
        Err(Errno::EAGAIN | Errno::EACCES) => println!("busy"),
        Err(error) => println!("{error}"),
    }
    let _ = std::io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}

fn set(file: &File, kind: &str, start: i64, length: i64, operation: FlockOperation) -> nix::Result<()> {
    if kind == "flock" {
        return rustix::fs::flock(file, operation).map_err(|error| Errno::from_raw(error.raw_os_error()));
    }
    let l_type = if operation == FlockOperation::Unlock { libc::F_UNLCK } else { libc::F_WRLCK };
    let lock = libc::flock {
        l_type: i16::try_from(l_type).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    let request = match (kind, operation == FlockOperation::LockExclusive) {
        ("fcntl", true) => FcntlArg::F_SETLKW(&lock),
        ("fcntl", false) => FcntlArg::F_SETLK(&lock),
        ("ofd", true) => FcntlArg::F_OFD_SETLKW(&lock),
        ("ofd", false) => FcntlArg::F_OFD_SETLK(&lock),
        _ => panic!("no kind of lock: {kind}"),
    };
    fcntl(file, request).map(drop)
}
