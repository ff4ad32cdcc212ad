//! A mount that runs as a service outlives the service: all its processes are killed at once, and the service that is started in
//! their place goes on with what the manager has kept. What cannot be had again is refused.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod live;
#[path = "takeover_room/served.rs"]
mod served;
mod store_room;
mod takeover_room;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use live::waits::until;
use live::{AIRFLOW, Backing, Mount};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpgid};
use permfs::state::layout::LAYOUT;
use rustix::fs::FlockOperation;
use served::processes_of_the_group;
use store_room::{Manager, Service};
use takeover_room::fcntl::{self, Owner};
use takeover_room::{Load, Options, Who};

/// The pod of the airflow rules.
const POD: Who = Who::new(50000, 0);
const PAGE: &str = "\n[profile.airflow.cache]\ndata = \"page\"\n";
const NODE_LOCKS: &str = "\n[profile.airflow.locks]\nscope = \"node\"\n";
/// What is kept of an export that is one mount.
const KEPT: [&str; 4] = ["permfs-device", "permfs-mount-0", "permfs-source", "permfs-state"];

/// One at a time: a process that another test starts has this one's files open until it executes something, and then waits to
/// close them for a service that is not there.
static TURN: Mutex<()> = Mutex::new(());

/// A mount, its manager, and its rules.
struct Stage {
    mount: Mount,
    manager: Manager,
    rules: String,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    fn of(more: &str) -> Self {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            mount: Mount::unmounted(Backing::Tmpfs),
            manager: Manager::new(),
            rules: format!("{AIRFLOW}{more}"),
            _turn,
        }
    }

    fn start(&self) -> Service {
        self.manager.start(&self.mount.source(), &self.mount.target(), &self.rules)
    }

    #[track_caller]
    fn started(&self) -> Service {
        let service = self.start().ready();
        assert_eq!(self.manager.kept(), KEPT, "kept when it is ready");
        service
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.mount.at(name)
    }

    /// Unmounts, and looks that nothing is left.
    #[track_caller]
    fn over(self, service: Service) {
        self.mount.unmount_when_idle();
        assert!(service.end().success());
        assert!(self.mount.mount_line().is_none());
        until("nothing is kept", || self.manager.kept().is_empty());
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

fn errno<T>(outcome: io::Result<T>) -> i32 {
    outcome.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

#[test]
fn the_load_sees_nothing_of_ten_killed_services_where_the_kernel_passes_files_through() {
    survives("", 10);
}

#[test]
fn the_load_sees_nothing_of_ten_killed_services_with_files_in_the_page_cache() {
    survives(PAGE, 10);
}

/// Locks are the node's here, and live in the kernel; what has no name is left out.
fn survives(more: &str, times: usize) {
    let stage = Stage::of(&format!("{more}{NODE_LOCKS}"));
    let mut service = stage.started();
    let options = Options { who: Some(POD), names_only: true, ..Options::new(stage.at("load")) };
    let load = Load::start(options);
    for _ in 0..times {
        let (goal, begun) = (load.operations() + 1000, Instant::now());
        while load.operations() < goal {
            assert!(begun.elapsed() < Duration::from_secs(60), "it stands still: {:?}", load.faults());
            sleep(Duration::from_millis(2));
        }
        service.kill();
        assert_eq!(stage.manager.kept(), KEPT);
        service = stage.start().ready();
    }
    let report = load.finish();
    report.assert_clean();
    println!("{} operations, worst pause {:?}", report.total(), report.worst_pause());
    stage.over(service);
}

#[test]
fn what_is_open_goes_on_by_its_descriptors_also_after_a_second_kill() {
    for more in ["", PAGE] {
        let stage = Stage::of(more);
        let mut service = stage.started();
        let (file, mut log) = POD.run(|| {
            let file = open(&stage.at("f"));
            file.write_all_at(b"before", 0).unwrap();
            fs::create_dir(stage.at("d")).unwrap();
            let log = OpenOptions::new().append(true).create(true).open(stage.at("log")).unwrap();
            (file, log)
        });
        let directory = File::open(stage.at("d")).unwrap();
        for round in 0..3_u64 {
            log.write_all(b"line\n").unwrap();
            service.kill();
            service = stage.start().ready();
            file.write_all_at(format!("round {round}").as_bytes(), 10 * (round + 1)).unwrap();
            let mut found = [0; 6];
            file.read_exact_at(&mut found, 0).unwrap();
            assert_eq!(&found, b"before");
            file.sync_all().unwrap();
            assert!(directory.metadata().unwrap().is_dir());
            POD.run(|| fs::write(stage.at("d").join(round.to_string()), "x").unwrap());
        }
        // At once, twice.
        service.kill();
        stage.start().kill();
        let service = stage.start().ready();
        log.write_all(b"line\n").unwrap();
        let stored = fs::read(stage.mount.stored("f")).unwrap();
        assert_eq!(&stored[..6], b"before");
        assert_eq!((&stored[10..17], &stored[30..37]), (&b"round 0"[..], &b"round 2"[..]));
        assert_eq!(fs::read_to_string(stage.mount.stored("log")).unwrap(), "line\n".repeat(4));
        drop((file, log, directory));
        stage.over(service);
    }
}

#[test]
fn what_is_removed_and_open_is_gone_with_its_last_descriptor() {
    let stage = Stage::of(PAGE);
    let service = stage.started();
    let removed = POD.run(|| {
        let file = open(&stage.at("f"));
        file.write_all_at(b"content", 0).unwrap();
        fs::remove_file(stage.at("f")).unwrap();
        // Another takes the name, and on a tmpfs perhaps more of it.
        fs::write(stage.at("f"), "another").unwrap();
        file
    });
    service.kill();
    let service = stage.start().ready();
    assert_eq!(errno(removed.write_at(b"lost", 100)), libc::ESTALE);
    assert_eq!(errno(removed.sync_all()), libc::ESTALE);
    assert_eq!(fs::read_to_string(stage.mount.stored("f")).unwrap(), "another");
    drop(removed);
    stage.over(service);
}

#[test]
fn a_lock_that_is_lost_costs_its_holder_the_file_until_that_is_opened_anew() {
    for more in ["", PAGE] {
        for kind in ["fcntl", "flock"] {
            let stage = Stage::of(more);
            let service = stage.started();
            let (holder, other, bystander) = POD.run(|| {
                let holder = open(&stage.at("locked"));
                holder.write_all_at(b"mine", 0).unwrap();
                match kind {
                    "fcntl" => fcntl::lock(&holder, Owner::OpenFile, 0, 4).unwrap(),
                    _ => fcntl::flock(&holder, FlockOperation::NonBlockingLockExclusive).unwrap(),
                }
                (holder, open(&stage.at("locked")), open(&stage.at("unlocked")))
            });
            service.kill();
            let service = stage.start().ready();
            // The kernel is told a moment later.
            let refused = || errno(holder.write_at(b"stolen", 0)) == libc::EIO;
            until(&format!("{kind} {more}: its holder may not go on"), refused);
            assert_eq!(errno(holder.read_at(&mut [0; 4], 0)), libc::EIO, "{kind} {more}");
            assert_eq!(errno(other.write_at(b"x", 9)), libc::EIO, "whoever had it open");
            assert_eq!(errno(fcntl::lock(&holder, Owner::OpenFile, 0, 4)), libc::EIO);
            bystander.write_all_at(b"goes on", 0).unwrap();
            POD.run(|| {
                let anew = open(&stage.at("locked"));
                fcntl::lock(&anew, Owner::OpenFile, 0, 4).unwrap();
                anew.write_all_at(b"anew", 0).unwrap();
                assert!(fs::metadata(stage.at("locked")).unwrap().is_file());
            });
            drop((holder, other, bystander));
            assert_eq!(fs::read(stage.mount.stored("locked")).unwrap()[..4], *b"anew");
            stage.over(service);
        }
    }
}

#[test]
fn what_is_mounted_below_source_is_kept_as_well() {
    let mut stage = Stage::of(PAGE);
    let below = stage.mount.stored("below");
    fs::create_dir(&below).unwrap();
    stage.mount.cover(&below, "below");
    std::os::unix::fs::chown(&below, Some(2001), Some(2001)).unwrap();
    let service = stage.started();
    let file = POD.run(|| {
        let file = open(&stage.at("below/f"));
        file.write_all_at(b"before", 0).unwrap();
        file
    });
    until("the one below is kept", || stage.manager.kept().contains(&"permfs-mount-1".to_owned()));
    service.kill();
    let service = stage.start().ready();
    file.write_all_at(b"after", 6).unwrap();
    assert_eq!(fs::read_to_string(below.join("f")).unwrap(), "beforeafter");
    POD.run(|| fs::write(stage.at("below/g"), "x").unwrap());
    drop(file);
    stage.over(service);
}

#[test]
fn a_keeper_or_worker_that_dies_alone_is_no_affair_of_the_managers() {
    let stage = Stage::of("");
    let service = stage.started();
    let main = service.main();
    assert_eq!(stage.mount.keeper(), main, "the keeper is the main process");
    for _ in 0..2 {
        let (worker, keeper) = (stage.mount.daemon(), stage.mount.keeper());
        for process in [worker, keeper] {
            let process = nix::unistd::Pid::from_raw(i32::try_from(process).unwrap());
            nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
            if process.as_raw().unsigned_abs() == main {
                let _ = waitpid(process, None);
            }
        }
        until("others serve and keep", || is_served_by_others(&stage, worker, keeper));
        // Else the next kill would leave nobody to keep it.
        until("another is in reserve", || processes_of_the_mount(&stage) == 3);
        POD.run(|| fs::write(stage.at("f"), "x").unwrap());
    }
    stage.mount.unmount_when_idle();
}

fn is_served_by_others(stage: &Stage, worker: u32, keeper: u32) -> bool {
    let output = live::mount::permfs().args(["status", "--json"]).arg(stage.mount.target()).output().unwrap();
    let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { return false };
    let is_new = |key: &str, old: u32| status[0][key].as_u64().is_some_and(|new| new != u64::from(old));
    status[0]["state"] == "serving" && is_new("pid", worker) && is_new("keeper_pid", keeper)
}

/// Keeper, reserve and worker: all of the mount's process group.
fn processes_of_the_mount(stage: &Stage) -> usize {
    let keeper = Pid::from_raw(i32::try_from(stage.mount.keeper()).unwrap());
    processes_of_the_group(getpgid(Some(keeper)).unwrap())
}

#[test]
fn a_mount_that_ends_by_itself_leaves_nothing_to_be_kept() {
    let stage = Stage::of("");
    let service = stage.started();
    assert!(service.stop().success());
    assert!(stage.mount.mount_line().is_none());
    let service = stage.start().ready();
    stage.over(service);
}

#[test]
fn what_was_unmounted_meanwhile_is_let_go_and_mounted_anew() {
    let stage = Stage::of("");
    stage.started().kill();
    let output = stage.mount.unmount(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(stage.mount.mount_line().is_none());
    assert!(!stage.manager.kept().contains(&"permfs-device".to_owned()), "its end is seen");
    let service = stage.started();
    POD.run(|| fs::write(stage.at("f"), "x").unwrap());
    stage.over(service);
}

#[test]
fn another_targets_descriptors_are_refused_with_what_to_do() {
    let stage = Stage::of("");
    stage.started().kill();
    let elsewhere = stage.mount.outside().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let refused = stage.manager.start(&stage.mount.source(), &elsewhere, &stage.rules);
    let log = refused_with(refused);
    let target = stage.mount.target();
    assert!(log.contains(&format!("`permfs unmount {}`", target.display())), "{log}");
    assert!(log.contains(&format!("this service is to mount on {}", elsewhere.display())), "{log}");
    // It is still there to be gone on with.
    let service = stage.started();
    stage.over(service);
}

#[test]
fn a_memory_that_cannot_be_read_is_refused_with_what_to_do() {
    let stage = Stage::of("");
    stage.started().kill();
    let layout = |number: u64| stage.manager.write_into("permfs-state", 8, number.to_ne_bytes());
    layout(LAYOUT + 1);
    let log = refused_with(stage.start());
    assert!(log.contains("a version whose memory this one cannot read"), "{log}");
    assert!(log.contains(&format!("`permfs unmount {}`", stage.mount.target().display())), "{log}");
    layout(LAYOUT);
    let service = stage.started();
    stage.over(service);
}

/// What a start says that fails.
#[track_caller]
fn refused_with(service: Service) -> String {
    until("it says what to do", || service.said_itself().contains("permfs unmount"));
    let said = service.said_itself();
    assert!(!service.end().success());
    said
}

#[test]
fn requests_wait_for_the_next_service_and_are_done_once() {
    let stage = Stage::of(PAGE);
    let service = stage.started();
    service.kill();
    let target = stage.mount.target();
    let made = std::thread::spawn(move || {
        POD.run(|| {
            let mut file = OpenOptions::new().write(true).create_new(true).open(target.join("new")).unwrap();
            file.write_all(b"x").unwrap();
            fs::create_dir(target.join("made")).map_err(|error| error.kind() == ErrorKind::AlreadyExists)
        })
    });
    sleep(Duration::from_millis(300));
    assert!(!made.is_finished(), "nobody serves");
    let service = stage.start().ready();
    made.join().unwrap().unwrap();
    stage.over(service);
}
