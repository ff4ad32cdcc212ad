//! Volumes published by the real plugin through the real host, seen from a pod and from the export. Needs root and
//! /dev/fuse, and fails without.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use csi_room::{Node, RULES, as_pod, capability_with, done_as_pod, text};
use nix::sys::signal::Signal;
use permfs::csi::spec::volume_capability::access_mode::Mode;
use tonic::Code;

/// How long what must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_pod_writes_as_its_own_id_and_the_export_has_the_mapped_one() {
    let node = Node::new();
    let target = node.target("one");
    let request = node.request("vol", &target);
    node.calls.publish(request.clone()).unwrap();
    let shown = done_as_pod(
        50000,
        0,
        "",
        &format!("echo hi > {0}/file; stat -c %u:%g:%a {0}/file", target.display()),
    );
    assert_eq!(shown, "50000:0:664");
    let stored = fs::metadata(node.export().join("file")).unwrap();
    assert_eq!((stored.uid(), stored.gid()), (2001, 2001));
    // The same once more is done already; something else is refused.
    node.calls.publish(request.clone()).unwrap();
    let other = permfs::csi::spec::NodePublishVolumeRequest { readonly: true, ..request };
    assert_eq!(node.calls.publish(other).unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(node.status().len(), 1);
    assert_eq!(node.status()[0]["source"], text(&node.export()).as_str());
    let daemon = node.daemon(&target);
    node.calls.unpublish("vol", &target).unwrap();
    node.calls.unpublish("vol", &target).unwrap();
    assert!(!target.exists() && node.mounts().is_empty() && node.ledger() == 0);
    let state = fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap_or_default();
    // Where nobody buries orphans it stays listed.
    assert!(state.is_empty() || state.contains(") Z "), "the daemon lives: {state}");
}

#[test]
fn two_pods_share_a_volume_by_rules_each_with_a_daemon_of_its_own() {
    let rules = RULES.replace("nfs = 2001 } ]\ngid", "nfs = 2001 }, { pod = 50001, nfs = 2002 } ]\ngid");
    let node = Node::with_rules(&rules);
    let (one, other) = (node.target("one"), node.target("other"));
    for target in [&one, &other] {
        node.calls.publish(node.request("vol", target)).unwrap();
    }
    assert_ne!(node.daemon(&one), node.daemon(&other));
    done_as_pod(50000, 0, "", &format!("mkdir {0}/d; echo 1 > {0}/d/f", one.display()));
    done_as_pod(50001, 0, "", &format!("echo 2 >> {0}/d/f; echo 3 > {0}/d/g", other.display()));
    assert_eq!(fs::read_to_string(node.export().join("d/f")).unwrap(), "1\n2\n");
    let stored = fs::metadata(node.export().join("d/g")).unwrap();
    assert_eq!((stored.uid(), stored.gid()), (2002, 2001));
}

#[test]
fn killing_the_plugin_ten_times_disturbs_no_writer() {
    let mut node = Node::new();
    let target = node.target("one");
    node.calls.publish(node.request("vol", &target)).unwrap();
    let script = format!(
        "i=0; while [ ! -e {0}/stop ]; do echo $i >> {0}/log || exit 9; i=$((i+1)); done",
        target.display()
    );
    let mut writer = Command::new("setpriv")
        .args(["--reuid=50000", "--regid=0", "--clear-groups", "sh", "-c", &script])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = || fs::read_to_string(node.export().join("log")).map_or(0, |text| text.lines().count());
    let mut before = lines();
    let export = node.export();
    for round in 0..10 {
        node.crash_plugin();
        let begin = Instant::now();
        let now = || fs::read_to_string(export.join("log")).map_or(0, |text| text.lines().count());
        while now() <= before {
            assert!(begin.elapsed() < PATIENCE, "the writer stands still after kill {round}");
            sleep(Duration::from_millis(5));
        }
        before = now();
    }
    done_as_pod(50000, 0, "", &format!("touch {}/stop", target.display()));
    assert!(writer.wait().unwrap().success());
    assert!(node.calls.stats("vol", &target).is_ok(), "the new plugin knows the volume");
    node.calls.unpublish("vol", &target).unwrap();
    assert!(node.mounts().is_empty());
}

