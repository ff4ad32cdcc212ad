//! A whole rules file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::csi::Csi;
use super::draft::Draft;
use super::error::{ConfigError, Warning};
use super::flags::Overrides;
use super::keys;
use super::lint;
use super::profile;
use super::reader::{Faults, MAX_FAULTS, Section, describe, suggest_word};
use super::source::{Mark, Source};
use crate::policy::Policy;

/// The largest rules file that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// The version of the format that this build reads.
const VERSION: &str = "1";

/// A rules file that is well formed. Whether each profile is sound is [`Self::policy`]'s to say.
#[derive(Debug)]
pub struct RulesFile {
    name: Arc<str>,
    profiles: Vec<Draft>,
    csi: Csi,
}

impl RulesFile {
    /// Reads a file of at most [`MAX_FILE_SIZE`]; its first fault otherwise.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_all(path).map_err(first)
    }

    /// Reads a file; all of its faults otherwise, in the order of its lines.
    pub fn load_all(path: &Path) -> Result<Self, Vec<ConfigError>> {
        let text = read(path).map_err(|error| vec![error])?;
        Self::parse_all(&text, &path.display().to_string())
    }

    /// A file's text, of at most [`MAX_FILE_SIZE`], for [`Self::parse_all`].
    pub fn text(path: &Path) -> Result<String, ConfigError> {
        read(path)
    }

    /// Reads `text`, which errors call `name`; its first fault otherwise.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        Self::parse_all(text, name).map_err(first)
    }

    /// Reads `text`; all of its faults otherwise, in the order of its lines.
    pub fn parse_all(text: &str, name: &str) -> Result<Self, Vec<ConfigError>> {
        let source = Source::file(name, text);
        let table = match DeTable::parse(&source.text) {
            Ok(table) => table,
            Err(error) => return Err(vec![syntax_error(&source, &error)]),
        };
        let mut faults = Faults::new(&source);
        let section = Section::new(table.get_ref(), 0..0, keys::FILE, &mut faults);
        version(&section, &mut faults);
        let csi = Csi::read(&section, &mut faults);
        let profiles = profiles(&section, &mut faults);
        let faults = faults.into_sorted();
        if faults.is_empty() { Ok(Self { name: name.into(), profiles, csi }) } else { Err(faults) }
    }

    /// The file as errors call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of its profiles, sorted.
    #[must_use]
    pub fn profile_names(&self) -> Vec<&str> {
        self.profiles.iter().map(|draft| &*draft.profile.name).collect()
    }

    /// `[csi]`.
    #[must_use]
    pub fn csi(&self) -> &Csi {
        &self.csi
    }

    /// Which namespaces may use a profile; none: all may.
    pub fn namespaces(&self, profile: &str) -> Result<Option<&[String]>, ConfigError> {
        Ok(self.draft(Some(profile))?.namespaces.as_deref())
    }

    /// The policy of a profile (which needs no name where there is only one), with the command line's rules added.
    pub fn policy(&self, profile: Option<&str>, overrides: &Overrides) -> Result<Policy, ConfigError> {
        let mut draft = self.draft(profile)?.clone();
        overrides.add_to(&mut draft)?;
        draft.compile().map_err(first)
    }

    /// Whether every profile is sound: what is odd about them, or all that is wrong (each up to [`MAX_FAULTS`]).
    pub fn check_all(&self) -> Result<Vec<Warning>, Vec<ConfigError>> {
        check(&self.profiles)
    }

    /// As [`Self::check_all`], for one profile.
    pub fn check_one(&self, profile: &str) -> Result<Vec<Warning>, Vec<ConfigError>> {
        let draft = self.draft(Some(profile)).map_err(|error| vec![error])?;
        check([draft])
    }

    fn draft(&self, profile: Option<&str>) -> Result<&Draft, ConfigError> {
        let names = self.profile_names();
        let listed = names.join(", ");
        match (profile, &*self.profiles) {
            (None, [only]) => Ok(only),
            (None, _) => {
                let what = format!("{} has {} profiles: {listed}", self.name, names.len());
                Err(ConfigError::unplaced(what, "choose one with --profile NAME"))
            }
            (Some(name), drafts) => {
                drafts.iter().find(|draft| &*draft.profile.name == name).ok_or_else(|| {
                    let what = format!("{} has no profile \"{name}\", only: {listed}", self.name);
                    ConfigError::unplaced(what, suggest_word(name, &names))
                })
            }
        }
    }
}

