//! The request that a thread has in hand: read from the kernel straight into shared memory, so that it is still there
//! when the thread is not.
//!
//! A slot is empty exactly while its message has the length 0. The kernel writes that length with the message; the thread
//! takes it back when the request is over. An answer is written down before it is sent: where one stands, only the sending
//! may have to be done again, which the kernel refuses with ENOENT if it was.

use std::ops::Range;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::journal::MAX_EVIDENCE;
use super::layout::{MAX_SLOTS, PAGE, SLOT, SLOT_BUFFER, SLOT_CONTROL, SLOTS};
use super::{fd_word, word_fd};
use crate::sys::pipe::{self, Pipe};
use crate::sys::shared_memory::{SharedBytes, SharedMemory, SharedWords};
use crate::sys::thread::ThreadMark;
use crate::sys::{Errno, fault};

/// Where the words of a slot's control part lie. The journal's are in `journal`.
pub(super) const ANSWER_LENGTH: usize = 0;
const ANSWER_PLACE: usize = 1;
pub(super) const ATTEMPTS: usize = 2;
/// The answer itself, where it is short.
const ANSWER: Range<usize> = 64..192;
/// The number of a request that was given up. Numbers are never used again, so it is never taken back.
const ABANDONED: usize = 63;
/// The thread whose requests these are, and whether it is in a call that has nothing to do with the slot. Versions that did
/// not know of them left 0, which says nothing.
const THREAD: usize = 62;
const APART: usize = 61;
/// The ends of the pipe by which the slot's requests come, where they do ([`Way`]): descriptors as half words.
const PIPE: usize = 60;
/// Words that the journal may use.
pub(super) const JOURNAL: Range<usize> = 3..60;
pub(super) const COUNTED: Range<usize> = 192..SLOT_CONTROL / 8;

/// Bytes of an answer's head (`struct fuse_out_header`).
const HEAD: usize = 16;
/// The longest answer that is copied: head and body.
const SHORT: usize = (ANSWER.end - ANSWER.start) * 8;

/// The slots of a mount.
#[derive(Debug)]
pub struct Slots {
    memory: Arc<SharedMemory>,
    /// How many have ever been taken: the memory of the others was never touched.
    used: SharedWords,
    /// Those that some thread of this process has.
    taken: Mutex<Vec<Option<Arc<Control>>>>,
    /// The evidence in those in which something was left.
    noted: Mutex<Vec<[u64; MAX_EVIDENCE]>>,
}

/// One slot, which the thread that has it never gives back.
#[derive(Debug)]
pub struct Slot {
    /// For the request, and for what is made in answer to it.
    pub buffer: SharedBytes,
    /// What is known of it.
    pub control: Arc<Control>,
}

/// What is known of the request in a slot.
#[derive(Debug)]
pub struct Control {
    words: SharedWords,
}

/// The pipe by which a slot's requests come from the kernel. What is in it when its thread dies is read by a successor.
#[derive(Debug)]
pub struct Way {
    pipe: Pipe,
    control: Arc<Control>,
}

impl Way {
    /// Waits for a request of `from`, and reads it into the slot's buffer.
    ///
    /// # Errors
    /// Those of reading `from`.
    pub fn receive(&self, from: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
        let length = self.pipe.fill(from, buffer.len())?;
        fault::point!("slot: a request is on its way");
        self.pipe.drain(&mut buffer[..length])
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        // Before the numbers are another's.
        self.control.words[PIPE].store(0, Ordering::Release);
    }
}

/// Where the answer to the request in hand is written down.
#[derive(Debug)]
pub struct Ledger<'a> {
    control: &'a Control,
    /// The addresses of the slot's buffer.
    buffer: Range<usize>,
}

impl Ledger<'_> {
    /// Writes down an answer that is about to be sent, head and body. A long body must lie in the slot's buffer; else it is not
    /// written down, and a successor would do the request again.
    pub fn write_down(&self, head: &[u8; HEAD], body: &[u8]) {
        self.control.write_down(head, body, &self.buffer);
    }
}

/// What a dead worker has left in a slot.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Empty,
    /// A request of so many bytes, at whose start the buffer stands, not yet answered.
    Request(usize),
    /// An answer that may not have been sent.
    Answer(Vec<u8>),
    /// A request for which somebody else than its worker answers, since its caller is dying: it is not to be done again.
    Abandoned,
}

impl Slots {
    pub(super) fn new(memory: Arc<SharedMemory>, used: SharedWords) -> Self {
        Self { memory, used, taken: Mutex::new(vec![None; MAX_SLOTS]), noted: Mutex::default() }
    }

