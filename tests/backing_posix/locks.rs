//! Locks belong to open files.

use nix::fcntl::OFlag;
use permfs::backing::{BackingFs, ByteRange, Errno, LockKind};

use super::*;

const TO_THE_END: u64 = i64::MAX.unsigned_abs();

fn two_files(backing: &PosixBacking) -> [File; 2] {
    create(backing, &owner(), c"file").unwrap();
    let node = lookup(backing, &owner(), c"file").unwrap().node;
    [(); 2].map(|()| backing.open(&owner(), &node, OFlag::O_RDWR).unwrap())
}

#[test]
fn a_byte_range_is_kept_from_another_open_file_until_it_is_given_back() {
    let export = Export::tmpfs();
    let backing = export.open();
    let [one, two] = two_files(&backing);
    let range = |start, end| ByteRange { start, end };
    backing.set_lock(&one, LockKind::Exclusive, range(10, 19)).unwrap();
    assert_eq!(backing.set_lock(&two, LockKind::Shared, range(0, TO_THE_END)), Err(Errno::EAGAIN));
    assert_eq!(backing.set_lock(&two, LockKind::Exclusive, range(20, TO_THE_END)), Ok(()));
    assert_eq!(
        backing.test_lock(&two, LockKind::Shared, range(0, TO_THE_END)),
        Ok(Some((LockKind::Exclusive, range(10, 19))))
    );
    assert_eq!(
        backing.test_lock(&one, LockKind::Shared, range(30, 30)),
        Ok(Some((LockKind::Exclusive, range(20, TO_THE_END))))
    );
    assert_eq!(backing.test_lock(&two, LockKind::Exclusive, range(0, 9)), Ok(None));
    backing.set_lock(&one, LockKind::Unlock, range(0, TO_THE_END)).unwrap();
    backing.set_lock(&two, LockKind::Shared, range(0, TO_THE_END)).unwrap();
    drop(two);
    backing.set_lock(&one, LockKind::Exclusive, range(0, 0)).unwrap();
    assert_eq!(backing.set_lock(&one, LockKind::Shared, range(5, 3)), Err(Errno::EINVAL));
}

#[test]
fn a_flush_gives_no_lock_back() {
    let export = Export::tmpfs();
    let backing = export.open();
    let [one, two] = two_files(&backing);
    let all = ByteRange { start: 0, end: TO_THE_END };
    backing.set_lock(&one, LockKind::Exclusive, all).unwrap();
    backing.flock(&one, LockKind::Exclusive).unwrap();
    backing.flush(&one).unwrap();
    assert_eq!(backing.set_lock(&two, LockKind::Shared, all), Err(Errno::EAGAIN));
    assert_eq!(backing.flock(&two, LockKind::Shared), Err(Errno::EAGAIN));
    backing.flock(&one, LockKind::Unlock).unwrap();
    assert_eq!(backing.flock(&two, LockKind::Shared), Ok(()));
}
