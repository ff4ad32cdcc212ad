//! The rules file: from TOML as written to a [`Policy`] as meant.
//!
//! [`table`] and [`values`] read with places, [`written`] is the file typed, [`checks`] and [`meant`] make the policy of it,
//! [`error`] says what is wrong. The first mistake of a profile ends it; `permfs check` goes through all profiles.

mod checks;
mod error;
mod flags;
mod meant;
mod table;
mod values;
mod written;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

pub use error::{ConfigError, Warning};
pub use flags::policy_from_flags;
pub use written::CsiRules;

use crate::policy::{Origin, Policy};
use error::{Problem, Source};
use table::{Table, Value, as_table};
use written::WrittenProfile;

/// The largest rules file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Rules given on the command line: `POD:NFS`, ids or inclusive ranges of equal width.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--map-uid`, in the order given.
    pub map_uid: Vec<String>,
    /// `--map-gid`.
    pub map_gid: Vec<String>,
}

impl Overrides {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map_uid.is_empty() && self.map_gid.is_empty()
    }
}

/// A rules file that has been read; its profiles are checked as they are asked for.
#[derive(Debug, Clone)]
pub struct RulesFile {
    source: Source,
    names: Vec<String>,
    csi: CsiRules,
}

impl RulesFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, is larger than [`MAX_FILE`], no UTF-8, no TOML, or of another version.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let failed = |error: std::io::Error| {
            let help = "name a readable rules file with --config";
            ConfigError::unreadable(&name, format!("cannot read the rules file: {error}"), help)
        };
        let meta = std::fs::metadata(path).map_err(failed)?;
        if !meta.is_file() {
            return Err(ConfigError::unreadable(&name, "is no file", "name a rules file with --config"));
        }
        if meta.len() > MAX_FILE {
            let message = format!("has {} bytes, and rules have at most {MAX_FILE}", meta.len());
            return Err(ConfigError::unreadable(&name, message, "name a rules file with --config"));
        }
        let text = String::from_utf8(std::fs::read(path).map_err(failed)?).map_err(|error| {
            ConfigError::unreadable(&name, format!("is not UTF-8: {error}"), "save it as UTF-8")
        })?;
        Self::parse(&text, &name)
    }

    /// Reads a text; `name` is what messages call it.
    ///
    /// # Errors
    /// Where it is no TOML, of another version, or has keys that are unknown outside of its profiles.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let source = Source { name: name.into(), text: text.into() };
        let read = |_: &Table<'_>, profiles: &Option<Table<'_>>, csi| {
            let names =
                profiles.iter().flat_map(Table::entries).map(|(key, _)| key.value.to_owned()).collect();
            Ok((names, csi))
        };
        let (names, csi) = with_document(&source, read)?;
        Ok(Self { source, names, csi })
    }

    /// The profiles, in the order of their names.
    #[must_use]
    pub fn profile_names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// What volume attributes may ask for.
    #[must_use]
    pub fn csi(&self) -> &CsiRules {
        &self.csi
    }

    /// The policy of a profile; a file with a single one needs no name. `overrides` come before the profile's own rules.
    ///
    /// # Errors
    /// Whatever is wrong with the profile or the overrides.
    pub fn policy(&self, profile: Option<&str>, overrides: &Overrides) -> Result<Policy, ConfigError> {
        let name = self.choose(profile)?;
        let (policy, _) = self.compile(name, overrides)?;
        Ok(policy)
    }

    /// The namespaces that may use a profile; none where everyone may.
    ///
    /// # Errors
    /// As [`Self::policy`].
    pub fn namespaces(&self, profile: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let name = self.choose(Some(profile))?;
        self.with_profile(name, |written| Ok(written.namespaces.clone()))
    }

    /// Checks every profile.
    ///
    /// # Errors
    /// What is wrong, one per profile.
    pub fn check_all(&self) -> Result<Vec<Warning>, Vec<ConfigError>> {
        self.check_these(&self.profile_names())
    }

    /// Checks one profile, or the only one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_one(&self, profile: &str) -> Result<Vec<Warning>, Vec<ConfigError>> {
        let name = self.choose(Some(profile)).map_err(|error| vec![error])?;
        self.check_these(&[name])
    }

    fn check_these(&self, names: &[&str]) -> Result<Vec<Warning>, Vec<ConfigError>> {
        let (mut warnings, mut errors) = (Vec::new(), Vec::new());
        for name in names {
            match self.compile(name, &Overrides::default()) {
                Ok((_, found)) => warnings.extend(found),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(warnings) } else { Err(errors) }
    }

    fn choose(&self, profile: Option<&str>) -> Result<&str, ConfigError> {
        let wrong = |message: String, help: String| ConfigError::unreadable(&self.source.name, message, help);
        let all = self.names.join(", ");
        match (profile, self.names.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(wrong(format!("has several profiles: {all}"), "name one with --profile".into())),
            (Some(name), names) => {
                names.iter().find(|known| *known == name).map(String::as_str).ok_or_else(|| {
                    let near = table::nearest(name, self.profile_names().into_iter());
                    let help = near
                        .map_or(format!("its profiles are {all}"), |near| format!("did you mean {near}?"));
                    wrong(format!("has no profile {name}"), help)
                })
            }
        }
    }

    fn compile(&self, name: &str, overrides: &Overrides) -> Result<(Policy, Vec<Warning>), ConfigError> {
        let (mut policy, warnings) = self.with_profile(name, |written| {
            let file: Arc<str> = Arc::clone(&self.source.name);
            let origin = |span: &Range<usize>| Origin::File {
                path: Arc::clone(&file),
                line: self.source.line_column(span.start).0,
            };
            meant::policy(name, written, &self.source, &origin)
        })?;
        flags::overlay(&mut policy, overrides)?;
        Ok((policy, warnings))
    }

    fn with_profile<T>(
        &self,
        name: &str,
        then: impl FnOnce(&WrittenProfile<'_>) -> Result<T, Problem>,
    ) -> Result<T, ConfigError> {
        with_document(&self.source, |root, profiles, _| {
            let found = profiles.iter().flat_map(Table::entries).find(|(key, _)| key.value == name);
            let missing = || Problem::new(&root.span, format!("no profile {name}"), "name one of the file's");
            let (_, value) = found.ok_or_else(missing)?;
            then(&written::profile(value, name)?)
        })
    }
}

/// Parses the text and reads what stands outside of the profiles.
fn with_document<T>(
    source: &Source,
    then: impl FnOnce(&Table<'_>, &Option<Table<'_>>, CsiRules) -> Result<T, Problem>,
) -> Result<T, ConfigError> {
    let document = DeTable::parse(&source.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = format!("is no TOML: {}", error.message().replace('\n', ", "));
        Problem::new(&span, message, "see toml.io for how it is written").in_file(source)
    })?;
    let read = || {
        let mut root = Table::new(document.get_ref(), 0..0, "the rules file");
        version(&mut root)?;
        let csi = root.read("csi", written::csi)?.map(|at| at.value).unwrap_or_default();
        let profiles = root.take("profile").map(|value| as_table(value, "[profile]")).transpose()?;
        let empty = profiles.as_ref().is_none_or(|table| table.entries().next().is_none());
        let outcome = if empty {
            Err(Problem::new(
                &(0..0),
                "the file has no profile",
                "add [profile.NAME] with its uid and gid rules",
            ))
        } else {
            then(&root, &profiles, csi)
        };
        root.end()?;
        outcome
    };
    read().map_err(|problem| problem.in_file(source))
}

fn version(root: &mut Table<'_>) -> Result<(), Problem> {
    let help = "begin the file with version = 1";
    match root.take("version") {
        Some(Value { value: DeValue::Integer(number), span }) => match number.as_str() {
            "1" => Ok(()),
            other => Err(Problem::new(&span, format!("version {other} of the rules is not known"), help)),
        },
        Some(Value { span, .. }) => Err(Problem::new(&span, "the version is no integer", help)),
        None => Err(Problem::new(&(0..0), "the file does not say which version of the rules it has", help)),
    }
}
