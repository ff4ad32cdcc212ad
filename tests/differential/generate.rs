//! How proptest makes sequences up.
//!
//! Few names and few slots on purpose, so that steps meet: most bugs need two of them on one object.

use proptest::prelude::*;
use proptest::sample::select;

use super::operation::{Acl, Actor, Flags, Lock, Operation, Place, SLOTS, Slot, Step, Target, Time, Whence};

/// Sequences of up to `longest` steps.
pub fn sequences(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..=longest).prop_map(without_seeks_behind_an_allocation)
}

/// Whether what was allocated and not written is a hole, ext4 says by what it has of it in memory (lseek(2)): as many pages as
/// were read ahead, which is more than was asked for, and not the same on both sides.
fn without_seeks_behind_an_allocation(mut steps: Vec<Step>) -> Vec<Step> {
    const PUNCH_HOLE: u32 = 2;
    let mut allocated = false;
    steps.retain(|step| {
        allocated |= matches!(step.what, Operation::Fallocate { mode, .. } if mode & PUNCH_HOLE == 0);
        !allocated || !matches!(step.what, Operation::SeekData { .. } | Operation::SeekHole { .. })
    });
    steps
}

fn step() -> impl Strategy<Value = Step> {
    let who = prop_oneof![
        6 => Just(Actor::Root),
        10 => Just(Actor::User),
        4 => Just(Actor::Colleague),
        3 => Just(Actor::Powerless),
    ];
    (who, operation()).prop_map(|(who, what)| {
        // Root without CAP_SYS_ADMIN is shown too much (README, "What a pod can tell").
        let lists = matches!(what, Operation::ListXattr { .. } | Operation::ListXattrHeld { .. });
        Step { who: if lists && who == Actor::Powerless { Actor::Root } else { who }, what }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        30 => content(),
        30 => names(),
        25 => attributes(),
        10 => extended(),
        25 => held(),
    ]
}

fn content() -> BoxedStrategy<Operation> {
    prop_oneof![
        9 => (slot(), place(), flags(), mode()).prop_map(|(slot, at, flags, mode)| Operation::Open { slot, at, flags, mode }),
        2 => slot().prop_map(|slot| Operation::Close { slot }),
        6 => (slot(), proptest::option::of(near()), length(), any::<u8>())
            .prop_map(|(slot, offset, length, byte)| Operation::Write { slot, offset, length, byte }),
        4 => (slot(), proptest::option::of(offset()), length())
            .prop_map(|(slot, offset, length)| Operation::Read { slot, offset, length }),
        2 => (place(), offset()).prop_map(|(at, size)| Operation::Truncate { at, size }),
        2 => (slot(), offset()).prop_map(|(slot, size)| Operation::Ftruncate { slot, size }),
        2 => (slot(), select(vec![0, 1, 3, 0x10, 0x11]), near(), 0_u64..100_000)
            .prop_map(|(slot, mode, offset, length)| Operation::Fallocate { slot, mode, offset, length }),
        1 => (slot(), offset()).prop_map(|(slot, offset)| Operation::SeekData { slot, offset }),
        1 => (slot(), offset()).prop_map(|(slot, offset)| Operation::SeekHole { slot, offset }),
        2 => (slot(), near(), slot(), near(), length()).prop_map(|(from, from_offset, to, to_offset, length)| {
            Operation::CopyRange { from, from_offset, to, to_offset, length }
        }),
        1 => slot().prop_map(|slot| Operation::Fsync { slot }),
    ]
    .boxed()
}

fn names() -> BoxedStrategy<Operation> {
    prop_oneof![
        5 => (place(), mode()).prop_map(|(at, mode)| Operation::Mkdir { at, mode }),
        3 => (place(), select(vec![0, 0o100_000, 0o010_000, 0o140_000, 0o020_000, 0o060_000]), mode())
            .prop_map(|(at, kind, mode)| Operation::Mknod { at, kind, mode }),
        3 => (place(), any_target()).prop_map(|(at, target)| Operation::Symlink { at, target }),
        4 => (place(), place(), any::<bool>()).prop_map(|(from, to, follow)| Operation::Link { from, to, follow }),
        1 => (slot(), place()).prop_map(|(slot, to)| Operation::LinkOpen { slot, to }),
        6 => (place(), place(), prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(2), 1 => Just(3)])
            .prop_map(|(from, to, flags)| Operation::Rename { from, to, flags }),
        4 => place().prop_map(|at| Operation::Unlink { at }),
        3 => place().prop_map(|at| Operation::Rmdir { at }),
        1 => place().prop_map(|at| Operation::Readlink { at }),
        3 => place().prop_map(|at| Operation::Readdir { at }),
    ]
    .boxed()
}