#[test]
fn many_pods_that_come_and_go_at_once_leave_nothing() {
    let node = Node::new();
    std::thread::scope(|scope| {
        for pod in 0..12 {
            let node = &node;
            scope.spawn(move || {
                let target = node.target(&pod.to_string());
                for _ in 0..2 {
                    node.calls.publish(node.request("vol", &target)).unwrap();
                    done_as_pod(50000, 0, "", &format!("echo hi > {}/{pod}", target.display()));
                    node.calls.unpublish("vol", &target).unwrap();
                }
            });
        }
    });
    assert!(node.mounts().is_empty() && node.ledger() == 0);
    assert_eq!(fs::read_dir(node.export()).unwrap().count(), 12);
}

#[test]
fn a_host_that_is_started_again_finds_everything_and_disturbs_nothing() {
    let mut node = Node::new();
    let target = node.target("one");
    let request = node.request("vol", &target);
    node.calls.publish(request.clone()).unwrap();
    node.crash_host();
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
    node.calls.publish(request.clone()).unwrap();
    let other = permfs::csi::spec::NodePublishVolumeRequest { readonly: true, ..request };
    assert_eq!(node.calls.publish(other).unwrap_err().code(), Code::AlreadyExists);
    assert!(!node.calls.stats("vol", &target).unwrap().volume_condition.unwrap().abnormal);
    node.calls.unpublish("vol", &target).unwrap();
    assert!(node.mounts().is_empty() && node.ledger() == 0);
}

#[test]
fn a_crashed_daemon_touches_its_own_volume_alone_and_unpublish_ends() {
    let node = Node::new();
    let (one, other) = (node.target("one"), node.target("other"));
    for (volume, target) in [("vol-1", &one), ("vol-2", &other)] {
        node.calls.publish(node.request(volume, target)).unwrap();
    }
    node.crash_daemon(&one);
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", other.display()));
    let condition = node.calls.stats("vol-1", &one).unwrap().volume_condition.unwrap();
    assert!(condition.abnormal && condition.message.contains("ended"), "{condition:?}");
    node.calls.unpublish("vol-1", &one).unwrap();
    assert!(!one.exists());
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", other.display()));
}

#[test]
fn a_volume_whose_daemon_crashed_is_shown_again_by_the_next_publish() {
    let node = Node::new();
    let target = node.target("one");
    let request = node.request("vol", &target);
    node.calls.publish(request.clone()).unwrap();
    node.crash_daemon(&target);
    node.calls.publish(request).unwrap();
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
    assert_eq!(node.status().len(), 1);
}

#[test]
fn unpublish_and_stats_end_where_the_daemon_is_stopped() {
    let node = Node::new();
    let target = node.target("one");
    node.calls.publish(node.request("vol", &target)).unwrap();
    csi_room::stop(node.daemon(&target));
    let begin = Instant::now();
    for _ in 0..3 {
        let condition = node.calls.stats("vol", &target).unwrap().volume_condition.unwrap();
        assert!(condition.abnormal, "{condition:?}");
    }
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    let begin = Instant::now();
    node.calls.unpublish("vol", &target).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(50), "{:?}", begin.elapsed());
    assert!(!target.exists() && node.mounts().is_empty());
    assert_eq!(node.processes(&target), [], "left behind");
    assert_eq!(node.left(), Vec::<String>::new());
    node.has_waiting_threads(0..=0);
}

#[test]
fn unpublish_ends_where_the_volume_is_in_use() {
    let node = Node::new();
    let target = node.target("one");
    node.calls.publish(node.request("vol", &target)).unwrap();
    fs::write(node.export().join("file"), "").unwrap();
    let _open = fs::File::open(target.join("file")).err();
    let mut user = Command::new("setpriv")
        .args(["--reuid=50000", "--regid=0", "--clear-groups", "sleep", "60"])
        .current_dir(node.export())
        .spawn()
        .unwrap();
    node.calls.unpublish("vol", &target).unwrap();
    assert!(!target.exists() && node.mounts().is_empty());
    user.kill().unwrap();
    user.wait().unwrap();
}

#[test]
fn a_read_only_volume_is_read_only_whoever_says_so() {
    let node = Node::new();
    for (pod, readonly, mode, flags) in [
        ("request", true, Mode::MultiNodeMultiWriter, &[][..]),
        ("mode", false, Mode::MultiNodeReaderOnly, &[]),
        ("flag", false, Mode::MultiNodeMultiWriter, &["ro"]),
    ] {
        let target = node.target(pod);
        let mut request = node.request(pod, &target);
        request.readonly = readonly;
        request.volume_capability = Some(capability_with(mode, flags, ""));
        node.calls.publish(request).unwrap();
        let refused = as_pod(50000, 0, "", &format!("touch {}/file", target.display()));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("Read-only file system"), "{pod}");
    }
}

