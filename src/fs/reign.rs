//! The policy in force, and what it made of the callers seen so far: they change together.
//!
//! A request holds the reign under which it began until it ends, so it is judged by one policy throughout. What an inode
//! remembers of a policy (its scope) says under which reign it was found ([`super::places`]). How a new reign begins is in
//! [`super::succession`].

use std::ops::Deref;
use std::sync::Arc;

use crate::caller::Callers;
use crate::policy::Policy;

/// A policy while it is in force. Reads as the policy itself.
#[derive(Debug)]
pub(super) struct Reign {
    pub(super) policy: Arc<Policy>,
    pub(super) callers: Callers,
    /// [`Policy::is_transparent`], which every write asks for.
    pub(super) transparent: bool,
    /// Counts from 1 in each mount.
    pub(super) number: u64,
    /// The first of the reigns up to this one that all had path rules: since then each inode's names are kept.
    pub(super) names_since: u64,
}

impl Reign {
    /// The one that a mount begins with.
    pub(super) fn first(policy: Arc<Policy>) -> Self {
        Self::new(policy, 1, 1)
    }

    /// The one that a worker begins with that took over: it knows no names.
    pub(super) fn taken_over(policy: Arc<Policy>) -> Self {
        Self::new(policy, 2, 2)
    }

    /// The one that follows.
    pub(super) fn after(&self, policy: Arc<Policy>) -> Self {
        let number = self.number + 1;
        let names_since = if self.scopes().is_trivial() { number } else { self.names_since };
        Self::new(policy, number, names_since)
    }

    fn new(policy: Arc<Policy>, number: u64, names_since: u64) -> Self {
        let transparent = policy.is_transparent();
        Self { policy, callers: Callers::default(), transparent, number, names_since }
    }
}

impl Deref for Reign {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}
