//! A umask for each thread.
//!
//! The umask belongs to the `fs_struct` that threads share, together with the working directory. A thread that serves
//! requests leaves that sharing once (`unshare(CLONE_FS)`, needs no privilege) and then has its own.

use std::cell::Cell;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};

use super::Errno;

thread_local! {
    /// What this thread's own umask is; none while it still shares.
    static CURRENT: Cell<Option<Mode>> = const { Cell::new(None) };
}

/// Makes `mask` the calling thread's umask, and nobody else's. Skipped where it is already.
///
/// # Errors
/// ENOMEM, from the thread's first call only.
pub fn assume(mask: Mode) -> Result<(), Errno> {
    match CURRENT.get() {
        Some(current) if current == mask => return Ok(()),
        Some(_) => {}
        None => unshare(CloneFlags::CLONE_FS)?,
    }
    umask(mask);
    CURRENT.set(Some(mask));
    Ok(())
}
