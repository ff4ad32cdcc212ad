//! The heap, where it holds more than is in use.

/// Gives memory that was freed back to the system. A C library keeps what lies between things that are in use; glibc gives
/// back whole pages of it when asked (malloc_trim(3)), others do so by themselves or not at all. Takes a moment for each gigabyte.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes a number and may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
