//! The `match` of a path rule: a path below the mount's root, name by name.

/// The longest name of a file, in bytes (NAME_MAX).
const MAX_NAME: usize = 255;
/// The longest path, in bytes (PATH_MAX).
const MAX_PATH: usize = 4096;

/// A path below the mount's root. Names are bytes and are compared as such; there are no wildcards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchPath(Vec<Box<[u8]>>);

/// Why a text is no such path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MatchFault {
    /// It does not start with a slash.
    #[error("does not start with \"/\"")]
    Relative,
    /// It has `.` or `..` in it, which no object is called.
    #[error("has \".\" or \"..\" in it")]
    Dots,
    /// Two slashes follow each other.
    #[error("has an empty name in it")]
    EmptyName,
    /// A name of more than 255 bytes, or a path of more than 4,096.
    #[error("is longer than any path can be (255 bytes per name, 4096 in all)")]
    TooLong,
    /// A NUL byte.
    #[error("has a NUL in it")]
    Nul,
}

impl MatchPath {
    /// The path in `text`; one slash at its end is taken as none.
    pub fn parse(text: &str) -> Result<Self, MatchFault> {
        if text.len() > MAX_PATH {
            return Err(MatchFault::TooLong);
        }
        let below = text.strip_prefix('/').ok_or(MatchFault::Relative)?;
        let below = below.strip_suffix('/').unwrap_or(below);
        if below.is_empty() {
            return if text.len() > 1 { Err(MatchFault::EmptyName) } else { Ok(Self(Vec::new())) };
        }
        below.split('/').map(name).collect::<Result<_, _>>().map(Self)
    }

    /// Its names, from the root down.
    #[must_use]
    pub fn names(&self) -> &[Box<[u8]>] {
        &self.0
    }
}

fn name(name: &str) -> Result<Box<[u8]>, MatchFault> {
    match name {
        "" => Err(MatchFault::EmptyName),
        "." | ".." => Err(MatchFault::Dots),
        _ if name.len() > MAX_NAME => Err(MatchFault::TooLong),
        _ if name.contains('\0') => Err(MatchFault::Nul),
        _ => Ok(name.as_bytes().into()),
    }
}
