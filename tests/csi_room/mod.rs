//! A mount host and a CSI plugin on an export of their own, called as kubelet calls them: gRPC over a unix socket.
#![allow(dead_code, unreachable_pub)]

pub mod sanity;

use std::collections::HashMap;
use std::fs::{self, File};
use std::future::Future;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use permfs::csi::spec::controller_client::ControllerClient;
use permfs::csi::spec::identity_client::IdentityClient;
use permfs::csi::spec::node_client::NodeClient;
use permfs::csi::spec::volume_capability::access_mode::Mode;
use permfs::csi::spec::volume_capability::{AccessMode, AccessType, MountVolume};
use permfs::csi::spec::*;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// Rules for an export of 2001:2001; `HOST_PATHS` stands for the export's own directory.
pub const RULES: &str = "version = 1
[csi]
host_paths = [\"HOST_PATHS\"]
[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.airflow.permissions]
group_write = true
setgid = true
";
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients of one plugin's socket. Blocking, as a test reads best.
pub struct Calls {
    runtime: tokio::runtime::Runtime,
    pub channel: Channel,
}

impl Calls {
    /// Connects when the first call is made.
    pub fn new(socket: PathBuf) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // Sidecars send `localhost` as the authority, whatever the socket is.
        let endpoint = Endpoint::from_static("http://localhost");
        let _guard = runtime.enter();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        let channel = endpoint.connect_with_connector_lazy(connector);
        drop(_guard);
        Self { runtime, channel }
    }

    pub fn run<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        self.runtime.block_on(call).map(Response::into_inner)
    }

    pub fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    pub fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }

    pub fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }

    pub fn stage(&self, request: NodeStageVolumeRequest) -> Result<NodeStageVolumeResponse, Status> {
        self.run(self.node().node_stage_volume(request))
    }

    /// As kubelet does it.
    pub fn publish(&self, request: NodePublishVolumeRequest) -> Result<NodePublishVolumeResponse, Status> {
        until_its_turn(|| self.publish_once(request.clone()))
    }

    /// Whatever else is under way for the target.
    pub fn publish_once(
        &self,
        request: NodePublishVolumeRequest,
    ) -> Result<NodePublishVolumeResponse, Status> {
        self.run(self.node().node_publish_volume(request))
    }

    /// As kubelet does it.
    pub fn unpublish(&self, volume_id: &str, target: &Path) -> Result<NodeUnpublishVolumeResponse, Status> {
        until_its_turn(|| self.unpublish_once(volume_id, target))
    }

    /// Whatever else is under way for the target.
    pub fn unpublish_once(
        &self,
        volume_id: &str,
        target: &Path,
    ) -> Result<NodeUnpublishVolumeResponse, Status> {
        let request =
            NodeUnpublishVolumeRequest { volume_id: volume_id.to_owned(), target_path: text(target) };
        self.run(self.node().node_unpublish_volume(request))
    }

    pub fn stats(&self, volume_id: &str, path: &Path) -> Result<NodeGetVolumeStatsResponse, Status> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume_id.to_owned(),
            volume_path: text(path),
            ..NodeGetVolumeStatsRequest::default()
        };
        self.run(self.node().node_get_volume_stats(request))
    }

    pub fn create(&self, request: CreateVolumeRequest) -> Result<Volume, Status> {
        self.run(self.controller().create_volume(request)).map(|made| made.volume.unwrap())
    }

    pub fn delete(&self, volume_id: &str) -> Result<DeleteVolumeResponse, Status> {
        self.run(self.controller().delete_volume(DeleteVolumeRequest { volume_id: volume_id.to_owned() }))
    }

    pub fn ready(&self) -> Result<bool, Status> {
        self.run(self.identity().probe(ProbeRequest {})).map(|probed| probed.ready.unwrap())
    }
}

/// Calls again where another call for the target is under way. A host that begins anew looks at each of its volumes, and so does one
/// that is told new rules.
fn until_its_turn<T>(call: impl Fn() -> Result<T, Status>) -> Result<T, Status> {
    let begin = Instant::now();
    loop {
        match call() {
            Err(status) if status.code() == Code::Aborted && begin.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(50));
            }
            outcome => return outcome,
        }
    }
}

/// `export/` of 2001:2001, mode 755, a host, a plugin, and a kubelet's directory.
pub struct Node {
    room: tempfile::TempDir,
    pub host: Child,
    pub plugin: Child,
    pub calls: Calls,
    /// Whether the host has a mount namespace of its own, as in its container.
    contained: bool,
}

impl Node {
    pub fn new() -> Self {
        Self::with_rules(RULES)
    }

    pub fn with_rules(rules: &str) -> Self {
        Self::make(rules, false)
    }

