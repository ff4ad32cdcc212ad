//! Taking a volume away: it comes to an end whatever has become of the daemon or the server.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::protocol::{Code, Refusal};
use super::publish::mounted_at;
use super::server::Host;
use crate::mount::{self, MountFailure};
use crate::sys;

/// How long taking down may take, in all.
const DOWN_PATIENCE: Duration = Duration::from_secs(45);
/// The most mounts on one target that are taken down: two crashes of a plugin of old, and to spare.
const MAX_STACKED: usize = 8;

impl Host {
    /// Takes a volume away. Done where there is none.
    pub(super) fn unpublish(&self, target: &Path) -> Result<(), Refusal> {
        let turn = self.turns.enter(target.display().to_string())?;
        let path = target.to_owned();
        let down = move || {
            let _turn = turn;
            take_down(&path)
        };
        self.crew.within(DOWN_PATIENCE, down)?.unwrap_or_else(|| {
            let sentence =
                format!("unmounting {} takes longer than {} s", target.display(), DOWN_PATIENCE.as_secs());
            Err(Refusal::new(Code::DeadlineExceeded, sentence))
        })?;
        if let Some(entry) = self.ledger.find(target) {
            entry.clear();
        }
        match fs::remove_dir(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let sentence = format!("cannot remove {}: {error}", target.display());
                Err(Refusal::new(Code::Internal, sentence))
            }
            _ => Ok(()),
        }
    }
}

/// Takes down every permfs mount on a target.
pub(super) fn take_down(target: &Path) -> Result<(), Refusal> {
    for _ in 0..MAX_STACKED {
        match mounted_at(target)? {
            Some(mounted) if mounted.is_permfs() => unmount(target),
            Some(other) => {
                let sentence =
                    format!("{} is mounted on {}, which is not permfs's", other.kind, target.display());
                return Err(Refusal::new(Code::FailedPrecondition, sentence));
            }
            None => return Ok(()),
        }
    }
    let sentence = format!("{} is still mounted after {MAX_STACKED} unmounts", target.display());
    Err(Refusal::new(Code::Internal, sentence))
}

/// Takes the topmost mount down; what is left of its daemon is told, and hinders nobody.
fn unmount(target: &Path) {
    let outcome = match mount::unmount(target, false) {
        Err(MountFailure::InUse { .. }) => mount::unmount(target, true),
        outcome => outcome,
    };
    match outcome {
        Ok(_) | Err(MountFailure::NotMounted(_)) => {}
        // It is gone from the target, which is all that was asked for.
        Err(failure @ (MountFailure::Elsewhere { .. } | MountFailure::StuckDaemon { .. })) => {
            tracing::warn!(target = %target.display(), %failure, "unpublished");
        }
        Err(failure) => {
            tracing::error!(target = %target.display(), %failure, "detaching the mount instead");
            let _ = sys::mount::unmount(target, true);
        }
    }
}
