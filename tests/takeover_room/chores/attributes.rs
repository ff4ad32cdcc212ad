//! chmod, truncate up and down, utimens, xattrs: what was set is what is read, now and when it is next looked at.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};

use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::Chore;

/// The longest that the file becomes, in bytes.
const LONGEST: usize = 64 * 1024;
/// The longest value, in bytes.
const LONGEST_VALUE: usize = 512;
/// So many attributes.
const NAMES: usize = 4;
/// Modes that any rules let a group-writable file have.
const MODES: &[u32] = &[0o660, 0o664, 0o666, 0o770, 0o775, 0o777];

pub struct Attributes {
    path: PathBuf,
    content: Vec<u8>,
    mode: u32,
    /// As it was set; none where the content has changed since.
    modified: Option<SystemTime>,
    values: BTreeMap<String, Vec<u8>>,
}

impl Attributes {
    pub fn new(desk: &mut Desk, directory: PathBuf) -> Outcome<Self> {
        let path = directory.join("attributes");
        let file = desk.create(&path)?;
        let content = desk.dice.bytes(LONGEST / 2);
        desk.write(&file, &path, &content)?;
        desk.close(file, &path)?;
        let mut this = Self { path, content, mode: 0, modified: None, values: BTreeMap::new() };
        this.change_mode(desk)?;
        Ok(this)
    }

    fn verify(&self, desk: &Desk) -> Outcome {
        let stat = desk.stat(&self.path)?;
        let mode = format!("{:04o}", stat.mode() & 0o7777);
        desk.journal.same("mode", &self.path, mode, format!("{:04o}", self.mode))?;
        desk.journal.same("size", &self.path, stat.size(), self.content.len() as u64)?;
        if let Some(modified) = self.modified {
            let found = desk.journal.must("stat", &self.path, || stat.modified())?;
            desk.journal.same("time of modification", &self.path, found, modified)?;
        }
        self.verify_values(desk)
    }

    fn change_mode(&mut self, desk: &mut Desk) -> Outcome {
        self.mode = *desk.dice.pick(MODES);
        let mode = Permissions::from_mode(self.mode);
        desk.journal.must("chmod", &self.path, || fs::set_permissions(&self.path, mode))
    }

    fn change_size(&mut self, desk: &mut Desk) -> Outcome {
        let size = desk.dice.below(LONGEST);
        let path = self.path.clone();
        let by_name = desk.dice.once_in(2);
        desk.journal.must("truncate", &path, || {
            if by_name {
                return Ok(nix::unistd::truncate(&path, i64::try_from(size).unwrap())?);
            }
            OpenOptions::new().write(true).open(&path)?.set_len(size as u64)
        })?;
        self.content.resize(size, 0);
        self.modified = None;
        desk.read_back(&path, &self.content)
    }

    fn change_times(&mut self, desk: &mut Desk) -> Outcome {
        let seconds = 1_000_000_000 + desk.dice.next() % 1_000_000_000;
        let nanoseconds = u32::try_from(desk.dice.below(1_000_000_000)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        let file = desk.journal.must("open", &self.path, || File::open(&self.path))?;
        let times = FileTimes::new().set_modified(time).set_accessed(time);
        desk.journal.must("utimens", &self.path, || file.set_times(times))?;
        desk.close(file, &self.path)?;
        self.modified = Some(time);
        Ok(())
    }

    fn change_values(&mut self, desk: &mut Desk) -> Outcome {
        let name = format!("user.load-{}", desk.dice.below(NAMES));
        if self.values.remove(&name).is_some() && desk.dice.once_in(2) {
            return desk.journal.must("removexattr", &self.path, || removexattr(&self.path, &*name));
        }
        let length = 1 + desk.dice.below(LONGEST_VALUE);
        let value = desk.dice.bytes(length);
        let set = || setxattr(&self.path, &*name, &value, XattrFlags::empty());
        desk.journal.must("setxattr", &self.path, set)?;
        self.values.insert(name, value);
        Ok(())
    }

    fn verify_values(&self, desk: &Desk) -> Outcome {
        if !desk.abilities.attributes {
            return Ok(());
        }
        let mut buffer = vec![0; 4096];
        let length = desk.journal.must("listxattr", &self.path, || listxattr(&self.path, &mut buffer[..]))?;
        let listed = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let mut names: Vec<_> = listed.split('\0').filter(|name| name.starts_with("user.")).collect();
        names.sort_unstable();
        desk.journal.same("listxattr", &self.path, names, self.values.keys().map(|key| &**key).collect())?;
        for (name, value) in &self.values {
            let get = || getxattr(&self.path, &**name, &mut buffer[..]);
            let length = desk.journal.must("getxattr", &self.path, get)?;
            desk.journal.same_bytes("getxattr", &self.path, &buffer[..length], value)?;
        }
        Ok(())
    }
}

impl Chore for Attributes {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        self.verify(desk)?;
        match desk.dice.below(4) {
            0 => self.change_mode(desk)?,
            1 => self.change_size(desk)?,
            2 => self.change_times(desk)?,
            _ if desk.abilities.attributes => self.change_values(desk)?,
            _ => {}
        }
        self.verify(desk)
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        self.verify(desk)?;
        desk.read_back(&self.path, &self.content)?;
        desk.remove(&self.path)
    }
}
