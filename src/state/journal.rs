//! What has been done of the request in hand, as far as a successor must know it: to take it back before it does the
//! request again, or to see that it was done.
//!
//! Each serving thread has one slot, and this is about that one: a thread without a slot (a test's) keeps no journal.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::State;
use super::slot::{ATTEMPTS, COUNTED, Control, JOURNAL, Left, Slot};
use super::table::RecordId;

/// Not 0 where anything stands below.
pub(super) const DIRTY: usize = JOURNAL.start;
/// Lookups counted for the answer: how many were begun, and how many were done.
const COUNTS_BEGUN: usize = DIRTY + 1;
const COUNTS_DONE: usize = DIRTY + 2;
/// Inodes forgotten: how many were done, and of the one under way the record and what is left then.
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
            set(control, DIRTY, 1);
        }
        act(control);
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
        set(control, place, u64::from(inode.get()) << 32 | before & LOW);
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
        set(control, FORGETTING, u64::from(inode.get()) + 1);
    });
}

/// It is done, also where there was nothing to do.
pub fn forgot() {
    write(|control| {
        set(control, FORGOTTEN, get(control, FORGOTTEN) + 1);
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

/// Brings to an end what a dead worker was in the middle of, and takes back what it has counted and opened for answers
/// that it has not written down. To be called for all slots before anything is read from the records.
pub fn take_back(state: &State, slots: &[Slot]) {
    let unanswered = |slot: &&Slot| matches!(slot.left(), Left::Request(_) | Left::Abandoned);
    // What was being forgotten knows what it leaves: so that comes before anything else is taken off.
    for slot in slots.iter().filter(unanswered) {
        finish_forgetting(state, &slot.control);
    }
    for slot in slots.iter().filter(unanswered) {
        take_back_answer(state, &slot.control);
    }
}

fn finish_forgetting(state: &State, control: &Control) {
    if get(control, DIRTY) == 0 {
        return;
    }
    let forgetting = get(control, FORGETTING);
    if let Some(inode) = record(forgetting) {
        state.inodes.set_lookups(inode, get(control, LEFT));
        set(control, FORGOTTEN, get(control, FORGOTTEN) + 1);
        set(control, FORGETTING, 0);
    }
}

fn take_back_answer(state: &State, control: &Control) {
    if get(control, DIRTY) == 0 {
        return;
    }
    let (begun, done) = (get(control, COUNTS_BEGUN), get(control, COUNTS_DONE));
    for (place, index) in COUNTED.zip(0..begun) {
        let entry = get(control, place);
        let Some(inode) = record((entry >> 32) + 1) else { continue };
        let lookups = state.inodes.lookups(inode);
        // The last one may have been under way; while it was, nobody else could change the number.
        if index < done || lookups & LOW != entry & LOW {
            state.inodes.set_lookups(inode, lookups.saturating_sub(1));
        }
    }
    set(control, COUNTS_BEGUN, 0);
    set(control, COUNTS_DONE, 0);
    if let Some(file) = record(get(control, OPENED)) {
        state.files.forget(file);
    }
    set(control, OPENED, 0);
}

fn record(word: u64) -> Option<RecordId> {
    u32::try_from(word.checked_sub(1)?).ok().map(RecordId::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::inode::InodeData;

    struct Dying {
        state: Arc<State>,
        slot: Slot,
    }

    impl Dying {
        fn with_a_request() -> Self {
            let state = State::new().unwrap();
            let mut slot = state.slots.take().unwrap();
            keep_for(&slot.control);
            slot.buffer[..4].copy_from_slice(&40_u32.to_ne_bytes());
            slot.control.begin();
            Self { state, slot }
        }

        fn inode(&self, lookups: u64) -> RecordId {
            let data = InodeData { node: 5, mount: 0, ino: 6, handle: None, kind: 1, pin: None };
            let id = self.state.inodes.enter(&data, 0).unwrap();
            self.state.inodes.set_lookups(id, lookups);
            id
        }

        /// The lookups that a successor finds.
        fn left(&self, id: RecordId) -> u64 {
            let heir = self.state.anew().unwrap();
            take_back(&heir, &heir.slots.left());
            heir.inodes.lookups(id)
        }
    }

    #[test]
    fn lookups_of_an_answer_that_was_not_written_down_are_taken_back_at_every_point() {
        let dying = Dying::with_a_request();
        let id = dying.inode(3);
        assert_eq!(dying.left(id), 3);
        counting(id, 3);
        assert_eq!(dying.left(id), 3, "begun");
        let dying = Dying::with_a_request();
        let id = dying.inode(3);
        counting(id, 3);
        dying.state.inodes.set_lookups(id, 4);
        assert_eq!(dying.left(id), 3, "written");
        let dying = Dying::with_a_request();
        let id = dying.inode(3);
        counting(id, 3);
        dying.state.inodes.set_lookups(id, 4);
        counted();
        // By somebody else, whose answer it is.
        dying.state.inodes.set_lookups(id, 5);
        assert_eq!(dying.left(id), 4, "done");
    }

    #[test]
    fn lookups_of_an_answer_that_was_written_down_stay() {
        let mut dying = Dying::with_a_request();
        let id = dying.inode(0);
        counting(id, 0);
        dying.state.inodes.set_lookups(id, 1);
        counted();
        dying.slot.open().1.write_down(&[0; 16], &[]);
        assert_eq!(dying.left(id), 1);
    }

    #[test]
    fn what_was_being_forgotten_is_forgotten_once() {
        for written in [false, true] {
            let dying = Dying::with_a_request();
            let id = dying.inode(9);
            forgetting(id, 2);
            if written {
                dying.state.inodes.set_lookups(id, 2);
            }
            assert_eq!(dying.left(id), 2);
            assert_eq!(forgotten(), 1, "the successor goes on with the next");
        }
    }

    #[test]
    fn a_journal_ends_with_its_request() {
        let mut dying = Dying::with_a_request();
        note(1, 77);
        assert_eq!((noted(1), noted(0), is_replay()), (Some(77), None, false));
        dying.slot.control.begin();
        assert!(is_replay());
        dying.slot.clear();
        assert_eq!((noted(1), is_replay()), (None, false));
    }

    #[test]
    fn a_lookup_that_will_not_be_answered_is_not_taken_back_twice() {
        let dying = Dying::with_a_request();
        let id = dying.inode(3);
        counting(id, 3);
        dying.state.inodes.set_lookups(id, 4);
        counted();
        uncount();
        dying.state.inodes.set_lookups(id, 3);
        assert_eq!(dying.left(id), 3);
    }

    #[test]
    fn there_is_room_for_a_listing_of_a_whole_batch() {
        let dying = Dying::with_a_request();
        let id = dying.inode(0);
        let mut counts = 0_u64;
        while has_room_to_count() {
            counting(id, counts);
            counts += 1;
            dying.state.inodes.set_lookups(id, counts);
            counted();
        }
        assert!(counts > 1500, "{counts}");
        assert_eq!(dying.left(id), 0);
    }
}