/// Not nobody to nobody: FUSE has the same request for that and for a write that clears suid, which must not fail where
/// a chown would (EPERM for whoever is not the owner of a suid file).
fn owners() -> impl Strategy<Value = (Option<u32>, Option<u32>)> {
    (id(), id()).prop_filter("names somebody", |(uid, gid)| uid.is_some() || gid.is_some())
}

fn attributes() -> BoxedStrategy<Operation> {
    prop_oneof![
        5 => (place(), any::<bool>()).prop_map(|(at, follow)| Operation::Stat { at, follow }),
        3 => slot().prop_map(|slot| Operation::Fstat { slot }),
        2 => (place(), 0_u32..8, any::<bool>())
            .prop_map(|(at, mask, effective)| Operation::Access { at, mask, effective }),
        4 => (place(), mode()).prop_map(|(at, mode)| Operation::Chmod { at, mode }),
        2 => (slot(), mode()).prop_map(|(slot, mode)| Operation::Fchmod { slot, mode }),
        4 => (place(), owners(), any::<bool>())
            .prop_map(|(at, (uid, gid), follow)| Operation::Chown { at, uid, gid, follow }),
        2 => (slot(), owners()).prop_map(|(slot, (uid, gid))| Operation::Fchown { slot, uid, gid }),
        4 => (place(), time(), time(), any::<bool>())
            .prop_map(|(at, atime, mtime, follow)| Operation::Utimens { at, atime, mtime, follow }),
        2 => (slot(), time(), time()).prop_map(|(slot, atime, mtime)| Operation::Futimens { slot, atime, mtime }),
        1 => select(vec![0, 0o002, 0o022, 0o027, 0o077, 0o777]).prop_map(|mask| Operation::Umask { mask }),
    ]
    .boxed()
}

fn extended() -> BoxedStrategy<Operation> {
    let name = || select(vec!["user.a", "user.b", "trusted.t", "security.s"]);
    prop_oneof![
        3 => (place(), name(), select(vec![0, 1, 40, 3000]), select(vec![0, 1, 2]), any::<bool>()).prop_map(
            |(at, name, length, flags, follow)| Operation::SetXattr { at, name, length, flags, follow }
        ),
        2 => (place(), name(), select(vec![0, 1, 64, 4096]), any::<bool>())
            .prop_map(|(at, name, room, follow)| Operation::GetXattr { at, name, room, follow }),
        2 => (place(), any::<bool>()).prop_map(|(at, follow)| Operation::ListXattr { at, follow }),
        1 => (place(), name(), any::<bool>())
            .prop_map(|(at, name, follow)| Operation::RemoveXattr { at, name, follow }),
        2 => (place(), any::<bool>(), acl()).prop_map(|(at, default, acl)| Operation::SetAcl { at, default, acl }),
        1 => (place(), any::<bool>()).prop_map(|(at, default)| Operation::GetAcl { at, default }),
    ]
    .boxed()
}

