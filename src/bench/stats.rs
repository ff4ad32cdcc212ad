//! Median and range: what a handful of rounds can honestly say. No mean, which one hiccup of a server would own.

use serde::Serialize;

/// The middle and the ends of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half lie below it; of an even count, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these numbers; `None` of none.
    #[must_use]
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        // Halved before it is added: two large numbers must not become infinite.
        let median = if sorted.len() % 2 == 1 { upper } else { lower / 2.0 + upper / 2.0 };
        Some(Self { median: median.clamp(lower, upper), min: *sorted.first()?, max: *sorted.last()? })
    }
}
