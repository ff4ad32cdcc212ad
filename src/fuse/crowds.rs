//! How many requests are at each of the export's mounts: one that does not answer may not hold all workers.
//!
//! Asked only where the export is of several mounts. Where it is of one, there is nobody to protect from whom, and requests
//! wait in the kernel once all workers are held up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::fs::MountIndex;

/// Requests at one mount at once, where the export has others; one more is refused with ETIMEDOUT. So many come together only
/// at a mount that does not answer.
pub(crate) const MAX_CROWD: usize = 512;

/// The requests at each mount.
#[derive(Debug, Default)]
pub(crate) struct Crowds {
    at: Mutex<HashMap<MountIndex, usize>>,
}

/// A request that is at a mount, until this is dropped.
#[derive(Debug)]
pub(crate) struct Attendance<'a> {
    crowds: &'a Crowds,
    mount: MountIndex,
}

impl Crowds {
    /// One more at `mount`; none where that would be one too many.
    pub(crate) fn join(&self, mount: MountIndex) -> Option<Attendance<'_>> {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let crowd = at.entry(mount).or_default();
        if *crowd >= MAX_CROWD {
            return None;
        }
        *crowd += 1;
        Some(Attendance { crowds: self, mount })
    }
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let mut at = self.crowds.at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(crowd) = at.get_mut(&self.mount) {
            *crowd -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mounts_crowd_is_bounded_and_the_others_are_not_concerned() {
        let crowds = Crowds::default();
        let (hung, fine) = (MountIndex(1), MountIndex(0));
        let mut crowd: Vec<_> = (0..MAX_CROWD).map(|_| crowds.join(hung).unwrap()).collect();
        assert!(crowds.join(hung).is_none());
        assert!(crowds.join(fine).is_some());
        crowd.pop();
        assert!(crowds.join(hung).is_some());
    }
}