fn check<'a>(drafts: impl IntoIterator<Item = &'a Draft>) -> Result<Vec<Warning>, Vec<ConfigError>> {
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for draft in drafts {
        match draft.compile() {
            Ok(policy) => warnings.extend(lint::lint(draft, &policy)),
            Err(wrong) => errors.extend(wrong),
        }
    }
    warnings.truncate(MAX_FAULTS);
    errors.truncate(MAX_FAULTS);
    if errors.is_empty() { Ok(warnings) } else { Err(errors) }
}

/// The policy of the command line's rules alone, everything else at its default.
pub fn policy_from_flags(overrides: &Overrides) -> Result<Policy, ConfigError> {
    if overrides.is_empty() {
        let example =
            "name a rules file with --config FILE, or write\n  --map-uid 50000:2001\n  --map-gid 0:2001";
        return Err(ConfigError::unplaced("no rules: nobody could use this mount", example));
    }
    let mut draft = Draft::new("flags", Mark::new(&Source::flag("the command line", ""), 0..0));
    overrides.add_to(&mut draft)?;
    draft.compile().map_err(first)
}

/// There is always one: an empty list of faults is no failure.
fn first(errors: Vec<ConfigError>) -> ConfigError {
    errors
        .into_iter()
        .next()
        .unwrap_or_else(|| ConfigError::unplaced("the rules are refused", "run permfs check"))
}

/// A file's text, of at most [`MAX_FILE_SIZE`].
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error: std::io::Error| ConfigError::unreadable(path, &error);
    let file = File::open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        let what = format!("{} is not a file", path.display());
        return Err(ConfigError::unplaced(what, "name the rules file itself"));
    }
    let mut bytes = Vec::new();
    // One byte more than may be there tells a file that is too large, whatever its metadata says.
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_FILE_SIZE) {
        let what = format!("{} is larger than {MAX_FILE_SIZE} bytes", path.display());
        return Err(ConfigError::unplaced(what, "name a rules file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let source = Source::file(&path.display().to_string(), &valid);
        ConfigError::new(
            Mark::new(&source, valid.len()..valid.len()),
            "not UTF-8 from here on",
            "save the file as UTF-8",
        )
    })
}

fn syntax_error(source: &Arc<Source>, error: &toml::de::Error) -> ConfigError {
    let end = source.text.len();
    let span = error.span().unwrap_or(end..end);
    let what = format!("not TOML: {}", error.message().lines().collect::<Vec<_>>().join("; "));
    ConfigError::new(Mark::new(source, span), what, "see https://toml.io for the syntax")
}

fn version(file: &Section<'_>, faults: &mut Faults) {
    match file.get("version") {
        None => {
            let next = "write version = 1 as the first line";
            file.missing::<()>("version", 0..0, "version is missing", next, faults);
        }
        Some(value) => match value.get_ref() {
            DeValue::Integer(number) if number.as_str() == VERSION => {}
            other => {
                let what = format!("version is {}, and this permfs reads version 1", describe(other));
                faults.add::<()>(value.span(), what, "write version = 1");
            }
        },
    }
}

fn profiles(file: &Section<'_>, faults: &mut Faults) -> Vec<Draft> {
    let next = "add [profile.NAME] with uid and gid rules";
    let Some(value) = file.get("profile") else {
        file.missing::<()>("profile", 0..0, "no profile", next, faults);
        return Vec::new();
    };
    let DeValue::Table(table) = value.get_ref() else {
        faults.add::<()>(value.span(), format!("profile is {}", describe(value.get_ref())), next);
        return Vec::new();
    };
    if table.is_empty() {
        faults.add::<()>(value.span(), "no profile", next);
    }
    let mut drafts = Vec::new();
    for (name, value) in table {
        if !is_profile_name(name.get_ref()) {
            let what = format!("\"{}\" is no name for a profile", name.get_ref());
            faults.add::<()>(name.span(), what, "use letters, digits, \"-\", \"_\" and \".\", at most 63");
        }
        if let Some(section) = Section::of("profile", value, keys::PROFILE, faults) {
            drafts.push(profile::read(name.get_ref(), &section, faults));
        }
    }
    drafts.sort_by(|a, b| a.profile.name.cmp(&b.profile.name));
    drafts
}

/// The longest name of a profile.
const MAX_PROFILE_NAME: usize = 63;

/// Names end up in mount options, labels and file names.
fn is_profile_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_PROFILE_NAME).contains(&name.len()) && name.bytes().all(plain)
}
