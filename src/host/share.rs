//! A share, opened on this node: where it is mounted, what may be reached of it, and how its faults are told.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::SubPath;
use super::hands::Hands;
use super::protocol::{Choice, Code, Refusal, Rules, Share};
use super::walk::Stuck;
use crate::backing::posix::PosixBacking;
use crate::backing::{BackingFs, Errno};
use crate::config::{Overrides, RulesFile};
use crate::policy::Policy;

/// A directory of this node from which a share is reached, and the way from there to the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    /// Opened as root, symlinks followed: it is the admin's word, or a mount of the host's.
    pub(super) base: PathBuf,
    /// From there on names only.
    pub(super) rest: SubPath,
}

impl Way {
    /// To an export that is mounted on `base`.
    pub(super) fn mounted(base: &Path) -> Self {
        Self { base: base.to_owned(), rest: SubPath::default() }
    }

    /// To a directory of this node, through the longest of the directories in which the rules let it lie.
    pub(super) fn of_path(path: &Path, rules: &Rules) -> Result<Self, Refusal> {
        let within = rules.host_paths.iter().filter(|allowed| path.starts_with(allowed));
        let Some(base) = within.max_by_key(|allowed| allowed.components().count()) else {
            let allowed: Vec<_> = rules.host_paths.iter().map(|path| path.display().to_string()).collect();
            let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            let sentence = format!(
                "the path {} lies in none of the directories that [csi] host_paths in {} allows ({allowed})",
                path.display(),
                rules.file
            );
            return Err(Refusal::new(Code::PermissionDenied, sentence));
        };
        let rest = path.strip_prefix(base).unwrap_or(Path::new("")).to_string_lossy().into_owned();
        let rest = rest.parse().map_err(|bad| Refusal::new(Code::InvalidArgument, format!("path: {bad}")))?;
        Ok(Self { base: base.clone(), rest })
    }
}

/// A share that answers, and who may work on it. For the thread that opened it.
pub(super) struct Opened<'p> {
    pub(super) backing: PosixBacking,
    pub(super) hands: Hands<'p>,
}

impl<'p> Opened<'p> {
    /// Opens it, as this thread's business from now on.
    pub(super) fn new(way: &Way, policy: &'p Policy) -> Result<Self, Refusal> {
        let open = || -> Result<_, Errno> {
            let backing = PosixBacking::open(&way.base)?;
            backing.enter_thread()?;
            let base = backing.root()?;
            Ok((backing, base))
        };
        let (backing, base) = open().map_err(|errno| {
            let sentence = format!("cannot open {}: {errno}", way.base.display());
            Refusal::new(Code::FailedPrecondition, sentence)
        })?;
        let hands = Hands::new(policy, base.attr.owner());
        if hands.is_empty() {
            let sentence = format!("the profile {} admits nobody: give it uid and gid rules", policy.name());
            return Err(Refusal::new(Code::FailedPrecondition, sentence));
        }
        Ok(Self { backing, hands })
    }

    /// Why the way to a directory of `share` ended.
    pub(super) fn stuck(&self, share: &Share, stuck: &Stuck) -> Refusal {
        let mut sentence = format!("{}: {} ", share, stuck.at);
        let code = match stuck.errno {
            Errno::ENOENT => {
                sentence.push_str("does not exist: make the directory, or correct subDir");
                Code::NotFound
            }
            Errno::ELOOP => {
                sentence.push_str("is a symlink, and volumes are not reached through symlinks");
                Code::FailedPrecondition
            }
            Errno::ENOTDIR => {
                sentence.push_str("is not a directory");
                Code::FailedPrecondition
            }
            Errno::EACCES | Errno::EPERM => {
                let _ = write!(
                    sentence,
                    "cannot be entered as {}, whom the profile {} makes of pods: {}; see to its owner and mode on the server",
                    self.hands.names(),
                    self.hands.policy().name(),
                    stuck.errno
                );
                Code::FailedPrecondition
            }
            errno => {
                let _ = write!(sentence, "cannot be reached: {errno}");
                Code::Internal
            }
        };
        Refusal::new(code, sentence)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nfs { export, .. } => f.write_str(export),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl Rules {
    /// The policy that they make.
    ///
    /// # Errors
    /// FAILED_PRECONDITION with the line that is wrong.
    pub fn policy(&self, choice: &Choice, fs_group: Option<String>) -> Result<Policy, Refusal> {
        let overrides =
            Overrides { map_uid: choice.map_uid.clone(), map_gid: choice.map_gid.clone(), fs_group };
        RulesFile::parse(&self.text, &self.file)
            .and_then(|file| file.policy(choice.profile.as_deref(), &overrides))
            .map_err(|error| Refusal::new(Code::FailedPrecondition, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(path: &str) -> Result<Way, Refusal> {
        let host_paths = ["/srv/exports", "/srv/exports/deep"].map(PathBuf::from).to_vec();
        Way::of_path(Path::new(path), &Rules { text: String::new(), file: "permfs.toml".into(), host_paths })
    }

    #[test]
    fn a_path_is_reached_through_the_nearest_directory_that_the_admin_named() {
        assert_eq!(way("/srv/exports/a/b").unwrap().rest.to_string(), "a/b");
        let deep = way("/srv/exports/deep").unwrap();
        assert_eq!((deep.base, deep.rest.is_empty()), ("/srv/exports/deep".into(), true));
    }

    #[test]
    fn a_path_outside_is_refused_and_the_sentence_names_what_is_allowed() {
        for path in ["/srv", "/srv/exportsx", "/etc"] {
            let refused = way(path).unwrap_err();
            assert_eq!(refused.code, Code::PermissionDenied);
            assert!(refused.sentence.contains("/srv/exports, /srv/exports/deep"), "{refused}");
        }
        assert_eq!(way("/srv/exports/../../etc").unwrap_err().code, Code::InvalidArgument);
    }
}
