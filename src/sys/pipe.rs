//! Pipes whose ends are known by number to whoever comes after a process that dies (pipe(7)).

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, vmsplice};
use nix::unistd::{pipe2, read};

use super::{Errno, descriptors};

/// A pipe, empty at first. Reading one that is empty never waits.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// A new one, for `capacity` bytes.
    ///
    /// # Errors
    /// EMFILE; EPERM where that is more than a process without CAP_SYS_RESOURCE may have (/proc/sys/fs/pipe-max-size).
    pub fn new(capacity: i32) -> Result<Self, Errno> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(capacity))?;
        Ok(Self { reader, writer })
    }

    /// One that a dead process has left, under the numbers that [`Self::numbers`] told.
    ///
    /// # Errors
    /// EBADF where nothing is open under one of them.
    pub fn left([reader, writer]: [RawFd; 2]) -> Result<Self, Errno> {
        Ok(Self { reader: descriptors::adopt(reader)?, writer: descriptors::adopt(writer)? })
    }

    /// The numbers of its two ends.
    #[must_use]
    pub fn numbers(&self) -> [RawFd; 2] {
        [self.reader.as_raw_fd(), self.writer.as_raw_fd()]
    }

    /// Moves what one read of `from` brings into the pipe; waits for it (splice(2)).
    ///
    /// # Errors
    /// Those of reading `from`.
    pub fn fill(&self, from: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        Ok(splice(from, None, &self.writer, None, most, SpliceFFlags::empty())?)
    }

    /// Hands these pieces to `to` as one write, by way of the pipe, which must be empty and is again: their memory is found before
    /// `to` hears of them (vmsplice(2)). Answers with how much of them has gone.
    ///
    /// # Errors
    /// Those of writing to `to`.
    pub fn pass(&self, pieces: &[IoSlice<'_>], to: BorrowedFd<'_>) -> Result<usize, Errno> {
        let filled = vmsplice(&self.writer, pieces, SpliceFFlags::empty())?;
        let passed = splice(&self.reader, None, to, None, filled, SpliceFFlags::empty());
        if passed != Ok(filled) {
            let mut rest = [0; 4096];
            while self.drain(&mut rest)? > 0 {}
        }
        Ok(passed?)
    }

    /// Reads what is in it, as far as it fits; answers with how much that was.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn drain(&self, into: &mut [u8]) -> Result<usize, Errno> {
        drain(self.reader.as_fd(), into)
    }
}

/// As [`Pipe::drain`], of a pipe that a dead process has left and nobody has taken over yet.
///
/// # Errors
/// Those of read(2): EBADF where nothing is open under its number.
pub fn drain_left([reader, _]: [RawFd; 2], into: &mut [u8]) -> Result<usize, Errno> {
    if reader < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: whoever owned it is dead, and nobody else closes what stands in a record.
    drain(unsafe { BorrowedFd::borrow_raw(reader) }, into)
}

fn drain(reader: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    while let Some(rest) = into.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match read(reader, rest) {
            Ok(0) | Err(nix::errno::Errno::EAGAIN) => break,
            Ok(more) => length += more,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::mem;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_in_a_pipe_is_there_for_whoever_takes_it_over() {
        let pipe = Pipe::new(1 << 20).unwrap();
        let (message, mut sender) = std::io::pipe().unwrap();
        sender.write_all(b"a message").unwrap();
        assert_eq!(pipe.fill(message.as_fd(), 1 << 20), Ok(9));
        let numbers = pipe.numbers();
        // Its process dies here.
        mem::forget(pipe);
        let heir = Pipe::left(numbers).unwrap();
        let mut buffer = [0; 100];
        assert_eq!((heir.drain(&mut buffer[..2]), heir.drain(&mut buffer[2..])), (Ok(2), Ok(7)));
        assert_eq!(&buffer[..9], b"a message");
        assert_eq!(heir.drain(&mut buffer), Ok(0));
    }

    #[test]
    fn pieces_are_passed_on_as_one_message_or_not_at_all() {
        let pipe = Pipe::new(1 << 20).unwrap();
        let body = vec![7; 100_000];
        let pieces = [IoSlice::new(b"head"), IoSlice::new(&body)];
        let file = tempfile::tempfile().unwrap();
        assert_eq!(pipe.pass(&pieces, file.as_fd()), Ok(100_004));
        let mut passed = vec![0; 100_005];
        assert_eq!(file.read_at(&mut passed, 0).unwrap(), 100_004);
        assert!(passed.starts_with(b"head") && passed[4..100_004] == body);
        let read_only = File::open("/dev/null").unwrap();
        assert_eq!(pipe.pass(&pieces, read_only.as_fd()), Err(Errno::EBADF));
        assert_eq!(pipe.drain(&mut passed), Ok(0), "nothing is left for the next message to begin with");
    }

    #[test]
    fn an_end_that_is_not_open_is_told() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(Pipe::left([file.as_raw_fd() + 1000, file.as_raw_fd() + 1001]).unwrap_err(), Errno::EBADF);
    }
}
