//! What each of the threads that have asked last is about: one thing for each, of a bounded number of threads.

use std::collections::VecDeque;

use crate::caller::Pid;

/// Threads that are remembered; the one that was heard of longest ago is forgotten for another.
pub(super) const MAX_THREADS: usize = 64;

/// What they are about, oldest first.
#[derive(Debug)]
pub(super) struct Lately<T>(VecDeque<(Pid, T)>);

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Lately<T> {
    pub(super) fn take(&mut self, thread: Pid) -> Option<T> {
        let at = self.0.iter().position(|(of, _)| *of == thread)?;
        Some(self.0.remove(at)?.1)
    }

    /// The thread is to have been taken before.
    pub(super) fn remember(&mut self, thread: Pid, about: T) {
        self.0.push_back((thread, about));
        if self.0.len() > MAX_THREADS {
            self.0.pop_front();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
