//! Decoding: every struct as the kernel writes it, and bytes that the kernel would never write.

use nix::sys::stat::makedev;
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::fs::{ByteRange, LockKind, NewTime, SuidBits};
use crate::fuse::wire;
use crate::policy::{FileKind, Timestamp};

const EXTENDED: Dialect = Dialect { setxattr_ext: true };

/// A message as the kernel would send it.
fn message(opcode: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let header = InHeader {
        len: u32::try_from(IN_HEADER + body.len()).unwrap(),
        opcode,
        unique: 2,
        nodeid: 7,
        uid: 50000,
        gid: 0,
        pid: 99,
        total_extlen: 0,
        padding: 0,
    };
    [header.as_bytes(), &body].concat()
}

fn decoded(message: &[u8], dialect: Dialect) -> Result<Request<'_>, Errno> {
    let (header, body) = Header::split(message).unwrap();
    decode(&header, body, dialect)
}

fn refusal(message: &[u8]) -> Errno {
    decoded(message, EXTENDED).unwrap_err()
}

fn node(id: u64) -> NodeId {
    NodeId(NonZeroU64::new(id).unwrap())
}

fn mode(bits: u32) -> Permissions {
    Permissions::from_mode(bits)
}

/// One message of every kind that is decoded, with something to it.
fn one_of_each() -> Vec<Vec<u8>> {
    let mknod = wire::MknodIn { mode: 0o100_644, rdev: 0, umask: 0o22, padding: 0 };
    let create = wire::CreateIn { flags: 0o102, mode: 0o100_644, umask: 0o22, open_flags: 0 };
    let read = wire::ReadIn { fh: 3, offset: 0, size: 4096, ..FromZeros::new_zeroed() };
    let write = wire::WriteIn { fh: 3, size: 5, ..FromZeros::new_zeroed() };
    let lock = wire::LkIn { fh: 3, owner: 4, ..FromZeros::new_zeroed() };
    let seek = wire::LseekIn { fh: 3, offset: 0, whence: 3, padding: 0 };
    let batch = wire::BatchForgetIn { count: 2, dummy: 0 };
    let forget = wire::ForgetOne { nodeid: 7, nlookup: 2 };
    let release = wire::ReleaseIn::new_zeroed();
    let fsync = wire::FsyncIn::new_zeroed();
    let xattr = wire::GetxattrIn { size: 64, padding: 0 };
    let bodies: Vec<(u32, Vec<&[u8]>)> = vec![
        (1, vec![b"name\0"]),
        (2, vec![&[9; 8]]),
        (3, vec![&[1; 16]]),
        (4, vec![&[0; 88]]),
        (5, vec![]),
        (6, vec![b"name\0target\0"]),
        (8, vec![mknod.as_bytes(), b"name\0"]),
        (9, vec![&[0; 8], b"name\0"]),
        (10, vec![b"name\0"]),
        (11, vec![b"name\0"]),
        (12, vec![&[1; 8], b"old\0new\0"]),
        (13, vec![&[1; 8], b"name\0"]),
        (14, vec![&[0; 8]]),
        (15, vec![read.as_bytes()]),
        (16, vec![write.as_bytes(), b"hello"]),
        (17, vec![]),
        (18, vec![release.as_bytes()]),
        (20, vec![fsync.as_bytes()]),
        (21, vec![&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], b"user.a\0abc"]),
        (22, vec![xattr.as_bytes(), b"user.a\0"]),
        (23, vec![xattr.as_bytes()]),
        (24, vec![b"user.a\0"]),
        (25, vec![&[0; 24]]),
        (27, vec![&[0; 8]]),
        (28, vec![read.as_bytes()]),
        (29, vec![release.as_bytes()]),
        (30, vec![fsync.as_bytes()]),
        (31, vec![lock.as_bytes()]),
        (32, vec![lock.as_bytes()]),
        (33, vec![lock.as_bytes()]),
        (34, vec![&[4, 0, 0, 0, 0, 0, 0, 0]]),
        (35, vec![create.as_bytes(), b"name\0"]),
        (36, vec![&[2; 8]]),
        (38, vec![]),
        (42, vec![batch.as_bytes(), forget.as_bytes(), forget.as_bytes()]),
        (43, vec![&[0; 32]]),
        (44, vec![read.as_bytes()]),
        (45, vec![&[1; 8], &[1, 0, 0, 0, 0, 0, 0, 0], b"old\0new\0"]),
        (46, vec![seek.as_bytes()]),
        (47, vec![&[0; 56]]),
        (51, vec![create.as_bytes(), b"/\0"]),
        (52, vec![&[0; 24]]),
        (53, vec![&[0; 56]]),
    ];
    bodies.iter().map(|(opcode, parts)| message(*opcode, parts)).collect()
}

