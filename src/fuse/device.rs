//! The open `/dev/fuse`: one request per read, one answer per write.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zerocopy::IntoBytes;

use super::negotiate::MAX_WRITE;
use super::wire::{OUT_HEADER, OutHeader};
use crate::fs::{Errno, RequestId};
use crate::state::slot::{Slot, Way};
use crate::sys::pipe::Pipe;

/// A connection to the kernel. Dropping the last copy of it ends the connection: whoever uses the mount then gets
/// ENOTCONN.
///
/// A thread that is killed while it waits in read(2) may take one more request. A kernel that cannot find the thread's memory without a look
/// at its signals (one without HAVE_FAST_GUP: user-mode Linux) then fails to hand it over, and tells the caller EIO (`fuse_dev_do_read`,
/// fs/fuse/dev.c); a close is lost in silence. There requests come by a pipe ([`Way`]): moving them into one needs nobody's memory, and
/// whatever is in it when the thread dies is read by its successor. The answer of a thread that is killed while the kernel looks for
/// it, page by page, would be EIO as well (`fuse_dev_do_write`): what is longer than a page goes by a pipe, too, once it has been found.
#[derive(Debug)]
pub struct Device {
    file: File,
    pins_slowly: bool,
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<OwnedFd> for Device {
    /// A connection that somebody else opened: any descriptor that keeps messages apart, such as a SEQPACKET socket.
    fn from(fd: OwnedFd) -> Self {
        Self::from(File::from(fd))
    }
}

impl From<File> for Device {
    fn from(file: File) -> Self {
        let is_device = file.metadata().is_ok_and(|what| what.file_type().is_char_device());
        Self { pins_slowly: is_device && pins_slowly(), file }
    }
}

/// The longest request is a write, whose data takes a page of the pipe for each of its own, and its head takes one or two. Pipes
/// have powers of two.
const PIPE_CAPACITY: i32 = 2 << 20;
const _: () = assert!(PIPE_CAPACITY.unsigned_abs() > MAX_WRITE + 2 * 4096);

/// Bytes up to which an answer is copied: any but those that carry content or a listing.
const SHORT: usize = 512;

/// A short answer, which lies in one page.
#[repr(align(512))]
struct Short([u8; SHORT]);

thread_local! {
    /// By which this thread's longer answers go, where they go by a pipe; none where there could be none.
    static ANSWERS: OnceCell<Option<Pipe>> = const { OnceCell::new() };
}

/// What a read of the device brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// A request of so many bytes.
    Request(usize),
    /// Nothing, for now: a signal came, or the request was withdrawn before it was read (ENOENT).
    Nothing,
    /// The connection has ended: unmounted (ENODEV) or aborted (ECONNABORTED).
    End,
}

impl Device {
    /// The pipe by which the requests of this slot are to come, if they are. The one for the calling thread's answers comes with it:
    /// later the thread acts for a pod, who may have none of that size.
    pub(crate) fn way(&self, slot: &Slot) -> Option<Way> {
        let way = self.pins_slowly.then(|| slot.way(PIPE_CAPACITY))?;
        ANSWERS.with(|answers| _ = answers.get_or_init(pipe_for_answers));
        way.inspect_err(|error| tracing::warn!(%error, "a worker's death may be noticed: there is no pipe for its requests")).ok()
    }

