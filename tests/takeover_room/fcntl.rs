//! The three kinds of locks, without waiting and with: thin names for fcntl(2) and flock(2).

use std::fs::File;
use std::io;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::FlockOperation;

/// Whom a byte range lock belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// POSIX: the process, or what the kernel takes for one.
    Process,
    /// OFD: the open file.
    OpenFile,
}

/// Write-locks a range, or fails with EAGAIN.
pub fn lock(file: &File, owner: Owner, start: i64, length: i64) -> io::Result<()> {
    set(file, owner, libc::F_WRLCK, start, length)
}

/// Gives a range up.
pub fn unlock(file: &File, owner: Owner, start: i64, length: i64) -> io::Result<()> {
    set(file, owner, libc::F_UNLCK, start, length)
}

/// Write-locks a range as the open file, as soon as nobody else has it.
pub fn lock_waiting(file: &File, start: i64, length: i64) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLKW(&range(libc::F_WRLCK, start, length)))?;
    Ok(())
}

/// flock(2), which fails with EWOULDBLOCK where it would have to wait.
pub fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    Ok(rustix::fs::flock(file, operation)?)
}

fn set(file: &File, owner: Owner, kind: libc::c_int, start: i64, length: i64) -> io::Result<()> {
    let range = range(kind, start, length);
    fcntl(
        file,
        match owner {
            Owner::Process => FcntlArg::F_SETLK(&range),
            Owner::OpenFile => FcntlArg::F_OFD_SETLK(&range),
        },
    )?;
    Ok(())
}

fn range(kind: libc::c_int, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}
