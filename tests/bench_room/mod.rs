//! Two directories to measure, and how `permfs bench` is run on them: shared by its tests.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::live::mount::permfs;

pub struct Room {
    dir: TempDir,
}

impl Room {
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// Where no disk can make anybody wait.
    pub fn in_memory() -> Self {
        Self::within(Path::new("/dev/shm"))
    }

    fn within(place: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("permfs-bench-test-").tempdir_in(place).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let room = Self { dir };
        for side in [room.source(), room.target()] {
            fs::create_dir(&side).unwrap();
            fs::set_permissions(&side, fs::Permissions::from_mode(0o777)).unwrap();
        }
        room
    }

    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn bench(&self, options: &[&str]) -> Command {
        bench(&self.source(), &self.target(), options)
    }
}

pub fn bench(source: &Path, target: &Path, options: &[&str]) -> Command {
    // Whoever runs the tests may be run by nohup(1), and a SIGHUP that is ignored stays so.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(permfs().get_program());
    command.arg("bench").args([source, target]).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[track_caller]
pub fn assert_empty(dirs: &[PathBuf]) {
    for dir in dirs {
        assert_eq!(entries(dir), Vec::<PathBuf>::new(), "left in {}", dir.display());
    }
}
