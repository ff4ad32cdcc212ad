//! Taking a mount down from outside, whether its process lives, hangs or is dead. Returns once nothing is left behind.
//!
//! umount(2) ends the FUSE session, at which the process takes down its own NFS mount and leaves. Only a process that
//! does not is ended by signals, and only after the kernel has let go of the filesystem: it may serve other mount points.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::MountFailure;
use super::claim::Trace;
use super::connections::{self, Connections};
use super::holders::{holders, sentence};
use super::patience::within;
use super::record::Record;
use super::runtime::RuntimeDir;
use super::table::{DeviceNumber, MountTable};
use crate::sys::{self, Errno};

/// How long umount(2) may take. It only takes long where the kernel waits for the mount's process; then the connection
/// is aborted, and nobody waits any more.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a process may take to leave by itself, and again after each signal. Three times this is what an unmount may take
/// while the server is gone and holds on to a thread of it. There is nothing left then that it could be needed for: what it
/// has written lies with the NFS client, which brings it to the server by itself.
const LEAVE_PATIENCE: Duration = Duration::from_millis(1500);
/// How long /proc may take to tell who uses a mount.
const USERS_PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// What became of the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nothing is left.
    Gone,
    /// Gone from TARGET; its process goes on until the last open file is closed.
    Detached,
}

/// Unmounts what permfs mounted on `path`. `lazy`: also where it is in use; it goes when its last user does.
///
/// # Errors
/// Where nothing, or something else, is mounted there; where it is in use; where it lives on elsewhere.
pub fn unmount(path: &Path, lazy: bool) -> Result<Unmounted, MountFailure> {
    let table = MountTable::read()?;
    let found = Found::at(path, &table)?;
    found.take_down(lazy, &table)
}

/// Unmounts what permfs mounted on `path` and ends its process, whoever hangs in it: the connection is aborted first, so
/// that everybody who waits for it gets ECONNABORTED and lets go. For a mount that does not answer any more.
///
/// # Errors
/// As [`unmount`]; where the connection cannot be aborted, it is unmounted all the same.
pub fn abort(path: &Path) -> Result<Unmounted, MountFailure> {
    let table = MountTable::read()?;
    let found = Found::at(path, &table)?;
    let aborted = Connections::open(RuntimeDir::from_env().path()).and_then(|all| all.abort(found.device));
    if let Err(error) = aborted {
        tracing::warn!(target = %found.target.display(), %error, "cannot abort the connection");
    }
    found.take_down(true, &table)
}

/// A mount of permfs, and what its process left of itself.
struct Found {
    target: PathBuf,
    device: DeviceNumber,
    trace: Option<Trace>,
}

impl Found {
    fn at(path: &Path, table: &MountTable) -> Result<Self, MountFailure> {
        let entry = table.find_permfs(path)?;
        let (target, device) = (entry.target.clone(), entry.device);
        let trace = RuntimeDir::from_env().find(device, &target);
        Ok(Self { target, device, trace })
    }

    fn take_down(self, lazy: bool, table: &MountTable) -> Result<Unmounted, MountFailure> {
        let Self { target, device, trace } = self;
        take_down(&target, device, lazy, table)?;
        match trace {
            Some(trace) => see_off(&target, device, lazy, &trace),
            None => Ok(Unmounted::Gone),
        }
    }
}

fn take_down(
    target: &Path,
    device: DeviceNumber,
    lazy: bool,
    table: &MountTable,
) -> Result<(), MountFailure> {
    let path = target.to_owned();
    let asked = path.clone();
    match within(UNMOUNT_PATIENCE, move || sys::mount::unmount(&asked, lazy)) {
        Some(Ok(())) => Ok(()),
        // Somebody else was faster.
        Some(Err(Errno::EINVAL | Errno::ENOENT)) if !still_there(&path, device)? => Ok(()),
        Some(Err(Errno::EBUSY)) => Err(MountFailure::InUse { users: users(&path, table), path }),
        Some(Err(errno @ Errno::EPERM)) => {
            Err(MountFailure::Unmount { path, errno, next: "run permfs as root, with CAP_SYS_ADMIN" })
        }
        Some(Err(errno)) => Err(MountFailure::Unmount { path, errno, next: "see `permfs status`" }),
        None => unstick(path, device, lazy),
    }
}

