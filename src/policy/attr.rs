//! Attributes of an object, typed by the side whose ids they carry.

use std::time::Duration;

use super::ids::{NfsGid, NfsUid, PodGid, PodUid};
use super::mode::{FileKind, Permissions};

/// Seconds and nanoseconds since the epoch; seconds are negative before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// The time since the epoch, where it is not before it.
    #[must_use]
    pub fn since_epoch(self) -> Option<Duration> {
        u64::try_from(self.seconds).ok().map(|s| Duration::new(s, self.nanoseconds))
    }
}

/// An object's attributes with the ids of one side: what statx(2) reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr<U, G> {
    /// The file's number, unique within the mount.
    pub ino: u64,
    /// Type of the object.
    pub kind: FileKind,
    /// The twelve permission bits.
    pub permissions: Permissions,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: U,
    /// Group.
    pub gid: G,
    /// Device number of a device node, as `makedev(3)` packs it; else 0.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub block_size: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of attributes.
    pub ctime: Timestamp,
    /// Birth, where the filesystem keeps it.
    pub btime: Option<Timestamp>,
}

/// Attributes as the export stores them.
pub type StoredAttr = Attr<NfsUid, NfsGid>;
/// Attributes as pods see them.
pub type ShownAttr = Attr<PodUid, PodGid>;

/// What of an object's stored attributes decides whom to act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Owner on the export.
    pub uid: NfsUid,
    /// Group on the export.
    pub gid: NfsGid,
    /// Whether the setgid bit is set (a directory that hands down its group).
    pub setgid: bool,
}

impl StoredAttr {
    /// Who owns the object.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid, setgid: self.permissions.contains(Permissions::SETGID) }
    }

    /// The same attributes under the other side's ids and shown permissions.
    #[must_use]
    pub fn shown_as<U, G>(&self, uid: U, gid: G, permissions: Permissions) -> Attr<U, G> {
        Attr {
            ino: self.ino,
            kind: self.kind,
            permissions,
            nlink: self.nlink,
            uid,
            gid,
            rdev: self.rdev,
            size: self.size,
            blocks: self.blocks,
            block_size: self.block_size,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
        }
    }
}
