//! A path below a share: names only, so that it cannot lead out of it.

use std::ffi::CString;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::sys::Name;

/// The most names in a path.
pub const MAX_NAMES: usize = 32;

/// Names below a share; none of them is the share itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubPath(Vec<CString>);

/// Why a text is no path below a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no path below a share: {why}")]
pub struct BadSubPath {
    text: String,
    why: &'static str,
}

impl SubPath {
    /// The names, from the share downwards.
    pub fn names(&self) -> impl Iterator<Item = Name<'_>> {
        // They were checked when this was made.
        self.0.iter().filter_map(|name| Name::new(name).ok())
    }

    /// Whether it is the share itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One name further down.
    ///
    /// # Errors
    /// Where `name` is no single name, or the path grows too long.
    pub fn join(&self, name: &str) -> Result<Self, BadSubPath> {
        format!("{self}/{name}").parse()
    }
}

impl FromStr for SubPath {
    type Err = BadSubPath;

    fn from_str(text: &str) -> Result<Self, BadSubPath> {
        let bad = |why| BadSubPath { text: text.chars().filter(|c| !c.is_control()).collect(), why };
        let mut names = Vec::new();
        for name in text.split('/').filter(|name| !name.is_empty()) {
            if name == "." || name == ".." {
                return Err(bad("write it without \".\" and \"..\""));
            }
            if name.chars().any(char::is_control) {
                return Err(bad("it has a control character"));
            }
            let name = CString::new(name).map_err(|_| bad("it has a NUL"))?;
            Name::new(&name).map_err(|_| bad("a name in it is longer than 255 bytes"))?;
            names.push(name);
        }
        if names.len() > MAX_NAMES {
            return Err(bad("it has more than 32 names"));
        }
        Ok(Self(names))
    }
}

impl TryFrom<String> for SubPath {
    type Error = BadSubPath;

    fn try_from(text: String) -> Result<Self, BadSubPath> {
        text.parse()
    }
}

impl From<SubPath> for String {
    fn from(path: SubPath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for SubPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            let slash = if at == 0 { "" } else { "/" };
            write!(f, "{slash}{}", name.to_string_lossy())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_and_nothing_else() {
        let path: SubPath = "/a//b c/".parse().unwrap();
        assert_eq!((path.to_string().as_str(), path.names().count()), ("a/b c", 2));
        assert!(SubPath::from_str("/").unwrap().is_empty());
    }

    #[test]
    fn what_could_lead_out_or_hide_is_refused() {
        let deep = "a/".repeat(MAX_NAMES + 1);
        for bad in ["..", "a/../b", "./a", "a\nb", "a\0b", &"x".repeat(256), &deep] {
            assert!(SubPath::from_str(bad).is_err(), "{bad:?}");
        }
        assert!(SubPath::default().join("..").is_err());
    }
}
