//! The backing by itself, without a mount of permfs in between: what `tests/backing_posix` asks of local filesystems, asked of NFS with
//! root_squash.

use std::ffi::CStr;

use nix::fcntl::{OFlag, RenameFlags};
use permfs::backing::posix::{Node, PosixBacking};
use permfs::backing::{BackingFs, ByteRange, Errno, Freshness, LockKind, Name, NewTime};
use permfs::policy::{Credentials, Permissions, Timestamp};

use super::backing_room::{PLAIN, create, lookup, mode, name, outside, owner, root, root_node};
use super::runner::Scenario;
use super::stage::Stage;

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "backing: the owner does everything and root nothing", run: owner_and_root },
    Scenario { name: "backing: nothing is left of a tree whose nodes are dropped", run: tree },
    Scenario {
        name: "backing: objects are found again below a private directory and after the cache is gone",
        run: found_again,
    },
    Scenario {
        name: "backing: a source that root may not open is anchored by its owner",
        run: closed_source,
    },
    Scenario { name: "backing: an export inside the export is entered", run: inner_export },
];

fn export(stage: &Stage) -> PosixBacking {
    outside(|| PosixBacking::open(&stage.client(""))).unwrap()
}

/// A directory of the test's own.
fn directory(backing: &PosixBacking, dir: &CStr, permissions: u32) -> Node {
    backing.mkdir(&owner(), &root_node(backing), name(dir), mode(permissions, 0)).unwrap();
    lookup(backing, &owner(), dir).unwrap().node
}

fn names_in(backing: &PosixBacking, node: &Node) -> Vec<std::ffi::CString> {
    let dir = backing.opendir(&owner(), node).unwrap();
    let (mut names, mut from) = (Vec::new(), 0);
    loop {
        let before = from;
        let mut each = |entry: permfs::backing::RawEntry<'_>| {
            names.push(entry.name.to_owned());
            from = entry.next;
            std::ops::ControlFlow::Continue(())
        };
        backing.read_dir(&dir, before, &mut each).unwrap();
        if from == before {
            return names;
        }
    }
}

fn owner_and_root(stage: &Stage) {
    let backing = export(stage);
    assert!(backing.features().nfs && backing.features().handles, "{:?}", backing.features());
    let dir = directory(&backing, c"everything", 0o755);
    let made =
        |who: Credentials| backing.create(&who, &dir, name(c"file"), OFlag::O_RDWR, mode(0o666, 0o022));
    assert_eq!(made(root()).unwrap_err(), Errno::EACCES);
    let file = made(owner()).unwrap();
    let identified = backing.identify(&file).unwrap();
    let found = backing.lookup(&owner(), &dir, name(c"file")).unwrap();
    assert_eq!(identified.id, found.id);
    assert_eq!((found.attr.uid.get(), found.attr.gid.get()), (2001, 2001));
    assert_eq!(backing.write(&owner(), &file, &[7; 10_000], 0, PLAIN), Ok(10_000));
    backing.flush(&file).unwrap();
    backing.fsync(&file, false).unwrap();
    let all = ByteRange { start: 0, end: i64::MAX.unsigned_abs() };
    backing.set_lock(&file, LockKind::Exclusive, all).unwrap();
    let other = backing.open(&owner(), &found.node, OFlag::O_RDWR).unwrap();
    assert_eq!(backing.set_lock(&other, LockKind::Shared, all), Err(Errno::EAGAIN));
    let mut buffer = [0; 20_000];
    assert_eq!(backing.read(&other, &mut buffer, 0), Ok(10_000));

    assert_eq!(backing.chmod(&root(), &found.node, Permissions::ALL), Err(Errno::EPERM));
    backing.chmod(&owner(), &found.node, Permissions::from_mode(0o600)).unwrap();
    let time = Timestamp { seconds: 1_000_000_000, nanoseconds: 123_456_789 };
    backing.set_times(&owner(), &found.node, NewTime::At(time), NewTime::At(time)).unwrap();
    backing.truncate(&owner(), &found.node, 5).unwrap();
    let attr = backing.stat(&found.node, Freshness::Known).unwrap();
    assert_eq!((attr.size, attr.permissions.bits(), attr.atime), (5, 0o600, time));
    backing.link(&owner(), &found.node, &dir, name(c"second")).unwrap();
    backing.symlink(&owner(), c"file", &dir, name(c"symlink")).unwrap();
    let symlink = backing.lookup(&owner(), &dir, name(c"symlink")).unwrap();
    assert_eq!(backing.readlink(&owner(), &symlink.node).unwrap(), b"file");
    let symlink = backing.resolve(&owner(), &symlink.id).unwrap();
    assert_eq!(backing.readlink(&owner(), &symlink).unwrap(), b"file");
}

