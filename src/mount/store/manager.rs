//! What is said to a service manager, and how (sd_notify(3)): datagrams of lines, with descriptors beside them.

use std::env;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::sys::{Errno, passing};

/// Where it listens: a path, or a name in the abstract namespace behind an `@`.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How many descriptors it keeps for this service (systemd 254).
const ROOM: &str = "FDSTORE";
/// Seconds that it may take to read what it was told before.
const PATIENCE: i64 = 2;

/// The manager of the service that this process is of.
#[derive(Debug)]
pub(super) struct Manager {
    address: UnixAddr,
}

impl Manager {
    /// None where there is no manager, or it listens on no unix socket.
    pub(super) fn of_this_process() -> Option<Self> {
        let address = address(&env::var_os(SOCKET)?)?;
        Some(Self { address })
    }

    /// Has it keep an open file under a name; with others that it has under that name already. Where it is `polled`, it lets it go when that is
    /// at its end, as `/dev/fuse` is once its mount is gone; not everything can be waited for (epoll_ctl(2), EBADF for O_PATH).
    ///
    /// # Errors
    /// As [`Self::tell`].
    pub(super) fn keep(&self, name: &str, fd: RawFd, polled: bool) -> Result<(), Errno> {
        let poll = if polled { "" } else { "FDPOLL=0\n" };
        self.tell(&format!("FDSTORE=1\n{poll}FDNAME={name}"), &[fd])
    }

    /// Tells it something, with these descriptors. Whether it listens to this process is its own affair (NotifyAccess=).
    ///
    /// # Errors
    /// Those of connect(2) and sendmsg(2); EAGAIN where it does not read what it was told before.
    pub(super) fn tell(&self, what: &str, fds: &[RawFd]) -> Result<(), Errno> {
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, SendTimeout, &TimeVal::seconds(PATIENCE))?;
        connect(socket.as_raw_fd(), &self.address)?;
        passing::send(socket.as_fd(), what.as_bytes(), fds)
    }
}

/// How many descriptors it keeps for this service; none where it does not say.
pub(super) fn room() -> Option<usize> {
    env::var(ROOM).ok()?.parse().ok()
}

fn address(name: &OsStr) -> Option<UnixAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name).ok(),
        [b'/', ..] => UnixAddr::new(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_listens_at_a_path_or_in_the_abstract_namespace() {
        let told = |name: &str| address(OsStr::new(name));
        assert_eq!(told("/run/x").unwrap().path(), Some(std::path::Path::new("/run/x")));
        assert_eq!(told("@x/y").unwrap().as_abstract(), Some(&b"x/y"[..]));
        assert!(told("vsock:2:1234").is_none() && told("").is_none());
    }
}
