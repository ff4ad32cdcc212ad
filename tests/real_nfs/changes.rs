//! Names are made, moved and removed while the server is away and whoever is at it is killed: what a pod is shown afterwards is what it did.
//!
//! The verified load of [`super::takeover`] does all that pods do; here everybody is at a change of names when the server goes, and
//! looks at the directory right after it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use nix::sys::stat::{Mode, SFlag, mknod};

use super::live::POD;
use super::live::mount::permfs;
use super::runner::Scenario;
use super::served::Served;
use super::stage::{Outage, PATIENCE, Stage, WHOSE_GROUPS, wait_until};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "takeover: names that were being changed while the server was away are shown as they are",
    run: names_are_shown_as_they_are,
}];

/// How often the server goes away.
const OUTAGES: usize = 4;
/// Killed one after the other in each outage: the second one finds what the first has left.
const KILLED: usize = 2;
/// How long they work between two outages.
const WORK: Duration = Duration::from_millis(1500);

/// A directory of one's own, and what is in it.
struct Desk {
    directory: PathBuf,
    names: Vec<String>,
    next: u64,
}

/// What is done to a directory, over and over.
type Chore = fn(&mut Desk) -> Result<(), String>;

/// One for each operation that cannot be done twice. None holds a file open, which nobody may who starts a process while the
/// server is away.
const CHORES: &[(&str, Chore)] = &[
    ("files moved", |desk| {
        desk.moves(|path| mknod(path, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0))
    }),
    ("directories moved", |desk| desk.moves(|path| fs::create_dir(path))),
    ("directories", |desk| desk.comes_and_goes(|path| fs::create_dir(path), |path| fs::remove_dir(path))),
    ("links", |desk| desk.comes_and_goes(|path| symlink("there", path), |path| fs::remove_file(path))),
    ("files", |desk| {
        desk.comes_and_goes(
            |path| mknod(path, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0),
            |path| fs::remove_file(path),
        )
    }),
];

impl Desk {
    /// Of two names in turn: what comes late, and belongs to a name's last use, would be seen.
    fn fresh(&mut self) -> String {
        self.next += 1;
        format!("name-{}", self.next % 2)
    }

    /// Makes one object, and from then on moves it to another name.
    fn moves<E: ToString>(&mut self, make: impl Fn(&Path) -> Result<(), E>) -> Result<(), String> {
        let new = self.fresh();
        let at = self.directory.join(&new);
        match self.names.pop() {
            None => make(&at).map_err(|error| format!("making {new}: {}", error.to_string()))?,
            Some(old) => {
                fs::rename(self.directory.join(&old), &at)
                    .map_err(|error| format!("{old} to {new}: {error}"))?;
                self.is_gone(&old)?;
            }
        }
        self.names.push(new);
        self.is_as_told()
    }

    /// Makes an object, and removes it again.
    fn comes_and_goes<E: ToString, F: ToString>(
        &mut self,
        make: impl Fn(&Path) -> Result<(), E>,
        remove: impl Fn(&Path) -> Result<(), F>,
    ) -> Result<(), String> {
        let name = self.fresh();
        let at = self.directory.join(&name);
        make(&at).map_err(|error| format!("making {name}: {}", error.to_string()))?;
        self.names.push(name.clone());
        self.is_as_told()?;
        remove(&at).map_err(|error| format!("removing {name}: {}", error.to_string()))?;
        self.names.clear();
        self.is_gone(&name)?;
        self.is_as_told()
    }

    fn is_gone(&self, name: &str) -> Result<(), String> {
        let found = fs::symlink_metadata(self.directory.join(name));
        if found.is_ok() { Err(format!("{name} is still there")) } else { Ok(()) }
    }

    /// What is listed, and what can be looked up, is what was done.
    fn is_as_told(&self) -> Result<(), String> {
        let listed = listed(&self.directory)?;
        if listed != self.names {
            return Err(format!("{listed:?} is listed, and there is {:?}", self.names));
        }
        for name in &self.names {
            fs::symlink_metadata(self.directory.join(name)).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }
}

fn listed(directory: &Path) -> Result<Vec<String>, String> {
    let names = fs::read_dir(directory).map_err(|error| format!("listing: {error}"))?;
    names
        .map(|entry| {
            Ok(entry.map_err(|error| format!("listing: {error}"))?.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

fn names_are_shown_as_they_are(stage: &Stage) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    let served = Served { target: stage.pod(""), permfs };
    let (stop, faults) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let done: Vec<_> = CHORES.iter().chain(CHORES).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for (number, (what, chore)) in CHORES.iter().chain(CHORES).enumerate() {
            let (stop, faults, done) = (&stop, &faults, &done[number]);
            let directory = stage.pod(format!("{number}"));
            let at_server = stage.server(format!("{number}"));
            scope.spawn(move || {
                let work = || {
                    fs::create_dir(&directory).unwrap();
                    let mut desk = Desk { directory, names: Vec::new(), next: 0 };
                    while !stop.load(Ordering::Relaxed) {
                        if let Err(fault) = chore(&mut desk) {
                            let there = listed(&at_server);
                            faults
                                .lock()
                                .unwrap()
                                .push(format!("{what} in {number}: {fault}; at the server {there:?}"));
                            return;
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                };
                POD.run(work);
            });
        }
        for _ in 0..OUTAGES {
            sleep(WORK);
            // A request at which three workers die is refused: none may meet a second outage.
            let counts = || done.iter().map(|done| done.load(Ordering::Relaxed)).collect::<Vec<_>>();
            let before = counts();
            let all_went_on = || counts().iter().zip(&before).all(|(now, before)| *now > before + 1);
            let _ = wait_until(PATIENCE, || all_went_on() || !faults.lock().unwrap().is_empty());
            let _outage = Outage::cut();
            for _ in 0..KILLED {
                sleep(Duration::from_millis(300));
                served.kill_worker();
            }
        }
        sleep(WORK);
        stop.store(true, Ordering::Relaxed);
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
