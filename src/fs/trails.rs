//! How far the kernel has come with its listings: who reads on from a place that was told since a listing began fills it, whichever
//! reader that is, and who reads from elsewhere does not.

use std::collections::VecDeque;
use std::sync::Arc;

use super::NodeId;
use super::inodes::lock;
use crate::sys::sync::Mutex;

/// Listings that are being filled, per mount; of any more it is not known who fills them.
const MAX_TRAILS: usize = 64;
/// The last places of each.
const MAX_PLACES: usize = 4096;

/// Those of a mount, the one that has gone on last at the end.
#[derive(Debug, Default)]
pub(super) struct Trails(Mutex<VecDeque<Trail>>);

#[derive(Debug)]
struct Trail {
    node: NodeId,
    /// Portion by portion.
    places: VecDeque<Arc<Vec<u64>>>,
    /// There were more.
    cut: bool,
}

impl Trail {
    fn has(&self, place: u64) -> bool {
        self.places.iter().any(|portion| portion.contains(&place))
    }

    fn add(&mut self, portion: &Arc<Vec<u64>>) {
        self.places.push_back(Arc::clone(portion));
        let mut all: usize = self.places.iter().map(|portion| portion.len()).sum();
        // The last one stays, however long it is.
        while all > MAX_PLACES
            && self.places.len() > 1
            && let Some(oldest) = self.places.pop_front()
        {
            all -= oldest.len();
            self.cut = true;
        }
    }
}

/// Whether somebody's reading fills the kernel's listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fills {
    Yes,
    No,
    Perhaps,
}

impl Trails {
    /// The kernel begins anew.
    pub(super) fn begin(&self, node: NodeId) {
        lock(&self.0).retain(|trail| trail.node != node);
    }

    /// Somebody who reads from this place was told of those.
    pub(super) fn go_on(&self, node: NodeId, from: u64, places: &Arc<Vec<u64>>) -> Fills {
        let mut trails = lock(&self.0);
        let at = trails.iter().rposition(|trail| trail.node == node);
        let mut trail = match at.and_then(|at| trails.remove(at)) {
            Some(trail) => trail,
            None if from == 0 => Trail { node, places: VecDeque::new(), cut: false },
            None => return Fills::Perhaps,
        };
        let fills = if from == 0 || trail.has(from) {
            Fills::Yes
        } else if trail.cut {
            Fills::Perhaps
        } else {
            Fills::No
        };
        if fills == Fills::Yes && places.is_empty() {
            // The end of it.
            return fills;
        }
        if fills == Fills::Yes {
            trail.add(places);
        }
        trails.push_back(trail);
        if trails.len() > MAX_TRAILS {
            trails.pop_front();
        }
        fills
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(trails: &Trails, from: u64, places: &[u64]) -> Fills {
        trails.go_on(NodeId::ROOT, from, &Arc::new(places.to_vec()))
    }

    #[test]
    fn whoever_reads_on_from_what_was_told_fills_the_listing() {
        let trails = Trails::default();
        assert_eq!(told(&trails, 7, &[8]), Fills::Perhaps, "nothing is known");
        assert_eq!(told(&trails, 0, &[1, 2, 3]), Fills::Yes);
        assert_eq!(told(&trails, 2, &[3, 4]), Fills::Yes, "its buffer was smaller");
        assert_eq!(told(&trails, 0, &[1, 2, 3]), Fills::Yes, "another reader");
        assert_eq!(told(&trails, 9, &[]), Fills::No);
        assert_eq!(told(&trails, 4, &[]), Fills::Yes, "to its end");
        assert_eq!(told(&trails, 4, &[]), Fills::Perhaps);
        told(&trails, 0, &[1]);
        trails.begin(NodeId::ROOT);
        assert_eq!(told(&trails, 1, &[2]), Fills::Perhaps);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_rest_is_in_doubt() {
        let trails = Trails::default();
        told(&trails, 0, &(1..=3_000).collect::<Vec<_>>());
        assert_eq!(told(&trails, 3_000, &(3_001..=6_000).collect::<Vec<_>>()), Fills::Yes);
        assert_eq!(told(&trails, 1, &[]), Fills::Perhaps);
        assert_eq!(told(&trails, 6_000, &[6_001]), Fills::Yes);
        for number in 2..=65 {
            let node = NodeId(std::num::NonZeroU64::new(number).unwrap());
            trails.go_on(node, 0, &Arc::new(vec![1]));
        }
        assert_eq!(told(&trails, 6_001, &[]), Fills::Perhaps);
        assert_eq!(lock(&trails.0).len(), MAX_TRAILS);
    }
}
