//! Stand-in until room/policy is merged.
#![allow(missing_docs, clippy::todo, unused_variables)]
use crate::policy::Policy;
use std::path::Path;
#[derive(Debug, Default)]
pub struct Overrides { pub map_uid: Vec<String>, pub map_gid: Vec<String> }
#[derive(Debug, thiserror::Error)]
#[error("stand-in")]
pub struct ConfigError;
impl ConfigError { pub fn render(&self, colour: bool) -> String { self.to_string() } }
#[derive(Debug)]
pub struct Warning;
impl std::fmt::Display for Warning { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("w") } }
#[derive(Debug)]
pub struct RulesFile;
impl RulesFile {
    pub fn load(path: &Path) -> Result<Self, ConfigError> { Err(ConfigError) }
    pub fn profile_names(&self) -> Vec<&str> { todo!() }
    pub fn policy(&self, p: Option<&str>, o: &Overrides) -> Result<Policy, ConfigError> { todo!() }
    pub fn check_all(&self) -> Result<Vec<Warning>, Vec<ConfigError>> { todo!() }
}
pub fn policy_from_flags(o: &Overrides) -> Result<Policy, ConfigError> { todo!() }
