//! What a successor does first.

use std::collections::HashSet;
use std::os::fd::RawFd;

use crate::state::slot::Slot;
use crate::state::{State, journal};
use crate::sys::{Errno, descriptors, fault};

/// Puts in order what a dead worker has left: what it was in the middle of is brought to an end or taken back, and what it had
/// open and did not write down is closed. Answers with the requests that it had in hand.
///
/// # Errors
/// Those of reading /proc.
pub fn put_in_order(state: &State) -> Result<Vec<Slot>, Errno> {
    fault::point!("takeover: begins");
    let slots = state.slots.left();
    journal::take_back(state, &slots);
    fault::point!("takeover: taken back");
    let used: HashSet<RawFd> = state.descriptors().into_iter().collect();
    let strays: Vec<RawFd> = descriptors::all()?.into_iter().filter(|fd| !used.contains(fd)).collect();
    tracing::debug!(strays = strays.len(), requests = slots.len(), "putting in order what was left");
    descriptors::close(strays);
    fault::point!("takeover: strays are closed");
    Ok(slots)
}
