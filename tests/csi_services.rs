//! The plugin's services on a stand-in for the mount host: what is refused, what is passed on, and what happens when two
//! call at once. The cases of kubernetes-csi/csi-test (pkg/sanity) are here under sentences of our own.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use csi_room::{Calls, RULES, capability, capability_with, text};
use permfs::csi::mounter::Mounter;
use permfs::csi::rulebook::Rulebook;
use permfs::csi::server::{Services, router};
use permfs::csi::spec::volume_capability::access_mode::Mode;
use permfs::csi::spec::volume_capability::{AccessType, BlockVolume};
use permfs::csi::spec::volume_content_source::{SnapshotSource, Type as Source, VolumeSource};
use permfs::csi::spec::*;
use permfs::host::protocol::{
    Code as HostCode, Made, MakeVolume, Publish, Refusal, RemoveVolume, Share, Stage, Stats,
    Volume as HostVolume,
};
use tonic::{Code, Status};

/// How long what must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Notes what it is asked for; answers as it is told to; waits where it is told to.
#[derive(Default)]
struct Stand {
    calls: Mutex<Vec<String>>,
    staged: Mutex<Vec<Stage>>,
    published: Mutex<Vec<Publish>>,
    made: Mutex<Vec<MakeVolume>>,
    refuse: Mutex<Option<Refusal>>,
    gate: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Stand {
    fn answer(&self, call: &str) -> Result<(), Refusal> {
        self.calls.lock().unwrap().push(call.to_owned());
        let gate = self.gate.lock().unwrap().take();
        if let Some((entered, leave)) = gate {
            entered.send(()).unwrap();
            leave.recv().unwrap();
        }
        self.refuse.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Mounter for Stand {
    fn ready(&self) -> Result<(), Refusal> {
        self.answer("ready")
    }
    fn stage(&self, stage: Stage) -> Result<(), Refusal> {
        self.staged.lock().unwrap().push(stage);
        self.answer("stage")
    }
    fn unstage(&self, _: PathBuf) -> Result<(), Refusal> {
        self.answer("unstage")
    }
    fn publish(&self, publish: Publish) -> Result<(), Refusal> {
        self.published.lock().unwrap().push(publish);
        self.answer("publish")
    }
    fn unpublish(&self, _: PathBuf) -> Result<(), Refusal> {
        self.answer("unpublish")
    }
    fn stats(&self, _: String, _: PathBuf) -> Result<Stats, Refusal> {
        self.answer("stats").map(|()| Stats { usage: None, trouble: None })
    }
    fn make_volume(&self, make: MakeVolume) -> Result<Made, Refusal> {
        let capacity_bytes = make.required_bytes;
        self.made.lock().unwrap().push(make);
        self.answer("make").map(|()| Made { capacity_bytes })
    }
    fn remove_volume(&self, _: RemoveVolume) -> Result<(), Refusal> {
        self.answer("remove")
    }
    fn find_volume(&self, _: HostVolume) -> Result<Made, Refusal> {
        self.answer("find").map(|()| Made { capacity_bytes: 0 })
    }
}

struct Plugin {
    room: tempfile::TempDir,
    stand: Arc<Stand>,
    calls: Calls,
    _server: tokio::runtime::Runtime,
}

fn plugin() -> Plugin {
    plugin_with(Services { controller: true, node: Some(("node-1".to_owned(), None)) })
}

fn plugin_with(services: Services) -> Plugin {
    let room = tempfile::tempdir().unwrap();
    let rules = room.path().join("rules.toml");
    std::fs::write(&rules, RULES.replace("HOST_PATHS", "/srv")).unwrap();
    let stand = Arc::new(Stand::default());
    let server = tokio::runtime::Runtime::new().unwrap();
    let socket = room.path().join("csi.sock");
    let router = router(Arc::clone(&stand), Rulebook::new(rules), services);
    let _guard = server.enter();
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    server.spawn(router.serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener)));
    drop(_guard);
    Plugin { room, stand, calls: Calls::new(socket), _server: server }
}

#[track_caller]
fn is<T: std::fmt::Debug>(code: Code, outcome: Result<T, Status>) -> String {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    status.message().to_owned()
}

fn context(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn nfs() -> HashMap<String, String> {
    context(&[("server", "nas"), ("share", "/export"), ("nfsMountOptions", "vers=4.2")])
}

fn stage() -> NodeStageVolumeRequest {
    NodeStageVolumeRequest {
        volume_id: "vol".into(),
        staging_target_path: "/stage/vol".into(),
        volume_capability: Some(capability()),
        volume_context: nfs(),
    }
}

fn publish() -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: "vol".into(),
        staging_target_path: "/stage/vol".into(),
        target_path: "/pods/one".into(),
        volume_capability: Some(capability()),
        readonly: false,
        volume_context: nfs(),
    }
}

