//! A systemd that is the first process of its own namespaces and knows one unit: ours, as it is shipped.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::live::mount::{permfs, require_root_and_fuse};
use crate::live::waits::{PATIENCE, until};

const UNIT: &str = "permfs@test";
/// Whatever the unit asks for beside itself.
const TARGETS: [&str; 8] =
    ["sysinit", "basic", "shutdown", "umount", "multi-user", "network", "network-online", "remote-fs-pre"];
/// What the first process does before it becomes systemd: its own /run, and its own cgroups for it to see. Whatever these are mounted on
/// tells nobody of it.
const BEGIN: &str = "set -e
for place in / /run /sys /sys/fs/cgroup; do mount --make-private $place 2>/dev/null || true; done
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec /lib/systemd/systemd --system --unit=multi-user.target --show-status=false --log-target=console";

/// An export of 2001:2001, and a systemd with a unit for it. Everything ends when this is dropped.
pub struct Machine {
    room: tempfile::TempDir,
    outer: Child,
    first: u32,
}

impl Machine {
    /// With these rules.
    pub fn with(rules: &str) -> Self {
        Self::of(None, rules)
    }

    /// With these rules, for another SOURCE and what else is to be said in OPTIONS.
    pub fn of(source: Option<(&str, &str)>, rules: &str) -> Self {
        require_root_and_fuse();
        let room = tempfile::Builder::new().prefix("permfs-systemd-").tempdir().unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["export", "seen", "units", "cgroups"] {
            fs::create_dir(room.path().join(name)).unwrap();
        }
        let (seen, none) = (room.path().join("seen"), None::<&str>);
        mount(Some("tmpfs"), &seen, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        mount(none, &seen, none, MsFlags::MS_SHARED, none).unwrap();
        fs::set_permissions(&seen, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(seen.join("pods")).unwrap();
        chown(room.path().join("export"), Some(2001), Some(2001)).unwrap();
        fs::write(room.path().join("rules.toml"), rules).unwrap();
        prepare_units(room.path(), source);
        let outer = begin(room.path());
        let first = first_of(&outer);
        let this = Self { room, outer, first };
        until("systemd answers", || this.run(&["is-system-running"]).stdout == b"running\n");
        this
    }

    /// `systemctl WHAT` for the unit, which must succeed.
    #[track_caller]
    pub fn systemctl(&self, what: &str) {
        let output = self.try_systemctl(what);
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn try_systemctl(&self, what: &str) -> Output {
        self.run(&[what, UNIT])
    }

    /// Starts the unit: it is ready when this returns.
    #[track_caller]
    pub fn start(&self) {
        self.systemctl("start");
        assert_eq!(self.show("ActiveState"), "active");
        assert!(self.is_mounted());
    }

    /// Stops the unit, and looks that nothing is left.
    #[track_caller]
    pub fn stop(&self) {
        self.systemctl("stop");
        assert_eq!((&*self.show("ActiveState"), &*self.show("Result")), ("inactive", "success"));
        assert_eq!(self.show("NFileDescriptorStore"), "0");
        assert!(!self.is_mounted());
    }

    /// `permfs unmount`, by somebody whom systemd has not started.
    #[track_caller]
    pub fn unmount(&self) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--pid", "--mount"]);
        let output = command.arg(permfs().get_program()).arg("unmount").arg(self.target()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// kill -9 of every process of the unit.
    pub fn kill_all(&self) {
        assert!(self.run(&["kill", "--signal=KILL", UNIT]).status.success());
    }

    /// kill -9 of the process that systemd takes for the main one, once another is in reserve for it, which one that has just taken its
    /// place need not have yet. Returns when systemd knows the next one.
    #[track_caller]
    pub fn kill_main(&self) {
        until("keeper, reserve and worker are there", || self.processes() >= 3);
        let keeper = self.show("MainPID");
        assert!(self.run(&["kill", "--signal=KILL", "--kill-who=main", UNIT]).status.success());
        until("another process is the main one", || !["0", &keeper].contains(&&*self.show("MainPID")));
    }

    /// How many the unit has.
    fn processes(&self) -> usize {
        let group = self.show("ControlGroup");
        let own = own_cgroup(self.room.path()).join(group.trim_start_matches('/'));
        fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default().lines().count()
    }

    /// One property of the unit.
    pub fn show(&self, property: &str) -> String {
        let output = self.run(&["show", "--value", "--property", property, UNIT]);
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// What systemd and the unit have said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.room.path().join("log")).unwrap()
    }

    pub fn rules_are(&self, rules: &str) {
        fs::write(self.room.path().join("rules.toml"), rules).unwrap();
    }

    /// A path in the mount, which is seen outside of the namespaces, too.
    pub fn at(&self, name: &str) -> PathBuf {
        self.target().join(name)
    }

    fn target(&self) -> PathBuf {
        self.room.path().join("seen/pods")
    }

    /// The same on the export.
    pub fn stored(&self, name: &str) -> PathBuf {
        self.room.path().join("export").join(name)
    }

    fn is_mounted(&self) -> bool {
        let (mounts, target) = (fs::read_to_string("/proc/self/mounts").unwrap(), self.target());
        mounts.lines().any(|line| line.split(' ').nth(1) == target.to_str())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--pid", "--mount", "systemctl"]).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.said());
        }
        // The first process of the namespaces, and so all.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let (seen, cgroups) = (self.room.path().join("seen"), self.room.path().join("cgroups"));
        for left in [self.target(), seen] {
            let _ = umount2(&left, MntFlags::MNT_DETACH);
        }
        let begun = Instant::now();
        while remove(&own_cgroup(self.room.path())).is_err() && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(10));
        }
        let _ = umount2(&cgroups, MntFlags::MNT_DETACH);
    }
}

/// The unit as it is shipped, but for where the program and its settings are, what it asks to be there, and where it says things.
fn prepare_units(room: &Path, source: Option<(&str, &str)>) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/permfs@.service");
    let mut unit = fs::read_to_string(shipped).unwrap();
    let program = permfs().get_program().to_str().unwrap().to_owned();
    for (there, here) in [("/usr/bin/permfs", &*program), ("/etc/permfs", room.to_str().unwrap())] {
        assert!(unit.contains(there), "{there} in the unit");
        unit = unit.replace(there, here);
    }
    let units = room.join("units");
    fs::write(units.join("permfs@.service"), unit).unwrap();
    let more = units.join("permfs@.service.d");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("log.conf"), format!("[Service]\nStandardError=append:{}/log\n", room.display()))
        .unwrap();
    for target in TARGETS {
        let text = "[Unit]\nDefaultDependencies=no\n";
        fs::write(units.join(format!("{target}.target")), text).unwrap();
    }
    let export = room.join("export");
    let (source, options) = source.unwrap_or((export.to_str().unwrap(), ""));
    let settings = format!(
        "SOURCE={source}\nTARGET={0}/seen/pods\nOPTIONS=config={0}/rules.toml,profile=airflow{options}\n",
        room.display()
    );
    fs::write(room.join("test.conf"), settings).unwrap();
}