fn tree(stage: &Stage) {
    let backing = export(stage);
    let dir = directory(&backing, c"tree", 0o755);
    for number in 0..500 {
        let file = std::ffi::CString::new(format!("file-{number}")).unwrap();
        let made = backing.create(&owner(), &dir, name(&file), OFlag::O_RDWR, mode(0o644, 0)).unwrap();
        backing.identify(&made).unwrap();
    }
    let names = names_in(&backing, &dir);
    assert_eq!(names.len(), 502);
    for file in names.iter().filter_map(|file| Name::new(file).ok()) {
        let found = backing.lookup(&owner(), &dir, file).unwrap();
        let id = found.id.clone();
        drop(found);
        backing.resolve(&owner(), &id).unwrap();
        backing.unlink(&owner(), &dir, file).unwrap();
        // A v4 client may know the inode for a moment longer, and then that it has no name any more.
        match backing.resolve(&owner(), &id).and_then(|node| backing.stat(&node, Freshness::AsStat)) {
            Ok(attr) => assert_eq!(attr.nlink, 0),
            Err(error) => assert_eq!(error, Errno::ESTALE),
        }
    }
    assert_eq!(names_in(&backing, &dir).len(), 2);
    backing.rmdir(&owner(), &root_node(&backing), name(c"tree")).unwrap();
}

fn found_again(stage: &Stage) {
    let backing = export(stage);
    let private = directory(&backing, c"private", 0o700);
    backing.mkdir(&owner(), &private, name(c"inner"), mode(0o755, 0)).unwrap();
    let inner = backing.lookup(&owner(), &private, name(c"inner")).unwrap();
    let made = backing.create(&owner(), &inner.node, name(c"file"), OFlag::O_RDWR, mode(0o644, 0)).unwrap();
    let file = backing.identify(&made).unwrap().id;
    let dir = inner.id.clone();
    drop((made, inner, private));
    for cold in [false, true] {
        if cold {
            outside(|| std::fs::write("/proc/sys/vm/drop_caches", "3")).unwrap();
        }
        let node = backing.resolve(&owner(), &dir).unwrap();
        let again = backing.lookup(&owner(), &node, name(c"file")).unwrap();
        assert_eq!(again.id, file);
        drop((node, again));
        let node = backing.resolve(&owner(), &file).unwrap();
        let open = backing.open(&owner(), &node, OFlag::O_RDWR).unwrap();
        backing.write(&owner(), &open, b"data", 0, PLAIN).unwrap();
        backing.flush(&open).unwrap();
        let root = root_node(&backing);
        backing
            .rename(&owner(), &root, name(c"private"), &root, name(c"moved"), RenameFlags::empty())
            .unwrap();
        backing.resolve(&owner(), &dir).unwrap();
        backing
            .rename(&owner(), &root, name(c"moved"), &root, name(c"private"), RenameFlags::empty())
            .unwrap();
    }
}

fn closed_source(stage: &Stage) {
    let backing = export(stage);
    directory(&backing, c"closed", 0o700);
    let path = stage.client("closed");
    assert!(outside(|| std::fs::read_dir(&path)).is_err(), "root is not squashed");
    let closed = outside(|| PosixBacking::open(&path)).unwrap();
    assert!(closed.features().handles);
    let file = create(&closed, &owner(), c"file").unwrap();
    let id = closed.identify(&file).unwrap().id;
    closed.resolve(&owner(), &id).unwrap();
}

fn create_in(backing: &PosixBacking, dir: &Node, file: &CStr) -> permfs::backing::ObjectId {
    let made = backing.create(&owner(), dir, name(file), OFlag::O_RDWR, mode(0o644, 0)).unwrap();
    backing.identify(&made).unwrap().id
}

fn inner_export(stage: &Stage) {
    let backing = outside(|| PosixBacking::open(&stage.whole_export())).unwrap();
    let inner = lookup(&backing, &owner(), c"small").unwrap();
    assert_eq!(inner.id.mount, permfs::backing::MountIndex(1));
    assert!(inner.id.handle.is_some());
    let file = create_in(&backing, &inner.node, c"file");
    assert_eq!(file.mount, inner.id.mount);
    let node = backing.resolve(&owner(), &file).unwrap();
    assert_eq!(backing.lookup(&owner(), &inner.node, name(c"file")).unwrap().id, file);
    assert_eq!(backing.stat(&node, Freshness::AsStat).unwrap().uid.get(), 2001);
    let node = backing.resolve(&owner(), &inner.id).unwrap();
    assert_eq!(backing.stat(&node, Freshness::AsStat).unwrap().ino, inner.attr.ino);
    // Other scenarios use it, too.
    backing.unlink(&owner(), &inner.node, name(c"file")).unwrap();
}