fn create(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        volume_capabilities: vec![capability()],
        parameters: context(&[("path", "/srv/a")]),
        ..CreateVolumeRequest::default()
    }
}

#[test]
fn the_driver_says_who_it_is_and_what_it_can() {
    let plugin = plugin();
    let calls = &plugin.calls;
    let info = calls.run(calls.identity().get_plugin_info(GetPluginInfoRequest {})).unwrap();
    assert_eq!((info.name.as_str(), info.vendor_version.is_empty()), ("permfs.csi.io", false));
    let can = calls.run(calls.identity().get_plugin_capabilities(GetPluginCapabilitiesRequest {})).unwrap();
    assert_eq!(can.capabilities.len(), 2);
    let can = calls.run(calls.node().node_get_capabilities(NodeGetCapabilitiesRequest {})).unwrap();
    assert_eq!(can.capabilities.len(), 5);
    let can = calls.run(calls.controller().controller_get_capabilities(ControllerGetCapabilitiesRequest {}));
    assert_eq!(can.unwrap().capabilities.len(), 4);
    let info = calls.run(calls.node().node_get_info(NodeGetInfoRequest {})).unwrap();
    assert_eq!(info.node_id, "node-1");
}

#[test]
fn a_plugin_of_a_node_serves_no_controller() {
    let plugin = plugin_with(Services { controller: false, node: Some(("n".into(), None)) });
    is(Code::Unimplemented, plugin.calls.create(create("a")));
    let identity = plugin.calls.identity();
    let mut identity = identity;
    let can = plugin.calls.run(identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {})).unwrap();
    assert!(can.capabilities.is_empty());
}

#[test]
fn ready_is_who_has_rules_and_a_host() {
    let plugin = plugin();
    assert!(plugin.calls.ready().unwrap());
    *plugin.stand.refuse.lock().unwrap() = Some(Refusal::new(HostCode::Unavailable, "no host"));
    assert!(!plugin.calls.ready().unwrap());
    *plugin.stand.refuse.lock().unwrap() = None;
    std::fs::remove_file(plugin.room.path().join("rules.toml")).unwrap();
    assert!(!plugin.calls.ready().unwrap());
}