    /// With a host in a mount namespace of its own, of which this one sees what is mounted in the export, the runtime directory
    /// and kubelet's: all three are shared mounts.
    pub fn with_contained_host() -> Self {
        Self::make(RULES, true)
    }

    fn make(rules: &str, contained: bool) -> Self {
        let fuse = File::options().read(true).write(true).open("/dev/fuse");
        assert!(nix::unistd::geteuid().is_root() && fuse.is_ok(), "this test needs root and /dev/fuse");
        let room = tempfile::Builder::new().prefix("permfs-csi-").tempdir().unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let export = room.path().join("export");
        fs::create_dir(&export).unwrap();
        fs::create_dir(room.path().join("kubelet")).unwrap();
        fs::create_dir(room.path().join("run")).unwrap();
        for shared in ["export", "run", "kubelet"].iter().filter(|_| contained) {
            mount_shared(&room.path().join(shared));
        }
        chown(&export, Some(2001), Some(2001)).unwrap();
        write_rules(room.path(), rules);
        let host = start_host(room.path(), contained);
        let plugin = start_plugin(room.path(), "csi.sock", &[]);
        let calls = Calls::new(room.path().join("csi.sock"));
        Self { room, host, plugin, calls, contained }
    }

    pub fn export(&self) -> PathBuf {
        self.room.path().join("export")
    }

    /// Where kubelet would have a pod's volume; its parent exists.
    pub fn target(&self, pod: &str) -> PathBuf {
        let parent = self.room.path().join("kubelet").join(pod);
        fs::create_dir_all(&parent).unwrap();
        parent.join("mount")
    }

    pub fn write_rules(&self, rules: &str) {
        write_rules(self.room.path(), rules);
    }

    /// kill -9, and a new one.
    pub fn crash_plugin(&mut self) {
        self.plugin.kill().unwrap();
        self.plugin.wait().unwrap();
        self.plugin = start_plugin(self.room.path(), "csi.sock", &[]);
    }

