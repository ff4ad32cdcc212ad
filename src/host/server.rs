//! The host's socket: root alone may call; a thread per call, of bounded number; what is done is done in the rooms beside.

use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::crew::Crews;
use super::in_flight::InFlight;
use super::ledger::Ledger;
use super::notice::Notice;
use super::protocol::{Answer, Code, Refusal, Request};
use super::succession::{Chair, take_seat, wait_for_seat};
use super::wire;
use super::{orphans, socket, stage};
use crate::mount::{preflight, signals};

/// The most calls at once: more than a node has pods, so that those who wait for a dead server leave room for others.
const MAX_CALLS: usize = 512;
/// How long a caller may take over writing its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// How long calls under way may take to end once the host is to stop.
const PARTING_PATIENCE: Duration = Duration::from_secs(15);

/// Root alone may call.
const SOCKET_MODE: u32 = 0o600;

/// The host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) ledger: Ledger,
    pub(super) crews: Crews,
    /// By target, staging path or volume.
    pub(super) turns: InFlight,
    /// Targets whose space is being asked for.
    pub(super) asked: InFlight,
    /// Counts calls that mount an export for themselves.
    pub(super) calls: AtomicU64,
    /// How many are being conducted.
    pub(super) calls_under_way: Arc<AtomicUsize>,
    pub(super) chair: Chair,
}

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The socket cannot be used.
    #[error("cannot listen at {}: {error}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another host is there.
    #[error("a mount host listens at {} already: end it first", .0.display())]
    Taken(PathBuf),
    /// The runtime directory cannot be used.
    #[error("cannot use the runtime directory: {0}")]
    Runtime(io::Error),
    /// The process lacks something.
    #[error("{0}")]
    Process(String),
}

/// What becomes of the mounts when a signal ends the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// They stay: their processes are not this one's to end.
    MountsStay,
    /// They would end with this container: the host goes on until none is left in it.
    OutstayMounts,
}

