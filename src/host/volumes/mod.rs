//! Volumes that the cluster makes: a directory of a share each, made and removed as those whom the rules let, so that
//! root_squash is no hindrance.
//!
//! Beside the volumes of a directory lies `.permfs/` with a note on each ([`note`]): what it was made with, and whether it is
//! complete. That is how a repeated call is told from a different one, and a copy that was interrupted from a whole one.

mod copy;
mod note;
mod remove;
mod tree;
mod yard;

use std::ffi::CString;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::yard::Yard;
use super::crew::Crew;
use super::protocol::{Code, Made, MakeVolume, Refusal, RemoveVolume, Share, Volume};
use super::publish::{ATTACH_PATIENCE, with_end};
use super::server::Host;
use super::share::{Opened, Way};
use crate::backing::{Errno, Name};
use crate::mount::nfs::NfsMount;
use crate::policy::Policy;
use crate::sys::credentials;

/// How long a call waits. What is under way goes on, and the next call hears of it.
const PATIENCE: Duration = Duration::from_secs(90);

impl Host {
    /// Makes a volume, or finds that it was made so.
    pub(super) fn make_volume(&self, make: MakeVolume) -> Result<Made, Refusal> {
        let volume = make.volume.clone();
        let crew = if make.copy_of.is_some() { &self.crews.copies } else { &self.crews.works };
        self.work_on(crew, volume, move |yard| yard.make(&make))
    }

    /// Removes a volume. Done where there is none.
    pub(super) fn remove_volume(&self, remove: RemoveVolume) -> Result<(), Refusal> {
        let on_delete = remove.on_delete;
        self.work_on(&self.crews.works, remove.volume, move |yard| yard.remove(on_delete))
    }

    /// What a volume was made with.
    ///
    /// # Errors
    /// NOT_FOUND where it is not.
    pub(super) fn find_volume(&self, volume: Volume) -> Result<Made, Refusal> {
        self.work_on(&self.crews.works, volume, |yard| yard.find())
    }

    fn work_on<T: Send + 'static>(
        &self,
        crew: &Crew,
        volume: Volume,
        work: impl FnOnce(&Yard<'_, crate::backing::posix::PosixBacking>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let key = format!("{}:{}/{}", volume.share, volume.parent, volume.name);
        let turn = self.turns.enter(key.clone())?;
        let share = volume.share.to_string();
        let place = self.ledger.for_one_call(self.calls.fetch_add(1, Ordering::Relaxed));
        let work = move || {
            let _turn = turn;
            let policy = volume.rules.policy(&volume.choice, None)?;
            // Declared first, so that it is unmounted when nothing of it is open any more.
            let _export;
            let way = match &volume.share {
                Share::Path(path) => Way::of_path(path, &volume.rules)?,
                Share::Nfs { export, options } => {
                    let mounted = NfsMount::within(ATTACH_PATIENCE, export, &with_end(options), false, place)
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
        crew.within(&share, PATIENCE, work)?.unwrap_or_else(|| {
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

fn failed(what: &str, path: &str, errno: Errno) -> Refusal {
    let code = match errno {
        Errno::ENOSPC | Errno::EDQUOT => Code::ResourceExhausted,
        Errno::ENOENT
        | Errno::EXDEV
        | Errno::ENOTEMPTY
        | Errno::EACCES
        | Errno::EPERM
        | Errno::ELOOP
        | Errno::ENOTDIR => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    Refusal::new(code, format!("cannot {what} {path}: {errno}"))
}
