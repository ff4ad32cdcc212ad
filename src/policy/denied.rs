//! Why the policy refuses, and which rule said so.

use std::fmt;
use std::sync::Arc;

use super::{PodGid, PodUid};

/// Where a rule was written, so that a decision can be traced to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A line of a rules file, counted from 1.
    File {
        /// The file as the admin named it.
        path: Arc<str>,
        /// Its line.
        line: u32,
    },
    /// A command line flag with its value, e.g. `--map-uid 50000:2001`.
    Flag(Arc<str>),
    /// A default of the contract, e.g. `unmapped.pod = "deny"`.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Default(key) => write!(f, "default {key}"),
        }
    }
}

/// A refusal by the policy. The data path turns it into an errno without allocating; `explain` into a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// EACCES: the caller's uid has no rule and `unmapped.pod = "deny"`.
    #[error("no rule maps pod uid {0}, and unmapped pods are denied")]
    NoRuleForUid(PodUid),
    /// EACCES: the caller's gid has no rule and `unmapped.pod = "deny"`.
    #[error("no rule maps pod gid {0}, and unmapped pods are denied")]
    NoRuleForGid(PodGid),
    /// EACCES: the caller is uid 0 of the node, no rule names it and `unmapped.root = "deny"`.
    #[error("no rule maps uid 0, and root is denied")]
    Root,
    /// EACCES: the caller's gid is 0, no rule names it and `unmapped.root = "deny"`.
    #[error("no rule maps gid 0, and root is denied")]
    RootGroup,
    /// EROFS: the object lies in a read-only subtree.
    #[error("the path is read-only")]
    ReadOnly,
    /// EOVERFLOW: a chown names an owner that has no rule.
    #[error("no rule maps pod uid {0} to an owner on the export")]
    NoOwner(PodUid),
    /// EOVERFLOW: a chown names a group that has no rule.
    #[error("no rule maps pod gid {0} to a group on the export")]
    NoGroup(PodGid),
    /// EPERM: `chown = "deny"`.
    #[error("chown is denied")]
    Chown,
}
