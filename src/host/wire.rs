//! How messages travel between plugin and host: one request and one answer per connection, each a line of JSON of bounded
//! length, with a deadline on every read and write.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::protocol::VERSION;

/// The longest message, in bytes: a rules file of 1 MiB, each byte escaped, and what goes with it.
pub(super) const MAX_MESSAGE: u64 = 8 << 20;
/// How long either side may take over writing a message.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// A message with the version it is meant in.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    message: T,
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The connection failed, or a deadline passed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side is of another version.
    #[error(
        "the other side speaks version {0} of the host's protocol, this one {VERSION}: run the same permfs on both sides"
    )]
    Version(u32),
    /// What came is no message.
    #[error("the other side sent what is no message: {0}")]
    Format(String),
}

impl WireError {
    /// Whether a deadline passed.
    #[must_use]
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, Self::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

/// Connects, without waiting longer than [`WRITE_PATIENCE`] for a listener whose backlog is full.
pub(super) fn dial(path: &Path) -> io::Result<UnixStream> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // connect(2) on a unix socket waits for as long as a send may (unix(7)).
    let seconds = i64::try_from(WRITE_PATIENCE.as_secs()).unwrap_or(5);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

/// Sends one message.
pub(super) fn send<T: Serialize>(stream: &mut UnixStream, message: T) -> Result<(), WireError> {
    let envelope = Envelope { version: VERSION, message };
    let mut line = serde_json::to_vec(&envelope).map_err(|error| WireError::Format(error.to_string()))?;
    line.push(b'\n');
    if u64::try_from(line.len()).is_ok_and(|len| len > MAX_MESSAGE) {
        return Err(WireError::Format(format!("it is longer than {MAX_MESSAGE} bytes")));
    }
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    Ok(stream.write_all(&line)?)
}

/// Receives one message; every part of it comes within `patience`.
pub(super) fn receive<T: DeserializeOwned>(stream: &UnixStream, patience: Duration) -> Result<T, WireError> {
    #[derive(Deserialize)]
    struct Header {
        version: u32,
    }
    stream.set_read_timeout(Some(patience))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_MESSAGE)).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(WireError::Format("it ends early".to_owned()));
    }
    let bad = |error: serde_json::Error| WireError::Format(told(&error));
    let Header { version } = serde_json::from_slice(&line).map_err(bad)?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let envelope: Envelope<T> = serde_json::from_slice(&line).map_err(bad)?;
    Ok(envelope.message)
}

/// Where in the message the fault is, without repeating what stands there.
fn told(error: &serde_json::Error) -> String {
    format!("{:?} at byte {}", error.classify(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes may come late on a busy machine.
    const SOON: Duration = Duration::from_secs(60);
    /// And what does not is not waited for so long.
    const A_MOMENT: Duration = Duration::from_millis(200);

    #[test]
    fn a_message_arrives_as_it_was_sent() {
        let (mut one, other) = UnixStream::pair().unwrap();
        send(&mut one, "text\nwith a line").unwrap();
        assert_eq!(receive::<String>(&other, SOON).unwrap(), "text\nwith a line");
    }

    #[test]
    fn another_version_is_named_whatever_it_sends() {
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(b"{\"version\":9,\"message\":{\"new\":[]}}\n").unwrap();
        assert!(matches!(receive::<String>(&other, SOON), Err(WireError::Version(9))));
    }

    #[test]
    fn half_a_message_and_silence_come_to_an_end() {
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(b"{\"version\":1").unwrap();
        assert!(receive::<String>(&other, A_MOMENT).unwrap_err().is_timeout());
        drop(one);
        assert!(matches!(receive::<String>(&other, SOON), Err(WireError::Format(_))));
    }

    #[test]
    fn a_message_without_end_is_cut_off() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let flood = std::thread::spawn(move || {
            let chunk = vec![b'x'; 1 << 20];
            while one.write_all(&chunk).is_ok() {}
        });
        assert!(matches!(receive::<String>(&other, SOON), Err(WireError::Format(_))));
        drop(other);
        flood.join().unwrap();
    }
}
