//! The rules of one kind of id (users, or groups), looked up both ways.
//!
//! What exists is sound: [`IdMap::new`] refuses rules that overlap, disagree or run past the largest id, so a lookup is
//! a binary search and one addition that cannot wrap. What becomes of ids that no rule names is not here
//! ([`super::translation`]).

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

impl Direction {
    /// Whether callers are translated by it.
    #[must_use]
    pub fn inbound(self) -> bool {
        self != Self::NfsToPod
    }

    /// Whether owners are shown by it.
    #[must_use]
    pub fn outbound(self) -> bool {
        self != Self::PodToNfs
    }
}

/// One rule: the pod ids `pod_first ..= pod_last` are the NFS ids `nfs_first ..= nfs_last`, one by one, or many pod ids
/// are one NFS id.
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
    /// Whether it may map onto id 0.
    pub allow_root: bool,
    /// Where it was written.
    pub origin: Origin,
}

impl<P: Id, N: Id> Rule<P, N> {
    /// Whether several pod ids share one NFS id by this rule.
    #[must_use]
    pub fn is_many_to_one(&self) -> bool {
        self.pod_first != self.pod_last && self.nfs_first == self.nfs_last
    }
}

/// Why a set of rules is no map. The numbers of rules are their places in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapFault<P, N> {
    /// A range ends before it begins.
    Reversed {
        /// The rule.
        rule: usize,
    },
    /// The two ranges differ in width, and the NFS side is not a single id.
    UnequalWidth {
        /// The rule.
        rule: usize,
    },
    /// A pod id is named twice inbound.
    TwoRules {
        /// The earlier rule.
        first: usize,
        /// The later one.
        second: usize,
        /// The first pod id that both name.
        pod: P,
    },
    /// An NFS id would be shown by two rules that disagree.
    AmbiguousInverse {
        /// The earlier rule.
        first: usize,
        /// The later one.
        second: usize,
        /// The first NFS id that both show.
        nfs: N,
    },
    /// Many pod ids are one NFS id, and the rule does not say how that is shown.
    ShownAsMissing {
        /// The rule.
        rule: usize,
    },
    /// `shown_as` is not a pod id that maps onto the rule's NFS id, so a chown to what is shown would go elsewhere.
    ShownAsElsewhere {
        /// The rule.
        rule: usize,
    },
    /// `shown_as` beside several NFS ids, or in a rule of one direction: it would mean nothing.
    ShownAsUnused {
        /// The rule.
        rule: usize,
    },
}

/// Rules for one kind of id, both ways.
#[derive(Debug, Clone)]
pub struct IdMap<P, N> {
    rules: Vec<Rule<P, N>>,
    inbound: Vec<Span<P, N>>,
    outbound: Vec<Span<N, P>>,
}

impl<P: Id, N: Id> IdMap<P, N> {
    /// The map of these rules, or everything that is wrong with them.
    pub fn new(rules: Vec<Rule<P, N>>) -> Result<Self, Vec<MapFault<P, N>>> {
        let mut faults: Vec<_> =
            rules.iter().enumerate().filter_map(|(i, rule)| shape_fault(i, rule)).collect();
        if !faults.is_empty() {
            // Lookups and overlaps mean nothing before each rule by itself is right.
            return Err(faults);
        }
        let mut inbound: Vec<_> = rules.iter().enumerate().filter_map(inbound_span).collect();
        let mut outbound: Vec<_> = rules.iter().enumerate().filter_map(outbound_span).collect();
        for (one, other) in sort_and_find_overlaps(&mut inbound) {
            let (first, second) = (one.rule.min(other.rule), one.rule.max(other.rule));
            faults.push(MapFault::TwoRules { first, second, pod: one.first.max(other.first) });
        }
        for (one, other) in sort_and_find_overlaps(&mut outbound) {
            if !one.agrees_with(&other) {
                let (first, second) = (one.rule.min(other.rule), one.rule.max(other.rule));
                faults.push(MapFault::AmbiguousInverse { first, second, nfs: one.first.max(other.first) });
            }
        }
        outbound.dedup_by_key(|span| span.first);
        let map = Self { rules, inbound, outbound };
        faults.extend(map.rules.iter().enumerate().filter_map(|(i, rule)| {
            let shown = rule.shown_as?;
            (map.to_nfs(shown) != Some(rule.nfs_first)).then_some(MapFault::ShownAsElsewhere { rule: i })
        }));
        if faults.is_empty() { Ok(map) } else { Err(faults) }
    }

    /// The rule that names `pod` inbound.
    pub fn rule_for_pod(&self, pod: P) -> Option<&Rule<P, N>> {
        find(&self.inbound, pod).map(|span| &self.rules[span.rule])
    }

    /// The place in the list of the rule that names `pod` inbound.
    pub fn rule_number_for_pod(&self, pod: P) -> Option<usize> {
        find(&self.inbound, pod).map(|span| span.rule)
    }

