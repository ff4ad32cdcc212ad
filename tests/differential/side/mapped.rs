//! Reading and writing a file through a mapping that is there for one step.
#![allow(unsafe_code)]

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::{ptr, slice};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// The bytes in this range, which must lie in the file.
pub(super) fn read(file: BorrowedFd<'_>, range: Range<usize>) -> Result<Vec<u8>, Errno> {
    with_mapping(file, range.end, ProtFlags::READ, MapFlags::PRIVATE, |start| {
        // SAFETY: the mapping is range.end bytes long, and nobody truncates the file while a step runs.
        let bytes: &[u8] = unsafe { slice::from_raw_parts(start, range.end) };
        bytes[range].to_vec()
    })
}

/// Each byte in this range, which must lie in the file, becomes `byte`, and is written back before the mapping goes.
pub(super) fn fill(file: BorrowedFd<'_>, range: Range<usize>, byte: u8) -> Result<(), Errno> {
    with_mapping(file, range.end, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, |start| {
        // SAFETY: the range lies in the mapping, and nobody else knows of it.
        unsafe { ptr::write_bytes(start.add(range.start), byte, range.len()) };
        // SAFETY: the mapping itself, which begins at a page.
        unsafe { msync(start.cast(), range.end, MsyncFlags::SYNC) }
    })?
}

fn with_mapping<T>(
    file: BorrowedFd<'_>,
    length: usize,
    protection: ProtFlags,
    flags: MapFlags,
    work: impl FnOnce(*mut u8) -> T,
) -> Result<T, Errno> {
    // SAFETY: a fresh mapping at an address that the kernel chooses overlaps nothing.
    let start = unsafe { mmap(ptr::null_mut(), length, protection, flags, file, 0) }?;
    let done = work(start.cast());
    // SAFETY: the mapping from above; what `work` made of it has ended.
    unsafe { munmap(start, length) }?;
    Ok(done)
}
