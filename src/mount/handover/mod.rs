//! A mount goes from the processes of one container to those of another, and nobody who uses it notices.
//!
//! An upgrade in place ([`super::upgrade`]) is no way out of a container: what runs in it ends with it. So here the program that is
//! to serve runs already, as a process of its own container, and everything that must live on travels to it over a socket: the
//! descriptors, each under the number by which the shared memory names it, the memory itself among them.
//!
//! [`taking`] is the new side: it has the worker stop between two requests, as for an upgrade, and listens beside the mount's record,
//! where root alone can come. [`giving`] is the old keeper: it connects, sends, and waits. Until the new side says that it serves, the
//! old one is there to go on; and it does as soon as the other side refuses or is gone, which a socket tells when the last process that
//! has it open has ended.
//!
//! The mounts that the export was reached by stay in the old container's mount namespace. It is kept for them, by a descriptor that
//! travels with the others (namespaces(7)), and ends with the mount.

pub(super) mod giving;
mod taking;

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::sockopt::{PeerCredentials, ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::{Errno, passing};

pub use taking::take_over;

/// How long either side may take over one message while descriptors travel.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(10);
/// The longest message, in bytes: the numbers of as many descriptors as go with it, or a sentence.
const MAX_MESSAGE: usize = 1 << 14;

/// What the old side says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Gift {
    /// The first: all numbers that follow are at most this one.
    Highest(RawFd),
    /// These are the numbers of the descriptors that come with it.
    Descriptors(Vec<RawFd>),
    /// That was all. From now on it is the new side's, until that one refuses or is gone.
    Whole {
        /// The shared memory.
        memory: RawFd,
        /// The mount namespace to keep for the export's sake.
        namespace: RawFd,
    },
}

/// What the new side says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// It serves.
    Serves,
    /// It does not, and none of its workers lives.
    Refused(String),
}

/// One end of the socket.
#[derive(Debug)]
struct Line(OwnedFd);

impl Line {
    fn new_socket() -> Result<OwnedFd, Errno> {
        // Each message arrives as a whole, with its descriptors.
        Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
    }

    /// Over a socket that is connected.
    ///
    /// # Errors
    /// EPERM where the other side is somebody else than this process's user.
    fn over(socket: OwnedFd) -> Result<Self, Errno> {
        if getsockopt(&socket, PeerCredentials)?.uid() != nix::unistd::geteuid().as_raw() {
            return Err(Errno::EPERM);
        }
        let patience = TimeVal::milliseconds(i64::try_from(MESSAGE_PATIENCE.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, SendTimeout, &patience)?;
        setsockopt(&socket, ReceiveTimeout, &patience)?;
        Ok(Self(socket))
    }

    /// For one message that may be long in coming.
    fn wait_without_end(&self) -> Result<(), Errno> {
        Ok(setsockopt(&self.0, ReceiveTimeout, &TimeVal::seconds(0))?)
    }

    fn say(&self, message: &impl Serialize, fds: &[RawFd]) -> Result<(), Errno> {
        let message = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
        passing::send(self.0.as_fd(), &message, fds)
    }

    /// # Errors
    /// ECONNABORTED where the other side is gone, EPROTO where it says what this version does not know.
    fn hear<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), Errno> {
        let (message, fds) = loop {
            match passing::receive(self.0.as_fd(), MAX_MESSAGE) {
                // ECONNRESET: the other side has gone without having heard all; what it said is still to be had (unix(7)).
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                heard => break heard?,
            }
        };
        if message.is_empty() {
            return Err(Errno::ECONNABORTED);
        }
        Ok((serde_json::from_slice(&message).map_err(|_| Errno::EPROTO)?, fds))
    }

    fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