    /// A slot for the calling thread, whatever is left in it.
    ///
    /// # Errors
    /// EAGAIN where all are taken.
    pub fn take(&self) -> Result<Slot, Errno> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let index = taken.iter().position(Option::is_none).ok_or(Errno::EAGAIN)?;
        let mut slot = self.slot(index).ok_or(Errno::EAGAIN)?;
        taken[index] = Some(Arc::clone(&slot.control));
        self.used[0].fetch_max(u64::try_from(index + 1).unwrap_or_default(), Ordering::Release);
        if slot.left() == Left::Empty {
            // Whoever had it may have died before it had cleared all of it.
            slot.clear();
        }
        Ok(slot)
    }

    /// The slots in which something was left, or may be yet ([`Control::is_held`]), before any thread takes one.
    #[must_use]
    pub fn left(&self) -> Vec<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = Vec::new();
        let used = usize::try_from(self.used[0].load(Ordering::Acquire)).unwrap_or_default();
        for (index, taken) in taken.iter_mut().enumerate().take(used) {
            let Some(mut slot) = self.slot(index) else { continue };
            let is_held = slot.control.is_held();
            if !is_held {
                slot.arrive();
            }
            if slot.message_length() > 0 || is_held {
                *taken = Some(Arc::clone(&slot.control));
                let noted = super::journal::evidence(&slot.control);
                self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
                left.push(slot);
            }
        }
        left
    }

    /// What the requests that a dead worker has left noted as one piece of evidence, with each other.
    #[must_use]
    pub fn noted(&self, piece: usize) -> Vec<u64> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().filter_map(|pieces| pieces.get(piece).copied()).filter(|value| *value != 0).collect()
    }

    /// Descriptors of the pipes by which requests come.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let used = usize::try_from(self.used[0].load(Ordering::Acquire)).unwrap_or_default();
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = |index: usize| match taken.get(index)? {
            Some(control) => control.pipe(),
            None => self.slot(index)?.control.pipe(),
        };
        (0..used).filter_map(pipe).flatten().collect()
    }

    /// The pipes were of processes that are gone. Whether a request may have been lost with one is what [`Self::have_pipes`] tells.
    pub(super) fn disown(&self) {
        let used = usize::try_from(self.used[0].load(Ordering::Acquire)).unwrap_or_default();
        let slots = (0..used).filter_map(|index| self.slot(index));
        slots.for_each(|slot| slot.control.words[PIPE].store(0, Ordering::Release));
    }

    /// Whether requests come by pipes ([`Way`]), so that one may be nowhere else.
    #[must_use]
    pub fn have_pipes(&self) -> bool {
        !self.descriptors().is_empty()
    }

    fn slot(&self, index: usize) -> Option<Slot> {
        let at = SLOTS.at + PAGE + index * SLOT;
        let control = Arc::new(Control { words: self.memory.words(at, SLOT_CONTROL / 8)? });
        Some(Slot { buffer: self.memory.bytes(at + SLOT_CONTROL, SLOT_BUFFER)?, control })
    }
}

impl Slot {
    /// What is left in it.
    #[must_use]
    pub fn left(&self) -> Left {
        match self.message_length() {
            0 => Left::Empty,
            _ if self.request().is_some_and(|request| self.control.is_abandoned(request)) => Left::Abandoned,
            length => self.control.answer(&self.buffer).map_or(Left::Request(length), Left::Answer),
        }
    }

    /// The pipe by which its requests come from now on, for `capacity` bytes: the one that a dead worker had, or a new one.
    ///
    /// # Errors
    /// Those of [`Pipe::new`].
    pub fn way(&self, capacity: i32) -> Result<Way, Errno> {
        let control = Arc::clone(&self.control);
        let pipe = match control.pipe().map(Pipe::left) {
            Some(Ok(pipe)) => pipe,
            Some(Err(_)) | None => Pipe::new(capacity)?,
        };
        fault::point!("slot: before its pipe");
        let [reader, writer] = pipe.numbers().map(fd_word);
        control.words[PIPE].store(writer << 32 | reader, Ordering::Release);
        Ok(Way { pipe, control })
    }

    /// Reads what was on its way to a worker that has died since.
    pub fn arrive(&mut self) {
        let Some(pipe) = self.control.pipe() else { return };
        let mut rest = vec![0; self.buffer.len()];
        let length = pipe::drain_left(pipe, &mut rest).unwrap_or(0);
        // It is the end of a message of which the beginning, where there is one, says how long it is.
        let begin = self.message_length().saturating_sub(length);
        if length > 0
            && let Some(place) = self.buffer.get_mut(begin..begin + length)
        {
            place.copy_from_slice(&rest[..length]);
        }
    }

    /// Its buffer, and where the answer is written down.
    pub fn open(&mut self) -> (&mut [u8], Ledger<'_>) {
        let begin = self.buffer.as_ptr().addr();
        let buffer = begin..begin + self.buffer.len();
        (&mut self.buffer, Ledger { control: &self.control, buffer })
    }

