//! Containers with a mount host each, one after the other on one node: a mount and a pid namespace of its own, a runtime directory
//! of the node's in which what one mounts is seen by itself alone, and kubelet's directory, where all see it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use permfs::host::Client;
use permfs::host::protocol::{Choice, Order, Publish, Rules, Share};

use crate::live::AIRFLOW;
use crate::live::waits::until;

/// One node at a time: a pause is to be the mount's, not another load's.
static TURN: Mutex<()> = Mutex::new(());

/// A node with an export of 2001:2001.
pub struct Node {
    room: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A container with a mount host; it ends, with all that runs in it, when it is dropped.
pub struct Container {
    process: Child,
    /// Whether it has process ids of its own.
    has_pids: bool,
}

impl Node {
    pub fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let fuse = File::options().read(true).write(true).open("/dev/fuse");
        assert!(nix::unistd::geteuid().is_root() && fuse.is_ok(), "this test needs root and /dev/fuse");
        let room = tempfile::Builder::new().prefix("permfs-node-").tempdir().unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let this = Self { room, _turn: turn };
        for (name, shared) in [("export", true), ("kubelet", true), ("run", false)] {
            let (place, none) = (this.room.path().join(name), None::<&str>);
            fs::create_dir(&place).unwrap();
            mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let propagation = if shared { MsFlags::MS_SHARED } else { MsFlags::MS_PRIVATE };
            mount(none, &place, none, propagation, none).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        }
        chown(this.export(), Some(2001), Some(2001)).unwrap();
        this
    }

    pub fn export(&self) -> PathBuf {
        self.room.path().join("export")
    }

    pub fn target(&self, pod: &str) -> PathBuf {
        self.room.path().join("kubelet").join(pod)
    }

    /// Starts a container whose processes may have so many descriptors.
    pub fn start(&self, descriptors: u32) -> Container {
        let apart = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        Container { process: self.start_host(&apart, descriptors), has_pids: true }
    }

    /// Starts a container that has the node's process ids (`hostPID`). Of such a one only the host is ended at the end.
    pub fn start_among_all(&self) -> Container {
        Container { process: self.start_host(&["--mount"], 4096), has_pids: false }
    }

    fn start_host(&self, apart: &[&str], descriptors: u32) -> Child {
        let permfs = self.permfs();
        let log = File::options().create(true).append(true).open(self.room.path().join("host.log")).unwrap();
        Command::new("unshare")
            .args(apart)
            .args(["--propagation", "unchanged"])
            .args(["prlimit", &format!("--nofile={descriptors}")])
            .arg(permfs.get_program())
            .args(["host", "--outstay-mounts", "--socket"])
            .arg(self.room.path().join("host.sock"))
            .env("PERMFS_RUNTIME_DIR", self.room.path().join("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap()
    }

    /// The first one, once it answers.
    pub fn first(&self) -> Container {
        let container = self.start(4096);
        until("the host answers", || self.host().ready().is_ok());
        container
    }

    pub fn host(&self) -> Client {
        Client::new(self.room.path().join("host.sock"))
    }

    /// Shows the whole export to a pod.
    pub fn publish(&self, pod: &str) -> PathBuf {
        let target = self.target(pod);
        let order = Order {
            volume_id: pod.to_owned(),
            target: target.clone(),
            staging: None,
            share: Share::Path(self.export()),
            directory: "".parse().unwrap(),
            choice: Choice::default(),
            fs_group: None,
            read_only: false,
            no_exec: false,
            context: None,
            alone: false,
        };
        let rules = Rules {
            text: AIRFLOW.to_owned(),
            file: "rules.toml".to_owned(),
            host_paths: vec![self.export()],
        };
        self.host()
            .publish(Publish { order, rules })
            .unwrap_or_else(|refusal| panic!("{refusal}: {}", self.log()));
        target
    }

    /// `permfs status --json` of one mount, where somebody serves it.
    pub fn status(&self, target: &Path) -> Option<serde_json::Value> {
        let output = self.permfs().args(["status", "--json"]).arg(target).output().unwrap();
        let status = serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()?.get(0)?.clone();
        (status["state"] == "serving").then_some(status)
    }

    /// How often a mount has been taken over by another program.
    pub fn upgrades(&self, target: &Path) -> Option<u64> {
        self.status(target)?["counters"]["upgrades"].as_u64()
    }

    /// Volumes in the host's ledger.
    pub fn entries(&self) -> usize {
        fs::read_dir(self.room.path().join("run/host")).unwrap().count()
    }

    /// The directory that a mount's processes keep.
    pub fn claim(&self) -> PathBuf {
        let entries = fs::read_dir(self.room.path().join("run")).unwrap().map(|entry| entry.unwrap().path());
        entries.into_iter().find(|path| path.join("mount.json").exists()).expect("a mount")
    }

    /// The program, outside of all containers.
    pub fn permfs(&self) -> Command {
        let mut command = crate::live::mount::permfs();
        command.env("PERMFS_RUNTIME_DIR", self.room.path().join("run"));
        command
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.room.path().join("host.log")).unwrap_or_default()
    }
}

impl Container {
    /// kill -9 of everything in it. Returns when all of it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// `permfs host --check`, in it.
    pub fn is_settled(&self, node: &Node) -> bool {
        let socket = node.room.path().join("host.sock");
        self.permfs(node).args(["host", "--check", "--socket"]).arg(socket).output().unwrap().status.success()
    }

    /// The program, in it.
    pub fn permfs(&self, node: &Node) -> Command {
        let mut enter = Command::new("nsenter");
        enter.args(["--mount", "--pid", "--target", &self.init().to_string()]);
        enter.arg(node.permfs().get_program()).env("PERMFS_RUNTIME_DIR", node.room.path().join("run"));
        enter
    }

    /// The process that has this number in it.
    pub fn process(&self, inside: &serde_json::Value) -> Pid {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.init());
        let is_it = |&pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            numbers.is_some_and(|numbers| numbers.ends_with(&format!("\t{inside}"))) && namespace(pid) == own
        };
        let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
        let all = names.filter_map(|name| name.to_str()?.parse().ok());
        Pid::from_raw(all.into_iter().find(is_it).expect("it is there"))
    }

    /// SIGTERM, as kubelet sends it to a container's first process.
    pub fn ask_to_end(&self) {
        kill(Pid::from_raw(self.init()), Signal::SIGTERM).unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Its first process, by its number outside.
    fn init(&self) -> i32 {
        let unshare = self.process.id();
        if !self.has_pids {
            // Which has become the host.
            return i32::try_from(unshare).unwrap();
        }
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let mut child = None;
        until("the container has a process", || {
            child = fs::read_to_string(&children).unwrap_or_default().trim().parse().ok();
            child.is_some()
        });
        child.unwrap()
    }

    fn end(&mut self) {
        // The first process's end is that of all others, and waits for theirs (pid_namespaces(7)).
        if self.process.try_wait().unwrap().is_none() {
            let _ = kill(Pid::from_raw(self.init()), Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let places = table.lines().map(|line| line.split(' ').nth(4).unwrap());
        let ours: Vec<_> = places.filter(|place| Path::new(place).starts_with(self.room.path())).collect();
        for place in ours.iter().rev() {
            let _ = umount2(Path::new(place), MntFlags::MNT_DETACH);
        }
    }
}