    /// SIGTERM, and a new one as soon as it may have the place. Returns when the old one has ended, and how.
    pub fn succeed_plugin(&mut self) -> std::process::ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.plugin.id()).unwrap()), Signal::SIGTERM).unwrap();
        let mut old = loop {
            let new = spawn_plugin(self.room.path(), "csi.sock", &[]);
            let old = std::mem::replace(&mut self.plugin, new);
            // One that finds the place taken ends at once.
            sleep(Duration::from_millis(500));
            if self.plugin.try_wait().unwrap().is_none() {
                break old;
            }
            self.plugin = old;
        };
        old.wait().unwrap()
    }

    /// Where the plugin answers.
    pub fn socket(&self) -> PathBuf {
        self.room.path().join("csi.sock")
    }

    /// Another one, beside the first and on the same host.
    pub fn second_plugin(&self, arguments: &[&str]) -> Second {
        let process = start_plugin(self.room.path(), "second.sock", arguments);
        Second { process, calls: Calls::new(self.room.path().join("second.sock")) }
    }

    /// kill -9, and a new one.
    pub fn crash_host(&mut self) {
        self.host.kill().unwrap();
        self.host.wait().unwrap();
        self.host = start_host(self.room.path(), self.contained);
    }

    /// As the container's end has it: host and daemons are gone at once.
    pub fn crash_host_and_daemons(&mut self) {
        for mount in self.status() {
            self.crash_daemon(Path::new(mount["target"].as_str().unwrap()));
        }
        self.crash_host();
    }

    /// kill -9 to all that serves a mount, however one starts another. Returns when they are gone with all that they had open: until
    /// then the mount may wait for them, and passes for served.
    pub fn crash_daemon(&self, target: &Path) {
        let begin = Instant::now();
        while let [first, ..] = self.processes(target)[..] {
            assert!(begin.elapsed() < PATIENCE, "{first} lives");
            let held: Vec<_> = self.processes(target).into_iter().filter_map(held).collect();
            for process in &held {
                let _ = pidfd_send_signal(process, rustix::process::Signal::KILL);
            }
            for process in &held {
                let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                let left = PATIENCE.saturating_sub(begin.elapsed()).as_secs();
                let ended = poll(&mut polled, PollTimeout::try_from(left * 1000).unwrap()).unwrap();
                assert_eq!(ended, 1, "it does not end");
            }
        }
    }

    /// All that serves a mount, known by its command line. Those who ended and are not buried have none.
    pub fn processes(&self, target: &Path) -> Vec<Pid> {
        let ours = |pid: i32| {
            // Of others' processes that hang, nothing more is asked.
            if fs::read_to_string(format!("/proc/{pid}/comm")).ok().as_deref() != Some("permfs\n") {
                return false;
            }
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|&byte| byte == 0);
            words.nth(1) == Some(b"mount") && words.any(|word| word == target.as_os_str().as_encoded_bytes())
        };
        let names =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).filter(|&pid| ours(pid)).map(Pid::from_raw).collect()
    }

    /// A request to publish the whole export at `target`.
    pub fn request(&self, volume_id: &str, target: &Path) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            staging_target_path: text(&self.room.path().join("staging")),
            target_path: text(target),
            volume_capability: Some(capability()),
            readonly: false,
            volume_context: HashMap::from([("path".to_owned(), text(&self.export()))]),
        }
    }

    /// A request to make a volume in the export.
    pub fn creation(&self, name: &str) -> CreateVolumeRequest {
        CreateVolumeRequest {
            name: name.to_owned(),
            volume_capabilities: vec![capability()],
            parameters: HashMap::from([("path".to_owned(), text(&self.export()))]),
            ..CreateVolumeRequest::default()
        }
    }

    /// What the host and the plugin have logged.
    pub fn logs(&self) -> String {
        let log = |name| fs::read_to_string(self.room.path().join(name)).unwrap_or_default();
        log("host.log") + &log("plugin.log")
    }

    /// `permfs status --json`, of this room's mounts.
    pub fn status(&self) -> Vec<serde_json::Value> {
        let output = command(self.room.path()).args(["status", "--json"]).output().unwrap();
        let mut mounts: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let room = text(&self.room.path().canonicalize().unwrap());
        mounts.retain(|mount| mount["target"].as_str().unwrap().starts_with(&room));
        mounts
    }

    /// The process behind a mount.
    pub fn daemon(&self, target: &Path) -> Pid {
        let target = text(&target.canonicalize().unwrap_or_else(|_| target.to_owned()));
        let status = self.status();
        let mount = status.iter().find(|mount| mount["target"] == target.as_str()).expect("a mount");
        Pid::from_raw(i32::try_from(mount["pid"].as_i64().unwrap()).unwrap())
    }

    /// What is mounted below the room, by the kernel's word.
    pub fn mounts(&self) -> Vec<String> {
        let room = text(&self.room.path().canonicalize().unwrap());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let places = table.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned());
        places.filter(|place| place.starts_with(&room)).collect()
    }

    /// The host's notes.
    pub fn ledger(&self) -> usize {
        fs::read_dir(self.room.path().join("run/host")).map_or(0, Iterator::count)
    }

    /// Loses what mounts' processes wrote down of themselves.
    pub fn forget(&self) {
        for name in self.left() {
            fs::remove_dir_all(self.room.path().join("run").join(name)).unwrap();
        }
    }

    /// What mounts have left in the runtime directory.
    pub fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.room.path().join("run")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "host" && name != ".guard").collect()
    }

    /// Whether so many threads of the host wait for something that may hang. One that has its answer is listed for a moment.
    #[track_caller]
    pub fn has_waiting_threads(&self, expected: RangeInclusive<usize>) {
        let begin = Instant::now();
        loop {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.host.id())).unwrap();
            let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
            let waiting = names.filter(|name| name == "patience\n").count();
            if expected.contains(&waiting) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{waiting} threads wait, not {expected:?}");
            sleep(Duration::from_millis(10));
        }
    }

    /// A file system of its own at `hung/` in the export, and the process that can be stopped so that it hangs.
    pub fn share_that_may_hang(&self) -> (PathBuf, Pid) {
        let (source, target) = (self.room.path().join("behind"), self.export().join("hung"));
        fs::create_dir_all(source.join("d")).unwrap();
        fs::create_dir(&target).unwrap();
        let rules = self.room.path().join("transparent.toml");
        let keep = "version = 1\n[profile.p.unmapped]\npod = \"keep\"\nnfs = \"keep\"\nroot = \"keep\"\n";
        fs::write(&rules, keep).unwrap();
        for path in [&source, &source.join("d")] {
            chown(path, Some(2001), Some(2001)).unwrap();
        }
        let mut mount = command(self.room.path());
        mount.arg("mount").args([&source, &target]).arg("--config").arg(&rules);
        let log = File::create(self.room.path().join("hung.log")).unwrap();
        assert!(mount.stdout(Stdio::null()).stderr(log).status().unwrap().success());
        let process = self.daemon(&target);
        (target, process)
    }

    /// Ends a process with a signal and waits for it.
    pub fn end(process: &mut Child, signal: Signal) -> std::process::ExitStatus {
        kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            sleep(Duration::from_millis(10));
        }
    }
}

