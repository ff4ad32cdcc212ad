//! A file in memory, mapped shared.
#![allow(unsafe_code)]

use std::fs::File;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Lends the first `length` bytes of `file`, mapped shared for reading and writing.
pub fn with_shared_mapping(file: &File, length: usize, work: impl FnOnce(&mut [u8])) {
    let flags = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a fresh mapping at an address that the kernel chooses overlaps nothing.
    let start = unsafe { mmap(std::ptr::null_mut(), length, flags, MapFlags::SHARED, file, 0) }.unwrap();
    // SAFETY: the mapping is `length` bytes long, lives until the munmap below, and nobody truncates the test's file.
    work(unsafe { std::slice::from_raw_parts_mut(start.cast(), length) });
    // SAFETY: the mapping from above; the slice has ended.
    unsafe { munmap(start, length) }.unwrap();
}
