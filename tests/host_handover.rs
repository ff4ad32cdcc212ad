//! A mount host's container is replaced, and the mounts go on in the next one: nobody who uses them notices more than a pause. Where
//! they cannot, they stay where they are.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod handover_room;
mod live;
mod takeover_room;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use handover_room::{Container, Node};
use live::waits::until;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use nix::unistd::Pid;
use permfs::state::layout::LAYOUT;
use permfs::sys::{descriptors, passing};
use takeover_room::fcntl::{Owner, lock, unlock};
use takeover_room::mapped::Mapped;
use takeover_room::{Load, Options, Who};

const POD: Who = Who::new(50000, 0);
/// As in `mount_takeover`.
const PAUSE: Duration = Duration::from_secs(3);
const ENOUGH: u32 = 4096;

#[test]
fn the_mounts_of_a_container_that_is_killed_right_afterwards_go_on_in_the_next() {
    let node = Node::new();
    let mut container = node.first();
    let target = node.publish("pod");
    let held = Held::in_(&target);
    let load = under_load(&target);
    for round in 1..=8 {
        progress(&load);
        let next = node.start(ENOUGH);
        until("it is taken over", || node.upgrades(&target) == Some(round));
        container.kill();
        container = next;
        until("the next one is ready", || container.is_settled(&node));
        held.assert_whole();
    }
    finish(load);
    held.let_go();
    node.host().unpublish(target.clone()).unwrap();
    assert!(!target.exists());
    container.ask_to_end();
    until("it ends without a mount", || container.has_ended());
}

#[test]
fn what_is_mounted_below_the_export_is_reached_when_the_container_that_found_it_is_gone() {
    let node = Node::new();
    let nested = node.export().join("nested");
    fs::create_dir(&nested).unwrap();
    mount(Some("tmpfs"), &nested, Some("tmpfs"), MsFlags::empty(), Some("mode=777")).unwrap();
    let first = node.first();
    let target = node.publish("pod");
    let second = node.start(ENOUGH);
    until("it is taken over", || node.upgrades(&target) == Some(1));
    first.kill();
    let third = node.start(ENOUGH);
    until("it is taken over", || third.is_settled(&node));
    second.kill();
    let outside = node.permfs().arg("upgrade").arg(&target).output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stderr).contains("another mount namespace"));
    let inside = third.permfs(&node).arg("upgrade").arg(&target).output().unwrap();
    assert!(inside.status.success(), "{}", String::from_utf8_lossy(&inside.stderr));
    POD.run(|| fs::write(target.join("nested/file"), "x").unwrap());
    assert_eq!(fs::read_to_string(nested.join("file")).unwrap(), "x");
    node.host().unpublish(target).unwrap();
    // The export was reached by a mount in the first one's namespace, which nobody needs any more.
    assert_eq!(node.entries(), 0);
    drop(third);
}

#[test]
fn containers_that_share_the_nodes_process_ids_replace_each_other_too() {
    let node = Node::new();
    let mut container = node.start_among_all();
    until("the host answers", || node.host().ready().is_ok());
    let target = node.publish("pod");
    let held = Held::in_(&target);
    let load = under_load(&target);
    for _ in 0..4 {
        progress(&load);
        let next = node.start_among_all();
        until("the next one is ready", || next.is_settled(&node));
        assert!(!container.has_ended() && container.is_settled(&node), "a rollout deletes what is not ready");
        container.ask_to_end();
        until("the one before it ends", || container.has_ended());
        container = next;
        held.assert_whole();
    }
    finish(load);
    held.let_go();
    node.host().unpublish(target).unwrap();
    assert_eq!(node.entries(), 0);
}

#[test]
fn a_volume_whose_mount_is_left_in_the_old_container_is_unpublished_by_the_new_one() {
    let node = Node::new();
    let mut old = node.first();
    let target = node.publish("pod");
    POD.run(|| fs::write(target.join("f"), "x").unwrap());
    let open: Vec<File> = (0..100).map(|_| POD.run(|| File::open(target.join("f")).unwrap())).collect();
    let next = node.start(90);
    until("it is refused", || {
        node.status(&target).is_some_and(|status| status["upgrade_failed"].is_string())
    });
    drop(open);
    until("the new host is done trying", || {
        node.host().unpublish(target.clone()).map_err(|refusal| println!("{refusal}")).is_ok()
    });
    assert!(!target.exists());
    assert_eq!(node.entries(), 0);
    // Nothing holds it any more.
    old.ask_to_end();
    until("the old one ends", || old.has_ended());
    drop(next);
}

