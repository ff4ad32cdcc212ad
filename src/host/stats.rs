//! How a published volume fares. Asking it never waits for long: a server that does not answer is what is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::{Statvfs, statvfs};

use super::ledger::Record;
use super::protocol::{Amount, Code, Refusal, Stats, Usage};
use super::publish::mounted_at;
use super::server::Host;
use crate::mount::{self, State};
use crate::sys::Errno;

/// How long a volume may take to answer. At the same place nobody asks again before it has.
const PATIENCE: Duration = Duration::from_secs(3);

impl Host {
    /// Space, inodes and condition.
    pub(super) fn stats(&self, volume_id: &str, path: &Path) -> Result<Stats, Refusal> {
        let known = |record: &Record| match record {
            Record::Published(order) => {
                order.volume_id == volume_id
                    && (order.target == path || order.staging.as_deref() == Some(path))
            }
            Record::Staged(_) => false,
            Record::Unknown { place } => place == path,
        };
        let Some(entry) = self.ledger.entries().into_iter().find(|entry| known(&entry.record)) else {
            let sentence = format!("the volume {volume_id} is not published at {}", path.display());
            return Err(Refusal::new(Code::NotFound, sentence));
        };
        let target = entry.record.place().to_owned();
        if mounted_at(&target)?.is_none_or(|mounted| !mounted.is_permfs()) {
            return Ok(in_trouble("nothing is mounted there any more"));
        }
        let usage = self.ask(target.clone())?;
        Ok(match usage {
            Some(Ok(found)) => Stats { usage: Some(usage_of(&found)), trouble: trouble_of_daemon(&target) },
            Some(Err(Errno::ENOTCONN | Errno::ECONNABORTED)) => in_trouble("the mount's process has ended"),
            Some(Err(errno)) => in_trouble(&format!("the export does not tell its space: {errno}")),
            None => in_trouble(&format!("the server does not answer within {} s", PATIENCE.as_secs())),
        })
    }

    /// statvfs(3) on a thread that may hang; nothing where it does, or one already hangs there.
    fn ask(&self, target: PathBuf) -> Result<Option<Result<Statvfs, Errno>>, Refusal> {
        // Kept by the thread, however long it takes.
        let Ok(turn) = self.asked.enter(target.display().to_string()) else { return Ok(None) };
        let place = target.display().to_string();
        self.crews.looks.within(&place, PATIENCE, move || {
            let answer = statvfs(&target).map_err(Errno::from);
            drop(turn);
            answer
        })
    }
}

fn in_trouble(what: &str) -> Stats {
    Stats { usage: None, trouble: Some(what.to_owned()) }
}

/// The kernel may answer for a process that does not.
fn trouble_of_daemon(target: &Path) -> Option<String> {
    let mounts = mount::status(Some(target)).ok()?;
    match mounts.first()?.state {
        State::Serving => None,
        State::NotAnswering => Some("the mount's process does not answer".to_owned()),
        State::Dead => Some("the mount's process has ended".to_owned()),
    }
}

fn usage_of(found: &Statvfs) -> Usage {
    let unit = found.fragment_size();
    let bytes = |blocks: u64| blocks.saturating_mul(unit);
    Usage {
        bytes: Amount {
            total: bytes(found.blocks()),
            used: bytes(found.blocks().saturating_sub(found.blocks_free())),
            available: bytes(found.blocks_available()),
        },
        inodes: Amount {
            total: found.files(),
            used: found.files().saturating_sub(found.files_free()),
            available: found.files_available(),
        },
    }
}
