//! The keeper of a mount as another program: it becomes one by execve(2), and goes on as one.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use nix::unistd::execv;

use super::claim::Claim;
use super::mounted::Mounted;
use super::recipe::Recipe;
use super::run::{Export, Keeping, Kept, Plan};
use super::store::Store;
use super::worker::Work;
use super::{MountFailure, signals};
use crate::keeper::Keeper;
use crate::state::State;
use crate::state::bounds::Bounds;
use crate::state::layout::HeaderWord;
use crate::state::texts::Text;
use crate::sys::{Errno, descriptors, fault};
use crate::telemetry;

/// Becomes another program. Returns only where that fails: then nothing has changed.
pub(super) fn become_another(program: &Path, state: &State) -> String {
    let Some(recipe) = Recipe::read(state) else { return "what it needs to know was not left".to_owned() };
    let words = |recipe: &Recipe| -> Result<Vec<CString>, std::ffi::NulError> {
        let memory = state.memory_fd().to_string();
        let mut words = vec![CString::new("permfs")?];
        words
            .extend(recipe.logging.arguments().into_iter().map(CString::new).collect::<Result<Vec<_>, _>>()?);
        words.push(CString::new("resume")?);
        words.push(CString::new(memory)?);
        words.push(CString::new(recipe.target.as_os_str().as_bytes())?);
        Ok(words)
    };
    let (Ok(words), Ok(path)) = (words(&recipe), CString::new(program.as_os_str().as_bytes())) else {
        return format!("{} cannot be named", program.display());
    };
    let mut needed = state.recorded_descriptors();
    needed.extend([recipe.lock, recipe.control]);
    needed.extend(recipe.namespace);
    if let Err(error) = descriptors::keep_over_exec(needed) {
        return format!("what is open cannot be handed on: {error}");
    }
    fault::point!("upgrade: before another program");
    // The signals stay blocked, as std's Command would not leave them.
    match execv(&path, &words) {
        Ok(never) => match never {},
        Err(error) => format!("{} cannot be run: {}", program.display(), Errno::from(error)),
    }
}

/// Goes on as the keeper, from what the program before this one has left under the descriptor `memory`.
///
/// # Errors
/// Where that is not to be gone on with; whoever is in reserve of the old program then takes the keeper's place.
pub fn resume(memory: RawFd) -> Result<(), MountFailure> {
    let failed = |why: String| MountFailure::DiedEarly(format!("upgrade: {why}"));
    fault::point!("upgrade: another program begins");
    let left = Left::read(memory).map_err(failed)?;
    signals::block().map_err(MountFailure::NoProcess)?;
    signals::raise_limits();
    left.recipe.confinement.go_on();
    let old_reserve = u32::try_from(left.state.get(HeaderWord::Reserve)).unwrap_or_default();
    fault::point!("upgrade: what is left was read");
    left.keep(&[], |keeper| {
        keeper.relieve(old_reserve);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "upgraded");
    })
    .map_err(failed)
}

/// A mount as processes before this one have left it: everything is open, and nobody serves.
pub(super) struct Left {
    pub(super) state: Arc<State>,
    pub(super) recipe: Recipe,
    plan: Plan,
    control: UnixListener,
    claim: Claim,
    mounted: Mounted,
}

impl Left {
    /// Reads it from the shared memory, which is open under this number.
    ///
    /// # Errors
    /// What cannot be read, or is not there. Nothing is taken down.
    pub(super) fn read(memory: RawFd) -> Result<Self, String> {
        let state = descriptors::adopt(memory).and_then(State::left_behind);
        let state = state.map_err(|error| format!("the state cannot be read: {error}"))?;
        let recipe = Recipe::read(&state).ok_or("what is mounted is not told")?;
        let adopt = |fd| descriptors::adopt(fd).map_err(|error| format!("descriptor {fd}: {error}"));
        let (lock, control) = (adopt(recipe.lock)?, UnixListener::from(adopt(recipe.control)?));
        let claim = Claim::resume(recipe.claim.clone(), File::from(lock))
            .map_err(|error| format!("its lock: {error}"))?;
        Self::of(state, recipe, control, claim).map_err(|(claim, why)| {
            claim.leave();
            why
        })
    }

    /// The same, where it was read already, and this is the claim.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn of(
        mut state: Arc<State>,
        recipe: Recipe,
        control: UnixListener,
        claim: Claim,
    ) -> Result<Self, (Claim, String)> {
        // Nobody else has it yet.
        if let Some(state) = Arc::get_mut(&mut state) {
            state.bounds = Bounds::of_this_process(recipe.max_inodes);
        }
        let plan = match recipe.plan(&state) {
            Ok(plan) => plan,
            Err(why) => return Err((claim, why)),
        };
        let Some(mounted) = Mounted::find(&recipe.target) else {
            return Err((claim, "nothing is mounted there".to_owned()));
        };
        Ok(Self { state, recipe, plan, control, claim, mounted })
    }

    /// The same, where the export was reached by mounts of another mount namespace, which is open under this number.
    pub(super) fn of_the_namespace(mut self, namespace: RawFd) -> Self {
        self.recipe.namespace = Some(namespace);
        self
    }

    /// Keeps it until it is over. `serves` is called once a worker serves, or in an upgrade waits for nothing else, and then a process is
    /// in reserve. Until then nothing is taken down; this process keeps `more` open for itself.
    ///
    /// # Errors
    /// Why no worker can begin.
    pub(super) fn keep(self, more: &[RawFd], serves: impl FnOnce(&mut Keeper<'_>)) -> Result<(), String> {
        if self.recipe.in_background {
            telemetry::write_to_file(self.claim.log());
        }
        let Self { state, recipe, plan, control, claim, mounted } = self;
        let export = Export::resume(&plan, &claim);
        let mut own = vec![0, 1, 2, recipe.lock, recipe.control, state.memory_fd()];
        own.extend(recipe.namespace);
        own.extend(more);
        let (target, confinement) = (&recipe.target, recipe.confinement);
        let work = Work {
            plan: &plan,
            export: export.path(),
            target,
            state: &state,
            control: &control,
            confinement,
        };
        let store = Store::of_this_process(recipe.in_background);
        let charge = Kept::new(work, &claim, Some(mounted.device), store);
        // Else nobody is left of those before, and nobody can go back to them.
        let is_upgrade = state.is_upgrading();
        let keeper = Keeper::begin(&charge, &state, &signals::handled(), &own);
        let Ok(Some(mut keeper)) = keeper else {
            tracing::error!("no worker of this program can begin; the one before it goes on");
            let said = state.texts.read(Text::LastWords);
            // Before the sentence stands its kind.
            let why = said.as_deref().and_then(|said| said.split_once(' ')).map_or("it died", |(_, why)| why);
            mounted.leave();
            export.leave();
            claim.leave();
            return Err(format!("no worker of the new program can begin: {why}"));
        };
        if is_upgrade {
            keeper.ensure_reserve();
            // Not in what was in reserve: that comes to here as the keeper, once there is nothing left to decide.
            if state.is_upgrading() {
                fault::point!("upgrade: before it is final");
                state.end_upgrade();
                fault::point!("upgrade: it is final");
                serves(&mut keeper);
            }
        } else {
            serves(&mut keeper);
        }
        Keeping::new(&mut keeper, mounted, &state).keep();
        charge.is_over();
        tracing::info!(target = %target.display(), "unmounted");
        Ok(())
    }
}
