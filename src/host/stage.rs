//! Staging: an NFS export is mounted once for all pods of a volume on this node. Nothing is shown to anybody yet.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::ledger::{Entry, Record};
use super::protocol::{Code, Refusal, Stage};
use super::publish::{mounted_at, with_end};
use super::server::Host;
use crate::mount::nfs;
use crate::sys::{self, Errno};

/// How long mount.nfs may take.
const STAGE_PATIENCE: Duration = Duration::from_secs(100);
/// How long an unmount may take before the mount is detached: its server may be dead.
const UNSTAGE_PATIENCE: Duration = Duration::from_secs(10);

impl Host {
    /// Mounts an export.
    pub(super) fn stage(&self, stage: &Stage) -> Result<(), Refusal> {
        let turn = self.turns.enter(stage.staging.display().to_string())?;
        let entry = self.ledger.find(&stage.staging);
        match (entry, mounted_at(&stage.staging)?) {
            (Some(Entry { record: Record::Staged(before), .. }), Some(_)) if before == *stage => {
                return Ok(());
            }
            // Of before the host's ledger was lost, as by a reboot of the container's runtime.
            (None, Some(mount)) if mount.kind.starts_with("nfs") && mount.source == stage.export => {
                return Ok(());
            }
            (_, Some(other)) => {
                let at = stage.staging.display();
                let sentence = format!("{} of {} is mounted at {at} already", other.kind, other.source);
                return Err(Refusal::new(Code::AlreadyExists, sentence));
            }
            (Some(entry), None) => entry.clear(),
            (None, None) => {}
        }
        let failed = |error: std::io::Error| {
            Refusal::new(Code::Internal, format!("cannot make {}: {error}", stage.staging.display()))
        };
        DirBuilder::new().recursive(true).mode(0o750).create(&stage.staging).map_err(failed)?;
        let entry = self.ledger.add(Record::Staged(stage.clone()))?;
        let asked = stage.clone();
        let attach = move || {
            let _turn = turn;
            let mounted = nfs::attach(&asked.export, &with_end(&asked.options), false, &asked.staging);
            if mounted.is_err() {
                entry.clear();
            }
            mounted
        };
        match self.crew.within(STAGE_PATIENCE, attach)? {
            Some(Ok(())) => Ok(()),
            Some(Err(failure)) => Err(Refusal::new(Code::FailedPrecondition, failure.to_string())),
            None => {
                let sentence = format!(
                    "{} does not answer within {} s: check the server",
                    stage.export,
                    STAGE_PATIENCE.as_secs()
                );
                Err(Refusal::new(Code::Unavailable, sentence))
            }
        }
    }

    /// Takes an export down. Done where there is none.
    pub(super) fn unstage(&self, staging: &Path) -> Result<(), Refusal> {
        let _turn = self.turns.enter(staging.display().to_string())?;
        if let Some(mount) = mounted_at(staging)? {
            if !mount.kind.starts_with("nfs") {
                let sentence =
                    format!("{} is mounted at {}, which permfs did not stage", mount.kind, staging.display());
                return Err(Refusal::new(Code::FailedPrecondition, sentence));
            }
            self.detach(&mount.target)?;
        }
        if let Some(entry) = self.ledger.find(staging) {
            entry.clear();
        }
        Ok(())
    }

    fn detach(&self, target: &Path) -> Result<(), Refusal> {
        let path = target.to_owned();
        let unmounted = self.crew.within(UNSTAGE_PATIENCE, move || sys::mount::unmount(&path, false))?;
        match unmounted {
            Some(Ok(()) | Err(Errno::EINVAL | Errno::ENOENT)) => Ok(()),
            // In use by a pod that is being torn down, or its server is dead.
            _ => match sys::mount::unmount(target, true) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
                Err(errno) => {
                    let sentence = format!("cannot unmount {}: {errno}", target.display());
                    Err(Refusal::new(Code::Internal, sentence))
                }
            },
        }
    }
}

/// Whether a record's mount is gone, so that it stands for nothing.
pub(super) fn is_over(record: &Record) -> bool {
    let mounted = mounted_at(record.place());
    // Where the mount table cannot be read, nothing is known to be over.
    mounted.is_ok_and(|mounted| match record {
        Record::Published(_) => mounted.is_none_or(|mounted| !mounted.is_permfs()),
        Record::Staged(_) => mounted.is_none(),
    })
}
