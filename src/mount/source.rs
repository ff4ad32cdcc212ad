//! SOURCE as written: a directory of this node, or an NFS export that permfs mounts itself.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A directory.
    Directory(PathBuf),
    /// `server:/export[/sub]`.
    Nfs {
        /// As mount.nfs(8) takes it.
        export: String,
        /// Options for mount.nfs(8).
        options: Vec<String>,
    },
}

impl Source {
    /// Reads a SOURCE argument. `server:/path` is an export; a directory with such a name is written `./server:/path`.
    #[must_use]
    pub fn parse(text: &OsStr, nfs_options: Vec<String>) -> Self {
        match text.to_str().filter(|text| is_export(text)) {
            Some(export) => Self::Nfs { export: export.to_owned(), options: nfs_options },
            None => Self::Directory(text.into()),
        }
    }
}

/// `host:/path`; the host may be an IPv6 address in brackets.
fn is_export(text: &str) -> bool {
    text.find(":/").is_some_and(|at| at > 0 && !text[..at].contains('/'))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Nfs { export, .. } => f.write_str(export),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_nfs(text: &str) -> bool {
        matches!(Source::parse(OsStr::new(text), Vec::new()), Source::Nfs { .. })
    }

    #[test]
    fn an_export_is_told_from_a_directory() {
        for export in ["nas:/export", "10.0.0.1:/", "[fe80::1]:/e/sub", "nas.example.org:/a b"] {
            assert!(is_nfs(export), "{export}");
        }
        for directory in ["/srv/export", "./nas:/export", "relative", "/a:/b", "a:b", ":/x", ""] {
            assert!(!is_nfs(directory), "{directory}");
        }
    }
}
