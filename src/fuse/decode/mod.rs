//! A request's bytes as a typed [`Request`] that borrows from them.
//!
//! The bytes come from the kernel, and are read as if they came from an enemy: every length is checked, nothing panics,
//! and what exists as a [`Request`] is valid. [`body`] decodes what follows the head, operation by operation.

mod body;
mod cursor;

use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};
use nix::unistd::{AccessFlags, Whence};
use std::ffi::CStr;
use std::num::NonZeroU64;

use zerocopy::FromBytes;

pub(crate) use body::Forgets;
use cursor::Cursor;

use super::opcode::Opcode;
use super::wire::{IN_HEADER, InHeader};
use crate::fs::{
    CallerId, Errno, FileHandleId, LockOwner, LockRequest, Name, NewNode, NodeId, Pid, RequestId, SetAttr,
    WriteHow,
};
use crate::policy::{Permissions, PodGid, PodUid};

/// What a request is answered with whose bytes make no sense. The kernel never sends one.
pub(crate) const MALFORMED: Errno = Errno::EIO;

/// What the two sides agreed on that changes how a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Dialect {
    /// FUSE_SETXATTR_EXT: setxattr's struct has four fields instead of two.
    pub(crate) setxattr_ext: bool,
}

/// The head that every request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// What is asked; none where this protocol version has no such request.
    pub(crate) opcode: Option<Opcode>,
    /// The request's number, for its answer.
    pub(crate) request: RequestId,
    /// The object it is about, where it is about one.
    pub(crate) node: Option<NodeId>,
    /// Who asks.
    pub(crate) caller: CallerId,
}

/// Bytes without even a head: there is nobody to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoHeader;

impl Header {
    /// Takes the head off a message. What is left is for [`decode`].
    pub(crate) fn split(message: &[u8]) -> Result<(Self, &[u8]), NoHeader> {
        let (head, body) = InHeader::read_from_prefix(message).map_err(|_| NoHeader)?;
        let length = usize::try_from(head.len).map_err(|_| NoHeader)?;
        // Extensions follow the body; none is asked for at INIT, and any would only be in the way here.
        let extensions = usize::from(head.total_extlen) * 8;
        let end = length.checked_sub(IN_HEADER + extensions).ok_or(NoHeader)?;
        let body = body.get(..end).filter(|_| length == message.len()).ok_or(NoHeader)?;
        let header = Self {
            opcode: Opcode::from_raw(head.opcode),
            request: RequestId(head.unique),
            node: NonZeroU64::new(head.nodeid).map(NodeId),
            caller: CallerId { uid: PodUid::new(head.uid), gid: PodGid::new(head.gid), pid: Pid(head.pid) },
        };
        Ok((header, body))
    }
}