    /// The place in the list of the rule that says what `nfs` is shown as.
    pub fn rule_number_for_nfs(&self, nfs: N) -> Option<usize> {
        find(&self.outbound, nfs).map(|span| span.rule)
    }

    /// The NFS id of `pod`, where a rule names it.
    pub fn to_nfs(&self, pod: P) -> Option<N> {
        find(&self.inbound, pod).and_then(|span| span.image_of(pod))
    }

    /// The pod id that `nfs` is shown as, where a rule names it.
    pub fn to_pod(&self, nfs: N) -> Option<P> {
        find(&self.outbound, nfs).and_then(|span| span.image_of(nfs))
    }

    /// The rules as written.
    pub fn rules(&self) -> &[Rule<P, N>] {
        &self.rules
    }

    /// Callers' ranges, sorted, without overlaps.
    pub(super) fn inbound(&self) -> &[Span<P, N>] {
        &self.inbound
    }

    /// Owners' ranges, sorted, without overlaps.
    pub(super) fn outbound(&self) -> &[Span<N, P>] {
        &self.outbound
    }
}

/// A range of one side and where it goes on the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<A, B> {
    pub(super) first: A,
    pub(super) last: A,
    /// The image of `first`.
    onto: B,
    /// All of the range goes to `onto`.
    onto_one: bool,
    /// Its rule's place in the list.
    pub(super) rule: usize,
}

impl<A: Id, B: Id> Span<A, B> {
    /// Where `id`, which lies within, goes.
    fn image_of(&self, id: A) -> Option<B> {
        if self.onto_one {
            return Some(self.onto);
        }
        self.onto.get().checked_add(id.get() - self.first.get()).and_then(B::new)
    }

    /// First and last of where the range goes.
    pub(super) fn image(&self) -> (B, B) {
        (self.onto, self.image_of(self.last).unwrap_or(self.onto))
    }

    /// Whether every number stays what it is.
    pub(super) fn is_identity(&self) -> bool {
        self.first.get() == self.onto.get() && (self.first == self.last || !self.onto_one)
    }

    /// Whether both say the same of the same single id.
    fn agrees_with(&self, other: &Self) -> bool {
        (self.first, self.last, self.onto) == (other.first, other.last, other.onto) && self.first == self.last
    }
}

/// The span that holds `id`.
fn find<A: Id, B: Id>(spans: &[Span<A, B>], id: A) -> Option<&Span<A, B>> {
    let at = spans.partition_point(|span| span.last < id);
    spans.get(at).filter(|span| span.first <= id)
}

/// What is wrong with one rule by itself.
fn shape_fault<P: Id, N: Id>(rule: usize, written: &Rule<P, N>) -> Option<MapFault<P, N>> {
    let Rule { pod_first, pod_last, nfs_first, nfs_last, shown_as, direction, .. } = written;
    if pod_first > pod_last || nfs_first > nfs_last {
        return Some(MapFault::Reversed { rule });
    }
    let same_width = pod_last.get() - pod_first.get() == nfs_last.get() - nfs_first.get();
    if !same_width && (nfs_first != nfs_last || !direction.inbound()) {
        return Some(MapFault::UnequalWidth { rule });
    }
    if shown_as.is_some() && (nfs_first != nfs_last || *direction != Direction::Both) {
        return Some(MapFault::ShownAsUnused { rule });
    }
    if written.is_many_to_one() && direction.outbound() && shown_as.is_none() {
        return Some(MapFault::ShownAsMissing { rule });
    }
    None
}

fn inbound_span<P: Id, N: Id>((rule, written): (usize, &Rule<P, N>)) -> Option<Span<P, N>> {
    written.direction.inbound().then(|| Span {
        first: written.pod_first,
        last: written.pod_last,
        onto: written.nfs_first,
        onto_one: written.nfs_first == written.nfs_last,
        rule,
    })
}

fn outbound_span<P: Id, N: Id>((rule, written): (usize, &Rule<P, N>)) -> Option<Span<N, P>> {
    written.direction.outbound().then(|| Span {
        first: written.nfs_first,
        last: written.nfs_last,
        onto: written.shown_as.unwrap_or(written.pod_first),
        onto_one: written.nfs_first == written.nfs_last,
        rule,
    })
}

/// Sorts by first id; answers the pairs that overlap, each span with the one before it that reaches farthest.
fn sort_and_find_overlaps<A: Id, B: Id>(spans: &mut [Span<A, B>]) -> Vec<(Span<A, B>, Span<A, B>)> {
    spans.sort_by_key(|span| (span.first, span.rule));
    let mut overlaps = Vec::new();
    let mut farthest: Option<Span<A, B>> = None;
    for &span in spans.iter() {
        if let Some(before) = farthest.filter(|before| before.last >= span.first) {
            overlaps.push((before, span));
        }
        if farthest.is_none_or(|before| span.last > before.last) {
            farthest = Some(span);
        }
    }
    overlaps
}
