//! The one place where an id changes sides.

use super::denied::Origin;
use super::ids::Id;

/// Which way a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Callers are translated, and owners are shown.
    #[default]
    Both,
    /// Only callers (and chown) are translated.
    PodToNfs,
    /// Only owners are shown.
    NfsToPod,
}

/// One rule: the pod ids `pod_first ..= pod_last` are the NFS ids `nfs_first ..= nfs_last`, one by one; or, where the NFS
/// side is a single id, many pod ids are that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<P, N> {
    /// First pod id.
    pub pod_first: P,
    /// Last pod id, included.
    pub pod_last: P,
    /// First NFS id.
    pub nfs_first: N,
    /// Last NFS id, included: as wide as the pod side, or equal to `nfs_first` (many-to-one).
    pub nfs_last: N,
    /// What the single NFS id of a many-to-one rule is shown as.
    pub shown_as: Option<P>,
    /// Which way it holds.
    pub direction: Direction,
    /// Where it was written.
    pub origin: Origin,
}

impl<P: Id, N: Id> Rule<P, N> {
    /// Whether callers are translated by it.
    #[must_use]
    pub fn inbound(&self) -> bool {
        self.direction != Direction::NfsToPod
    }

    /// Whether owners are shown by it: a many-to-one rule without `shown_as` shows nobody.
    #[must_use]
    pub fn outbound(&self) -> bool {
        self.direction != Direction::PodToNfs && (self.shown_as.is_some() || !self.is_many_to_one())
    }

    /// Whether several pod ids are one NFS id.
    #[must_use]
    pub fn is_many_to_one(&self) -> bool {
        self.nfs_first == self.nfs_last && self.pod_first != self.pod_last
    }

    /// The NFS id of `pod`, which lies in this rule's range.
    fn nfs_of(&self, pod: P) -> Option<N> {
        if self.is_many_to_one() {
            return Some(self.nfs_first);
        }
        N::new(self.nfs_first.get().checked_add(pod.get() - self.pod_first.get())?)
    }

    /// What `nfs`, which lies in this rule's range, is shown as.
    fn pod_of(&self, nfs: N) -> Option<P> {
        if self.shown_as.is_some() {
            return self.shown_as;
        }
        P::new(self.pod_first.get().checked_add(nfs.get() - self.nfs_first.get())?)
    }
}

/// What becomes of an id that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmapped<T> {
    /// Inbound only: the caller is refused.
    Deny,
    /// The number stays as it is on the other side.
    Keep,
    /// This id stands for all of them.
    As(T),
}

/// Rules for one kind of id (users, or groups), both ways. The loader has made sure that no two overlap one way.
#[derive(Debug, Clone)]
pub struct IdMap<P, N> {
    rules: Vec<Rule<P, N>>,
    /// Indices of inbound rules by their first pod id.
    by_pod: Vec<usize>,
    /// Indices of outbound rules by their first NFS id.
    by_nfs: Vec<usize>,
}

impl<P: Id, N: Id> IdMap<P, N> {
    /// A map of rules of which no two name one pod id inbound, and no two one NFS id outbound.
    #[must_use]
    pub fn new(rules: Vec<Rule<P, N>>) -> Self {
        let mut by_pod: Vec<_> = (0..rules.len()).filter(|&at| rules[at].inbound()).collect();
        by_pod.sort_by_key(|&at| rules[at].pod_first);
        let mut by_nfs: Vec<_> = (0..rules.len()).filter(|&at| rules[at].outbound()).collect();
        by_nfs.sort_by_key(|&at| rules[at].nfs_first);
        Self { rules, by_pod, by_nfs }
    }

    /// The rule that names `pod` inbound.
    #[must_use]
    pub fn rule_for_pod(&self, pod: P) -> Option<&Rule<P, N>> {
        let after = self.by_pod.partition_point(|&at| self.rules[at].pod_first <= pod);
        let rule = &self.rules[*self.by_pod.get(after.checked_sub(1)?)?];
        (pod <= rule.pod_last).then_some(rule)
    }

    /// The rule that shows `nfs`.
    #[must_use]
    pub fn rule_for_nfs(&self, nfs: N) -> Option<&Rule<P, N>> {
        let after = self.by_nfs.partition_point(|&at| self.rules[at].nfs_first <= nfs);
        let rule = &self.rules[*self.by_nfs.get(after.checked_sub(1)?)?];
        (nfs <= rule.nfs_last).then_some(rule)
    }

    /// The NFS id of `pod`, where a rule names it.
    #[must_use]
    pub fn to_nfs(&self, pod: P) -> Option<N> {
        self.rule_for_pod(pod)?.nfs_of(pod)
    }

    /// The pod id that `nfs` is shown as, where a rule names it.
    #[must_use]
    pub fn to_pod(&self, nfs: N) -> Option<P> {
        self.rule_for_nfs(nfs)?.pod_of(nfs)
    }

    /// The rules as written.
    #[must_use]
    pub fn rules(&self) -> &[Rule<P, N>] {
        &self.rules
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}
