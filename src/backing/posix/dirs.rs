//! Open directories: a stream of entries that can be entered at any cookie.
//!
//! A FUSE kernel asks again from the middle of what it was given whenever the reader's buffer was smaller than ours, so
//! the last batch is kept and searched before the filesystem is asked.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::unistd::{Whence, lseek};

use super::super::{MountIndex, RawEntry};
use super::Node;
use super::acting::{act_as_root, act_to_look};
use super::files::{fsync, reopen};
use super::mounts::unique_ino;
use crate::policy::{Credentials, FileKind};
use crate::sys::Errno;
use crate::sys::dirents::{Dirent, Dirents, getdents};

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    mount: MountIndex,
    /// Held across getdents64(2) and `each`: it guards this very descriptor's position in the directory, so only calls
    /// on the same handle wait for each other, and they must.
    stream: Mutex<Stream>,
}

/// How many bytes of entries are asked for at once.
const BATCH: usize = 32 * 1024;

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn open(who: &Credentials, node: &Node) -> Result<Dir, Errno> {
    act_to_look(who)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = reopen(node.as_fd(), flags)?;
    Ok(Dir { fd, mount: node.mount, stream: Mutex::default() })
}

/// EACCES for root is a server's that squashes root, and there is nothing to sync: a server has changed its directory when it
/// answers, and fsync(2) of a directory does nothing on NFS (nfs_fsync_dir, fs/nfs/dir.c).
pub(super) fn sync(node: &Node, data_only: bool) -> Result<(), Errno> {
    act_as_root()?;
    match reopen(node.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC) {
        Ok(dir) => fsync(dir.as_fd(), data_only),
        Err(Errno::EACCES) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Dir {
    /// Calls `each` for the entries of one batch, from `from` on. An entry on which `each` breaks off counts as not
    /// taken, but reading may go on before or after it.
    pub(super) fn read(
        &self,
        from: u64,
        each: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.go_to(&self.fd, from)?;
        if stream.batch_is_read() {
            stream.fill(&self.fd)?;
        }
        stream.deliver(|entry| {
            each(RawEntry {
                name: entry.name,
                ino: unique_ino(entry.ino, self.mount),
                kind: kind_of(entry.kind),
                next: entry.next,
            })
        })
    }
}

/// The last batch, and how far it has been read. The descriptor itself stands at the end of the batch.
#[derive(Debug, Default)]
struct Stream {
    /// Of [`BATCH`] bytes once something was read.
    buffer: Vec<u8>,
    filled: usize,
    /// The next entry to deliver begins here.
    at: usize,
    /// The cookie of that entry: where reading goes on.
    position: u64,
    /// The cookie of the batch's first entry.
    start: u64,
}

impl Stream {
    /// Makes `from` the place where reading goes on.
    fn go_to(&mut self, fd: &OwnedFd, from: u64) -> Result<(), Errno> {
        if from == self.position {
            return Ok(());
        }
        // 0 is rewinddir(3): a fresh look, not what was read before.
        if from != 0 && self.find_in_batch(from)? {
            return Ok(());
        }
        match seek(fd, from) {
            Ok(()) => self.stand_at(from),
            Err(Errno::EINVAL) => return self.read_forward(fd, from),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn batch_is_read(&self) -> bool {
        self.at == self.filled
    }

    /// The next batch; an empty one at the end of the directory.
    fn fill(&mut self, fd: &OwnedFd) -> Result<(), Errno> {
        self.stand_at(self.position);
        self.buffer.resize(BATCH, 0);
        self.filled = getdents(fd.as_fd(), &mut self.buffer)?;
        Ok(())
    }

    fn deliver(&mut self, mut each: impl FnMut(Dirent<'_>) -> ControlFlow<()>) -> Result<(), Errno> {
        let mut entries = Dirents::new(&self.buffer[self.at..self.filled]);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if each(entry).is_break() {
                break;
            }
            self.at = self.filled - entries.remaining();
            self.position = entry.next;
        }
        Ok(())
    }

    fn stand_at(&mut self, cookie: u64) {
        (self.filled, self.at) = (0, 0);
        (self.position, self.start) = (cookie, cookie);
    }

    /// Whether `from` is a place in the last batch; then reading goes on there. Of several places with one cookie the
    /// first is taken: an entry may come twice, but none is left out.
    fn find_in_batch(&mut self, from: u64) -> Result<bool, Errno> {
        if from == self.start && self.filled > 0 {
            (self.at, self.position) = (0, from);
            return Ok(true);
        }
        let mut entries = Dirents::new(&self.buffer[..self.filled]);
        while let Some(entry) = entries.next() {
            if entry?.next == from {
                (self.at, self.position) = (self.filled - entries.remaining(), from);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the filesystem cannot seek to a cookie (lseek(2) takes none beyond `i64::MAX`): from the beginning to the
    /// entry after which reading goes on. ESTALE where it is not there any more, rather than a listing without its rest.
    fn read_forward(&mut self, fd: &OwnedFd, from: u64) -> Result<(), Errno> {
        seek(fd, 0)?;
        self.stand_at(0);
        loop {
            self.fill(fd)?;
            if self.filled == 0 {
                return Err(Errno::ESTALE);
            }
            if self.find_in_batch(from)? {
                return Ok(());
            }
            self.position = last_cookie(&self.buffer[..self.filled])?;
        }
    }
}

fn last_cookie(batch: &[u8]) -> Result<u64, Errno> {
    Dirents::new(batch).last().map_or(Err(Errno::EIO), |entry| Ok(entry?.next))
}

fn seek(fd: &OwnedFd, cookie: u64) -> Result<(), Errno> {
    let cookie = libc::off_t::try_from(cookie).map_err(|_beyond| Errno::EINVAL)?;
    lseek(fd, cookie, Whence::SeekSet)?;
    Ok(())
}

fn kind_of(d_type: u8) -> Option<FileKind> {
    Some(match d_type {
        libc::DT_REG => FileKind::Regular,
        libc::DT_DIR => FileKind::Directory,
        libc::DT_LNK => FileKind::Symlink,
        libc::DT_FIFO => FileKind::Fifo,
        libc::DT_SOCK => FileKind::Socket,
        libc::DT_CHR => FileKind::CharDevice,
        libc::DT_BLK => FileKind::BlockDevice,
        _ => return None,
    })
}
