//! The file system's words as the protocol's structs.

use std::time::Duration;

use nix::sys::stat::{major, minor};
use zerocopy::FromZeros;

use super::wire;
use crate::fs::{Attributes, Content, Entry, HeldLock, LockKind, Opened, StatFs};
use crate::policy::{ShownAttr, Timestamp};

/// STATX_BASIC_STATS and STATX_BTIME (linux/stat.h): which fields of a [`wire::Statx`] mean something.
const STATX_BASIC_STATS: u32 = 0x07ff;
const STATX_BTIME: u32 = 0x0800;

pub(crate) fn entry(entry: &Entry) -> wire::EntryOut {
    wire::EntryOut {
        nodeid: entry.node.0.get(),
        // Node ids are never used twice, so there is nothing for a generation to tell apart.
        generation: 0,
        entry_valid: entry.entry_valid.as_secs(),
        attr_valid: entry.attr_valid.as_secs(),
        entry_valid_nsec: entry.entry_valid.subsec_nanos(),
        attr_valid_nsec: entry.attr_valid.subsec_nanos(),
        attr: attr(&entry.attr),
    }
}

/// There is no such name, and the kernel may remember that for `valid`.
pub(crate) fn negative_entry(valid: Duration) -> wire::EntryOut {
    wire::EntryOut {
        entry_valid: valid.as_secs(),
        entry_valid_nsec: valid.subsec_nanos(),
        ..wire::EntryOut::new_zeroed()
    }
}

pub(crate) fn attributes(attributes: &Attributes) -> wire::AttrOut {
    wire::AttrOut {
        attr_valid: attributes.valid.as_secs(),
        attr_valid_nsec: attributes.valid.subsec_nanos(),
        dummy: 0,
        attr: attr(&attributes.attr),
    }
}

pub(crate) fn attr(attr: &ShownAttr) -> wire::Attr {
    wire::Attr {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        // Times before 1970 travel as the two's complement.
        atime: attr.atime.seconds.cast_unsigned(),
        mtime: attr.mtime.seconds.cast_unsigned(),
        ctime: attr.ctime.seconds.cast_unsigned(),
        atimensec: attr.atime.nanoseconds,
        mtimensec: attr.mtime.nanoseconds,
        ctimensec: attr.ctime.nanoseconds,
        mode: attr.kind.bits() | attr.permissions.bits(),
        nlink: attr.nlink,
        uid: attr.uid.get(),
        gid: attr.gid.get(),
        rdev: device_number(attr.rdev),
        blksize: attr.block_size,
        flags: 0,
    }
}

pub(crate) fn statx(attributes: &Attributes) -> wire::StatxOut {
    let attr = &attributes.attr;
    let stat = wire::Statx {
        mask: STATX_BASIC_STATS | if attr.btime.is_some() { STATX_BTIME } else { 0 },
        blksize: attr.block_size,
        nlink: attr.nlink,
        uid: attr.uid.get(),
        gid: attr.gid.get(),
        mode: u16::try_from(attr.kind.bits() | attr.permissions.bits()).expect("a mode has sixteen bits"),
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        btime: time(attr.btime.unwrap_or_default()),
        ctime: time(attr.ctime),
        mtime: time(attr.mtime),
        rdev_major: saturate(major(attr.rdev)),
        rdev_minor: saturate(minor(attr.rdev)),
        ..wire::Statx::new_zeroed()
    };
    wire::StatxOut {
        attr_valid: attributes.valid.as_secs(),
        attr_valid_nsec: attributes.valid.subsec_nanos(),
        flags: 0,
        spare: [0; 2],
        stat,
    }
}

fn time(time: Timestamp) -> wire::SxTime {
    wire::SxTime { tv_sec: time.seconds, tv_nsec: time.nanoseconds, __reserved: 0 }
}

/// makedev(3)'s 64 bits as the kernel's 32 (new_encode_dev: twelve for the major number, twenty for the minor one).
fn device_number(device: u64) -> u32 {
    let (major, minor) = (saturate(major(device)), saturate(minor(device)));
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)
}

pub(crate) fn opened_file(opened: &Opened) -> wire::OpenOut {
    let open_flags = match opened.content {
        Content::Revalidated => 0,
        Content::Kept => wire::FOPEN_KEEP_CACHE,
        Content::Direct => wire::FOPEN_DIRECT_IO,
        Content::Passthrough(_) => wire::FOPEN_PASSTHROUGH,
        Content::Beside(_) => wire::FOPEN_PASSTHROUGH | wire::FOPEN_DIRECT_IO,
    };
    let silent = if opened.silent { wire::FOPEN_NOFLUSH } else { 0 };
    let backing_id = opened.content.backing().map_or(0, |id| id.0);
    wire::OpenOut { fh: opened.handle.0, open_flags: open_flags | silent, backing_id }
}

