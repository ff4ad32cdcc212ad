//! What a dead worker was in the middle of: brought to an end, or taken back.

use super::{
    COUNTS_BEGUN, COUNTS_DONE, DIRTY, FORGETTING, FORGOTTEN, LEFT, LOW, OPENED, count, counted_at, get,
    record, set,
};
use crate::state::State;
use crate::state::slot::{Control, Left, Slot};
use crate::state::table::RecordId;
use crate::sys::fault;

/// Brings to an end what a dead worker was in the middle of, and takes back what it has counted and opened for answers
/// that it has not written down. To be called for all slots before anything is read from the records. Whoever does this may die
/// over it, too: each step may be done again.
pub fn take_back(state: &State, slots: &[Slot]) {
    let unanswered = |slot: &&Slot| matches!(slot.left(), Left::Request(_) | Left::Abandoned);
    let left: Vec<&Control> = slots
        .iter()
        .filter(unanswered)
        .map(|slot| &*slot.control)
        .filter(|left| get(left, DIRTY) != 0)
        .collect();
    // What was under way knows the number that it began with, or leaves: so that comes before anything else is taken off.
    left.iter().for_each(|control| finish_forgetting(state, control));
    left.iter().for_each(|control| finish_counting(state, control));
    for control in left {
        take_back_counts(state, control);
        take_back_file(state, control);
    }
}

fn finish_forgetting(state: &State, control: &Control) {
    let forgetting = get(control, FORGETTING);
    if let Some(inode) = record(forgetting & LOW) {
        state.inodes.set_lookups(inode, get(control, LEFT));
        fault::point!("take back: lookups left");
        set(control, FORGOTTEN, forgetting >> 32);
        fault::point!("take back: forgotten");
        set(control, FORGETTING, 0);
    }
}

/// The last one may have been under way; while it was, nobody else could change the number.
fn finish_counting(state: &State, control: &Control) {
    let (begun, done) = (get(control, COUNTS_BEGUN), get(control, COUNTS_DONE));
    if begun <= done {
        return;
    }
    if let Some((_, inode, before)) = counted_at(control, done)
        && state.inodes.lookups(inode) & LOW != before
    {
        take_one(state, inode);
    }
    set(control, COUNTS_BEGUN, done);
    fault::point!("take back: a count that was under way");
}

/// From the last to the first; each is put under way again, so that it is seen whether it was taken back.
fn take_back_counts(state: &State, control: &Control) {
    for index in (0..get(control, COUNTS_DONE)).rev() {
        if let Some((place, inode, _)) = counted_at(control, index) {
            let after = state.inodes.lookups(inode).saturating_sub(1);
            set(control, place, count(inode, after));
            fault::point!("take back: a count is put under way");
            set(control, COUNTS_DONE, index);
            fault::point!("take back: a count is under way");
            take_one(state, inode);
        }
        set(control, COUNTS_DONE, index);
        set(control, COUNTS_BEGUN, index);
        fault::point!("take back: a count");
    }
}

fn take_one(state: &State, inode: RecordId) {
    state.inodes.set_lookups(inode, state.inodes.lookups(inode).saturating_sub(1));
    fault::point!("take back: a lookup");
}

fn take_back_file(state: &State, control: &Control) {
    if let Some(file) = record(get(control, OPENED)) {
        state.files.forget(file);
        fault::point!("take back: a file");
    }
    set(control, OPENED, 0);
    fault::point!("take back: no file");
}