#[test]
fn the_fs_group_is_shown_and_acts_as_the_directorys_group_and_nothing_is_chowned() {
    let node = Node::new();
    fs::set_permissions(node.export(), fs::Permissions::from_mode(0o2775)).unwrap();
    fs::create_dir(node.export().join("shared")).unwrap();
    chown(node.export().join("shared"), Some(2001), Some(2001)).unwrap();
    fs::set_permissions(node.export().join("shared"), fs::Permissions::from_mode(0o2770)).unwrap();
    let rules = RULES.replace("nfs = 2001 } ]\ngid", "nfs = 2001 }, { pod = 1000, nfs = 3000 } ]\ngid");
    node.write_rules(&rules);
    let target = node.target("one");
    let mut request = node.request("vol", &target);
    request.volume_capability = Some(capability_with(Mode::MultiNodeMultiWriter, &[], "7777"));
    node.calls.publish(request).unwrap();
    let at = target.display();
    assert_eq!(done_as_pod(50000, 0, "7777", &format!("stat -c %g {at}/shared")), "7777");
    // A pod user that has nothing but its fsGroup.
    done_as_pod(1000, 7777, "7777", &format!("echo hi > {at}/shared/file"));
    let stored = fs::metadata(node.export().join("shared/file")).unwrap();
    assert_eq!((stored.uid(), stored.gid()), (3000, 2001));
    let directory = fs::metadata(node.export().join("shared")).unwrap();
    assert_eq!((directory.uid(), directory.gid()), (2001, 2001));
    // Group 0 still acts as its rule says.
    done_as_pod(50000, 0, "7777", &format!("echo hi > {at}/shared/other"));
}

#[test]
fn a_pod_that_has_its_fs_group_alone_is_let_in() {
    let node = Node::with_rules(&RULES.replace("gid = [ { pod = 0, nfs = 2001 } ]\n", ""));
    fs::set_permissions(node.export(), fs::Permissions::from_mode(0o770)).unwrap();
    let target = node.target("one");
    let mut request = node.request("vol", &target);
    assert_eq!(node.calls.publish(request.clone()).unwrap_err().code(), Code::FailedPrecondition);
    request.volume_capability = Some(capability_with(Mode::MultiNodeMultiWriter, &[], "7777"));
    node.calls.publish(request).unwrap();
    done_as_pod(50000, 7777, "7777", &format!("echo hi > {}/file", target.display()));
    let stored = fs::metadata(node.export().join("file")).unwrap();
    assert_eq!((stored.uid(), stored.gid()), (2001, 2001));
}

#[test]
fn an_unusable_share_is_refused_with_the_reason_and_leaves_nothing() {
    let node = Node::new();
    let closed = node.export().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    symlink("/etc", node.export().join("link")).unwrap();
    fs::write(node.export().join("file"), "").unwrap();
    for (sub_dir, code, reason) in [
        ("closed", Code::FailedPrecondition, "cannot be entered as 2001:2001"),
        ("missing", Code::NotFound, "does not exist"),
        ("link", Code::FailedPrecondition, "symlink"),
        ("file", Code::FailedPrecondition, "not a directory"),
    ] {
        let target = node.target(sub_dir);
        let mut request = node.request("vol", &target);
        request.volume_context.insert("subDir".into(), sub_dir.into());
        let refused = node.calls.publish(request).unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(reason), "{refused:?}");
        assert!(!target.exists() && node.ledger() == 0);
    }
    assert!(node.mounts().is_empty());
}

