//! Staging: an NFS export is mounted once for all pods of a volume on this node. Nothing is shown to anybody yet.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use super::ledger::{Entry, Record};
use super::protocol::{Code, Refusal, Stage};
use super::publish::{ATTACH_PATIENCE, mounted_at, with_end};
use super::server::Host;
use crate::mount::nfs;
use crate::mount::table::MountEntry;
use crate::sys::{self, Errno};

/// What a call waits beyond mount.nfs's own end, so that it hears its reason.
pub(super) const GRACE: Duration = Duration::from_secs(5);
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
            // Of before the host's ledger was lost, as by a reboot of the container's runtime, or of a newer host.
            (None | Some(Entry { record: Record::Unknown { .. }, .. }), Some(mount))
                if mount.kind.starts_with("nfs") && mount.source == stage.export =>
            {
                return Ok(());
            }
            (_, Some(other)) => {
                let at = stage.staging.display();
                let sentence = format!("{} of {} is mounted at {at} already", other.kind, other.source);
                return Err(Refusal::new(Code::AlreadyExists, sentence));
            }
            (Some(entry), None) => self.clear(entry),
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
            let mounted =
                nfs::attach(ATTACH_PATIENCE, &asked.export, &with_end(&asked.options), false, &asked.staging);
            if mounted.is_err() {
                entry.clear();
            }
            mounted
        };
        match self.crews.attaches.within(&stage.export, ATTACH_PATIENCE + GRACE, attach)? {
            Some(Ok(())) => Ok(()),
            Some(Err(failure)) => Err(Refusal::new(Code::FailedPrecondition, failure.to_string())),
            None => {
                let sentence = format!(
                    "{} does not answer within {} s: check the server",
                    stage.export,
                    ATTACH_PATIENCE.as_secs()
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
            self.detach(&mount)?;
        }
        if let Some(entry) = self.ledger.find(staging) {
            self.clear(entry);
        }
        Ok(())
    }

    /// Where it is in use by a pod that is being torn down, or its server is dead, it is gone from its place all the same.
    fn detach(&self, mount: &MountEntry) -> Result<(), Refusal> {
        let mut told = "it takes too long".to_owned();
        for lazy in [false, true] {
            let path = mount.target.clone();
            let unmount = move || sys::mount::unmount(&path, lazy);
            match self.crews.unmounts.within(&mount.source, UNSTAGE_PATIENCE, unmount)? {
                Some(Ok(()) | Err(Errno::EINVAL | Errno::ENOENT)) => return Ok(()),
                Some(Err(errno)) => told = errno.to_string(),
                // Off its place, and the thread waits for the server, as the last one who uses the export does.
                None if mounted_at(&mount.target)?.is_none_or(|now| now.device != mount.device) => {
                    return Ok(());
                }
                None => {}
            }
        }
        Err(Refusal::new(Code::Internal, format!("cannot unmount {}: {told}", mount.target.display())))
    }
}

/// Whether a record's mount is gone, so that it stands for nothing.
pub(super) fn is_over(record: &Record) -> bool {
    let mounted = mounted_at(record.place());
    // Where the mount table cannot be read, nothing is known to be over.
    mounted.is_ok_and(|mounted| match record {
        Record::Published(_) => mounted.is_none_or(|mounted| !mounted.is_permfs()),
        Record::Staged(_) | Record::Unknown { .. } => mounted.is_none(),
    })
}
