//! The CSI plugin and the mount host on the export: volumes made, staged and published under root_squash, and taken away
//! with the server gone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use permfs::csi::spec::volume_capability::access_mode::Mode as Access;
use permfs::csi::spec::{
    CreateVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnstageVolumeRequest,
};
use tonic::Code;

use super::csi_room::{Node, RULES, capability, capability_with, done_as_pod, sanity, text};
use super::machine::Version;
use super::runner::Scenario;
use super::stage::{Outage, PATIENCE, SERVER_ADDRESS, Stage, mount_table, wait_until, within};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "csi: a volume is made, staged, used, copied and removed, and nothing is left",
        run: life,
    },
    Scenario { name: "csi: a volume in a pod's spec has a mount of its own, gone with the pod", run: inline },
    Scenario { name: "csi: a subPath is made by the kubelet's root, and used by a pod", run: sub_path },
    Scenario { name: "csi: the fsGroup is the directory's group, and read-only is read-only", run: fs_group },
    Scenario { name: "csi: an export that is not there is refused with the reason", run: absent },
    Scenario {
        name: "csi: with the server gone volumes can be taken away, and others are undisturbed",
        run: without_server,
    },
    Scenario {
        name: "csi: with the server gone a pod that is tried again is told at once and costs one thread",
        run: tried_again,
    },
    Scenario {
        name: "csi: with the server gone a stage ends in time for its pod to go, and mount.nfs with it",
        run: stage_ends,
    },
    Scenario { name: "csi: csi-sanity finds nothing to complain of on the export", run: conformance },
];

/// The longest that kubelet should wait for a pod to go.
const GOING: Duration = Duration::from_secs(60);
/// Within which mount.nfs is given up: after 55 s by the host's design (`host/stage.rs`), and kubelet asks again after 120 s.
const GIVEN_UP: Duration = Duration::from_secs(100);
/// What is answered at once: where a question is put to the server that is gone, the answer takes 30 s.
const AT_ONCE: Duration = Duration::from_secs(15);

