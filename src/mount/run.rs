//! One mount, kept by this process: what is built in which order, and that it comes down in the opposite one.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::claim::Claim;
use super::confine::Confinement;
use super::handover::giving::give;
use super::mounted::Mounted;
use super::nfs::NfsMount;
use super::recipe::{Recipe, leave_rules};
use super::record::{Process, Record};
use super::resume::become_another;
use super::runtime::RuntimeDir;
use super::store::{self, Store};
use super::table::{DeviceNumber, lexical};
use super::target_lock::TargetLock;
use super::upgrade::Successor;
use super::worker::Work;
use super::{MountFailure, Readiness, RulesSource, Source, control, preflight, signals};
use crate::config::Overrides;
use crate::keeper::{Charge, Ending, Keeper};
use crate::policy::Policy;
use crate::state::State;
use crate::state::bounds::Bounds;
use crate::state::layout::HeaderWord;
use crate::state::texts::Text;
use crate::telemetry;

/// How long a session may take to end after its mount was detached while in use.
const PARTING_PATIENCE: Duration = Duration::from_secs(2);

/// What to mount, where, and under which rules.
#[derive(Debug)]
pub struct Plan {
    /// SOURCE.
    pub source: Source,
    /// TARGET.
    pub target: PathBuf,
    /// The rules.
    pub policy: Arc<Policy>,
    /// Where they can be read anew; none where they came from flags.
    pub rules: Option<RulesSource>,
    /// Those of them that came from flags.
    pub flags: Overrides,
    /// Whether to look at that file now and then, and follow its content.
    pub watch: bool,
    /// Their profile's name; none where they came from flags.
    pub profile: Option<String>,
    /// EROFS for every change.
    pub read_only: bool,
    /// Nothing can be executed from the mount.
    pub no_exec: bool,
    /// The SELinux context of everything in the mount.
    pub context: Option<String>,
    /// Inodes that the mount remembers at most; none for as many as there is room for.
    pub max_inodes: Option<usize>,
    /// What the mount table and `status` tell as the source, where SOURCE itself says little.
    pub shown_source: Option<String>,
}

impl Plan {
    pub(super) fn told_source(&self) -> String {
        self.shown_source.clone().unwrap_or_else(|| self.source.to_string())
    }

    /// The same with absolute paths, so that it holds in a process that has left the current directory.
    #[must_use]
    pub fn absolute(mut self) -> Self {
        self.target = lexical_parent(&self.target);
        if let Source::Directory(path) = &mut self.source {
            *path = lexical_parent(path);
        }
        if let Some(rules) = &mut self.rules {
            rules.file = lexical_parent(&rules.file);
        }
        self
    }
}

/// Absolute, `..` left alone: what it means depends on symlinks.
fn lexical_parent(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| lexical(path))
}

