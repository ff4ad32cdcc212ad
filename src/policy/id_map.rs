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

/// One rule: the pod ids `pod ..= pod + (width - 1)` are the NFS ids `nfs ..= nfs + (width - 1)`, or, with `shown_as`,
/// many pod ids are one NFS id.
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

/// Rules for one kind of id (users, or groups), both ways.
#[derive(Debug, Clone)]
pub struct IdMap<P, N> {
    rules: Vec<Rule<P, N>>,
}

impl<P: Id, N: Id> IdMap<P, N> {
    /// The rule that names `pod` inbound.
    pub fn rule_for_pod(&self, _pod: P) -> Option<&Rule<P, N>> {
        todo!()
    }

    /// The NFS id of `pod`, where a rule names it.
    pub fn to_nfs(&self, _pod: P) -> Option<N> {
        todo!()
    }

    /// The pod id that `nfs` is shown as, where a rule names it.
    pub fn to_pod(&self, _nfs: N) -> Option<P> {
        todo!()
    }

    /// The rules as written.
    pub fn rules(&self) -> &[Rule<P, N>] {
        &self.rules
    }
}
