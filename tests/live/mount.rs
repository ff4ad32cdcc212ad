//! An export in a directory of its own with permfs mounted beside it; both are gone when it is dropped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::waits::PATIENCE;

/// What the export lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Whatever TMPDIR is on.
    TempDir,
    /// A tmpfs of its own.
    Tmpfs,
    /// A ramfs of its own: a file system of which permfs does not know whom it asks, and when. As such it takes NFS, too.
    Ramfs,
}

/// `export/`, owned 2001:2001 and 755, and `pods/`, where permfs shows it.
pub struct Mount {
    room: TempDir,
    /// What to unmount at the end besides `pods/`, last first.
    below: Vec<PathBuf>,
}

/// The program under test; `PERMFS_TEST_BINARY` names another one, e.g. an installed one.
pub fn permfs() -> Command {
    let program =
        std::env::var_os("PERMFS_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_permfs").into());
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Where mounts leave what others find of them.
pub fn runtime_dir() -> PathBuf {
    std::env::var_os("PERMFS_RUNTIME_DIR").map_or_else(|| "/run/permfs".into(), PathBuf::from)
}

impl Mount {
    /// A fresh export on the temporary directory, mounted under the only profile of `rules`.
    pub fn of(rules: &str) -> Self {
        Self::on(Backing::TempDir, rules)
    }

    /// The same, on the filesystem that is asked for.
    pub fn on(backing: Backing, rules: &str) -> Self {
        Self::prepared(backing, rules, |_| ())
    }

    /// The same, with something done to the export's directory, as root, before permfs sees it.
    pub fn prepared(backing: Backing, rules: &str, prepare: impl FnOnce(&Path)) -> Self {
        let mut this = Self::unmounted(backing);
        prepare(&this.source());
        this.mount(rules);
        this
    }

    /// The export alone.
    pub fn unmounted(backing: Backing) -> Self {
        require_root_and_fuse();
        let room = tempfile::Builder::new().prefix("permfs-live-").tempdir().unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut this = Self { room, below: Vec::new() };
        let source = this.source();
        fs::create_dir(&source).unwrap();
        fs::create_dir(this.target()).unwrap();
        match backing {
            Backing::TempDir => {}
            Backing::Tmpfs => this.cover(&source, "tmpfs"),
            Backing::Ramfs => this.cover_with("ramfs", &source, "ramfs"),
        }
        chown(&source, Some(2001), Some(2001)).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
        this
    }

    /// Mounts a tmpfs on `directory`, for as long as this lives.
    pub fn cover(&mut self, directory: &Path, name: &str) {
        self.cover_with("tmpfs", directory, name);
    }

    fn cover_with(&mut self, kind: &str, directory: &Path, name: &str) {
        mount(Some(name), directory, Some(kind), MsFlags::empty(), None::<&str>).unwrap();
        self.below.push(directory.to_owned());
    }

