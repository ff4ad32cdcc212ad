//! Content by other ways than write: copy_file_range, fallocate and holes, and files made without a name.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, Mode, OFlags, copy_file_range, fallocate, open};

use super::super::abilities::give_name;
use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::Chore;

/// The size of the files, in bytes.
const SIZE: usize = 48 * 1024;

pub struct Ranges {
    directory: PathBuf,
}

impl Ranges {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn fill(&self, desk: &mut Desk, name: &str) -> Outcome<(PathBuf, File, Vec<u8>)> {
        let path = self.directory.join(name);
        let file = desk.create(&path)?;
        let content = desk.dice.bytes(SIZE);
        desk.write(&file, &path, &content)?;
        Ok((path, file, content))
    }

    fn copy(&self, desk: &mut Desk) -> Outcome {
        let (from, source, content) = self.fill(desk, "from")?;
        let (to, target, mut expected) = self.fill(desk, "to")?;
        let (start, place) = (desk.dice.below(SIZE / 2), desk.dice.below(SIZE));
        let length = 1 + desk.dice.below(SIZE / 2);
        let (mut read, mut written) = (start as u64, place as u64);
        let mut left = length;
        while left > 0 {
            let copy = || copy_file_range(&source, Some(&mut read), &target, Some(&mut written), left);
            match desk.journal.must("copy_file_range", &to, copy)? {
                0 => return Err(desk.journal.fault("copy_file_range", &to, "copies nothing any more")),
                copied => left -= copied,
            }
        }
        expected.resize(SIZE.max(place + length), 0);
        expected[place..place + length].copy_from_slice(&content[start..start + length]);
        desk.close(source, &from)?;
        desk.close(target, &to)?;
        desk.read_back(&to, &expected)?;
        desk.read_back(&from, &content)?;
        desk.remove(&from)?;
        desk.remove(&to)
    }

    fn allocate(&self, desk: &mut Desk) -> Outcome {
        let (path, file, mut content) = self.fill(desk, "allocated")?;
        let more = 1 + desk.dice.below(SIZE);
        let extend = || fallocate(&file, FallocateFlags::empty(), SIZE as u64, more as u64);
        desk.journal.must("fallocate", &path, extend)?;
        content.resize(SIZE + more, 0);
        if desk.abilities.punch {
            let (start, length) = (desk.dice.below(SIZE / 2), 1 + desk.dice.below(SIZE / 2));
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let punch = || fallocate(&file, flags, start as u64, length as u64);
            desk.journal.must("punch a hole", &path, punch)?;
            content[start..start + length].fill(0);
        }
        desk.close(file, &path)?;
        desk.read_back(&path, &content)?;
        desk.remove(&path)
    }

    fn without_a_name(&self, desk: &mut Desk) -> Outcome {
        let path = self.directory.join("named-later");
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o664);
        let open = || open(&self.directory, flags, mode);
        let file = File::from(desk.journal.must("open without a name", &self.directory, open)?);
        let content = desk.dice.bytes(SIZE);
        desk.write(&file, &path, &content)?;
        desk.lists(&self.directory, &[])?;
        desk.journal.must("give a name", &path, || give_name(&file, &path))?;
        desk.read_back(&path, &content)?;
        desk.close(file, &path)?;
        desk.remove(&path)
    }
}

impl Chore for Ranges {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        match desk.dice.below(3) {
            0 if desk.abilities.copy_range => self.copy(desk),
            1 if desk.abilities.allocate => self.allocate(desk),
            2 if desk.abilities.nameless_files => self.without_a_name(desk),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        desk.lists(&self.directory, &[])
    }
}
