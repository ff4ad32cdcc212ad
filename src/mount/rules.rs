//! Where a mount's rules come from, for reading them anew while it is served.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Overrides, RulesFile};
use crate::policy::Policy;

/// A rules file, the profile of it that holds, and the rules of the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RulesSource {
    /// The file.
    pub file: PathBuf,
    /// The profile. A file with a single one needs no name at first, but another profile in its place is another matter.
    pub profile: String,
    /// Rules that hold beside it.
    pub overrides: Overrides,
}

impl RulesSource {
    /// The file's text of the moment.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn text(&self) -> Result<String, ConfigError> {
        RulesFile::text(&self.file)
    }

    /// The policy that `text` comes to.
    ///
    /// # Errors
    /// All faults of the file, or else of the profile.
    pub fn judge(&self, text: &str) -> Result<Policy, Vec<ConfigError>> {
        let file = RulesFile::parse_all(text, &self.file.display().to_string())?;
        file.check_one(&self.profile)?;
        file.policy(Some(&self.profile), &self.overrides).map_err(|error| vec![error])
    }
}
