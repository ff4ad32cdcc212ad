//! What a scenario works with: a directory of its own on the export, seen from three sides, with permfs on it.
//!
//! * the **pods'** side, through permfs;
//! * the **client's**, the bare NFS mount that permfs stands on;
//! * the **server's**, the exported filesystem itself: it runs in the same kernel, so it can simply be looked at.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use super::live::mount::permfs;
use super::live::{AIRFLOW, POD, Stat};
use super::machine::Variant;

/// Where `tests/nfs/vm` mounts the export.
const CLIENT: &str = "/nfs";
/// What it exports.
const SERVER: &str = "/srv/nfs";
/// The server's address inside the machine.
pub const SERVER_ADDRESS: &str = "10.97.0.2";

/// How long what comes by itself may take, on a machine of one slow core that others use as well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Why a scenario is left out where the server looks up groups.
pub const WHOSE_GROUPS: &str = "who looks up groups changes nothing about it";

/// A fresh directory on the export, 2001:2001 755, mounted under the airflow rules.
pub struct Stage {
    pub variant: Variant,
    /// Below the export, e.g. `data/4711`.
    directory: PathBuf,
    pods: Pods,
    left_out: OnceLock<&'static str>,
}

impl Stage {
    pub fn new(variant: Variant) -> Self {
        let directory = Path::new("data").join(std::process::id().to_string());
        let at_server = Path::new(SERVER).join(&directory);
        fs::create_dir(&at_server).unwrap();
        chown(&at_server, Some(2001), Some(2001)).unwrap();
        let pods = Pods::mount(&Path::new(CLIENT).join(&directory), AIRFLOW);
        Self { variant, directory, pods, left_out: OnceLock::new() }
    }

    /// The scenario has nothing to do on this variant, and is not said to have passed. It is to return then.
    pub fn leave_out(&self, why: &'static str) {
        self.left_out.set(why).expect("once");
    }

