//! Memory that outlives the process that wrote to it: a memfd, mapped by whoever holds its descriptor.
//!
//! It is handed out in claims, each range of it to one owner at a time: words, which any process may read and write at any time, or bytes,
//! which belong to one owner alone.

use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::{Whence, ftruncate, lseek};

use super::Errno;

/// Bytes of a page. Where pages are larger, what is given back by this is refused (EINVAL), and stays.
const PAGE: usize = 4096;
/// Bytes in a word.
const WORD: usize = size_of::<AtomicU64>();

/// A shared mapping of a memfd. Pages that were never written to take no memory.
#[derive(Debug)]
pub struct SharedMemory {
    fd: OwnedFd,
    base: NonNull<u8>,
    length: usize,
    /// The ranges given out: begin and end.
    claimed: Mutex<Vec<(usize, usize)>>,
}

// SAFETY: the mapping is reached only through claims, which do not overlap; words are atomics, and bytes have one owner.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

/// A claim of words.
#[derive(Debug)]
pub struct SharedWords {
    memory: Arc<SharedMemory>,
    at: usize,
    count: usize,
}

/// A claim of bytes, whose only user this is.
#[derive(Debug)]
pub struct SharedBytes {
    memory: Arc<SharedMemory>,
    at: usize,
    length: usize,
}

impl SharedMemory {
    /// `length` zeros, sealed at that length, under a name that `/proc/PID/maps` shows.
    ///
    /// # Errors
    /// Those of memfd_create(2) and mmap(2): ENOMEM, EMFILE.
    pub fn new(name: &str, length: usize) -> Result<Arc<Self>, Errno> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&fd, libc::off_t::try_from(length).map_err(|_beyond| Errno::EINVAL)?)?;
        // A mapping whose file shrinks is a mapping that kills its reader.
        let sealed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(sealed))?;
        Self::map(fd)
    }

    /// What another process made.
    ///
    /// # Errors
    /// Those of fstat(2) and mmap(2); EPERM where it may still shrink.
    pub fn map(fd: OwnedFd) -> Result<Arc<Self>, Errno> {
        let seals = SealFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GET_SEALS)?);
        if !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(Errno::EPERM);
        }
        let length = usize::try_from(fstat(&fd)?.st_size).map_err(|_negative| Errno::EINVAL)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at an address of the kernel's choice, of a file that cannot shrink.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let base = NonNull::new(base.cast()).ok_or(Errno::ENOMEM)?;
        Ok(Arc::new(Self { fd, base, length, claimed: Mutex::default() }))
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// `count` words from byte `at` on. None where they are not there, not aligned, or given out already.
    #[must_use]
    pub fn words(self: &Arc<Self>, at: usize, count: usize) -> Option<SharedWords> {
        if !at.is_multiple_of(WORD) {
            return None;
        }
        self.claim(at, count.checked_mul(WORD)?)?;
        Some(SharedWords { memory: Arc::clone(self), at, count })
    }

    /// `length` bytes from byte `at` on. None where they are not there, or given out already.
    #[must_use]
    pub fn bytes(self: &Arc<Self>, at: usize, length: usize) -> Option<SharedBytes> {
        self.claim(at, length)?;
        Some(SharedBytes { memory: Arc::clone(self), at, length })
    }

    fn claim(&self, at: usize, length: usize) -> Option<()> {
        let end = at.checked_add(length).filter(|end| *end <= self.length)?;
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.iter().any(|&(begin, over)| at < over && begin < end) {
            return None;
        }
        claimed.push((at, end));
        Some(())
    }

    fn unclaim(&self, at: usize) {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).retain(|&(begin, _)| begin != at);
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: this mapping is ours, and claims keep it alive. That it cannot be unmapped would be a leak and no more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        self.memory.unclaim(self.at);
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        self.memory.unclaim(self.at);
    }
}

impl SharedWords {
    /// Gives the memory of these words back to the system; they read as 0. Only whole pages, and only words that nobody uses.
    ///
    /// # Errors
    /// Those of madvise(2) with MADV_REMOVE; nothing has changed then.
    pub fn give_back(&self, words: Range<usize>) -> Result<(), Errno> {
        let (begin, end) = self.whole_pages(&words);
        if begin >= end {
            return Ok(());
        }
        // SAFETY: the range lies within the mapping. What it held is zeros afterwards, as it was before it was first written to, and
        // words are atomics: whoever looks at one sees the one or the other.
        let answer = unsafe {
            libc::madvise(self.memory.base.as_ptr().add(begin).cast(), end - begin, libc::MADV_REMOVE)
        };
        super::check(answer.into()).map(drop)
    }

