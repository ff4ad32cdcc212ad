//! Locks that belong to an open file: byte ranges (OFD) and flock.

use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, fcntl};

use super::super::{ByteRange, LockKind};
use super::{File, offset};
use crate::sys::Errno;
use crate::sys::locks::{self, Flock};

pub(super) fn test(
    file: &File,
    kind: LockKind,
    range: ByteRange,
) -> Result<Option<(LockKind, ByteRange)>, Errno> {
    let mut lock = raw(kind, range)?;
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    let kind = match lock.l_type {
        UNLOCK => return Ok(None),
        SHARED => LockKind::Shared,
        EXCLUSIVE => LockKind::Exclusive,
        _ => return Err(Errno::EIO),
    };
    let start = u64::try_from(lock.l_start).map_err(|_negative| Errno::EIO)?;
    let end = match u64::try_from(lock.l_len).map_err(|_negative| Errno::EIO)? {
        0 => TO_THE_END,
        length => start + (length - 1),
    };
    Ok(Some((kind, ByteRange { start, end })))
}

pub(super) fn set(file: &File, kind: LockKind, range: ByteRange) -> Result<(), Errno> {
    let lock = raw(kind, range)?;
    match fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map_err(Errno::from) {
        // fcntl(2) lets a filesystem say either.
        Err(Errno::EACCES) => Err(Errno::EAGAIN),
        result => result.map(drop),
    }
}

pub(super) fn flock(file: &File, kind: LockKind) -> Result<(), Errno> {
    let what = match kind {
        LockKind::Shared => Flock::Shared,
        LockKind::Exclusive => Flock::Exclusive,
        LockKind::Unlock => Flock::Unlock,
    };
    locks::flock(file.as_fd(), what)
}

/// The last byte of a range without an end (OFFSET_MAX).
const TO_THE_END: u64 = i64::MAX.unsigned_abs();

// The three kinds are 0, 1 and 2.
#[expect(clippy::cast_possible_truncation)]
const SHARED: libc::c_short = libc::F_RDLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation)]
const EXCLUSIVE: libc::c_short = libc::F_WRLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation)]
const UNLOCK: libc::c_short = libc::F_UNLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation)]
const FROM_START: libc::c_short = libc::SEEK_SET as libc::c_short;

fn raw(kind: LockKind, range: ByteRange) -> Result<libc::flock, Errno> {
    let l_type = match kind {
        LockKind::Shared => SHARED,
        LockKind::Exclusive => EXCLUSIVE,
        LockKind::Unlock => UNLOCK,
    };
    let l_len = if range.end >= TO_THE_END {
        0
    } else {
        offset(range.end.checked_sub(range.start).ok_or(Errno::EINVAL)? + 1)?
    };
    // An OFD lock wants pid 0.
    Ok(libc::flock { l_type, l_whence: FROM_START, l_start: offset(range.start)?, l_len, l_pid: 0 })
}
