//! link, unlink, rename over, RENAME_EXCHANGE, RENAME_NOREPLACE, symlinks: which object a name leads to, and how many
//! names an object has.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::Chore;

/// So many names.
const NAMES: usize = 8;

pub struct Names {
    directory: PathBuf,
    /// Which object each name leads to. An object's content is its number.
    names: BTreeMap<usize, u64>,
    next: u64,
    /// What the symlink says; none where there is no symlink.
    target: Option<String>,
}

impl Names {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, names: BTreeMap::new(), next: 0, target: None }
    }

    fn path(&self, name: usize) -> PathBuf {
        self.directory.join(format!("name-{name}"))
    }

    fn verify(&self, desk: &Desk, name: usize) -> Outcome {
        let path = self.path(name);
        let Some(object) = self.names.get(&name) else { return desk.absent(&path) };
        desk.read_back(&path, object.to_string().as_bytes())?;
        let names = self.names.values().filter(|other| *other == object).count();
        desk.comes_to_have_names(&path, names as u64)
    }

    fn create(&mut self, desk: &Desk, name: usize) -> Outcome {
        let path = self.path(name);
        let file = desk.create(&path)?;
        desk.write(&file, &path, self.next.to_string().as_bytes())?;
        desk.close(file, &path)?;
        self.names.insert(name, self.next);
        self.next += 1;
        Ok(())
    }

    /// Both names exist.
    fn exchange(&mut self, desk: &Desk, one: usize, other: usize) -> Outcome {
        let (from, to) = (self.path(one), self.path(other));
        let exchange = || renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE);
        desk.journal.must("exchange", &from, exchange)?;
        let (first, second) = (self.names[&one], self.names[&other]);
        self.names.extend([(one, second), (other, first)]);
        Ok(())
    }

    fn rename(&mut self, desk: &Desk, from: usize, to: usize) -> Outcome {
        desk.rename(&self.path(from), &self.path(to))?;
        // A rename from one name of an object to another does nothing (rename(2)).
        if self.names.get(&from) != self.names.get(&to) {
            let object = self.names.remove(&from).expect("it exists");
            self.names.insert(to, object);
        }
        Ok(())
    }

    fn relink(&mut self, desk: &mut Desk) -> Outcome {
        let path = self.directory.join("symlink");
        self.verify_symlink(desk, &path)?;
        if self.target.take().is_some() {
            desk.remove(&path)?;
        }
        let target = format!("../somewhere/{:x}", desk.dice.next());
        desk.journal.must("symlink", &path, || symlink(&target, &path))?;
        self.target = Some(target);
        self.verify_symlink(desk, &path)
    }

    fn verify_symlink(&self, desk: &Desk, path: &Path) -> Outcome {
        let Some(target) = &self.target else { return desk.absent(path) };
        let found = desk.journal.must("readlink", path, || fs::read_link(path))?;
        desk.journal.same("readlink", path, &*found, Path::new(target))
    }
}

impl Chore for Names {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        if desk.dice.once_in(4) {
            return self.relink(desk);
        }
        let (one, other) = (desk.dice.below(NAMES), desk.dice.below(NAMES));
        self.verify(desk, one)?;
        let (from, to) = (self.path(one), self.path(other));
        match (self.names.contains_key(&one), self.names.contains_key(&other)) {
            (false, _) => self.create(desk, one)?,
            (true, _) if one == other || desk.dice.once_in(5) => {
                desk.remove(&from)?;
                self.names.remove(&one);
            }
            (true, true) if desk.abilities.exchange && desk.dice.once_in(3) => {
                self.exchange(desk, one, other)?
            }
            (true, true) if desk.abilities.no_replace && desk.dice.once_in(3) => {
                desk.journal.must_not("rename onto a name that stays", &from, &[libc::EEXIST], || {
                    renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE)
                })?;
            }
            (true, false) if desk.dice.once_in(2) => {
                desk.journal.must("link", &from, || fs::hard_link(&from, &to))?;
                self.names.insert(other, self.names[&one]);
            }
            (true, true) if desk.dice.once_in(3) => {
                desk.journal
                    .must_not("link onto a name", &from, &[libc::EEXIST], || fs::hard_link(&from, &to))?;
            }
            (true, _) => self.rename(desk, one, other)?,
        }
        self.verify(desk, one)?;
        self.verify(desk, other)
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        let symlink = self.directory.join("symlink");
        self.verify_symlink(desk, &symlink)?;
        if self.target.take().is_some() {
            desk.remove(&symlink)?;
        }
        for name in 0..NAMES {
            self.verify(desk, name)?;
            if self.names.remove(&name).is_some() {
                desk.remove(&self.path(name))?;
            }
        }
        Ok(())
    }
}