#[test]
fn a_container_that_cannot_take_a_mount_over_leaves_it_to_the_old_one_and_says_why() {
    let node = Node::new();
    let mut old = node.first();
    let target = node.publish("pod");
    POD.run(|| fs::write(target.join("f"), "x").unwrap());
    let open: Vec<File> = (0..100).map(|_| POD.run(|| File::open(target.join("f")).unwrap())).collect();
    let load = under_load(&target);
    let next = node.start(90);
    let failed =
        || node.status(&target).and_then(|status| Some(status["upgrade_failed"].as_str()?.to_owned()));
    until("it is refused", || failed().is_some_and(|why| why.contains("RLIMIT_NOFILE")));
    assert!(!next.is_settled(&node));
    // The old container is to end, and cannot yet.
    old.ask_to_end();
    progress(&load);
    // By the new host: a moment after its process.
    until("the log says so", || node.log().contains("RLIMIT_NOFILE"));
    assert!(!old.has_ended());
    next.kill();
    // It is the node's host again.
    until("a host answers", || node.host().ready().is_ok());
    progress(&load);
    let able = node.start(ENOUGH);
    until("it is taken over", || able.is_settled(&node));
    until("the old one ends", || old.has_ended());
    finish(load);
    let mut content = String::new();
    open[99].try_clone().unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "x");
    drop(open);
    node.host().unpublish(target).unwrap();
}

#[test]
fn a_container_that_is_killed_while_it_takes_a_mount_over_leaves_it_to_the_old_one() {
    let node = Node::new();
    let old = node.first();
    let target = node.publish("pod");
    let meeting = node.claim().join("handover");
    let load = under_load(&target);
    for _ in 0..5 {
        // Or it may be through with it by the time it is killed, and nobody would be left. Nothing is started while the keeper stands
        // still: a child would wait to close what the load has open.
        let keeper = old.process(&serving(&node, &target)["keeper_pid"]);
        stop(keeper);
        let next = node.start(ENOUGH);
        until("it waits for the old keeper", || meeting.exists());
        next.kill();
        kill(keeper, Signal::SIGCONT).unwrap();
        until("somebody serves", || node.upgrades(&target) == Some(0));
        progress(&load);
        until("the old host answers", || node.host().ready().is_ok());
    }
    finish(load);
    node.host().unpublish(target).unwrap();
    old.kill();
}

/// Returns when the process, which has one thread, stands still.
fn stop(process: Pid) {
    kill(process, Signal::SIGSTOP).unwrap();
    until("it stands still", || {
        fs::read_to_string(format!("/proc/{process}/stat")).unwrap().contains(") T ")
    });
}

/// How far a new side gets that is then gone.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    IsAsked,
    IsCalled,
    HasSome,
    HasAll,
}

#[test]
fn a_new_side_may_die_at_any_step_and_the_old_one_goes_on() {
    let node = Node::new();
    let old: Container = node.first();
    let target = node.publish("pod");
    let held = Held::in_(&target);
    let claim = node.claim();
    let load = under_load(&target);
    for step in [Step::IsAsked, Step::IsCalled, Step::HasSome, Step::HasAll].repeat(3) {
        progress(&load);
        let before = serving(&node, &target)["pid"].clone();
        come_as_far_as(step, &claim);
        let mut status = serving(&node, &target);
        until("another worker serves", || {
            status = serving(&node, &target);
            status["pid"] != before
        });
        assert!(status["upgrade_failed"].is_string() && status["counters"]["upgrades"] == 0, "{status}");
        held.assert_whole();
    }
    finish(load);
    held.let_go();
    node.host().unpublish(target).unwrap();
    old.kill();
}

