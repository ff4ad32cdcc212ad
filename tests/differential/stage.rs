//! Where sequences are played: one mount, two directories, four actors; a fresh pair of directories for each sequence.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::live::mount::require_root_and_fuse;
use super::live::tree::{listing, same_trees};
use super::live::{Backing, Mount, Who};
use super::operation::{Actor, Operation, Step};
use super::side::{Outcome, Side};

/// Where in a case's directory the sequence begins: deep enough that no chain of `..` leads out of the case.
const SCENE: &str = "deep/enough";

/// The mount, the bare directory beside it, and the actors.
pub struct Stage {
    actors: [ActorThread; 4],
    mount: Mount,
    bare: Bare,
    played: AtomicU64,
}

/// A directory on the export's filesystem that permfs does not touch, mounted with the flags that permfs has.
struct Bare(PathBuf);

impl Stage {
    pub fn new(rules: &str) -> Self {
        require_root_and_fuse();
        let actors = [
            ActorThread::start(Who::new(0, 0)),
            ActorThread::start(Who::new(1234, 1234)),
            ActorThread::start(Who::new(1235, 1235).with_groups(&[1234])),
            ActorThread::powerless(),
        ];
        let mut mount = Mount::unmounted(Backing::TempDir);
        // Both are bind mounts with noatime (the page cache answers reads that would touch atime) and nodev (a FUSE
        // mount is; opening a device must be refused on both sides).
        like_permfs(&mount.source());
        let bare = Bare(mount.outside().join("bare"));
        fs::create_dir(&bare.0).unwrap();
        like_permfs(&bare.0);
        mount.mount(rules);
        Self { actors, mount, bare, played: AtomicU64::new(0) }
    }

    /// Plays `steps` on both sides; the first difference is the error.
    pub fn compare(&self, steps: &[Step]) -> Result<(), String> {
        let case = format!("case{}", self.played.fetch_add(1, Ordering::Relaxed));
        let [bare, stored, shown] = [self.bare.0.join(&case), self.mount.stored(&case), self.mount.at(&case)];
        set_the_scene(&bare.join(SCENE));
        set_the_scene(&stored.join(SCENE));
        let sides = [&bare, &shown].map(|case| Arc::new(Mutex::new(Side::new(directory(&case.join(SCENE))))));
        let verdict = self.play(steps, &sides).and_then(|()| {
            same_trees("the export", &listing(&bare), &listing(&stored))?;
            same_trees("the mount", &listing(&bare), &listing(&shown))
        });
        drop(sides);
        let _ = fs::remove_dir_all(&bare);
        let _ = fs::remove_dir_all(&stored);
        verdict
    }

    fn play(&self, steps: &[Step], sides: &[Arc<Mutex<Side>>; 2]) -> Result<(), String> {
        for actor in &self.actors {
            // A sequence does not see the umask that the one before it left.
            let _ = actor.perform(&sides[0], &Operation::Umask { mask: 0o022 });
        }
        for (index, step) in steps.iter().enumerate() {
            let actor = &self.actors[match step.who {
                Actor::Root => 0,
                Actor::User => 1,
                Actor::Colleague => 2,
                Actor::Powerless => 3,
            }];
            // The umask is the actor's, not the side's: once is enough, and twice would differ.
            if matches!(step.what, Operation::Umask { .. }) {
                let _ = actor.perform(&sides[0], &step.what);
                continue;
            }
            let [bare, mounted] = [&sides[0], &sides[1]].map(|side| actor.perform(side, &step.what));
            if bare != mounted {
                return Err(format!("step {index}, {step:?}\n  bare:    {bare:?}\n  mounted: {mounted:?}"));
            }
        }
        Ok(())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.mount.unmount(&[]);
        let _ = umount2(&self.mount.source(), MntFlags::MNT_DETACH);
    }
}

fn like_permfs(directory: &Path) {
    const NONE: Option<&str> = None;
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(Some(directory), directory, NONE, MsFlags::MS_BIND, NONE).unwrap();
    mount(NONE, directory, NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, NONE).unwrap();
}

/// A directory of the user's with a little in it already, so that sequences meet something early.
fn set_the_scene(root: &Path) {
    fs::create_dir_all(root.join("dir/a")).unwrap();
    fs::write(root.join("c"), b"content").unwrap();
    std::os::unix::fs::symlink("c", root.join("d")).unwrap();
    fs::create_dir(root.join("b")).unwrap();
    for path in ["", "dir", "c"] {
        chown(root.join(path), Some(1234), Some(1234)).unwrap();
    }
    fs::set_permissions(root.join("b"), Permissions::from_mode(0o1777)).unwrap();
}

fn directory(path: &Path) -> std::os::fd::OwnedFd {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// A thread that is somebody for good, and does what it is sent.
struct ActorThread {
    jobs: Option<Sender<(Arc<Mutex<Side>>, Operation)>>,
    outcomes: Mutex<Receiver<Outcome>>,
    thread: Option<JoinHandle<()>>,
}

impl ActorThread {
    fn start(who: Who) -> Self {
        Self::begun_by(move || who.become_them())
    }

    fn powerless() -> Self {
        Self::begun_by(|| {
            Who::new(0, 0).become_them();
            let none = CapabilitySet::empty();
            let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, sets).unwrap();
        })
    }

    fn begun_by(become_them: impl FnOnce() + Send + 'static) -> Self {
        let (jobs, inbox) = channel::<(Arc<Mutex<Side>>, Operation)>();
        let (outbox, outcomes) = channel();
        let thread = thread::spawn(move || {
            become_them();
            for (side, operation) in inbox {
                let outcome = side.lock().unwrap().perform(&operation);
                drop(side);
                outbox.send(outcome).unwrap();
            }
        });
        Self { jobs: Some(jobs), outcomes: Mutex::new(outcomes), thread: Some(thread) }
    }

    fn perform(&self, side: &Arc<Mutex<Side>>, operation: &Operation) -> Outcome {
        let jobs = self.jobs.as_ref().unwrap();
        jobs.send((Arc::clone(side), operation.clone())).unwrap();
        self.outcomes.lock().unwrap().recv().expect("the actor lives")
    }
}

impl Drop for ActorThread {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
