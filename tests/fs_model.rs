//! The operations over an export in memory: who does what at the server, which modes and owners result, what becomes of
//! inodes, and how locks wait. No root, no mount: what a real kernel adds is in the `mount_*` tests.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use nix::fcntl::{OFlag, RenameFlags};
use permfs::backing::model::ModelBacking;
use permfs::config::{Overrides, RulesFile};
use permfs::fs::{
    ByteRange, CallerId, DirEntry, DirSink, Entry, Errno, FileHandleId, Filesystem, LockKind, LockOwner,
    LockRequest, Name, NewTime, NodeId, Pid, RequestId, SetAttr, SuidBits, WriteHow,
};
use permfs::policy::{Credentials, NfsGid, NfsUid, Permissions, PodGid, PodUid};

const AIRFLOW: &str = "
version = 1
[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.airflow.permissions]
group_write = true
setgid = true
[[profile.airflow.path]]
match = \"/frozen\"
read_only = true
";

type Fs = Arc<Filesystem<ModelBacking>>;

fn filesystem(backing: &ModelBacking, rules: &str) -> Fs {
    let rules = RulesFile::parse(rules, "test.toml").expect("the rules parse");
    let policy = rules.policy(None, &Overrides::default()).expect("the rules hold");
    Arc::new(Filesystem::new(backing.clone(), Arc::new(policy)).expect("the root is there"))
}

fn airflow() -> (ModelBacking, Fs) {
    let backing = ModelBacking::default();
    let fs = filesystem(&backing, AIRFLOW);
    (backing, fs)
}

fn caller(uid: u32, gid: u32) -> CallerId {
    CallerId { uid: PodUid::new(uid), gid: PodGid::new(gid), pid: Pid(0) }
}

fn pod() -> CallerId {
    caller(50000, 0)
}

