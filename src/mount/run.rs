//! One mount, run by this process: what is built in which order, and that it comes down in the opposite one.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::control::{Counters, Office, Report};
use super::mounted::Mounted;
use super::nfs::NfsMount;
use super::patience::{SOURCE_PATIENCE, within};
use super::reloader::{Reloaded, Reloader, Standing};
use super::runtime::{Claim, Record, RuntimeDir, start_time};
use super::table::{DeviceNumber, MountTable, lexical};
use super::{MountFailure, Readiness, RulesSource, Source, control, preflight, signals};
use crate::backing::posix::PosixBacking;
use crate::fs::{Filesystem, Population};
use crate::fuse::{self, MountOptions, Session, SessionOptions};
use crate::policy::{DataPath, Policy};
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
    /// What the mount table and `status` tell as the source, where SOURCE itself says little.
    pub shown_source: Option<String>,
}

impl Plan {
    fn told_source(&self) -> String {
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

/// What happens to a mount from outside.
enum Event {
    Signal(Signal),
    SessionEnded(Result<(), String>),
}

/// Mounts, announces that the mount answers, and serves it until it is unmounted or a signal ends it.
///
/// # Errors
/// Whatever stands in the way of mounting; then nothing is left mounted.
pub fn run(plan: &Plan, readiness: &mut Readiness) -> Result<(), MountFailure> {
    preflight::privilege()?;
    preflight::fuse_device()?;
    let target = preflight::target(&plan.target, &MountTable::read()?)?;
    signals::block().map_err(MountFailure::NoProcess)?;
    signals::raise_limits();

    // Each of these takes down what it stands for when it is dropped, the last one first.
    let claim = RuntimeDir::from_env().claim()?;
    if readiness.in_background() {
        telemetry::write_to_file(claim.log());
    }
    let export = Export::prepare(plan, &claim)?;
    preflight::apart(export.path(), &target)?;
    let filesystem = open(export.path(), Arc::clone(&plan.policy))?;
    let (mounted, session) = mount(plan, &target, &filesystem)?;
    preflight::answers(&target)?;
    fuse::raise_read_ahead(&target, fuse::READ_AHEAD_KIB);

    let device = mounted.device;
    claim.publish(&record(plan, &target, device))?;
    let reloader = Arc::new(Reloader::new(plan.rules.clone(), &filesystem, &session));
    let report = reporter(plan, &target, &filesystem, &session);
    control::serve(&claim.control(), Desk { report, reloader: Arc::clone(&reloader) })?;
    let (events, inbox) = mpsc::channel();
    listen(&session, events)?;
    if readiness.announce().is_err() {
        tracing::warn!(target = %target.display(), "nobody waits for the mount any more; taking it down");
        return Ok(());
    }
    tracing::info!(source = plan.told_source(), target = %target.display(), profile = plan.profile, "mounted");

    if plan.watch {
        reloader.watch().map_err(|error| MountFailure::NoProcess(error.into()))?;
    }
    let event = loop {
        match inbox.recv() {
            Ok(Event::Signal(Signal::SIGHUP)) if !io::stdin().is_terminal() => {
                reloader.reload_in_background();
            }
            event => break event,
        }
    };
    match event {
        Ok(Event::Signal(signal)) => {
            tracing::info!(%signal, "unmounting");
            mounted.take_down();
            if let Err(RecvTimeoutError::Timeout) = inbox.recv_timeout(PARTING_PATIENCE) {
                tracing::warn!("the mount was in use; its users get ENOTCONN from now on");
            }
        }
        Ok(Event::SessionEnded(outcome)) => {
            if let Err(error) = outcome {
                tracing::error!(%error, "the session ended with an error");
            }
            mounted.session_ended();
        }
        // Both senders live as long as the process.
        Err(_) => mounted.take_down(),
    }
    tracing::info!(target = %target.display(), "unmounted");
    Ok(())
}

/// Where the export is on this node.
enum Export {
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

    fn path(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::Nfs(mount) => mount.path(),
        }
    }
}

/// Opens the export on a thread that may hang there, and that keeps its credentials to itself.
fn open(path: &Path, policy: Arc<Policy>) -> Result<Arc<Filesystem<PosixBacking>>, MountFailure> {
    let asked = path.to_owned();
    let path = path.to_owned();
    let open = move || Filesystem::new(PosixBacking::open(&asked)?, policy);
    match within(SOURCE_PATIENCE, open) {
        Some(Ok(filesystem)) => Ok(Arc::new(filesystem)),
        Some(Err(errno)) => Err(MountFailure::SourceUnreachable { path, errno }),
        None => Err(MountFailure::SourceHangs { path, waited: SOURCE_PATIENCE }),
    }
}

/// Mounts and begins to serve.
fn mount(
    plan: &Plan,
    target: &Path,
    filesystem: &Arc<Filesystem<PosixBacking>>,
) -> Result<(Mounted, Arc<Session>), MountFailure> {
    let failed = |reason: String| MountFailure::Fuse { target: target.to_owned(), reason };
    let options = MountOptions {
        source: plan.told_source(),
        read_only: plan.read_only,
        no_exec: plan.no_exec,
        selinux_context: plan.context.clone(),
    };
    let device = fuse::mount(target, &options).map_err(|error| failed(error.to_string()))?;
    let mounted = Mounted::find(target)
        .ok_or_else(|| failed("something else was mounted there at the same moment".to_owned()))?;
    let session = Session::start(device, Arc::clone(filesystem), SessionOptions::default())
        .map_err(|error| failed(error.to_string()))?;
    if plan.policy.cache().data == DataPath::Passthrough && !session.features().has_passthrough() {
        return Err(MountFailure::NoPassthrough);
    }
    Ok((mounted, Arc::new(session)))
}

fn record(plan: &Plan, target: &Path, device: DeviceNumber) -> Record {
    Record {
        target: target.to_owned(),
        source: plan.told_source(),
        profile: plan.profile.clone(),
        pid: process::id(),
        started: start_time(process::id()).unwrap_or_default(),
        device,
    }
}

/// What the control socket answers.
struct Desk<R> {
    report: R,
    reloader: Arc<Reloader>,
}

impl<R: Fn() -> Report + Send + Sync + 'static> Office for Desk<R> {
    fn status(&self) -> Report {
        Report { rules: self.reloader.standing(), ..(self.report)() }
    }
    fn reload(&self) -> Reloaded {
        self.reloader.reload()
    }
}

