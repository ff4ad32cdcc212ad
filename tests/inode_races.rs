//! The inode table's races, under a model checker: shuttle runs the operations on threads of its own, of which one goes on
//! at a time, and tries one order of their steps after another.
//!
//! It is the file system itself, over an export in memory that deals inode numbers out again. A step ends at each lock of `fs/` and of
//! the records, and at each [`moment`](permfs::sys::sync::moment): before words of records are read or written, and
//! before the index by id is. What the processor may reorder is not explored, nor what happens inside `DashMap`,
//! `ArcSwap` and the model export, each of which is one step. `scripts/test` runs it; by itself:
//! `cargo test --features model --test inode_races`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::sync::Arc;

use permfs::backing::model::ModelBacking;
use permfs::config::{Overrides, RulesFile};
use permfs::fs::{CallerId, Entry, Errno, Filesystem, Name, NewNode, NodeId, Pid};
use permfs::policy::{FileKind, Permissions, PodGid, PodUid, Policy};
use permfs::state::State;
use permfs::state::bounds::Bounds;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};

/// Orders tried of each race, by either scheduler.
const ORDERS: usize = 500;
/// Switches away from a thread that could go on, of which the second scheduler places so many with care.
const SWITCHES: usize = 4;
/// Bytes of a thread's stack; shuttle's own 32 KiB are too few for a file system in a debug build.
const STACK: usize = 1 << 20;