/// A volume's attributes: the stage's directory on the server.
fn attributes(stage: &Stage) -> HashMap<String, String> {
    let share = match stage.variant.version {
        Version::V3 => "/srv/nfs",
        Version::V4_2 => "/",
    };
    let pairs = [
        ("server", SERVER_ADDRESS),
        ("share", share),
        ("subDir", stage.directory().to_str().unwrap()),
        ("nfsMountOptions", &format!("vers={}", stage.variant.version.option())),
    ];
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn staged(node: &Node, volume_id: &str, context: &HashMap<String, String>) -> PathBuf {
    let staging = node.target("staging");
    let request = NodeStageVolumeRequest {
        volume_id: volume_id.to_owned(),
        staging_target_path: text(&staging),
        volume_capability: Some(capability()),
        volume_context: context.clone(),
    };
    node.calls.stage(request.clone()).unwrap();
    node.calls.stage(request).unwrap();
    staging
}

fn published(node: &Node, volume_id: &str, context: &HashMap<String, String>, staging: &Path) -> PathBuf {
    let target = node.target("pod");
    let request = NodePublishVolumeRequest {
        staging_target_path: text(staging),
        volume_context: context.clone(),
        ..node.request(volume_id, &target)
    };
    node.calls.publish(request.clone()).unwrap();
    node.calls.publish(request).unwrap();
    target
}

fn unstage(node: &Node, volume_id: &str, staging: &Path) {
    let request =
        NodeUnstageVolumeRequest { volume_id: volume_id.to_owned(), staging_target_path: text(staging) };
    node.calls.run(node.calls.node().node_unstage_volume(request)).unwrap();
}

fn life(stage: &Stage) {
    let node = Node::with_rules(RULES);
    let request = CreateVolumeRequest {
        name: "pvc-1".to_owned(),
        volume_capabilities: vec![capability()],
        parameters: attributes(stage),
        ..CreateVolumeRequest::default()
    };
    let volume = node.calls.create(request.clone()).unwrap();
    assert_eq!(node.calls.create(request.clone()).unwrap(), volume);
    let made = fs::metadata(stage.server("pvc-1")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (2001, 2001, 0o2775));
    // Root, who is squashed, could not enter it.
    fs::set_permissions(stage.server("pvc-1"), std::os::unix::fs::PermissionsExt::from_mode(0o2770)).unwrap();
    let (id, context) = (volume.volume_id.as_str(), &volume.volume_context);
    let staging = staged(&node, id, context);
    let target = published(&node, id, context, &staging);
    done_as_pod(50000, 0, "", &format!("mkdir {0}/d && echo hi > {0}/d/file", target.display()));
    let file = fs::metadata(stage.server("pvc-1/d/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (2001, 2001));
    assert!(node.calls.stats(id, &target).unwrap().usage.len() == 2);

    let mut copy = CreateVolumeRequest { name: "pvc-2".to_owned(), ..request };
    let source = permfs::csi::spec::volume_content_source::VolumeSource { volume_id: id.to_owned() };
    copy.volume_content_source = Some(permfs::csi::spec::VolumeContentSource {
        r#type: Some(permfs::csi::spec::volume_content_source::Type::Volume(source)),
    });
    let copied = node.calls.create(copy).unwrap();
    assert_eq!(fs::read_to_string(stage.server("pvc-2/d/file")).unwrap(), "hi\n");

    node.calls.unpublish(id, &target).unwrap();
    unstage(&node, id, &staging);
    unstage(&node, id, &staging);
    for volume in [id, &copied.volume_id] {
        node.calls.delete(volume).unwrap();
        node.calls.delete(volume).unwrap();
    }
    assert_eq!(stage.names_at_server(""), [".permfs"]);
    assert!(node.mounts().is_empty() && node.ledger() == 0, "{:?}", node.mounts());
}

fn inline(stage: &Stage) {
    let node = Node::with_rules(&RULES.replace("[csi]\n", "[csi]\ninline_volumes = true\n"));
    let mut context = attributes(stage);
    context.insert("csi.storage.k8s.io/ephemeral".to_owned(), "true".to_owned());
    let target = published(&node, "csi-1", &context, Path::new(""));
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
    assert_eq!(fs::metadata(stage.server("file")).unwrap().uid(), 2001);
    let mounts = mount_table().len();
    node.calls.unpublish("csi-1", &target).unwrap();
    // The pod's, the directory's, the export's.
    assert_eq!(mount_table().len(), mounts - 3, "{:?}", mount_table());
    assert!(node.mounts().is_empty() && node.ledger() == 0);
}

/// As the kubelet's subpath_linux.go does it: name by name, never through a symlink, and the directory found is mounted.
fn sub_path(stage: &Stage) {
    let node = Node::with_rules(&format!("{RULES}[profile.airflow.unmapped]\nroot = 2001\n"));
    let context = attributes(stage);
    let staging = staged(&node, "vol", &context);
    let target = published(&node, "vol", &context, &staging);
    let mode = fs::metadata(&target).unwrap().mode() & 0o777;
    let mut found = File::open(&target).unwrap();
    for name in ["logs", "2026"] {
        mkdirat(&found, name, Mode::from_bits_truncate(mode)).unwrap();
        found = openat(&found, name, OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).unwrap().into();
    }
    fchmod(&found, Mode::from_bits_truncate(mode)).unwrap();
    let place = node.target("subpath");
    fs::create_dir(&place).unwrap();
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    mount(Some(&source), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    drop(found);
    done_as_pod(50000, 0, "", &format!("echo hi > {0}/file && cat {0}/file", place.display()));
    let file = fs::metadata(stage.server("logs/2026/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (2001, 2001));
    umount2(&place, MntFlags::UMOUNT_NOFOLLOW).unwrap();
    node.calls.unpublish("vol", &target).unwrap();
    unstage(&node, "vol", &staging);
    assert!(node.mounts().is_empty() && node.ledger() == 0, "{:?}", node.mounts());
}

fn fs_group(stage: &Stage) {
    let node = Node::with_rules(RULES);
    let context = attributes(stage);
    let staging = staged(&node, "vol", &context);
    let (writer, reader) = (node.target("writer"), node.target("reader"));
    let request = |target: &Path| NodePublishVolumeRequest {
        staging_target_path: text(&staging),
        volume_context: context.clone(),
        volume_capability: Some(capability_with(Access::MultiNodeMultiWriter, &[], "3000")),
        ..node.request("vol", target)
    };
    node.calls.publish(request(&writer)).unwrap();
    node.calls.publish(NodePublishVolumeRequest { readonly: true, ..request(&reader) }).unwrap();
    let before = fs::metadata(stage.server("")).unwrap();
    // Nobody of the rules by its gid: the pod's fsGroup is all that it has.
    let made = format!("cd {} && stat -c %g . && mkdir d && echo hi > d/file", writer.display());
    assert_eq!(done_as_pod(50000, 3000, "3000", &made), "3000");
    let file = fs::metadata(stage.server("d/file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (2001, 2001));
    let after = fs::metadata(stage.server("")).unwrap();
    assert_eq!((before.uid(), before.gid(), before.mode()), (after.uid(), after.gid(), after.mode()));
    let at = reader.display();
    let refused =
        done_as_pod(50000, 3000, "3000", &format!("cat {at}/d/file; touch {at}/d/more 2>&1 || true"));
    assert!(refused.starts_with("hi\n") && refused.contains("Read-only file system"), "{refused}");
    for target in [&writer, &reader] {
        node.calls.unpublish("vol", target).unwrap();
    }
    unstage(&node, "vol", &staging);
    assert!(node.mounts().is_empty() && node.ledger() == 0, "{:?}", node.mounts());
}

fn absent(stage: &Stage) {
    let node = Node::with_rules(RULES);
    let mut context = attributes(stage);
    context.insert("share".to_owned(), "/no/such/export".to_owned());
    let refused = node.calls.stage(NodeStageVolumeRequest {
        volume_id: "vol".to_owned(),
        staging_target_path: text(&node.target("staging")),
        volume_capability: Some(capability()),
        volume_context: context,
    });
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("/no/such/export"), "{refused:?}");
    assert!(node.mounts().is_empty() && node.ledger() == 0);
}

fn without_server(stage: &Stage) {
    let node = Node::with_rules(RULES);
    let context = attributes(stage);
    let staging = staged(&node, "vol", &context);
    let target = published(&node, "vol", &context, &staging);
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
    // On this node's own disk: nothing that happens to the server concerns it.
    let local = node.target("local");
    node.calls.publish(node.request("other", &local)).unwrap();
    let outage = Outage::cut();
    let told = within(PATIENCE, "stats", || node.calls.stats("vol", &target).unwrap());
    assert!(told.volume_condition.unwrap().abnormal);
    within(GOING, "unpublish", || node.calls.unpublish("vol", &target).unwrap());
    within(GOING, "unstage", || unstage(&node, "vol", &staging));
    assert!(!target.exists());
    // Though a thread of the host's hung in the question for its space.
    assert_eq!(node.processes(&target), [], "left behind");
    assert_eq!(node.left().len(), 1, "the other's: {:?}", node.left());
    fs::write(node.export().join("from-below"), "undisturbed").unwrap();
    // As Kubernetes does it, again and again: on a busy machine the host does not come to look within its 3 s.
    let is_well = || !node.calls.stats("other", &local).unwrap().volume_condition.unwrap().abnormal;
    wait_until(PATIENCE, is_well).expect("the other is well");
    let seen = super::live::POD.run(|| fs::read_to_string(local.join("from-below")).unwrap());
    assert_eq!(seen, "undisturbed");
    drop(outage);
    node.calls.unpublish("other", &local).unwrap();
    assert!(node.mounts().is_empty() && node.ledger() == 0, "{:?}", node.mounts());
}

fn tried_again(stage: &Stage) {
    let node = Node::with_rules(RULES);
    let context = attributes(stage);
    let staging = staged(&node, "vol", &context);
    let request = |pod: &str| NodePublishVolumeRequest {
        staging_target_path: text(&staging),
        volume_context: context.clone(),
        ..node.request("vol", &node.target(pod))
    };
    let outage = Outage::cut();
    std::thread::sleep(Duration::from_secs(4));
    let refused = |pod: &str| node.calls.publish(request(pod)).unwrap_err().code();
    assert_eq!(within(PATIENCE, "publish", || refused("one")), Code::Unavailable);
    for pod in ["one", "other", "one"] {
        assert_eq!(within(AT_ONCE, "publish again", || refused(pod)), Code::Unavailable);
        within(AT_ONCE, "unpublish", || node.calls.unpublish("vol", &node.target(pod)).unwrap());
    }
    node.has_waiting_threads(1..=1);
    drop(outage);
    let target = within(GIVEN_UP, "publish when it is back", || {
        loop {
            match node.calls.publish(request("one")) {
                Ok(_) => break node.target("one"),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    });
    node.calls.unpublish("vol", &target).unwrap();
    unstage(&node, "vol", &staging);
    assert!(node.mounts().is_empty() && node.ledger() == 0, "{:?}", node.mounts());
    node.has_waiting_threads(0..=0);
}

fn stage_ends(stage: &Stage) {
    let node = Node::with_rules(RULES);
    let staging = node.target("staging");
    let outage = Outage::cut();
    let request = NodeStageVolumeRequest {
        volume_id: "vol".to_owned(),
        staging_target_path: text(&staging),
        volume_capability: Some(capability()),
        volume_context: attributes(stage),
    };
    within(GIVEN_UP, "stage", || node.calls.stage(request).unwrap_err());
    within(AT_ONCE, "unstage", || unstage(&node, "vol", &staging));
    assert!(node.mounts().is_empty() && node.ledger() == 0, "{:?}", node.mounts());
    node.has_waiting_threads(0..=0);
    let is_gone = || {
        let still = std::process::Command::new("pgrep").args(["-x", "mount.nfs"]).output();
        still.is_ok_and(|still| still.stdout.is_empty())
    };
    wait_until(AT_ONCE, is_gone).expect("mount.nfs is gone");
    drop(outage);
}

fn conformance(stage: &Stage) {
    let Some(program) = sanity::program() else {
        return stage.leave_out("CSI_SANITY does not name the program csi-sanity");
    };
    let node = Node::with_rules(RULES);
    println!("{}", sanity::passes(&program, &node, &attributes(stage)));
    assert_eq!(fs::read_dir(stage.server(".permfs")).unwrap().count(), 0);
}