/// A request, ready to be acted on. Those that change a directory name it `parent`.
#[derive(Debug, Clone)]
pub(crate) enum Request<'a> {
    Lookup {
        parent: NodeId,
        name: Name<'a>,
    },
    Forget {
        node: NodeId,
        lookups: u64,
    },
    BatchForget(Forgets<'a>),

    Getattr {
        node: NodeId,
        handle: Option<FileHandleId>,
    },
    Statx {
        node: NodeId,
        handle: Option<FileHandleId>,
    },
    Setattr {
        node: NodeId,
        change: SetAttr,
        /// A truncate by who cannot keep suid and sgid on what it changes.
        clears_set_ids: bool,
    },
    Access {
        node: NodeId,
        mask: AccessFlags,
    },
    Readlink {
        node: NodeId,
    },
    Statfs {
        node: NodeId,
    },

    Symlink {
        parent: NodeId,
        name: Name<'a>,
        target: &'a CStr,
    },
    Mknod {
        parent: NodeId,
        name: Name<'a>,
        new: NewNode,
    },
    Mkdir {
        parent: NodeId,
        name: Name<'a>,
        permissions: Permissions,
        umask: Permissions,
    },
    Link {
        node: NodeId,
        new_parent: NodeId,
        new_name: Name<'a>,
    },
    Unlink {
        parent: NodeId,
        name: Name<'a>,
    },
    Rmdir {
        parent: NodeId,
        name: Name<'a>,
    },
    Rename {
        parent: NodeId,
        name: Name<'a>,
        new_parent: NodeId,
        new_name: Name<'a>,
        flags: RenameFlags,
    },

    Open {
        node: NodeId,
        flags: OFlag,
        /// O_TRUNC for who cannot keep suid and sgid on what it changes.
        clears_set_ids: bool,
    },
    Create {
        parent: NodeId,
        name: Name<'a>,
        flags: OFlag,
        permissions: Permissions,
        umask: Permissions,
    },
    Tmpfile {
        parent: NodeId,
        flags: OFlag,
        permissions: Permissions,
        umask: Permissions,
    },
    Read {
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        size: usize,
    },
    Write {
        handle: FileHandleId,
        offset: u64,
        data: &'a [u8],
        how: WriteHow,
    },
    Flush {
        node: NodeId,
        handle: FileHandleId,
        owner: LockOwner,
    },
    Fsync {
        node: NodeId,
        handle: FileHandleId,
        data_only: bool,
    },
    Release {
        handle: FileHandleId,
    },
    Fallocate {
        handle: FileHandleId,
        flags: FallocateFlags,
        offset: u64,
        length: u64,
    },
    Lseek {
        node: NodeId,
        handle: FileHandleId,
        offset: u64,
        whence: Whence,
    },
    CopyFileRange(CopyRange),

    Opendir,
    Readdir {
        node: NodeId,
        from: u64,
        size: usize,
    },
    Readdirplus {
        node: NodeId,
        from: u64,
        size: usize,
    },
    Releasedir,
    Fsyncdir {
        node: NodeId,
        data_only: bool,
    },

    Getxattr {
        node: NodeId,
        name: &'a CStr,
        size: usize,
    },
    Listxattr {
        node: NodeId,
        size: usize,
    },
    Setxattr {
        node: NodeId,
        name: &'a CStr,
        value: &'a [u8],
        flags: i32,
        /// An ACL that takes setgid away, set by who is outside the group.
        clears_setgid: bool,
    },
    Removexattr {
        node: NodeId,
        name: &'a CStr,
    },

    Getlk {
        handle: FileHandleId,
        lock: LockRequest,
    },
    /// `waits`: F_SETLKW, or flock(2) without LOCK_NB.
    Setlk {
        handle: FileHandleId,
        lock: LockRequest,
        waits: bool,
    },
    Interrupt {
        request: RequestId,
    },

    Destroy,
}

impl Request<'_> {
    /// The second inode of those that name two, beside the head's.
    pub(crate) fn other_node(&self) -> Option<NodeId> {
        match self {
            Self::Rename { new_parent, .. } => Some(*new_parent),
            Self::Link { node, .. } => Some(*node),
            _ => None,
        }
    }
}

/// copy_file_range(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CopyRange {
    /// The file to read, and from where.
    pub(crate) from: FileHandleId,
    pub(crate) from_offset: u64,
    /// The file to write, and where.
    pub(crate) to: FileHandleId,
    pub(crate) to_offset: u64,
    /// Bytes.
    pub(crate) length: usize,
    /// FUSE_COPY_FILE_RANGE_64: the answer has 64 bits.
    pub(crate) wide: bool,
}

