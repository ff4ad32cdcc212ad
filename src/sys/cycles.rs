//! The processor's own clock: time at the price of one instruction, where clock_gettime(2) may be a system call (user-mode
//! Linux and some hypervisors have no vDSO clock).
//!
//! It counts in a unit of its own, which whoever reads it compares with a real clock from time to time. It is good for sums
//! that nothing but a decision about speed depends on: across CPUs it may differ, and then differences come out as 0.

use std::sync::atomic::{AtomicU64, Ordering};

/// The clock's reading; its unit is the machine's own.
#[must_use]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 has RDTSC, and Linux lets user space use it unless a process asks otherwise (PR_SET_TSC).
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let count: u64;
        // SAFETY: reads a register that Linux opens to user space, and nothing else.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack, preserves_flags))
        };
        count
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        0
    }
}

/// A sum of such times, from many threads.
#[derive(Debug, Default)]
pub struct Sum(AtomicU64);

impl Sum {
    /// Adds the time from `begin` to `end`.
    pub fn add(&self, begin: u64, end: u64) {
        self.0.fetch_add(end.saturating_sub(begin), Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_while_time_does() {
        let begin = now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let end = now();
        assert!(end > begin);
        let sum = Sum::default();
        sum.add(begin, end);
        sum.add(end, begin);
        assert_eq!(sum.get(), end - begin);
    }
}