pub(crate) fn statfs(stat: &StatFs) -> wire::KStatFs {
    wire::KStatFs {
        blocks: stat.blocks,
        bfree: stat.blocks_free,
        bavail: stat.blocks_available,
        files: stat.files,
        ffree: stat.files_free,
        bsize: stat.block_size,
        namelen: stat.name_max,
        frsize: stat.fragment_size,
        padding: 0,
        spare: [0; 6],
    }
}

/// The lock in the way, or F_UNLCK where there is none.
pub(crate) fn lock(held: Option<&HeldLock>) -> wire::LkOut {
    let none = wire::FileLock { start: 0, end: 0, r#type: number(libc::F_UNLCK), pid: 0 };
    let lk = held.map_or(none, |held| wire::FileLock {
        start: held.range.start,
        end: held.range.end,
        r#type: number(match held.kind {
            LockKind::Shared => libc::F_RDLCK,
            LockKind::Exclusive => libc::F_WRLCK,
            LockKind::Unlock => libc::F_UNLCK,
        }),
        pid: held.pid.0,
    });
    wire::LkOut { lk }
}

fn number(lock_type: libc::c_int) -> u32 {
    u32::try_from(lock_type).expect("F_RDLCK, F_WRLCK and F_UNLCK are 0, 1 and 2")
}

/// A count that the protocol has only 32 bits for.
pub(crate) fn saturate<N>(count: N) -> u32
where
    u32: TryFrom<N>,
{
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::makedev;

    use super::*;
    use crate::fs::{BackingId, ByteRange, FileHandleId, NodeId, Pid};
    use crate::policy::{FileKind, Permissions, PodGid, PodUid};

    fn some_attr() -> ShownAttr {
        ShownAttr {
            ino: 7,
            kind: FileKind::CharDevice,
            permissions: Permissions::from_mode(0o6751),
            nlink: 2,
            uid: PodUid::new(50000).unwrap(),
            gid: PodGid::ROOT,
            rdev: makedev(0xabc, 0x12345),
            size: 9,
            blocks: 8,
            block_size: 4096,
            atime: Timestamp { seconds: -1, nanoseconds: 999_999_999 },
            mtime: Timestamp { seconds: 1 << 40, nanoseconds: 1 },
            ctime: Timestamp::default(),
            btime: None,
        }
    }

    #[test]
    fn attributes_keep_every_number_whatever_its_sign_and_size() {
        let ours = attr(&some_attr());
        assert_eq!(ours.mode, 0o026_751);
        assert_eq!((ours.atime, ours.atimensec), (u64::MAX, 999_999_999));
        assert_eq!((ours.uid, ours.gid, ours.nlink, ours.ino), (50000, 0, 2, 7));
        assert_eq!(ours.rdev, 0x12_3a_bc_45);
    }

    #[test]
    fn statx_says_whether_there_is_a_time_of_birth() {
        let valid = Duration::from_millis(1500);
        let without = statx(&Attributes { attr: some_attr(), valid });
        assert_eq!(without.stat.mask & STATX_BTIME, 0);
        assert_eq!((without.attr_valid, without.attr_valid_nsec), (1, 500_000_000));
        assert_eq!((without.stat.rdev_major, without.stat.rdev_minor), (0xabc, 0x12345));
        let born = Timestamp { seconds: 3, nanoseconds: 4 };
        let with = statx(&Attributes { attr: ShownAttr { btime: Some(born), ..some_attr() }, valid });
        assert_eq!(with.stat.mask, STATX_BASIC_STATS | STATX_BTIME);
        assert_eq!((with.stat.btime.tv_sec, with.stat.btime.tv_nsec), (3, 4));
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_entry_without_a_node() {
        let none = negative_entry(Duration::new(2, 5));
        assert_eq!((none.nodeid, none.entry_valid, none.entry_valid_nsec), (0, 2, 5));
        let some = entry(&Entry {
            node: NodeId::ROOT,
            attr: some_attr(),
            entry_valid: Duration::from_secs(1),
            attr_valid: Duration::ZERO,
        });
        assert_eq!((some.nodeid, some.generation, some.entry_valid, some.attr_valid), (1, 0, 1, 0));
    }

    #[test]
    fn no_lock_in_the_way_is_an_unlock() {
        assert_eq!(lock(None).lk.r#type, 2);
        let range = ByteRange { start: 1, end: 9 };
        let held = lock(Some(&HeldLock { kind: LockKind::Exclusive, range, pid: Pid(77) })).lk;
        assert_eq!((held.r#type, held.start, held.end, held.pid), (1, 1, 9, 77));
    }

    #[test]
    fn content_is_cached_as_the_file_system_says() {
        let opened = |content| Opened { handle: FileHandleId(5), content, silent: false };
        assert_eq!(opened_file(&opened(Content::Revalidated)).open_flags, 0);
        assert_eq!(opened_file(&opened(Content::Kept)).open_flags, 2);
        assert_eq!(opened_file(&opened(Content::Direct)).open_flags, 1);
        let passed = opened_file(&Opened { silent: true, ..opened(Content::Passthrough(BackingId(9))) });
        assert_eq!((passed.open_flags, passed.backing_id), (1 << 7 | 1 << 5, 9));
    }
}
