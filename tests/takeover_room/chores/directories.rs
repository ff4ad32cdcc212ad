//! mkdir, list, rmdir: a listing shows exactly what is there, a directory that has something in it stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::Chore;

/// So many names at most.
const MOST: usize = 40;

pub struct Directories {
    directory: PathBuf,
    /// Directories, each with one file `inside`.
    names: BTreeSet<String>,
    next: u64,
}

impl Directories {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, names: BTreeSet::new(), next: 0 }
    }

    fn make(&mut self, desk: &Desk) -> Outcome {
        let name = format!("directory-{}", self.next);
        let path = self.directory.join(&name);
        self.next += 1;
        desk.make_directory(&path)?;
        self.names.insert(name);
        let inside = path.join("inside");
        desk.close(desk.create(&inside)?, &inside)?;
        desk.journal.must_not("mkdir again", &path, &[libc::EEXIST], || fs::create_dir(&path))
    }

    fn remove(&mut self, desk: &Desk, name: &str) -> Outcome {
        let path = self.directory.join(name);
        desk.lists(&path, &["inside".to_owned()])?;
        // EEXIST is the other number that rmdir(2) may have for it.
        let refusals = [libc::ENOTEMPTY, libc::EEXIST];
        desk.journal.must_not("rmdir of a full one", &path, &refusals, || fs::remove_dir(&path))?;
        desk.remove(&path.join("inside"))?;
        desk.remove_directory(&path)?;
        self.names.remove(name);
        desk.absent(&path)
    }

    fn move_one(&mut self, desk: &Desk, name: String) -> Outcome {
        let new = format!("moved-{}", self.next);
        self.next += 1;
        desk.rename(&self.directory.join(&name), &self.directory.join(&new))?;
        self.names.remove(&name);
        desk.lists(&self.directory.join(&new), &["inside".to_owned()])?;
        self.names.insert(new);
        Ok(())
    }

    fn list(&self, desk: &Desk) -> Outcome {
        desk.lists(&self.directory, &self.names.iter().cloned().collect::<Vec<_>>())
    }
}

impl Chore for Directories {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        let names: Vec<_> = self.names.iter().cloned().collect();
        if names.is_empty() || (names.len() < MOST && desk.dice.once_in(2)) {
            self.make(desk)?;
        } else {
            let name = desk.dice.pick(&names).clone();
            if desk.dice.once_in(3) { self.move_one(desk, name) } else { self.remove(desk, &name) }?;
        }
        self.list(desk)
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        self.list(desk)?;
        for name in self.names.clone() {
            self.remove(desk, &name)?;
        }
        Ok(())
    }
}