/// Through what is open.
fn held() -> BoxedStrategy<Operation> {
    let name = || select(vec!["user.a", "user.b", "trusted.t", "system.posix_acl_access"]);
    let lock = || select(vec![Lock::Shared, Lock::Exclusive, Lock::None]);
    prop_oneof![
        2 => (slot(), slot()).prop_map(|(from, to)| Operation::Duplicate { from, to }),
        3 => (slot(), slot(), flags()).prop_map(|(from, to, flags)| Operation::OpenAgain { from, to, flags }),
        3 => (slot(), place(), flags(), select(vec![0, 0x01, 0x02, 0x04, 0x08, 0x10]))
            .prop_map(|(slot, at, flags, resolve)| Operation::OpenWithin { slot, at, flags, resolve }),
        1 => (slot(), any::<bool>()).prop_map(|(slot, on)| Operation::SetAppend { slot, on }),
        2 => (slot(), select(vec![Whence::Start, Whence::Here, Whence::End]), -10_000_i64..100_000)
            .prop_map(|(slot, from, by)| Operation::Seek { slot, from, by }),
        3 => slot().prop_map(|slot| Operation::List { slot }),
        2 => (place(), 0_u64..5, 1_usize..5).prop_map(|(at, page, pages)| Operation::ReadDirect { at, page, pages }),
        2 => (place(), 0_u64..5, 1_usize..5, any::<u8>())
            .prop_map(|(at, page, pages, byte)| Operation::WriteDirect { at, page, pages, byte }),
        2 => (slot(), slot(), proptest::option::of(near()), length())
            .prop_map(|(from, to, offset, length)| Operation::SendFile { from, to, offset, length }),
        // RWF_DSYNC, RWF_SYNC, RWF_APPEND. RWF_NOAPPEND: see the README, "What a pod can tell".
        2 => (slot(), near(), length(), select(vec![0, 2, 4, 0x10]))
            .prop_map(|(slot, offset, length, flags)| Operation::WriteWith { slot, offset, length, flags }),
        3 => (slot(), near(), length())
            .prop_map(|(slot, offset, length)| Operation::ReadMapped { slot, offset, length }),
        3 => (slot(), near(), length(), any::<u8>())
            .prop_map(|(slot, offset, length, byte)| Operation::WriteMapped { slot, offset, length, byte }),
        3 => (slot(), lock()).prop_map(|(slot, lock)| Operation::Flock { slot, lock }),
        3 => (slot(), lock(), 0_u64..4, 0_u64..4)
            .prop_map(|(slot, lock, start, length)| Operation::LockRange { slot, lock, start, length }),
        2 => (slot(), lock(), 0_u64..4, 0_u64..4)
            .prop_map(|(slot, lock, start, length)| Operation::TestRange { slot, lock, start, length }),
        1 => (slot(), place()).prop_map(|(slot, to)| Operation::LinkHeld { slot, to }),
        2 => (slot(), owners()).prop_map(|(slot, (uid, gid))| Operation::ChownHeld { slot, uid, gid }),
        2 => (slot(), mode()).prop_map(|(slot, mode)| Operation::ChmodHeld { slot, mode }),
        2 => (slot(), time(), time()).prop_map(|(slot, atime, mtime)| Operation::TimesHeld { slot, atime, mtime }),
        2 => (slot(), name(), select(vec![0, 1, 40, 3000]), select(vec![0, 1, 2]))
            .prop_map(|(slot, name, length, flags)| Operation::SetXattrHeld { slot, name, length, flags }),
        1 => (slot(), name(), select(vec![0, 1, 64, 4096]))
            .prop_map(|(slot, name, room)| Operation::GetXattrHeld { slot, name, room }),
        1 => slot().prop_map(|slot| Operation::ListXattrHeld { slot }),
        1 => (slot(), name()).prop_map(|(slot, name)| Operation::RemoveXattrHeld { slot, name }),
    ]
    .boxed()
}

fn slot() -> impl Strategy<Value = Slot> {
    0..SLOTS
}

/// Mostly a name that other steps use too; now and then one at or over the limit.
fn component() -> BoxedStrategy<String> {
    prop_oneof![
        40 => select(vec!["a", "b", "c", "d", "dir"]).prop_map(str::to_owned),
        1 => Just("x".repeat(255)),
        1 => Just("x".repeat(256)),
        1 => Just(".".to_owned()),
    ]
    .boxed()
}

/// One to three components; `..` only after a name, so that nothing leaves the case's directory.
fn path() -> BoxedStrategy<String> {
    prop_oneof![
        12 => component(),
        8 => (component(), component()).prop_map(|(first, second)| format!("{first}/{second}")),
        2 => (component(), component(), component()).prop_map(|(a, b, c)| format!("{a}/{b}/{c}")),
        1 => (component(), component()).prop_map(|(a, b)| format!("{a}/../{b}")),
        1 => component().prop_map(|name| format!("{name}/")),
        1 => component().prop_map(|name| format!("{name}/..")),
    ]
    .boxed()
}

fn place() -> BoxedStrategy<Place> {
    let from = prop_oneof![6 => Just(None), 1 => slot().prop_map(Some)];
    (from, path()).prop_map(|(from, path)| Place { from, path }).boxed()
}

fn any_target() -> BoxedStrategy<Target> {
    prop_oneof![6 => path(), 1 => component().prop_map(|name| format!("../{name}")), 1 => Just("t".repeat(4000))].prop_map(Target).boxed()
}

