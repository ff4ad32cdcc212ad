//! The keeper: holds what must outlive a worker, starts a worker, sees it die, and starts the next one.
//!
//! Keeper and worker share one table of descriptors (CLONE_FILES), and the memory of [`crate::state`]. So whatever a worker
//! opens is kept without a word, at no cost; what it knows stands in the memory; and when it dies, its successor, made from the
//! keeper as it was before any thread existed, finds both. The kernel's requests wait meanwhile. A worker that was killed and cannot
//! end ([`worker`]) is not waited for.
//!
//! The keeper has one thread, opens nothing while a worker begins, and touches no file system but the runtime directory.
//! A second process like it, the [`reserve`], waits for the keeper's own death, and takes its place.
//!
//! Not here: how a worker serves (`mount::worker`), what stands in the memory (`state/`).

mod process;
mod reserve;
mod takeover;
mod worker;

pub use takeover::put_in_order;

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::state::State;
use crate::state::layout::{HeaderWord, MAX_SLOTS};
use crate::sys::thread::threads_that_cannot_end;
use crate::sys::{Errno, descriptors, fault};

use process::Child;
use worker::{GLANCE, Life, Worker};

/// Workers that may die in a row before they have begun; then the mount is given up.
const MAX_FALSE_STARTS: u32 = 10;
/// The pause before a worker that follows one which had only just begun.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a worker has to have served for its death to count as the first.
const SETTLED: Duration = Duration::from_secs(1);

/// Workers that were killed and cannot end, and threads of theirs, beside which another is started; with more the mount waits
/// until there are fewer. Each thread keeps a slot: 128 are left to serve with.
const MAX_STUCK: usize = 8;
const MAX_STUCK_THREADS: usize = MAX_SLOTS - 128;

/// Milliseconds until a process that could not be started is tried again.
const RETRY: u16 = 200;

/// What a worker does, and what others must hear of.
pub trait Charge {
    /// Serves, in a process of its own, from the beginning or from what stands in the state. `begun` is to be called once
    /// requests are answered. Returns when the mount is over: true; or cannot be served: false.
    fn work(&self, begun: &mut dyn FnMut()) -> bool;
    /// Another process serves, or keeps, from now on.
    fn changed(&self);
    /// Called in the keeper now and then, at least once a second, while no worker begins.
    fn meanwhile(&self);
    /// Whether a signal ends the mount; if not, this has done what it asks for.
    fn ends_at(&self, signal: Signal, worker: Option<Pid>) -> bool;
}

/// How keeping ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// The session is over: unmounted.
    Over,
    /// A signal asks for the end.
    Signal(Signal),
    /// No worker can begin.
    GivenUp,
    /// The worker has stopped for another program.
    Upgrade,
}

/// A keeper on duty.
pub struct Keeper<'a> {
    charge: &'a dyn Charge,
    state: Arc<State>,
    /// What this process has open for itself; a worker lets it be.
    kept: Vec<RawFd>,
    signals: SignalFd,
    /// Tells a worker that it may begin, and the keeper that one has.
    go: EventFd,
    begun: EventFd,
    worker: Option<Worker>,
    reserve: Option<Child>,
    /// Workers before this one that were killed and have not ended.
    stuck: Vec<Child>,
}

impl<'a> Keeper<'a> {
    /// Starts the first worker, and returns when it has begun. The signals in `ending` must be blocked;
    /// `own` are the descriptors that this process needs itself.
    ///
    /// # Errors
    /// None where the worker could not begin; its last words stand in the state. What it mounted is the caller's to unmount.
    pub fn begin(
        charge: &'a dyn Charge,
        state: &Arc<State>,
        ending: &SigSet,
        own: &[RawFd],
    ) -> Result<Option<Self>, Errno> {
        fault::point!("keeper: begins");
        let event = || EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC);
        let (go, begun) = (event()?, event()?);
        let signals = SignalFd::with_flags(ending, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let state = Arc::clone(state);
        state.set(HeaderWord::Keeper, u64::from(std::process::id()));
        let mut kept = own.to_vec();
        kept.extend([go.as_raw_fd(), begun.as_raw_fd(), signals.as_raw_fd()]);
        let mut keeper =
            Self { charge, state, kept, signals, go, begun, worker: None, reserve: None, stuck: Vec::new() };
        if !keeper.start_worker()? {
            return Ok(None);
        }
        Ok(Some(keeper))
    }

