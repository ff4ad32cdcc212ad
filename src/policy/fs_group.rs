//! A pod's fsGroup: the group that owns a volume's directory is shown as it, and who belongs to it acts as that group.
//!
//! Nothing is chowned. Rules that showed the group otherwise still hold for callers, and show it no more: two numbers for
//! one group cannot both be shown.

use super::ids::Id;
use super::{Direction, NfsGid, Origin, PodGid, Profile, Rule};

impl Profile {
    /// Adds the rule `fs_group` <-> `directory_group`.
    ///
    /// Whoever calls this has made sure that no rule names `fs_group` already: the admin's word on it would be one too
    /// many, and is refused by [`Profile::build`] as two rules for one pod id.
    pub fn with_fs_group(&mut self, fs_group: PodGid, directory_group: NfsGid, origin: Origin) {
        let rules = std::mem::take(&mut self.gid);
        self.gid = rules.into_iter().flat_map(|rule| not_shown_by(rule, directory_group)).collect();
        self.gid.push(Rule {
            pod_first: fs_group,
            pod_last: fs_group,
            nfs_first: directory_group,
            nfs_last: directory_group,
            shown_as: None,
            direction: Direction::Both,
            allow_root: false,
            origin,
        });
    }
}

/// The same rule, but that it does not say what `group` is shown as. A range falls into up to three.
fn not_shown_by(rule: Rule<PodGid, NfsGid>, group: NfsGid) -> Vec<Rule<PodGid, NfsGid>> {
    let shows = rule.direction.outbound() && (rule.nfs_first..=rule.nfs_last).contains(&group);
    // What is no rule is left for the build to complain of.
    let sound = rule.pod_first <= rule.pod_last;
    if !shows || !sound {
        return vec![rule];
    }
    if rule.nfs_first == rule.nfs_last {
        return Vec::from_iter(inbound_only(rule));
    }
    let width = group.get() - rule.nfs_first.get();
    let Some(pod) = rule.pod_first.get().checked_add(width).and_then(PodGid::new) else { return vec![rule] };
    let part = |pods: Option<(PodGid, PodGid)>, groups: Option<(NfsGid, NfsGid)>| {
        let ((pod_first, pod_last), (nfs_first, nfs_last)) = (pods?, groups?);
        let part = Rule { pod_first, pod_last, nfs_first, nfs_last, ..rule.clone() };
        (pod_first <= pod_last && nfs_first <= nfs_last).then_some(part)
    };
    let below = part(
        before(pod).map(|last| (rule.pod_first, last)),
        before(group).map(|last| (rule.nfs_first, last)),
    );
    let above = part(
        after(pod).map(|first| (first, rule.pod_last)),
        after(group).map(|first| (first, rule.nfs_last)),
    );
    let itself = part(Some((pod, pod)), Some((group, group))).and_then(inbound_only);
    below.into_iter().chain(itself).chain(above).collect()
}

/// What is left of a rule that shows nothing; nothing of one that did nothing else.
fn inbound_only(rule: Rule<PodGid, NfsGid>) -> Option<Rule<PodGid, NfsGid>> {
    let holds = rule.direction.inbound();
    holds.then_some(Rule { direction: Direction::PodToNfs, shown_as: None, ..rule })
}

fn before<T: Id>(id: T) -> Option<T> {
    id.get().checked_sub(1).and_then(T::new)
}

fn after<T: Id>(id: T) -> Option<T> {
    id.get().checked_add(1).and_then(T::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn pod(gid: u32) -> PodGid {
        PodGid::new(gid).unwrap()
    }

    fn nfs(gid: u32) -> NfsGid {
        NfsGid::new(gid).unwrap()
    }

    fn rule(pods: (u32, u32), groups: (u32, u32), shown_as: Option<u32>) -> Rule<PodGid, NfsGid> {
        Rule {
            pod_first: pod(pods.0),
            pod_last: pod(pods.1),
            nfs_first: nfs(groups.0),
            nfs_last: nfs(groups.1),
            shown_as: shown_as.map(pod),
            direction: Direction::Both,
            allow_root: false,
            origin: Origin::Default("a rule"),
        }
    }

    fn policy(rules: Vec<Rule<PodGid, NfsGid>>, fs_group: u32, directory: u32) -> Policy {
        let mut profile = Profile::new("test");
        profile.gid = rules;
        profile.with_fs_group(pod(fs_group), nfs(directory), Origin::Default("fsGroup"));
        profile.build().unwrap()
    }

    #[test]
    fn the_directorys_group_is_shown_as_the_fs_group_and_stands_for_it() {
        let policy = policy(vec![], 1000, 2001);
        assert_eq!(policy.show_gid(nfs(2001)), pod(1000));
        assert_eq!(policy.group_named(pod(1000)), Ok(nfs(2001)));
    }

    #[test]
    fn a_rule_that_showed_the_group_still_holds_for_callers() {
        for rules in [vec![rule((0, 0), (2001, 2001), None)], vec![rule((0, 5), (2001, 2001), Some(0))]] {
            let policy = policy(rules, 1000, 2001);
            assert_eq!(policy.show_gid(nfs(2001)), pod(1000));
            assert_eq!(policy.group_named(pod(0)), Ok(nfs(2001)));
        }
    }

    #[test]
    fn of_a_range_only_the_directorys_group_is_shown_otherwise() {
        for directory in [5000, 5007, 5009] {
            let policy = policy(vec![rule((100, 109), (5000, 5009), None)], 1000, directory);
            for group in 5000..=5009 {
                let shown = if group == directory { 1000 } else { group - 4900 };
                assert_eq!(policy.show_gid(nfs(group)), pod(shown), "{group}");
                assert_eq!(policy.group_named(pod(group - 4900)), Ok(nfs(group)), "{group}");
            }
        }
    }
}
