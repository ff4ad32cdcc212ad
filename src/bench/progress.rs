//! One line on a terminal's standard error that says how far a run is. Elsewhere, silence.

use std::io::{self, IsTerminal, Write};

use super::rounds::Step;

/// Characters of the bar.
const WIDTH: usize = 24;
/// Back to the beginning of the line, and clear it.
const CLEAR: &str = "\r\x1b[K";

/// The line. It is cleared when dropped.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// A line if standard error is a terminal that can clear one.
    #[must_use]
    pub fn on_terminal() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { shown: io::stderr().is_terminal() && !dumb }
    }

    /// Shows a step. Nobody waits for the terminal while something is measured: this is called between samples.
    pub fn show(&self, step: Step) {
        if self.shown {
            // A terminal that has gone away is no reason to stop; its SIGHUP is.
            let _ = write!(io::stderr(), "{CLEAR}{}", line(step));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 100")]
fn line(step: Step) -> String {
    let percent = (step.done.clamp(0.0, 1.0) * 100.0) as usize;
    let filled = percent * WIDTH / 100;
    let (full, empty) = ("█".repeat(filled), "░".repeat(WIDTH - filled));
    let phase = match step.round {
        0 => "warming up".to_owned(),
        round => format!("round {round}/{}", step.rounds),
    };
    format!("{full}{empty} {percent:>3} %  {phase}  {}", step.row.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::ROWS;

    #[test]
    fn the_bar_is_as_long_at_every_step_and_fits_a_terminal() {
        for percent in 0..=100u8 {
            let step = Step { round: 100, rounds: 100, row: &ROWS[2], done: f64::from(percent) / 100.0 };
            let line = line(step);
            assert_eq!(line.chars().filter(|&c| "█░".contains(c)).count(), WIDTH);
            assert!(line.chars().count() < 80, "{line}");
        }
    }
}
