//! Volumes on shares that do not answer, beside others that do: a share that is dead costs its own pods and nobody else.
//! Needs root and /dev/fuse, and fails without.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use csi_room::{Node, done_as_pod, text};
use nix::sys::signal::{Signal, kill};
use permfs::csi::spec::volume_content_source::{Type as Source, VolumeSource};
use permfs::csi::spec::{CreateVolumeRequest, VolumeContentSource};
use tonic::Code;

/// What kubelet would call long for a volume that nothing is wrong with.
const LONG: Duration = Duration::from_secs(4);
/// The cached attributes of a share are too old by then.
const STALE: Duration = Duration::from_millis(1500);

/// Goes on when dropped, or the room could not be taken down.
struct Stopped(nix::unistd::Pid);

impl Stopped {
    fn now(process: nix::unistd::Pid) -> Self {
        csi_room::stop(process);
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

#[test]
fn a_dead_share_holds_up_no_other_volume_however_many_pods_ask_for_it_and_how_often() {
    let node = Node::new();
    let (hung, process) = node.share_that_may_hang();
    let (good, other) = (node.target("good"), node.target("other"));
    node.calls.publish(node.request("good", &good)).unwrap();
    let request = |pod: &str| {
        let mut request = node.request(pod, &node.target(pod));
        request.volume_context.insert("path".into(), text(&hung.join("d")));
        request
    };
    node.calls.publish(request("before")).unwrap();
    node.calls.unpublish("before", &node.target("before")).unwrap();

    let stopped = Stopped::now(process);
    sleep(STALE);
    for round in 0..2 {
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for pod in 0..150 {
                let (node, request) = (&node, request(&pod.to_string()));
                scope.spawn(move || {
                    assert_eq!(node.calls.publish(request).unwrap_err().code(), Code::Unavailable);
                });
            }
        });
        assert!(round == 0 || begin.elapsed() < LONG, "told at once: {:?}", begin.elapsed());
        node.has_waiting_threads(0..=8);
    }
    let begin = Instant::now();
    node.calls.publish(node.request("other", &other)).unwrap();
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", other.display()));
    for (volume, target) in [("good", &good), ("other", &other)] {
        node.calls.unpublish(volume, target).unwrap();
    }
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
    drop(stopped);

    let begin = Instant::now();
    while node.calls.publish(request("0")).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it answers again");
        sleep(Duration::from_millis(50));
    }
    node.calls.unpublish("0", &node.target("0")).unwrap();
    assert_eq!(node.ledger(), 0);
    node.has_waiting_threads(0..=0);
}

#[test]
fn a_pod_that_is_tried_again_on_a_dead_share_costs_one_thread() {
    let node = Node::new();
    let (hung, process) = node.share_that_may_hang();
    let _stopped = Stopped::now(process);
    sleep(STALE);
    let target = node.target("one");
    let mut request = node.request("vol", &target);
    request.volume_context.insert("path".into(), text(&hung.join("d")));
    for _ in 0..5 {
        assert_eq!(node.calls.publish(request.clone()).unwrap_err().code(), Code::Unavailable);
        node.calls.unpublish("vol", &target).unwrap();
        node.has_waiting_threads(1..=1);
    }
}

#[test]
fn copies_that_come_to_no_end_keep_no_other_volume_of_their_share_from_being_made() {
    let node = Node::new();
    let (_hung, process) = node.share_that_may_hang();
    let first = node.calls.create(node.creation("pvc-0")).unwrap();
    let source = VolumeSource { volume_id: first.volume_id.replace("##pvc-0#", "#hung#d#") };
    let content = VolumeContentSource { r#type: Some(Source::Volume(source)) };
    let stopped = Stopped::now(process);
    sleep(STALE);
    std::thread::scope(|scope| {
        for number in 0..12 {
            let content = Some(content.clone());
            let name = format!("copy-{number}");
            let request = CreateVolumeRequest { volume_content_source: content, ..node.creation(&name) };
            let node = &node;
            scope.spawn(move || node.calls.create(request).unwrap());
        }
        sleep(Duration::from_secs(1));
        let begin = Instant::now();
        let volume = node.calls.create(node.creation("pvc-1")).unwrap();
        node.calls.delete(&volume.volume_id).unwrap();
        assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
        drop(stopped);
    });
    node.has_waiting_threads(0..=0);
}

#[test]
fn a_host_in_a_new_container_takes_away_one_volume_and_no_mount_of_another() {
    let mut node = Node::with_contained_host();
    let inner = node.export().join("inner");
    std::fs::create_dir(&inner).unwrap();
    csi_room::mount_shared(&inner);
    std::fs::write(inner.join("file"), "mounted").unwrap();
    let (one, other) = (node.target("one"), node.target("other"));
    for (volume, target) in [("vol-1", &one), ("vol-2", &other)] {
        node.calls.publish(node.request(volume, target)).unwrap();
    }
    node.crash_host_and_daemons();
    node.calls.unpublish("vol-1", &one).unwrap();
    assert_eq!(std::fs::read_to_string(inner.join("file")).unwrap(), "mounted");
    node.calls.unpublish("vol-2", &other).unwrap();
    assert_eq!(std::fs::read_to_string(inner.join("file")).unwrap(), "mounted");
    assert_eq!(node.mounts().len(), 4, "export, inner, run, kubelet: {:?}", node.mounts());
    assert_eq!(node.ledger(), 0);
}

/// While a process hangs in the middle of execve(2), /proc does not tell what it has open, and whoever asks hangs too.
#[test]
fn a_process_that_hangs_on_a_dead_share_keeps_no_busy_volume_from_being_taken_away() {
    let node = Node::new();
    let (hung, process) = node.share_that_may_hang();
    let target = node.target("one");
    node.calls.publish(node.request("vol", &target)).unwrap();
    let pod = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=50000", "--regid=0", "--clear-groups", program]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let at = text(&target);
    let mut user = pod("sh", &["-c", &format!("cd {at} && echo ready && exec sleep 60")]);
    let file = text(&hung.join("d/file"));
    let script = "import os, sys; f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); print('ready', flush=True); \
        sys.stdin.readline(); os.execvp('sleep', ['sleep', '60'])";
    let mut hanging = Command::new("python3")
        .args(["-c", script, &file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for child in [&mut user, &mut hanging] {
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
    }
    let stopped = Stopped::now(process);
    hanging.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    sleep(Duration::from_millis(500));
    let begin = Instant::now();
    node.calls.unpublish("vol", &target).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(!target.exists());
    drop(stopped);
    for child in [&mut user, &mut hanging] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
