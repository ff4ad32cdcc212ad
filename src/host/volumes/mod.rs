//! Volumes that the cluster makes: a directory of a share each, made and removed as those whom the rules let, so that
//! root_squash is no hindrance.
//!
//! Beside the volumes of a directory lies `.permfs/` with a note on each ([`note`]): what it was made with, and whether it is
//! complete. That is how a repeated call is told from a different one, and a copy that was interrupted from a whole one.

mod copy;
mod note;
mod remove;
mod tree;

use std::ffi::CString;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::RenameFlags;

use self::note::{Note, Notes, Stage};
use super::SubPath;
use super::hands::Hands;
use super::protocol::{Code, Made, MakeVolume, OnDelete, Refusal, RemoveVolume, Share, Volume};
use super::publish::with_end;
use super::server::Host;
use super::share::{Opened, Way};
use super::walk::{directory, look_up, make_directory, make_way, walk};
use crate::backing::{BackingFs, Errno, Found, Name};
use crate::mount::nfs::NfsMount;
use crate::policy::{Operation, Policy};
use crate::sys::credentials;

/// How long a call waits. What is under way goes on, and the next call hears of it.
const PATIENCE: Duration = Duration::from_secs(90);

impl Host {
    /// Makes a volume, or finds that it was made so.
    pub(super) fn make_volume(&self, make: MakeVolume) -> Result<Made, Refusal> {
        let volume = make.volume.clone();
        self.work_on(volume, move |yard| yard.make(&make))
    }

    /// Removes a volume. Done where there is none.
    pub(super) fn remove_volume(&self, remove: RemoveVolume) -> Result<(), Refusal> {
        let on_delete = remove.on_delete;
        self.work_on(remove.volume, move |yard| yard.remove(on_delete))
    }

    /// What a volume was made with.
    ///
    /// # Errors
    /// NOT_FOUND where it is not.
    pub(super) fn find_volume(&self, volume: Volume) -> Result<Made, Refusal> {
        self.work_on(volume, |yard| yard.find())
    }

    fn work_on<T: Send + 'static>(
        &self,
        volume: Volume,
        work: impl FnOnce(&Yard<'_, crate::backing::posix::PosixBacking>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let key = format!("{}:{}/{}", volume.share, volume.parent, volume.name);
        let turn = self.turns.enter(key.clone())?;
        let place = self.ledger.for_one_call(self.calls.fetch_add(1, Ordering::Relaxed));
        let work = move || {
            let _turn = turn;
            let policy = volume.rules.policy(&volume.choice, None)?;
            // Declared first, so that it is unmounted when nothing of it is open any more.
            let _export;
            let way = match &volume.share {
                Share::Path(path) => Way::of_path(path, &volume.rules)?,
                Share::Nfs { export, options } => {
                    let mounted = NfsMount::new(export, &with_end(options), false, place)
                        .map_err(|failure| Refusal::new(Code::FailedPrecondition, failure.to_string()))?;
                    let way = Way::mounted(mounted.path());
                    _export = mounted;
                    way
                }
            };
            let outcome = on_share(&volume, &way, &policy, work);
            // This thread was somebody else, who may not unmount.
            if let Err(errno) = credentials::reset() {
                return Err(failed("leave", &volume.share.to_string(), errno));
            }
            outcome
        };
        self.crew.within(PATIENCE, work)?.unwrap_or_else(|| {
            let sentence = format!("the work on {key} goes on after {} s; ask again", PATIENCE.as_secs());
            Err(Refusal::new(Code::Aborted, sentence))
        })
    }
}

fn on_share<T>(
    volume: &Volume,
    way: &Way,
    policy: &Policy,
    work: impl FnOnce(&Yard<'_, crate::backing::posix::PosixBacking>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let opened = Opened::new(way, policy)?;
    let Opened { backing, hands } = &opened;
    let name = CString::new(volume.name.as_str()).ok().filter(|name| Name::new(name).is_ok());
    let Some(name) = name else {
        let sentence = format!("\"{}\" is no name for a directory", volume.name.escape_debug());
        return Err(Refusal::new(Code::InvalidArgument, sentence));
    };
    let name = Name::new(&name).map_err(|errno| failed("use", &volume.name, errno))?;
    let (told, parent, rest) = (&volume.share, &volume.parent, &way.rest);
    work(&Yard { backing, hands, rest, told, parent, name })
}

/// Where one volume is worked on.
struct Yard<'a, B: BackingFs> {
    backing: &'a B,
    hands: &'a Hands<'a>,
    /// From what was opened to the share.
    rest: &'a SubPath,
    told: &'a Share,
    parent: &'a SubPath,
    name: Name<'a>,
}