    /// Puts a process in reserve, unless there is one. In that process it returns when that takes this one's place.
    pub fn ensure_reserve(&mut self) {
        if self.reserve.is_none() {
            self.start_reserve();
        }
    }

    /// Keeps until the mount is over. The process that this returns in need not be the one that called it: where that died, it is
    /// the reserve.
    pub fn keep(&mut self) -> Ending {
        self.ensure_reserve();
        let mut since = Instant::now();
        let mut false_starts = 0;
        loop {
            let woken = self.wait();
            self.charge.meanwhile();
            if woken.signal
                && let Ok(Some(signal)) = self.signals.read_signal()
                && let Some(signal) =
                    i32::try_from(signal.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok())
            {
                let worker = self.worker.as_ref().and_then(|worker| i32::try_from(worker.child().pid()).ok());
                if self.charge.ends_at(signal, worker.map(Pid::from_raw)) {
                    return Ending::Signal(signal);
                }
            }
            self.bury_stuck();
            if self.has_lost_its_worker() {
                fault::point!("keeper: a worker died");
                self.bury_worker();
                fault::point!("keeper: it is buried");
                if self.state.get(HeaderWord::Ended) != 0 || self.is_over() {
                    return Ending::Over;
                }
                if self.state.is_upgrading() {
                    return Ending::Upgrade;
                }
                let lived = since.elapsed();
                if lived < SETTLED {
                    thread::sleep(PAUSE);
                }
                tracing::warn!(?lived, "the worker died; another takes over");
                self.state.count(HeaderWord::Takeovers);
                since = Instant::now();
                match self.start_worker() {
                    Ok(true) => {
                        false_starts = 0;
                        tracing::info!(pause = ?since.elapsed(), "a worker has taken over");
                    }
                    Ok(false) | Err(_) => {
                        false_starts += 1;
                        if false_starts >= MAX_FALSE_STARTS {
                            return Ending::GivenUp;
                        }
                        thread::sleep(PAUSE * false_starts);
                    }
                }
            }
            if woken.reserve && self.worker.is_some() {
                self.start_reserve();
            }
        }
    }

    /// Ends what is left: worker and reserve. Waits for the worker to leave by itself for so long.
    pub fn end(&mut self, patience: Duration) -> bool {
        // First: it would take this process's place.
        if let Some(reserve) = self.reserve.take() {
            reserve.kill();
        }
        let Some(worker) = self.worker.take().map(Worker::into_child) else { return true };
        let left = worker.has_ended_within(patience);
        worker.kill();
        left
    }

    /// Ends the process in reserve of a program before this one, which this process was before it became another.
    pub fn relieve(&self, reserve: u32) {
        if let Ok(reserve) = process::Child::of(reserve) {
            reserve.kill();
        }
    }

    /// Ends the process in reserve, for as long as the mount may come to be another keeper's.
    pub fn dismiss_reserve(&mut self) {
        if let Some(reserve) = self.reserve.take() {
            self.kept.retain(|fd| *fd != reserve.pidfd());
            reserve.kill();
        }
    }

    /// Another keeper had the mount for a while, in vain. It has no process left.
    pub fn regain(&mut self) {
        self.state.set(HeaderWord::Keeper, u64::from(std::process::id()));
        self.remember_descriptors();
    }

    /// Has workers close these once more: they are no longer this process's, or were never its own.
    pub fn let_go(&mut self, fds: &[RawFd]) {
        self.kept.retain(|fd| !fds.contains(fd));
        self.remember_descriptors();
    }