    /// The request is over: what is read next is another.
    pub fn clear(&mut self) {
        // First, and by itself: without a message nothing else in the slot means anything.
        if let Some(length) = self.buffer.first_chunk_mut::<4>() {
            fault::point!("slot: before it is empty");
            *length = [0; 4];
        }
        fault::point!("slot: empty");
        self.control.clear();
        fault::point!("slot: clear");
    }

    /// The number of the request in it (`unique` in `struct fuse_in_header`).
    #[must_use]
    pub fn request(&self) -> Option<u64> {
        let number = self.buffer.get(8..16)?.first_chunk::<8>().copied().map(u64::from_ne_bytes);
        number.filter(|_| self.message_length() > 0)
    }

    /// The length that the message in the buffer says it has; 0 where there is none.
    fn message_length(&self) -> usize {
        let length = self.buffer.first_chunk::<4>().map_or(0, |length| u32::from_ne_bytes(*length));
        usize::try_from(length).unwrap_or(0).min(self.buffer.len())
    }
}

impl Control {
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }

    /// Somebody else is about to answer this request: whoever takes over must not begin it again.
    pub fn abandon(&self, request: u64) {
        self.words[ABANDONED].store(request, Ordering::Release);
    }

    fn is_abandoned(&self, request: u64) -> bool {
        // None is numbered 0: that would be a notification.
        request != 0 && self.words[ABANDONED].load(Ordering::Acquire) == request
    }

    /// From now on the calling thread works on what is read into the slot.
    pub fn belongs_to_this_thread(&self) {
        let mark = ThreadMark::of_this_thread().map_or(0, ThreadMark::to_word);
        self.words[THREAD].store(mark, Ordering::Release);
        self.set_apart(false);
    }

    pub(super) fn set_apart(&self, apart: bool) {
        self.words[APART].store(u64::from(apart), Ordering::Release);
    }

    /// Whether a thread of a dead worker is still in the system call that it was killed in: that call may yet change the
    /// export, and read or write the slot's buffer. Once false it stays so.
    ///
    /// To be asked by whoever takes over, after [`crate::sys::thread::threads_that_cannot_end`] has told of the dead
    /// worker: then its threads do nothing but end that call.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.words[APART].load(Ordering::Acquire) == 0
            && ThreadMark::from_word(self.words[THREAD].load(Ordering::Acquire))
                .is_some_and(ThreadMark::is_alive)
    }

    fn pipe(&self) -> Option<[RawFd; 2]> {
        let word = self.words[PIPE].load(Ordering::Acquire);
        Some([word_fd(word)?, word_fd(word >> 32)?])
    }

    /// Counts the tries at this request, of this process and of those before it: 1 for the first.
    pub fn begin(&self) -> u64 {
        fault::point!("slot: before it is begun");
        let tries = self.words[ATTEMPTS].load(Ordering::Relaxed) + 1;
        self.words[ATTEMPTS].store(tries, Ordering::Release);
        fault::point!("slot: begun");
        tries
    }

    fn write_down(&self, head: &[u8; HEAD], body: &[u8], buffer: &Range<usize>) {
        let length = HEAD + body.len();
        self.put(ANSWER.start, head);
        let place = if length <= SHORT {
            self.put(ANSWER.start + HEAD / 8, body);
            0
        } else {
            let begin = body.as_ptr().addr();
            if begin < buffer.start || begin + body.len() > buffer.end {
                return;
            }
            begin - buffer.start
        };
        let as_word = |number: usize| u64::try_from(number).unwrap_or_default();
        self.words[ANSWER_PLACE].store(as_word(place), Ordering::Relaxed);
        fault::point!("slot: before the answer");
        self.words[ANSWER_LENGTH].store(as_word(length), Ordering::Release);
        fault::point!("slot: the answer");
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        for (word, chunk) in self.words[at..].iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
    }

    fn answer(&self, buffer: &[u8]) -> Option<Vec<u8>> {
        let number = |index: usize| usize::try_from(self.words[index].load(Ordering::Acquire)).ok();
        let length = number(ANSWER_LENGTH).filter(|length| *length >= HEAD)?;
        let short = self.words[ANSWER].iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        if length <= SHORT {
            return Some(short.take(length).collect());
        }
        let mut answer: Vec<u8> = short.take(HEAD).collect();
        let place = number(ANSWER_PLACE)?;
        answer.extend(buffer.get(place..place + (length - HEAD))?);
        Some(answer)
    }

    fn clear(&self) {
        self.words[ANSWER_LENGTH].store(0, Ordering::Release);
        fault::point!("slot: half clear");
        self.words[ATTEMPTS].store(0, Ordering::Relaxed);
        self.words[super::journal::DIRTY].store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
