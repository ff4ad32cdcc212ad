//! Modes: the twelve permission bits, the kinds of object, and what a policy makes of a requested mode.

use std::fmt;

/// The twelve permission bits: suid, setgid, sticky and rwx for owner, group and others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Permissions(u16);

impl Permissions {
    /// No bit.
    pub const NONE: Self = Self(0);
    /// All twelve.
    pub const ALL: Self = Self(0o7777);
    /// S_ISUID.
    pub const SETUID: Self = Self(0o4000);
    /// S_ISGID.
    pub const SETGID: Self = Self(0o2000);
    /// S_ISVTX.
    pub const STICKY: Self = Self(0o1000);
    /// The group may read and write.
    pub const GROUP_RW: Self = Self(0o060);
    /// The group may read, write and search.
    pub const GROUP_RWX: Self = Self(0o070);

    /// The twelve permission bits of `mode`; whatever else is set in it is dropped.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Self {
        // The mask leaves twelve bits, so nothing is lost.
        Self((mode & 0o7777) as u16)
    }

    /// The bits, for a system call.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// These bits and `other`'s.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits without `other`'s.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other`'s bits are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({:04o})", self.0)
    }
}

/// What kind of object a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    /// The kind in the S_IFMT bits of `mode`; none where they name no kind.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            _ => return None,
        })
    }

    /// The S_IFMT bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
        }
    }
}

/// The mode and umask under which a new object is made: the backing's kernel combines them, so that a default ACL
/// keeps its precedence over the umask (see umask(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewMode {
    /// The mode to ask for.
    pub permissions: Permissions,
    /// The umask to ask under.
    pub umask: Permissions,
    /// Whether a directory must be setgid afterwards. mkdir(2) ignores the bit, so where the parent does not hand it
    /// down it takes a chmod of the new directory, as its maker.
    pub setgid: bool,
}
