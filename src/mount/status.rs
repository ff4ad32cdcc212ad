//! What is mounted and how it fares: the mount table says what, each mount's own process how. Asks no filesystem.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::control::{Ask, CONTROL_PATIENCE, Counters, Report, ask};
use super::reloader::Standing;
use super::runtime::RuntimeDir;
use super::table::{MountEntry, MountTable};
use super::{MountFailure, path_text};

/// Whether a mount's process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum State {
    /// It does.
    #[serde(rename = "serving")]
    Serving,
    /// It lives and does not answer, or nothing is known of it.
    #[serde(rename = "not answering")]
    NotAnswering,
    /// It is gone; the mount answers ENOTCONN until it is unmounted.
    #[serde(rename = "dead")]
    Dead,
}

/// One mount, as `permfs status --json` has it.
#[derive(Debug, Clone, Serialize)]
pub struct MountStatus {
    /// Where it is mounted.
    #[serde(serialize_with = "path_text::lossy")]
    pub target: PathBuf,
    /// What is shown, as given.
    pub source: String,
    /// The profile; null where the rules came from flags, or nothing is known.
    pub profile: Option<String>,
    /// The process that serves it; null where nothing is known.
    pub pid: Option<u32>,
    /// The process that keeps the mount while that one is replaced; null where nothing is known.
    pub keeper_pid: Option<u32>,
    /// Whether it answers.
    pub state: State,
    /// Which rules are in force; null where it does not answer.
    pub rules: Option<Standing>,
    /// Why the last upgrade, or handing over to another container, did not come about; null where none failed.
    pub upgrade_failed: Option<String>,
    /// The mount namespace of its processes, by its inode number; none where nothing is known.
    #[serde(skip)]
    pub namespace: Option<u64>,
    /// What was negotiated with the kernel and found at the export.
    pub features: Vec<String>,
    /// Counted since the mount began.
    pub counters: Counters,
}

/// The mount namespace of this process, by its inode number (namespaces(7)).
#[must_use]
pub fn own_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/mnt").ok().map(|found| found.ino())
}

/// All mounts of permfs in this mount namespace, or the one on `target`.
///
/// # Errors
/// Where the mount table, or who serves, cannot be read, or something else or nothing is on `target`.
pub fn status(target: Option<&Path>) -> Result<Vec<MountStatus>, MountFailure> {
    let table = MountTable::read()?;
    let runtime = RuntimeDir::from_env();
    let entries = match target {
        Some(path) => vec![table.find_permfs(path)?],
        None => table.permfs(),
    };
    if !entries.is_empty() {
        runtime.expect_readable()?;
    }
    Ok(entries.into_iter().map(|entry| of(entry, &runtime)).collect())
}

fn of(entry: &MountEntry, runtime: &RuntimeDir) -> MountStatus {
    let (target, source) = (entry.target.clone(), entry.source.clone());
    let mut status = MountStatus {
        target,
        source,
        profile: None,
        pid: None,
        keeper_pid: None,
        state: State::NotAnswering,
        rules: None,
        upgrade_failed: None,
        namespace: None,
        features: Vec::new(),
        counters: Counters::new(),
    };
    let Some(trace) = runtime.find(entry.device, &entry.target) else { return status };
    match ask(&trace.control(), &Ask::Status, CONTROL_PATIENCE) {
        Ok(Report {
            source,
            profile,
            pid,
            keeper_pid,
            rules,
            upgrade_failed,
            namespace,
            features,
            counters,
            ..
        }) => {
            status = MountStatus {
                source,
                profile,
                pid: Some(pid),
                keeper_pid: Some(keeper_pid),
                rules: Some(rules),
                upgrade_failed,
                namespace,
                features,
                counters,
                state: State::Serving,
                ..status
            };
        }
        Err(_) => {
            status.state = if trace.is_alive() { State::NotAnswering } else { State::Dead };
            if let Some(record) = trace.record {
                (status.profile, status.pid) = (record.profile, Some(record.worker.pid));
                status.keeper_pid = Some(record.keeper.pid);
            }
        }
    }
    status
}
