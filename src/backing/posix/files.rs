//! Regular files: opening, making, and what is done through an open one.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FallocateFlags, OFlag, copy_file_range, openat};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::uio::pread;
use nix::unistd::{Whence, close, fdatasync, ftruncate, lseek};

use super::super::{Identified, ObjectId, SuidBits, WriteHow};
use super::acting::{act_as, act_as_root, act_to_look, make_as, mode_of};
use super::mounts::{MountTable, handle_of};
use super::resolve::identify_as;
use super::{File, Node, attr, offset};
use crate::policy::{Credentials, FileKind, NewMode, Permissions, StoredAttr, Timestamp};
use crate::sys::capabilities::{self, Capabilities};
use crate::sys::io::{self, WriteFlags};
use crate::sys::proc_fd::ProcFdPath;
use crate::sys::stat::statx;
use crate::sys::{Errno, Name};

/// What every descriptor of a file is opened with.
const ALWAYS: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NOCTTY);

pub(super) fn open(who: &Credentials, node: &Node, flags: OFlag) -> Result<File, Errno> {
    // Of these the /proc path knows nothing: it is a link, and exists.
    let flags = flags.difference(OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW) | ALWAYS;
    act_as(who)?;
    let fd = reopen(node.as_fd(), flags)?;
    Ok(File::new(fd, node.mount, flags))
}

/// Where a server refuses root as well, that is the answer.
pub(super) fn open_to_lock(who: &Credentials, node: &Node, flags: OFlag) -> Result<File, Errno> {
    match open(who, node, flags) {
        Err(refused @ (Errno::EACCES | Errno::EPERM)) => {
            act_as_root()?;
            let fd = reopen(node.as_fd(), flags | ALWAYS).map_err(|_also| refused)?;
            Ok(File::new(fd, node.mount, flags))
        }
        opened => opened,
    }
}

/// The name may have gone to something else meanwhile, so this neither waits at a FIFO nor follows a symlink, changes
/// nothing, and looks at what was opened.
pub(super) fn open_name(
    mounts: &MountTable,
    who: &Credentials,
    parent: &Node,
    name: Name<'_>,
    id: &ObjectId,
    flags: OFlag,
    only_its: Option<Timestamp>,
) -> Result<(File, StoredAttr), Errno> {
    const CHANGING: OFlag = OFlag::O_CREAT.union(OFlag::O_EXCL).union(OFlag::O_TRUNC);
    let flags = flags.difference(CHANGING) | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | ALWAYS;
    act_to_look(who)?;
    let fd =
        openat(parent, name.as_c_str(), flags, Mode::empty()).map_err(|error| match Errno::from(error) {
            // Nothing is there, or something else than a file: a symlink, a directory, a socket or FIFO.
            Errno::ENOENT | Errno::ELOOP | Errno::EISDIR | Errno::ENXIO => Errno::ESTALE,
            error => error,
        })?;
    let stat = statx(fd.as_fd(), true)?;
    let has_its_number = stat.ino() == id.ino && mounts.is(id.mount, &stat);
    let attr = attr::stored(&stat, id.mount)?;
    // What has no handle is held for as long as it is known, and its number with it.
    let is_it = has_its_number
        && (id.handle.is_none() || only_its == Some(attr.ctime) || handle_of(fd.as_fd())? == id.handle);
    if !is_it {
        return Err(Errno::ESTALE);
    }
    Ok((File::new(fd, id.mount, flags), attr))
}

/// What `fd` refers to, opened anew.
pub(super) fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd, Errno> {
    ProcFdPath::new(fd).with_at(|dir, path| Ok(openat(dir, path, flags, Mode::empty())?))
}

/// Not O_EXCL, unless asked for: it costs an RPC on NFSv3, and another client may have made the file meanwhile.
pub(super) fn create(
    mounts: &MountTable,
    who: &Credentials,
    parent: &Node,
    name: Name<'_>,
    flags: OFlag,
    mode: NewMode,
) -> Result<(File, Identified<Node>), Errno> {
    let mode = make_as(who, mode)?;
    // Where a FIFO or a symlink has taken the name, this neither waits nor follows, and the kernel is sent to look again.
    let careful = flags | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | ALWAYS;
    let fd = openat(parent, name.as_c_str(), careful, mode).map_err(|error| match Errno::from(error) {
        Errno::EAGAIN | Errno::ENXIO | Errno::ELOOP => Errno::ESTALE,
        error => error,
    })?;
    let stat = statx(fd.as_fd(), true)?;
    if FileKind::from_mode(stat.mode()) != Some(FileKind::Regular) {
        return Err(Errno::ESTALE);
    }
    // O_NONBLOCK stays: to a regular file it means nothing.
    // Not necessarily the parent's: the name may be a mount point by now.
    let mount = mounts.place(who, fd.as_fd(), &stat)?.mount;
    let file = File::new(fd, mount, flags);
    let made = identify_as(mounts, &file, &stat)?;
    Ok((file, made))
}

