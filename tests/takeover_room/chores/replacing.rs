//! Create, write, fsync, rename over the old one, read back: how careful programs save a file. Every file that is at rest
//! is looked at again before it is replaced.

use std::path::PathBuf;

use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::Chore;

/// So many files are kept.
const FILES: usize = 12;
/// The longest of them, in bytes.
const LONGEST: usize = 96 * 1024;

pub struct Replacing {
    directory: PathBuf,
    files: [Option<Vec<u8>>; FILES],
}

impl Replacing {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, files: Default::default() }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.join(format!("file-{number}"))
    }

    fn verify(&self, desk: &Desk, number: usize) -> Outcome {
        match &self.files[number] {
            Some(content) => desk.read_back(&self.path(number), content),
            None => desk.absent(&self.path(number)),
        }
    }
}

impl Chore for Replacing {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        let number = desk.dice.below(FILES);
        let path = self.path(number);
        self.verify(desk, number)?;
        if self.files[number].is_some() && desk.dice.once_in(6) {
            desk.remove(&path)?;
            self.files[number] = None;
            return self.verify(desk, number);
        }
        let longest = if desk.dice.once_in(4) { LONGEST } else { 4096 };
        let length = desk.dice.below(longest);
        let content = desk.dice.bytes(length);
        let new = self.directory.join("new");
        let file = desk.create(&new)?;
        for piece in content.chunks(1 + desk.dice.below(LONGEST / 2)) {
            desk.write(&file, &new, piece)?;
        }
        desk.sync(&file, &new)?;
        desk.close(file, &new)?;
        desk.rename(&new, &path)?;
        desk.absent(&new)?;
        self.files[number] = Some(content);
        self.verify(desk, number)
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        for number in 0..FILES {
            self.verify(desk, number)?;
            if self.files[number].take().is_some() {
                desk.remove(&self.path(number))?;
            }
        }
        Ok(())
    }
}
