//! Which rules hold: the options that `mount`, `check` and `explain` share.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::failure::Failure;
use crate::config::{self, Overrides, RulesFile};
use crate::mount::RulesSource;
use crate::policy::Policy;

/// Where the rules are.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct RulesArgs {
    /// The rules file.
    #[arg(long, short, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The profile to use; a file with a single one needs no name.
    #[arg(long, short, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// Map a pod uid, or a range, to an NFS uid: 50000:2001, 1000-1999:5000-5999.
    #[arg(long, value_name = "POD:NFS")]
    pub(super) map_uid: Vec<String>,
    /// Map a pod gid, or a range, to an NFS gid.
    #[arg(long, value_name = "POD:NFS")]
    pub(super) map_gid: Vec<String>,
    /// Show this NFS group as this pod group, whatever shows it otherwise (a pod's fsGroup): 1000:2001.
    #[arg(long, value_name = "POD:NFS")]
    pub(super) fs_group: Option<String>,
}

/// The rules in force and where they come from.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) policy: Arc<Policy>,
    /// None where they come from flags alone.
    pub(super) profile: Option<String>,
    /// Where they can be read anew; none where they come from flags alone.
    pub(super) source: Option<RulesSource>,
    /// Those that come from flags.
    pub(super) flags: Overrides,
}

impl RulesArgs {
    /// Reads them.
    pub(super) fn load(&self) -> Result<Rules, Failure> {
        let overrides = Overrides {
            map_uid: self.map_uid.clone(),
            map_gid: self.map_gid.clone(),
            fs_group: self.fs_group.clone(),
        };
        let Some(path) = &self.config else {
            return self.of_flags(&overrides);
        };
        let file = RulesFile::load(path)?;
        let policy = file.policy(self.profile.as_deref(), &overrides)?;
        let profile = policy.name().to_owned();
        let flags = overrides.clone();
        let source = RulesSource { file: path.clone(), profile: profile.clone(), overrides };
        Ok(Rules { policy: Arc::new(policy), profile: Some(profile), source: Some(source), flags })
    }

    fn of_flags(&self, overrides: &Overrides) -> Result<Rules, Failure> {
        if let Some(name) = &self.profile {
            return Err(Failure::usage(format!(
                "the profile \"{name}\" needs a file to be found in: add --config FILE"
            )));
        }
        if overrides.is_empty() {
            return Err(Failure::usage(NO_RULES));
        }
        let (policy, flags) = (Arc::new(config::policy_from_flags(overrides)?), overrides.clone());
        Ok(Rules { policy, profile: None, source: None, flags })
    }
}

/// A file's profiles, for a sentence.
pub(super) fn names(file: &RulesFile) -> String {
    let names = file.profile_names();
    match names.as_slice() {
        [] => "no profile".to_owned(),
        [one] => format!("profile {one}"),
        several => format!("profiles {}", several.join(", ")),
    }
}

/// No config and no map: what to write.
const NO_RULES: &str = "no rules say who is who: write a file such as

    version = 1
    profile.airflow = { uid = [{ pod = 50000, nfs = 2001 }], gid = [{ pod = 0, nfs = 2001 }] }

and name it with --config FILE, or give --map-uid 50000:2001 --map-gid 0:2001";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_rules_the_two_lines_to_write_are_shown() {
        let refused = RulesArgs::default().load().unwrap_err();
        assert_eq!(refused.code(), 2);
        assert!(NO_RULES.contains("version = 1\n") && NO_RULES.contains("--config FILE"));
    }
}
