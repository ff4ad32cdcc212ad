//! A large directory, held open and read in small portions while names come and go in it and others work elsewhere. Names
//! that stay are shown once each, others at most once; a place once told can be gone back to (seekdir(3)).

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, seek};

use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::Chore;

/// So many names stay all along.
const STAYING: usize = 200;
/// At most so many come and go.
const MOVING: usize = 20;
/// The size of a portion, in bytes: some 30 names.
const PORTION: usize = 2048;

pub struct LargeDirectory {
    directory: PathBuf,
    stream: OwnedFd,
    /// How often each name was shown in this round.
    shown: BTreeMap<String, u32>,
    moving: BTreeSet<String>,
    /// All that were there at some time in this round.
    moved: BTreeSet<String>,
    next: u64,
}

impl LargeDirectory {
    pub fn new(desk: &Desk, directory: PathBuf) -> Outcome<Self> {
        for number in 0..STAYING {
            let path = directory.join(staying(number));
            desk.close(desk.create(&path)?, &path)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let stream = desk.journal.must("opendir", &directory, || open(&directory, flags, Mode::empty()))?;
        Ok(Self {
            directory,
            stream,
            shown: BTreeMap::new(),
            moving: BTreeSet::new(),
            moved: BTreeSet::new(),
            next: 0,
        })
    }

    /// The next portion: names, and the place after each. None at the end.
    fn portion(&self, desk: &Desk) -> Outcome<Vec<(String, u64)>> {
        desk.journal.must("getdents", &self.directory, || {
            let mut buffer = [MaybeUninit::uninit(); PORTION];
            let mut entries = RawDir::new(&self.stream, &mut buffer);
            let mut portion = Vec::new();
            while let Some(entry) = entries.next() {
                let entry = entry?;
                portion.push((entry.file_name().to_string_lossy().into_owned(), entry.next_entry_cookie()));
                if entries.is_buffer_empty() {
                    break;
                }
            }
            Ok::<_, rustix::io::Errno>(portion)
        })
    }

    fn rewind(&self, desk: &Desk, place: u64) -> Outcome {
        desk.journal.must("seekdir", &self.directory, || seek(&self.stream, SeekFrom::Start(place)).map(drop))
    }

    /// Makes or removes a name that need not stay.
    fn stir(&mut self, desk: &mut Desk) -> Outcome {
        if self.moving.len() < MOVING && desk.dice.once_in(2) {
            let name = format!("moving-{}", self.next);
            self.next += 1;
            let path = self.directory.join(&name);
            desk.close(desk.create(&path)?, &path)?;
            self.moved.insert(name.clone());
            self.moving.insert(name);
        } else if let Some(name) = self.moving.pop_first() {
            desk.remove(&self.directory.join(name))?;
        }
        Ok(())
    }

    fn end_of_round(&mut self, desk: &mut Desk) -> Outcome {
        let shown = std::mem::take(&mut self.shown);
        let complain = |what: String| Err(desk.journal.fault("list in portions", &self.directory, &what));
        for number in 0..STAYING {
            match shown.get(&staying(number)) {
                Some(1) => {}
                Some(times) => return complain(format!("{} is shown {times} times", staying(number))),
                None => return complain(format!("{} is not shown", staying(number))),
            }
        }
        for (name, times) in shown.iter().filter(|(name, _)| !name.starts_with("staying-")) {
            let known = self.moved.contains(name) || [".", ".."].contains(&&**name);
            if !(known || name.starts_with(".nfs")) {
                return complain(format!("{name} is shown, and nobody made it"));
            }
            if *times > 1 {
                return complain(format!("{name} is shown {times} times"));
            }
        }
        self.moved = self.moving.clone();
        self.rewind(desk, 0)?;
        if desk.dice.once_in(2) { self.go_back(desk) } else { Ok(()) }
    }

    /// Reads all, goes back to some place, and must be given the same rest.
    fn go_back(&self, desk: &mut Desk) -> Outcome {
        let all = self.rest(desk)?;
        let at = desk.dice.below(all.len());
        self.rewind(desk, all[at].1)?;
        let rest: Vec<_> = self.rest(desk)?.into_iter().map(|(name, _)| name).collect();
        let expected: Vec<_> = all.into_iter().skip(at + 1).map(|(name, _)| name).collect();
        if rest != expected {
            let first = rest.iter().zip(&expected).position(|(found, expected)| found != expected);
            let (found, of) = (rest.len(), expected.len());
            let missing: Vec<_> = expected.iter().filter(|name| !rest.contains(name)).collect();
            let unknown: Vec<_> = rest.iter().filter(|name| !expected.contains(name)).collect();
            let what = format!(
                "from place {at}: {found} names, not {of}; the first other one is {first:?}; missing {missing:?}, \
                 unknown {unknown:?}"
            );
            return Err(desk.journal.fault("list after seekdir", &self.directory, &what));
        }
        self.rewind(desk, 0)
    }

    fn rest(&self, desk: &Desk) -> Outcome<Vec<(String, u64)>> {
        let mut all = Vec::new();
        loop {
            let portion = self.portion(desk)?;
            if portion.is_empty() {
                all.retain(|(name, _): &(String, u64)| !name.starts_with(".nfs"));
                return Ok(all);
            }
            all.extend(portion);
        }
    }
}

impl Chore for LargeDirectory {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        let portion = self.portion(desk)?;
        if portion.is_empty() {
            return self.end_of_round(desk);
        }
        for (name, _) in portion {
            *self.shown.entry(name).or_default() += 1;
        }
        self.stir(desk)
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        let mut names: Vec<_> = (0..STAYING).map(staying).chain(std::mem::take(&mut self.moving)).collect();
        names.sort();
        desk.lists(&self.directory, &names)?;
        names.iter().try_for_each(|name| desk.remove(&self.directory.join(name)))
    }
}

fn staying(number: usize) -> String {
    format!("staying-{number:04}-with-a-name-of-some-length")
}