#[test]
fn a_call_without_what_it_needs_is_an_invalid_argument_that_names_it() {
    let Plugin { calls, stand, .. } = &plugin();
    let invalid = |name: &str, outcome: Result<(), Status>| {
        let message = is(Code::InvalidArgument, outcome);
        assert!(message.contains(name), "{message} does not name {name}");
    };
    let staged = |change: &dyn Fn(&mut NodeStageVolumeRequest)| {
        let mut request = stage();
        change(&mut request);
        calls.stage(request).map(drop)
    };
    invalid("volume_id", staged(&|r| r.volume_id.clear()));
    invalid("staging_target_path", staged(&|r| r.staging_target_path.clear()));
    invalid("staging_target_path", staged(&|r| r.staging_target_path = "some/path".into()));
    invalid("volume_capability", staged(&|r| r.volume_capability = None));
    invalid("server", staged(&|r| r.volume_context.clear()));
    let published = |change: &dyn Fn(&mut NodePublishVolumeRequest)| {
        let mut request = publish();
        change(&mut request);
        calls.publish(request).map(drop)
    };
    invalid("volume_id", published(&|r| r.volume_id.clear()));
    invalid("target_path", published(&|r| r.target_path.clear()));
    invalid("target_path", published(&|r| r.target_path = "/a/../b".into()));
    invalid("volume_capability", published(&|r| r.volume_capability = None));
    invalid("mapUid", published(&|r| drop(r.volume_context.insert("mapuid".into(), String::new()))));
    invalid("profile", published(&|r| drop(r.volume_context.insert("profile".into(), "airflwo".into()))));
    let block = VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), ..capability() };
    invalid("block", published(&|r| r.volume_capability = Some(block.clone())));
    let group = capability_with(Mode::SingleNodeWriter, &[], "staff");
    invalid("volume_mount_group", published(&|r| r.volume_capability = Some(group.clone())));
    is(Code::FailedPrecondition, published(&|r| r.staging_target_path.clear()));
    let unstaged = |volume_id: &str, path: &str| {
        let request =
            NodeUnstageVolumeRequest { volume_id: volume_id.into(), staging_target_path: path.into() };
        calls.run(calls.node().node_unstage_volume(request)).map(drop)
    };
    invalid("volume_id", unstaged("", "/x"));
    invalid("staging_target_path", unstaged("vol", ""));
    invalid("volume_id", calls.unpublish("", "/x".as_ref()).map(drop));
    invalid("target_path", calls.unpublish("vol", "".as_ref()).map(drop));
    invalid("volume_id", calls.stats("", "/x".as_ref()).map(drop));
    invalid("volume_path", calls.stats("vol", "".as_ref()).map(drop));
    let expanded = |volume_id: &str, volume_path: &str| {
        let (volume_id, volume_path) = (volume_id.into(), volume_path.into());
        let request = NodeExpandVolumeRequest { volume_id, volume_path, capacity_range: None };
        calls.run(calls.node().node_expand_volume(request)).map(drop)
    };
    invalid("volume_id", expanded("", "/x"));
    invalid("volume_path", expanded("vol", ""));
    assert!(stand.calls.lock().unwrap().is_empty(), "nothing of it reached the host");
}

#[test]
fn a_volume_that_permfs_made_grows_only_while_it_is_there() {
    let Plugin { calls, stand, .. } = &plugin();
    let volume_id = calls.create(create("a")).unwrap().volume_id;
    let request = ControllerExpandVolumeRequest {
        volume_id,
        capacity_range: Some(CapacityRange { required_bytes: 7, limit_bytes: 0 }),
    };
    let expanded = || calls.run(calls.controller().controller_expand_volume(request.clone()));
    assert_eq!(expanded().unwrap().capacity_bytes, 7);
    *stand.refuse.lock().unwrap() = Some(Refusal::new(HostCode::NotFound, "there is no volume a"));
    is(Code::NotFound, expanded());
}

#[test]
fn a_controllers_call_without_what_it_needs_is_an_invalid_argument() {
    let Plugin { calls, stand, .. } = &plugin();
    let created = |change: &dyn Fn(&mut CreateVolumeRequest)| {
        let mut request = create("a");
        change(&mut request);
        is(Code::InvalidArgument, calls.create(request))
    };
    created(&|r| r.name.clear());
    created(&|r| r.volume_capabilities.clear());
    created(&|r| drop(r.parameters.insert("onDelete".into(), "never".into())));
    created(&|r| r.parameters.clear());
    created(&|r| drop(r.mutable_parameters.insert("iops".into(), "9".into())));
    created(&|r| r.capacity_range = Some(CapacityRange { required_bytes: 2, limit_bytes: 1 }));
    created(&|r| r.capacity_range = Some(CapacityRange { required_bytes: -1, limit_bytes: 0 }));
    let snapshot = Source::Snapshot(SnapshotSource { snapshot_id: "s".into() });
    let snapshot = VolumeContentSource { r#type: Some(snapshot) };
    assert!(created(&|r| r.volume_content_source = Some(snapshot.clone())).contains("snapshots"));
    is(Code::InvalidArgument, calls.delete(""));
    let validated = |volume_id: &str, volume_capabilities: Vec<_>| {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: volume_id.into(),
            volume_capabilities,
            ..ValidateVolumeCapabilitiesRequest::default()
        };
        calls.run(calls.controller().validate_volume_capabilities(request))
    };
    is(Code::InvalidArgument, validated("", vec![capability()]));
    is(Code::InvalidArgument, validated("vol", vec![]));
    is(Code::NotFound, validated("vol", vec![capability()]));
    let expanded = |volume_id: &str, capacity_range| {
        let request = ControllerExpandVolumeRequest { volume_id: volume_id.into(), capacity_range };
        calls.run(calls.controller().controller_expand_volume(request))
    };
    let range = CapacityRange { required_bytes: 7, limit_bytes: 0 };
    is(Code::InvalidArgument, expanded("", Some(range)));
    is(Code::InvalidArgument, expanded("vol", None));
    let grown = expanded("vol", Some(range)).unwrap();
    assert_eq!((grown.capacity_bytes, grown.node_expansion_required), (7, false));
    calls.delete("reallyfakevolumeid").unwrap();
    assert!(stand.calls.lock().unwrap().is_empty(), "nothing of it reached the host");
}

