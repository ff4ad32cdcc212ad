//! Who serves a mount, as its process says it: what `status`, `reload`, `upgrade` and `unmount` go by.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::path_text;
use super::table::DeviceNumber;

/// A mount as its process describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it is mounted, as text.
    #[serde(serialize_with = "path_text::lossy")]
    pub target: PathBuf,
    /// What is shown, as given.
    pub source: String,
    /// The profile; none where the rules came from flags.
    pub profile: Option<String>,
    /// The process that serves it.
    pub worker: Process,
    /// The process that keeps the mount while that one is replaced.
    pub keeper: Process,
    /// The mounted filesystem.
    pub device: DeviceNumber,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since boot (proc_pid_stat(5), field 22): a pid alone may be reused.
    pub started: u64,
}

impl Process {
    /// The process that has this number now.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { pid, started: start_time(pid).unwrap_or_default() }
    }

    /// Whether it is still there.
    #[must_use]
    pub fn lives(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// When a process began, in clock ticks since boot; none where there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may contain anything: count from behind it. It ends field 2.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}
