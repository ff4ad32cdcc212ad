//! A service that was started again goes on with the mount of the one that was killed.
//!
//! What was kept is looked at before anything is changed: it must be this mount's, of a layout that this version can read, and its
//! session alive. What is not is refused with the reason, or, where there is nothing to go on with, let go.

use std::os::fd::AsRawFd;
use std::path::Path;

use super::super::claim::Claim;
use super::super::confine::Confinement;
use super::super::mounted::Mounted;
use super::super::recipe::Recipe;
use super::super::resume::Left;
use super::super::run::Plan;
use super::super::runtime::RuntimeDir;
use super::super::table::{MountTable, lexical};
use super::super::{MountFailure, control};
use super::inherited::Inherited;
use super::{Store, lost};
use crate::state::layout::HeaderWord;
use crate::state::{Handed, State};
use crate::sys::thread::has_lost_its_first_thread;
use crate::sys::{Errno, descriptors};
use crate::telemetry;

/// Goes on with what this process was given of the mount that it is to make, until that is over: true; or lets it go, where it was
/// given nothing that is alive: false. Comes before the process's first thread.
///
/// # Errors
/// Why what it was given cannot be gone on with. It stays kept, and the mount with it.
pub(in super::super) fn go_on(plan: &Plan, store: &Store) -> Result<bool, MountFailure> {
    let Some(mut inherited) = Inherited::of_this_process() else { return Ok(false) };
    let Some((state, recipe)) = alive(plan, &mut inherited)? else {
        tracing::info!("the mount that the service manager has kept is gone; making a new one");
        inherited.names().iter().for_each(|name| store.forget(name));
        return Ok(false);
    };
    let target = recipe.target.clone();
    let refused = |why: String| MountFailure::NotResumed { path: target.clone(), why };
    let (left, lost) = take(inherited, state, recipe, plan).map_err(refused)?;
    let (recipe, state) = (left.recipe.clone(), std::sync::Arc::clone(&left.state));
    left.keep(&[], |_| {
        recipe.leave(&state);
        if let Err(error) = lost::tell_the_kernel(&target, &lost) {
            tracing::warn!(%error, "the kernel may go on by itself with files whose locks are lost");
        }
        store.tell_ready();
        tracing::info!(lost = lost.len(), "going on where a service that was killed has ended");
    })
    .map_err(refused)?;
    Ok(true)
}

/// What was kept, if its session lives and is the one that is seen on TARGET.
fn alive(
    plan: &Plan,
    inherited: &mut Inherited,
) -> Result<Option<(std::sync::Arc<State>, Recipe)>, MountFailure> {
    // Unmounted meanwhile: the manager has let it go, or its end is seen.
    if inherited.device().is_none_or(descriptors::has_error) {
        return Ok(None);
    }
    let refused = |path: &Path, why: &str| {
        let (path, why) = (path.to_owned(), why.to_owned());
        Err(MountFailure::NotResumed { path, why })
    };
    let Some(memory) = inherited.take_memory() else {
        return refused(&plan.target, "its memory is not among what was kept");
    };
    let Ok(state) = State::left_behind(memory) else {
        return refused(&plan.target, "it was left by a version whose memory this one cannot read");
    };
    let Some(recipe) = Recipe::read(&state) else {
        return refused(&plan.target, "what is mounted is not told");
    };
    let table = MountTable::read()?;
    let asked = table.find(&plan.target).map_or_else(|| lexical(&plan.target), |entry| entry.target.clone());
    if asked != recipe.target {
        return refused(&recipe.target, &format!("this service is to mount on {}", asked.display()));
    }
    if recipe.source != plan.source {
        return refused(&recipe.target, &format!("it shows {}, not {}", recipe.source, plan.source));
    }
    if state.get(HeaderWord::Ended) != 0 || !is_on_target(&recipe) {
        return Ok(None);
    }
    Ok(Some((state, recipe)))
}

/// Whether what is seen on TARGET is that mount, as far as it has left a trace.
fn is_on_target(recipe: &Recipe) -> bool {
    let Some(mounted) = Mounted::find(&recipe.target) else { return false };
    let device = mounted.device;
    mounted.leave();
    let trace = RuntimeDir::from_env().find(device, &recipe.target);
    trace.is_none_or(|trace| trace.control().parent() == Some(&*recipe.claim))
}

/// Makes it this process's. Until that is certain nothing is changed.
fn take(
    inherited: Inherited,
    state: std::sync::Arc<State>,
    recipe: Recipe,
    plan: &Plan,
) -> Result<(Left, Vec<u64>), String> {
    let anchors = inherited.anchors();
    let (Some(device), Some(root), true) = (inherited.device(), inherited.source(), anchors.contains_key(&0))
    else {
        return Err("SOURCE is not among what was kept".to_owned());
    };
    // The rules that are in force, in this version's eyes.
    recipe.plan(&state)?;
    let claim = claim_again(&recipe, &state)?;
    let leave = |claim: Claim, why: String| {
        claim.leave();
        why
    };
    let _ = std::fs::remove_file(claim.control());
    let control = match control::listen(&claim.control()) {
        Ok(control) => control,
        Err(failure) => return Err(leave(claim, failure.to_string())),
    };
    let Some(lost) = state.disown(&Handed { device, root, anchors }) else {
        return Err(leave(claim, "it is of no session".to_owned()));
    };
    inherited.leave_to_records();
    let recipe = Recipe {
        lock: claim.lock(),
        control: control.as_raw_fd(),
        watch: plan.watch,
        logging: telemetry::logging(),
        in_background: false,
        confinement: Confinement::begin(),
        ..recipe
    };
    match Left::of(state, recipe, control, claim) {
        Ok(left) => Ok((left, lost)),
        Err((claim, why)) => Err(leave(claim, why)),
    }
}

/// The lock says that nobody else serves the mount. Processes that were killed and cannot end, because a server does not answer, hold
/// it, and serve nothing any more.
fn claim_again(recipe: &Recipe, state: &State) -> Result<Claim, String> {
    let words = [HeaderWord::Keeper, HeaderWord::Reserve, HeaderWord::Worker];
    let are_dead =
        || words.into_iter().all(|word| u32::try_from(state.get(word)).is_ok_and(has_lost_its_first_thread));
    let claimed = match Claim::again(recipe.claim.clone()) {
        Err(Errno::EAGAIN) if are_dead() => {
            Claim::unlock(&recipe.claim);
            Claim::again(recipe.claim.clone())
        }
        claimed => claimed,
    };
    claimed.map_err(|error| match error {
        Errno::EAGAIN => "other processes serve it".to_owned(),
        error => format!("{}: {error}", recipe.claim.display()),
    })
}
