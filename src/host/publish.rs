//! Showing a volume to a pod.
//!
//! The directory is found as those whom the rules let, through no symlink, and they prove that they can enter it, so that
//! no pod starts on a share it cannot use. The very directory that was found is then mounted, privately, for its daemon.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::unistd::AccessFlags;

use super::daemon;
use super::ledger::{Entry, Record};
use super::protocol::{Code, Order, Publish, Refusal, Rules, Share};
use super::server::Host;
use super::share::{Opened, Way};
use super::stage::GRACE;
use super::unpublish::{is_deserted, take_down};
use super::walk::{Stuck, walk};
use crate::backing::BackingFs;
use crate::mount::table::{MountEntry, MountTable};
use crate::mount::{self, MountFailure, State, nfs};
use crate::policy::{NfsGid, Operation, PodGid};
use crate::sys::{self, Errno};

/// How long a share may take to answer. The plugin waits for this, a mount of NFS and the daemon.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);
/// How long mount.nfs may take before it is killed: a pod that is deleted meanwhile has to wait for it.
pub(super) const ATTACH_PATIENCE: Duration = Duration::from_secs(50);
/// How long all of it may take, within what the plugin waits.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(105);
/// What a daemon is given in any case.
const DAEMON_LEAST: Duration = Duration::from_secs(5);
/// The mode of a target: the mount covers it.
const TARGET_MODE: u32 = 0o750;

/// The directory that is to be shown.
struct Directory {
    fd: OwnedFd,
    group: NfsGid,
}

impl Host {
    /// Shows a volume.
    pub(super) fn publish(&self, publish: &Publish) -> Result<(), Refusal> {
        let Publish { order, rules } = publish;
        let _turn = self.turns.enter(order.target.display().to_string())?;
        if let Some(before) = self.clear_the_way(order)? {
            return if before == *order { Ok(()) } else { Err(different(order)) };
        }
        // Two calls for two targets must not both find the volume free.
        let _alone =
            order.alone.then(|| self.turns.enter(format!("the volume {}", order.volume_id))).transpose()?;
        if order.alone {
            self.refuse_company(order)?;
        }
        let entry = self.ledger.add(Record::Published(Box::new(order.clone())))?;
        let shown = self.show(&entry, order, rules);
        if shown.is_err() {
            let _ = take_down(&order.target);
            self.clear(entry);
            let _ = fs::remove_dir(&order.target);
        }
        shown
    }

    /// The order by which something is shown there already; none where the way is clear, if need be by clearing it.
    fn clear_the_way(&self, order: &Order) -> Result<Option<Order>, Refusal> {
        let entry = self.ledger.find(&order.target);
        match (entry, mounted_at(&order.target)?) {
            (None, None) => Ok(None),
            (_, Some(other)) if !other.is_permfs() => {
                let sentence = format!("{} is mounted on the target {}", other.kind, order.target.display());
                Err(Refusal::new(Code::FailedPrecondition, sentence))
            }
            (Some(Entry { record: Record::Published(before), .. }), Some(_)) if is_served(&order.target) => {
                Ok(Some(*before))
            }
            // Of a newer host: it serves, and what was asked for is not to be told.
            (Some(Entry { record: Record::Unknown { .. }, .. }), Some(_)) if is_served(&order.target) => {
                Ok(Some(order.clone()))
            }
            (entry, _) => {
                take_down(&order.target)?;
                if let Some(entry) = entry {
                    self.clear(entry);
                }
                Ok(None)
            }
        }
    }

    /// Of a volume for a single writer there is one place on a node.
    fn refuse_company(&self, order: &Order) -> Result<(), Refusal> {
        let elsewhere = |record: &Record| {
            matches!(record, Record::Published(other)
                if other.volume_id == order.volume_id && other.target != order.target)
        };
        match self.ledger.entries().into_iter().find(|entry| elsewhere(&entry.record)) {
            Some(other) => {
                let place = other.record.place().display().to_string();
                let sentence =
                    format!("the volume is for one pod (ReadWriteOncePod) and published at {place} already");
                Err(Refusal::new(Code::FailedPrecondition, sentence))
            }
            None => Ok(()),
        }
    }

