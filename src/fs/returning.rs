//! Threads whose open(2) was sent to look its names up again, and what they have found since.
//!
//! Linux looks again once (`do_filp_open`): who comes with what that has led to, and is told ESTALE again, passes it on. What it
//! has found it found after its open(2) had begun, so it is theirs to open, though the name may lead to another by now.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::NodeId;
use super::inodes::lock;
use super::lately::Lately;
use crate::caller::Pid;
use crate::sys::sync::Mutex;

/// Of one mount; almost always nobody.
#[derive(Debug, Default)]
pub(super) struct Returning {
    threads: Mutex<Lately<Option<NodeId>>>,
    /// How many those are, for whoever is in a hurry.
    count: AtomicUsize,
}

impl Returning {
    /// An open of this thread ends with ESTALE.
    pub(super) fn is_sent(&self, thread: Pid) {
        self.put(thread, None);
    }

    /// A name that this thread has looked up led there; to nothing, if None.
    pub(super) fn finds(&self, thread: Pid, node: Option<NodeId>) {
        if self.take(thread).is_some() && node.is_some() {
            self.put(thread, node);
        }
    }

    /// This thread opens `node`. Whether that is what it has just found, having been sent.
    pub(super) fn comes_with(&self, thread: Pid, node: NodeId) -> bool {
        self.take(thread) == Some(Some(node))
    }

    fn take(&self, thread: Pid) -> Option<Option<NodeId>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut threads = lock(&self.threads);
        let taken = threads.take(thread);
        self.count.store(threads.len(), Ordering::Relaxed);
        taken
    }

    fn put(&self, thread: Pid, found: Option<NodeId>) {
        let mut threads = lock(&self.threads);
        threads.take(thread);
        threads.remember(thread, found);
        self.count.store(threads.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId(NonZeroU64::new(number).unwrap())
    }

    #[test]
    fn who_was_sent_comes_with_what_it_found_last_and_only_once() {
        let returning = Returning::default();
        let (one, two) = (Pid(1), Pid(2));
        returning.finds(one, Some(node(7)));
        assert!(!returning.comes_with(one, node(7)), "it was not sent");
        returning.is_sent(one);
        returning.finds(one, Some(node(3)));
        returning.finds(two, Some(node(7)));
        returning.finds(one, Some(node(7)));
        assert!(!returning.comes_with(two, node(7)));
        assert!(returning.comes_with(one, node(7)) && !returning.comes_with(one, node(7)));
        returning.is_sent(one);
        returning.finds(one, Some(node(7)));
        assert!(!returning.comes_with(one, node(8)), "it opens something else");
        returning.is_sent(one);
        returning.finds(one, None);
        returning.finds(one, Some(node(7)));
        assert!(!returning.comes_with(one, node(7)), "its open(2) has ended with ENOENT");
    }

    #[test]
    fn nobody_is_left_once_all_have_come() {
        let returning = Returning::default();
        for thread in 0..10 {
            returning.is_sent(Pid(thread));
            returning.is_sent(Pid(thread));
        }
        assert_eq!(returning.count.load(Ordering::Relaxed), 10);
        (0..10).for_each(|thread| returning.finds(Pid(thread), Some(node(1))));
        assert!((0..10).all(|thread| returning.comes_with(Pid(thread), node(1))));
        assert_eq!(returning.count.load(Ordering::Relaxed), 0);
    }
}
