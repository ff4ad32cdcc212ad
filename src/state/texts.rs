//! Texts that one process leaves for another.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::shared_memory::SharedWords;

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// Why a worker could not begin: its last words.
    LastWords,
    /// What a keeper must know.
    Recipe,
    /// The program that is to take this one's place.
    Program,
    /// Why it did not.
    NotUpgraded,
}

impl Text {
    /// Bytes that there is room for.
    #[must_use]
    pub const fn room(self) -> usize {
        (WORDS - 1) * 8
    }
}

/// Words for each text: its length in bytes, and the text.
const WORDS: usize = 4096;

/// The texts of a mount.
#[derive(Debug)]
pub struct Texts {
    words: SharedWords,
}

impl Texts {
    pub(super) fn new(words: SharedWords) -> Self {
        Self { words }
    }

    /// Leaves a text; what is too long loses its end.
    pub fn leave(&self, which: Text, text: &str) {
        put(self.place(which), text);
    }

    /// The text, if there is one.
    #[must_use]
    pub fn read(&self, which: Text) -> Option<String> {
        get(self.place(which))
    }

    fn place(&self, which: Text) -> &[AtomicU64] {
        let at = (which as usize) * WORDS;
        &self.words[at..at + WORDS]
    }
}

/// The rules in force, as text. There are two places, so that one is whole while the other is written.
#[derive(Debug)]
pub struct RulesText {
    words: SharedWords,
}

impl RulesText {
    pub(super) fn new(words: SharedWords) -> Self {
        Self { words }
    }

    /// Leaves them; by one thread at a time.
    pub fn leave(&self, text: &str) {
        let next = 1 - self.words[0].load(Ordering::Acquire) % 2;
        put(self.place(next), text);
        self.words[0].store(next + 2, Ordering::Release);
    }

    /// The rules that were left, if any were.
    #[must_use]
    pub fn read(&self) -> Option<String> {
        let current = self.words[0].load(Ordering::Acquire);
        if current == 0 { None } else { get(self.place(current % 2)) }
    }

    fn place(&self, which: u64) -> &[AtomicU64] {
        let (first, second) = self.words[1..].split_at((self.words.len() - 1) / 2);
        if which == 0 { first } else { second }
    }
}

/// Writes a text; one that is too long loses its end.
fn put(words: &[AtomicU64], text: &str) {
    words[0].store(0, Ordering::Release);
    let bytes = &text.as_bytes()[..text.len().min((words.len() - 1) * 8)];
    for (word, chunk) in words[1..].iter().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
    }
    words[0].store(u64::try_from(bytes.len()).unwrap_or_default(), Ordering::Release);
}

fn get(words: &[AtomicU64]) -> Option<String> {
    let length = usize::try_from(words[0].load(Ordering::Acquire)).ok().filter(|length| *length > 0)?;
    let bytes = words[1..].iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    Some(String::from_utf8_lossy(&bytes.take(length).collect::<Vec<_>>()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn a_text_is_read_by_another_process_as_far_as_there_is_room() {
        let state = State::new().unwrap();
        let heir = state.anew().unwrap();
        assert_eq!(heir.texts.read(Text::LastWords), None);
        for text in ["a", "no such file: ä", &"x".repeat(50_000)] {
            state.texts.leave(Text::LastWords, text);
            let read = heir.texts.read(Text::LastWords).unwrap();
            assert!(
                text.starts_with(&read) && (read.len() == text.len() || read.len() == Text::LastWords.room())
            );
        }
    }

    #[test]
    fn the_rules_are_those_that_were_left_last() {
        let state = State::new().unwrap();
        let heir = state.anew().unwrap();
        assert_eq!(heir.rules.read(), None);
        for text in ["a", "bb", &"x".repeat(super::super::layout::MAX_RULES), "c"] {
            state.rules.leave(text);
            assert_eq!(heir.rules.read().as_deref(), Some(text));
        }
    }
}
