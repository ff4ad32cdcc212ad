//! One of the two directories: does an [`Operation`] there and says what came of it.
//!
//! An outcome holds whatever a program could tell apart, except what must differ: inode numbers, ctime, times of "now".

mod held;
mod mapped;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    Access, AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Timespec,
    Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::{fs, io};

use super::live::tree::{describe, digest};
use super::operation::{Operation, Place, SLOTS, Slot, Time};

/// What came of a step: a description of the result, or the errno.
pub type Outcome = Result<String, Errno>;

/// A directory, and the files that a sequence has open in it.
pub struct Side {
    root: OwnedFd,
    open: [Option<OwnedFd>; SLOTS],
}

impl Side {
    pub fn new(root: OwnedFd) -> Self {
        Self { root, open: Default::default() }
    }

    fn slot(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.open[slot].as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn base(&self, place: &Place) -> Result<BorrowedFd<'_>, Errno> {
        place.from.map_or(Ok(self.root.as_fd()), |slot| self.slot(slot))
    }

    /// For the calls that have no `*at` form.
    fn spelled_out(&self, place: &Place) -> Result<String, Errno> {
        use std::os::fd::AsRawFd;
        Ok(format!("/proc/thread-self/fd/{}/{}", self.base(place)?.as_raw_fd(), place.path))
    }

    /// Does it, as whoever the calling thread is.
    pub fn perform(&mut self, operation: &Operation) -> Outcome {
        self.content(operation)
            .or_else(|| self.names(operation))
            .or_else(|| self.attributes(operation))
            .or_else(|| self.held(operation))
            .unwrap_or_else(|| self.extended(operation))
    }