#[test]
fn a_volume_can_be_copied_within_its_share_alone() {
    let Plugin { calls, stand, .. } = &plugin();
    let first = calls.create(create("a")).unwrap();
    let copy = |volume_id: &str, path: &str| {
        let volume = Source::Volume(VolumeSource { volume_id: volume_id.into() });
        let mut request = create("b");
        request.parameters = context(&[("path", path)]);
        request.volume_content_source = Some(VolumeContentSource { r#type: Some(volume) });
        calls.create(request)
    };
    is(Code::NotFound, copy("no-such-volume", "/srv/a"));
    is(Code::InvalidArgument, copy(&first.volume_id, "/srv/b"));
    assert!(copy(&first.volume_id, "/srv/a").unwrap().content_source.is_some());
    assert_eq!(stand.made.lock().unwrap()[1].copy_of.as_ref().unwrap().to_string(), "a");
}

#[test]
fn what_the_host_refuses_reaches_the_caller_as_it_was_said() {
    let Plugin { calls, stand, .. } = &plugin();
    for (said, told) in [
        (HostCode::NotFound, Code::NotFound),
        (HostCode::AlreadyExists, Code::AlreadyExists),
        (HostCode::FailedPrecondition, Code::FailedPrecondition),
        (HostCode::PermissionDenied, Code::PermissionDenied),
        (HostCode::Aborted, Code::Aborted),
        (HostCode::ResourceExhausted, Code::ResourceExhausted),
        (HostCode::Unavailable, Code::Unavailable),
        (HostCode::DeadlineExceeded, Code::DeadlineExceeded),
        (HostCode::Internal, Code::Internal),
        (HostCode::InvalidArgument, Code::InvalidArgument),
    ] {
        *stand.refuse.lock().unwrap() = Some(Refusal::new(said, "the reason"));
        assert_eq!(is(told, calls.stage(stage())), "the reason");
        is(told, calls.publish_once(publish()));
        is(told, calls.unpublish_once("vol", "/pods/one".as_ref()));
        is(told, calls.stats("vol", "/pods/one".as_ref()));
        is(told, calls.create(create("a")));
    }
}

#[test]
fn staging_mounts_an_export_with_its_options_and_a_path_not_at_all() {
    let Plugin { calls, stand, .. } = &plugin();
    let mut request = stage();
    request.volume_capability =
        Some(capability_with(Mode::MultiNodeMultiWriter, &["ro", "hard", "timeo=50"], "5"));
    calls.stage(request).unwrap();
    let staged = stand.staged.lock().unwrap().remove(0);
    assert_eq!((staged.export.as_str(), text(&staged.staging).as_str()), ("nas:/export", "/stage/vol"));
    assert_eq!(staged.options, ["vers=4.2", "hard", "timeo=50"]);
    let mut request = stage();
    request.volume_context = context(&[("path", "/srv/a")]);
    calls.stage(request).unwrap();
    assert!(stand.staged.lock().unwrap().is_empty());
}

#[test]
fn publishing_passes_on_all_that_was_said() {
    let Plugin { calls, stand, .. } = &plugin();
    let mut request = publish();
    request.readonly = true;
    let flags = ["noexec", "context=\"u:r:t:s0\"", "hard"];
    request.volume_capability = Some(capability_with(Mode::SingleNodeSingleWriter, &flags, "1000"));
    request.volume_context.insert("subDir".into(), "a/b".into());
    request.volume_context.insert("profile".into(), "airflow".into());
    calls.publish(request).unwrap();
    let Publish { order, rules } = stand.published.lock().unwrap().remove(0);
    assert!(order.read_only && order.no_exec && order.alone);
    assert_eq!((order.fs_group, order.context.as_deref()), (Some(1000), Some("u:r:t:s0")));
    assert_eq!(order.directory.to_string(), "a/b");
    assert_eq!(order.choice.profile.as_deref(), Some("airflow"));
    let options = vec!["vers=4.2".to_owned(), "hard".to_owned()];
    assert_eq!(order.share, Share::Nfs { export: "nas:/export".into(), options });
    assert_eq!(rules.host_paths, [PathBuf::from("/srv")]);
    assert!(rules.text.contains("[profile.airflow]"));
}

#[test]
fn where_the_cluster_gives_no_selinux_context_the_plugins_own_holds() {
    let own = Some("system_u:object_r:container_file_t:s0".to_owned());
    let plugin = plugin_with(Services { controller: false, node: Some(("n".into(), own.clone())) });
    plugin.calls.publish(publish()).unwrap();
    let mut request = publish();
    request.volume_capability = Some(capability_with(Mode::SingleNodeWriter, &["context=\"u:r:t:s0\""], ""));
    plugin.calls.publish(request).unwrap();
    let contexts: Vec<_> =
        plugin.stand.published.lock().unwrap().iter().map(|publish| publish.order.context.clone()).collect();
    assert_eq!(contexts, [own, Some("u:r:t:s0".to_owned())]);
}

#[test]
fn a_second_call_for_the_same_target_is_told_to_come_back_and_others_go_on() {
    let Plugin { calls, stand, .. } = &plugin();
    let (entered, is_in) = mpsc::channel();
    let (let_go, leave) = mpsc::channel();
    *stand.gate.lock().unwrap() = Some((entered, leave));
    std::thread::scope(|scope| {
        // Gone with this scope: it would wait for ever for a call that is not let go.
        let let_go = let_go;
        let first = scope.spawn(|| calls.publish(publish()));
        is_in.recv_timeout(PATIENCE).unwrap();
        is(Code::Aborted, calls.publish_once(publish()));
        is(Code::Aborted, calls.unpublish_once("vol", "/pods/one".as_ref()));
        let mut other = publish();
        other.target_path = "/pods/other".into();
        calls.publish(other).unwrap();
        let_go.send(()).unwrap();
        first.join().unwrap().unwrap();
    });
    calls.publish(publish()).unwrap();
}

#[test]
fn a_hundred_calls_at_once_reach_the_host_one_by_one_for_each_target() {
    let Plugin { calls, stand, .. } = &plugin();
    std::thread::scope(|scope| {
        for n in 0..100 {
            scope.spawn(move || {
                let mut request = publish();
                request.target_path = format!("/pods/{}", n % 10);
                let outcome = calls.publish_once(request);
                assert!(outcome.is_ok() || outcome.unwrap_err().code() == Code::Aborted);
            });
        }
    });
    assert!(stand.published.lock().unwrap().len() >= 10);
}

#[test]
fn a_caller_that_gives_up_does_not_open_the_way_for_a_second_call() {
    let Plugin { calls, stand, .. } = &plugin();
    let (entered, is_in) = mpsc::channel();
    let (let_go, leave) = mpsc::channel();
    *stand.gate.lock().unwrap() = Some((entered, leave));
    let mut hasty = tonic::Request::new(publish());
    // Time enough to reach the host.
    hasty.set_timeout(Duration::from_secs(3));
    let given_up = calls.run(calls.node().node_publish_volume(hasty)).unwrap_err();
    assert!(matches!(given_up.code(), Code::Cancelled | Code::DeadlineExceeded), "{given_up:?}");
    is_in.recv_timeout(PATIENCE).unwrap();
    is(Code::Aborted, calls.publish_once(publish()));
    let_go.send(()).unwrap();
    calls.publish(publish()).unwrap();
}

#[test]
fn names_of_volumes_may_be_long_or_odd_and_stay_apart() {
    let Plugin { calls, .. } = &plugin();
    let long = "x".repeat(128);
    let made: Vec<_> =
        [long.as_str(), "a b", "a/b", "..", "ä"].map(|name| calls.create(create(name)).unwrap()).into();
    let ids: std::collections::BTreeSet<_> = made.iter().map(|volume| volume.volume_id.clone()).collect();
    assert_eq!(ids.len(), 5);
    for volume in made {
        assert!(!volume.volume_context["subDir"].contains('/'), "{volume:?}");
    }
}
