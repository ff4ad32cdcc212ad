//! The control socket of a mount's process: a line of JSON with a request, a line of JSON with the answer.
//!
//! Each conversation has a thread of its own, of a bounded number, so `status` is answered while a reload hangs; and no answer
//! to it touches a filesystem, so that it comes while every serving thread waits for a dead NFS server. Both sides
//! give up on a silent one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::reloader::{Reloaded, Standing};
use super::upgrade::{Program, Upgrading};
use super::{MountFailure, path_text};
use crate::sys::turns::Turn;

/// How long a process may take to accept, and to answer what needs no work.
pub const CONTROL_PATIENCE: Duration = Duration::from_secs(2);
/// The longest request that is read, in bytes.
const MAX_REQUEST: u64 = 1 << 12;
/// The longest answer that is read, in bytes: a rules file's faults, with their lines.
const MAX_ANSWER: u64 = 1 << 20;
/// Conversations at once; whoever comes then is hung up on.
const MAX_CONVERSATIONS: usize = 16;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// What the process says of itself: a [`Report`].
    Status,
    /// To read its rules anew: a [`Reloaded`].
    Reload,
    /// To end for another program: an [`Upgrading`].
    Upgrade(Program),
    /// To end for a process of another container, which waits for the keeper's call: an [`Upgrading`].
    HandOver(Program),
}

/// Whoever answers.
pub trait Office: Send + Sync + 'static {
    /// To [`Ask::Status`]; touches no filesystem.
    fn status(&self) -> Report;
    /// To [`Ask::Reload`].
    fn reload(&self) -> Reloaded;
    /// To [`Ask::Upgrade`]. Whatever ends must not end before this has been sent.
    fn upgrade(&self, program: Program) -> Upgrading;
    /// To [`Ask::HandOver`]. As [`Self::upgrade`].
    fn hand_over(&self, program: Program) -> Upgrading;
}

/// Counted since a mount began, by name.
pub type Counters = serde_json::Map<String, serde_json::Value>;

/// What a mount's process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where it is mounted, as text.
    #[serde(serialize_with = "path_text::lossy")]
    pub target: PathBuf,
    /// What is shown, as given.
    pub source: String,
    /// The profile; none where the rules came from flags.
    pub profile: Option<String>,
    /// The process that serves.
    pub pid: u32,
    /// The process that keeps the mount while that one is replaced.
    pub keeper_pid: u32,
    /// Which rules are in force.
    pub rules: Standing,
    /// The program's version.
    #[serde(default)]
    pub version: String,
    /// Why the last upgrade did not come about.
    #[serde(default)]
    pub upgrade_failed: Option<String>,
    /// The mount namespace of its processes, by its inode number (namespaces(7)); none where it is not known.
    #[serde(default)]
    pub namespace: Option<u64>,
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
pub fn serve(listener: UnixListener, office: impl Office) -> Result<(), MountFailure> {
    let failed = |error: io::Error| MountFailure::NoProcess(error.into());
    let office = Arc::new(office);
    let under_way = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for connection in listener.incoming().flatten() {
            let turn = Turn::take(&under_way, MAX_CONVERSATIONS);
            let Some(turn) = turn else { continue };
            let office = Arc::clone(&office);
            let converse = move || {
                let _turn = turn;
                // Whoever went away needs no answer.
                let _ = converse(connection, &*office);
            };
            if let Err(error) = thread::Builder::new().name("conversation".to_owned()).spawn(converse) {
                tracing::warn!(%error, "no thread for a request to the control socket");
            }
        }
    };
    thread::Builder::new().name("control".to_owned()).spawn(accept).map_err(failed)?;
    Ok(())
}

fn converse(connection: UnixStream, office: &impl Office) -> io::Result<()> {
    connection.set_read_timeout(Some(CONTROL_PATIENCE))?;
    connection.set_write_timeout(Some(CONTROL_PATIENCE))?;
    match receive(&connection, MAX_REQUEST)? {
        Ask::Status => send(&connection, &office.status()),
        Ask::Reload => send(&connection, &office.reload()),
        Ask::Upgrade(program) => send(&connection, &office.upgrade(program)),
        Ask::HandOver(program) => send(&connection, &office.hand_over(program)),
    }
}

