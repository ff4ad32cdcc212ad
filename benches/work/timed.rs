//! Work by the clock: nanoseconds each, as criterion measures them.

use std::time::{Duration, Instant};

use criterion::Criterion;

use crate::work::{BATCH, Work};

/// A second each: preparing takes longer than what is measured.
pub fn config() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

/// How often a batch may be done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Batches {
    /// Again and again: it makes nothing.
    Lasting,
    /// Once.
    Fresh,
}

/// Measures a list of work, one batch after the other; what a batch needs and leaves is outside of its time.
pub fn measure(criterion: &mut Criterion, list: &[Work], batches: Batches) {
    for work in list {
        criterion.bench_function(work.name, |bencher| {
            bencher.iter_custom(|wanted| {
                let wanted_batches = wanted.div_ceil(u64::from(BATCH));
                let mut batch = (work.prepare)();
                let mut taken = Duration::ZERO;
                for number in 0..wanted_batches {
                    if number > 0 && batches == Batches::Fresh {
                        batch = (work.prepare)();
                    }
                    let clock = Instant::now();
                    batch();
                    taken += clock.elapsed();
                }
                // Whole batches only: their part of what was asked for.
                taken.mul_f64(wanted as f64 / (wanted_batches * u64::from(BATCH)) as f64)
            });
        });
    }
}