#[test]
fn a_directory_that_only_its_owner_may_reach_is_shown() {
    let node = Node::new();
    let deep = node.export().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    for dir in [node.export(), node.export().join("a"), deep.clone()] {
        chown(&dir, Some(2001), Some(2001)).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let target = node.target("one");
    let mut request = node.request("vol", &target);
    request.volume_context.insert("subDir".into(), "a/b".into());
    node.calls.publish(request).unwrap();
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
    assert!(deep.join("file").exists());
}

#[test]
fn what_the_admin_has_not_allowed_is_refused() {
    let node = Node::new();
    let target = node.target("one");
    let denied = |change: &dyn Fn(&mut permfs::csi::spec::NodePublishVolumeRequest)| {
        let mut request = node.request("vol", &target);
        change(&mut request);
        let refused = node.calls.publish(request).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        refused.message().to_owned()
    };
    let set = |key: &'static str, value: &'static str| {
        move |request: &mut permfs::csi::spec::NodePublishVolumeRequest| {
            request.volume_context.insert(key.into(), value.into());
        }
    };
    assert!(denied(&set("path", "/etc")).contains("host_paths"));
    assert!(denied(&set("csi.storage.k8s.io/ephemeral", "true")).contains("inline_volumes"));
    assert!(denied(&set("mapUid", "1:2")).contains("inline_rules"));
    node.write_rules(
        &RULES.replace("[profile.airflow]\n", "[profile.airflow]\nnamespaces = [\"airflow\"]\n"),
    );
    assert!(denied(&set("csi.storage.k8s.io/pod.namespace", "other")).contains("namespaces airflow"));
    assert!(denied(&|_| ()).contains("podInfoOnMount"));
    let mut request = node.request("vol", &target);
    request.volume_context.insert("csi.storage.k8s.io/pod.namespace".into(), "airflow".into());
    node.calls.publish(request).unwrap();
}

#[test]
fn inline_volumes_and_rules_work_where_they_are_allowed() {
    let node =
        Node::with_rules(&RULES.replace("[csi]\n", "[csi]\ninline_volumes = true\ninline_rules = true\n"));
    fs::set_permissions(node.export(), fs::Permissions::from_mode(0o775)).unwrap();
    let target = node.target("one");
    let mut request = node.request("csi-123", &target);
    request.staging_target_path = String::new();
    request.volume_context.insert("csi.storage.k8s.io/ephemeral".into(), "true".into());
    request.volume_context.insert("mapUid".into(), "1234:2003".into());
    node.calls.publish(request).unwrap();
    done_as_pod(1234, 0, "", &format!("echo hi > {}/file", target.display()));
}

#[test]
fn changed_rules_hold_at_the_next_publish_and_a_bad_file_is_told_with_its_line() {
    let node = Node::new();
    assert!(node.calls.ready().unwrap());
    node.write_rules(&RULES.replace("uid = [", "uidd = ["));
    assert!(!node.calls.ready().unwrap());
    let target = node.target("one");
    let refused = node.calls.publish(node.request("vol", &target)).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("rules.toml:5"), "{refused:?}");
    node.write_rules(&RULES.replace("50000", "60000"));
    node.calls.publish(node.request("vol", &target)).unwrap();
    done_as_pod(60000, 0, "", &format!("echo hi > {}/file", target.display()));
}

#[test]
fn changed_rules_reach_the_volumes_that_are_shown_and_a_bad_file_leaves_them_as_they_are() {
    let node = Node::new();
    let targets = ["one", "other"].map(|pod| node.target(pod));
    for target in &targets {
        node.calls.publish(node.request("vol", target)).unwrap();
    }
    let daemons = targets.each_ref().map(|target| node.daemon(target));
    let shown = |uid: &str| {
        let look = |target: &std::path::PathBuf| fs::metadata(target).unwrap().uid().to_string() == uid;
        targets.iter().all(look)
    };
    let within = |what: &str, holds: &dyn Fn() -> bool| {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < PATIENCE, "{what} does not come:\n{}", node.logs());
            sleep(Duration::from_millis(100));
        }
    };
    node.write_rules(&RULES.replace("50000", "60000"));
    within("the new uid", &|| shown("60000"));
    node.write_rules(&RULES.replace("nfs = 2001", "nfs = 0"));
    let refused = || node.status().iter().all(|mount| mount["rules"]["refused"].is_string());
    within("the refusal", &refused);
    assert!(shown("60000"));
    done_as_pod(60000, 0, "", &format!("echo hi > {}/file", targets[0].display()));
    node.write_rules(RULES);
    within("the first uid", &|| shown("50000"));
    assert_eq!(daemons, targets.each_ref().map(|target| node.daemon(target)));
    for target in &targets {
        node.calls.unpublish("vol", target).unwrap();
    }
    assert_eq!((node.ledger(), node.mounts().len()), (0, 0));
}

