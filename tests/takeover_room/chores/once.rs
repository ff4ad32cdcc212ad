//! O_EXCL: a name is made exactly once. Nobody else makes the names in a worker's own directory, so EEXIST there means
//! that one creation was done twice; a name that all workers try for must have exactly one winner.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::path::PathBuf;

use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::Chore;

/// So many names stay before the oldest is removed.
const KEPT: usize = 16;
/// So many names are raced for; they stay until the end, when they are counted.
const MOST_RACES: u64 = 5_000;

pub struct Once {
    directory: PathBuf,
    next: u64,
    kept: VecDeque<u64>,
    races: u64,
}

/// The name that all workers try for in their `number`th race.
pub fn race_name(number: u64) -> String {
    format!("race-{number}")
}

impl Once {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, next: 0, kept: VecDeque::new(), races: 0 }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("once-{number}"))
    }

    fn make(&mut self, desk: &Desk) -> Outcome {
        let path = self.path(self.next);
        let file = desk.create(&path)?;
        desk.write(&file, &path, self.next.to_string().as_bytes())?;
        desk.close(file, &path)?;
        desk.journal.must_not("create again", &path, &[libc::EEXIST], || {
            OpenOptions::new().write(true).create_new(true).open(&path)
        })?;
        self.kept.push_back(self.next);
        self.next += 1;
        if self.kept.len() > KEPT { self.remove_oldest(desk) } else { Ok(()) }
    }

    fn remove_oldest(&mut self, desk: &Desk) -> Outcome {
        let Some(number) = self.kept.pop_front() else { return Ok(()) };
        let path = self.path(number);
        desk.read_back(&path, number.to_string().as_bytes())?;
        desk.remove(&path)?;
        desk.absent(&path)
    }

    fn race(&mut self, desk: &Desk) -> Outcome {
        let path = desk.shared.join(race_name(self.races));
        let made = desk.journal.may("create in a race", &path, libc::EEXIST, || {
            OpenOptions::new().write(true).create_new(true).open(&path)
        })?;
        self.races += 1;
        let won = u64::from(made.is_some());
        made.map_or(Ok(()), |file| desk.close(file, &path))?;
        desk.journal.count(|counts| {
            counts.races = counts.races.max(self.races);
            counts.races_won += won;
        });
        Ok(())
    }
}

impl Chore for Once {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        // From the beginning again only after a fault: then the names are there, and none is won twice.
        if self.races < MOST_RACES {
            self.race(desk)?;
        }
        self.make(desk)
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        while !self.kept.is_empty() {
            self.remove_oldest(desk)?;
        }
        Ok(())
    }
}
