//! So many at once, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One of those, until it is dropped.
#[derive(Debug)]
pub struct Turn(Arc<AtomicUsize>);

impl Turn {
    /// None where `most` are under way.
    #[must_use]
    pub fn take(under_way: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let turn = Self(Arc::clone(under_way));
        (under_way.fetch_add(1, Ordering::AcqRel) < most).then_some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_have_a_turn_and_one_more_when_one_has_ended() {
        const MOST: usize = 16;
        let under_way = Arc::default();
        let mut turns: Vec<_> = (0..MOST).filter_map(|_| Turn::take(&under_way, MOST)).collect();
        assert_eq!(turns.len(), MOST);
        assert!(Turn::take(&under_way, MOST).is_none() && Turn::take(&under_way, MOST).is_none());
        turns.pop();
        assert!(Turn::take(&under_way, MOST).is_some());
    }
}
