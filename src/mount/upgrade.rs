//! `permfs upgrade`: another program takes the place of a mount's processes, and nobody who uses the mount notices.
//!
//! The program that asks is the one that will run. It says which layouts of the shared memory it can read; where the running
//! worker's is not among them, that one refuses and goes on. Else the worker stops between two requests and ends, and the keeper
//! becomes the new program by execve(2): the same process, with the same descriptors. Until that one's worker serves, the old
//! program's reserve stands by.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::claim::Trace;
use super::control::{Ask, CONTROL_PATIENCE, Report, ask};
use super::runtime::RuntimeDir;
use super::status::own_namespace;
use super::table::MountTable;
use super::{MountFailure, waking};
use crate::state::State;
use crate::state::layout::LAYOUT;
use crate::state::texts::Text;

/// How long an upgrade may take, until the new program answers.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// What is asked of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program that is to run.
    pub path: PathBuf,
    /// Its version, for people.
    pub version: String,
    /// The layouts of the shared memory that it can read.
    pub layouts: Vec<u64>,
}

/// What a worker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upgrading {
    /// It is about to end.
    Begun,
    /// It goes on as it was.
    Refused(String),
}

/// Who takes a mount over, as the worker that stops leaves it for its keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Successor {
    /// The keeper, as this program.
    Program(PathBuf),
    /// A process of another container, which waits for the keeper's call.
    Elsewhere,
}

impl Successor {
    pub(super) fn name_in(&self, state: &State) {
        let text = serde_json::to_string(self).unwrap_or_default();
        state.texts.leave(Text::Program, &text);
    }

    pub(super) fn named_in(state: &State) -> Option<Self> {
        serde_json::from_str(&state.texts.read(Text::Program)?).ok()
    }
}

/// A mount that runs this program now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgraded {
    /// Its keeper.
    pub keeper: u32,
    /// Its worker.
    pub worker: u32,
    /// From the request to the new program's first answer.
    pub took: Duration,
}

/// Where permfs's mounts of this mount namespace are.
///
/// # Errors
/// Where the mount table cannot be read.
pub fn targets() -> Result<Vec<PathBuf>, MountFailure> {
    Ok(MountTable::read()?.permfs().into_iter().map(|entry| entry.target.clone()).collect())
}

/// Makes this program the one that serves `target`.
///
/// # Errors
/// Where no permfs mount is there, it refuses, or the new program does not come to answer. The mount goes on in any case.
pub fn upgrade(target: &Path) -> Result<Upgraded, MountFailure> {
    let table = MountTable::read()?;
    let entry = table.find_permfs(target)?;
    let unanswered = |why: String| MountFailure::NoAnswer { path: entry.target.clone(), why };
    let trace = RuntimeDir::from_env().known(entry)?;
    let before = report(&trace).map_err(|error| unanswered(error.to_string()))?;
    if before.namespace.is_some() && before.namespace != own_namespace() {
        // The path of this program may be another one's there.
        let why =
            "it is served in another mount namespace (a container): run `permfs upgrade` in there".to_owned();
        return Err(MountFailure::NotUpgraded { path: entry.target.clone(), why });
    }
    let program = this_program().map_err(|error| unanswered(error.to_string()))?;
    let begin = Instant::now();
    let _woken = waking::wake(&entry.target).map_err(|error| MountFailure::NoProcess(error.into()))?;
    match ask(&trace.control(), &Ask::Upgrade(program), CONTROL_PATIENCE) {
        Ok(Upgrading::Begun) => {}
        Ok(Upgrading::Refused(why)) => {
            return Err(MountFailure::NotUpgraded { path: entry.target.clone(), why });
        }
        Err(error) => return Err(unanswered(error.to_string())),
    }
    follow(&entry.target, &trace, &before, begin)
}

/// Until the new program answers.
fn follow(target: &Path, trace: &Trace, before: &Report, begin: Instant) -> Result<Upgraded, MountFailure> {
    let failed = |why| Err(MountFailure::NotUpgraded { path: target.to_owned(), why });
    while begin.elapsed() < PATIENCE {
        thread::sleep(POLL);
        // While nobody serves, nobody answers.
        let Ok(now) = report(trace) else { continue };
        if let Some(why) = now.upgrade_failed {
            return failed(why);
        }
        if upgrades(&now) > upgrades(before) {
            return Ok(Upgraded { keeper: now.keeper_pid, worker: now.pid, took: begin.elapsed() });
        }
        if now.pid != before.pid {
            return failed("its worker died before it had made room: upgrade it again".to_owned());
        }
    }
    let why = "the new program does not answer; see the mount's log".to_owned();
    Err(MountFailure::NoAnswer { path: target.to_owned(), why })
}

fn report(trace: &Trace) -> io::Result<Report> {
    ask(&trace.control(), &Ask::Status, CONTROL_PATIENCE)
}

fn upgrades(report: &Report) -> u64 {
    report.counters.get("upgrades").and_then(serde_json::Value::as_u64).unwrap_or_default()
}

/// What is asked of workers for this program.
pub(super) fn this_program() -> io::Result<Program> {
    let path = std::env::current_exe()?;
    Ok(Program { path, version: env!("CARGO_PKG_VERSION").to_owned(), layouts: vec![LAYOUT] })
}
