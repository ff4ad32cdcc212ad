//! The new side: a process of the container that is to serve. It begins as nobody's keeper and becomes this mount's.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Backlog, UnixAddr, bind, listen};

use super::super::claim::Trace;
use super::super::confine::Confinement;
use super::super::control::{Ask, CONTROL_PATIENCE, ask};
use super::super::recipe::Recipe;
use super::super::resume::Left;
use super::super::runtime::RuntimeDir;
use super::super::table::MountTable;
use super::super::upgrade::{Upgrading, this_program};
use super::super::{MountFailure, Readiness, signals, waking};
use super::{Gift, Line, Reply};
use crate::sys::{Errno, descriptors, passing};
use crate::telemetry;

/// How long the worker may take to stop, and its keeper to call.
const CALL_PATIENCE: Duration = Duration::from_secs(30);

/// Serves `target` in place of the processes of another container, says so, and keeps it until it is over.
///
/// # Errors
/// Why the mount goes on with the processes that it has.
pub fn take_over(target: &Path, readiness: &mut Readiness) -> Result<(), MountFailure> {
    let table = MountTable::read()?;
    let entry = table.find(target).filter(|entry| entry.is_permfs());
    let entry = entry.ok_or_else(|| MountFailure::NotMounted(target.to_owned()))?;
    let unanswered = |why: String| MountFailure::NoAnswer { path: entry.target.clone(), why };
    let goes_on = |why: String| MountFailure::NotUpgraded { path: entry.target.clone(), why };
    let trace = RuntimeDir::from_env().known(entry)?;
    signals::block().map_err(MountFailure::NoProcess)?;
    signals::raise_limits();

    let meeting = Meeting::at(&trace)
        .map_err(|error| MountFailure::Runtime { path: trace.meeting(), errno: error.into() })?;
    let program = this_program().map_err(|error| unanswered(error.to_string()))?;
    let woken = waking::wake(&entry.target).map_err(|error| MountFailure::NoProcess(error.into()))?;
    match ask(&trace.control(), &Ask::HandOver(program), CONTROL_PATIENCE) {
        Ok(Upgrading::Begun) => {}
        Ok(Upgrading::Refused(why)) => return Err(goes_on(why)),
        Err(error) => {
            return Err(unanswered(format!("{error}; a version before this one may not hand over")));
        }
    }
    let line = meeting.wait().map_err(|error| goes_on(format!("its keeper did not call: {error}")))?;
    drop(woken);
    let mut line = Some(line);
    let served = receive(&mut line, readiness).and_then(|left| keep(left, &mut line, readiness));
    served.map_err(|why| {
        if let Some(line) = line {
            // Where the other side is gone there is nobody to go on.
            let _ = line.say(&Reply::Refused(why.clone()), &[]);
        }
        goes_on(why)
    })
}

/// Where the old keeper finds the new one, until it is dropped.
struct Meeting {
    listener: UnixListener,
    path: PathBuf,
}

impl Meeting {
    fn at(trace: &Trace) -> io::Result<Self> {
        let path = trace.meeting();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Line::new_socket()?;
        bind(socket.as_raw_fd(), &UnixAddr::new(&path)?)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listen(&socket, Backlog::new(1)?)?;
        Ok(Self { listener: UnixListener::from(socket), path })
    }

    /// # Errors
    /// ETIMEDOUT after [`CALL_PATIENCE`], EPERM where somebody else calls.
    fn wait(self) -> Result<Line, Errno> {
        let mut polled = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(CALL_PATIENCE).unwrap_or(PollTimeout::MAX);
        if poll(&mut polled, patience)? == 0 {
            return Err(Errno::ETIMEDOUT);
        }
        let (caller, _) = self.listener.accept()?;
        Line::over(OwnedFd::from(caller))
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Puts everything that comes under the number that it had.
fn receive(line: &mut Option<Line>, readiness: &mut Readiness) -> Result<Left, String> {
    let failed = |error: Errno| format!("what is open did not arrive: {error}");
    let hear =
        |line: &Option<Line>| line.as_ref().ok_or(Errno::ENOTCONN).and_then(Line::hear).map_err(failed);
    let (Gift::Highest(highest), _) = hear(line)? else { return Err(failed(Errno::EPROTO)) };
    // Out of the way of what comes.
    let free = highest.saturating_add(1);
    let beyond = |error| {
        format!("this process may not have descriptors up to {highest} ({error}): raise RLIMIT_NOFILE")
    };
    readiness.move_above(free).map_err(beyond)?;
    if let Some(line) = line {
        line.0 = passing::above(line.0.as_fd(), free).map_err(beyond)?;
    }
    // What was inherited, from whoever started the host, would stand in the way.
    let own = [Some(0), Some(1), Some(2), readiness.descriptor(), line.as_ref().map(Line::number)];
    let all = descriptors::all().map_err(|error| format!("what this process has open: {error}"))?;
    descriptors::close(all.into_iter().filter(|fd| !own.contains(&Some(*fd))));
    loop {
        match hear(line)? {
            (Gift::Descriptors(numbers), fds) if numbers.len() == fds.len() => {
                // All of them first: one may have arrived under the number of another.
                let aside =
                    fds.iter().map(|fd| passing::above(fd.as_fd(), free)).collect::<Result<Vec<_>, _>>();
                drop(fds);
                for (fd, number) in aside.map_err(beyond)?.into_iter().zip(numbers) {
                    passing::place(fd, number).map_err(|error| format!("descriptor {number}: {error}"))?;
                }
            }
            (Gift::Whole { memory, namespace }, _) => {
                return Left::read(memory).map(|left| left.of_the_namespace(namespace));
            }
            _ => return Err(failed(Errno::EPROTO)),
        }
    }
}

/// Serves, says so to both who wait for it, and keeps the mount.
fn keep(mut left: Left, line: &mut Option<Line>, readiness: &mut Readiness) -> Result<(), String> {
    let confinement = Confinement::begin();
    // What this process is, in place of what the one before it was.
    left.recipe = Recipe { confinement, logging: telemetry::logging(), in_background: true, ..left.recipe };
    let recipe = left.recipe.clone();
    let state = std::sync::Arc::clone(&left.state);
    let mut passing: Vec<RawFd> = readiness.descriptor().into_iter().collect();
    passing.extend(line.as_ref().map(Line::number));
    left.keep(&passing, |keeper| {
        recipe.leave(&state);
        if let Some(line) = line.take() {
            // Whoever is gone needs no answer.
            let _ = line.say(&Reply::Serves, &[]);
        }
        let _ = readiness.announce();
        keeper.let_go(&passing);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "taken over from another container");
    })
}
