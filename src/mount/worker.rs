//! The process that serves a mount: from the beginning, or from where another has died.

use std::io;
use std::os::unix::net::UnixListener;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid};

use super::confine::Confinement;
use super::control::{Counters, Office, Report};
use super::patience::{SOURCE_PATIENCE, within};
use super::reloader::{Reloaded, Reloader, Standing};
use super::run::Plan;
use super::status::own_namespace;
use super::upgrade::{Program, Successor, Upgrading};
use super::{MountFailure, control, preflight, signals};
use crate::backing::posix::PosixBacking;
use crate::fs::{Filesystem, Population};
use crate::fuse::{self, Device, MountOptions, Session, SessionOptions};
use crate::keeper;
use crate::policy::{DataPath, OpenPolicy, Policy};
use crate::state::State;
use crate::state::layout::{HeaderWord, LAYOUT};
use crate::state::texts::Text;
use crate::sys::{Errno, descriptors, fault};

/// What a worker needs to know.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) plan: &'a Plan,
    /// The export on this node.
    pub(super) export: &'a Path,
    /// TARGET, resolved.
    pub(super) target: &'a Path,
    pub(super) state: &'a Arc<State>,
    pub(super) control: &'a UnixListener,
    /// What the keeper has given up.
    pub(super) confinement: Confinement,
}