    fn show(&self, entry: &Entry, order: &Order, rules: &Rules) -> Result<(), Refusal> {
        let begin = Instant::now();
        let way = self.way(entry, order, rules)?;
        let place = place(&way, order)?;
        let (asked, by) = (order.clone(), rules.clone());
        let probe = move || probe(&way, &asked, &by);
        let found = self.crews.probes.within(&place, PROBE_PATIENCE, probe)?.unwrap_or_else(|| {
            let waited = PROBE_PATIENCE.as_secs();
            let sentence = format!("{} does not answer within {waited} s: check the server", order.share);
            Err(Refusal::new(Code::Unavailable, sentence))
        })?;
        let rule = fs_group_rule(order, rules, found.group)?;
        rules.policy(&order.choice, rule.clone())?;
        prepare(entry, order, rules, &found.fd)
            .map_err(|(what, error)| Refusal::new(Code::Internal, format!("cannot {what}: {error}")))?;
        drop(found);
        daemon::start(
            entry,
            order,
            rule.as_deref(),
            PUBLISH_PATIENCE.saturating_sub(begin.elapsed()).max(DAEMON_LEAST),
        )
    }

    /// Where the share is reached from.
    fn way(&self, entry: &Entry, order: &Order, rules: &Rules) -> Result<Way, Refusal> {
        match (&order.share, &order.staging) {
            (Share::Path(path), _) => Way::of_path(path, rules),
            (Share::Nfs { export, .. }, Some(staging)) => {
                let staged = mounted_at(staging)?.is_some_and(|mount| mount.kind.starts_with("nfs"));
                if staged {
                    return Ok(Way::mounted(staging));
                }
                let sentence = format!("{export} is not staged at {}: stage it first", staging.display());
                Err(Refusal::new(Code::FailedPrecondition, sentence))
            }
            (Share::Nfs { export, options }, None) => {
                let place = entry.export();
                let (export, options, path) = (export.clone(), options.clone(), place.clone());
                let told = export.clone();
                let attach = move || {
                    fs::create_dir(&path)
                        .map_err(|error| MountFailure::Runtime { path: path.clone(), errno: error.into() })?;
                    nfs::attach(ATTACH_PATIENCE, &export, &with_end(&options), false, &path)
                };
                match self.crews.attaches.within(&told, ATTACH_PATIENCE + GRACE, attach)? {
                    Some(Ok(())) => Ok(Way::mounted(&place)),
                    Some(Err(failure)) => Err(Refusal::new(Code::FailedPrecondition, failure.to_string())),
                    None => {
                        let sentence =
                            format!("{told} does not answer within {} s", ATTACH_PATIENCE.as_secs());
                        Err(Refusal::new(Code::Unavailable, sentence))
                    }
                }
            }
        }
    }
}

/// What hangs where this hangs: the file system that the directory lies in, so that one that is dead delays no other.
fn place(way: &Way, order: &Order) -> Result<String, Refusal> {
    let table = MountTable::read().map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    let path = way.base.join(way.rest.to_string()).join(order.directory.to_string());
    let inside = table.covering(&path).filter(|mount| mount.target.starts_with(&way.base));
    // A base may be a symlink to anywhere.
    Ok(inside.map_or_else(
        || way.base.display().to_string(),
        |mount| format!("{} ({}:{})", mount.source, mount.device.major, mount.device.minor),
    ))
}

/// The options, with an end to the retries of mount.nfs(8) where none is given: within what kubelet waits for.
pub(super) fn with_end(options: &[String]) -> Vec<String> {
    let mut options = options.to_vec();
    if !options.iter().any(|option| option.starts_with("retry=")) {
        options.push("retry=0".to_owned());
    }
    options
}

/// What is mounted on a path.
pub(super) fn mounted_at(path: &Path) -> Result<Option<MountEntry>, Refusal> {
    let table = MountTable::read().map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    Ok(table.find(path).cloned())
}

