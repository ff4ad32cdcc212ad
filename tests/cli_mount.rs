//! The life of a mount by the command line, on the real kernel: ready when `mount` returns, told by `status`, gone when
//! `unmount` returns, whatever became of its process. Needs root and /dev/fuse, and fails without.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

const BINARY: &str = env!("CARGO_BIN_EXE_permfs");
/// How long what must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who makes a mount namespace copies the mounts of all tests, which then end later than they should: that test is alone.
static MOUNTS: RwLock<()> = RwLock::new(());

enum Beside {
    Others(#[expect(unused)] RwLockReadGuard<'static, ()>),
    Nobody(#[expect(unused)] RwLockWriteGuard<'static, ()>),
    /// A first place of the same test has its turn.
    Another,
}

/// An export of 2001:2001 and a place to mount it. Whatever is still mounted at the end is detached.
struct Place {
    dir: tempfile::TempDir,
    _beside: Beside,
}

impl Place {
    fn new() -> Self {
        Self::beside(Beside::Others(MOUNTS.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn alone() -> Self {
        Self::beside(Beside::Nobody(MOUNTS.write().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Another one for the same test, dropped before the first. To ask for a second turn would be to wait for who waits to be alone,
    /// and they for the first.
    fn another(&self) -> Self {
        Self::beside(Beside::Another)
    }

    fn beside(beside: Beside) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self { dir, _beside: beside };
        fs::create_dir(place.path("export")).unwrap();
        chown(place.path("export"), Some(2001), Some(2001)).unwrap();
        fs::create_dir(place.path("target")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn permfs(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env("PERMFS_RUNTIME_DIR", self.path("run")).current_dir(self.dir.path());
        command
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.permfs(arguments).output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let Output { status, stderr, .. } = self.permfs(arguments).output().unwrap();
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).unwrap()
    }

    #[track_caller]
    fn mount(&self) {
        self.done(&["mount", "export", "target", "--map-uid", "50000:2001", "--map-gid", "0:2001"]);
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.done(&["status", "target", "--json"])).unwrap()
    }

    fn pid(&self) -> i32 {
        self.status()[0]["pid"].as_i64().unwrap().try_into().unwrap()
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        assert!(!is_mounted(&self.path("target")));
        let left = || -> Vec<_> {
            fs::read_dir(self.path("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        // The keeper goes after the worker.
        eventually("the end of the last process", || left() == [".guard"]);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while is_mounted(&self.path("target")) {
            let flags = nix::mount::MntFlags::MNT_DETACH;
            if nix::mount::umount2(&self.path("target"), flags).is_err() {
                break;
            }
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(pid: i32) -> bool {
    // A zombie's parent may be slow to collect it.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Returns when every thread stands still: until then one may answer.
fn stop(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    eventually("the stop of every thread", || {
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().all(|thread| {
            fs::read_to_string(thread.path().join("stat")).is_ok_and(|stat| stat.contains(") T "))
        })
    });
}

#[test]
fn a_mount_is_ready_when_the_command_returns_and_gone_when_unmount_does() {
    let place = Place::new();
    place.mount();
    let root = fs::metadata(place.path("target")).unwrap();
    assert_eq!((root.uid(), root.gid()), (50000, 0));
    let pid = place.pid();
    let written = Command::new("sh")
        .args(["-c", "echo hello > target/file"])
        .current_dir(place.path(""))
        .uid(50000)
        .gid(0)
        .status()
        .unwrap();
    assert!(written.success());
    assert_eq!(fs::metadata(place.path("export/file")).unwrap().uid(), 2001);
    place.done(&["unmount", "target"]);
    place.assert_nothing_is_left();
    assert!(!is_alive(pid));
}

#[test]
fn a_mount_is_nosuid_and_nodev() {
    let place = Place::new();
    place.mount();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(place.path("target").to_str().unwrap())).unwrap();
    assert!(line.contains("nosuid,nodev") && line.contains(" fuse.permfs "), "{line}");
    place.done(&["unmount", "target"]);
}

#[test]
fn the_status_has_the_fields_of_the_contract() {
    let place = Place::new();
    place.mount();
    let status = place.status();
    let mount = status[0].as_object().unwrap();
    let mut fields: Vec<_> = mount.keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = [
        "counters",
        "features",
        "keeper_pid",
        "pid",
        "profile",
        "rules",
        "source",
        "state",
        "target",
        "upgrade_failed",
    ];
    assert_eq!(fields, expected);
    assert_eq!(mount["target"], place.path("target").to_str().unwrap());
    assert_eq!(mount["source"], place.path("export").to_str().unwrap());
    assert_eq!(mount["state"], "serving");
    assert!(mount["keeper_pid"].as_u64() > Some(1) && mount["keeper_pid"] != mount["pid"]);
    assert!(mount["features"].is_array() && mount["counters"]["requests"].as_u64() > Some(0));
    let table = place.done(&["status"]);
    assert!(table.contains("TARGET") && table.contains("serving"), "{table}");
    place.done(&["unmount", "target"]);
}

#[track_caller]
fn assert_printable(said: &[u8]) {
    let said = String::from_utf8_lossy(said);
    assert!(said.lines().all(|line| !line.chars().any(char::is_control)), "{said:?}");
    assert!(said.contains("\u{fffd}\u{fffd}[31mx"), "{said:?}");
}

#[test]
fn a_target_whose_name_is_no_text_is_told_and_served_as_any_other() {
    let place = Place::new();
    let target = place.path("").join(OsStr::from_bytes(b"ca\xe9\n\x1b[31mx"));
    fs::create_dir(&target).unwrap();
    fs::write(
        place.path("rules.toml"),
        "version = 1\n[profile.a]\nuid = [{ pod = 0, nfs = 2001 }]\ngid = [{ pod = 0, nfs = 2001 }]\n",
    )
    .unwrap();
    let on = |arguments: &[&str]| {
        let output = place.permfs(arguments).arg(&target).output().unwrap();
        (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(on(&["mount", "--config", "rules.toml", "export"]).0, Some(0));
    let (code, out, said) = on(&["status", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let status: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(status[0]["target"], target.display().to_string());
    assert_eq!(status[0]["state"], "serving");
    let (code, out, said) = on(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_printable(&out);
    assert_printable(&on(&["status"]).1);
    assert_printable(place.done(&["status"]).as_bytes());
    let (code, _, said) = on(&["upgrade"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("not UTF-8: unmount and mount again"), "{said}");
    assert_eq!(on(&["unmount"]).0, Some(0));
    place.assert_nothing_is_left();
}

#[test]
fn whoever_may_not_know_who_serves_is_told_to_be_root() {
    let place = Place::new();
    place.mount();
    // By another process: see cli_refusals.
    assert!(
        Command::new("cp")
            .args([BINARY.as_ref(), place.path("permfs").as_os_str()])
            .status()
            .unwrap()
            .success()
    );
    for arguments in
        [&["status"][..], &["status", "target", "--json"], &["reload", "target"], &["upgrade", "target"]]
    {
        let mut command = Command::new(place.path("permfs"));
        command.args(arguments).env("PERMFS_RUNTIME_DIR", place.path("run")).current_dir(place.path(""));
        let Output { status, stdout, stderr } = command.uid(65534).gid(65534).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout.as_slice()), (Some(1), &b""[..]), "{arguments:?}: {said}");
        assert!(said.contains("run permfs as root"), "{arguments:?}: {said}");
    }
    place.done(&["unmount", "target"]);
}

#[test]
fn a_target_in_use_as_a_mount_is_busy() {
    let place = Place::new();
    place.mount();
    let said = place.refused(&["mount", "export", "target", "--map-uid", "1:1"]);
    assert!(said.contains("busy") && said.contains("permfs unmount"), "{said}");
    place.done(&["unmount", "target"]);
    place.assert_nothing_is_left();
}

#[test]
fn of_mounts_on_one_target_at_the_same_moment_one_comes_about() {
    let place = Place::new();
    let arguments = ["mount", "export", "target", "--map-uid", "50000:2001", "--map-gid", "0:2001"];
    let all: Vec<_> =
        (0..6).map(|_| place.permfs(&arguments).stderr(Stdio::piped()).spawn().unwrap()).collect();
    let all: Vec<_> = all.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let (done, refused): (Vec<_>, Vec<_>) = all.iter().partition(|output| output.status.success());
    assert_eq!(done.len(), 1);
    for Output { status, stderr, .. } in refused {
        let said = String::from_utf8_lossy(stderr);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("is busy: fuse.permfs") && said.contains("permfs unmount"), "{said}");
    }
    place.done(&["unmount", "target"]);
    place.assert_nothing_is_left();
}

#[test]
fn a_busy_mount_says_who_uses_it_and_goes_lazily() {
    let place = Place::new();
    place.mount();
    let mut user = Command::new("sleep").arg("60").current_dir(place.path("target")).spawn().unwrap();
    let said = place.refused(&["unmount", "target"]);
    assert!(
        said.contains(&format!("pid {} (sleep) works in", user.id())) && said.contains("--lazy"),
        "{said}"
    );
    let said = place.done(&["unmount", "target", "--lazy"]);
    assert!(said.contains("detached"), "{said}");
    assert!(!is_mounted(&place.path("target")));
    user.kill().unwrap();
    user.wait().unwrap();
    eventually("the end of the process", || fs::read_dir(place.path("run")).unwrap().count() == 1);
    place.assert_nothing_is_left();
}

#[test]
fn a_dead_process_leaves_a_mount_that_unmount_takes_down() {
    let place = Place::new();
    place.mount();
    let pid = place.pid();
    // All of them at once: keeper, reserve and worker are one process group.
    let keeper = place.status()[0]["keeper_pid"].as_i64().unwrap();
    killpg(Pid::from_raw(keeper.try_into().unwrap()), Signal::SIGKILL).unwrap();
    eventually("the death", || !is_alive(pid));
    eventually("the word of it", || place.status()[0]["state"] == "dead");
    assert_eq!(place.status()[0]["pid"], pid);
    let said = place.refused(&["mount", "export", "target", "--map-uid", "1:1"]);
    assert!(said.contains("permfs unmount"), "{said}");
    place.done(&["unmount", "target"]);
    place.assert_nothing_is_left();
}

#[test]
fn a_stopped_process_is_told_and_taken_down() {
    let place = Place::new();
    place.mount();
    let pid = place.pid();
    stop(pid);
    let begin = Instant::now();
    assert_eq!(place.status()[0]["state"], "not answering");
    assert!(begin.elapsed() < Duration::from_secs(5));
    place.done(&["unmount", "target"]);
    place.assert_nothing_is_left();
    // Killed: it lets go of its files a moment before it is a zombie.
    eventually("the end of the process", || !is_alive(pid));
}

#[test]
fn whoever_waits_for_a_stopped_process_is_named_and_let_go() {
    let place = Place::new();
    place.mount();
    let pid = place.pid();
    stop(pid);
    let mut user = Command::new("ls").arg(place.path("target/name")).stderr(Stdio::null()).spawn().unwrap();
    let said = || place.refused(&["unmount", "target"]);
    let waits = format!("pid {} (ls) waits for the answer", user.id());
    eventually("the wait", || {
        fs::read_to_string(format!("/proc/{}/wchan", user.id())).unwrap() == "request_wait_answer"
    });
    let said = said();
    assert!(said.contains(&waits), "{said}");
    place.done(&["unmount", "target", "--lazy"]);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    user.wait().unwrap();
    // Its files are swept by the next mount.
    place.mount();
    place.done(&["unmount", "target"]);
    place.assert_nothing_is_left();
}

#[test]
fn umount_alone_ends_the_process_as_well() {
    let place = Place::new();
    place.mount();
    let pid = place.pid();
    assert!(Command::new("umount").arg(place.path("target")).status().unwrap().success());
    eventually("the end of the process", || !is_alive(pid));
    place.assert_nothing_is_left();
}

#[test]
fn a_signal_unmounts_and_ends_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        let arguments =
            ["mount", "export", "target", "--map-uid", "50000:2001", "--foreground", "--log-format", "json"];
        let mut child = place.permfs(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line.matches("\"target\":").count(), 1, "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["message"], "mounted");
        assert_eq!(line["target"], place.path("target").to_str().unwrap());
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert!(child.wait().unwrap().success());
        place.assert_nothing_is_left();
    }
}

#[test]
fn a_mount_whose_log_nobody_reads_outlives_its_worker() {
    let place = Place::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (_, closed) = std::io::pipe().unwrap();
    for stderr in [Stdio::from(full), Stdio::from(closed)] {
        let mut command = place.permfs(&["mount", "export", "target", "--foreground", "--map-uid", "0:2001"]);
        command.args(["--map-gid", "0:2001", "--log-level", "trace"]).stderr(stderr);
        let mut keeper = command.spawn().unwrap();
        eventually("the mount", || is_mounted(&place.path("target")));
        eventually("its process", || place.status()[0]["pid"].is_u64());
        let worker = place.pid();
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        assert_eq!(fs::read_dir(place.path("target")).unwrap().count(), 0);
        assert_ne!(place.pid(), worker);
        place.done(&["unmount", "target"]);
        assert_eq!(keeper.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_signal_ends_a_mount_in_use_too() {
    let place = Place::new();
    place.mount();
    let pid = place.pid();
    // O_PATH asks permfs for nothing, so root may do it, and keeps the mount in use.
    let _open = File::options().read(true).custom_flags(libc::O_PATH).open(place.path("target")).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    eventually("the end of the process", || !is_alive(pid));
    place.assert_nothing_is_left();
}

/// The kernel deals out device numbers again at once; a process that learnt late of its mount's end once unmounted the
/// next one.
#[test]
fn a_process_that_is_late_leaves_the_next_mount_alone() {
    let first = Place::new();
    let second = first.another();
    first.mount();
    let pid = first.pid();
    stop(pid);
    // umount(8) would look at the mount point, and wait.
    nix::mount::umount(&first.path("target")).unwrap();
    second.mount();
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    eventually("the end of the first process", || !is_alive(pid));
    assert_eq!(second.status()[0]["state"], "serving");
    second.done(&["unmount", "target"]);
    second.assert_nothing_is_left();
    first.assert_nothing_is_left();
}

#[test]
fn a_mount_whose_connection_is_aborted_is_taken_down() {
    let place = Place::new();
    place.mount();
    let pid = place.pid();
    let keeper = i32::try_from(place.status()[0]["keeper_pid"].as_i64().unwrap()).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(place.path("target").to_str().unwrap())).unwrap();
    let minor = line.split([' ', ':']).nth(3).unwrap();
    let connections = place.path("connections");
    fs::create_dir(&connections).unwrap();
    let none: Option<&str> = None;
    nix::mount::mount(none, &connections, Some("fusectl"), nix::mount::MsFlags::empty(), none).unwrap();
    fs::write(connections.join(minor).join("abort"), "1").unwrap();
    nix::mount::umount2(&connections, nix::mount::MntFlags::MNT_DETACH).unwrap(); // Others may be looking at it.
    eventually("the end of the process", || !is_alive(pid));
    // The keeper sees that, and takes the mount down.
    eventually("the end of its keeper", || !is_alive(keeper));
    place.assert_nothing_is_left();
}

#[test]
fn mount_and_fstab_options_reach_permfs_through_the_helper() {
    let place = Place::new();
    let rules =
        "version = 1\nprofile.p = { uid = [{ pod = 50000, nfs = 2001 }], gid = [{ pod = 0, nfs = 2001 }] }\n";
    fs::write(place.path("rules.toml"), rules).unwrap();
    let options =
        format!("rw,ro,_netdev,x-systemd.automount,profile=p,config={}", place.path("rules.toml").display());
    let mut helper = place.permfs(&["export", "target", "-n", "-o", &options]);
    assert!(helper.arg0("/sbin/mount.permfs").status().unwrap().success());
    assert_eq!(place.status()[0]["profile"], "p");
    let written = Command::new("touch").arg(place.path("target/x")).uid(50000).gid(0).output().unwrap();
    assert!(String::from_utf8_lossy(&written.stderr).contains("Read-only"));
    place.done(&["unmount", "target"]);
    place.assert_nothing_is_left();
}

#[test]
fn the_helper_mounts_in_the_namespace_that_mount_names() {
    let place = Place::alone();
    let mut other = Command::new("unshare");
    let mut other = other.args(["--mount", "--propagation", "private", "sleep", "1000"]).spawn().unwrap();
    let namespace = format!("/proc/{}/ns/mnt", other.id());
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    eventually("the namespace", || fs::read_link(&namespace).is_ok_and(|of| of != own));
    let target = &*place.path("target").to_str().unwrap().to_owned();
    let helper = |namespace: &str| {
        let mut command = place.permfs(&[&format!("{target}/../export"), target, "-N", namespace]);
        command.arg0("/sbin/mount.permfs").args(["-o", "map_uid=0:2001,map_gid=0:2001"]).status().unwrap()
    };
    assert_eq!(helper("/nowhere").code(), Some(32));
    assert!(helper(&namespace).success());
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", other.id())).unwrap();
    assert!(mounts.contains(target), "{mounts}");
    let inside = format!("--mount={namespace}");
    let mut command = Command::new("nsenter");
    command.args([inside.as_str(), BINARY, "unmount", target]).env("PERMFS_RUNTIME_DIR", place.path("run"));
    assert!(command.status().unwrap().success());
    other.kill().unwrap();
    other.wait().unwrap();
    place.assert_nothing_is_left();
}

#[test]
fn a_bind_mount_of_the_mount_keeps_its_process() {
    let place = Place::new();
    place.mount();
    let pid = place.pid();
    fs::create_dir(place.path("bind")).unwrap();
    assert!(
        Command::new("mount")
            .arg("--bind")
            .args([place.path("target"), place.path("bind")])
            .status()
            .unwrap()
            .success()
    );
    let said = place.refused(&["unmount", "target"]);
    assert!(said.contains("still there on") && said.contains("/bind"), "{said}");
    assert!(is_alive(pid));
    place.done(&["unmount", "bind"]);
    place.assert_nothing_is_left();
}

#[test]
fn a_mount_that_another_namespace_uses_keeps_its_process() {
    let place = Place::alone();
    place.mount();
    let pid = place.pid();
    let mut container = Command::new("unshare");
    // The mounts of others on this machine are none of its business.
    let script = "for m in $(awk '$3 == \"fuse.permfs\" { print $2 }' /proc/mounts); do
            [ \"$m\" = \"$1\" ] || umount --no-canonicalize -l \"$m\"
        done
        exec sleep 60";
    container
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(place.path("target"));
    let mut container = container.spawn().unwrap();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let of_container = || fs::read_link(format!("/proc/{}/ns/mnt", container.id())).unwrap();
    eventually("the namespace", || {
        of_container() != own && {
            let mounts = fs::read_to_string(format!("/proc/{}/cmdline", container.id())).unwrap();
            mounts.starts_with("sleep")
        }
    });
    let said = place.refused(&["unmount", "target"]);
    assert!(said.contains("another mount namespace") && said.contains(&pid.to_string()), "{said}");
    assert!(is_alive(pid) && !is_mounted(&place.path("target")));
    container.kill().unwrap();
    container.wait().unwrap();
    eventually("the end of the process", || !is_alive(pid));
    place.assert_nothing_is_left();
}

#[test]
fn a_mount_is_found_through_a_symlink_and_by_a_relative_path() {
    let place = Place::new();
    place.mount();
    std::os::unix::fs::symlink(place.path("target"), place.path("link")).unwrap();
    assert!(place.done(&["status", "./export/../link"]).contains("serving"));
    place.done(&["unmount", "link"]);
    place.assert_nothing_is_left();
}

#[test]
fn the_demo_shows_both_sides_and_leaves_nothing_behind() {
    let place = Place::new();
    let shown = place.permfs(&["demo"]).env("TMPDIR", place.path("")).output().unwrap();
    let (out, err) = (String::from_utf8(shown.stdout).unwrap(), String::from_utf8(shown.stderr).unwrap());
    assert!(shown.status.success(), "{err}");
    assert!(out.contains("-rw-rw-r-- 50000    0  dags/etl.py"), "{out}");
    assert!(out.contains("-rw-rw-r--  2001 2001  dags/etl.py"), "{out}");
    assert!(out.contains("Permission denied"), "{out}");
    place.assert_nothing_is_left();
    let left: Vec<_> =
        fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "export, target and run: {left:?}");
}