#[test]
fn a_version_that_cannot_read_the_state_is_refused_before_anything_stops() {
    let node = Node::new();
    let old = node.first();
    let target = node.publish("pod");
    let before = serving(&node, &target)["pid"].clone();
    let answer = ask(&node.claim(), r#"{"ask":"hand_over","path":"/x","version":"9","layouts":[999]}"#);
    assert!(answer.contains("refused") && answer.contains("cannot read"), "{answer}");
    assert_eq!(serving(&node, &target)["pid"], before);
    node.host().unpublish(target).unwrap();
    old.kill();
}

/// Plays the new side of a hand-over.
fn come_as_far_as(step: Step, claim: &Path) {
    let meeting = claim.join("handover");
    let _ = fs::remove_file(&meeting);
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let number = listener.as_raw_fd();
    bind(number, &UnixAddr::new(&meeting).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let request = format!(r#"{{"ask":"hand_over","path":"/x","version":"9","layouts":[{LAYOUT}]}}"#);
    let answer = ask(claim, &request);
    assert!(answer.contains("begun"), "{answer}");
    if step == Step::IsAsked {
        return fs::remove_file(&meeting).unwrap();
    }
    let line = descriptors::adopt(accept4(number, SockFlag::SOCK_CLOEXEC).unwrap()).unwrap();
    fs::remove_file(&meeting).unwrap();
    if step == Step::IsCalled {
        return;
    }
    let mut passed = Vec::new();
    loop {
        let (message, fds) = passing::receive(line.as_fd(), 1 << 14).unwrap();
        passed.extend(fds);
        let is_whole = String::from_utf8(message).unwrap().contains("whole");
        if is_whole || (step == Step::HasSome && !passed.is_empty()) {
            break;
        }
    }
    assert!(!passed.is_empty());
}

fn ask(claim: &Path, request: &str) -> String {
    let mut connection = UnixStream::connect(claim.join("control")).unwrap();
    writeln!(connection, "{request}").unwrap();
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer);
    answer
}

/// What a pod has: a lock, a mapping, a file without a name.
struct Held {
    locked: File,
    /// The same file, opened once more.
    contender: File,
    mapped: Mapped,
    removed: File,
    /// More than travel in one message.
    _many: Vec<File>,
}

impl Held {
    fn in_(target: &Path) -> Self {
        POD.run(|| {
            let open = |name: &str| {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(target.join(name))
                    .unwrap()
            };
            let (locked, contender, removed, mapped) =
                (open("locked"), open("locked"), open("gone"), open("mapped"));
            lock(&locked, Owner::OpenFile, 10, 20).unwrap();
            removed.write_all_at(b"still here", 0).unwrap();
            fs::remove_file(target.join("gone")).unwrap();
            mapped.set_len(4096).unwrap();
            let many = (0..600).map(|_| open("many")).collect();
            Self { locked, contender, mapped: Mapped::new(&mapped, 4096).unwrap(), removed, _many: many }
        })
    }

    #[track_caller]
    fn assert_whole(&self) {
        let refused = lock(&self.contender, Owner::OpenFile, 15, 1).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EAGAIN));
        let mut content = [0; 10];
        self.removed.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(&content, b"still here");
        self.mapped.write(7, b"mapped");
        self.mapped.sync().unwrap();
        assert_eq!(self.mapped.read(7, 6), b"mapped");
    }

    fn let_go(self) {
        unlock(&self.locked, Owner::OpenFile, 10, 20).unwrap();
        lock(&self.contender, Owner::OpenFile, 15, 1).unwrap();
    }
}

fn under_load(target: &Path) -> Load {
    let directory = target.join("load");
    Load::start(Options { who: Some(POD), ..Options::new(directory) })
}

/// What the mount says of itself. Nothing for as long as its worker has no time for it.
#[track_caller]
fn serving(node: &Node, target: &Path) -> serde_json::Value {
    let mut status = None;
    until("the mount answers", || {
        status = node.status(target);
        status.is_some()
    });
    status.unwrap()
}

/// Lets the load get on.
#[track_caller]
fn progress(load: &Load) {
    let goal = load.operations() + 500;
    until("the load gets on", || load.operations() >= goal);
}

#[track_caller]
fn finish(load: Load) {
    let report = load.finish();
    report.assert_clean();
    let (kind, worst) = report.worst_pause();
    println!("{} operations, worst pause {worst:?} ({kind})", report.total());
    assert!(worst < PAUSE, "a {kind} took {worst:?}");
}
