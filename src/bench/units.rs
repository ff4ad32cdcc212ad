//! Numbers as people read them: three digits, and the unit that fits.

use super::row::Unit;
use super::stats::Spread;

const TIMES: [(f64, &str); 4] = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")];
const RATES: [(f64, &str); 4] = [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")];

/// A rate: bytes per second as such, operations per second as the time that one takes.
pub(super) fn rate(unit: Unit, per_second: f64) -> String {
    match unit {
        Unit::Bytes => scaled(per_second, &RATES),
        Unit::Operations => scaled(per_second.recip(), &TIMES),
    }
}

/// From the smallest to the largest number shown: the fastest operation takes the least time.
pub(super) fn rates(unit: Unit, spread: Spread) -> String {
    let (low, high) = match unit {
        Unit::Bytes => (spread.min, spread.max),
        Unit::Operations => (spread.max, spread.min),
    };
    format!("{}..{}", rate(unit, low), rate(unit, high))
}

/// A ratio: 1.00 is as fast as native.
pub(super) fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// The largest unit of which there is at least one, or the smallest there is.
fn scaled(number: f64, units: &[(f64, &str)]) -> String {
    // What rounds up to 1000 of a unit is 1 of the next.
    let fits = |(size, _): &&(f64, &str)| number / size >= 0.9995;
    let (size, name) = units.iter().find(fits).or(units.last()).copied().unwrap_or((1.0, ""));
    let number = number / size;
    let digits = if number < 9.995 {
        2
    } else if number < 99.95 {
        1
    } else {
        0
    };
    format!("{number:.digits$} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_unit_that_fits() {
        for (number, text) in [
            (1.5e9, "1.50 GB/s"),
            (12.34e6, "12.3 MB/s"),
            (999_900_000.0, "1.00 GB/s"),
            (123_456.0, "123 kB/s"),
            (0.5, "0.50 B/s"),
        ] {
            assert_eq!(rate(Unit::Bytes, number), text);
        }
        for (per_second, text) in [(1e6, "1.00 µs"), (2e3, "500 µs"), (0.5, "2.00 s"), (4e8, "2.50 ns")] {
            assert_eq!(rate(Unit::Operations, per_second), text);
        }
    }

    #[test]
    fn of_times_the_shortest_comes_first() {
        let spread = Spread { median: 2e3, min: 1e3, max: 4e3 };
        assert_eq!(rates(Unit::Operations, spread), "250 µs..1.00 ms");
        assert_eq!(rates(Unit::Bytes, spread), "1.00 kB/s..4.00 kB/s");
    }
}