impl<B: BackingFs> Yard<'_, B> {
    fn make(&self, make: &MakeVolume) -> Result<Made, Refusal> {
        let parent = make_way(self.backing, self.hands, self.share()?, self.parent)
            .map_err(|stuck| self.refused(&stuck.at, stuck.errno))?;
        let notes = Notes::new(self.backing, self.hands, &parent)
            .map_err(|errno| self.refused(note::DIRECTORY, errno))?;
        let wanted = Note::of(make);
        let note = notes.read(self.name).map_err(|errno| self.refused(note::DIRECTORY, errno))?;
        match note {
            Some(note) if note.stage == Stage::Deleting => {
                let sentence = format!("{} is being deleted; ask again", self.path());
                return Err(Refusal::new(Code::Aborted, sentence));
            }
            Some(note) if !note.satisfies(make) => {
                let sentence =
                    format!("the volume {} exists and was made with another size or content", self.path());
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
            // What an interrupted copy left.
            remove::empty(self.backing, self.hands, &volume)
                .and_then(|()| copy::tree(self.backing, self.hands, &content, &volume))
                .map_err(|errno| failed("copy into", &self.path(), errno))?;
        }
        let ready = Note { stage: Stage::Ready, ..wanted };
        write(&ready)?;
        Ok(ready.made())
    }

    fn remove(&self, on_delete: OnDelete) -> Result<(), Refusal> {
        let Some(parent) = self.parent()? else { return Ok(()) };
        let volume = self.volume(&parent)?;
        let notes = Notes::existing(self.backing, self.hands, &parent);
        let notes = notes.map_err(|errno| self.refused(note::DIRECTORY, errno))?;
        if let (Some(volume), OnDelete::Delete) = (&volume, on_delete) {
            if let Some(notes) = &notes
                && let Ok(Some(note)) = notes.read(self.name)
            {
                let deleting = Note { stage: Stage::Deleting, ..note };
                notes.write(self.name, &deleting).map_err(|errno| self.refused(note::DIRECTORY, errno))?;
            }
            remove::tree(self.backing, self.hands, &parent, self.name, volume)
                .map_err(|errno| failed("remove", &self.path(), errno))?;
        }
        if volume.is_some() && on_delete == OnDelete::Archive {
            self.archive(&parent).map_err(|errno| failed("archive", &self.path(), errno))?;
        }
        match notes {
            Some(notes) => notes.remove(self.name).map_err(|errno| self.refused(note::DIRECTORY, errno)),
            None => Ok(()),
        }
    }

    fn find(&self) -> Result<Made, Refusal> {
        let missing = || Refusal::new(Code::NotFound, format!("there is no volume {}", self.path()));
        let parent = self.parent()?.ok_or_else(missing)?;
        self.volume(&parent)?.ok_or_else(missing)?;
        let note = Notes::existing(self.backing, self.hands, &parent)
            .and_then(|notes| notes.map_or(Ok(None), |notes| notes.read(self.name)));
        Ok(note.ok().flatten().map_or(Made { capacity_bytes: 0 }, |note| note.made()))
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

fn failed(what: &str, path: &str, errno: Errno) -> Refusal {
    let code = match errno {
        Errno::ENOSPC | Errno::EDQUOT => Code::ResourceExhausted,
        Errno::EXDEV | Errno::ENOTEMPTY | Errno::EACCES | Errno::EPERM | Errno::ELOOP | Errno::ENOTDIR => {
            Code::FailedPrecondition
        }
        _ => Code::Internal,
    };
    Refusal::new(code, format!("cannot {what} {path}: {errno}"))
}