#[test]
fn a_volume_for_one_pod_is_published_once() {
    let node = Node::new();
    let (one, other) = (node.target("one"), node.target("other"));
    let mut request = node.request("vol", &one);
    request.volume_capability = Some(capability_with(Mode::SingleNodeSingleWriter, &[], ""));
    node.calls.publish(request.clone()).unwrap();
    node.calls.publish(request.clone()).unwrap();
    request.target_path = text(&other);
    assert_eq!(node.calls.publish(request.clone()).unwrap_err().code(), Code::FailedPrecondition);
    node.calls.unpublish("vol", &one).unwrap();
    node.calls.publish(request).unwrap();
}

#[test]
fn space_is_told_of_published_volumes_and_of_no_others() {
    let node = Node::new();
    let target = node.target("one");
    node.calls.publish(node.request("vol", &target)).unwrap();
    let stats = node.calls.stats("vol", &target).unwrap();
    assert!(stats.usage.len() == 2 && stats.usage.iter().all(|usage| usage.total > 0), "{stats:?}");
    assert_eq!(node.calls.stats("other", &target).unwrap_err().code(), Code::NotFound);
    assert_eq!(node.calls.stats("vol", &node.target("two")).unwrap_err().code(), Code::NotFound);
}

#[test]
fn the_plugin_is_not_ready_without_a_host_and_says_where_it_looked() {
    let mut node = Node::new();
    node.host.kill().unwrap();
    node.host.wait().unwrap();
    assert!(!node.calls.ready().unwrap());
    let target = node.target("one");
    let refused = node.calls.publish(node.request("vol", &target)).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("host.sock"), "{refused:?}");
    node.crash_host();
    assert!(node.calls.ready().unwrap());
}

#[test]
fn both_end_quietly_at_sigterm_and_a_second_one_does_not_take_the_socket() {
    let mut node = Node::new();
    let target = node.target("one");
    node.calls.publish(node.request("vol", &target)).unwrap();
    let socket = target.ancestors().nth(3).unwrap().join("host.sock");
    let second =
        Command::new(env!("CARGO_BIN_EXE_permfs")).arg("host").arg("--socket").arg(&socket).output().unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("already"), "{second:?}");
    assert!(Node::end(&mut node.plugin, Signal::SIGTERM).success());
    assert!(Node::end(&mut node.host, Signal::SIGTERM).success());
    assert!(!socket.exists() && !socket.with_file_name("csi.sock").exists());
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
}

#[test]
fn only_root_may_call_the_host() {
    let node = Node::new();
    let socket = node.target("x").ancestors().nth(3).unwrap().join("host.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let script = format!(
        "python3 -c \"import socket; s=socket.socket(socket.AF_UNIX); s.connect('{}'); \
         s.sendall(b'{{\\\"version\\\":1,\\\"message\\\":\\\"ready\\\"}}\\n'); print(s.recv(4096).decode())\"",
        socket.display()
    );
    // Refused, or hung up on while it still talks.
    let stranger = as_pod(50000, 0, "", &script);
    assert!(!String::from_utf8_lossy(&stranger.stdout).contains("done"), "{stranger:?}");
    assert!(done_as_pod(0, 0, "", &script).contains("done"));
    assert!(node.logs().contains("only root may call"));
}

/// NodePublishVolumeRequest with the field that this plugin does not read.
#[derive(Clone, PartialEq, prost::Message)]
struct WithSecrets {
    #[prost(string, tag = "1")]
    volume_id: String,
    #[prost(string, tag = "3")]
    staging_target_path: String,
    #[prost(string, tag = "4")]
    target_path: String,
    #[prost(message, optional, tag = "5")]
    volume_capability: Option<permfs::csi::spec::VolumeCapability>,
    #[prost(map = "string, string", tag = "7")]
    secrets: std::collections::HashMap<String, String>,
    #[prost(map = "string, string", tag = "8")]
    volume_context: std::collections::HashMap<String, String>,
}