impl Work<'_> {
    /// Serves until the mount is over: true; or it cannot be served: false. Calls `begun` once requests are answered; in
    /// an upgrade once they can be.
    pub(super) fn serve(&self, begun: &mut dyn FnMut()) -> bool {
        self.confinement.of_a_worker();
        let mut begun = Some(begun);
        let mut begun = || {
            if let Some(begun) = begun.take() {
                begun();
            }
        };
        let started = if self.state.has_begun() { self.go_on(&mut begun) } else { self.begin() };
        let (filesystem, session) = match started {
            Ok(started) => started,
            Err(failure) => {
                tracing::error!(%failure, "a worker cannot begin");
                let kind = if failure.is_usage() { "usage" } else { "failed" };
                self.state.texts.leave(Text::LastWords, &format!("{kind} {failure}"));
                return false;
            }
        };
        if let Err(failure) = self.be_reached(&filesystem, &session) {
            // It serves all the same.
            tracing::warn!(%failure, "`permfs status` and `permfs reload` will not reach this mount");
        }
        self.confinement.of_one_that_serves();
        fault::point!("worker: before it has begun");
        begun();
        fault::point!("worker: has begun");
        match session.join() {
            Ok(()) => {
                self.state.set(HeaderWord::Ended, 1);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the session ended with an error");
                false
            }
        }
    }

    /// From now on it answers, and hears of new rules.
    fn be_reached(
        &self,
        filesystem: &Arc<Filesystem<PosixBacking>>,
        session: &Arc<Session>,
    ) -> Result<(), MountFailure> {
        let failed = |error: io::Error| MountFailure::NoProcess(error.into());
        let reloader = Arc::new(Reloader::new(self.plan.rules.clone(), filesystem, session));
        if self.state.get(HeaderWord::Reloading) != 0 {
            // The worker before this one died before the kernel had forgotten what was shown under the old rules.
            reloader.finish_in_background();
        }
        let report = self.reporter(filesystem, session);
        let listener = self.control.try_clone().map_err(failed)?;
        let desk = Desk {
            report,
            reloader: Arc::clone(&reloader),
            state: Arc::clone(self.state),
            session: Arc::clone(session),
            has_rules_file: self.plan.rules.is_some(),
        };
        control::serve(listener, desk)?;
        if self.plan.watch {
            reloader.watch().map_err(failed)?;
        }
        let state = Arc::clone(self.state);
        signals::deliver(move |signal| match signal {
            Signal::SIGHUP => reloader.reload_in_background(),
            // The end is the keeper's affair, whichever of the two was told.
            signal => {
                let keeper = i32::try_from(state.get(HeaderWord::Keeper)).unwrap_or_default();
                if keeper > 1 {
                    let _ = kill(Pid::from_raw(keeper), signal);
                }
            }
        })
        .map_err(failed)
    }

    /// The rules that are in force: those that a worker before this one put there, or those of the plan.
    fn policy(&self) -> Arc<Policy> {
        let judged =
            self.plan.rules.as_ref().zip(self.state.rules.read()).map(|(source, text)| source.judge(&text));
        match judged {
            Some(Ok(policy)) => Arc::new(policy),
            // They were judged before they were put in force.
            Some(Err(errors)) => {
                tracing::error!(
                    ?errors,
                    "the rules that were in force cannot be read; those of the mount's beginning hold"
                );
                Arc::clone(&self.plan.policy)
            }
            None => Arc::clone(&self.plan.policy),
        }
    }

    fn begin(&self) -> Result<(Arc<Filesystem<PosixBacking>>, Arc<Session>), MountFailure> {
        let filesystem = open(self.export, Arc::clone(&self.plan.policy), self.state)?;
        let session = self.mount(&filesystem)?;
        preflight::answers(self.target)?;
        fuse::raise_read_ahead(self.target, fuse::READ_AHEAD_KIB);
        Ok((filesystem, session))
    }

    /// Mounts and begins to serve.
    fn mount(&self, filesystem: &Arc<Filesystem<PosixBacking>>) -> Result<Arc<Session>, MountFailure> {
        let plan = self.plan;
        let failed = |reason: String| MountFailure::Fuse { target: self.target.to_owned(), reason };
        let options = MountOptions {
            source: plan.told_source(),
            // Whom the kernel lets open a file without a request, nobody else keeps from writing to its cache.
            read_only: plan.read_only || plan.policy.cache().open == OpenPolicy::Trust,
            no_exec: plan.no_exec,
            selinux_context: plan.context.clone(),
        };
        let device = fuse::mount(self.target, &options).map_err(|error| failed(error.to_string()))?;
        self.state.set(HeaderWord::Mounted, 1);
        let session = Session::start(device, Arc::clone(filesystem), SessionOptions::default())
            .map_err(|error| failed(error.to_string()))?;
        if plan.policy.cache().data == DataPath::Passthrough && !session.features().has_passthrough() {
            return Err(MountFailure::NoPassthrough);
        }
        Ok(Arc::new(session))
    }

    /// Where another worker has died. Asks neither the export nor, but for its answers, the kernel.
    fn go_on(
        &self,
        begun: &mut dyn FnMut(),
    ) -> Result<(Arc<Filesystem<PosixBacking>>, Arc<Session>), MountFailure> {
        let failed = |reason: String| MountFailure::Fuse { target: self.target.to_owned(), reason };
        let slots = keeper::put_in_order(self.state).map_err(MountFailure::NoProcess)?;
        let left = || {
            let device = descriptors::adopt(self.state.session.device().ok_or(Errno::ENODEV)?)?;
            let backing = PosixBacking::left_in(self.state, self.export)?;
            let filesystem = Filesystem::go_on(backing, self.policy(), Arc::clone(self.state));
            Ok((Device::from(device), Arc::new(filesystem)))
        };
        let (device, filesystem) = left().map_err(|error: Errno| {
            failed(format!("what the worker before this one left is not whole: {error}"))
        })?;
        if self.state.is_upgrading() {
            begun();
            self.wait_until_it_is_final();
        }
        let session = Session::go_on(device, &filesystem, SessionOptions::default(), slots)
            .map_err(|error| failed(error.to_string()))?;
        Ok((filesystem, Arc::new(session)))
    }

    /// What this process opens from now on, no process of the program before this one has. So it does nothing as long as that one
    /// may have to go on; and ends where its keeper has died in vain.
    fn wait_until_it_is_final(&self) {
        fault::point!("upgrade: before its worker waits");
        while self.state.is_upgrading() {
            if u64::from(parent_id()) != self.state.get(HeaderWord::Keeper) {
                process::exit(1);
            }
            thread::sleep(WORD);
        }
        fault::point!("upgrade: its worker need not wait");
    }

    /// What the control socket tells.
    fn reporter(
        &self,
        filesystem: &Arc<Filesystem<PosixBacking>>,
        session: &Arc<Session>,
    ) -> impl Fn() -> Report + Send + Sync + use<> {
        let known = Report {
            target: self.target.to_owned(),
            source: self.plan.told_source(),
            profile: self.plan.profile.clone(),
            pid: process::id(),
            keeper_pid: 0,
            rules: Standing { in_force_since: 0, refused: None },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            upgrade_failed: None,
            namespace: own_namespace(),
            features: features(filesystem, session),
            counters: Counters::new(),
        };
        let state = Arc::clone(self.state);
        let (filesystem, session) = (Arc::clone(filesystem), Arc::clone(session));
        move || {
            let mut report = known.clone();
            report.keeper_pid = u32::try_from(state.get(HeaderWord::Keeper)).unwrap_or_default();
            report.counters = counters(filesystem.population(), &session.counters());
            report.upgrade_failed = state.texts.read(Text::NotUpgraded);
            report.counters.insert("takeovers".to_owned(), state.get(HeaderWord::Takeovers).into());
            report.counters.insert("upgrades".to_owned(), state.get(HeaderWord::Upgrades).into());
            report
        }
    }
}

/// Between two looks whether an upgrade has become final: nobody is served meanwhile.
const WORD: Duration = Duration::from_micros(200);

/// What the control socket answers.
struct Desk<R> {
    report: R,
    reloader: Arc<Reloader>,
    state: Arc<State>,
    session: Arc<Session>,
    has_rules_file: bool,
}

