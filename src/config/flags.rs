//! `--map-uid POD:NFS` and `--map-gid POD:NFS`.

use super::draft::Draft;
use super::error::ConfigError;
use super::source::{Mark, Source};
use super::values::{ValueFault, range_from_text};
use serde::{Deserialize, Serialize};

use crate::policy::conflict::Part;
use crate::policy::ids::Id;
use crate::policy::{Direction, NfsGid, PodGid, Rule};

/// Rules from the command line. They are added to those of the profile, and obey the same laws: two rules for one pod id
/// are refused, whichever side each came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Values of `--map-uid`, as given.
    pub map_uid: Vec<String>,
    /// Values of `--map-gid`, as given.
    pub map_gid: Vec<String>,
    /// Value of `--fs-group`: this NFS group is shown as this pod group, whatever shows it otherwise.
    pub fs_group: Option<String>,
}

impl Overrides {
    /// Whether none was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map_uid.is_empty() && self.map_gid.is_empty() && self.fs_group.is_none()
    }

    /// Adds these rules to those of `draft`.
    pub(super) fn add_to(&self, draft: &mut Draft) -> Result<(), ConfigError> {
        for value in &self.map_uid {
            let (rule, mark) = rule("--map-uid", value)?;
            draft.marks.insert(Part::Uid(draft.profile.uid.len()), mark);
            draft.profile.uid.push(rule);
        }
        for value in &self.map_gid {
            let (rule, mark) = rule("--map-gid", value)?;
            draft.marks.insert(Part::Gid(draft.profile.gid.len()), mark);
            draft.profile.gid.push(rule);
        }
        if let Some(value) = &self.fs_group {
            let (rule, mark) = rule::<PodGid, NfsGid>("--fs-group", value)?;
            if rule.pod_first != rule.pod_last || rule.nfs_first != rule.nfs_last {
                let what = format!("\"{value}\" names several groups");
                return Err(ConfigError::new(mark, what, "write POD:NFS, such as --fs-group 1000:2001"));
            }
            let before = draft.profile.gid.clone();
            let marks: Vec<_> = (0..before.len()).map(|at| draft.marks.remove(&Part::Gid(at))).collect();
            draft.profile.with_fs_group(rule.pod_first, rule.nfs_first, rule.origin);
            // Rules may be split, or left out: each is still where the one was written that it is a part of.
            let gid = &draft.profile.gid;
            for (at, part) in gid.iter().enumerate() {
                let whole = before.iter().position(|whole| is_part(part, whole));
                let mark = if at + 1 == gid.len() {
                    Some(mark.clone())
                } else {
                    whole.and_then(|at| marks[at].clone())
                };
                if let Some(mark) = mark {
                    draft.marks.insert(Part::Gid(at), mark);
                }
            }
        }
        Ok(())
    }
}

fn is_part(part: &Rule<PodGid, NfsGid>, whole: &Rule<PodGid, NfsGid>) -> bool {
    let holds =
        part.pod_first == whole.pod_first || (whole.pod_first..=whole.pod_last).contains(&part.pod_first);
    part.origin == whole.origin && holds
}

fn rule<P: Id, N: Id>(flag: &str, value: &str) -> Result<(Rule<P, N>, Mark), ConfigError> {
    let source = Source::flag(flag, value);
    let mark = Mark::new(&source, 0..value.len());
    let refuse = |(what, next): ValueFault| ConfigError::new(mark.clone(), what, next);
    let Some((pod, nfs)) = value.split_once(':') else {
        let example = format!("write POD:NFS, such as {flag} 50000:2001");
        return Err(refuse((format!("\"{value}\" is not POD:NFS"), example)));
    };
    let pod = range_from_text::<P>(pod).map_err(refuse)?;
    let nfs = range_from_text::<N>(nfs).map_err(refuse)?;
    let rule = Rule {
        pod_first: pod.first,
        pod_last: pod.last,
        nfs_first: nfs.first,
        nfs_last: nfs.last,
        shown_as: None,
        direction: Direction::Both,
        allow_root: false,
        origin: mark.origin(),
    };
    Ok((rule, mark))
}