/// A second plugin, killed when dropped.
pub struct Second {
    process: Child,
    pub calls: Calls,
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.plugin.kill();
        let _ = self.plugin.wait();
        for mount in self.status() {
            let target = mount["target"].as_str().unwrap_or_default().to_owned();
            let _ = command(self.room.path()).args(["unmount", &target]).output();
        }
        let _ = self.host.kill();
        let _ = self.host.wait();
        for place in self.mounts().iter().rev() {
            let _ = umount2(Path::new(place), MntFlags::MNT_DETACH);
        }
    }
}

/// A descriptor of a process that has not ended; it becomes readable when it has.
fn held(process: Pid) -> Option<OwnedFd> {
    let process = rustix::process::Pid::from_raw(process.as_raw())?;
    pidfd_open(process, PidfdFlags::empty()).ok()
}

/// SIGSTOP. Returns when every thread stands still: until then one may answer.
pub fn stop(process: Pid) {
    kill(process, Signal::SIGSTOP).unwrap();
    let stands_still = || {
        fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten().all(|thread| {
            fs::read_to_string(thread.path().join("stat")).is_ok_and(|stat| stat.contains(") T "))
        })
    };
    let begin = Instant::now();
    while !stands_still() {
        assert!(begin.elapsed() < PATIENCE, "{process} does not stop");
        sleep(Duration::from_millis(5));
    }
}

/// Whether a process is gone. Where nobody buries orphans it stays listed.
pub fn is_gone(process: Pid) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}

/// Filesystem, any number of writers, no flags.
pub fn capability() -> VolumeCapability {
    capability_with(Mode::MultiNodeMultiWriter, &[], "")
}

pub fn capability_with(mode: Mode, flags: &[&str], fs_group: &str) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: String::new(),
            mount_flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            volume_mount_group: fs_group.to_owned(),
        })),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// Runs a shell command as a pod's process would: with these ids and nothing more.
pub fn as_pod(uid: u32, gid: u32, groups: &str, script: &str) -> std::process::Output {
    let groups = if groups.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={groups}") };
    Command::new("setpriv")
        .args([&format!("--reuid={uid}"), &format!("--regid={gid}"), &groups, "--bounding-set=-all"])
        .args(["sh", "-c", script])
        .output()
        .unwrap()
}

#[track_caller]
pub fn done_as_pod(uid: u32, gid: u32, groups: &str, script: &str) -> String {
    let output = as_pod(uid, gid, groups, script);
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn write_rules(room: &Path, rules: &str) {
    let export = text(&room.join("export"));
    fs::write(room.join("rules.toml"), rules.replace("HOST_PATHS", &export)).unwrap();
}

fn command(room: &Path) -> Command {
    // See `live::mount::permfs`.
    let program =
        std::env::var_os("PERMFS_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_permfs").into());
    let mut command = Command::new(program);
    command.env("PERMFS_RUNTIME_DIR", room.join("run")).stdin(Stdio::null());
    command
}

/// A tmpfs whose mounts appear in every copy of this mount namespace.
pub fn mount_shared(place: &Path) {
    let none = None::<&str>;
    mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(none, place, none, MsFlags::MS_SHARED, none).unwrap();
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
}

fn start_host(room: &Path, contained: bool) -> Child {
    let socket = room.join("host.sock");
    let mut program = command(room);
    if contained {
        let mut apart = Command::new("unshare");
        apart.args(["--mount", "--propagation", "unchanged"]).arg(program.get_program());
        apart.env("PERMFS_RUNTIME_DIR", room.join("run")).stdin(Stdio::null());
        program = apart;
    }
    let host = logged(&mut program, &room.join("host.log"))
        .arg("host")
        .arg("--socket")
        .arg(&socket)
        .spawn()
        .unwrap();
    answers(&socket);
    host
}

fn start_plugin(room: &Path, socket: &str, arguments: &[&str]) -> Child {
    let plugin = spawn_plugin(room, socket, arguments);
    answers(&room.join(socket));
    plugin
}

fn spawn_plugin(room: &Path, socket: &str, arguments: &[&str]) -> Child {
    let socket = room.join(socket);
    logged(&mut command(room), &room.join("plugin.log"))
        .args(["csi", "--node-id", "node-1", "--log-level", "trace", "--endpoint"])
        .arg(format!("unix://{}", socket.display()))
        .arg("--config")
        .arg(room.join("rules.toml"))
        .arg("--host-socket")
        .arg(room.join("host.sock"))
        .args(arguments)
        .spawn()
        .unwrap()
}

fn logged<'a>(command: &'a mut Command, log: &Path) -> &'a mut Command {
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdout(Stdio::null()).stderr(log)
}

fn answers(socket: &Path) {
    let begin = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(begin.elapsed() < PATIENCE, "{} does not answer", socket.display());
        sleep(Duration::from_millis(5));
    }
}
