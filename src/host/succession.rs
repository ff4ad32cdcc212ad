//! Two hosts on one node, for a while: a new container's takes over from an old one's.
//!
//! Who has the seat, a lock beside the socket, is the host: it has the socket and the ledger. A new one asks for the seat. The
//! old one answers no more calls, ends those under way, and gets up; it stays there, to be the host again should the new one die. Then
//! the new one has mount after mount go on in its own container ([`crate::mount::take_over`]), and says that it is settled when none is
//! left in another. A mount that cannot go on there stays where it is, and is tried again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::client::Client;
use super::daemon;
use super::ledger::{Entry, Record};
use super::notice::Notice;
use super::protocol::{Code, Refusal};
use super::server::{Host, HostError};
use crate::mount::{self, MountStatus, State};

/// How long calls under way may take to end before the seat is refused for now.
const PARTING_PATIENCE: Duration = Duration::from_secs(15);
/// Between two questions for the seat, and how long the seat may take once it was promised.
const ASKING_INTERVAL: Duration = Duration::from_secs(5);
/// What the one who asked has to sit down.
const HEAD_START: Duration = Duration::from_secs(1);
/// Between two attempts at mounts that could not be taken over.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Between two looks at mounts that keep this container from ending.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// The seat, for as long as this lives.
pub(super) type Seat = Flock<File>;

/// Takes the seat, from another container's host if need be, however long that takes.
///
/// # Errors
/// Where a host of this very container has it, or the lock cannot be used.
pub(super) fn take_seat(socket: &Path) -> Result<Seat, HostError> {
    let file = open(socket).map_err(HostError::Runtime)?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(seat) => return Ok(seat),
        Err((file, _)) => file,
    };
    // Before the other one is asked, so that it cannot sit down again first.
    let seat = wait_for(file).map_err(HostError::Runtime)?;
    let host = Client::new(socket.to_owned());
    loop {
        match host.stand_up(mount::own_namespace()) {
            Ok(()) => {}
            Err(Refusal { code: Code::AlreadyExists, .. }) => {
                return Err(HostError::Taken(socket.to_owned()));
            }
            Err(refusal) => tracing::warn!(%refusal, "another mount host has this node's volumes"),
        }
        match seat.recv_timeout(ASKING_INTERVAL) {
            Ok(seat) => return seat.map_err(HostError::Runtime),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(HostError::Runtime(io::Error::other("the thread that waits for the lock ended")));
            }
        }
    }
}

/// Takes the seat again, once whoever has it is gone.
///
/// # Errors
/// Where the lock cannot be used.
pub(super) fn wait_for_seat(socket: &Path) -> Result<Seat, HostError> {
    // flock(2) wakes who waits for a lock, and does not keep it for them.
    thread::sleep(HEAD_START);
    let file = open(socket).map_err(HostError::Runtime)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| HostError::Runtime(error.into()))
}

/// The lock beside the socket.
fn open(socket: &Path) -> io::Result<File> {
    let lock = socket.with_extension("seat");
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock)
}

fn wait_for(file: File) -> io::Result<Receiver<io::Result<Seat>>> {
    let (tell, told) = channel();
    let wait = move || {
        let seat = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into());
        // Nobody waits any more: the seat is given back.
        let _ = tell.send(seat);
    };
    thread::Builder::new().name("seat".to_owned()).spawn(wait)?;
    Ok(told)
}

impl Host {
    /// Ends the calls under way, of which this is one, for a host of another container. Who has the listener is to get up then.
    ///
    /// # Errors
    /// ALREADY_EXISTS for a host of this container; UNAVAILABLE while calls do not end.
    pub(super) fn stand_up(&self, asking: Option<u64>) -> Result<(), Refusal> {
        if asking.is_none() || asking == mount::own_namespace() {
            let sentence = "this container has a mount host already: end it first";
            return Err(Refusal::new(Code::AlreadyExists, sentence));
        }
        self.chair.leaving.store(true, Ordering::Release);
        let begin = Instant::now();
        while self.calls_under_way.load(Ordering::Acquire) > 1 {
            if begin.elapsed() >= PARTING_PATIENCE {
                self.chair.leaving.store(false, Ordering::Release);
                return Err(Refusal::new(Code::Unavailable, "calls under way do not end: ask again"));
            }
            thread::sleep(POLL);
        }
        tracing::info!("another container's host takes over");
        self.chair.up.write(1).map(drop).map_err(|error| Refusal::new(Code::Internal, error.to_string()))
    }

