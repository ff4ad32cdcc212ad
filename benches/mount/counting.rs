//! Who counts: permfs its requests (`permfs status`), the NFS client its RPCs (/proc/self/mountstats).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How often a mount is asked for its counts.
const TRIES: usize = 10;

/// Counts by kind, since the mount began.
pub type Counts = BTreeMap<String, u64>;

/// Something that counts.
pub enum Counter {
    /// The FUSE requests of the permfs mount there.
    Requests(PathBuf),
    /// The RPCs of the NFS mount there.
    Rpcs(PathBuf),
}

impl Counter {
    pub fn read(&self) -> Result<Counts, String> {
        match self {
            Self::Requests(target) => requests(target),
            Self::Rpcs(mount) => {
                let text = fs::read_to_string("/proc/self/mountstats").map_err(|error| error.to_string())?;
                rpcs_in(&text, mount).ok_or_else(|| format!("mountstats has nothing of {}", mount.display()))
            }
        }
    }
}

/// Asked again where nothing is told: a mount's process that is not given the CPU for two seconds is said not to answer.
fn requests(target: &Path) -> Result<Counts, String> {
    for _ in 0..TRIES {
        let status = permfs::mount::status(Some(target)).map_err(|error| error.to_string())?;
        let kinds = status.first().and_then(|mount| mount.counters.get("by_opcode")?.as_object().cloned());
        if let Some(kinds) = kinds {
            return Ok(kinds.into_iter().map(|(kind, count)| (kind, count.as_u64().unwrap_or(0))).collect());
        }
    }
    Err(format!("permfs does not tell what it did at {}", target.display()))
}

/// `device SERVER mounted on PLACE with fstype nfs4`, and further down, after `per-op statistics`, lines of
/// `OPERATION: COUNT ...` (nfs_iostat's format, `net/sunrpc/stats.c`).
pub fn rpcs_in(text: &str, mount: &Path) -> Option<Counts> {
    let place = format!(" mounted on {} with fstype nfs", mount.display());
    let devices = text.split("\ndevice ");
    let device =
        devices.into_iter().find(|device| device.lines().next().is_some_and(|line| line.contains(&place)))?;
    let (_, operations) = device.split_once("per-op statistics")?;
    let counts = operations.lines().filter_map(|line| {
        let (name, numbers) = line.trim().split_once(": ")?;
        Some((name.to_lowercase(), numbers.split(' ').next()?.parse().ok()?))
    });
    Some(counts.collect())
}