pub(super) fn tmpfile(who: &Credentials, parent: &Node, flags: OFlag, mode: NewMode) -> Result<File, Errno> {
    let mode = make_as(who, mode)?;
    let flags = flags.difference(OFlag::O_CREAT) | OFlag::O_TMPFILE | ALWAYS;
    let fd = openat(parent, c".", flags, mode)?;
    Ok(File::new(fd, parent.mount, flags))
}

/// What passes the page cache by (O_DIRECT) does so by memory of this process: whoever waits for the server may be killed, and
/// the call goes on without them, from or into that very memory. `buffer` is another worker's by then, who may have another
/// request in it.
pub(super) fn read(file: &File, buffer: &mut [u8], from: u64) -> Result<usize, Errno> {
    if !file.direct {
        return fill(file, buffer, from);
    }
    let mut own = vec![0; buffer.len()];
    let length = fill(file, &mut own, from)?;
    buffer[..length].copy_from_slice(&own[..length]);
    Ok(length)
}

/// Goes on after a short read, since the kernel takes one for the end of the file and fills up with zeros.
fn fill(file: &File, buffer: &mut [u8], from: u64) -> Result<usize, Errno> {
    let start = offset(from)?;
    let mut done = 0;
    while done < buffer.len() {
        let at =
            libc::off_t::try_from(done).ok().and_then(|done| start.checked_add(done)).ok_or(Errno::EINVAL)?;
        match pread(file, &mut buffer[done..], at)? {
            0 => break,
            more => done += more,
        }
    }
    Ok(done)
}

/// The local kernel looks at the writing thread, not at the opener, to decide whether suid and sgid go. As for O_DIRECT, see
/// [`read`].
pub(super) fn write(
    who: &Credentials,
    file: &File,
    data: &[u8],
    at: u64,
    how: WriteHow,
) -> Result<usize, Errno> {
    let at = offset(at)?;
    let data = if file.direct { Cow::Owned(data.to_vec()) } else { Cow::Borrowed(data) };
    act_as(who)?;
    let flags = WriteFlags { append: how.append, data_sync: how.data_sync, sync: how.sync };
    let put = || io::pwrite(file.as_fd(), &data, at, flags);
    match how.suid {
        SuidBits::AsOpener => put(),
        SuidBits::Clear => capabilities::lowered(Capabilities::FSETID, put)?,
        SuidBits::Keep => capabilities::raised(Capabilities::FSETID, put)?,
    }
}

/// Closing any descriptor of a file that may be written makes NFS write back and report. Closing another one does no
/// harm: the locks here belong to the open file (OFD, flock), not to the process.
pub(super) fn flush(file: &File) -> Result<(), Errno> {
    if file.writable {
        close(file.fd.try_clone()?)?;
    }
    Ok(())
}

pub(super) fn fsync(fd: BorrowedFd<'_>, data_only: bool) -> Result<(), Errno> {
    let synced = if data_only { fdatasync(fd) } else { nix::unistd::fsync(fd) };
    synced.map_err(Errno::from)
}

pub(super) fn chmod(who: &Credentials, file: &File, permissions: Permissions) -> Result<(), Errno> {
    act_as(who)?;
    Ok(fchmod(file, mode_of(permissions))?)
}

pub(super) fn truncate(file: &File, size: u64) -> Result<(), Errno> {
    Ok(ftruncate(file, offset(size)?)?)
}

pub(super) fn fallocate(file: &File, flags: FallocateFlags, at: u64, length: u64) -> Result<(), Errno> {
    Ok(nix::fcntl::fallocate(file, flags, offset(at)?, offset(length)?)?)
}

/// The descriptor's own position, which this moves, is used by nobody.
pub(super) fn seek(file: &File, from: u64, whence: Whence) -> Result<u64, Errno> {
    u64::try_from(lseek(file, offset(from)?, whence)?).map_err(|_negative| Errno::EOVERFLOW)
}

pub(super) fn copy_range(
    (from, from_offset): (&File, u64),
    (to, to_offset): (&File, u64),
    length: usize,
) -> Result<usize, Errno> {
    let (mut from_offset, mut to_offset) = (offset(from_offset)?, offset(to_offset)?);
    Ok(copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), length)?)
}