    /// Starts a worker, and waits until it has begun or died.
    fn start_worker(&mut self) -> Result<bool, Errno> {
        let keeper = process::pidfd_of_self()?;
        self.kept.push(keeper.as_raw_fd());
        let (charge, state, go, begun) = (self.charge, &self.state, &self.go, &self.begun);
        let parent = Pid::this();
        let child = process::start(|| {
            // Only once the keeper has opened what it needs for this one.
            if !process::wait_for(go, &keeper) {
                return false;
            }
            if Pid::parent() != parent {
                // By now the number of that descriptor may be another's: what has come is the next keeper's word to its own worker.
                let _ = go.write(1);
                return false;
            }
            charge.work(&mut || {
                state.set(HeaderWord::Begun, u64::from(std::process::id()));
                let _ = begun.write(1);
            })
        })?;
        fault::point!("keeper: a worker is started");
        self.kept.push(child.pidfd());
        self.remember_descriptors();
        fault::point!("keeper: its descriptor is written down");
        self.state.set(HeaderWord::Worker, u64::from(child.pid()));
        self.state.set(HeaderWord::WorkerPidfd, u64::try_from(child.pidfd()).unwrap_or_default());
        fault::point!("keeper: before the worker may begin");
        let mut worker = Worker::new(child);
        self.go.write(1)?;
        fault::point!("keeper: the worker may begin");
        let has_begun = self.has_begun(&mut worker);
        // Only now: until here the worker was closing whatever it had no record of.
        self.kept.retain(|fd| *fd != keeper.as_raw_fd());
        // First: a number that is said to be kept must not become one of the worker's.
        self.remember_descriptors();
        drop(keeper);
        fault::point!("keeper: before others hear of the worker");
        self.worker = Some(worker);
        if has_begun {
            self.charge.changed();
        }
        Ok(has_begun)
    }

    fn has_begun(&self, worker: &mut Worker) -> bool {
        let since = Instant::now();
        loop {
            let mut polled = [
                PollFd::new(self.begun.as_fd(), PollFlags::POLLIN),
                PollFd::new(worker.child().as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::from(GLANCE)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
                Ok(_) if polled[0].any().unwrap_or(false) => return self.begun.read().is_ok(),
                Ok(_) => return false,
            }
            if worker.will_not_begin(since.elapsed()) {
                return false;
            }
        }
    }

    /// Whether there is no worker, or none that will serve any more and beside which another cannot be started.
    fn has_lost_its_worker(&mut self) -> bool {
        let Some(worker) = &mut self.worker else { return true };
        match worker.look() {
            Life::Serves | Life::Dies => false,
            Life::Stuck(threads) => {
                let left = |child: &Child| threads_that_cannot_end(child.pid()).unwrap_or(0);
                let all = threads + self.stuck.iter().map(left).sum::<usize>();
                self.stuck.len() < MAX_STUCK && all <= MAX_STUCK_THREADS
            }
            Life::Ended => true,
        }
    }

    /// The worker serves no more. Where threads of it are left it is buried when they are gone.
    fn bury_worker(&mut self) {
        if let Some(worker) = self.worker.take() {
            let child = worker.into_child();
            // Before its descriptor is closed: the next who is given the number may be a reserve, and would keep itself.
            self.state.set(HeaderWord::WorkerPidfd, NO_DESCRIPTOR);
            if child.has_ended_within(Duration::ZERO) {
                self.forget(child);
            } else {
                tracing::warn!(
                    pid = child.pid(),
                    "the worker was killed, and cannot end before a server answers"
                );
                self.stuck.push(child);
            }
        }
        // What it may have left unsaid.
        process::drain(&self.go);
        process::drain(&self.begun);
    }

    fn bury_stuck(&mut self) {
        let ended: Vec<Child> =
            self.stuck.extract_if(.., |child| child.has_ended_within(Duration::ZERO)).collect();
        for child in ended {
            self.forget(child);
        }
    }

    fn forget(&mut self, ended: Child) {
        self.kept.retain(|fd| *fd != ended.pidfd());
        self.remember_descriptors();
        ended.bury();
    }

    /// Whether the kernel is through with the mount.
    fn is_over(&self) -> bool {
        self.state.session.device().is_some_and(descriptors::has_error)
    }

    fn remember_descriptors(&self) {
        self.state.keep_descriptors(&self.kept);
    }

    fn wait(&self) -> Woken {
        let worker = self.worker.as_ref();
        let children = worker.map(Worker::child).into_iter().chain(&self.reserve).chain(&self.stuck);
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        polled.extend(children.map(|child| PollFd::new(child.as_fd(), PollFlags::POLLIN)));
        // Where one is missing there is something to do.
        let complete = worker.filter(|_| self.reserve.is_some());
        let _ = poll(&mut polled, PollTimeout::from(complete.map_or(RETRY, Worker::next_look)));
        let reserve = self.reserve.as_ref().is_none_or(|reserve| reserve.has_ended_within(Duration::ZERO));
        Woken { signal: polled[0].any().unwrap_or(false), reserve }
    }
}

/// No process's descriptor has this number.
const NO_DESCRIPTOR: u64 = u64::MAX;

/// What ended a wait.
#[derive(Debug, Clone, Copy)]
struct Woken {
    signal: bool,
    reserve: bool,
}