/// Whether a process serves the mount there. One that does not answer still does; where nothing is known of any, the mount
/// itself is asked.
fn is_served(target: &Path) -> bool {
    let Ok(mounts) = mount::status(Some(target)) else { return false };
    mounts.iter().all(|mount| match (mount.state, mount.pid) {
        (State::Serving, _) | (State::NotAnswering, Some(_)) => true,
        (State::Dead, _) => false,
        (State::NotAnswering, None) => !is_deserted(target),
    })
}

/// Finds the directory as somebody whom the rules let in, and enters it.
fn probe(way: &Way, order: &Order, rules: &Rules) -> Result<Directory, Refusal> {
    let Order { share, directory: path, choice, .. } = order;
    let failed = |what: &str, error: Errno| {
        Refusal::new(Code::FailedPrecondition, format!("cannot {what} {share}: {error}"))
    };
    // The group that the fsGroup will stand for is known when the directory is; most often it is that of the share.
    let base = sys::stat::metadata(&way.base).map_err(|error| failed("look at", error.into()))?;
    let guess = NfsGid::new(base.gid()).filter(|group| !group.is_root());
    let rule = guess.map_or(Ok(None), |group| fs_group_rule(order, rules, group))?;
    let policy = rules.policy(choice, rule)?;
    let opened = Opened::new(way, &policy)?;
    let Opened { backing, hands } = &opened;
    let base = backing.root().map_err(|errno| failed("look at", errno))?;
    let found = walk(backing, hands, base, &way.rest)
        .and_then(|base| walk(backing, hands, base, path))
        .map_err(|stuck| opened.stuck(share, &stuck))?;
    let mask = AccessFlags::R_OK | AccessFlags::X_OK;
    hands
        .attempt(Operation::Open, Some(found.attr.owner()), None, |who| {
            backing.access(who, &found.node, mask)
        })
        .map_err(|errno| {
            let at = if path.is_empty() { "its directory".to_owned() } else { path.to_string() };
            opened.stuck(share, &Stuck { at, errno })
        })?;
    let fd = found.node.as_fd().try_clone_to_owned().map_err(|error| failed("keep", error.into()))?;
    Ok(Directory { fd, group: found.attr.gid })
}

/// `POD:NFS` for the pod's fsGroup, where there is one and the rules say nothing of it.
fn fs_group_rule(order: &Order, rules: &Rules, directory: NfsGid) -> Result<Option<String>, Refusal> {
    let Some(fs_group) = order.fs_group.and_then(PodGid::new) else { return Ok(None) };
    // A rule, or unmapped.pod = "keep": the admin's word.
    if rules.policy(&order.choice, None)?.group_named(fs_group).is_ok() {
        return Ok(None);
    }
    if directory.is_root() {
        tracing::warn!(%fs_group, volume = order.volume_id, "group 0 on the export: no fsGroup stands for it");
        return Ok(None);
    }
    Ok(Some(format!("{fs_group}:{directory}")))
}

/// The rules of the moment, the directory under a name of its own, and the target.
fn prepare(
    entry: &Entry,
    order: &Order,
    rules: &Rules,
    directory: &OwnedFd,
) -> Result<(), (String, io::Error)> {
    let source = entry.source();
    show_at(&source, entry, rules, directory)
        .map_err(|error| (format!("prepare the mount in {}", source.display()), error))?;
    match DirBuilder::new().mode(TARGET_MODE).create(&order.target) {
        // The kubelet makes the parent.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err((format!("make the target {}", order.target.display()), error))
        }
        _ => Ok(()),
    }
}

fn show_at(source: &Path, entry: &Entry, rules: &Rules, directory: &OwnedFd) -> io::Result<()> {
    fs::write(entry.rules(), &rules.text)?;
    fs::create_dir(source)?;
    let found = format!("/proc/self/fd/{}", directory.as_raw_fd());
    // With what is mounted below; and nothing that happens to the copy shows elsewhere.
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    sys::mount::mount(OsStr::new(&found), source, c"none", bind, OsStr::new(""))?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    Ok(sys::mount::mount(OsStr::new("none"), source, c"none", private, OsStr::new(""))?)
}

fn different(order: &Order) -> Refusal {
    let sentence = format!("{} shows something else already: unpublish it first", order.target.display());
    Refusal::new(Code::AlreadyExists, sentence)
}
