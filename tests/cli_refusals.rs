//! Every refusal of the command line: its exit code, its one sentence with the value and the next step, and that
//! nothing is left mounted.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_permfs");
const RULES: &str = "version = 1\n[profile.airflow]\nuid = [ { pod = 50000, nfs = 2001 } ]\ngid = [ { pod = 0, nfs = 2001 } ]\n";

/// An export, a target, a rules file and a runtime directory, all temporary.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("export")).unwrap();
        fs::create_dir(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("rules.toml"), RULES).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn permfs(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.env("PERMFS_RUNTIME_DIR", self.path("run")).current_dir(self.dir.path());
        command
    }

    fn mount(&self, source: &str, target: &str) -> Command {
        let mut command = self.permfs();
        command.args(["mount", source, target, "--config", "rules.toml"]);
        command
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

/// Runs it and expects a failure with this code and all of these words in one sentence on stderr.
#[track_caller]
fn refused(command: &mut Command, code: i32, words: &[&str]) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    said
}

#[test]
fn a_missing_config_is_refused() {
    let place = Place::new();
    refused(
        place.permfs().args(["mount", "export", "target", "--config", "nowhere.toml"]),
        2,
        &["nowhere.toml", "--config"],
    );
}

#[test]
fn no_config_and_no_map_is_refused_with_the_lines_to_write() {
    let place = Place::new();
    let words = ["version = 1\n", "profile.airflow = {", "--config FILE", "--map-uid"];
    refused(place.permfs().args(["mount", "export", "target"]), 2, &words);
}

#[test]
fn the_lines_to_write_are_right() {
    let place = Place::new();
    let said = refused(place.permfs().args(["mount", "export", "target"]), 2, &[]);
    let lines: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    fs::write(place.path("two.toml"), lines.join("\n")).unwrap();
    assert_eq!(lines.len(), 2);
    assert!(place.permfs().args(["check", "--config", "two.toml"]).status().unwrap().success());
}

#[test]
fn a_profile_without_a_file_is_refused() {
    let place = Place::new();
    refused(
        place.permfs().args(["mount", "export", "target", "--profile", "airflow"]),
        2,
        &["\"airflow\"", "--config"],
    );
}

#[test]
fn an_unknown_profile_is_refused() {
    let place = Place::new();
    refused(place.mount("export", "target").args(["--profile", "airflaw"]), 2, &["airflaw", "airflow"]);
}

#[test]
fn a_map_that_is_none_is_refused() {
    let place = Place::new();
    for bad in ["50000", "50000:", "50000:2001:1", "4294967295:1", "1-3:5-6", "a:b"] {
        refused(place.permfs().args(["mount", "export", "target", "--map-uid", bad]), 2, &[bad]);
    }
}

#[test]
fn an_unknown_mount_option_is_refused_with_the_one_that_was_meant() {
    let place = Place::new();
    refused(place.mount("export", "target").args(["-o", "profle=airflow"]), 2, &["`profle`", "`profile`"]);
}

#[test]
fn a_target_that_cannot_be_mounted_on_is_refused() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    refused(&mut place.mount("export", "nowhere"), 1, &["nowhere", "does not exist", "mkdir -p"]);
    refused(&mut place.mount("export", "file"), 1, &["file", "not a directory"]);
    refused(&mut place.mount("export", "/proc"), 1, &["/proc", "busy", "choose another"]);
}

#[test]
fn a_source_that_cannot_be_shown_is_refused() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    refused(&mut place.mount("nowhere", "target"), 1, &["nowhere", "does not exist", "server:/export"]);
    refused(&mut place.mount("file", "target"), 1, &["file", "not a directory"]);
}

#[test]
fn source_and_target_inside_each_other_are_refused() {
    let place = Place::new();
    fs::create_dir(place.path("export/inner")).unwrap();
    refused(&mut place.mount("export", "export/inner"), 1, &["lies inside the source", "contain itself"]);
    refused(&mut place.mount("export/inner", "export"), 1, &["lies inside the target", "hide"]);
    refused(&mut place.mount("export", "export/../export"), 1, &["same directory"]);
}

