//! Texts that one process leaves for another.

use std::sync::atomic::Ordering;

use crate::sys::shared_memory::SharedWords;

/// Which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// Why a worker could not begin: its last words.
    LastWords,
}

/// Words for each text: its length in bytes, and the text.
const WORDS: usize = 512;

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
        let words = self.place(which);
        words[0].store(0, Ordering::Release);
        let bytes = &text.as_bytes()[..text.len().min((WORDS - 1) * 8)];
        for (word, chunk) in words[1..].iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
        words[0].store(u64::try_from(bytes.len()).unwrap_or_default(), Ordering::Release);
    }

    /// The text, if there is one.
    #[must_use]
    pub fn read(&self, which: Text) -> Option<String> {
        let words = self.place(which);
        let length = usize::try_from(words[0].load(Ordering::Acquire)).ok().filter(|length| *length > 0)?;
        let bytes = words[1..].iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        Some(String::from_utf8_lossy(&bytes.take(length).collect::<Vec<_>>()).into_owned())
    }

    fn place(&self, which: Text) -> &[std::sync::atomic::AtomicU64] {
        let at = (which as usize) * WORDS;
        &self.words[at..at + WORDS]
    }
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
        for text in ["a", "no such file: ä", &"x".repeat(10_000)] {
            state.texts.leave(Text::LastWords, text);
            let read = heir.texts.read(Text::LastWords).unwrap();
            assert!(text.starts_with(&read) && (read.len() == text.len() || read.len() > 4000));
        }
    }
}