/// Mounts, announces that the mount answers, and keeps it until it is unmounted or a signal ends it.
///
/// # Errors
/// Whatever stands in the way of mounting; then nothing is left mounted.
pub fn run(plan: &Plan, readiness: &mut Readiness) -> Result<(), MountFailure> {
    preflight::privilege()?;
    preflight::fuse_device()?;
    signals::block().map_err(MountFailure::NoProcess)?;
    signals::raise_limits();
    let store = Store::of_this_process(readiness.in_background());
    if let Some(store) = &store
        && store::go_on(plan, store)?
    {
        return Ok(());
    }
    let runtime = RuntimeDir::from_env();
    let (lock, target) = TargetLock::take(&plan.target, &runtime)?;

    // Each of these takes down what it stands for when it is dropped, the last one first.
    let claim = runtime.claim()?;
    if readiness.in_background() {
        telemetry::write_to_file(claim.log());
    }
    if let Some(warning) = preflight::request_timeout() {
        tracing::warn!("{warning}");
    }
    let export = Export::prepare(plan, &claim)?;
    preflight::apart(export.path(), &target)?;
    let control = control::listen(&claim.control())?;
    let state = State::within(Bounds::of_this_process(plan.max_inodes)).map_err(MountFailure::NoProcess)?;
    let confinement = Confinement::begin();
    let work =
        Work { plan, export: export.path(), target: &target, state: &state, control: &control, confinement };
    let charge = Kept::new(work, &claim, None, store);
    let mut recipe = recipe(plan, &target, &claim, control.as_raw_fd(), readiness.in_background());
    recipe.confinement = confinement;
    recipe.leave(&state);
    leave_rules(plan, &state);
    let mut own = vec![0, 1, 2, recipe.lock, recipe.control, state.memory_fd()];
    own.extend(readiness.descriptor());
    let keeper =
        Keeper::begin(&charge, &state, &signals::handled(), &own).map_err(MountFailure::NoProcess)?;
    let Some(mut keeper) = keeper else {
        if state.get(HeaderWord::Mounted) != 0
            && let Some(mounted) = Mounted::find(&target)
        {
            mounted.take_down();
        }
        return Err(last_words(&state));
    };
    let Some(mounted) = Mounted::find(&target) else {
        keeper.end(Duration::ZERO);
        let reason = "something else was mounted there at the same moment".to_owned();
        return Err(MountFailure::Fuse { target: target.clone(), reason });
    };
    // A successor closes what no record names. None begins before this.
    drop(lock);
    charge.device.set(Some(mounted.device));
    let mut keeping = Keeping::new(&mut keeper, mounted, &state);
    charge.publish();
    // Whoever hears that it is mounted may kill the keeper. Where that comes first, the reserve goes on here.
    keeping.ensure_reserve();
    // What is opened under its number once it is closed is a worker's, and a successor's to close. None begins before that.
    keeping.let_go(readiness.descriptor());
    if readiness.announce().is_err() {
        tracing::warn!(target = %target.display(), "nobody waits for the mount any more; taking it down");
        return Ok(());
    }
    charge.is_ready();
    tracing::info!(source = plan.told_source(), target = %target.display(), profile = plan.profile, "mounted");
    keeping.keep();
    drop(keeping);
    charge.is_over();
    tracing::info!(target = %target.display(), "unmounted");
    Ok(())
}

/// The keeper, and what it keeps mounted. Both end with it.
pub(super) struct Keeping<'k, 'a> {
    keeper: &'k mut Keeper<'a>,
    mounted: Option<Mounted>,
    state: &'k State,
}

impl<'k, 'a> Keeping<'k, 'a> {
    pub(super) fn new(keeper: &'k mut Keeper<'a>, mounted: Mounted, state: &'k State) -> Self {
        Self { keeper, mounted: Some(mounted), state }
    }

    /// From now on the mount outlives this process.
    fn ensure_reserve(&mut self) {
        self.keeper.ensure_reserve();
    }

    /// A descriptor of this process that is about to be closed.
    fn let_go(&mut self, done_with: Option<RawFd>) {
        self.keeper.let_go(done_with.as_slice());
    }

    /// Keeps until the mount is over, or this process is another program.
    pub(super) fn keep(&mut self) {
        loop {
            match self.keeper.keep() {
                Ending::Signal(signal) => tracing::info!(%signal, "unmounting"),
                Ending::GivenUp => tracing::error!("no worker can begin; unmounting"),
                Ending::Over => {
                    if let Some(mounted) = self.mounted.take() {
                        mounted.session_ended();
                    }
                }
                Ending::Upgrade => {
                    let why = self.make_way();
                    tracing::error!(why, "the mount goes on with the program that it has");
                    self.state.texts.leave(Text::NotUpgraded, &why);
                    self.state.take_back_upgrade();
                    continue;
                }
            }
            return;
        }
    }
}

impl Keeping<'_, '_> {
    /// For another program. Returns only where it comes to nothing, with the reason.
    fn make_way(&mut self) -> String {
        match Successor::named_in(self.state) {
            None => "no program was named".to_owned(),
            Some(Successor::Program(path)) => become_another(&path, self.state),
            Some(Successor::Elsewhere) => {
                // It would see this process end, and take its place.
                self.keeper.dismiss_reserve();
                if let Err(why) = give(self.state) {
                    self.keeper.regain();
                    return why;
                }
                tracing::info!("another container's processes serve this mount from now on");
                // Nothing is taken down.
                process::exit(0)
            }
        }
    }
}

impl Drop for Keeping<'_, '_> {
    fn drop(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            mounted.take_down();
        }
        if !self.keeper.end(PARTING_PATIENCE) {
            tracing::warn!("the mount was in use; its users get ENOTCONN from now on");
        }
    }
}