/// Asks the process behind `path`, which may take so long to answer.
///
/// # Errors
/// Where nobody listens, or no answer comes in time.
pub fn ask<T: DeserializeOwned>(path: &Path, request: &Ask, patience: Duration) -> io::Result<T> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // Before connecting: a full backlog makes connect(2) wait for as long as a send may (unix(7)).
    let to_connect = TimeVal::new(i64::try_from(CONTROL_PATIENCE.as_secs()).unwrap_or(2), 0);
    setsockopt(&fd, sockopt::SendTimeout, &to_connect)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let connection = UnixStream::from(fd);
    send(&connection, request)?;
    connection.set_read_timeout(Some(patience))?;
    receive(&connection, MAX_ANSWER)
}

fn send(mut connection: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    connection.write_all(&line)
}

fn receive<T: DeserializeOwned>(connection: &UnixStream, longest: u64) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(connection.take(longest)).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the message ends early"));
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn report() -> Report {
        Report {
            target: "/t".into(),
            source: "nas:/x".into(),
            profile: Some("airflow".into()),
            pid: 7,
            keeper_pid: 6,
            rules: Standing { in_force_since: 1, refused: None },
            version: "0".into(),
            upgrade_failed: None,
            namespace: None,
            features: vec!["killpriv_v2".into()],
            counters: Counters::from_iter([("requests".into(), 3.into())]),
        }
    }

    /// A reload ends when the test says so.
    struct Desk(Mutex<Receiver<()>>);

    impl Office for Desk {
        fn status(&self) -> Report {
            report()
        }
        fn reload(&self) -> Reloaded {
            let _ = self.0.lock().unwrap().recv();
            Reloaded::Done("x".to_owned())
        }
        fn upgrade(&self, _program: Program) -> Upgrading {
            Upgrading::Refused("not here".to_owned())
        }
        fn hand_over(&self, program: Program) -> Upgrading {
            self.upgrade(program)
        }
    }

    /// How long what must come may take on a busy machine.
    const LONG: Duration = Duration::from_secs(60);

    fn status(path: &Path) -> io::Result<Report> {
        ask(path, &Ask::Status, LONG)
    }

    #[test]
    fn the_status_is_told_while_a_reload_hangs_and_others_say_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let (end, ended) = channel();
        serve(listen(&path).unwrap(), Desk(Mutex::new(ended))).unwrap();
        let asked = path.clone();
        let reload = thread::spawn(move || ask::<Reloaded>(&asked, &Ask::Reload, LONG));
        let _silent = UnixStream::connect(&path).unwrap();
        let mut talker = UnixStream::connect(&path).unwrap();
        talker.write_all(b"{\"ask\":\"sing\"}\n").unwrap();
        assert_eq!(status(&path).unwrap(), report());
        end.send(()).unwrap();
        assert_eq!(reload.join().unwrap().unwrap(), Reloaded::Done("x".to_owned()));
    }

    #[test]
    fn a_request_is_a_line_of_json() {
        assert_eq!(serde_json::to_string(&Ask::Reload).unwrap(), "{\"ask\":\"reload\"}");
    }

    #[test]
    fn a_crowd_of_the_silent_is_got_rid_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        serve(listen(&path).unwrap(), Desk(Mutex::new(channel().1))).unwrap();
        let crowd: Vec<_> = (0..MAX_CONVERSATIONS * 2).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let begin = std::time::Instant::now();
        // Hung up on, until some of the crowd are.
        let told = loop {
            match status(&path) {
                Err(error) if begin.elapsed() > LONG => panic!("{error}"),
                Err(_) => thread::sleep(Duration::from_millis(50)),
                Ok(told) => break told,
            }
        };
        assert_eq!(told, report());
        drop(crowd);
    }

    #[test]
    fn a_process_that_accepts_and_says_nothing_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let _listener = UnixListener::bind(&path).unwrap();
        let begin = std::time::Instant::now();
        assert!(ask::<Report>(&path, &Ask::Status, CONTROL_PATIENCE).is_err());
        assert!(begin.elapsed() < LONG);
    }
}
