//! One volume, worked on: made, found, removed.

use std::ffi::CString;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::RenameFlags;

use super::super::SubPath;
use super::super::hands::Hands;
use super::super::protocol::{Code, Made, MakeVolume, OnDelete, Refusal, Share};
use super::super::walk::{directory, look_up, make_directory, make_way, walk};
use super::note::{self, Note, Notes, Stage, Unreadable};
use super::{copy, failed, remove};
use crate::backing::{BackingFs, Errno, Found, Name};
use crate::policy::Operation;

/// Where one volume is worked on.
pub(super) struct Yard<'a, B: BackingFs> {
    pub(super) backing: &'a B,
    pub(super) hands: &'a Hands<'a>,
    /// From what was opened to the share.
    pub(super) rest: &'a SubPath,
    pub(super) told: &'a Share,
    pub(super) parent: &'a SubPath,
    pub(super) name: Name<'a>,
}

impl<B: BackingFs> Yard<'_, B> {
    pub(super) fn make(&self, make: &MakeVolume) -> Result<Made, Refusal> {
        let parent = make_way(self.backing, self.hands, self.share()?, self.parent)
            .map_err(|stuck| self.refused(&stuck.at, stuck.errno))?;
        let notes = Notes::new(self.backing, self.hands, &parent)
            .map_err(|errno| self.refused(note::DIRECTORY, errno))?;
        let wanted = Note::of(make);
        match self.note(&notes)? {
            Some(note) if note.stage == Stage::Deleting => {
                let sentence = format!("{} is being deleted; ask again", self.path());
                return Err(Refusal::new(Code::Aborted, sentence));
            }
            Some(note) if !note.satisfies(make) => {
                let sentence = format!(
                    "the volume {} exists and was made with another size, content, onDelete or profile, or other rules or options",
                    self.path()
                );
                return Err(Refusal::new(Code::AlreadyExists, sentence));
            }
            Some(note) if note.stage == Stage::Ready && self.volume(&parent)?.is_some() => {
                return Ok(note.made());
            }
            Some(_) => {}
            None if self.volume(&parent)?.is_some() => {
                let sentence = format!("{} exists and was not made as a volume", self.path());
                return Err(Refusal::new(Code::AlreadyExists, sentence));
            }
            None => {}
        }
        // Before anything is copied: a content that is not there leaves nothing behind.
        let content = make.copy_of.as_ref().map(|path| self.content(path)).transpose()?;
        let write = |note: &Note| notes.write(self.name, note).map_err(|e| self.refused(note::DIRECTORY, e));
        write(&wanted)?;
        match make_directory(self.backing, self.hands, &parent, self.name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                let _ = notes.remove(self.name);
                return Err(self.refused(&self.path(), errno));
            }
        }
        if let Some(content) = content {
            let Some(volume) = self.volume(&parent)? else {
                return Err(self.refused(&self.path(), Errno::ENOENT));
            };
            self.fill(&volume, &content).inspect_err(|_| self.give_up(&parent, &notes))?;
        }
        let ready = Note { stage: Stage::Ready, ..wanted };
        write(&ready)?;
        Ok(ready.made())
    }

    fn fill(&self, volume: &Found<B::Node>, content: &Found<B::Node>) -> Result<(), Refusal> {
        // What an interrupted copy left.
        remove::empty(self.backing, self.hands, volume)
            .map_err(|errno| failed("empty", &self.path(), errno))?;
        copy::tree(self.backing, self.hands, content, volume).map_err(|copy::Stuck { at, errno }| {
            let at = if at.is_empty() { "the content".to_owned() } else { at };
            failed("copy", &format!("{at} into {}", self.path()), errno)
        })
    }

    /// Removes what there is of a volume that cannot be made: nobody will ask for it to be deleted.
    fn give_up(&self, parent: &Found<B::Node>, notes: &Notes<'_, B>) {
        let removed = match self.volume(parent) {
            Ok(Some(volume)) => remove::tree(self.backing, self.hands, parent, self.name, &volume),
            _ => Ok(()),
        };
        // With its note, the next call finds what is left.
        if let Err(error) = removed.and_then(|()| notes.remove(self.name)) {
            tracing::warn!(volume = self.path(), %error, "what was copied so far is left behind");
        }
    }

    /// Removes it, or what is asked for instead. Only what has a note was made as a volume: an id may name any directory.
    pub(super) fn remove(&self, on_delete: OnDelete) -> Result<(), Refusal> {
        let Some(parent) = self.parent()? else { return Ok(()) };
        let volume = self.volume(&parent)?;
        let notes = Notes::existing(self.backing, self.hands, &parent);
        let notes = notes.map_err(|errno| self.refused(note::DIRECTORY, errno))?;
        let noted =
            notes.as_ref().map_or(Ok(None), |notes| Ok(self.note(notes)?.map(|note| (notes, note))))?;
        match (volume, noted, on_delete) {
            (None, _, _) | (_, _, OnDelete::Retain) => {}
            (Some(_), None, _) => {
                let sentence = format!(
                    "{} has no note in {} and so was not made as a volume: it is left alone; remove it by hand",
                    self.path(),
                    note::DIRECTORY
                );
                return Err(Refusal::new(Code::FailedPrecondition, sentence));
            }
            (Some(volume), Some((notes, note)), OnDelete::Delete) => {
                let deleting = Note { stage: Stage::Deleting, ..note };
                notes.write(self.name, &deleting).map_err(|errno| self.refused(note::DIRECTORY, errno))?;
                remove::tree(self.backing, self.hands, &parent, self.name, &volume)
                    .map_err(|errno| failed("remove", &self.path(), errno))?;
            }
            (Some(_), Some(_), OnDelete::Archive) => {
                self.archive(&parent).map_err(|errno| failed("archive", &self.path(), errno))?;
            }
        }
        match notes {
            Some(notes) => notes.remove(self.name).map_err(|errno| self.refused(note::DIRECTORY, errno)),
            None => Ok(()),
        }
    }

    pub(super) fn find(&self) -> Result<Made, Refusal> {
        let missing = || Refusal::new(Code::NotFound, format!("there is no volume {}", self.path()));
        let parent = self.parent()?.ok_or_else(missing)?;
        self.volume(&parent)?.ok_or_else(missing)?;
        let notes = Notes::existing(self.backing, self.hands, &parent);
        let notes = notes.map_err(|errno| self.refused(note::DIRECTORY, errno))?.ok_or_else(missing)?;
        Ok(self.note(&notes)?.ok_or_else(missing)?.made())
    }

    fn note(&self, notes: &Notes<'_, B>) -> Result<Option<Note>, Refusal> {
        notes.read(self.name).map_err(|unreadable| match unreadable {
            Unreadable::Errno(errno) => self.refused(note::DIRECTORY, errno),
            Unreadable::Damaged => {
                let (directory, name) = (note::DIRECTORY, self.told_name());
                let sentence = format!(
                    "the note {}/{}/{directory}/{name}.json on the volume {name} is damaged: put it in order, or remove it \
                     and the volume by hand",
                    self.told, self.parent
                );
                Refusal::new(Code::FailedPrecondition, sentence)
            }
        })
    }

    fn archive(&self, parent: &Found<B::Node>) -> Result<(), Errno> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let name = self.told_name();
        let archived = CString::new(format!("archived-{name}-{now}")).map_err(|_| Errno::EINVAL)?;
        let archived = Name::new(&archived)?;
        // Over NFS, rename cannot be told to leave what exists.
        match look_up(self.backing, self.hands, parent, archived) {
            Err(Errno::ENOENT) => {}
            Ok(_) => return Err(Errno::EEXIST),
            Err(errno) => return Err(errno),
        }
        let owner = Some(parent.attr.owner());
        self.hands.attempt(Operation::Remove, None, owner, |who| {
            self.backing.rename(who, &parent.node, self.name, &parent.node, archived, RenameFlags::empty())
        })
    }

    /// The directory whose content a volume starts with.
    fn content(&self, path: &SubPath) -> Result<Found<B::Node>, Refusal> {
        walk(self.backing, self.hands, self.share()?, path).map_err(|stuck| match stuck.errno {
            Errno::ENOENT => {
                Refusal::new(Code::NotFound, format!("there is no volume {}/{path} to copy", self.told))
            }
            errno => self.refused(&stuck.at, errno),
        })
    }

    fn parent(&self) -> Result<Option<Found<B::Node>>, Refusal> {
        match walk(self.backing, self.hands, self.share()?, self.parent) {
            Ok(parent) => Ok(Some(parent)),
            Err(stuck) if stuck.errno == Errno::ENOENT => Ok(None),
            Err(stuck) => Err(self.refused(&stuck.at, stuck.errno)),
        }
    }

    fn volume(&self, parent: &Found<B::Node>) -> Result<Option<Found<B::Node>>, Refusal> {
        match look_up(self.backing, self.hands, parent, self.name).and_then(directory) {
            Ok(volume) => Ok(Some(volume)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.refused(&self.path(), errno)),
        }
    }

    /// The share, looked at again: a reference serves one walk.
    fn share(&self) -> Result<Found<B::Node>, Refusal> {
        let root = self.backing.root().map_err(|errno| self.refused("the share", errno))?;
        walk(self.backing, self.hands, root, self.rest).map_err(|stuck| self.refused(&stuck.at, stuck.errno))
    }

    fn path(&self) -> String {
        let slash = if self.parent.is_empty() { "" } else { "/" };
        format!("{}/{}{slash}{}", self.told, self.parent, self.told_name())
    }

    fn told_name(&self) -> String {
        String::from_utf8_lossy(self.name.as_bytes()).into_owned()
    }

    fn refused(&self, at: &str, errno: Errno) -> Refusal {
        match errno {
            Errno::EACCES | Errno::EPERM => {
                let sentence = format!(
                    "{}: {at} is not to be used by {}, whom the profile {} makes of pods: {errno}; see to its owner and \
                     mode on the server",
                    self.told,
                    self.hands.names(),
                    self.hands.policy().name()
                );
                Refusal::new(Code::FailedPrecondition, sentence)
            }
            errno => failed("use", &format!("{}: {at}", self.told), errno),
        }
    }
}
