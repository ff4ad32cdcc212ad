//! What a keeper must know to keep a mount, as text in the shared memory: for the program that takes this one's place.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::confine::Confinement;
use super::run::Plan;
use super::{RulesSource, Source};
use crate::config::{Overrides, policy_from_flags};
use crate::policy::Policy;
use crate::state::State;
use crate::state::texts::Text;
use crate::telemetry::Logging;

/// A mount, without what only memory holds. Fields may be added, with a default; none may change its meaning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Recipe {
    pub(super) source: Source,
    /// TARGET, resolved.
    pub(super) target: PathBuf,
    pub(super) rules: Option<RulesSource>,
    pub(super) flags: Overrides,
    pub(super) watch: bool,
    pub(super) profile: Option<String>,
    pub(super) read_only: bool,
    pub(super) no_exec: bool,
    pub(super) context: Option<String>,
    pub(super) shown_source: Option<String>,
    #[serde(default)]
    pub(super) max_inodes: Option<usize>,
    /// The mount's place in the runtime directory, and the lock on it.
    pub(super) claim: PathBuf,
    pub(super) lock: RawFd,
    /// The control socket.
    pub(super) control: RawFd,
    /// The mount namespace of the mounts that the export is reached by, where it is another one than the keeper's.
    #[serde(default)]
    pub(super) namespace: Option<RawFd>,
    pub(super) logging: Logging,
    /// Whether log lines go to the mount's own file.
    pub(super) in_background: bool,
    /// What the keeper was before it gave things up.
    #[serde(default)]
    pub(super) confinement: Confinement,
}

impl Recipe {
    /// Leaves it where the next program finds it. Without it the mount goes on, and cannot be upgraded.
    pub(super) fn leave(&self, state: &State) {
        match serde_json::to_string(self) {
            Ok(text) if text.len() < Text::Recipe.room() => state.texts.leave(Text::Recipe, &text),
            Ok(_) | Err(_) => {
                tracing::warn!("this mount cannot be upgraded: its paths are too long, or not UTF-8")
            }
        }
    }

    /// The one that was left.
    pub(super) fn read(state: &State) -> Option<Self> {
        serde_json::from_str(&state.texts.read(Text::Recipe)?).ok()
    }

    /// The mount as it was planned, under the rules that are in force.
    ///
    /// # Errors
    /// What is wrong with them, in this version's eyes.
    pub(super) fn plan(&self, state: &State) -> Result<Plan, String> {
        Ok(Plan {
            source: self.source.clone(),
            target: self.target.clone(),
            policy: self.policy(state)?,
            rules: self.rules.clone(),
            flags: self.flags.clone(),
            watch: self.watch,
            profile: self.profile.clone(),
            read_only: self.read_only,
            no_exec: self.no_exec,
            context: self.context.clone(),
            shown_source: self.shown_source.clone(),
            max_inodes: self.max_inodes,
        })
    }

    fn policy(&self, state: &State) -> Result<Arc<Policy>, String> {
        let policy = match &self.rules {
            None => policy_from_flags(&self.flags).map_err(|error| error.to_string())?,
            Some(source) => {
                let text = state.rules.read().ok_or("the rules in force were not left")?;
                source
                    .judge(&text)
                    .map_err(|errors| errors.first().map_or_else(String::new, |error| error.to_string()))?
            }
        };
        Ok(Arc::new(policy))
    }
}

/// Leaves the text of the rules in force for whoever takes over. Where the file says something else by now, nothing.
pub(super) fn leave_rules(plan: &Plan, state: &State) {
    let Some(source) = &plan.rules else { return };
    let judged = source.text().ok().and_then(|text| source.judge(&text).ok().map(|policy| (text, policy)));
    if let Some((text, policy)) = judged
        && plan.policy.changes(&policy).is_empty()
    {
        state.rules.leave(&text);
    }
}