    /// Shows `other`'s export, too. Before it is mounted.
    pub fn share(&mut self, other: &Self) {
        let source = self.source();
        mount(Some(&other.source()), &source, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        self.below.push(source);
    }

    /// Puts the export on an ext4 of 40 MiB, made with these arguments of mkfs.ext4(8). Before it is mounted.
    pub fn cover_with_ext4(&mut self, arguments: &[&str]) {
        let (image, source) = (self.room.path().join("image"), self.source());
        fs::File::create(&image).unwrap().set_len(40 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").args(arguments).arg(&image).status().unwrap();
        assert!(made.success(), "mkfs.ext4: {made}");
        let mounted = Command::new("mount").args(["-o", "loop"]).args([&image, &source]).status().unwrap();
        assert!(mounted.success(), "mount: {mounted}");
        self.below.push(source.clone());
        chown(&source, Some(2001), Some(2001)).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Mounts permfs and waits until it answers.
    pub fn mount(&mut self, rules: &str) {
        let output = self.try_mount(rules);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "permfs mount failed: {complaint}");
    }

    /// Runs `permfs mount` with these rules.
    ///
    /// The daemon inherits standard error, so that goes to a file: a pipe would stay open for as long as the daemon.
    pub fn try_mount(&self, rules: &str) -> Output {
        let config = self.room.path().join("permfs.toml");
        fs::write(&config, rules).unwrap();
        let log = self.room.path().join("mount.log");
        let mut output = permfs()
            .arg("mount")
            .args([&self.source(), &self.target()])
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .output()
            .expect("permfs runs");
        output.stderr = fs::read(&log).unwrap();
        output
    }

    /// The process that serves the mount.
    pub fn daemon(&self) -> u32 {
        self.pid("pid")
    }

    /// The process that keeps the mount.
    pub fn keeper(&self) -> u32 {
        self.pid("keeper_pid")
    }

    fn pid(&self, key: &str) -> u32 {
        self.status()[key].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
    }

    /// What `permfs status --json` tells of it, once its process answers. One that has just begun may answer requests already, and
    /// this not yet: until then the one before it is told.
    pub fn status(&self) -> serde_json::Value {
        let begun = Instant::now();
        loop {
            let output = permfs().args(["status", "--json"]).arg(self.target()).output().unwrap();
            let status = serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default();
            if status[0]["state"] == "serving" {
                return status[0].clone();
            }
            assert!(begun.elapsed() < PATIENCE, "{status} {}", String::from_utf8_lossy(&output.stderr));
            sleep(Duration::from_millis(10));
        }
    }

    /// The directory that is exported.
    pub fn source(&self) -> PathBuf {
        self.room.path().join("export")
    }

    /// The mount point.
    pub fn target(&self) -> PathBuf {
        self.room.path().join("pods")
    }

    /// A path inside the mount.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.target().join(path)
    }

    /// The same path on the export.
    pub fn stored(&self, path: impl AsRef<Path>) -> PathBuf {
        self.source().join(path)
    }

    /// A directory outside both, for a test's own use.
    pub fn outside(&self) -> &Path {
        self.room.path()
    }

    /// `permfs unmount`.
    pub fn unmount(&self, arguments: &[&str]) -> Output {
        permfs().arg("unmount").arg(self.target()).args(arguments).output().expect("permfs runs")
    }

    /// [`unmount_when_idle`] of this mount.
    pub fn unmount_when_idle(&self) {
        unmount_when_idle(&self.target());
    }

    /// This mount's line of /proc/self/mounts; none where it is not mounted.
    pub fn mount_line(&self) -> Option<String> {
        let target = self.target();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.lines().find(|line| line.split(' ').nth(1) == target.to_str()).map(str::to_owned)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mount_line().is_some() && !self.unmount(&[]).status.success() {
            // Still busy because the test failed: nothing of it may stay behind.
            let _ = umount2(&self.target(), MntFlags::MNT_DETACH);
        }
        for directory in self.below.iter().rev() {
            let _ = umount2(directory, MntFlags::MNT_DETACH);
        }
    }
}

/// `permfs unmount`, again while it is in use: a child that another test's thread has just forked holds a copy of every open file
/// until it executes something.
pub fn unmount_when_idle(target: &Path) {
    let begun = Instant::now();
    loop {
        let output = permfs().arg("unmount").arg(target).output().expect("permfs runs");
        if output.status.success() {
            return;
        }
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            complaint.contains("busy") && begun.elapsed() < PATIENCE,
            "permfs unmount failed: {complaint}"
        );
        sleep(Duration::from_millis(20));
    }
}

/// Panics where these tests cannot run: a test that needs root or FUSE fails without them.
pub fn require_root_and_fuse() {
    assert!(nix::unistd::geteuid().is_root(), "this test mounts filesystems: run it as root");
    assert!(Path::new("/dev/fuse").exists(), "this test needs /dev/fuse");
}
