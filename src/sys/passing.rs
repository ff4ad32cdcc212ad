//! Passing descriptors to another process over a unix socket (SCM_RIGHTS, unix(7)), and giving them the numbers that they had.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::Errno;

/// Descriptors in one message: SCM_MAX_FD is 253 (net/scm.h).
pub const MAX_PASSED: usize = 250;

/// Sends one message, with the descriptors that are open under `fds`, at most [`MAX_PASSED`].
///
/// # Errors
/// Those of sendmsg(2): EPIPE where the other side is gone, EAGAIN past the socket's timeout, EBADF where one is not open.
pub fn send(socket: BorrowedFd<'_>, message: &[u8], fds: &[RawFd]) -> Result<(), Errno> {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    let message = [IoSlice::new(message)];
    sendmsg::<()>(socket.as_raw_fd(), &message, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message of at most `longest` bytes. An empty one without descriptors is the end.
///
/// # Errors
/// Those of recvmsg(2): EAGAIN past the socket's timeout; EMSGSIZE where the message was longer, or had more descriptors than this
/// process may have open.
pub fn receive(socket: BorrowedFd<'_>, longest: usize) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut message = vec![0; longest];
    let mut space = cmsg_space!([RawFd; MAX_PASSED]);
    let mut parts = [IoSliceMut::new(&mut message)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut fds = Vec::new();
    // ENOBUFS where the kernel has left some out, which `flags` tells below.
    for part in received.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(new) = part {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows of them.
            fds.extend(new.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let (length, flags) = (received.bytes, received.flags);
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    message.truncate(length);
    Ok((message, fds))
}

/// The same open file under one more number, which is at least `least`.
///
/// # Errors
/// EMFILE, EINVAL where this process may not have so high a number.
pub fn above(fd: BorrowedFd<'_>, least: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes integers and touches no memory.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) };
    let number = RawFd::try_from(super::check(answer.into())?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts an open file under `number`, where nothing is open yet. From then on nobody owns it: it is to be adopted.
///
/// # Errors
/// EBUSY where something is open there; EINVAL where this process may not have so high a number.
pub fn place(fd: OwnedFd, number: RawFd) -> Result<(), Errno> {
    let placed = above(fd.as_fd(), number)?;
    if placed.as_raw_fd() != number {
        return Err(Errno::EBUSY);
    }
    let _ = placed.into_raw_fd();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::sys::descriptors;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn as_many_descriptors_as_a_message_holds_arrive_as_the_same_open_files() {
        let (one, other) = pair();
        let mut files: Vec<File> = (0..MAX_PASSED).map(|_| tempfile::tempfile().unwrap()).collect();
        files[MAX_PASSED - 1].write_all(b"last").unwrap();
        let fds: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        send(one.as_fd(), b"words", &fds).unwrap();
        let (message, passed) = receive(other.as_fd(), 64).unwrap();
        assert_eq!((message.as_slice(), passed.len()), (&b"words"[..], MAX_PASSED));
        let mut last = File::from(passed.into_iter().next_back().unwrap());
        last.rewind().unwrap();
        let mut text = String::new();
        last.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), files[MAX_PASSED - 1].stream_position().unwrap()), ("last", 4));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_and_the_end_is_empty() {
        let (one, other) = pair();
        send(one.as_fd(), &[1; 65], &[]).unwrap();
        assert_eq!(receive(other.as_fd(), 64).unwrap_err(), Errno::EMSGSIZE);
        drop(one);
        let (message, fds) = receive(other.as_fd(), 64).unwrap();
        assert!(message.is_empty() && fds.is_empty());
    }

    #[test]
    fn a_file_is_put_under_a_number_once() {
        let file = || OwnedFd::from(File::open("/dev/null").unwrap());
        let number = above(file().as_fd(), 700).unwrap().as_raw_fd();
        assert!(number >= 700);
        place(file(), number).unwrap();
        assert_eq!(place(file(), number).unwrap_err(), Errno::EBUSY);
        assert_eq!(descriptors::adopt(number).unwrap().as_raw_fd(), number);
    }
}
