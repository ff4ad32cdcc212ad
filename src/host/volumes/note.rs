//! The note that lies beside a volume: what it was made with, and how far that has come.

use std::ffi::CString;

use nix::fcntl::{OFlag, RenameFlags};
use serde::{Deserialize, Serialize};

use super::super::SubPath;
use super::super::hands::Hands;
use super::super::protocol::{Choice, Made, MakeVolume, OnDelete, Share};
use super::super::walk::{directory, look_up, make_directory};
use crate::backing::{BackingFs, Errno, Found, Name, WriteHow};
use crate::policy::{FileKind, NewMode, Operation, Permissions};

/// Where the notes on a directory's volumes are.
pub(super) const DIRECTORY: &str = ".permfs";
const DIRECTORY_NAME: &std::ffi::CStr = c".permfs";
/// The longest note that is read, in bytes.
const MAX_NOTE: usize = 16 << 10;

/// A volume as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) stage: Stage,
    /// In bytes; 0 where nobody said.
    pub(super) capacity_bytes: u64,
    pub(super) copy_of: Option<SubPath>,
    /// None in a note that was written before these were kept.
    #[serde(default)]
    pub(super) terms: Option<Terms>,
}

/// What else a StorageClass says of a volume: part of its id, by which the cluster finds it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    on_delete: OnDelete,
    choice: Choice,
    /// Of the NFS mount.
    options: Vec<String>,
}

impl Terms {
    fn of(make: &MakeVolume) -> Self {
        let options = match &make.volume.share {
            Share::Nfs { options, .. } => options.clone(),
            Share::Path(_) => Vec::new(),
        };
        Self { on_delete: make.on_delete, choice: make.volume.choice.clone(), options }
    }
}

/// Why a note cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It cannot be reached.
    Errno(Errno),
    /// It is no note: a pipe in its place, or somebody's own text.
    Damaged,
}

impl From<Errno> for Unreadable {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// How far a volume has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// It is being made, or that was interrupted.
    Making,
    /// It is complete.
    Ready,
    /// It is being removed, or that was interrupted.
    Deleting,
}

impl Note {
    /// Of a volume that is about to be made.
    pub(super) fn of(make: &MakeVolume) -> Self {
        let capacity_bytes = if make.required_bytes > 0 { make.required_bytes } else { make.limit_bytes };
        let (copy_of, terms) = (make.copy_of.clone(), Some(Terms::of(make)));
        Self { stage: Stage::Making, capacity_bytes, copy_of, terms }
    }

    /// Whether a volume that was made so is what is asked for.
    pub(super) fn satisfies(&self, make: &MakeVolume) -> bool {
        let least = self.capacity_bytes >= make.required_bytes;
        let most = make.limit_bytes == 0 || self.capacity_bytes <= make.limit_bytes;
        // Kubernetes asks again with the same size, so more than was asked for is another volume.
        let exact = make.required_bytes == 0 || self.capacity_bytes == make.required_bytes;
        let same = self.terms.as_ref().is_none_or(|terms| *terms == Terms::of(make));
        least && most && exact && self.copy_of == make.copy_of && same
    }

    pub(super) fn made(&self) -> Made {
        Made { capacity_bytes: self.capacity_bytes }
    }
}

/// The notes on the volumes of a directory.
pub(super) struct Notes<'a, B: BackingFs> {
    backing: &'a B,
    hands: &'a Hands<'a>,
    directory: Found<B::Node>,
}

impl<'a, B: BackingFs> Notes<'a, B> {
    /// Those in `parent`, the place made where it is not there.
    pub(super) fn new(backing: &'a B, hands: &'a Hands<'a>, parent: &Found<B::Node>) -> Result<Self, Errno> {
        if let Some(notes) = Self::existing(backing, hands, parent)? {
            return Ok(notes);
        }
        match make_directory(backing, hands, parent, Name::new(DIRECTORY_NAME)?) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        Self::existing(backing, hands, parent)?.ok_or(Errno::ENOENT)
    }

    /// Those in `parent`; none where nothing was ever made there.
    pub(super) fn existing(
        backing: &'a B,
        hands: &'a Hands<'a>,
        parent: &Found<B::Node>,
    ) -> Result<Option<Self>, Errno> {
        match look_up(backing, hands, parent, Name::new(DIRECTORY_NAME)?).and_then(directory) {
            Ok(directory) => Ok(Some(Self { backing, hands, directory })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The note on a volume, where there is one. Whoever may write in the directory may have put anything in its place, so
    /// what is no regular file is not opened: that of a pipe would wait for a writer.
    pub(super) fn read(&self, volume: Name<'_>) -> Result<Option<Note>, Unreadable> {
        let name = file_name(volume, ".json")?;
        let found = match look_up(self.backing, self.hands, &self.directory, Name::new(&name)?) {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if found.attr.kind != FileKind::Regular {
            return Err(Unreadable::Damaged);
        }
        let file = self.hands.attempt(Operation::Open, Some(found.attr.owner()), None, |who| {
            self.backing.open(who, &found.node, OFlag::O_RDONLY)
        })?;
        let mut text = vec![0; MAX_NOTE];
        let length = self.backing.read(&file, &mut text, 0)?;
        serde_json::from_slice(&text[..length]).map(Some).map_err(|_| Unreadable::Damaged)
    }

    /// Writes a note whole: whoever reads sees the old one or the new one.
    pub(super) fn write(&self, volume: Name<'_>, note: &Note) -> Result<(), Errno> {
        let (name, draft) = (file_name(volume, ".json")?, file_name(volume, ".new")?);
        let (name, draft) = (Name::new(&name)?, Name::new(&draft)?);
        let text = serde_json::to_vec(note).map_err(|_| Errno::EINVAL)?;
        let mode =
            NewMode { permissions: Permissions::from_mode(0o660), umask: Permissions::NONE, setgid: false };
        let (backing, directory) = (self.backing, &self.directory);
        self.hands.attempt(Operation::Create, None, Some(directory.attr.owner()), |who| {
            // What an interrupted write left.
            match backing.unlink(who, &directory.node, draft) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
            let flags = OFlag::O_WRONLY | OFlag::O_EXCL;
            let file = backing.create(who, &directory.node, draft, flags, mode)?;
            backing.write(who, &file, &text, 0, WriteHow::default())?;
            backing.fsync(&file, false)?;
            drop(file);
            backing.rename(who, &directory.node, draft, &directory.node, name, RenameFlags::empty())
        })
    }

    /// Removes the note on a volume, where there is one.
    pub(super) fn remove(&self, volume: Name<'_>) -> Result<(), Errno> {
        let name = file_name(volume, ".json")?;
        let name = Name::new(&name)?;
        let directory = &self.directory;
        let removed = self.hands.attempt(Operation::Remove, None, Some(directory.attr.owner()), |who| {
            self.backing.unlink(who, &directory.node, name)
        });
        match removed {
            Err(errno) if errno != Errno::ENOENT => Err(errno),
            _ => Ok(()),
        }
    }
}

fn file_name(volume: Name<'_>, ending: &str) -> Result<CString, Errno> {
    let name = [volume.as_bytes(), ending.as_bytes()].concat();
    CString::new(name).map_err(|_| Errno::EINVAL)
}