const RULES: &str = "
version = 1
[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
";

/// A mount as its kernel sees it.
#[derive(Clone)]
struct World {
    fs: Arc<Filesystem<ModelBacking>>,
}

impl World {
    /// With these files, which the kernel does not know.
    fn with(policy: &Arc<Policy>, inodes: Option<usize>, names: &[&str]) -> Self {
        let state = State::within(Bounds::of(inodes, 1 << 16)).unwrap();
        let fs = Filesystem::begin(ModelBacking::default(), Arc::clone(policy), state).unwrap();
        let world = Self { fs: Arc::new(fs) };
        for name in names {
            let made = world.make(name).unwrap();
            world.fs.forget(made.node, 1);
        }
        world
    }

    fn make(&self, name: &str) -> Result<Entry, Errno> {
        let (permissions, umask) = (Permissions::from_mode(0o666), Permissions::from_mode(0o022));
        let new = NewNode { kind: FileKind::Regular, permissions, umask, rdev: 0 };
        named(name, |name| self.fs.mknod(pod(), NodeId::ROOT, name, &new))
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        named(name, |name| self.fs.unlink(pod(), NodeId::ROOT, name))
    }

    /// Looks a name up. What was found is known from then on, until it is forgotten.
    fn lookup(&self, name: &str) -> Result<NodeId, Errno> {
        let entry = named(name, |name| self.fs.lookup(pod(), NodeId::ROOT, name))?;
        assert!(self.lookups().contains_key(&entry.node.0.get()), "found, and unknown: {entry:?}");
        assert_eq!(self.number(entry.node), Ok(entry.attr.ino));
        Ok(entry.node)
    }

    /// The inode number that the kernel is shown.
    fn number(&self, node: NodeId) -> Result<u64, Errno> {
        self.fs.getattr(pod(), node, None).map(|attr| attr.attr.ino)
    }

    fn forget(&self, node: NodeId) {
        self.fs.forget(node, 1);
    }

    fn go(&self, act: impl FnOnce(&Self) + Send + 'static) -> JoinHandle<()> {
        let world = self.clone();
        thread::spawn(move || act(&world))
    }

    /// What the records say: node ids, and lookups not forgotten.
    fn lookups(&self) -> BTreeMap<u64, u64> {
        let records = &self.fs.state().inodes;
        records.all().map(|id| (records.read(id).node, records.lookups(id))).collect()
    }

    /// Nothing goes on any more: these and the root are known, each so often, and each can be reached.
    #[track_caller]
    fn settles_at(&self, known: &[(NodeId, u64)]) {
        let expected = known.iter().copied().chain([(NodeId::ROOT, 1)]);
        let expected: BTreeMap<_, _> = expected.map(|(node, lookups)| (node.0.get(), lookups)).collect();
        assert_eq!(self.lookups(), expected);
        assert_eq!(self.fs.population().inodes, expected.len());
    }

    /// Once all is forgotten, the records of what were at most `most` inodes at once, beside the root, are used again, each once.
    fn ends(&self, known: &[(NodeId, u64)], most: usize) {
        for (node, lookups) in known {
            self.fs.forget(*node, *lookups);
            assert!(self.number(*node).is_err(), "{node:?} was forgotten");
        }
        self.settles_at(&[]);
        let room = most.min(self.fs.state().bounds.inodes - 1);
        let nodes: BTreeSet<_> = (0..room).map(|at| self.make(&format!("again{at}")).unwrap().node).collect();
        let records: BTreeSet<_> = self.fs.state().inodes.all().map(|id| id.get()).collect();
        assert_eq!((nodes.len(), records.len()), (room, room + 1));
        assert!(records.last().is_some_and(|last| usize::try_from(*last).unwrap() <= most), "{records:?}");
    }
}

fn pod() -> CallerId {
    CallerId { uid: PodUid::new(50000), gid: PodGid::new(0), pid: Pid(0) }
}

fn named<T>(name: &str, act: impl FnOnce(Name<'_>) -> T) -> T {
    let name = CString::new(name).unwrap();
    act(Name::new(&name).unwrap())
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Tries orders of a race: at random, and with few switches in places chosen for what they may show.
fn in_any_order(race: impl Fn(&Arc<Policy>) + Send + Sync + 'static) {
    let rules = RulesFile::parse(RULES, "test.toml").unwrap();
    let policy = Arc::new(rules.policy(None, &Overrides::default()).unwrap());
    let race = Arc::new(move || race(&policy));
    let mut config = Config::new();
    config.stack_size = STACK;
    let (one, other) = (Arc::clone(&race), race);
    Runner::new(RandomScheduler::new(ORDERS), config.clone()).run(move || one());
    Runner::new(PctScheduler::new(SWITCHES, ORDERS), config).run(move || other());
}

#[test]
fn what_a_lookup_finds_is_known_whoever_forgets_it_for_the_last_time() {
    in_any_order(|policy| {
        let world = World::with(policy, None, &["x"]);
        let before = world.lookup("x").unwrap();
        let forgetting = world.go(move |world| world.forget(before));
        let found = world.lookup("x").unwrap();
        join([forgetting]);
        assert!(found >= before, "a node id came again");
        world.settles_at(&[(found, 1)]);
        assert_eq!(world.number(before).is_ok(), found == before);
        world.ends(&[(found, 1)], 2);
    });
}

#[test]
fn lookups_are_counted_among_forgets_of_many() {
    in_any_order(|policy| {
        let world = World::with(policy, None, &["x", "y"]);
        let before = ["x", "y", "x"].map(|name| world.lookup(name).unwrap());
        let forgetting = world.go(move |world| before.into_iter().for_each(|node| world.forget(node)));
        let [x, y] = ["y", "x"].map(|name| world.lookup(name).unwrap());
        join([forgetting]);
        world.settles_at(&[(x, 1), (y, 1)]);
        world.ends(&[(x, 1), (y, 1)], 3);
    });
}

#[test]
fn three_who_find_a_new_object_at_once_find_one_inode() {
    in_any_order(|policy| {
        let world = World::with(policy, None, &["x"]);
        let (found, all) = std::sync::mpsc::channel();
        let threads = [(); 3].map(|()| {
            let found = found.clone();
            world.go(move |world| found.send(world.lookup("x").unwrap()).unwrap())
        });
        join(threads);
        let nodes: BTreeSet<_> = all.try_iter().collect();
        let [node] = nodes.into_iter().collect::<Vec<_>>()[..] else {
            panic!("several inodes of one object")
        };
        world.settles_at(&[(node, 3)]);
        world.ends(&[(node, 3)], 1);
    });
}

#[test]
fn an_object_that_takes_the_number_of_one_removed_is_another_inode() {
    in_any_order(|policy| {
        let world = World::with(policy, None, &["x"]);
        let old = world.lookup("x").unwrap();
        let number = world.number(old).unwrap();
        let (made, new) = std::sync::mpsc::channel();
        let making = world.go(move |world| {
            world.remove("x").unwrap();
            let entry = world.make("x").unwrap();
            assert_eq!(entry.attr.ino, number, "the export deals numbers out again");
            made.send(entry.node).unwrap();
        });
        let forgetting = world.go(move |world| world.forget(old));
        let entry = named("x", |name| world.fs.lookup(pod(), NodeId::ROOT, name));
        join([making, forgetting]);
        let new = new.recv().unwrap();
        assert!(new > old);
        assert_eq!(world.number(new), Ok(number));
        assert!(world.number(old).is_err(), "nobody reaches another object by a node id");
        // The lookup came before the removal, in between, or after what was made.
        let known = match entry.map(|entry| entry.node) {
            Ok(node) if node == new => vec![(new, 2)],
            Ok(node) => vec![(node, 1), (new, 1)],
            Err(error) => {
                assert_eq!(error, Errno::ENOENT);
                vec![(new, 1)]
            }
        };
        world.settles_at(&known);
        world.ends(&known, 3);
    });
}

#[test]
fn a_node_forgotten_too_often_at_once_takes_nothing_else_along() {
    in_any_order(|policy| {
        let world = World::with(policy, None, &["x", "y"]);
        let before = world.lookup("x").unwrap();
        let threads = [(); 2].map(|()| world.go(move |world| world.forget(before)));
        let other = world.lookup("y").unwrap();
        join(threads);
        world.settles_at(&[(other, 1)]);
        world.ends(&[(other, 1)], 2);
    });
}

#[test]
fn a_lookup_counts_or_is_refused_at_the_bound() {
    // The root, one more, and room for one.
    const BOUND: usize = 3;
    in_any_order(|policy| {
        let world = World::with(policy, Some(BOUND), &["x", "y", "z"]);
        let before = world.lookup("x").unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let looking = ["y", "z"].map(|name| {
            let tell = tell.clone();
            world.go(move |world| tell.send(world.lookup(name)).unwrap())
        });
        let forgetting = world.go(move |world| world.forget(before));
        join(looking);
        join([forgetting]);
        let mut known = Vec::new();
        for answer in told.try_iter() {
            match answer {
                Ok(node) => known.push((node, 1)),
                Err(error) => assert_eq!(error, Errno::ENFILE),
            }
        }
        // Who looks before either is entered sees the same room: there may be as many too many as look at once.
        assert!(!known.is_empty(), "there was room for one");
        world.settles_at(&known);
        world.ends(&known, 3);
    });
}
