//! New rules for the volumes that are shown already: each daemon reads them anew and judges for itself.
//!
//! An entry's file says what its daemon has in force, so that a daemon that begins later begins with that: rules that are
//! refused are put back. What is not reached now is left for the plugin's next call, which finds the others done.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::ledger::{Entry, Record};
use super::protocol::{Code, Refusal};
use super::server::Host;
use crate::mount::{MountFailure, Reloaded, reload};

/// How long one daemon may take.
const DAEMON_PATIENCE: Duration = Duration::from_secs(10);
/// How long all of them may; the rest is for the next call.
const CALL_PATIENCE: Duration = Duration::from_secs(60);

impl Host {
    /// Has every published volume's daemon follow `text`.
    ///
    /// # Errors
    /// UNAVAILABLE where some could not be reached: to be called again. A daemon that refuses the rules is no error here; its
    /// `permfs status` tells.
    pub(super) fn renew(&self, text: &str) -> Result<(), Refusal> {
        let begin = Instant::now();
        let mut left = 0;
        for entry in self.ledger.entries() {
            let Record::Published(order) = &entry.record else { continue };
            let reached = begin.elapsed() < CALL_PATIENCE && self.renew_one(&entry, &order.target, text);
            left += usize::from(!reached);
        }
        if left == 0 {
            return Ok(());
        }
        let sentence = format!("{left} volumes do not have the new rules yet: call again");
        Err(Refusal::new(Code::Unavailable, sentence))
    }

    /// Whether the daemon has judged them.
    fn renew_one(&self, entry: &Entry, target: &Path, text: &str) -> bool {
        // Somebody is making or removing this very mount.
        let Ok(_turn) = self.turns.enter(target.display().to_string()) else { return false };
        let Ok(before) = fs::read_to_string(entry.rules()) else { return true };
        if before == text {
            return true;
        }
        if let Err(error) = entry.write_rules(text) {
            tracing::error!(%error, target = %target.display(), "new rules cannot be written");
            return false;
        }
        let outcome = reload(target, DAEMON_PATIENCE);
        match &outcome {
            Ok(Reloaded::Done(what)) => {
                tracing::info!(target = %target.display(), what, "new rules");
                return true;
            }
            Ok(Reloaded::Refused(complaints)) => {
                let why = complaints.first().map(|complaint| complaint.sentence.as_str());
                tracing::error!(target = %target.display(), why, "new rules are refused; the old ones hold");
            }
            Err(error) => tracing::warn!(%error, "a daemon has not taken the new rules"),
        }
        if let Err(error) = entry.write_rules(&before) {
            tracing::error!(%error, target = %target.display(), "the rules in force cannot be put back");
        }
        // Without a mount there is nobody to have rules.
        !matches!(outcome, Err(ref failure) if !matches!(failure, MountFailure::NotMounted(_)))
    }
}