fn named<T>(name: &str, act: impl FnOnce(Name<'_>) -> T) -> T {
    let name = CString::new(name).expect("no NUL");
    act(Name::new(&name).expect("a file name"))
}

fn mode(bits: u32) -> Permissions {
    Permissions::from_mode(bits)
}

fn mkdir(fs: &Fs, parent: NodeId, name: &str) -> Result<Entry, Errno> {
    named(name, |name| fs.mkdir(pod(), parent, name, mode(0o777), mode(0o022)))
}

fn create(fs: &Fs, parent: NodeId, name: &str) -> Result<(Entry, FileHandleId), Errno> {
    named(name, |name| {
        fs.create(pod(), parent, name, OFlag::O_RDWR | OFlag::O_CREAT, mode(0o666), mode(0o022))
    })
    .map(|(entry, opened)| (entry, opened.handle))
}

fn chmod(bits: u32) -> SetAttr {
    SetAttr {
        permissions: Some(mode(bits)),
        uid: None,
        gid: None,
        size: None,
        atime: NewTime::Omit,
        mtime: NewTime::Omit,
        handle: None,
    }
}

#[derive(Default)]
struct Names(Vec<(String, bool)>, usize);

impl DirSink for Names {
    fn has_room(&self, _name_len: usize) -> bool {
        self.0.len() < self.1
    }
    fn push(&mut self, entry: &DirEntry<'_>) {
        self.0.push((entry.name.to_str().expect("ASCII").to_owned(), entry.entry.is_some()));
    }
}

#[test]
fn over_nfs_each_close_of_a_writer_is_told_of_wherever_locks_are_kept() {
    for scope in ["server", "node"] {
        // The model is such an export.
        let fs = filesystem(
            &ModelBacking::default(),
            &format!("{AIRFLOW}[profile.airflow.locks]\nscope = \"{scope}\"\n"),
        );
        let made = named("f", |name| {
            fs.create(pod(), NodeId::ROOT, name, OFlag::O_WRONLY | OFlag::O_CREAT, mode(0o666), mode(0o022))
        });
        let (file, opened) = made.unwrap();
        assert!(!opened.silent, "{scope}");
        for (flags, silent) in [(OFlag::O_RDONLY, true), (OFlag::O_WRONLY, false), (OFlag::O_RDWR, false)] {
            let opened = fs.open(pod(), file.node, flags).unwrap();
            assert_eq!(opened.silent, silent, "{scope}, {flags:?}");
        }
    }
}

#[test]
fn a_pod_makes_objects_as_the_mapped_user_with_the_held_modes() {
    let (backing, fs) = airflow();
    let dir = mkdir(&fs, NodeId::ROOT, "d").unwrap();
    let (file, _) = create(&fs, dir.node, "f").unwrap();
    assert_eq!((dir.attr.uid.get(), dir.attr.gid.get(), dir.attr.permissions), (50000, 0, mode(0o2775)));
    assert_eq!((file.attr.uid.get(), file.attr.gid.get(), file.attr.permissions), (50000, 0, mode(0o664)));
    for (path, permissions) in [("d", 0o2775), ("d/f", 0o664)] {
        let stored = backing.at(path).unwrap();
        assert_eq!(
            (stored.uid.get(), stored.gid.get(), stored.permissions),
            (2001, 2001, mode(permissions)),
            "{path}"
        );
    }
    fs.setattr(pod(), file.node, &chmod(0o640)).unwrap();
    assert_eq!(backing.at("d/f").unwrap().permissions, mode(0o660));
    fs.setattr(pod(), dir.node, &chmod(0o755)).unwrap();
    assert_eq!(backing.at("d").unwrap().permissions, mode(0o2775));
}

#[test]
fn every_call_at_the_server_is_made_as_the_mapped_user() {
    let (backing, fs) = airflow();
    let dir = mkdir(&fs, NodeId::ROOT, "d").unwrap();
    let (file, handle) = create(&fs, dir.node, "f").unwrap();
    fs.write(pod(), handle, 0, b"hello", WriteHow { suid: SuidBits::Clear, ..WriteHow::default() }).unwrap();
    named("l", |name| fs.link(pod(), file.node, dir.node, name)).unwrap();
    named("s", |name| fs.symlink(pod(), dir.node, name, c"/etc/passwd")).unwrap();
    named("f", |name| named("g", |to| fs.rename(pod(), dir.node, name, dir.node, to, RenameFlags::empty())))
        .unwrap();
    named("g", |name| fs.unlink(pod(), dir.node, name)).unwrap();
    fs.release(handle);
    let log = backing.take_log();
    assert!(log.len() > 10, "{log:?}");
    let expected = Credentials {
        uid: NfsUid::new(2001).unwrap(),
        gid: NfsGid::new(2001).unwrap(),
        groups: Arc::default(),
    };
    for (call, who) in log {
        assert_eq!(who, expected, "{call}");
    }
}

#[test]
fn a_denied_caller_gets_eacces_but_for_getattr_and_statfs_of_what_it_holds() {
    let (_, fs) = airflow();
    let (file, handle) = create(&fs, NodeId::ROOT, "f").unwrap();
    fs.release(handle);
    for stranger in
        [caller(50001, 0), caller(2001, 2001), caller(0, 0), caller(50000, 7), caller(u32::MAX, 0)]
    {
        assert_eq!(
            named("f", |name| fs.lookup(stranger, NodeId::ROOT, name)),
            Err(Errno::EACCES),
            "{stranger:?}"
        );
        assert_eq!(fs.open(stranger, file.node, OFlag::O_RDONLY).unwrap_err(), Errno::EACCES, "{stranger:?}");
        let mut sink = Names(Vec::new(), 9);
        assert_eq!(fs.readdir(stranger, NodeId::ROOT, 0, &mut sink), Err(Errno::EACCES), "{stranger:?}");
        assert_eq!(
            fs.setattr(stranger, file.node, &chmod(0o777)).unwrap_err(),
            Errno::EACCES,
            "{stranger:?}"
        );
        assert_eq!(
            named("f", |name| fs.unlink(stranger, NodeId::ROOT, name)),
            Err(Errno::EACCES),
            "{stranger:?}"
        );
        assert_eq!(fs.getattr(stranger, file.node, None).unwrap().attr.uid.get(), 50000, "{stranger:?}");
        assert!(fs.statfs(stranger, NodeId::ROOT).is_ok(), "{stranger:?}");
    }
}

#[test]
fn a_read_only_subtree_refuses_every_change_of_itself_and_of_what_is_below() {
    let backing = ModelBacking::default();
    let open = filesystem(&backing, &AIRFLOW.replace("/frozen", "/other"));
    let frozen = mkdir(&open, NodeId::ROOT, "frozen").unwrap();
    create(&open, frozen.node, "f").unwrap();
    let fs = filesystem(&backing, AIRFLOW);
    let frozen = named("frozen", |name| fs.lookup(pod(), NodeId::ROOT, name)).unwrap().node;
    let file = named("f", |name| fs.lookup(pod(), frozen, name)).unwrap().node;
    let erofs = Err(Errno::EROFS);
    assert_eq!(create(&fs, frozen, "g").map(|_| ()), erofs);
    assert_eq!(mkdir(&fs, frozen, "g").map(|_| ()), erofs);
    assert_eq!(named("f", |name| fs.unlink(pod(), frozen, name)), erofs);
    assert_eq!(named("frozen", |name| fs.rmdir(pod(), NodeId::ROOT, name)), erofs);
    assert_eq!(fs.setattr(pod(), file, &chmod(0o600)).map(|_| ()), erofs);
    assert_eq!(fs.open(pod(), file, OFlag::O_WRONLY).map(|_| ()), erofs);
    assert_eq!(fs.setxattr(pod(), file, c"user.a", b"1", 0), erofs);
    assert_eq!(named("l", |name| fs.link(pod(), file, NodeId::ROOT, name)).map(|_| ()), erofs);
    let moved = named("frozen", |from| {
        named("thawed", |to| fs.rename(pod(), NodeId::ROOT, from, NodeId::ROOT, to, RenameFlags::empty()))
    });
    assert_eq!(moved, erofs);
    assert!(fs.open(pod(), file, OFlag::O_RDONLY).is_ok());
    assert!(mkdir(&fs, NodeId::ROOT, "free").is_ok());
}

#[test]
fn hard_links_are_one_inode_and_it_lives_until_every_lookup_is_forgotten() {
    let (_, fs) = airflow();
    let (file, handle) = create(&fs, NodeId::ROOT, "f").unwrap();
    let link = named("l", |name| fs.link(pod(), file.node, NodeId::ROOT, name)).unwrap();
    assert_eq!((link.node, link.attr.nlink), (file.node, 2));
    let again = named("l", |name| fs.lookup(pod(), NodeId::ROOT, name)).unwrap();
    assert_eq!(again.node, file.node);
    fs.release(handle);
    assert_eq!(fs.population().inodes, 2);
    fs.forget(file.node, 2);
    assert_eq!(fs.population().inodes, 2);
    fs.forget(file.node, 1);
    assert_eq!(fs.population().inodes, 1);
    assert_eq!(fs.getattr(pod(), file.node, None).unwrap_err(), Errno::ESTALE);
    let anew = named("l", |name| fs.lookup(pod(), NodeId::ROOT, name)).unwrap();
    assert_ne!(anew.node, file.node, "a number is never used twice");
    fs.forget(NodeId::ROOT, u64::MAX);
    fs.forget(anew.node, u64::MAX);
    assert_eq!(fs.population().inodes, 1);
}

#[test]
fn who_is_sent_to_look_again_has_what_it_finds_though_that_is_replaced_as_well() {
    let (backing, fs) = airflow();
    let elsewhere = filesystem(&backing, AIRFLOW);
    let replace = |kept: &str| {
        let old = named("f", |name| elsewhere.lookup(pod(), NodeId::ROOT, name)).unwrap();
        named(kept, |name| elsewhere.link(pod(), old.node, NodeId::ROOT, name)).unwrap();
        create(&elsewhere, NodeId::ROOT, "new").unwrap();
        let none = RenameFlags::empty();
        named("new", |new| named("f", |f| elsewhere.rename(pod(), NodeId::ROOT, new, NodeId::ROOT, f, none)))
            .unwrap();
    };
    let look = || named("f", |name| fs.lookup(pod(), NodeId::ROOT, name)).unwrap().node;
    let open = |node| fs.open(pod(), node, OFlag::O_RDONLY).map(drop);
    let first = create(&fs, NodeId::ROOT, "f").unwrap().0.node;
    replace("first");
    assert_eq!(open(first), Err(Errno::ESTALE));
    let second = look();
    replace("second");
    assert_eq!(open(second), Ok(()), "Linux would pass a second ESTALE on");
    assert_eq!(open(second), Err(Errno::ESTALE), "another open(2)");
    assert_eq!(open(look()), Ok(()));
}

#[test]
fn an_open_file_without_a_name_keeps_working() {
    let (_, fs) = airflow();
    let (file, handle) = create(&fs, NodeId::ROOT, "f").unwrap();
    named("f", |name| fs.unlink(pod(), NodeId::ROOT, name)).unwrap();
    fs.write(pod(), handle, 0, b"still", WriteHow::default()).unwrap();
    fs.setattr(pod(), file.node, &chmod(0o600)).unwrap();
    let attr = fs.getattr(pod(), file.node, None).unwrap().attr;
    assert_eq!((attr.nlink, attr.size, attr.permissions), (0, 5, mode(0o660)));
    let mut buffer = [0; 8];
    assert_eq!(fs.read(pod(), file.node, handle, 0, &mut buffer), Ok(5));
    fs.release(handle);
    assert_eq!(fs.read(pod(), file.node, handle, 0, &mut buffer), Err(Errno::EBADF));
}

#[test]
fn a_directory_is_listed_in_any_portions_and_only_names_count_lookups() {
    let (_, fs) = airflow();
    for name in ["a", "b", "c"] {
        let (entry, handle) = create(&fs, NodeId::ROOT, name).unwrap();
        fs.release(handle);
        fs.forget(entry.node, 1);
    }
    for portion in 1..=6 {
        let mut seen = Vec::new();
        loop {
            let mut sink = Names(Vec::new(), portion);
            let from = u64::try_from(seen.len()).unwrap();
            fs.readdir(pod(), NodeId::ROOT, from, &mut sink).unwrap();
            if sink.0.is_empty() {
                break;
            }
            seen.extend(sink.0.into_iter().map(|(name, _)| name));
        }
        assert_eq!(seen, [".", "..", "a", "b", "c"], "portions of {portion}");
    }
    assert_eq!(fs.population().inodes, 1);
    let mut sink = Names(Vec::new(), 4);
    fs.readdirplus(pod(), NodeId::ROOT, 0, &mut sink).unwrap();
    let plus: Vec<_> = sink.0.iter().map(|(name, entry)| (name.as_str(), *entry)).collect();
    assert_eq!(plus, [(".", false), ("..", false), ("a", true), ("b", true)]);
    assert_eq!(fs.population().inodes, 3, "what did not fit was not looked up");
}

fn whole(owner: u64, kind: LockKind, flock: bool) -> LockRequest {
    let range = ByteRange { start: 0, end: i64::MAX.unsigned_abs() };
    LockRequest {
        owner: LockOwner(owner),
        flock,
        kind,
        range,
        pid: Pid(u32::try_from(owner).expect("small")),
    }
}

fn wait_for(fs: &Fs, handle: FileHandleId, lock: &LockRequest, id: u64) -> mpsc::Receiver<Result<(), Errno>> {
    let (answer, answered) = mpsc::channel();
    let reply = Box::new(move |outcome| answer.send(outcome).expect("somebody listens"));
    fs.setlkw(handle, lock, RequestId(id), reply);
    answered
}

const SOON: Duration = Duration::from_secs(60);
const A_MOMENT: Duration = Duration::from_millis(50);

#[test]
fn lock_owners_exclude_each_other_and_a_close_lets_go() {
    let (_, fs) = airflow();
    let (file, handle) = create(&fs, NodeId::ROOT, "f").unwrap();
    fs.setlk(handle, &whole(1, LockKind::Exclusive, false)).unwrap();
    fs.setlk(handle, &whole(1, LockKind::Exclusive, false)).unwrap();
    assert_eq!(fs.setlk(handle, &whole(2, LockKind::Shared, false)), Err(Errno::EAGAIN));
    let held = fs.getlk(handle, &whole(2, LockKind::Shared, false)).unwrap().unwrap();
    assert_eq!((held.kind, held.pid), (LockKind::Exclusive, Pid(1)));
    assert_eq!(fs.getlk(handle, &whole(1, LockKind::Shared, false)), Ok(None));
    let waiting = wait_for(&fs, handle, &whole(2, LockKind::Exclusive, false), 7);
    assert!(waiting.recv_timeout(A_MOMENT).is_err(), "the lock is held");
    fs.flush(file.node, handle, LockOwner(1)).unwrap();
    assert_eq!(waiting.recv_timeout(SOON), Ok(Ok(())));
}

#[test]
fn a_wait_for_a_lock_can_be_interrupted_before_and_while_it_waits() {
    let (_, fs) = airflow();
    let (_, handle) = create(&fs, NodeId::ROOT, "f").unwrap();
    fs.setlk(handle, &whole(1, LockKind::Exclusive, false)).unwrap();
    let waiting = wait_for(&fs, handle, &whole(2, LockKind::Exclusive, false), 7);
    assert!(waiting.recv_timeout(A_MOMENT).is_err());
    fs.interrupt(RequestId(7));
    assert_eq!(waiting.recv_timeout(SOON), Ok(Err(Errno::EINTR)));
    fs.interrupt(RequestId(8));
    let early = wait_for(&fs, handle, &whole(3, LockKind::Exclusive, false), 8);
    assert_eq!(early.recv_timeout(SOON), Ok(Err(Errno::EINTR)));
}

#[test]
fn flocks_belong_to_open_files_and_go_with_them() {
    let (_, fs) = airflow();
    let (file, first) = create(&fs, NodeId::ROOT, "f").unwrap();
    let second = fs.open(pod(), file.node, OFlag::O_RDWR).unwrap().handle;
    fs.setlk(first, &whole(1, LockKind::Exclusive, true)).unwrap();
    assert_eq!(fs.setlk(second, &whole(2, LockKind::Shared, true)), Err(Errno::EAGAIN));
    let waiting = wait_for(&fs, second, &whole(2, LockKind::Shared, true), 9);
    assert!(waiting.recv_timeout(A_MOMENT).is_err());
    fs.release(first);
    assert_eq!(waiting.recv_timeout(SOON), Ok(Ok(())));
}

#[test]
fn with_apply_to_all_what_is_shown_can_be_used() {
    let backing = ModelBacking::default();
    let rules = "
version = 1
[profile.shared]
uid = [ { pod = 50000, nfs = 2001 }, { pod = 50001, nfs = 2002 } ]
gid = [ { pod = 0, nfs = 2001 } ]
act_as = \"owner\"
[profile.shared.permissions]
group_write = true
setgid = true
apply_to = \"all\"
";
    let fs = filesystem(&backing, rules);
    let root = fs.getattr(pod(), NodeId::ROOT, None).unwrap().attr;
    assert_eq!(root.permissions, mode(0o2775));
    assert_eq!(backing.at("/").unwrap().permissions, mode(0o755), "looking changes nothing");
    let made = named("f", |name| {
        fs.create(
            caller(50001, 0),
            NodeId::ROOT,
            name,
            OFlag::O_RDWR | OFlag::O_CREAT,
            mode(0o600),
            mode(0o077),
        )
    });
    assert_eq!(made.unwrap().0.attr.uid.get(), 50001);
    let stored = backing.at("f").unwrap();
    assert_eq!((stored.uid.get(), stored.gid.get(), stored.permissions), (2002, 2001, mode(0o660)));
    assert_eq!(
        backing.at("/").unwrap().permissions,
        mode(0o2775),
        "the owner's mode was brought up to the shown one"
    );
}