impl<R: Fn() -> Report + Send + Sync + 'static> Office for Desk<R> {
    fn status(&self) -> Report {
        Report { rules: self.reloader.standing(), ..(self.report)() }
    }
    fn reload(&self) -> Reloaded {
        self.reloader.reload()
    }
    fn upgrade(&self, program: Program) -> Upgrading {
        match cannot_run(&program.path) {
            Some(why) => Upgrading::Refused(why),
            None => self.make_room(&program, &Successor::Program(program.path.clone())),
        }
    }
    fn hand_over(&self, program: Program) -> Upgrading {
        self.make_room(&program, &Successor::Elsewhere)
    }
}

impl<R> Desk<R> {
    fn make_room(&self, program: &Program, successor: &Successor) -> Upgrading {
        if let Some(why) = self.stands_against(program) {
            return Upgrading::Refused(why);
        }
        tracing::info!(?successor, version = program.version, "making room for another program");
        self.state.texts.leave(Text::NotUpgraded, "");
        successor.name_in(&self.state);
        let (state, session) = (Arc::clone(&self.state), Arc::clone(&self.session));
        let make_room = move || {
            thread::sleep(ANSWER_FIRST);
            fault::point!("upgrade: before the worker stops");
            stop_between_requests(&session);
            fault::point!("upgrade: the worker has stopped");
            state.begin_upgrade();
            fault::point!("upgrade: before the worker ends");
            process::exit(0);
        };
        match thread::Builder::new().name("upgrade".to_owned()).spawn(make_room) {
            Ok(_) => Upgrading::Begun,
            Err(error) => Upgrading::Refused(format!("no thread for it: {error}")),
        }
    }

    fn stands_against(&self, program: &Program) -> Option<String> {
        if !program.layouts.contains(&LAYOUT) {
            return Some(format!(
                "version {} cannot read what this one ({}) keeps (layout {LAYOUT}): unmount and mount again",
                program.version,
                env!("CARGO_PKG_VERSION")
            ));
        }
        if self.state.texts.read(Text::Recipe).is_none() {
            return Some("its paths are too long, or not UTF-8: unmount and mount again".to_owned());
        }
        if self.has_rules_file && self.state.rules.read().is_none() {
            return Some("its rules file changed while it was mounted: `permfs reload` it first".to_owned());
        }
        None
    }
}

fn cannot_run(program: &Path) -> Option<String> {
    let path = program.display();
    match nix::unistd::access(program, AccessFlags::X_OK) {
        Ok(()) if program.is_file() => None,
        Ok(()) => Some(format!("{path} is no program")),
        Err(error) => Some(format!("{path} cannot be run where the mount's processes are: {error}")),
    }
}

/// Until the answer to whoever asked is on its way.
const ANSWER_FIRST: Duration = Duration::from_millis(20);
/// How long requests in hand may take to end. Those that hang at a server are begun again by whoever takes over.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// Lets the serving threads end what they have in hand, and begin nothing. Each is woken by a request, of which whoever asked
/// makes enough.
///
/// Not by requests of our own: who waits for an answer cannot be killed once the request is in hand, a process ends with its last
/// thread, and no successor begins before that.
fn stop_between_requests(session: &Session) {
    session.stop();
    let begin = Instant::now();
    while !session.has_stopped() && begin.elapsed() < LAST_REQUESTS {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Opens the export on a thread that may hang there, and that keeps its credentials to itself.
fn open(
    path: &Path,
    policy: Arc<Policy>,
    state: &Arc<State>,
) -> Result<Arc<Filesystem<PosixBacking>>, MountFailure> {
    let (asked, state) = (path.to_owned(), Arc::clone(state));
    let path: PathBuf = path.to_owned();
    let open = move || {
        let backing = PosixBacking::open_for_a_mount(&asked, &state)?;
        Filesystem::begin(backing, policy, state)
    };
    match within(SOURCE_PATIENCE, open) {
        Some(Ok(filesystem)) => Ok(Arc::new(filesystem)),
        Some(Err(errno)) => Err(MountFailure::SourceUnreachable { path, errno }),
        None => Err(MountFailure::SourceHangs { path, waited: SOURCE_PATIENCE }),
    }
}

/// What the kernel agreed to, and what the export has.
fn features(filesystem: &Filesystem<PosixBacking>, session: &Session) -> Vec<String> {
    let export = filesystem.features();
    let has = [("nfs", export.nfs), ("handles", export.handles)];
    let has = has.into_iter().filter_map(|(name, has)| has.then_some(name));
    session.features().names().chain(has).map(str::to_owned).collect()
}

fn counters(population: Population, session: &fuse::Counters) -> Counters {
    let mut counters = match serde_json::to_value(session) {
        Ok(serde_json::Value::Object(counted)) => counted,
        _ => Counters::new(),
    };
    counters.insert("inodes".to_owned(), population.inodes.into());
    counters.insert("open".to_owned(), population.open.into());
    counters
}
