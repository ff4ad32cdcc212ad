//! What `permfs check` warns of and only this room can see: a policy that is sound, but hardly meant.

use super::id_map::Span;
use super::ids::Id;
use super::profile::{ActAs, Groups};
use super::translation::Translation;
use super::*;

impl Policy {
    /// Whether no user, or no group, has a rule or a default that would admit it, so that every caller is refused.
    #[must_use]
    pub fn admits_nobody(&self) -> Option<&'static str> {
        fn closed<P: Id, N: Id>(ids: &Translation<P, N>) -> bool {
            ids.pod == Unmapped::Deny && ids.root == Unmapped::Deny && ids.map.inbound().is_empty()
        }
        if closed(&self.uids) {
            return Some("uid");
        }
        (closed(&self.gids) && !matches!(self.act_as.value, ActAs::Fixed(_))).then_some("gid")
    }

    /// Pod groups of `groups = [...]` that nothing translates.
    #[must_use]
    pub fn groups_without_rule(&self) -> Vec<PodGid> {
        match &self.groups.value {
            Groups::These(groups) => {
                groups.iter().copied().filter(|&gid| self.gids.inbound(gid).is_none()).collect()
            }
            Groups::Process | Groups::None => Vec::new(),
        }
    }

    /// The rules for pod ids that owners without a rule are shown as: of the user, and of the group.
    #[must_use]
    pub fn rules_for_stand_in(&self) -> (Option<usize>, Option<usize>) {
        fn rule<P: Id, N: Id>(ids: &Translation<P, N>) -> Option<usize> {
            match ids.nfs {
                UnmappedOwner::As(pod) => ids.map.rule_number_for_pod(pod),
                UnmappedOwner::Keep => None,
            }
        }
        (rule(&self.uids), rule(&self.gids))
    }

    /// The one-way rules by which, under `act_as = "owner"`, a pod id that is admitted as somebody else can act as the
    /// owners that they show: for users, and for groups.
    #[must_use]
    pub fn rules_that_lend(&self) -> (Vec<usize>, Vec<usize>) {
        fn lending<P: Id, N: Id>(ids: &Translation<P, N>) -> Vec<usize> {
            let admits = |rule: &Rule<P, N>| {
                let mapped = |span: &Span<P, N>| span.first <= rule.pod_last && rule.pod_first <= span.last;
                ids.pod != Unmapped::Deny || ids.map.inbound().iter().any(mapped)
            };
            let lends = |rule: &Rule<P, N>| !rule.direction.inbound() && admits(rule);
            let rules = ids.map.rules().iter().enumerate();
            rules.filter(|(_, rule)| lends(rule)).map(|(number, _)| number).collect()
        }
        match self.act_as.value {
            ActAs::Owner => (lending(&self.uids), lending(&self.gids)),
            ActAs::Caller | ActAs::Fixed(_) => (Vec::new(), Vec::new()),
        }
    }
}