#[test]
fn without_privilege_a_mount_is_refused() {
    let place = Place::new();
    let run = fs::canonicalize(BINARY).unwrap();
    let copy = place.path("permfs");
    // By another process: where this one has it open for writing, so has for a moment every child that another thread forks,
    // and execve(2) says ETXTBSY.
    assert!(Command::new("cp").args([&run, &copy]).status().unwrap().success());
    let mut command = Command::new(&copy);
    // The temporary directory is root's own: hand it over.
    std::os::unix::fs::chown(place.path(""), Some(65534), Some(65534)).unwrap();
    command.current_dir(place.path("")).args(["mount", "export", "target", "--map-uid", "1:1"]);
    command.uid(65534).gid(65534);
    refused(&mut command, 1, &["CAP_SYS_ADMIN", "65534", "as root"]);
}

#[test]
fn without_dev_fuse_a_mount_is_refused() {
    let place = Place::new();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh", BINARY]).current_dir(place.path(""));
    command.args(["mount", "export", "target", "--config", "rules.toml"]);
    refused(&mut command, 1, &["/dev/fuse", "modprobe fuse"]);
}

#[test]
fn an_export_that_cannot_be_mounted_says_what_mount_nfs_said() {
    let place = Place::new();
    // Port 1 of this host: refused at once; retry=0 gives up at once.
    let mut command = place.mount("127.0.0.1:/export", "target");
    command.args(["-o", "nfs:vers=4.2,nfs:port=1,nfs:retry=0,nfs:soft,nfs:timeo=10,nfs:retrans=1"]);
    refused(&mut command, 1, &["127.0.0.1:/export"]);
    assert!(!mounts().contains(place.path("run").to_str().unwrap()));
    assert_eq!(fs::read_dir(place.path("run")).unwrap().count(), 1, "only the guard is left");
}

#[test]
fn as_a_mount_helper_the_exit_codes_are_those_of_mount() {
    let place = Place::new();
    let helper = || {
        let mut command = place.permfs();
        command.arg0("/sbin/mount.permfs");
        command
    };
    refused(&mut helper(), 1, &["Usage"]);
    refused(helper().args(["export", "target", "-o", "rw,profle=x"]), 1, &["`profile`"]);
    refused(helper().args(["export", "target", "-o", "rw"]), 1, &["no rules"]);
    refused(helper().args(["export", "nowhere", "-o", "rw,config=rules.toml"]), 32, &["does not exist"]);
    let fake =
        helper().args(["export", "target", "-f", "-s", "-o", "rw,unheard_of,config=rules.toml"]).status();
    assert_eq!(fake.unwrap().code(), Some(0));
    assert!(!mounts().contains(place.path("target").to_str().unwrap()));
}

#[test]
fn what_is_no_permfs_mount_is_not_unmounted() {
    let place = Place::new();
    refused(place.permfs().args(["unmount", "target"]), 1, &["nothing is mounted", "permfs status"]);
    refused(place.permfs().args(["unmount", "nowhere"]), 1, &["nothing is mounted"]);
    refused(place.permfs().args(["unmount", "/proc"]), 1, &["/proc", "not a permfs mount", "proc"]);
    refused(place.permfs().args(["status", "target"]), 1, &["nothing is mounted"]);
    assert!(Path::new("/proc/self").exists());
}

#[test]
fn a_refusal_that_nobody_can_be_told_has_its_exit_code() {
    let place = Place::new();
    fs::write(place.path("wrong.toml"), "version = 2\n").unwrap();
    for (arguments, code) in [
        (&["check", "--config", "nowhere.toml"][..], 2),
        (&["check", "--config", "wrong.toml"], 2),
        (&["mount", "export", "target"], 2),
        (&["mount", "nowhere", "target", "--config", "rules.toml"], 1),
        (&["bench", "export", "target", "--fail-below", "nowhere.toml"], 2),
        (&["reload", "target"], 1),
        (&["status", "target"], 1),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let (_, closed) = std::io::pipe().unwrap();
        for stderr in [Stdio::from(full), Stdio::from(closed)] {
            let status = place.permfs().args(arguments).stderr(stderr).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}: {status}");
        }
    }
}

#[test]
fn a_command_line_that_is_none_ends_with_2() {
    let place = Place::new();
    let nameless =
        ["csi", "--node-id", "", "--endpoint", "unix:///x", "--config", "/x", "--host-socket", "/x"];
    let wrong = ["explain", "--uid", "4294967295"];
    for arguments in [&["mont"][..], &["mount"], &wrong, &["check"], &["reload"], &nameless] {
        assert_eq!(place.permfs().args(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}