#[test]
fn secrets_and_mount_flags_stand_in_no_log_whatever_its_level() {
    let node = Node::new();
    let target = node.target("one");
    let request = node.request("vol", &target);
    for context in [request.volume_context.clone(), std::collections::HashMap::new()] {
        let secret = WithSecrets {
            volume_id: "vol".into(),
            staging_target_path: request.staging_target_path.clone(),
            target_path: request.target_path.clone(),
            volume_capability: Some(capability_with(Mode::MultiNodeMultiWriter, &["password=hunter3"], "")),
            secrets: [("password".to_owned(), "hunter2".to_owned())].into(),
            volume_context: context,
        };
        let mut client = tonic::client::Grpc::new(node.calls.channel.clone());
        let call = async {
            client.ready().await.unwrap();
            let path = "/csi.v1.Node/NodePublishVolume".parse().unwrap();
            let codec = tonic_prost::ProstCodec::<_, permfs::csi::spec::NodePublishVolumeResponse>::default();
            client.unary(tonic::Request::new(secret), path, codec).await
        };
        assert_eq!(node.calls.run(call).unwrap_err().code(), Code::InvalidArgument);
    }
    node.calls.publish(request).unwrap();
    let logs = node.logs();
    assert!(logs.contains("published") && logs.contains("refused"), "{logs}");
    assert!(!logs.contains("hunter"), "{logs}");
}

#[test]
fn a_claims_namespace_in_the_attributes_opens_no_profile_to_a_pod() {
    let rules = RULES.replace("[profile.airflow]\n", "[profile.airflow]\nnamespaces = [\"airflow\"]\n");
    let node = Node::with_rules(&rules);
    let target = node.target("one");
    let mut request = node.request("vol", &target);
    request.volume_context.insert("csi.storage.k8s.io/pvc/namespace".into(), "airflow".into());
    let refused = node.calls.publish(request.clone()).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    request.volume_context.insert("csi.storage.k8s.io/pod.namespace".into(), "airflow".into());
    node.calls.publish(request).unwrap();
}

#[test]
fn a_file_or_a_symlink_in_the_place_of_a_target_is_taken_away() {
    let node = Node::new();
    let target = node.target("one");
    fs::write(&target, "").unwrap();
    node.calls.unpublish("vol", &target).unwrap();
    assert!(!target.exists());
    symlink(node.export(), &target).unwrap();
    node.calls.unpublish("vol", &target).unwrap();
    assert!(fs::symlink_metadata(&target).is_err() && node.export().is_dir());
}

#[test]
fn what_a_pods_event_says_names_the_path_and_the_key_to_write() {
    let node = Node::new();
    let target = node.target("one").with_file_name("absent").join("mount");
    let refused = node.calls.publish(node.request("vol", &target)).unwrap_err();
    assert!(refused.message().contains(&text(&target)), "{refused:?}");
    node.write_rules(&format!("{RULES}[profile.other]\nuid = [{{ pod = 1, nfs = 2 }}]\n"));
    let refused = node.calls.publish(node.request("vol", &node.target("two"))).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("the key profile") && !refused.message().contains("--profile"),
        "{refused:?}"
    );
    assert!(refused.message().contains("airflow, other"), "{refused:?}");
}

#[test]
fn a_mount_of_which_nothing_is_known_is_kept_where_it_answers_and_made_anew_where_not() {
    let node = Node::new();
    let target = node.target("one");
    let request = node.request("vol", &target);
    node.calls.publish(request.clone()).unwrap();
    let processes = node.processes(&target);
    node.forget();
    node.calls.publish(request.clone()).unwrap();
    assert_eq!(node.status().len(), 1);
    for process in processes {
        assert!(!csi_room::is_gone(process), "it served");
    }
    node.crash_daemon(&target);
    node.forget();
    node.calls.publish(request).unwrap();
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
}

#[test]
fn a_host_of_an_older_version_keeps_mounts_whose_records_it_cannot_read() {
    let mut node = Node::new();
    let target = node.target("one");
    let request = node.request("vol", &target);
    node.calls.publish(request.clone()).unwrap();
    let record = target.ancestors().nth(3).unwrap().join("run/host/0/record.json");
    let newer = fs::read_to_string(&record).unwrap().replace("\"volume_id\"", "\"volume\"");
    fs::write(&record, newer).unwrap();
    node.crash_host();
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
    node.calls.publish(request).unwrap();
    done_as_pod(50000, 0, "", &format!("echo hi >> {}/file", target.display()));
    assert!(node.calls.stats("vol", &target).is_ok());
    node.calls.unpublish("vol", &target).unwrap();
    assert!(node.mounts().is_empty() && node.ledger() == 0);
}
