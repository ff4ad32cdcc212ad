//! Locks held all along: POSIX and OFD byte ranges, and flock. A neighbour must be refused exactly what is held, whoever
//! serves the file system at that moment, and be given what is free.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::super::desk::Desk;
use super::super::fcntl::{Owner, flock, lock, unlock};
use super::super::journal::Outcome;
use super::Chore;

/// So many ranges per file, each of so many bytes. The first is never given up.
const RANGES: usize = 8;
const RANGE: i64 = 100;

pub struct Locks {
    posix: Ranges,
    open_file: Ranges,
    flock_path: PathBuf,
    flock_file: File,
    flocked: Flocked,
}

struct Ranges {
    owner: Owner,
    path: PathBuf,
    file: File,
    held: [bool; RANGES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flocked {
    No,
    Shared,
    Exclusive,
}

impl Locks {
    pub fn new(desk: &Desk, directory: PathBuf) -> Outcome<Self> {
        let flock_path = directory.join("flock");
        let this = Self {
            posix: Ranges::new(desk, Owner::Process, directory.join("posix"))?,
            open_file: Ranges::new(desk, Owner::OpenFile, directory.join("ofd"))?,
            flock_file: desk.create(&flock_path)?,
            flock_path,
            flocked: Flocked::Exclusive,
        };
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        desk.journal.must("flock", &this.flock_path, || flock(&this.flock_file, exclusive))?;
        Ok(this)
    }

    fn change_flock(&mut self, desk: &mut Desk) -> Outcome {
        let (flocked, operation) = *desk.dice.pick(&[
            (Flocked::No, FlockOperation::Unlock),
            (Flocked::Shared, FlockOperation::NonBlockingLockShared),
            (Flocked::Exclusive, FlockOperation::NonBlockingLockExclusive),
        ]);
        desk.journal.must("flock", &self.flock_path, || flock(&self.flock_file, operation))?;
        self.flocked = flocked;
        Ok(())
    }

    fn probe_flock(&self, desk: &Desk) -> Outcome {
        for (operation, refused) in [
            (FlockOperation::NonBlockingLockExclusive, self.flocked != Flocked::No),
            (FlockOperation::NonBlockingLockShared, self.flocked == Flocked::Exclusive),
        ] {
            let path = self.flock_path.clone();
            let attempt = move || {
                let file = OpenOptions::new().read(true).write(true).open(&path)?;
                flock(&file, operation)?;
                // The close alone would do it a moment later: by FUSE's RELEASE, for which nobody waits.
                flock(&file, FlockOperation::Unlock)
            };
            let what = if refused { "a neighbour's flock of what is held" } else { "a neighbour's flock" };
            desk.probe(what, &self.flock_path, refused, attempt)?;
        }
        Ok(())
    }
}

impl Ranges {
    fn new(desk: &Desk, owner: Owner, path: PathBuf) -> Outcome<Self> {
        let file = desk.create(&path)?;
        let mut this = Self { owner, path, file, held: [false; RANGES] };
        this.change(desk, 0)?;
        Ok(this)
    }

    fn change(&mut self, desk: &Desk, number: usize) -> Outcome {
        let start = RANGE * i64::try_from(number).unwrap();
        if self.held[number] {
            desk.journal.must("unlock", &self.path, || unlock(&self.file, self.owner, start, RANGE))?;
        } else {
            desk.journal.must("lock", &self.path, || lock(&self.file, self.owner, start, RANGE))?;
        }
        self.held[number] = !self.held[number];
        Ok(())
    }

    fn probe(&self, desk: &Desk, number: usize) -> Outcome {
        let (path, owner, refused) = (self.path.clone(), self.owner, self.held[number]);
        // A byte in the middle: the whole of a range is not the same as its ends.
        let start = RANGE * i64::try_from(number).unwrap() + RANGE / 2;
        let attempt = move || {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            lock(&file, owner, start, 1)?;
            // As with flock: an open file's locks go with RELEASE.
            unlock(&file, owner, start, 1)
        };
        let what = if refused { "a neighbour's lock of what is held" } else { "a neighbour's lock" };
        desk.probe(what, &self.path, refused, attempt)
    }

    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        let number = 1 + desk.dice.below(RANGES - 1);
        self.change(desk, number)?;
        self.probe(desk, number)?;
        self.probe(desk, 0)
    }

    fn finish(&self, desk: &Desk) -> Outcome {
        (0..RANGES).try_for_each(|number| self.probe(desk, number))
    }
}

impl Desk {
    /// What a neighbour tries with a lock must be refused, or must succeed.
    fn probe(
        &self,
        what: &'static str,
        path: &std::path::Path,
        refused: bool,
        attempt: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Outcome {
        let attempt = || self.neighbour.ask(attempt);
        if refused {
            self.journal.must_not(what, path, &[libc::EAGAIN, libc::EACCES], attempt)
        } else {
            self.journal.must(what, path, attempt)
        }
    }
}

impl Chore for Locks {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        match desk.dice.below(3) {
            0 => self.posix.turn(desk),
            1 => self.open_file.turn(desk),
            _ => {
                self.probe_flock(desk)?;
                self.change_flock(desk)?;
                self.probe_flock(desk)
            }
        }
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        self.posix.finish(desk)?;
        self.open_file.finish(desk)?;
        self.probe_flock(desk)?;
        [&self.posix.path, &self.open_file.path, &self.flock_path]
            .into_iter()
            .try_for_each(|path| desk.remove(path))
    }
}