    fn content(&mut self, operation: &Operation) -> Option<Outcome> {
        Some(match *operation {
            Operation::Open { slot, ref at, flags, mode } => self.open(slot, at, flags.0, mode),
            Operation::Close { slot } => self.open[slot].take().ok_or(Errno::BADF).map(|_| String::new()),
            Operation::Write { slot, offset, length, byte } => self.write(slot, offset, length, byte),
            Operation::Read { slot, offset, length } => self.read(slot, offset, length),
            Operation::Truncate { ref at, size } => {
                self.spelled_out(at).and_then(|path| truncate(&path, size))
            }
            Operation::Ftruncate { slot, size } => {
                done(self.slot(slot).and_then(|file| fs::ftruncate(file, size)))
            }
            Operation::Fallocate { slot, mode, offset, length } => done(self.slot(slot).and_then(|file| {
                fs::fallocate(file, FallocateFlags::from_bits_retain(mode), offset, length)
            })),
            Operation::SeekData { slot, offset } => self.seek(slot, SeekFrom::Data(offset)),
            Operation::SeekHole { slot, offset } => self.seek(slot, SeekFrom::Hole(offset)),
            Operation::CopyRange { from, mut from_offset, to, mut to_offset, length } => {
                self.slot(from).and_then(|from| Ok((from, self.slot(to)?))).and_then(|(from, to)| {
                    fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), length)
                        .map(|copied| copied.to_string())
                })
            }
            Operation::Fsync { slot } => done(self.slot(slot).and_then(fs::fsync)),
            _ => return None,
        })
    }

    fn names(&mut self, operation: &Operation) -> Option<Outcome> {
        Some(match *operation {
            Operation::Mkdir { ref at, mode } => {
                done(self.base(at).and_then(|base| fs::mkdirat(base, &*at.path, Mode::from_raw_mode(mode))))
            }
            Operation::Mknod { ref at, kind, mode } => done(self.base(at).and_then(|base| {
                let (kind, mode) = (FileType::from_raw_mode(kind), Mode::from_raw_mode(mode));
                // /dev/null: harmless, and both sides are nodev.
                fs::mknodat(base, &*at.path, kind, mode, fs::makedev(1, 3))
            })),
            Operation::Symlink { ref at, ref target } => {
                done(self.base(at).and_then(|base| fs::symlinkat(&*target.0, base, &*at.path)))
            }
            Operation::Link { ref from, ref to, follow } => {
                done(self.both(from, to).and_then(|(old, new)| {
                    let flags = if follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                    fs::linkat(old, &*from.path, new, &*to.path, flags)
                }))
            }
            Operation::LinkOpen { slot, ref to } => done(self.link_open(slot, to)),
            Operation::Rename { ref from, ref to, flags } => {
                done(self.both(from, to).and_then(|(old, new)| {
                    fs::renameat_with(old, &*from.path, new, &*to.path, RenameFlags::from_bits_retain(flags))
                }))
            }
            Operation::Unlink { ref at } => {
                done(self.base(at).and_then(|base| fs::unlinkat(base, &*at.path, AtFlags::empty())))
            }
            Operation::Rmdir { ref at } => {
                done(self.base(at).and_then(|base| fs::unlinkat(base, &*at.path, AtFlags::REMOVEDIR)))
            }
            Operation::Readlink { ref at } => self
                .base(at)
                .and_then(|base| fs::readlinkat(base, &*at.path, Vec::new()))
                .map(|target| target.to_string_lossy().into_owned()),
            Operation::Readdir { ref at } => self.readdir(at),
            _ => return None,
        })
    }

    fn attributes(&mut self, operation: &Operation) -> Option<Outcome> {
        Some(match *operation {
            Operation::Stat { ref at, follow } => self
                .base(at)
                .and_then(|base| fs::statat(base, &*at.path, nofollow_unless(follow)))
                .map(|stat| describe(&stat)),
            Operation::Fstat { slot } => self.slot(slot).and_then(fs::fstat).map(|stat| describe(&stat)),
            Operation::Access { ref at, mask, effective } => done(self.base(at).and_then(|base| {
                let flags = if effective { AtFlags::EACCESS } else { AtFlags::empty() };
                fs::accessat(base, &*at.path, Access::from_bits_retain(mask), flags)
            })),
            Operation::Chmod { ref at, mode } => {
                done(self.base(at).and_then(|base| {
                    fs::chmodat(base, &*at.path, Mode::from_raw_mode(mode), AtFlags::empty())
                }))
            }
            Operation::Fchmod { slot, mode } => {
                done(self.slot(slot).and_then(|file| fs::fchmod(file, Mode::from_raw_mode(mode))))
            }
            Operation::Chown { ref at, uid, gid, follow } => done(self.base(at).and_then(|base| {
                fs::chownat(
                    base,
                    &*at.path,
                    uid.map(Uid::from_raw),
                    gid.map(Gid::from_raw),
                    nofollow_unless(follow),
                )
            })),
            Operation::Fchown { slot, uid, gid } => done(
                self.slot(slot)
                    .and_then(|file| fs::fchown(file, uid.map(Uid::from_raw), gid.map(Gid::from_raw))),
            ),
            Operation::Utimens { ref at, atime, mtime, follow } => done(self.base(at).and_then(|base| {
                fs::utimensat(base, &*at.path, &timestamps(atime, mtime), nofollow_unless(follow))
            })),
            Operation::Futimens { slot, atime, mtime } => {
                done(self.slot(slot).and_then(|file| fs::futimens(file, &timestamps(atime, mtime))))
            }
            Operation::Umask { mask } => {
                Ok(format!("{:o}", rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode()))
            }
            _ => return None,
        })
    }

    fn extended(&mut self, operation: &Operation) -> Outcome {
        match *operation {
            Operation::SetXattr { ref at, name, length, flags, follow } => {
                let (path, value) = (self.spelled_out(at)?, vec![b'v'; length]);
                let flags = XattrFlags::from_bits_retain(flags);
                done(if follow {
                    fs::setxattr(&*path, name, &value, flags)
                } else {
                    fs::lsetxattr(&*path, name, &value, flags)
                })
            }
            Operation::GetXattr { ref at, name, room, follow } => {
                let (path, mut value) = (self.spelled_out(at)?, vec![0_u8; room]);
                let length = if follow {
                    fs::getxattr(&*path, name, &mut *value)
                } else {
                    fs::lgetxattr(&*path, name, &mut *value)
                }?;
                Ok(format!("{length} bytes"))
            }
            Operation::ListXattr { ref at, follow } => {
                let (path, mut list) = (self.spelled_out(at)?, vec![0_u8; 4096]);
                let length = if follow {
                    fs::listxattr(&*path, &mut *list)
                } else {
                    fs::llistxattr(&*path, &mut *list)
                }?;
                let mut names: Vec<_> =
                    list[..length].split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
                names.sort();
                Ok(names.join(" "))
            }
            Operation::RemoveXattr { ref at, name, follow } => {
                let path = self.spelled_out(at)?;
                done(if follow { fs::removexattr(&*path, name) } else { fs::lremovexattr(&*path, name) })
            }
            Operation::SetAcl { ref at, default, ref acl } => {
                let mut value = 2_u32.to_le_bytes().to_vec();
                for (tag, permissions, id) in acl {
                    value.extend(tag.to_le_bytes());
                    value.extend(permissions.to_le_bytes());
                    value.extend(id.to_le_bytes());
                }
                done(fs::setxattr(&*self.spelled_out(at)?, acl_name(default), &value, XattrFlags::empty()))
            }
            Operation::GetAcl { ref at, default } => {
                let mut value = vec![0_u8; 4096];
                let length = fs::getxattr(&*self.spelled_out(at)?, acl_name(default), &mut *value)?;
                Ok(format!("{:?}", &value[..length]))
            }
            ref other => unreachable!("{other:?}"),
        }
    }

    fn both(&self, from: &Place, to: &Place) -> Result<(BorrowedFd<'_>, BorrowedFd<'_>), Errno> {
        Ok((self.base(from)?, self.base(to)?))
    }

    fn open(&mut self, slot: Slot, at: &Place, flags: u32, mode: u32) -> Outcome {
        let flags = OFlags::from_bits_retain(flags) | OFlags::CLOEXEC;
        let file = fs::openat(self.base(at)?, &*at.path, flags, Mode::from_raw_mode(mode))?;
        let stat = fs::fstat(&file).map(|stat| describe(&stat));
        self.open[slot] = Some(file);
        stat
    }

    fn write(&self, slot: Slot, offset: Option<u64>, length: usize, byte: u8) -> Outcome {
        // The value depends on the position, so that a write to the wrong place shows.
        let data: Vec<_> = (0..length).map(|at| byte ^ u8::try_from(at % 251).unwrap()).collect();
        let file = self.slot(slot)?;
        offset.map_or_else(|| io::write(file, &data), |at| io::pwrite(file, &data, at)).map(|n| n.to_string())
    }

    fn read(&self, slot: Slot, offset: Option<u64>, length: usize) -> Outcome {
        let mut data = vec![0_u8; length];
        let file = self.slot(slot)?;
        let read = match offset {
            None => io::read(file, &mut *data),
            Some(at) => io::pread(file, &mut *data, at),
        }?;
        Ok(format!("{read} bytes, {:016x}", digest(&data[..read])))
    }

    /// Only on regular files: on a directory the answer is each filesystem's own (ext4 gives hash positions).
    fn seek(&self, slot: Slot, to: SeekFrom) -> Outcome {
        let file = self.slot(slot)?;
        if FileType::from_raw_mode(fs::fstat(file)?.st_mode) != FileType::RegularFile {
            return Ok("not a regular file".to_owned());
        }
        fs::seek(file, to).map(|offset| offset.to_string())
    }

    /// Gives a name to an open file that may have none (O_TMPFILE).
    fn link_open(&self, slot: Slot, to: &Place) -> Result<(), Errno> {
        use std::os::fd::AsRawFd;
        let path = format!("/proc/thread-self/fd/{}", self.slot(slot)?.as_raw_fd());
        fs::linkat(fs::CWD, path, self.base(to)?, &*to.path, AtFlags::SYMLINK_FOLLOW)
    }

    fn readdir(&self, at: &Place) -> Outcome {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let directory = fs::openat(self.base(at)?, &*at.path, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&directory)? {
            let entry = entry?;
            names.push(format!("{} {:?}", entry.file_name().to_string_lossy(), entry.file_type()));
        }
        names.sort();
        Ok(names.join(", "))
    }
}

fn done(result: Result<(), Errno>) -> Outcome {
    result.map(|()| String::new())
}

fn truncate(path: &str, size: u64) -> Outcome {
    done(
        nix::unistd::truncate(path, i64::try_from(size).unwrap())
            .map_err(|error| Errno::from_raw_os_error(error as i32)),
    )
}

fn nofollow_unless(follow: bool) -> AtFlags {
    if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW }
}

fn acl_name(default: bool) -> &'static str {
    if default { "system.posix_acl_default" } else { "system.posix_acl_access" }
}

fn timestamps(atime: Time, mtime: Time) -> Timestamps {
    let spec = |time| match time {
        Time::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Time::Omit => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Time::At(seconds, nanoseconds) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    Timestamps { last_access: spec(atime), last_modification: spec(mtime) }
}
