//! A worker dies at every step of what it notes; a successor finds the right numbers.

use std::sync::Arc;

use super::*;
use crate::state::State;
use crate::state::inode::InodeData;
use crate::state::slot::Slot;

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
fn what_was_forgotten_is_not_counted_twice_by_a_death_before_it_was_noted_whole() {
    let dying = Dying::with_a_request();
    let id = dying.inode(9);
    forgetting(id, 2);
    // As `forgot`, that far.
    write(|control| set(control, FORGOTTEN, 1));
    assert_eq!(dying.left(id), 2);
    assert_eq!(forgotten(), 1, "the next is not left out");
}

#[test]
fn a_lookup_under_way_is_seen_before_another_answers_is_taken_back() {
    let mut dying = Dying::with_a_request();
    let id = dying.inode(2);
    counting(id, 2);
    dying.state.inodes.set_lookups(id, 3);
    counted();
    let mut other = dying.state.slots.take().unwrap();
    keep_for(&other.control);
    other.buffer[..4].copy_from_slice(&40_u32.to_ne_bytes());
    other.control.begin();
    counting(id, 3);
    dying.state.inodes.set_lookups(id, 4);
    assert_eq!(dying.left(id), 2, "both are taken back");
    dying.slot.clear();
}

#[test]
fn a_successor_that_dies_while_it_takes_back_lookups_takes_none_back_twice() {
    let dying = Dying::with_a_request();
    let id = dying.inode(5);
    for before in 5..8 {
        counting(id, before);
        dying.state.inodes.set_lookups(id, before + 1);
        counted();
    }
    // As `take_back_counts`, to the middle of its first step.
    write(|control| {
        set(control, COUNTED.start + 2, count(id, 7));
        set(control, COUNTS_DONE, 2);
    });
    dying.state.inodes.set_lookups(id, 7);
    assert_eq!(dying.left(id), 5);
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
