//! Whoever serves a mount over real NFS is killed and replaced under the verified load, and the server goes away meanwhile:
//! the pods notice nothing but a pause.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::live::mount::{permfs, runtime_dir};
use super::runner::Scenario;
use super::served::{Blow, Served, assert_unharmed};
use super::stage::{Outage, PATIENCE, Stage, WHOSE_GROUPS, wait_until};
use super::takeover_room::{Load, Options, Who};

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "takeover: the load finds nothing wrong", run: at_ease },
    Scenario {
        name: "takeover: kills of the worker harm nobody",
        run: |stage| survives(stage, 20, Served::kill_worker),
    },
    Scenario { name: "takeover: upgrades harm nobody", run: |stage| survives(stage, 2, Served::upgrade) },
    Scenario {
        name: "takeover: kills of the keeper harm nobody",
        run: |stage| survives(stage, 2, Served::kill_keeper),
    },
    Scenario {
        name: "takeover: who is killed while it hands over a long answer harms nobody",
        run: killed_over_long_answers,
    },
    Scenario {
        name: "takeover: workers killed while the server is away are succeeded at once, and nobody is harmed",
        run: killed_while_the_server_is_away,
    },
];

/// The pod of the airflow rules.
const POD: Who = Who::new(50000, 0);
/// The longest that anybody may wait, with eight workers and a server on one slow core that others use as well. It is 0.6 s in twenty kills
/// of a release build, on a quiet machine.
const PAUSE: Duration = Duration::from_secs(8);
/// How long the server is away, at least.
const AWAY: Duration = Duration::from_secs(20);
/// Within which another worker serves although the server is away, whatever the one before it waits for.
const SUCCEEDED: Duration = Duration::from_secs(8);
/// Bytes of a long answer, and of what the kernel looks for at a time.
const LONG: usize = 1 << 20;
const PAGE: usize = 4096;
/// Workers that are killed over long answers.
const KILLED_OVER_ANSWERS: usize = 12;
/// What the load does between two blows, on a machine of one slow core.
const OPERATIONS: u64 = 40;

fn options(stage: &Stage, name: &str) -> Options {
    Options { who: Some(POD), ..Options::new(stage.pod(name)) }
}

fn served(stage: &Stage) -> Served {
    Served { target: stage.pod(""), permfs }
}

fn at_ease(stage: &Stage) {
    let report = options(stage, "load").run(Duration::from_secs(3));
    println!("{}", report.to_json());
    report.assert_clean();
    assert!(stage.names_at_server("").is_empty());
}

fn survives(stage: &Stage, times: usize, blow: Blow) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    let served = served(stage);
    let _tells = served.tells_its_log(&runtime_dir());
    Options { workers: 1, ..options(stage, "before") }.run(Duration::from_millis(500)).assert_clean();
    let before = served.vitals();
    let load = Load::start(options(stage, "load"));
    served.strike(&load, times, OPERATIONS, blow);
    assert_unharmed(&served, &load.finish(), PAUSE, before);
}

/// User-mode Linux looks for an answer's memory page by page, and stops at a signal that ends the thread (`fuse/device.rs`): one answer
/// in five or so was EIO where the worker was killed at these.
fn killed_over_long_answers(stage: &Stage) {
    let served = served(stage);
    let _tells = served.tells_its_log(&runtime_dir());
    let path = stage.pod("long");
    super::live::POD.run(|| fs::write(&path, vec![7; 4 * LONG]).unwrap());
    let (over, read) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 3]);
    thread::scope(|scope| {
        for read in &read {
            scope.spawn(|| {
                let direct =
                    || OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
                let file = super::live::POD.run(direct);
                // What goes past the page cache must begin at a page.
                let mut memory = vec![0; LONG + PAGE];
                let begin = memory.as_ptr().align_offset(PAGE);
                while !over.load(Ordering::Relaxed) {
                    for portion in 0..4 {
                        let buffer = &mut memory[begin..begin + LONG];
                        let length = file.read_at(buffer, u64::try_from(portion * LONG).unwrap());
                        assert_eq!(length.expect("a worker that dies takes no answer with it"), LONG);
                        assert!(buffer.iter().all(|byte| *byte == 7));
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let all_have_pipes = || served.pids().is_some_and(|pids| have_their_pipes(pids.worker));
        let have_pipes = wait_until(PATIENCE, all_have_pipes).is_ok();
        let all_survived = have_pipes
            && (0..KILLED_OVER_ANSWERS).all(|_| {
                // A request at which three workers die is refused.
                let counts = || [0, 1, 2].map(|reader: usize| read[reader].load(Ordering::Relaxed));
                let before = counts();
                let all_read_on = || counts().iter().zip(before).all(|(now, before)| *now > before + 4);
                let read_on = wait_until(PATIENCE, all_read_on).is_ok();
                if read_on {
                    served.kill_worker();
                }
                read_on
            });
        over.store(true, Ordering::Relaxed);
        assert!(have_pipes, "a pipe is missing");
        assert!(all_survived, "they read on");
    });
}

/// Whether every thread that serves has a pipe for its requests and one for its answers. Who had acted for a pod before its first long
/// answer could not make one.
fn have_their_pipes(worker: Pid) -> bool {
    let names = |what: &str| {
        fs::read_dir(format!("/proc/{worker}/{what}")).unwrap().map(|entry| entry.unwrap().path())
    };
    let serves = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("fuse-worker"))
    };
    let is_pipe =
        |fd: &PathBuf| fs::read_link(fd).is_ok_and(|what| what.to_string_lossy().starts_with("pipe:"));
    let (threads, ends) = (names("task").filter(serves).count(), names("fd").filter(is_pipe).count());
    threads > 0 && ends >= 4 * threads
}

/// The load's workers are processes: nobody who starts one while the server is away may have a file of the mount open.
fn killed_while_the_server_is_away(stage: &Stage) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    let served = served(stage);
    let load =
        Load::start(Options { processes: Some(super::a_worker_of_the_load), ..options(stage, "load") });
    sleep(Duration::from_secs(2));
    let outage = Outage::cut();
    let begun = Instant::now();
    sleep(Duration::from_secs(1));
    // The second one finds what the first has left, and what was held up since. The server stays away until both are succeeded.
    for _ in 0..2 {
        let killed = Instant::now();
        served.kill_worker();
        let took = killed.elapsed();
        println!("another worker served after {took:?}");
        assert!(took < SUCCEEDED, "it took {took:?}");
        sleep(Duration::from_secs(1));
    }
    sleep(AWAY.saturating_sub(begun.elapsed()));
    drop(outage);
    let report = load.finish();
    report.assert_clean();
    let (kind, pause) = report.worst_pause();
    println!("{} operations, worst pause {pause:?} ({kind})", report.total());
    assert!(pause > Duration::from_secs(1), "the outage came while they worked");
}
