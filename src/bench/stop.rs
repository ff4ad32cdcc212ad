//! The wish to stop: a flag that signals set, and that the work looks at between operations.
//!
//! A handler can do no more than set a flag, and whatever was made has to be removed first; so nothing ends by itself.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::Halt;

/// How long a pause may go on after a signal.
const SLICE: Duration = Duration::from_millis(20);

/// Zero, or the signal's number. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// A flag that SIGINT, SIGQUIT, SIGTERM and SIGHUP set from now on; SIGHUP only where nohup(1) has not had it ignored.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        let hangup = if ignores_hangup() { None } else { Some(SIGHUP) };
        for signal in [SIGINT, SIGQUIT, SIGTERM].into_iter().chain(hangup) {
            let number = usize::try_from(signal).map_err(io::Error::other)?;
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.0), number)?;
        }
        Ok(stop)
    }

    /// Fails once a signal has come. Costs one load.
    ///
    /// # Errors
    /// [`Halt::Interrupted`].
    pub fn check(&self) -> Result<(), Halt> {
        match self.0.load(Relaxed) {
            0 => Ok(()),
            signal => Err(Halt::Interrupted { signal: i32::try_from(signal).unwrap_or(SIGINT) }),
        }
    }

    /// As if the signal had come.
    pub fn raise(&self) {
        self.0.store(2, Relaxed);
    }

    /// Waits until then, or until a signal comes.
    pub(super) fn wait_until(&self, end: Instant) -> Result<(), Halt> {
        loop {
            self.check()?;
            match end.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::sleep(left.min(SLICE)),
                _ => return Ok(()),
            }
        }
    }
}

/// `SigIgn` of /proc/self/status is a mask in which signal N is bit N - 1 (proc(5)); SIGHUP is 1.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_when_a_signal_has_come() {
        let stop = Stop::default();
        stop.raise();
        let began = Instant::now();
        let waited = stop.wait_until(began + Duration::from_secs(600));
        assert!(matches!(waited, Err(Halt::Interrupted { signal: SIGINT })));
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
