//! The locks of std, in one place so that a model checker can stand in for them: under the feature `model` they are
//! shuttle's, which decides at each which thread goes on, and tries one order after another (`tests/inode_races.rs`).
//!
//! What shuttle cannot see (words of shared memory, `DashMap`) is a [`moment`] instead: another thread may come in between.

#[cfg(feature = "model")]
pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(feature = "model"))]
pub use std::sync::{Condvar, Mutex, MutexGuard};

/// The model checker may let another thread go on here. Otherwise nothing.
#[inline]
pub fn moment() {
    // Shuttle knows no time: to sleep is to let another thread go on, and no promise to.
    #[cfg(feature = "model")]
    shuttle::thread::sleep(std::time::Duration::ZERO);
}
