//! What has been done of the request in hand, as far as a successor must know it: to take it back before it does the
//! request again, or to see that it was done.
//!
//! Each serving thread has one slot, and this is about that one: a thread without a slot (a test's) keeps no journal.

mod take_back;
#[cfg(test)]
mod tests;

pub use take_back::take_back;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::slot::{ATTEMPTS, COUNTED, Control, JOURNAL};
use super::table::RecordId;
use crate::sys::fault;

/// Not 0 where anything stands below.
pub(super) const DIRTY: usize = JOURNAL.start;
/// Lookups counted for the answer: how many were begun, and how many were done.
const COUNTS_BEGUN: usize = DIRTY + 1;
const COUNTS_DONE: usize = DIRTY + 2;
/// Inodes forgotten: how many were done, and of the one under way the record, the how manieth it is, and what is left then.
const FORGOTTEN: usize = DIRTY + 3;
const FORGETTING: usize = DIRTY + 4;
const LEFT: usize = DIRTY + 5;
/// The open file's record, and one.
const OPENED: usize = DIRTY + 6;
/// What was seen before something was done that cannot be done twice.
const EVIDENCE: usize = DIRTY + 7;

/// Pieces of evidence that an operation may note.
pub const MAX_EVIDENCE: usize = 4;

const LOW: u64 = 0xffff_ffff;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Control>>> = const { RefCell::new(None) };
}

/// From now on the calling thread's requests are those of this slot.
pub fn keep_for(control: &Arc<Control>) {
    control.belongs_to_this_thread();
    CURRENT.set(Some(Arc::clone(control)));
}

fn with<T>(act: impl FnOnce(&Control) -> T) -> Option<T> {
    CURRENT.with_borrow(|current| current.as_deref().map(act))
}

fn set(control: &Control, index: usize, value: u64) {
    control.word(index).store(value, Ordering::Release);
}

fn get(control: &Control, index: usize) -> u64 {
    control.word(index).load(Ordering::Acquire)
}

/// Begins to write: what stands from an earlier request is gone.
fn write(act: impl FnOnce(&Control)) {
    let _ = with(|control| {
        if get(control, DIRTY) == 0 {
            (COUNTS_BEGUN..EVIDENCE + MAX_EVIDENCE).for_each(|index| set(control, index, 0));
            fault::point!("journal: clean");
            set(control, DIRTY, 1);
        }
        fault::point!("journal: before a line");
        act(control);
        fault::point!("journal: a line");
    });
}

/// Reads what this request has written.
fn read(index: usize) -> u64 {
    with(|control| if get(control, DIRTY) == 0 { 0 } else { get(control, index) }).unwrap_or(0)
}

/// Makes a call that touches neither the export nor the slot: whoever takes over need not wait until it has returned.
pub fn apart<T>(call: impl FnOnce() -> T) -> T {
    let _ = with(|control| control.set_apart(true));
    let answer = call();
    let _ = with(|control| control.set_apart(false));
    answer
}

/// Whether the request in hand was begun by a worker that died.
#[must_use]
pub fn is_replay() -> bool {
    with(|control| get(control, ATTEMPTS) > 1).unwrap_or(false)
}

/// Whether an answer may count one lookup more.
#[must_use]
pub fn has_room_to_count() -> bool {
    read(COUNTS_BEGUN) < u64::try_from(COUNTED.len()).unwrap_or(u64::MAX)
}

/// A lookup of the inode, which had `before`, is about to be counted for the answer. Nobody else counts or forgets it until
/// [`counted`].
pub fn counting(inode: RecordId, before: u64) {
    write(|control| {
        let begun = get(control, COUNTS_BEGUN);
        let Some(place) = usize::try_from(begun).ok().and_then(|begun| COUNTED.clone().nth(begun)) else {
            return;
        };
        set(control, place, count(inode, before));
        fault::point!("journal: half a count");
        set(control, COUNTS_BEGUN, begun + 1);
    });
}

/// It is counted.
pub fn counted() {
    write(|control| set(control, COUNTS_DONE, get(control, COUNTS_BEGUN)));
}

/// The last lookup counted will not be answered, and is about to be forgotten again.
pub fn uncount() {
    write(|control| {
        let done = get(control, COUNTS_DONE).saturating_sub(1);
        set(control, COUNTS_BEGUN, done);
        fault::point!("journal: half uncounted");
        set(control, COUNTS_DONE, done);
    });
}

/// How many inodes of a list of those to forget are done.
#[must_use]
pub fn forgotten() -> u64 {
    read(FORGOTTEN)
}

/// The next inode is about to be left with `left` lookups. Nobody else counts or forgets it until [`forgot`].
pub fn forgetting(inode: RecordId, left: u64) {
    write(|control| {
        set(control, LEFT, left);
        fault::point!("journal: half forgetting");
        let number = get(control, FORGOTTEN) + 1;
        set(control, FORGETTING, (u64::from(inode.get()) + 1) | (number << 32));
    });
}

/// It is done, also where there was nothing to do.
pub fn forgot() {
    write(|control| {
        set(control, FORGOTTEN, get(control, FORGOTTEN) + 1);
        fault::point!("journal: half forgot");
        set(control, FORGETTING, 0);
    });
}

/// The record of an open file is about to become one.
pub(super) fn opening(file: RecordId) {
    write(|control| set(control, OPENED, u64::from(file.get()) + 1));
}

/// Notes what was seen; 0 says nothing.
pub fn note(piece: usize, value: u64) {
    if piece < MAX_EVIDENCE {
        write(|control| set(control, EVIDENCE + piece, value));
    }
}

/// What was noted, by this worker or the one before.
#[must_use]
pub fn noted(piece: usize) -> Option<u64> {
    if piece >= MAX_EVIDENCE {
        return None;
    }
    Some(read(EVIDENCE + piece)).filter(|value| *value != 0)
}

/// Whether something was noted of the request in a slot.
#[must_use]
pub fn has_noted(control: &Control, piece: usize) -> bool {
    evidence(control).get(piece).is_some_and(|value| *value != 0)
}

/// All that was noted of the request in a slot.
pub(super) fn evidence(control: &Control) -> [u64; MAX_EVIDENCE] {
    let dirty = get(control, DIRTY) != 0;
    std::array::from_fn(|piece| if dirty { get(control, EVIDENCE + piece) } else { 0 })
}

/// A lookup counted, as it is noted: of which inode, and how many there were before.
fn count(inode: RecordId, before: u64) -> u64 {
    (u64::from(inode.get()) << 32) | (before & LOW)
}

/// The how manieth count, from 0: where it is noted, of which inode, and how many there were before (the lower half of that).
fn counted_at(control: &Control, index: u64) -> Option<(usize, RecordId, u64)> {
    let place = COUNTED.clone().nth(usize::try_from(index).ok()?)?;
    let entry = get(control, place);
    Some((place, record((entry >> 32) + 1)?, entry & LOW))
}

fn record(word: u64) -> Option<RecordId> {
    u32::try_from(word.checked_sub(1)?).ok().map(RecordId::from_raw)
}