/// Serves at `socket` until a signal ends it.
///
/// # Errors
/// What stands in the way.
pub fn serve(socket: &Path, parting: Parting) -> Result<(), HostError> {
    signals::block().map_err(|errno| HostError::Process(errno.to_string()))?;
    preflight::privilege().map_err(|failure| HostError::Process(failure.to_string()))?;
    let ledger = Ledger::open().map_err(HostError::Runtime)?;
    let mut seat = take_seat(socket)?;
    let notice = Notice::put_up(socket).map_err(HostError::Runtime)?;
    let mut listener = listen(socket)?;
    // Only now: whoever has the seat has the ledger.
    ledger.sweep(stage::is_over);
    orphans::bury();
    let host = Arc::new(Host {
        ledger,
        crews: Crews::default(),
        turns: InFlight::default(),
        asked: InFlight::default(),
        calls: AtomicU64::new(0),
        calls_under_way: Arc::default(),
        chair: Chair::new()?,
    });
    end_at_a_signal(&host, socket, parting).map_err(HostError::Runtime)?;
    host.settle(notice).map_err(HostError::Runtime)?;
    tracing::info!(socket = %socket.display(), "the mount host serves");
    loop {
        while host.chair.wait(&listener) {
            match listener.accept() {
                Ok((connection, _)) => answer(&host, connection),
                // Out of descriptors, for the moment.
                Err(error) => {
                    tracing::error!(%error, "cannot accept a call");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
        let _ = fs::remove_file(socket);
        drop((listener, seat));
        seat = wait_for_seat(socket)?;
        listener = listen(socket)?;
        host.chair.sit_down();
        tracing::warn!("the host that took over is gone; this one serves again");
    }
}

fn end_at_a_signal(host: &Arc<Host>, socket: &Path, parting: Parting) -> io::Result<()> {
    let (host, path) = (Arc::clone(host), socket.to_owned());
    let end = move |signal| {
        if parting == Parting::OutstayMounts {
            tracing::info!(%signal, "the mount host ends when no mount is left in this container");
            host.wait_until_unmounted();
        }
        tracing::info!("the mount host ends");
        if !host.chair.is_left() {
            let _ = fs::remove_file(&path);
        }
        let begin = Instant::now();
        while host.calls_under_way.load(Ordering::Acquire) > 0 && begin.elapsed() < PARTING_PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        process::exit(0);
    };
    signals::deliver(end)
}

/// Takes the socket's place, where nobody answers behind it.
fn listen(path: &Path) -> Result<UnixListener, HostError> {
    let listener = socket::listen(path, SOCKET_MODE)
        .map_err(|error| HostError::Socket { path: path.to_owned(), error })?;
    listener.ok_or_else(|| HostError::Taken(path.to_owned()))
}

/// One call less when it is dropped.
struct Call(Arc<AtomicUsize>);

impl Drop for Call {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn answer(host: &Arc<Host>, mut connection: UnixStream) {
    let call = Call(Arc::clone(&host.calls_under_way));
    if host.calls_under_way.fetch_add(1, Ordering::AcqRel) >= MAX_CALLS {
        let refusal =
            Refusal::new(Code::ResourceExhausted, format!("{MAX_CALLS} calls are under way; try again"));
        let _ = wire::send(&mut connection, Answer::Refused(refusal));
        return;
    }
    let host = Arc::clone(host);
    let serve = move || {
        let _call = call;
        if let Err(error) = converse(&host, connection) {
            tracing::warn!(%error, "a call came to nothing");
        }
    };
    if let Err(error) = thread::Builder::new().name("call".to_owned()).spawn(serve) {
        tracing::error!(%error, "no thread for a call");
    }
}

fn converse(host: &Host, mut connection: UnixStream) -> Result<(), wire::WireError> {
    let caller = getsockopt(&connection, PeerCredentials).map_err(io::Error::from)?;
    if caller.uid() != 0 && caller.uid() != nix::unistd::geteuid().as_raw() {
        tracing::warn!(uid = caller.uid(), pid = caller.pid(), "only root may call the mount host");
        let refusal = Refusal::new(Code::PermissionDenied, "only root may call the mount host");
        return wire::send(&mut connection, Answer::Refused(refusal));
    }
    let outcome = match wire::receive(&connection, REQUEST_PATIENCE) {
        Ok(request) => host.conduct(request),
        Err(error @ (wire::WireError::Version(_) | wire::WireError::Format(_))) => {
            Err(Refusal::new(Code::Internal, error.to_string()))
        }
        Err(error) => return Err(error),
    };
    let answer = outcome.unwrap_or_else(|refusal| {
        tracing::warn!(code = ?refusal.code, %refusal, "refused");
        Answer::Refused(refusal)
    });
    match wire::send(&mut connection, answer) {
        // Who gave up waiting asks again.
        Err(wire::WireError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

impl Host {
    fn conduct(&self, request: Request) -> Result<Answer, Refusal> {
        if let Request::StandUp { namespace } = request {
            return self.stand_up(namespace).map(|()| Answer::Done);
        }
        self.chair.refuse_if_leaving()?;
        match request {
            Request::StandUp { .. } => Ok(Answer::Done),
            Request::Ready => ready().map(|()| Answer::Done),
            Request::Stage(stage) => {
                self.stage(&stage)?;
                tracing::info!(export = stage.export, staging = %stage.staging.display(), "staged");
                Ok(Answer::Done)
            }
            Request::Unstage { staging } => {
                self.unstage(&staging)?;
                tracing::info!(staging = %staging.display(), "unstaged");
                Ok(Answer::Done)
            }
            Request::Publish(publish) => {
                self.publish(&publish)?;
                let order = &publish.order;
                tracing::info!(volume = order.volume_id, target = %order.target.display(), "published");
                Ok(Answer::Done)
            }
            Request::Unpublish { target } => {
                self.unpublish(&target)?;
                tracing::info!(target = %target.display(), "unpublished");
                Ok(Answer::Done)
            }
            Request::Renew { text } => self.renew(&text).map(|()| Answer::Done),
            Request::Survey => Ok(Answer::Survey(self.survey())),
            Request::Stats { volume_id, path } => self.stats(&volume_id, &path).map(Answer::Stats),
            Request::MakeVolume(make) => self.make_volume(*make).map(Answer::Volume),
            Request::RemoveVolume(remove) => self.remove_volume(*remove).map(|()| Answer::Done),
            Request::FindVolume(volume) => self.find_volume(*volume).map(Answer::Volume),
        }
    }
}

fn ready() -> Result<(), Refusal> {
    preflight::privilege()
        .and_then(|()| preflight::fuse_device())
        .map_err(|failure| Refusal::new(Code::FailedPrecondition, failure.to_string()))
}