/// Makes a request of what follows the head.
///
/// # Errors
/// What to answer: ENOSYS for what permfs does not do; ENAMETOOLONG or EINVAL for a name that cannot exist; EINVAL for
/// flags that mean nothing; EOPNOTSUPP for a kind of fallocate(2) that does not exist; ENOTTY for any ioctl(2); EIO for
/// bytes that make no sense.
pub(crate) fn decode<'a>(header: &Header, body: &'a [u8], dialect: Dialect) -> Result<Request<'a>, Errno> {
    let opcode = header.opcode.ok_or(Errno::ENOSYS)?;
    let node = || header.node.ok_or(MALFORMED);
    let mut body = Cursor::new(body);
    match opcode {
        Opcode::Lookup => Ok(Request::Lookup { parent: node()?, name: body.name()? }),
        Opcode::Forget => body::forget(node()?, &mut body),
        Opcode::BatchForget => body::batch_forget(&mut body),

        Opcode::Getattr => body::getattr(node()?, &mut body),
        Opcode::Statx => body::statx(node()?, &mut body),
        Opcode::Setattr => body::setattr(node()?, &mut body),
        Opcode::Access => body::access(node()?, &mut body),
        Opcode::Readlink => Ok(Request::Readlink { node: node()? }),
        Opcode::Statfs => Ok(Request::Statfs { node: node()? }),

        Opcode::Symlink => {
            Ok(Request::Symlink { parent: node()?, name: body.name()?, target: body.c_str()? })
        }
        Opcode::Mknod => body::mknod(node()?, &mut body),
        Opcode::Mkdir => body::mkdir(node()?, &mut body),
        Opcode::Link => body::link(node()?, &mut body),
        Opcode::Unlink => Ok(Request::Unlink { parent: node()?, name: body.name()? }),
        Opcode::Rmdir => Ok(Request::Rmdir { parent: node()?, name: body.name()? }),
        Opcode::Rename => body::rename(node()?, &mut body),
        Opcode::Rename2 => body::rename2(node()?, &mut body),

        Opcode::Open => body::open(node()?, &mut body),
        Opcode::Create => body::create(node()?, &mut body),
        Opcode::Tmpfile => body::tmpfile(node()?, &mut body),
        Opcode::Read => body::read(node()?, &mut body),
        Opcode::Write => body::write(&mut body),
        Opcode::Flush => body::flush(node()?, &mut body),
        Opcode::Fsync => body::fsync(node()?, &mut body),
        Opcode::Release => body::release(&mut body),
        Opcode::Fallocate => body::fallocate(&mut body),
        Opcode::Lseek => body::lseek(node()?, &mut body),
        Opcode::CopyFileRange => body::copy_file_range(&mut body, false),
        Opcode::CopyFileRange64 => body::copy_file_range(&mut body, true),

        Opcode::Opendir => body::opendir(&mut body),
        Opcode::Readdir => body::readdir(node()?, &mut body),
        Opcode::Readdirplus => body::readdirplus(node()?, &mut body),
        Opcode::Releasedir => body::releasedir(&mut body),
        Opcode::Fsyncdir => body::fsyncdir(node()?, &mut body),

        Opcode::Getxattr => body::getxattr(node()?, &mut body),
        Opcode::Listxattr => body::listxattr(node()?, &mut body),
        Opcode::Setxattr => body::setxattr(node()?, &mut body, dialect),
        Opcode::Removexattr => Ok(Request::Removexattr { node: node()?, name: body.c_str()? }),

        Opcode::Getlk => body::getlk(&mut body),
        Opcode::Setlk => body::setlk(&mut body, false),
        Opcode::Setlkw => body::setlk(&mut body, true),
        Opcode::Interrupt => body::interrupt(&mut body),

        Opcode::Destroy => Ok(Request::Destroy),
        // ENOSYS would reach the application on some kernels, and ENOTTY is what one expects of a file system that
        // has no such ioctl (ioctl(2)).
        Opcode::Ioctl => Err(Errno::ENOTTY),
        // To these ENOSYS says: do as for any file (poll), or never ask again.
        Opcode::Poll
        | Opcode::Bmap
        | Opcode::Syncfs
        | Opcode::SetupMapping
        | Opcode::RemoveMapping
        | Opcode::NotifyReply => Err(Errno::ENOSYS),
        // The handshake is over.
        Opcode::Init => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests;