/// Starts systemd in a cgroup and in namespaces of its own.
fn begin(room: &Path) -> Child {
    mount(Some("cgroup2"), &room.join("cgroups"), Some("cgroup2"), MsFlags::empty(), None::<&str>)
        .expect("cgroup2 can be mounted");
    let own = own_cgroup(room);
    fs::create_dir(&own).unwrap();
    let apart =
        "unshare --fork --kill-child --pid --mount --propagation unchanged --uts --ipc --cgroup --mount-proc";
    let log = File::options().create(true).append(true).open(room.join("log")).unwrap();
    Command::new("sh")
        .args(["-c", &format!("echo $$ > \"$0\"/cgroup.procs && exec {apart} sh -c \"$1\"")])
        .arg(&own)
        .arg(BEGIN)
        .env("container", "test")
        .env("SYSTEMD_UNIT_PATH", room.join("units"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn own_cgroup(room: &Path) -> PathBuf {
    room.join("cgroups").join(room.file_name().unwrap())
}

/// The process that is number one in the namespaces of `outer`'s child.
fn first_of(outer: &Child) -> u32 {
    let children = format!("/proc/{0}/task/{0}/children", outer.id());
    let mut first = None;
    until("it has a first process", || {
        let child = fs::read_to_string(&children).unwrap_or_default();
        first = child.split_whitespace().next().and_then(|pid| pid.parse().ok());
        first.is_some()
    });
    first.unwrap()
}

/// rmdir(2) of a cgroup and those below it.
fn remove(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}
