//! Rules on the command line: `--map-uid POD:NFS` and `--map-gid POD:NFS`, singles or equally wide ranges.

use std::ops::Range;

use super::error::{ConfigError, Problem, Source};
use super::table::At;
use super::values::{Ids, TextError, range_from_text};
use super::written::{WrittenActAs, WrittenGroups, WrittenProfile, WrittenRule, WrittenRules};
use super::{Overrides, checks, meant};
use crate::policy::ids::Id;
use crate::policy::{Direction, IdMap, LockScope, Origin, Policy, Rule};

/// The policy of flags alone: everything but the maps is the contract's default.
///
/// # Errors
/// Where a flag is no `POD:NFS`, or the flags are at odds with each other.
pub fn policy_from_flags(overrides: &Overrides) -> Result<Policy, ConfigError> {
    let written = WrittenProfile {
        uids: Vec::new(),
        gids: Vec::new(),
        act_as: At { value: WrittenActAs::Caller, span: 0..0 },
        groups: WrittenGroups::Process,
        unmapped_pod: None,
        unmapped_nfs: None,
        unmapped_root: None,
        rules: WrittenRules::default(),
        cache: super::written::WrittenCache::default(),
        locks: LockScope::default(),
        paths: Vec::new(),
        allow_root: false,
        namespaces: None,
    };
    let source = Source { name: "the command line".into(), text: "".into() };
    let nowhere = |_: &Range<usize>| Origin::Default("a mount without a rules file");
    let (mut policy, _) =
        meant::policy("default", &written, &source, &nowhere).map_err(|problem| problem.in_file(&source))?;
    overlay(&mut policy, overrides)?;
    Ok(policy)
}

/// Adds the flags' rules to a profile's.
pub(super) fn overlay(policy: &mut Policy, overrides: &Overrides) -> Result<(), ConfigError> {
    if !overrides.map_uid.is_empty() {
        policy.uids = with_flags("uid", &policy.uids, &overrides.map_uid)?;
    }
    if !overrides.map_gid.is_empty() {
        policy.gids = with_flags("gid", &policy.gids, &overrides.map_gid)?;
    }
    Ok(())
}

/// A flag replaces the profile's rules for the ids that it names, on either side; a rule that it would cut in two is
/// refused.
fn with_flags<P: Id, N: Id>(
    kind: &str,
    known: &IdMap<P, N>,
    flags: &[String],
) -> Result<IdMap<P, N>, ConfigError> {
    let mut rules = Vec::new();
    let mut written = Vec::new();
    for flag in flags {
        let named = Origin::Flag(format!("--map-{kind} {flag}").into());
        let source = Source { name: format!("--map-{kind} {flag}").into(), text: "".into() };
        let refuse = |(message, help): TextError| Problem::new(&(0..0), message, help).in_file(&source);
        let (pod, nfs) = pair(flag).map_err(refuse)?;
        let rule = WrittenRule {
            pod: At { value: pod, span: 0..0 },
            nfs: At { value: nfs, span: 0..0 },
            shown_as: None,
            direction: Direction::Both,
            allow_root: false,
            span: 0..0,
        };
        written.push(rule);
        let none = checks::Kept { pod: None, nfs: None, root: None };
        checks::check(kind, &written, &none, false).map_err(|problem| problem.in_file(&source))?;
        rules.push(Rule {
            pod_first: pod.first,
            pod_last: pod.last,
            nfs_first: nfs.first,
            nfs_last: nfs.last,
            shown_as: None,
            direction: Direction::Both,
            origin: named,
        });
    }
    for rule in known.rules() {
        let overlaps = |flag: &Rule<P, N>| {
            (flag.pod_first <= rule.pod_last && rule.pod_first <= flag.pod_last)
                || (flag.nfs_first <= rule.nfs_last && rule.nfs_first <= flag.nfs_last)
        };
        let covers = |flag: &Rule<P, N>| flag.pod_first <= rule.pod_first && rule.pod_last <= flag.pod_last;
        match rules.iter().find(|flag| overlaps(flag)) {
            None => rules.push(rule.clone()),
            Some(flag) if covers(flag) || rule.pod_first == rule.pod_last => {}
            Some(flag) => {
                let source = Source { name: flag.origin.to_string().into(), text: "".into() };
                let message = format!("is at odds with the rule at {}", rule.origin);
                return Err(Problem::new(&(0..0), message, "change the rules file instead").in_file(&source));
            }
        }
    }
    Ok(IdMap::new(rules))
}

/// `POD:NFS`.
fn pair<P: Id, N: Id>(flag: &str) -> Result<(Ids<P>, Ids<N>), TextError> {
    let Some((pod, nfs)) = flag.split_once(':') else {
        return Err((
            format!("`{flag}` is no POD:NFS"),
            "write the pod's id, a colon and the export's, e.g. 50000:2001".into(),
        ));
    };
    Ok((range_from_text(pod)?, range_from_text(nfs)?))
}
