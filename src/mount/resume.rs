//! The keeper of a mount as another program: it becomes one by execve(2), and goes on as one.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use nix::unistd::execv;

use super::mounted::Mounted;
use super::recipe::Recipe;
use super::run::{Export, Keeping, Kept};
use super::runtime::Claim;
use super::worker::Work;
use super::{MountFailure, signals};
use crate::keeper::Keeper;
use crate::state::State;
use crate::state::bounds::Bounds;
use crate::state::layout::HeaderWord;
use crate::state::texts::Text;
use crate::sys::{Errno, descriptors};
use crate::telemetry;

/// Becomes the program that the state names. Returns only where that fails: then nothing has changed.
pub(super) fn become_another(state: &State) -> String {
    let Some(program) = state.texts.read(Text::Program) else { return "no program was named".to_owned() };
    let Some(recipe) = Recipe::read(state) else { return "what it needs to know was not left".to_owned() };
    let path = PathBuf::from(&program);
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
    let (Ok(words), Ok(path)) = (words(&recipe), CString::new(path.as_os_str().as_bytes())) else {
        return format!("{program} cannot be named");
    };
    let mut needed = state.recorded_descriptors();
    needed.extend([recipe.lock, recipe.control]);
    if let Err(error) = descriptors::keep_over_exec(needed) {
        return format!("what is open cannot be handed on: {error}");
    }
    // The signals stay blocked, as std's Command would not leave them.
    match execv(&path, &words) {
        Ok(never) => match never {},
        Err(error) => format!("{program} cannot be run: {}", Errno::from(error)),
    }
}

/// Goes on as the keeper, from what the program before this one has left under the descriptor `memory`.
///
/// # Errors
/// Where that is not to be gone on with; whoever is in reserve of the old program then takes the keeper's place.
pub fn resume(memory: RawFd) -> Result<(), MountFailure> {
    let left = |what: &str| MountFailure::DiedEarly(format!("upgrade: {what}"));
    let state = descriptors::adopt(memory).and_then(State::left_behind);
    let mut state = state.map_err(|error| left(&format!("the state cannot be read: {error}")))?;
    let recipe = Recipe::read(&state).ok_or_else(|| left("what is mounted is not told"))?;
    let plan = recipe.plan(&state).map_err(|why| left(&why))?;
    signals::block().map_err(MountFailure::NoProcess)?;
    signals::raise_limits();
    if let Some(state) = Arc::get_mut(&mut state) {
        state.bounds = Bounds::of_this_process(recipe.max_inodes);
    }
    let adopt = |fd| descriptors::adopt(fd).map_err(|error| left(&format!("descriptor {fd}: {error}")));
    let (lock, control) = (adopt(recipe.lock)?, UnixListener::from(adopt(recipe.control)?));
    let mounted = Mounted::find(&recipe.target).ok_or_else(|| left("nothing is mounted there"))?;
    // From here on nothing returns, and so nothing is taken down, before a worker serves.
    let claim =
        Claim::resume(recipe.claim.clone(), File::from(lock)).map_err(|error| left(&error.to_string()))?;
    if recipe.in_background {
        telemetry::write_to_file(claim.log());
    }
    let export = Export::resume(&plan, &claim);
    let target = recipe.target.clone();
    let own = [0, 1, 2, recipe.lock, recipe.control, state.memory_fd()];
    let confinement = recipe.confinement;
    confinement.go_on();
    let work = Work {
        plan: &plan,
        export: export.path(),
        target: &target,
        state: &state,
        control: &control,
        confinement,
    };
    let charge = Kept::new(work, &claim, Some(mounted.device));
    let old_reserve = state.get(HeaderWord::Reserve);
    let keeper = Keeper::begin(&charge, &state, &signals::handled(), &own);
    let Ok(Some(mut keeper)) = keeper else {
        tracing::error!("no worker of the new program can begin; the old one goes on");
        process::exit(1);
    };
    state.set(HeaderWord::Upgrading, 0);
    state.count(HeaderWord::Upgrades);
    keeper.relieve(u32::try_from(old_reserve).unwrap_or_default());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "upgraded");
    Keeping::new(&mut keeper, mounted, &state).keep();
    tracing::info!(target = %target.display(), "unmounted");
    Ok(())
}
