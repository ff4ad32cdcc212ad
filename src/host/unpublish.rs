//! Taking a volume away: it comes to an end whatever has become of the daemon or the server, and leaves no process where
//! nobody can use the volume any more.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::ledger::Entry;
use super::protocol::{Code, Refusal};
use super::publish::mounted_at;
use super::server::Host;
use crate::mount::patience::within;
use crate::mount::{self, MountFailure};
use crate::sys::{self, Errno};

/// How long taking down may take, in all.
const DOWN_PATIENCE: Duration = Duration::from_secs(40);
/// How long the host's own mounts for a volume may take to go. The last of an export waits for its server.
const CLEAR_PATIENCE: Duration = Duration::from_secs(5);
/// How long a mount that is in use may take to show that it can be.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// The most mounts on one target that are taken down: two crashes of a plugin of old, and to spare.
const MAX_STACKED: usize = 8;

impl Host {
    /// Takes a volume away. Done where there is none.
    pub(super) fn unpublish(&self, target: &Path) -> Result<(), Refusal> {
        let place = target.display().to_string();
        let turn = self.turns.enter(place.clone())?;
        let path = target.to_owned();
        let down = move || {
            let _turn = turn;
            take_down(&path)
        };
        self.crews.unmounts.within(&place, DOWN_PATIENCE, down)?.unwrap_or_else(|| {
            let sentence =
                format!("unmounting {} takes longer than {} s", target.display(), DOWN_PATIENCE.as_secs());
            Err(Refusal::new(Code::DeadlineExceeded, sentence))
        })?;
        if let Some(entry) = self.ledger.find(target) {
            self.clear(entry);
        }
        // What stands there otherwise, a file or a symlink, kubelet would ask for again and again.
        let removed = match fs::remove_dir(target) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(target),
            removed => removed,
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let sentence = format!("cannot remove {}: {error}", target.display());
                Err(Refusal::new(Code::Internal, sentence))
            }
            _ => Ok(()),
        }
    }

    /// Forgets an entry. Where that takes long it goes on, or is left for the next host: the volume is gone already.
    pub(super) fn clear(&self, entry: Entry) {
        let place = entry.record.export();
        match self.crews.unmounts.within(&place, CLEAR_PATIENCE, move || entry.clear()) {
            Ok(Some(())) => {}
            Ok(None) => tracing::warn!(place, "the host's mount goes when its server answers"),
            Err(refusal) => tracing::warn!(place, %refusal, "a volume's record is left behind"),
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
        // Its last user leaves when it can; who hangs in it, as in a question for its space, never would.
        Err(MountFailure::InUse { .. }) if answers(target) => mount::unmount(target, true),
        Err(MountFailure::InUse { .. }) => mount::unmount::abort(target),
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

/// Whether a mount says anything at all.
fn answers(target: &Path) -> bool {
    asked(target).is_some()
}

/// Whether a mount says that nobody serves it.
pub(super) fn is_deserted(target: &Path) -> bool {
    matches!(asked(target), Some(Err(Errno::ENOTCONN | Errno::ECONNABORTED)))
}

/// statvfs(3), or nothing where that takes long. A thread that hangs there is set free when the mount is aborted.
fn asked(target: &Path) -> Option<Result<(), Errno>> {
    let target = target.to_owned();
    within(ANSWER_PATIENCE, move || statvfs(&target).map(drop).map_err(Errno::from))
}