    /// Has all mounts go on in this container, however often it takes.
    pub(super) fn settle(self: &Arc<Self>, notice: Notice) -> io::Result<()> {
        let host = Arc::clone(self);
        let settle = move || {
            loop {
                let left = host.take_over_all();
                if left == 0 {
                    notice.settled();
                    return;
                }
                notice.say(&format!("{left} mounts are still served by another container: see the log"));
                tracing::warn!(left, "mounts are still served by another container");
                thread::sleep(RETRY_INTERVAL);
            }
        };
        thread::Builder::new().name("settle".to_owned()).spawn(settle).map(drop)
    }

    /// How many are left in another container.
    fn take_over_all(&self) -> usize {
        self.ledger.entries().iter().filter(|entry| !self.take_over(entry)).count()
    }

    /// Whether there is nothing left to do.
    fn take_over(&self, entry: &Entry) -> bool {
        let target = entry.record.place();
        // Somebody shows or takes away this very volume.
        let Ok(_turn) = self.turns.enter(target.display().to_string()) else { return false };
        match whereabouts(&entry.record) {
            Whereabouts::Here | Whereabouts::Nowhere => return true,
            Whereabouts::Elsewhere => {}
        }
        match daemon::take_over(entry, target) {
            Ok(()) => {
                tracing::info!(target = %target.display(), "taken over from another container");
                true
            }
            Err(refusal) => {
                tracing::error!(target = %target.display(), %refusal, "not taken over");
                false
            }
        }
    }

    /// Returns when this container's end would end no mount.
    pub(super) fn wait_until_unmounted(&self) {
        let mut told = usize::MAX;
        loop {
            let here = |entry: &Entry| whereabouts(&entry.record) == Whereabouts::Here;
            let left = self.ledger.entries().iter().filter(|entry| here(entry)).count();
            if left == 0 {
                return;
            }
            if left != told {
                tracing::warn!(left, "mounts would end with this container: it goes on");
                told = left;
            }
            thread::sleep(WATCH_INTERVAL);
        }
    }
}

/// Where the processes of a mount are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    Here,
    Elsewhere,
    /// There are none.
    Nowhere,
}

fn whereabouts(record: &Record) -> Whereabouts {
    if matches!(record, Record::Staged(_)) {
        return Whereabouts::Nowhere;
    }
    let Ok(mounts) = mount::status(Some(record.place())) else { return Whereabouts::Nowhere };
    match mounts.first() {
        None | Some(MountStatus { state: State::Dead, .. }) => Whereabouts::Nowhere,
        Some(MountStatus { state: State::NotAnswering, pid: None, .. }) => Whereabouts::Nowhere,
        Some(status) if status.namespace.is_some() && status.namespace == mount::own_namespace() => {
            Whereabouts::Here
        }
        Some(_) => Whereabouts::Elsewhere,
    }
}

/// Where whoever has the listener hears that it is to get up.
#[derive(Debug)]
pub(super) struct Chair {
    /// Calls that come now are for the next host.
    leaving: AtomicBool,
    up: EventFd,
}

impl Chair {
    pub(super) fn new() -> Result<Self, HostError> {
        let up = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let up = up.map_err(|error| HostError::Runtime(error.into()))?;
        Ok(Self { leaving: AtomicBool::new(false), up })
    }

    /// Refuses a call that comes while this host is about to get up.
    pub(super) fn refuse_if_leaving(&self) -> Result<(), Refusal> {
        if self.leaving.load(Ordering::Acquire) {
            let sentence = "the mount host of this node is being replaced: try again";
            return Err(Refusal::new(Code::Unavailable, sentence));
        }
        Ok(())
    }

    /// Waits for a call: true; or until it is time to get up: false.
    pub(super) fn wait(&self, listener: &UnixListener) -> bool {
        loop {
            let mut polled = [
                PollFd::new(self.up.as_fd(), PollFlags::POLLIN),
                PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Err(_) => {}
                Ok(_) if polled[0].any().unwrap_or(false) => return false,
                Ok(_) => return true,
            }
        }
    }

    /// This host is seated again.
    pub(super) fn sit_down(&self) {
        let _ = self.up.read();
        self.leaving.store(false, Ordering::Release);
    }

    pub(super) fn is_left(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }
}