/// What the keeper keeps.
pub(super) struct Kept<'a> {
    work: Work<'a>,
    claim: &'a Claim,
    /// Once it is mounted.
    device: Cell<Option<DeviceNumber>>,
    /// Who keeps what must outlive all processes, where there is somebody.
    store: Option<Store>,
}

impl Charge for Kept<'_> {
    fn work(&self, begun: &mut dyn FnMut()) -> bool {
        self.work.serve(begun)
    }

    fn changed(&self) {
        if let Some(store) = &self.store {
            store.tell_keeper();
        }
        self.publish();
    }

    fn meanwhile(&self) {
        if let Some(store) = &self.store {
            store.keep(self.work.state);
        }
    }

    fn ends_at(&self, signal: Signal, worker: Option<Pid>) -> bool {
        // At a hangup a mount without a terminal reads its rules anew.
        if signal != Signal::SIGHUP || io::stdin().is_terminal() {
            return true;
        }
        if let Some(worker) = worker {
            let _ = kill(worker, Signal::SIGHUP);
        }
        false
    }
}

impl<'a> Kept<'a> {
    pub(super) fn new(
        work: Work<'a>,
        claim: &'a Claim,
        device: Option<DeviceNumber>,
        store: Option<Store>,
    ) -> Self {
        Self { work, claim, device: Cell::new(device), store }
    }

    /// The mount answers, and would outlive its processes.
    fn is_ready(&self) {
        self.meanwhile();
        if let Some(store) = &self.store {
            store.tell_ready();
        }
    }

    /// The mount is gone.
    pub(super) fn is_over(&self) {
        if let Some(store) = &self.store {
            store.empty();
        }
    }

    /// Says for others who serves.
    fn publish(&self) {
        let Some(device) = self.device.get() else { return };
        let process = |word| Process::of(u32::try_from(self.work.state.get(word)).unwrap_or_default());
        let record = Record {
            target: self.work.target.to_owned(),
            source: self.work.plan.told_source(),
            profile: self.work.plan.profile.clone(),
            worker: process(HeaderWord::Worker),
            keeper: process(HeaderWord::Keeper),
            device,
        };
        if let Err(failure) = self.claim.publish(&record) {
            tracing::error!(%failure, "others do not know who serves this mount");
        }
    }
}

/// Where the export is on this node.
pub(super) enum Export {
    Directory(PathBuf),
    Nfs(NfsMount),
}

impl Export {
    fn prepare(plan: &Plan, claim: &Claim) -> Result<Self, MountFailure> {
        Ok(match &plan.source {
            Source::Directory(path) => Self::Directory(preflight::source(path)?),
            Source::Nfs { export, options } => {
                Self::Nfs(NfsMount::new(export, options, plan.read_only, claim.nfs())?)
            }
        })
    }

    /// The one that a program before this one has prepared.
    pub(super) fn resume(plan: &Plan, claim: &Claim) -> Self {
        match &plan.source {
            Source::Directory(path) => Self::Directory(path.clone()),
            Source::Nfs { .. } => Self::Nfs(NfsMount::resume(claim.nfs())),
        }
    }

    /// It is another process's to take down.
    pub(super) fn leave(self) {
        mem::forget(self);
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::Nfs(mount) => mount.path(),
        }
    }
}

/// What a program that takes this one's place must know.
fn recipe(plan: &Plan, target: &Path, claim: &Claim, control: RawFd, in_background: bool) -> Recipe {
    Recipe {
        source: plan.source.clone(),
        target: target.to_owned(),
        rules: plan.rules.clone(),
        flags: plan.flags.clone(),
        watch: plan.watch,
        profile: plan.profile.clone(),
        read_only: plan.read_only,
        no_exec: plan.no_exec,
        context: plan.context.clone(),
        shown_source: plan.shown_source.clone(),
        max_inodes: plan.max_inodes,
        claim: claim.path().to_owned(),
        lock: claim.lock(),
        control,
        namespace: None,
        logging: telemetry::logging(),
        in_background,
        confinement: Confinement::default(),
    }
}

/// Why the first worker could not begin.
fn last_words(state: &State) -> MountFailure {
    match state.texts.read(Text::LastWords).as_deref().and_then(|said| said.split_once(' ')) {
        Some((kind, sentence)) => {
            MountFailure::Told { sentence: sentence.to_owned(), usage: kind == "usage" }
        }
        None => MountFailure::DiedEarly("see the log".to_owned()),
    }
}
