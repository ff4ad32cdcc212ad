//! Signals as events. They are blocked in every thread, and somebody waits for them.

use std::io;
use std::thread;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use crate::sys::Errno;

/// Signals at which a process of permfs ends; at a hangup a mount without a terminal reads its rules anew instead.
const HANDLED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Blocks the signals that this process handles; must come before its first thread, which would inherit them unblocked.
///
/// # Errors
/// Those of pthread_sigmask(3).
pub fn block() -> Result<(), Errno> {
    let mut set = handled();
    // A write past the shell's `ulimit -f` is to fail with EFBIG, not to kill the process.
    set.add(Signal::SIGXFSZ);
    Ok(set.thread_block()?)
}

/// Calls `each` for every signal of [`HANDLED`] that arrives, on a thread of its own.
///
/// # Errors
/// Where the thread cannot be made.
pub fn deliver(mut each: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    let wait = move || {
        while let Ok(signal) = handled().wait() {
            each(signal);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// Raises the limits that a shell's user keeps for other programs: open files to what is allowed, file sizes to none.
pub fn raise_limits() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let _ = setrlimit(Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, getrlimit(Resource::RLIMIT_CORE).map_or(0, |(_, hard)| hard));
}

/// Them.
#[must_use]
pub fn handled() -> SigSet {
    HANDLED.into_iter().collect()
}