    /// Waits for a request and reads it into `buffer`.
    ///
    /// # Errors
    /// EINVAL where the buffer is smaller than the kernel wants it, and whatever else read(2) says.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        received((&self.file).read(buffer).map_err(Errno::from))
    }

    /// As [`Self::receive`], by way of a pipe.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(crate) fn receive_by(&self, way: &Way, buffer: &mut [u8]) -> Result<Received, Errno> {
        received(way.receive(self.as_fd(), buffer))
    }

    /// Whether a request lies unread, or the connection has ended.
    pub(crate) fn is_readable(&self) -> bool {
        let mut asked = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut asked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Answers a request; the payload is not copied on the way to the kernel.
    ///
    /// # Errors
    /// ENOENT where the request is no more (aborted); the kernel's view of a malformed answer (EINVAL).
    pub(crate) fn answer(&self, to: RequestId, payload: &[u8]) -> Result<(), Errno> {
        self.send(0, to.0, payload)
    }

    /// Answers a request with an error.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(crate) fn refuse(&self, to: RequestId, error: Errno) -> Result<(), Errno> {
        self.send(-error.raw(), to.0, &[])
    }

    /// Tells the kernel something it did not ask for (FUSE_NOTIFY_*).
    ///
    /// # Errors
    /// ENOENT where the kernel does not know the inode.
    pub(crate) fn notify(&self, code: i32, payload: &[u8]) -> Result<(), Errno> {
        // A notification is an answer to nobody.
        self.send(code, 0, payload)
    }

    /// Sends an answer that was made before, head and all.
    ///
    /// # Errors
    /// ENOENT where the request is no more: it was answered, or aborted.
    pub(crate) fn answer_again(&self, answer: &[u8]) -> Result<(), Errno> {
        self.put(answer, &[])
    }

    fn send(&self, error: i32, unique: u64, payload: &[u8]) -> Result<(), Errno> {
        let header = head(error, RequestId(unique), payload.len())?;
        self.send_with(&header, payload)
    }

    /// Sends an answer with the head that [`head`] made for it.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(crate) fn send_with(&self, header: &[u8; OUT_HEADER], payload: &[u8]) -> Result<(), Errno> {
        self.put(header, payload)
    }

    /// One write is one message: the kernel takes all of it or none. A short one is copied together, since the kernel
    /// pins the memory of each piece that it is given.
    fn put(&self, begin: &[u8], rest: &[u8]) -> Result<(), Errno> {
        let length = begin.len() + rest.len();
        let mut short = Short([0; SHORT]);
        let sent = if let Some(message) = short.0.get_mut(..length) {
            message[..begin.len()].copy_from_slice(begin);
            message[begin.len()..].copy_from_slice(rest);
            (&self.file).write(message)?
        } else {
            self.put_long(&[IoSlice::new(begin), IoSlice::new(rest)])?
        };
        if sent == length { Ok(()) } else { Err(Errno::EIO) }
    }

    fn put_long(&self, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let direct = || Ok((&self.file).write_vectored(pieces)?);
        if !self.pins_slowly {
            return direct();
        }
        let pass = |pipe: &Pipe| pipe.pass(pieces, self.as_fd());
        ANSWERS.with(|answers| answers.get_or_init(pipe_for_answers).as_ref().map_or_else(direct, pass))
    }
}

fn pipe_for_answers() -> Option<Pipe> {
    Pipe::new(PIPE_CAPACITY)
        .inspect_err(|error| {
            tracing::warn!(%error, "a worker's death may be noticed: there is no pipe for its answers");
        })
        .ok()
}

fn received(read: Result<usize, Errno>) -> Result<Received, Errno> {
    match read {
        Ok(0) | Err(Errno::ENODEV | Errno::ECONNABORTED) => Ok(Received::End),
        Ok(length) => Ok(Received::Request(length)),
        Err(Errno::EINTR | Errno::ENOENT | Errno::EAGAIN) => Ok(Received::Nothing),
        Err(error) => Err(error),
    }
}

/// Whether this kernel looks at signals before it pins a process's memory.
fn pins_slowly() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpu| cpu.contains("User Mode Linux"))
}

/// The head of an answer with so many bytes of payload: `error` is 0, or negative.
///
/// # Errors
/// EINVAL where they are more than a message can say.
pub(crate) fn head(error: i32, to: RequestId, payload: usize) -> Result<[u8; OUT_HEADER], Errno> {
    let len = u32::try_from(OUT_HEADER + payload).map_err(|_| Errno::EINVAL)?;
    let mut bytes = [0; OUT_HEADER];
    bytes.copy_from_slice(OutHeader { len, error, unique: to.0 }.as_bytes());
    Ok(bytes)
}
