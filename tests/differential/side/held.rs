//! What is done through what is open, beyond reading and writing: duplicates, mappings, locks, and the calls that take a
//! descriptor in place of a path.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Uid, XattrFlags,
};
use rustix::io::{Errno, IoSlice, ReadWriteFlags};
use rustix::{fs, io};

use super::super::live::tree::{describe, digest};
use super::super::operation::{Lock, Operation, Place, Slot, Whence};
use super::{Outcome, Side, done, mapped, timestamps};

const PAGE: usize = 4096;

impl Side {
    pub(super) fn held(&mut self, operation: &Operation) -> Option<Outcome> {
        Some(match *operation {
            Operation::ReadDirect { ref at, page, pages } => self.direct(at, page, pages, None),
            Operation::WriteDirect { ref at, page, pages, byte } => self.direct(at, page, pages, Some(byte)),
            Operation::Duplicate { from, to } => {
                self.slot(from).and_then(|file| io::fcntl_dupfd_cloexec(file, 0)).map(|copy| {
                    self.open[to] = Some(copy);
                    String::new()
                })
            }
            Operation::OpenAgain { from, to, flags } => self.open_again(from, to, flags.0),
            Operation::OpenWithin { slot, ref at, flags, resolve } => {
                self.open_within(slot, at, flags.0, resolve)
            }
            Operation::SetAppend { slot, on } => done(self.slot(slot).and_then(|file| {
                let flags = fs::fcntl_getfl(file)?;
                fs::fcntl_setfl(file, if on { flags | OFlags::APPEND } else { flags - OFlags::APPEND })
            })),
            Operation::Seek { slot, from, by } => self.seek_by(slot, from, by),
            Operation::List { slot } => self.slot(slot).and_then(list),
            Operation::SendFile { from, to, offset, length } => {
                let mut offset = offset;
                self.slot(from).and_then(|from| Ok((from, self.slot(to)?))).and_then(|(from, to)| {
                    fs::sendfile(to, from, offset.as_mut(), length)
                        .map(|sent| format!("{sent} to {offset:?}"))
                })
            }
            Operation::WriteWith { slot, offset, length, flags } => self.slot(slot).and_then(|file| {
                let flags = ReadWriteFlags::from_bits_retain(flags);
                io::pwritev2(file, &[IoSlice::new(&vec![b'w'; length])], offset, flags)
                    .map(|written| written.to_string())
            }),
            Operation::ReadMapped { slot, offset, length } => self.map(slot, offset, length, None),
            Operation::WriteMapped { slot, offset, length, byte } => {
                self.map(slot, offset, length, Some(byte))
            }
            Operation::Flock { slot, lock } => done(self.slot(slot).and_then(|file| {
                fs::flock(
                    file,
                    match lock {
                        Lock::Shared => FlockOperation::NonBlockingLockShared,
                        Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
                        Lock::None => FlockOperation::NonBlockingUnlock,
                    },
                )
            })),
            Operation::LockRange { slot, lock, start, length } => {
                let range = range(lock, start, length);
                self.slot(slot)
                    .and_then(|file| control(file, FcntlArg::F_OFD_SETLK(&range)))
                    .map(|()| String::new())
            }
            Operation::TestRange { slot, lock, start, length } => {
                let mut range = range(lock, start, length);
                self.slot(slot)
                    .and_then(|file| control(file, FcntlArg::F_OFD_GETLK(&mut range)))
                    .map(|()| format!("{} {} {}", range.l_type, range.l_start, range.l_len))
            }
            Operation::LinkHeld { slot, ref to } => done(
                self.slot(slot)
                    .and_then(|file| fs::linkat(file, "", self.base(to)?, &*to.path, AtFlags::EMPTY_PATH)),
            ),
            Operation::ChownHeld { slot, uid, gid } => done(self.slot(slot).and_then(|file| {
                fs::chownat(file, "", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
            })),
            Operation::ChmodHeld { slot, mode } => done(self.slot(slot).and_then(|file| {
                fs::chmodat(fs::CWD, path_of(file), Mode::from_raw_mode(mode), AtFlags::empty())
            })),
            Operation::TimesHeld { slot, atime, mtime } => done(self.slot(slot).and_then(|file| {
                fs::utimensat(fs::CWD, path_of(file), &timestamps(atime, mtime), AtFlags::empty())
            })),
            Operation::SetXattrHeld { slot, name, length, flags } => done(self.slot(slot).and_then(|file| {
                fs::fsetxattr(file, name, &vec![b'h'; length], XattrFlags::from_bits_retain(flags))
            })),
            Operation::GetXattrHeld { slot, name, room } => self.slot(slot).and_then(|file| {
                fs::fgetxattr(file, name, &mut *vec![0_u8; room]).map(|length| format!("{length} bytes"))
            }),
            Operation::ListXattrHeld { slot } => self.slot(slot).and_then(|file| {
                fs::flistxattr(file, &mut *vec![0_u8; 4096]).map(|length| format!("{length} bytes"))
            }),
            Operation::RemoveXattrHeld { slot, name } => {
                done(self.slot(slot).and_then(|file| fs::fremovexattr(file, name)))
            }
            _ => return None,
        })
    }

    /// In whole pages, from and to whole pages: what else O_DIRECT takes is each filesystem's own.
    fn direct(&self, at: &Place, page: u64, pages: usize, byte: Option<u8>) -> Outcome {
        let access = if byte.is_some() { OFlags::WRONLY } else { OFlags::RDONLY };
        let flags = access | OFlags::DIRECT | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(self.base(at)?, &*at.path, flags, Mode::empty())?;
        if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Ok("not a regular file".to_owned());
        }
        let mut memory = vec![byte.unwrap_or_default(); (pages + 1) * PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        let (buffer, offset) = (&mut memory[start..start + pages * PAGE], page * 4096);
        match byte {
            Some(_) => io::pwrite(&file, buffer, offset).map(|written| written.to_string()),
            None => {
                let read = io::pread(&file, &mut *buffer, offset)?;
                Ok(format!("{read} bytes, {:016x}", digest(&buffer[..read])))
            }
        }
    }

    fn open_again(&mut self, from: Slot, to: Slot, flags: u32) -> Outcome {
        let flags =
            OFlags::from_bits_retain(flags).difference(OFlags::CREATE | OFlags::EXCL) | OFlags::CLOEXEC;
        let file = fs::open(path_of(self.slot(from)?), flags, Mode::from_raw_mode(0o644))?;
        let stat = fs::fstat(&file).map(|stat| describe(&stat));
        self.open[to] = Some(file);
        stat
    }

    fn open_within(&mut self, slot: Slot, at: &Place, flags: u32, resolve: u64) -> Outcome {
        let flags = OFlags::from_bits_retain(flags) | OFlags::CLOEXEC;
        // openat2(2) refuses a mode where nothing can be made.
        let makes = flags.intersects(OFlags::CREATE.union(OFlags::TMPFILE.difference(OFlags::DIRECTORY)));
        let mode = if makes { Mode::from_raw_mode(0o640) } else { Mode::empty() };
        let resolve = ResolveFlags::from_bits_retain(resolve);
        // EAGAIN: somebody on this machine has renamed or mounted something meanwhile, and `..` may lead anywhere (openat2(2)).
        let base = self.base(at)?;
        let file = (0..1000)
            .map(|_try| fs::openat2(base, &*at.path, flags, mode, resolve))
            .find(|opened| !matches!(opened, Err(Errno::AGAIN)))
            .unwrap_or(Err(Errno::AGAIN))?;
        let stat = fs::fstat(&file).map(|stat| describe(&stat));
        self.open[slot] = Some(file);
        stat
    }

    /// Only on regular files, as [`Self::seek`].
    fn seek_by(&self, slot: Slot, from: Whence, by: i64) -> Outcome {
        self.seek(
            slot,
            match from {
                Whence::Start => SeekFrom::Start(by.unsigned_abs()),
                Whence::Here => SeekFrom::Current(by),
                Whence::End => SeekFrom::End(by),
            },
        )
    }

    /// Only what lies in the file: past its last page there is a signal instead of an error.
    fn map(&self, slot: Slot, offset: u64, length: usize, byte: Option<u8>) -> Outcome {
        let file = self.slot(slot)?;
        let stat = fs::fstat(file)?;
        let end = usize::try_from(stat.st_size).unwrap();
        let start = usize::try_from(offset).unwrap().min(end);
        let end = start.saturating_add(length).min(end);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || start == end {
            return Ok("nothing to map".to_owned());
        }
        match byte {
            None => mapped::read(file, start..end).map(|data| format!("{:016x}", digest(&data))),
            Some(byte) => done(mapped::fill(file, start..end, byte)),
        }
    }
}

/// Through the directory's own descriptor, from its beginning. Who opened a directory is not who reads it (README, "What a
/// pod can tell"), so only where this actor could open it now.
fn list(directory: BorrowedFd<'_>) -> Outcome {
    fs::accessat(directory, "", fs::Access::READ_OK, AtFlags::EACCESS | AtFlags::EMPTY_PATH)?;
    fs::seek(directory, SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(4096);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        names.push(format!("{} {:?}", entry.file_name().to_string_lossy(), entry.file_type()));
    }
    names.sort();
    Ok(names.join(", "))
}

fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/thread-self/fd/{}", fd.as_raw_fd())
}

fn range(lock: Lock, start: u64, length: u64) -> libc::flock {
    let kind = match lock {
        Lock::Shared => libc::F_RDLCK,
        Lock::Exclusive => libc::F_WRLCK,
        Lock::None => libc::F_UNLCK,
    };
    libc::flock {
        l_type: i16::try_from(kind).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: i64::try_from(start).unwrap(),
        l_len: i64::try_from(length).unwrap(),
        l_pid: 0,
    }
}

fn control(file: BorrowedFd<'_>, what: FcntlArg<'_>) -> Result<(), Errno> {
    fcntl(file.as_fd(), what).map(drop).map_err(|error| Errno::from_raw_os_error(error as i32))
}
