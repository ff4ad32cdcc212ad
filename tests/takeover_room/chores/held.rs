//! Files held open all along: read and written at any offset against a model of their content, by name and after their
//! names are gone, by pread and pwrite and through a shared mapping.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::super::mapped::Mapped;
use super::Chore;

/// So many at once: of each kind two.
const FILES: usize = 6;
/// The longest, in bytes. A mapped one always has this size.
const LONGEST: usize = 128 * 1024;
/// The longest piece that is read or written at once, in bytes.
const PIECE: usize = 16 * 1024;

pub struct Held {
    directory: PathBuf,
    files: [Option<HeldFile>; FILES],
    next: u64,
}

struct HeldFile {
    path: PathBuf,
    file: File,
    model: Vec<u8>,
    named: bool,
    map: Option<Mapped>,
}

impl Held {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, files: Default::default(), next: 0 }
    }

    /// The slots are for: named, unnamed, mapped, unnamed and mapped files, and two more named ones.
    fn open(&mut self, desk: &mut Desk, slot: usize) -> Outcome<HeldFile> {
        let path = self.directory.join(format!("held-{}", self.next));
        self.next += 1;
        let file = desk.create(&path)?;
        let mapped = matches!(slot, 2 | 3);
        let model = desk.dice.bytes(if mapped { LONGEST } else { PIECE });
        desk.write_at(&file, &path, &model, 0)?;
        let map = || Mapped::new(&file, LONGEST);
        let map = if mapped { Some(desk.journal.must("mmap", &path, map)?) } else { None };
        let mut held = HeldFile { path, file, model, named: true, map };
        if matches!(slot, 1 | 3) && desk.abilities.removed_files {
            desk.remove(&held.path)?;
            held.named = false;
        }
        Ok(held)
    }
}

impl HeldFile {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        let (offset, length) = (desk.dice.below(LONGEST), 1 + desk.dice.below(PIECE));
        match (desk.dice.below(12), &self.map) {
            (0..4, None) => self.write(desk, offset, length),
            (0..4, Some(_)) => self.write(desk, offset.min(LONGEST - length), length),
            (4 | 5, Some(map)) => {
                let offset = offset.min(LONGEST - length);
                let bytes = desk.dice.bytes(length);
                desk.journal.must("store through a mapping", &self.path, || {
                    map.write(offset, &bytes);
                    Ok::<_, std::io::Error>(())
                })?;
                self.model[offset..offset + length].copy_from_slice(&bytes);
                desk.read_at(&self.file, &self.path, &self.model, offset, length)
            }
            (6, Some(map)) => desk.journal.must("msync", &self.path, || map.sync()),
            (4, None) => {
                desk.journal.must("ftruncate", &self.path, || self.file.set_len(offset as u64))?;
                self.model.resize(offset, 0);
                Ok(())
            }
            (7, _) => desk.sync(&self.file, &self.path),
            (8, _) => self.look(desk),
            _ => {
                desk.read_at(&self.file, &self.path, &self.model, offset, length)?;
                self.read_mapped(desk, offset.min(LONGEST - length), length)
            }
        }
    }

    fn write(&mut self, desk: &mut Desk, offset: usize, length: usize) -> Outcome {
        let bytes = desk.dice.bytes(length);
        desk.write_at(&self.file, &self.path, &bytes, offset)?;
        self.model.resize(self.model.len().max(offset + length), 0);
        self.model[offset..offset + length].copy_from_slice(&bytes);
        Ok(())
    }

    fn read_mapped(&self, desk: &Desk, offset: usize, length: usize) -> Outcome {
        let Some(map) = &self.map else { return Ok(()) };
        let load = || Ok::<_, std::io::Error>(map.read(offset, length));
        let found = desk.journal.must("load through a mapping", &self.path, load)?;
        let expected = &self.model[offset..offset + length];
        desk.journal.same_bytes("load through a mapping", &self.path, &found, expected)
    }

    fn look(&self, desk: &Desk) -> Outcome {
        let stat = desk.journal.must("fstat", &self.path, || self.file.metadata())?;
        desk.journal.same("size", &self.path, stat.size(), self.model.len() as u64)?;
        if self.named { desk.comes_to_have_names(&self.path, 1) } else { Ok(()) }
    }

    fn close(self, desk: &Desk) -> Outcome {
        desk.read_at(&self.file, &self.path, &self.model, 0, LONGEST + PIECE)?;
        self.read_mapped(desk, 0, if self.map.is_some() { LONGEST } else { 0 })?;
        self.look(desk)?;
        let Self { path, file, map, model, named } = self;
        drop(map);
        desk.close(file, &path)?;
        if !named {
            return desk.absent(&path);
        }
        desk.read_back(&path, &model)?;
        desk.remove(&path)
    }
}

impl Chore for Held {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        let slot = desk.dice.below(FILES);
        let mut held = match self.files[slot].take() {
            Some(held) => held,
            None => self.open(desk, slot)?,
        };
        held.turn(desk)?;
        // The first of each kind is held to the end.
        if slot == 5 && desk.dice.once_in(20) {
            return held.close(desk);
        }
        self.files[slot] = Some(held);
        Ok(())
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        self.files.iter_mut().filter_map(Option::take).try_for_each(|held| held.close(desk))
    }
}
