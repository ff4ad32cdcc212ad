//! A slot's claims, words and pipes, and what a successor finds in them.

use std::os::fd::AsFd;

use super::*;
use crate::state::State;

fn request(slot: &mut Slot, length: u32) {
    slot.buffer[..4].copy_from_slice(&length.to_ne_bytes());
}

#[test]
fn a_request_is_found_until_it_is_over() {
    let state = State::new().unwrap();
    let mut slot = state.slots.take().unwrap();
    assert!(state.anew().unwrap().slots.left().is_empty());
    request(&mut slot, 56);
    let left = state.anew().unwrap().slots.left();
    assert_eq!(left.iter().map(Slot::left).collect::<Vec<_>>(), [Left::Request(56)]);
    slot.clear();
    assert!(state.anew().unwrap().slots.left().is_empty());
}

#[test]
fn an_answer_that_was_written_down_is_found_short_or_long() {
    let state = State::new().unwrap();
    let mut slot = state.slots.take().unwrap();
    for body in [0, 1, SHORT - HEAD, SHORT - HEAD + 1, 1 << 20] {
        request(&mut slot, 40);
        slot.buffer[4096..][..body].fill(7);
        let (buffer, ledger) = slot.open();
        ledger.write_down(&[1; HEAD], &buffer[4096..][..body]);
        let mut expected = vec![1; HEAD];
        expected.resize(HEAD + body, 7);
        assert_eq!(state.anew().unwrap().slots.left()[0].left(), Left::Answer(expected), "{body}");
        slot.clear();
    }
}

#[test]
fn a_request_that_was_on_its_way_by_a_pipe_arrives_at_the_successor() {
    let state = State::new().unwrap();
    let mut slot = state.slots.take().unwrap();
    let way = slot.way(1 << 20).unwrap();
    let message: Vec<u8> = [200_000_u32.to_ne_bytes().as_slice(), &[7; 200_000 - 4]].concat();
    for arrived in [0, 4, 100_000, 200_000] {
        let (from, mut kernel) = std::io::pipe().unwrap();
        let sent = message.clone();
        let sender = std::thread::spawn(move || std::io::Write::write_all(&mut kernel, &sent).unwrap());
        let mut on_its_way = 0;
        while on_its_way < message.len() {
            on_its_way += way.pipe.fill(from.as_fd(), 1 << 20).unwrap();
        }
        sender.join().unwrap();
        way.pipe.drain(&mut slot.buffer[..arrived]).unwrap();
        let heir = state.anew().unwrap();
        let mut left = heir.slots.left();
        assert_eq!(left.iter().map(Slot::left).collect::<Vec<_>>(), [Left::Request(200_000)], "{arrived}");
        assert!(left[0].buffer[..200_000] == message);
        assert_eq!(heir.slots.descriptors(), way.pipe.numbers(), "also of a slot that somebody has");
        left[0].clear();
    }
    drop(way);
    assert!(state.slots.descriptors().is_empty());
}

#[test]
fn a_long_answer_from_elsewhere_is_not_written_down() {
    let state = State::new().unwrap();
    let mut slot = state.slots.take().unwrap();
    request(&mut slot, 40);
    slot.open().1.write_down(&[1; HEAD], &vec![0; SHORT]);
    assert_eq!(slot.left(), Left::Request(40));
}

#[test]
fn there_are_as_many_slots_as_said() {
    let state = State::new().unwrap();
    let taken: Vec<_> = (0..MAX_SLOTS).map(|_| state.slots.take().unwrap()).collect();
    assert_eq!(state.slots.take().unwrap_err(), Errno::EAGAIN);
    drop(taken);
}

#[test]
fn a_request_that_was_given_up_is_not_begun_again_and_the_next_one_is() {
    let state = State::new().unwrap();
    let mut slot = state.slots.take().unwrap();
    request(&mut slot, 40);
    slot.buffer[8..16].copy_from_slice(&7_u64.to_ne_bytes());
    slot.control.abandon(7);
    assert_eq!(slot.left(), Left::Abandoned);
    slot.buffer[8..16].copy_from_slice(&9_u64.to_ne_bytes());
    assert_eq!(slot.left(), Left::Request(40));
}

#[test]
fn a_slot_is_held_as_long_as_its_thread_lives_unless_that_is_in_a_call_apart() {
    let state = State::new().unwrap();
    let slot = state.slots.take().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        slot.control.belongs_to_this_thread();
        tell.send(slot).unwrap();
        let _ = wait.recv();
    });
    let slot = told.recv().unwrap();
    assert!(slot.control.is_held());
    assert_eq!(state.anew().unwrap().slots.left().len(), 1, "although nothing is in it yet");
    slot.control.set_apart(true);
    assert!(!slot.control.is_held());
    slot.control.set_apart(false);
    drop(end);
    thread.join().unwrap();
    while slot.control.is_held() {
        std::thread::yield_now();
    }
    assert!(state.anew().unwrap().slots.left().is_empty());
}
