//! The operations that `explain --op` knows: what each asks of whom.

use clap::ValueEnum;
use nix::unistd::AccessFlags;

use crate::policy::dac::Want;
use crate::policy::{FileKind, Operation, Permissions};

/// An operation, by the name of its system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Op {
    Look,
    Getattr,
    Read,
    Write,
    Open,
    Create,
    Mkdir,
    Mknod,
    Symlink,
    Link,
    Unlink,
    Rmdir,
    Rename,
    Chmod,
    Chown,
    Utimes,
    Truncate,
    Readdir,
    Getxattr,
    Setxattr,
}

impl Op {
    /// As whom it is done is decided by this.
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Look | Self::Getattr => Operation::Look,
            Self::Read | Self::Write | Self::Open | Self::Truncate | Self::Readdir | Self::Getxattr => {
                Operation::Open
            }
            Self::Create | Self::Mkdir | Self::Mknod | Self::Symlink | Self::Link => Operation::Create,
            Self::Unlink | Self::Rmdir | Self::Rename => Operation::Remove,
            Self::Chmod | Self::Chown | Self::Utimes | Self::Setxattr => Operation::Change,
        }
    }

    /// What it makes.
    pub(super) fn makes(self) -> Option<FileKind> {
        match self {
            Self::Create => Some(FileKind::Regular),
            Self::Mkdir => Some(FileKind::Directory),
            Self::Mknod => Some(FileKind::Fifo),
            Self::Symlink => Some(FileKind::Symlink),
            _ => None,
        }
    }

    /// The mode that a program usually asks for: touch(1), mkdir(1).
    pub(super) fn usual_mode(self) -> Permissions {
        Permissions::from_mode(match self {
            Self::Mkdir | Self::Symlink => 0o777,
            Self::Chmod => 0o644,
            _ => 0o666,
        })
    }

    /// Whether something changes that a read-only subtree protects.
    pub(super) fn changes(self) -> bool {
        !matches!(self, Self::Look | Self::Getattr | Self::Read | Self::Open | Self::Readdir | Self::Getxattr)
    }

    /// Whether it works on the directory that has the name, not on the object.
    pub(super) fn is_in_directory(self) -> bool {
        matches!(self.operation(), Operation::Create | Operation::Remove)
    }

    /// Whether a symlink with which the path ends is followed: by the system call of this name, without O_EXCL or
    /// AT_SYMLINK_NOFOLLOW. A look is that of lstat(2), a getattr that of stat(2).
    pub(super) fn follows(self) -> bool {
        match self {
            Self::Look | Self::Mkdir | Self::Mknod | Self::Symlink | Self::Link => false,
            _ => self.operation() != Operation::Remove,
        }
    }

    /// What the kernel wants of the object (of its directory, see [`Self::is_in_directory`]); none where having found
    /// it is enough.
    pub(super) fn want(self) -> Option<Want> {
        let access = |read, write, execute| Some(Want::Access { read, write, execute });
        match self {
            Self::Look | Self::Getattr => None,
            Self::Read | Self::Open | Self::Readdir | Self::Getxattr => access(true, false, false),
            Self::Write | Self::Truncate | Self::Setxattr => access(false, true, false),
            Self::Chmod | Self::Chown | Self::Utimes => Some(Want::OwnerOnly),
            _ => access(false, true, true),
        }
    }
}

/// The same for access(2); none for what only an owner may do.
pub(super) fn mask(want: Want) -> Option<AccessFlags> {
    let Want::Access { read, write, execute } = want else { return None };
    let mut mask = AccessFlags::empty();
    mask.set(AccessFlags::R_OK, read);
    mask.set(AccessFlags::W_OK, write);
    mask.set(AccessFlags::X_OK, execute);
    Some(mask)
}

/// For a sentence.
pub(super) fn name(want: Want) -> &'static str {
    match want {
        Want::OwnerOnly => "change (as its owner)",
        Want::Access { write: true, execute: true, .. } => "write in",
        Want::Access { write: true, .. } => "write",
        Want::Access { read: true, .. } => "read",
        Want::Access { .. } => "pass through",
    }
}