/// What the control socket tells of the mount.
fn reporter(
    plan: &Plan,
    target: &Path,
    filesystem: &Arc<Filesystem<PosixBacking>>,
    session: &Arc<Session>,
) -> impl Fn() -> Report + Send + Sync + use<> {
    let known = Report {
        target: target.to_owned(),
        source: plan.told_source(),
        profile: plan.profile.clone(),
        pid: process::id(),
        rules: Standing { in_force_since: 0, refused: None },
        features: features(filesystem, session),
        counters: Counters::new(),
    };
    // Weak, so that a forgotten reporter keeps no descriptor of the export open.
    let (filesystem, session) = (Arc::downgrade(filesystem), Arc::downgrade(session));
    move || {
        let mut report = known.clone();
        if let (Some(filesystem), Some(session)) = (filesystem.upgrade(), session.upgrade()) {
            report.counters = counters(filesystem.population(), &session.counters());
        }
        report
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

/// Sends what happens to the mount: signals, and the end of its session.
fn listen(session: &Arc<Session>, events: Sender<Event>) -> Result<(), MountFailure> {
    let failed = |error: std::io::Error| MountFailure::NoProcess(error.into());
    let signal_events = events.clone();
    signals::deliver(move |signal| {
        let _ = signal_events.send(Event::Signal(signal));
    })
    .map_err(failed)?;
    let session = Arc::clone(session);
    let join = move || {
        let _ = events.send(Event::SessionEnded(session.join().map_err(|error| error.to_string())));
    };
    thread::Builder::new().name("session".to_owned()).spawn(join).map_err(failed)?;
    Ok(())
}