#[test]
fn one_of_each_kind_is_understood() {
    let mut kinds = std::collections::BTreeSet::new();
    for message in one_of_each() {
        let request = decoded(&message, EXTENDED);
        assert!(request.is_ok(), "{:?}: {request:?}", Header::split(&message).unwrap().0.opcode);
        kinds.insert(message[4]);
    }
    // All but those that are refused: INIT, BMAP, IOCTL, POLL, NOTIFY_REPLY, the mappings, SYNCFS.
    assert_eq!(kinds.len(), Opcode::ALL.len() - 8);
}

#[test]
fn a_message_cut_short_anywhere_is_refused() {
    for whole in one_of_each() {
        for length in IN_HEADER..whole.len() {
            let mut cut = whole[..length].to_vec();
            cut[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
            let request = decoded(&cut, EXTENDED);
            // TMPFILE's name means nothing, so it is not missed.
            let tmpfile = whole[4] == 51 && length >= IN_HEADER + 16;
            assert!(
                matches!(request, Err(MALFORMED)) || tmpfile,
                "opcode {} cut to {length}: {request:?}",
                whole[4]
            );
        }
    }
}

#[test]
fn a_head_must_be_whole_and_tell_the_true_length() {
    let whole = message(1, &[b"name\0"]);
    assert!(Header::split(&whole).is_ok());
    for length in 0..whole.len() {
        assert_eq!(Header::split(&whole[..length]), Err(NoHeader), "{length}");
    }
    let longer = [whole.as_slice(), b"x"].concat();
    assert_eq!(Header::split(&longer), Err(NoHeader));
    for lie in [0, 39, u32::MAX] {
        let mut lying = whole.clone();
        lying[..4].copy_from_slice(&lie.to_ne_bytes());
        assert_eq!(Header::split(&lying), Err(NoHeader), "{lie}");
    }
}

#[test]
fn extensions_are_no_part_of_the_body() {
    let mut extended = message(1, &[b"name\0\0\0\0", &[0xff; 16]]);
    extended[36] = 2;
    let (_, body) = Header::split(&extended).unwrap();
    assert_eq!(body, b"name\0\0\0\0");
    extended[36] = 9;
    assert_eq!(Header::split(&extended), Err(NoHeader));
}

#[test]
fn a_caller_that_the_kernel_does_not_name_has_no_ids() {
    let mut message = message(1, &[b"name\0"]);
    let named = Header::split(&message).unwrap().0.caller;
    assert_eq!(named, CallerId { uid: PodUid::new(50000), gid: PodGid::new(0), pid: Pid(99) });
    message[24..32].fill(0xff);
    let unnamed = Header::split(&message).unwrap().0.caller;
    assert_eq!(unnamed, CallerId { uid: None, gid: None, pid: Pid(99) });
}

#[test]
fn what_permfs_does_not_do_is_refused_as_the_kernel_expects_it() {
    for (opcode, error) in [
        (0, Errno::ENOSYS),
        (7, Errno::ENOSYS),
        (37, Errno::ENOSYS),
        (39, Errno::ENOTTY),
        (40, Errno::ENOSYS),
        (48, Errno::ENOSYS),
        (49, Errno::ENOSYS),
        (50, Errno::ENOSYS),
        (54, Errno::ENOSYS),
        (4096, Errno::ENOSYS),
        (26, Errno::EIO),
    ] {
        assert_eq!(refusal(&message(opcode, &[&[0; 64]])), error, "{opcode}");
    }
}

#[test]
fn a_name_that_could_leave_its_directory_is_refused() {
    for bad in [&b"..\0"[..], b".\0", b"a/b\0", b"\0"] {
        assert_eq!(refusal(&message(1, &[bad])), Errno::EINVAL);
    }
    let long = [vec![b'a'; 256], vec![0]].concat();
    assert_eq!(refusal(&message(1, &[&long])), Errno::ENAMETOOLONG);
}

#[test]
fn a_setattr_changes_what_its_bits_say_and_nothing_else() {
    let set = wire::SetattrIn {
        mode: 0o104_755,
        uid: 50001,
        gid: 7,
        size: 12,
        fh: 5,
        atime: u64::MAX,
        atimensec: 999_999_999,
        mtime: 1,
        ..FromZeros::new_zeroed()
    };
    let change = |valid| {
        let set = wire::SetattrIn { valid, ..set };
        match decoded(&message(4, &[set.as_bytes()]), EXTENDED) {
            Ok(Request::Setattr { node: about, change, .. }) if about == node(7) => change,
            other => panic!("{other:?}"),
        }
    };
    let nothing = SetAttr {
        permissions: None,
        uid: None,
        gid: None,
        size: None,
        atime: NewTime::Omit,
        mtime: NewTime::Omit,
        handle: None,
    };
    assert_eq!(change(0), nothing);
    assert_eq!(change(1 << 0), SetAttr { permissions: Some(mode(0o4755)), ..nothing });
    assert_eq!(change(1 << 1), SetAttr { uid: PodUid::new(50001), ..nothing });
    assert_eq!(change(1 << 2), SetAttr { gid: PodGid::new(7), ..nothing });
    assert_eq!(change(1 << 3), SetAttr { size: Some(12), ..nothing });
    let before = Timestamp { seconds: -1, nanoseconds: 999_999_999 };
    assert_eq!(change(1 << 4), SetAttr { atime: NewTime::At(before), ..nothing });
    assert_eq!(change(1 << 6), SetAttr { handle: Some(FileHandleId(5)), ..nothing });
    let now = SetAttr { atime: NewTime::Now, mtime: NewTime::Now, ..nothing };
    assert_eq!(change(1 << 4 | 1 << 5 | 1 << 7 | 1 << 8), now);
    // FATTR_LOCKOWNER, FATTR_CTIME, FATTR_KILL_SUIDGID.
    assert_eq!(change(1 << 9 | 1 << 10 | 1 << 11), nothing);
}

#[test]
fn a_setattr_to_no_owner_or_an_impossible_time_is_refused() {
    let zero = wire::SetattrIn::new_zeroed();
    for bad in [
        wire::SetattrIn { valid: 1 << 1, uid: u32::MAX, ..zero },
        wire::SetattrIn { valid: 1 << 2, gid: u32::MAX, ..zero },
        wire::SetattrIn { valid: 1 << 4, atimensec: 1_000_000_000, ..zero },
        wire::SetattrIn { valid: 1 << 5, mtimensec: u32::MAX, ..zero },
    ] {
        assert_eq!(refusal(&message(4, &[bad.as_bytes()])), Errno::EINVAL, "{bad:?}");
    }
}

#[test]
fn a_device_number_of_the_kernel_is_unpacked() {
    let make = wire::MknodIn { mode: 0o020_600, rdev: 0x12_3a_bc_45, umask: 0o77, padding: 0 };
    let message = message(8, &[make.as_bytes(), b"tty\0"]);
    let Ok(Request::Mknod { parent, name, new }) = decoded(&message, EXTENDED) else { panic!() };
    assert_eq!((parent, name.as_bytes()), (node(7), &b"tty"[..]));
    assert_eq!((new.kind, new.permissions, new.umask), (FileKind::CharDevice, mode(0o600), mode(0o77)));
    assert_eq!(new.rdev, makedev(0xabc, 0x12345));
}

#[test]
fn a_link_names_the_directory_it_goes_into() {
    let message = message(13, &[&3u64.to_ne_bytes(), b"new\0"]);
    let Ok(Request::Link { node: linked, new_parent, new_name }) = decoded(&message, EXTENDED) else {
        panic!()
    };
    assert_eq!((linked, new_parent, new_name.as_bytes()), (node(3), node(7), &b"new"[..]));
}

#[test]
fn both_renames_are_one() {
    let plain = message(12, &[&3u64.to_ne_bytes(), b"old\0new\0"]);
    let flagged = message(45, &[&3u64.to_ne_bytes(), &2u64.to_ne_bytes(), b"old\0new\0"]);
    for (message, expected) in [(plain, RenameFlags::empty()), (flagged, RenameFlags::RENAME_EXCHANGE)] {
        let Ok(Request::Rename { parent, name, new_parent, new_name, flags }) = decoded(&message, EXTENDED)
        else {
            panic!()
        };
        assert_eq!((parent, new_parent, flags), (node(7), node(3), expected));
        assert_eq!((name.as_bytes(), new_name.as_bytes()), (&b"old"[..], &b"new"[..]));
    }
    let unknown = message(45, &[&3u64.to_ne_bytes(), &64u64.to_ne_bytes(), b"old\0new\0"]);
    assert_eq!(refusal(&unknown), Errno::EINVAL);
}

#[test]
fn a_write_brings_its_bytes_and_whether_suid_goes() {
    for (write_flags, expected) in [(0, false), (1, false), (4, true), (7, true)] {
        let write = wire::WriteIn { fh: 3, offset: 9, size: 5, write_flags, ..FromZeros::new_zeroed() };
        let message = message(16, &[write.as_bytes(), b"hello"]);
        let Ok(Request::Write { handle, offset, data, how, .. }) = decoded(&message, EXTENDED) else {
            panic!()
        };
        assert_eq!((handle, offset, data), (FileHandleId(3), 9, &b"hello"[..]));
        assert_eq!(how.suid == SuidBits::Clear, expected);
    }
}

#[test]
fn who_cannot_keep_suid_and_sgid_is_told_from_who_can() {
    for (bit, expected) in [(0, false), (1, true)] {
        let set = wire::SetattrIn { valid: 1 << 3 | bit << 11, ..FromZeros::new_zeroed() };
        let Ok(Request::Setattr { clears_set_ids, .. }) = decoded(&message(4, &[set.as_bytes()]), EXTENDED)
        else {
            panic!()
        };
        assert_eq!(clears_set_ids, expected);
        let open = wire::OpenIn { flags: 0, open_flags: bit };
        let Ok(Request::Open { clears_set_ids, .. }) = decoded(&message(14, &[open.as_bytes()]), EXTENDED)
        else {
            panic!()
        };
        assert_eq!(clears_set_ids, expected);
        let head: Vec<u8> = [3_u32, 0, bit, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let Ok(Request::Setxattr { clears_setgid, .. }) =
            decoded(&message(21, &[&head, b"user.a\0abc"]), EXTENDED)
        else {
            panic!()
        };
        assert_eq!(clears_setgid, expected);
    }
}

#[test]
fn setxattr_is_read_in_the_form_agreed_on() {
    let head: Vec<u8> = [3u32, 1].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let short = message(21, &[&head, b"user.a\0abc"]);
    let long = message(21, &[&head, &[0; 8], b"user.a\0abc"]);
    for (message, dialect) in [(short, Dialect::default()), (long, EXTENDED)] {
        let Ok(Request::Setxattr { name, value, flags, .. }) = decoded(&message, dialect) else { panic!() };
        assert_eq!((name, value, flags), (c"user.a", &b"abc"[..], 1));
    }
}

#[test]
fn flock_is_told_from_fcntl_and_a_wait_from_a_try() {
    for (opcode, lk_flags, flock, waits) in
        [(32, 0, false, false), (32, 1, true, false), (33, 0, false, true), (33, 1, true, true)]
    {
        let lk = wire::FileLock { start: 5, end: i64::MAX.cast_unsigned(), r#type: 1, pid: 42 };
        let asked = wire::LkIn { fh: 3, owner: 4, lk, lk_flags, padding: 0 };
        let message = message(opcode, &[asked.as_bytes()]);
        let Ok(Request::Setlk { lock, waits: found, .. }) = decoded(&message, EXTENDED) else { panic!() };
        assert_eq!((lock.flock, found), (flock, waits));
        assert_eq!((lock.kind, lock.pid, lock.owner), (LockKind::Exclusive, Pid(42), LockOwner(4)));
        assert_eq!(lock.range, ByteRange { start: 5, end: i64::MAX.cast_unsigned() });
    }
}

#[test]
fn a_lock_on_bytes_that_no_file_has_is_refused() {
    let whole = i64::MAX.cast_unsigned();
    for (start, end, kind) in [(1, 0, 0), (0, whole + 1, 0), (whole + 1, u64::MAX, 0), (0, 0, 3)] {
        let lk = wire::FileLock { start, end, r#type: kind, pid: 0 };
        let asked = wire::LkIn { fh: 0, owner: 0, lk, lk_flags: 0, padding: 0 };
        assert_eq!(refusal(&message(32, &[asked.as_bytes()])), Errno::EINVAL);
    }
}

#[test]
fn a_batch_forgets_each_of_its_inodes() {
    let batch = wire::BatchForgetIn { count: 3, dummy: 0 };
    let records: Vec<u8> =
        [[7u64, 2], [0, 9], [8, 1]].iter().flatten().flat_map(|word| word.to_ne_bytes()).collect();
    let message = message(42, &[batch.as_bytes(), &records]);
    let Ok(Request::BatchForget(forgets)) = decoded(&message, EXTENDED) else { panic!() };
    assert_eq!(forgets.iter().collect::<Vec<_>>(), [(node(7), 2), (node(8), 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_bytes_are_either_understood_or_refused(
        opcode in 0u32..60,
        body in prop::collection::vec(any::<u8>(), 0..200),
        extended: bool,
    ) {
        let message = message(opcode, &[&body]);
        consume(&message, Dialect { setxattr_ext: extended });
    }

    #[test]
    fn a_message_changed_anywhere_is_either_understood_or_refused(
        which in 0usize..43,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        extended: bool,
    ) {
        let mut message = one_of_each().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        consume(&message, Dialect { setxattr_ext: extended });
        consume(&message[..cut.index(message.len())], Dialect { setxattr_ext: extended });
    }
}

/// Decodes, and touches all that a request borrows.
fn consume(message: &[u8], dialect: Dialect) {
    let Ok((header, body)) = Header::split(message) else { return };
    match decode(&header, body, dialect) {
        Ok(Request::BatchForget(forgets)) => assert!(forgets.iter().count() <= message.len() / 16),
        Ok(request) => assert!(format!("{request:?}").len() > 4),
        Err(error) => assert!(error.raw() > 0),
    }
}
