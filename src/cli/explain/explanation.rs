//! The words of an explanation: what is asked, what is answered, why there is no answer.

use serde::Serialize;

use super::op::Op;
use crate::policy::{Credentials, Permissions, PodGid, PodUid};
use crate::sys::Errno;

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) uid: PodUid,
    pub(super) gid: PodGid,
    /// The process's supplementary groups.
    pub(super) groups: Vec<PodGid>,
    pub(super) op: Op,
    /// From the mount's root.
    pub(super) path: String,
    /// What a create or chmod asks for.
    pub(super) mode: Permissions,
    pub(super) umask: Permissions,
    /// What a chown names.
    pub(super) owner: (Option<PodUid>, Option<PodGid>),
}

/// One who had a say.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// rules, kernel or server.
    pub(super) by: &'static str,
    /// What was asked.
    pub(super) asked: String,
    pub(super) allowed: bool,
}

/// Owner and mode of an object on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Look {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Octal, four digits.
    pub(super) mode: String,
}

/// Whom the server sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// The whole answer; its field names are what `--json` prints.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Explanation {
    pub(super) allowed: bool,
    /// What the caller gets; null where allowed.
    pub(super) errno: Option<String>,
    /// Why not; null where allowed.
    pub(super) reason: Option<String>,
    /// The rule that made the decision: file:line, a flag, or a default.
    pub(super) rule: String,
    pub(super) uid_rule: String,
    pub(super) gid_rule: String,
    /// The path rule that holds; null for the profile's own.
    pub(super) path_rule: Option<String>,
    /// What was judged: where the path leads through symlinks, as far as an export was asked.
    pub(super) path: String,
    /// As whom the server is asked; null where nobody is asked.
    pub(super) credentials: Option<Who>,
    /// On the export, after the operation.
    pub(super) stored: Option<Look>,
    /// In the mount, after the operation.
    pub(super) shown: Option<Look>,
    /// Everybody who was asked, in order.
    pub(super) steps: Vec<Step>,
    pub(super) notes: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswerable {
    #[error(
        "{path} cannot be looked at in the source: {errno}; give a path from the mount's root that exists there"
    )]
    Path { path: String, errno: Errno },
    #[error(
        "the path {0:?} has no name in it for this operation: give the path of what is to be made or removed"
    )]
    NoName(String),
    #[error(
        "the path component {0:?} is not a file name: names have at most 255 bytes, and `..` is not followed"
    )]
    BadName(String),
    #[error(
        "{link} is a symlink to {target}, which leaves the mount: the pod's own root decides where that leads; \
         if it leads back into the mount, ask about the path there"
    )]
    LeavesTheMount { link: String, target: String },
    #[error(
        "{0} leads through a symlink above the mount's root, where the pod's own directories decide what is found"
    )]
    AboveTheRoot(String),
}

/// Where it ended, if not well.
pub(super) enum Stop {
    Refused { errno: Errno, reason: String, rule: Option<String> },
    Unanswerable(Unanswerable),
}

impl From<Unanswerable> for Stop {
    fn from(why: Unanswerable) -> Self {
        Self::Unanswerable(why)
    }
}

impl Look {
    pub(super) fn new(uid: u32, gid: u32, permissions: Permissions) -> Self {
        Self { uid, gid, mode: permissions.to_string() }
    }
}

impl From<&Credentials> for Who {
    fn from(who: &Credentials) -> Self {
        let groups = who.groups.iter().map(|group| group.get()).collect();
        Self { uid: who.uid.get(), gid: who.gid.get(), groups }
    }
}