fn flags() -> impl Strategy<Value = Flags> {
    let access = select(vec![libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR]);
    let create = prop_oneof![
        3 => Just(0),
        4 => Just(libc::O_CREAT),
        2 => Just(libc::O_CREAT | libc::O_EXCL),
        1 => Just(libc::O_TMPFILE),
        1 => Just(libc::O_TMPFILE | libc::O_EXCL),
        1 => Just(libc::O_DIRECTORY),
        1 => Just(libc::O_PATH),
    ];
    let rest = prop_oneof![
        4 => Just(0),
        1 => Just(libc::O_TRUNC),
        2 => Just(libc::O_APPEND),
        1 => Just(libc::O_NOFOLLOW),
        1 => Just(libc::O_NOATIME),
        1 => Just(libc::O_DSYNC),
        1 => Just(libc::O_TRUNC | libc::O_APPEND),
    ];
    // O_NONBLOCK: the open of a fifo without a peer must not wait.
    (access, create, rest).prop_map(|(access, create, rest)| {
        Flags(u32::try_from(access | create | rest | libc::O_NONBLOCK).unwrap())
    })
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => select(vec![0o644, 0o755, 0o777, 0o600, 0o660, 0o700]),
        3 => 0_u32..0o10000,
        1 => select(vec![0o4755, 0o2755, 0o6777, 0o2644, 0o1777, 0]),
    ]
}

fn id() -> impl Strategy<Value = Option<u32>> {
    select(vec![None, Some(0), Some(1234), Some(1235), Some(4_000_000_000)])
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        1 => Just(Time::Now),
        2 => Just(Time::Omit),
        // Beyond 1901 and 2446, too, which is what ext4 has room for.
        3 => (select(vec![0, 1, 1_000_000_000, 3_000_000_000, 20_000_000_000, -1, -3_000_000_000]), select(vec![0, 1, 999_999_999]))
            .prop_map(|(seconds, nanoseconds)| Time::At(seconds, nanoseconds)),
    ]
}

/// Near, and now and then where no file can reach. Not for writing: the kernel takes suid and sgid away before a FUSE file system
/// can say that it is too far, where others have said so before.
fn offset() -> impl Strategy<Value = u64> {
    let far = select(vec![1 << 44, i64::MAX.unsigned_abs() - 4095, i64::MAX.unsigned_abs()]);
    prop_oneof![70 => near(), 1 => far]
}

/// Around block and page borders, and far enough out to leave holes.
fn near() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 2 => 0_u64..200, 2 => select(vec![4095, 4096, 4097, 65536]), 1 => 0_u64..300_000]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0_usize), 4 => 1_usize..200, 2 => select(vec![4096, 5000]), 1 => 1_usize..200_000]
}

/// Valid ones, with and without named users and groups, and one that has no mask where it needs one.
fn acl() -> BoxedStrategy<Acl> {
    const USER_OBJ: u16 = 1;
    const USER: u16 = 2;
    const GROUP_OBJ: u16 = 4;
    const GROUP: u16 = 8;
    const MASK: u16 = 16;
    const OTHER: u16 = 32;
    const NONE: u32 = u32::MAX;
    let bits = || 0_u16..8;
    prop_oneof![
        (bits(), bits(), bits()).prop_map(|(u, g, o)| vec![
            (USER_OBJ, u, NONE),
            (GROUP_OBJ, g, NONE),
            (OTHER, o, NONE)
        ]),
        (bits(), bits(), bits(), bits(), select(vec![0, 1235])).prop_map(|(u, named, g, m, id)| vec![
            (USER_OBJ, u, NONE),
            (USER, named, id),
            (GROUP_OBJ, g, NONE),
            (MASK, m, NONE),
            (OTHER, 4, NONE)
        ]),
        (bits(), bits(), bits()).prop_map(|(u, named, m)| vec![
            (USER_OBJ, u, NONE),
            (GROUP_OBJ, 5, NONE),
            (GROUP, named, 1235),
            (MASK, m, NONE),
            (OTHER, 0, NONE)
        ]),
        bits().prop_map(|named| vec![
            (USER_OBJ, 7, NONE),
            (USER, named, 1235),
            (GROUP_OBJ, 5, NONE),
            (OTHER, 0, NONE)
        ]),
    ]
    .boxed()
}
