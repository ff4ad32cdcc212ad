//! The control socket of a mount's process: whoever connects gets one JSON object, and that is all.
//!
//! Its thread touches no filesystem, so it answers while every serving thread waits for a dead NFS server. Asking has a
//! deadline, so a stopped process does not hang `status`.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use super::MountFailure;

/// How long a process may take to accept, and to answer.
pub const CONTROL_PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 16;

/// Counted since a mount began, by name.
pub type Counters = serde_json::Map<String, serde_json::Value>;

/// What a mount's process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where it is mounted.
    pub target: PathBuf,
    /// What is shown, as given.
    pub source: String,
    /// The profile; none where the rules came from flags.
    pub profile: Option<String>,
    /// The process that serves.
    pub pid: u32,
    /// The process that keeps the mount while that one is replaced.
    pub keeper_pid: u32,
    /// What was negotiated with the kernel and found at the export.
    pub features: Vec<String>,
    /// Counted since the mount began.
    pub counters: Counters,
}

/// Makes the socket at `path`, where whoever asks waits until somebody answers.
///
/// # Errors
/// Where it cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener, MountFailure> {
    let failed = |error: io::Error| MountFailure::Runtime { path: path.to_owned(), errno: error.into() };
    UnixListener::bind(path).map_err(failed)
}

/// Answers on a socket for as long as the process lives.
///
/// # Errors
/// Where there is no thread for it.
pub fn serve(
    listener: UnixListener,
    report: impl Fn() -> Report + Send + 'static,
) -> Result<(), MountFailure> {
    let failed = |error: io::Error| MountFailure::NoProcess(error.into());
    let answer = move || {
        for connection in listener.incoming().flatten() {
            // Whoever went away needs no answer.
            let _ = reply(connection, &report());
        }
    };
    thread::Builder::new().name("control".to_owned()).spawn(answer).map_err(failed)?;
    Ok(())
}

fn reply(mut connection: UnixStream, report: &Report) -> io::Result<()> {
    connection.set_write_timeout(Some(CONTROL_PATIENCE))?;
    connection.write_all(&serde_json::to_vec(report)?)
}

/// Asks the process behind `path`.
///
/// # Errors
/// Where nobody listens, or no answer comes within [`CONTROL_PATIENCE`].
pub fn ask(path: &Path) -> io::Result<Report> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Before connecting: a full backlog makes connect(2) wait for as long as a send may (unix(7)).
    let patience = TimeVal::new(i64::try_from(CONTROL_PATIENCE.as_secs()).unwrap_or(2), 0);
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let connection = UnixStream::from(fd);
    connection.set_read_timeout(Some(CONTROL_PATIENCE))?;
    let mut answer = Vec::new();
    connection.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            target: "/t".into(),
            source: "nas:/x".into(),
            profile: Some("airflow".into()),
            pid: 7,
            keeper_pid: 6,
            features: vec!["killpriv_v2".into()],
            counters: Counters::from_iter([("requests".into(), 3.into())]),
        }
    }

    #[test]
    fn whoever_asks_gets_the_report() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        serve(listen(&path).unwrap(), report).unwrap();
        assert_eq!(ask(&path).unwrap(), report());
        assert_eq!(ask(&path).unwrap(), report());
    }

    #[test]
    fn a_process_that_accepts_and_says_nothing_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let _listener = UnixListener::bind(&path).unwrap();
        let begin = std::time::Instant::now();
        assert!(ask(&path).is_err());
        assert!(begin.elapsed() < CONTROL_PATIENCE * 2);
    }
}