    /// Whether any of these words takes memory. To look at one that does not would make it take some.
    #[must_use]
    pub fn take_memory(&self, words: Range<usize>) -> bool {
        let offset = |word: usize| libc::off_t::try_from(self.at + word * WORD).unwrap_or(libc::off_t::MAX);
        match lseek(&self.memory.fd, offset(words.start), Whence::SeekData) {
            Ok(data) => data < offset(words.end),
            // ENXIO: there is nothing from here to the end. Where it is not known, it is looked at.
            Err(error) => error != nix::errno::Errno::ENXIO,
        }
    }

    /// In bytes of the mapping.
    fn whole_pages(&self, words: &Range<usize>) -> (usize, usize) {
        let end = words.end.min(self.count);
        let begin = (self.at + words.start * WORD).next_multiple_of(PAGE);
        (begin, (self.at + end * WORD) / PAGE * PAGE)
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the range lies within the mapping, is aligned, is claimed as words only, and lives as long as `memory`.
        // Whoever else maps it uses it as words, too.
        unsafe { std::slice::from_raw_parts(self.memory.base.as_ptr().add(self.at).cast(), self.count) }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies within the mapping, is nobody else's claim, and lives as long as `memory`. Another
        // process touches it only after this one has died.
        unsafe { std::slice::from_raw_parts(self.memory.base.as_ptr().add(self.at), self.length) }
    }
}

impl DerefMut for SharedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for reading, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.memory.base.as_ptr().add(self.at), self.length) }
    }
}

impl SharedBytes {
    /// Makes the pages of the first `length` bytes present, so that the kernel can copy to them without a fault on the way. Changes
    /// nothing.
    pub fn populate(&mut self, length: usize) {
        let length = length.min(self.len());
        for page in self[..length].chunks_mut(PAGE) {
            // SAFETY: one byte of a range that is exclusively ours, read and written back; volatile, or it would be
            // optimised away.
            unsafe { ptr::write_volatile(page.as_mut_ptr(), ptr::read_volatile(page.as_ptr())) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_mapping_writes_another_reads() {
        let ours = SharedMemory::new("test", 1 << 16).unwrap();
        let theirs = SharedMemory::map(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        ours.words(4096, 2).unwrap()[1].store(7, Ordering::Relaxed);
        assert_eq!(theirs.words(4096, 2).unwrap()[1].load(Ordering::Relaxed), 7);
        ours.bytes(8192, 3).unwrap().copy_from_slice(b"abc");
        assert_eq!(&*theirs.bytes(8192, 3).unwrap(), b"abc");
    }

    #[test]
    fn no_range_is_given_out_twice_and_none_that_is_not_there() {
        let memory = SharedMemory::new("test", 4096).unwrap();
        let held = memory.words(64, 8).unwrap();
        assert!(memory.words(120, 1).is_none());
        assert!(memory.bytes(127, 2).is_none());
        assert!(memory.words(0, 8).is_some());
        assert!(memory.words(129, 1).is_none(), "not aligned");
        assert!(memory.bytes(4000, 97).is_none());
        assert!(memory.words(4096 - 8, 2).is_none());
        drop(held);
        assert!(memory.bytes(127, 2).is_some(), "it was given back");
    }

    #[test]
    fn a_file_that_may_shrink_is_not_mapped() {
        let fd = memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&fd, 4096).unwrap();
        assert_eq!(SharedMemory::map(fd).unwrap_err(), Errno::EPERM);
    }

    #[test]
    fn words_that_were_given_back_take_no_memory_and_are_zero() {
        let memory = SharedMemory::new("test", 1 << 16).unwrap();
        let words = memory.words(4096, 2048).unwrap();
        assert!(!words.take_memory(0..2048));
        words.iter().for_each(|word| word.store(1, Ordering::Relaxed));
        // From within the first page to within the last: only the two between go.
        words.give_back(1..2047).unwrap();
        let taken = [0, 512, 1024, 1536].map(|word| words.take_memory(word..word + 512));
        assert_eq!(taken, [true, false, false, true]);
        assert_eq!(words.iter().map(|word| word.load(Ordering::Relaxed)).sum::<u64>(), 1024);
    }

    #[test]
    fn populating_changes_nothing() {
        let memory = SharedMemory::new("test", 1 << 14).unwrap();
        let mut bytes = memory.bytes(0, 1 << 14).unwrap();
        bytes[5] = 9;
        bytes.populate(1 << 14);
        assert_eq!(bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 9);
    }
}
