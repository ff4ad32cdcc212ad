//! One kind of id changing sides, whole: the rules, and what becomes of ids that no rule names.
//!
//! Inbound (a caller, a chown) may be refused; outbound (what is shown) never is. Each answer says who gave it, so that
//! `explain` needs no second copy of these decisions.

use super::id_map::IdMap;
use super::ids::Id;

/// What becomes of a caller's id that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmapped<T> {
    /// The caller is refused.
    Deny,
    /// The number stays as it is on the other side.
    Keep,
    /// This id stands for all of them.
    As(T),
}

/// What an owner that no rule names is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmappedOwner<T> {
    /// The number stays as it is on the other side.
    Keep,
    /// This id stands for all of them.
    As(T),
}

/// What decided a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// The rule at this place in the list.
    Rule(usize),
    /// `unmapped.pod`.
    UnmappedPod,
    /// `unmapped.root`.
    UnmappedRoot,
    /// `unmapped.nfs`.
    UnmappedNfs,
}

/// One kind of id, with everything that decides about it.
#[derive(Debug, Clone)]
pub(super) struct Translation<P, N> {
    pub(super) map: IdMap<P, N>,
    /// Callers without a rule.
    pub(super) pod: Unmapped<N>,
    /// Caller 0 without a rule.
    pub(super) root: Unmapped<N>,
    /// Owners without a rule.
    pub(super) nfs: UnmappedOwner<P>,
    /// What an owner is shown as whose number does not exist on the other side; cannot happen while both sides refuse
    /// the same number.
    pub(super) nobody: P,
}

impl<P: Id, N: Id> Translation<P, N> {
    /// A caller's id at the server; none where it is refused.
    pub(super) fn inbound(&self, pod: P) -> Option<N> {
        self.map.to_nfs(pod).or_else(|| match self.unmapped_inbound(pod) {
            Unmapped::Deny => None,
            Unmapped::Keep => N::new(pod.get()),
            Unmapped::As(nfs) => Some(nfs),
        })
    }

    /// Who decides [`Self::inbound`].
    pub(super) fn inbound_decider(&self, pod: P) -> Decider {
        match self.map.rule_number_for_pod(pod) {
            Some(rule) => Decider::Rule(rule),
            None if pod.get() == 0 => Decider::UnmappedRoot,
            None => Decider::UnmappedPod,
        }
    }

    /// The owner a pod's id names, for chown and ACLs: by rule, or by number where such callers keep theirs. An id that
    /// stands in for many (`unmapped.pod = N`) is not what the pod named.
    pub(super) fn named(&self, pod: P) -> Option<N> {
        self.map.to_nfs(pod).or_else(|| match self.unmapped_inbound(pod) {
            Unmapped::Keep => N::new(pod.get()),
            Unmapped::Deny | Unmapped::As(_) => None,
        })
    }

    /// What an owner is shown as.
    pub(super) fn outbound(&self, nfs: N) -> P {
        self.map.to_pod(nfs).unwrap_or_else(|| match self.nfs {
            UnmappedOwner::Keep => P::new(nfs.get()).unwrap_or(self.nobody),
            UnmappedOwner::As(pod) => pod,
        })
    }

    /// Who decides [`Self::outbound`].
    pub(super) fn outbound_decider(&self, nfs: N) -> Decider {
        self.map.rule_number_for_nfs(nfs).map_or(Decider::UnmappedNfs, Decider::Rule)
    }

    /// Whether some caller's id other than its own could become something else than `own`.
    pub(super) fn may_yield_other_than(&self, own: N) -> bool {
        let yields = |unmapped| match unmapped {
            Unmapped::Deny => false,
            Unmapped::Keep => true,
            Unmapped::As(nfs) => nfs != own,
        };
        yields(self.pod)
            || yields(self.root)
            || self.map.inbound().iter().any(|span| span.image() != (own, own))
    }

    /// Whether ids pass as the numbers they are, both ways.
    pub(super) fn is_identity(&self) -> bool {
        self.map.rules().is_empty()
            && self.pod == Unmapped::Keep
            && self.root == Unmapped::Keep
            && self.nfs == UnmappedOwner::Keep
    }

    fn unmapped_inbound(&self, pod: P) -> Unmapped<N> {
        if pod.get() == 0 { self.root } else { self.pod }
    }
}