    /// Why it was left out, if it was.
    pub fn left_out(&self) -> Option<&'static str> {
        self.left_out.get().copied()
    }

    /// Whether `permfs status` names this among the mount's features.
    pub fn has(&self, feature: &str) -> bool {
        status_of(&self.pod(""))["features"].as_array().unwrap().iter().any(|name| name == feature)
    }

    /// A path as the pods see it.
    pub fn pod(&self, path: impl AsRef<Path>) -> PathBuf {
        self.pods.at(path)
    }

    /// The same on the bare NFS mount.
    pub fn client(&self, path: impl AsRef<Path>) -> PathBuf {
        Path::new(CLIENT).join(&self.directory).join(path)
    }

    /// All that the server exports, on the bare NFS mount: this stage's directory is below it, and so is `small`, which is exported by
    /// itself.
    #[allow(clippy::unused_self, reason = "it is the stage's")]
    pub fn whole_export(&self) -> PathBuf {
        CLIENT.into()
    }

    /// The same at the server.
    pub fn server(&self, path: impl AsRef<Path>) -> PathBuf {
        Path::new(SERVER).join(&self.directory).join(path)
    }

    /// permfs once more on the same directory, as for a second pod with a mount of its own.
    pub fn mount_again(&self, rules: &str) -> Pods {
        Pods::mount(&self.client(""), rules)
    }

    /// `server:/path` of a path on the export, in the words of this NFS version.
    pub fn nfs_source(&self, path: &Path) -> String {
        let root = match self.variant.version {
            super::machine::Version::V3 => SERVER,
            super::machine::Version::V4_2 => "",
        };
        format!("{SERVER_ADDRESS}:{root}/{}", path.display())
    }

    /// This stage's directory below the export.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The names at the server, sorted; silly-renamed files included.
    pub fn names_at_server(&self, path: impl AsRef<Path>) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.server(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Waits until the server has exactly these names. RELEASE comes after close returns, so what goes with the last
    /// close of a file may be there for a moment longer (the NFS client's silly rename).
    #[track_caller]
    pub fn server_comes_to_have(&self, path: impl AsRef<Path>, names: &[&str]) {
        let path = path.as_ref();
        wait_until(PATIENCE, || self.names_at_server(path) == names)
            .unwrap_or_else(|()| panic!("{:?} at the server, not {names:?}", self.names_at_server(path)));
    }

    /// A file made at the server, as its administrator would.
    pub fn make_at_server(&self, path: impl AsRef<Path>, content: &str, owner: (u32, u32), mode: u32) {
        let path = self.server(path);
        fs::write(&path, content).unwrap();
        chown(&path, Some(owner.0), Some(owner.1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Writes a file as the pod.
    pub fn write_as_pod(&self, path: impl AsRef<Path> + Sync, content: &str) {
        POD.run(|| fs::write(self.pod(&path), content).unwrap());
    }

    /// Asserts owner and mode at the server, and that the pod sees the same object as its own.
    #[track_caller]
    pub fn belongs_to_the_service_account(&self, path: impl AsRef<Path>, mode: u32) {
        let path = path.as_ref();
        let (stored, shown) = (Stat::of(self.server(path)), POD.run(|| Stat::of(self.pod(path))));
        let path = path.display();
        assert_eq!(octal(stored), octal(Stat::new(2001, 2001, mode)), "{path} at the server");
        assert_eq!(octal(shown), octal(Stat::new(50000, 0, mode)), "{path} as pods see it");
    }
}

fn octal(stat: Stat) -> String {
    format!("{}:{} {:04o}", stat.uid, stat.gid, stat.mode)
}

/// A permfs mount in a place of its own, gone when this is.
pub struct Pods {
    room: TempDir,
}

impl Pods {
    pub fn mount(source: &Path, rules: &str) -> Self {
        let this = Self::unmounted();
        let output = this.try_mount(source.to_str().unwrap(), rules, &[]);
        assert!(output.status.success(), "permfs mount failed: {}", String::from_utf8_lossy(&output.stderr));
        this
    }

    /// The place alone.
    pub fn unmounted() -> Self {
        let room = tempfile::Builder::new().prefix("pods-").tempdir().unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(room.path().join("mnt")).unwrap();
        Self { room }
    }

    /// `permfs mount SOURCE` here. Its standard error goes to a file, which the daemon may keep open as long as it likes.
    pub fn try_mount(&self, source: &str, rules: &str, more: &[&str]) -> Output {
        let (config, log) = (self.room.path().join("rules.toml"), self.room.path().join("log"));
        fs::write(&config, rules).unwrap();
        let status = permfs()
            .arg("mount")
            .arg(source)
            .arg(self.at(""))
            .arg("--config")
            .arg(&config)
            .args(more)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .status()
            .unwrap();
        Output { status, stdout: Vec::new(), stderr: fs::read(log).unwrap() }
    }

    /// A path inside; the mount point itself for the empty one.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let root = self.room.path().join("mnt");
        if path.as_ref().as_os_str().is_empty() { root } else { root.join(path) }
    }

    /// `permfs unmount`.
    pub fn unmount(&self, more: &[&str]) -> Output {
        permfs().arg("unmount").arg(self.at("")).args(more).output().unwrap()
    }

    pub fn is_mounted(&self) -> bool {
        mount_table().iter().any(|line| line.split(' ').nth(1) == self.at("").to_str())
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        if self.is_mounted() && !self.unmount(&[]).status.success() {
            let _ = umount2(&self.at(""), MntFlags::MNT_DETACH);
        }
    }
}

/// `permfs status --json` of the mount there. Asked again until its process answers: one that is not given the CPU within two seconds
/// is said not to.
pub fn status_of(target: &Path) -> serde_json::Value {
    let begin = Instant::now();
    loop {
        let output = permfs().args(["status", "--json"]).arg(target).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if status[0]["state"] == "serving" {
            return status[0].clone();
        }
        assert!(begin.elapsed() < PATIENCE, "{status}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The lines of /proc/self/mounts.
pub fn mount_table() -> Vec<String> {
    fs::read_to_string("/proc/self/mounts").unwrap().lines().map(str::to_owned).collect()
}

/// Something is wrong with the server until this is dropped.
pub struct Outage {
    process: Child,
}

impl Outage {
    /// nfsd is stopped: connections are refused.
    pub fn stopped() -> Self {
        Self::between("stop", "start")
    }

    /// The link is down: nothing comes back.
    pub fn cut() -> Self {
        Self::between("cut", "heal")
    }

    /// The server exports nothing any more.
    pub fn withdrawn() -> Self {
        Self::between("withdraw", "export")
    }

    /// The server exports the same under another number: all handles are stale.
    pub fn renumbered() -> Self {
        Self::between("renumber", "export")
    }

    /// One process does both, because nobody can be started in between: a new process begins by closing its copies of
    /// all open files, and that close waits for the server.
    fn between(begin: &str, end: &str) -> Self {
        let mut process = Command::new("sh")
            .args([
                "-c",
                "\"$NFS_SERVER\" \"$1\" && echo begun; read -r _; \"$NFS_SERVER\" \"$2\"",
                "sh",
                begin,
                end,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n", "server {begin}");
        Self { process }
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success(), "the server is back");
    }
}

/// Err where `condition` did not come true in time.
pub fn wait_until(limit: Duration, condition: impl Fn() -> bool) -> Result<(), ()> {
    let end = Instant::now() + limit;
    while !condition() {
        if Instant::now() > end {
            return Err(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What `work` gives, and how long it took; fails where that is longer than `limit`.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = work();
    let took = begin.elapsed();
    assert!(took < limit, "{what} took {took:?}, more than {limit:?}");
    result
}