/// The kernel waits for a process that does not answer: after the abort it need not.
fn unstick(path: PathBuf, device: DeviceNumber, lazy: bool) -> Result<(), MountFailure> {
    tracing::warn!(target = %path.display(), "the mount's process does not answer; aborting its connection");
    let next = "end the mount's process (`permfs status` tells its pid)";
    let failed = |errno| MountFailure::Unmount { path: path.clone(), errno, next };
    Connections::open(RuntimeDir::from_env().path()).and_then(|all| all.abort(device)).map_err(failed)?;
    let begin = Instant::now();
    while begin.elapsed() < UNMOUNT_PATIENCE {
        // The abandoned umount(2) may have come to its end meanwhile.
        if !still_there(&path, device)? {
            return Ok(());
        }
        match sys::mount::unmount(&path, lazy) {
            Ok(()) => return Ok(()),
            Err(Errno::EBUSY) => thread::sleep(POLL),
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::EBUSY))
}

fn still_there(path: &Path, device: DeviceNumber) -> Result<bool, MountFailure> {
    Ok(MountTable::read()?.on_top_of(path).is_some_and(|entry| entry.device == device))
}

fn users(target: &Path, table: &MountTable) -> String {
    match table.inside(target).next() {
        Some(inner) => format!("{} is mounted inside it", inner.target.display()),
        None => told_users(target),
    }
}

/// Who holds it, as far as /proc says so in time: what a process has open is not told while it waits, in the middle of an
/// execve(2), for another mount that does not answer (proc_pid_fd(5); exec_update_lock in fs/exec.c). Nobody asks a second
/// time meanwhile.
fn told_users(target: &Path) -> String {
    static ASKING: AtomicBool = AtomicBool::new(false);
    if !ASKING.swap(true, Ordering::AcqRel) {
        let target = target.to_owned();
        let told = within(USERS_PATIENCE, move || {
            let told = sentence(&holders(&target));
            ASKING.store(false, Ordering::Release);
            told
        });
        if let Some(told) = told {
            return told;
        }
    }
    "something uses it, and /proc does not tell what: a process hangs at a mount that does not answer"
        .to_owned()
}

/// Waits until the mount's process is gone, and clears up after one that could not.
fn see_off(
    target: &Path,
    device: DeviceNumber,
    lazy: bool,
    trace: &Trace,
) -> Result<Unmounted, MountFailure> {
    let Some(record) = &trace.record else { return Ok(Unmounted::Gone) };
    let pid = record.worker.pid;
    if trace.is_alive() && !is_over(record).unwrap_or(true) {
        // The filesystem lives on, so its number is still its own.
        return match (MountTable::read()?.of_device(device).next(), lazy) {
            (Some(other), _) => Err(elsewhere(target, format!("on {}", other.target.display()), pid)),
            (None, true) => Ok(Unmounted::Detached),
            (None, false) => {
                Err(elsewhere(target, "in another mount namespace (a container)".to_owned(), pid))
            }
        };
    }
    if !left(trace, LEAVE_PATIENCE) && !end(record, trace) {
        return Err(MountFailure::StuckDaemon { path: target.to_owned(), pid });
    }
    trace.remove();
    RuntimeDir::from_env().sweep();
    Ok(Unmounted::Gone)
}

fn elsewhere(target: &Path, elsewhere: String, pid: u32) -> MountFailure {
    MountFailure::Elsewhere { path: target.to_owned(), elsewhere, pid }
}

/// Whether the kernel is through with the mount, as its processes see it: both hold it.
fn is_over(record: &Record) -> Option<bool> {
    let living = [record.keeper, record.worker].into_iter().find(|process| process.lives())?;
    connections::is_over(living.pid)
}

/// Ends processes that have nothing left to serve and do not leave.
fn end(record: &Record, trace: &Trace) -> bool {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // The lock says that one lives, its start time that the number is still its own. Without a look at its connection
        // nobody knows whether another namespace still uses the mount: then it is left alone.
        if is_over(record) == Some(true) {
            for process in [record.keeper, record.worker] {
                if process.lives()
                    && let Ok(pid) = i32::try_from(process.pid)
                {
                    let _ = kill(Pid::from_raw(pid), signal);
                }
            }
        }
        if left(trace, LEAVE_PATIENCE) {
            return true;
        }
    }
    false
}

fn left(trace: &Trace, limit: Duration) -> bool {
    let begin = Instant::now();
    while trace.is_alive() {
        if begin.elapsed() >= limit {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}
