//! A mount outlives whoever serves it: workers and keepers are killed and replaced under the verified load, and nobody who
//! uses the mount notices more than a pause.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod live;
#[path = "takeover_room/served.rs"]
mod served;
mod takeover_room;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use live::{AIRFLOW, Backing, Mount};
use served::{Blow, Served, assert_unharmed};
use takeover_room::{Load, Options, Who};

/// The pod of the airflow rules.
const POD: Who = Who::new(50000, 0);
/// The longest that anybody may wait. A takeover takes some hundredths of a second; on two cores that others use as well, eight threads wait
/// for each other for up to a second without any.
const PAUSE: Duration = Duration::from_secs(3);
/// What the load does between two blows.
const OPERATIONS: u64 = 1_500;
static TURN: Mutex<()> = Mutex::new(());
const PAGE: &str = "\n[profile.airflow.cache]\ndata = \"page\"\n";

#[test]
fn twenty_kills_of_the_worker_harm_nobody_where_the_kernel_passes_files_through() {
    survives("", 20, Served::kill_worker);
}

#[test]
fn twenty_kills_of_the_worker_harm_nobody_with_files_in_the_page_cache() {
    survives(PAGE, 20, Served::kill_worker);
}

#[test]
fn twenty_upgrades_harm_nobody_where_the_kernel_passes_files_through() {
    survives("", 20, Served::upgrade);
}

#[test]
fn twenty_upgrades_harm_nobody_with_files_in_the_page_cache() {
    survives(PAGE, 20, Served::upgrade);
}

#[test]
fn five_kills_of_the_keeper_harm_nobody() {
    survives("", 5, Served::kill_keeper);
}

#[test]
fn keeper_worker_and_program_may_all_be_replaced_in_turns() {
    let all = |served: &Served| {
        served.kill_worker();
        served.kill_keeper();
        served.upgrade();
    };
    survives("", 5, all);
}

/// The kernel copies a long write into a worker's memory page by page. Where it had to find a page first, and the worker was being killed, the
/// writer was told EIO: of workers beyond the eighth, which are hired while others wait, once in some hundred kills.
#[test]
fn who_writes_much_at_once_is_not_told_of_the_death_of_whichever_worker_takes_it() {
    const LONG: usize = 256 << 10;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut mount = Mount::unmounted(Backing::TempDir);
    // Who waits for a disk makes the pool hire.
    mount.cover_with_ext4(&[]);
    mount.mount(&format!("{AIRFLOW}{PAGE}"));
    let served = Served { target: mount.target(), permfs: live::mount::permfs };
    let _tells = served.tells_its_log(&live::mount::runtime_dir());
    let (over, written) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 16]);
    let write_on = &|number: usize| -> io::Result<()> {
        let file = POD.run(|| File::create(mount.at(number.to_string())))?;
        while !over.load(Ordering::Relaxed) {
            file.write_all_at(&[1; LONG], 0)?;
            file.sync_data()?;
            written[number].fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let all_wrote_on = || {
        let count = || written.each_ref().map(|written| written.load(Ordering::Relaxed));
        let (before, begun) = (count(), Instant::now());
        while count().iter().zip(before).any(|(now, before)| *now <= before + 1) {
            if begun.elapsed() > Duration::from_secs(120) {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    };
    let (went_on, outcomes) = thread::scope(|scope| {
        let writers: Vec<_> =
            (0..written.len()).map(|number| scope.spawn(move || write_on(number))).collect();
        let went_on = (0..20).all(|pair| {
            // A request at which three workers die is refused.
            let went_on = all_wrote_on();
            if went_on {
                served.kill_worker();
                // This one dies while its threads take the first long request of theirs.
                thread::sleep(Duration::from_micros(500 * pair % 8_000));
                served.kill_worker();
            }
            went_on
        });
        over.store(true, Ordering::Relaxed);
        (went_on, writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>())
    });
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(went_on, "they stood still");
}

#[track_caller]
fn survives(more: &str, times: usize, blow: Blow) {
    // One load at a time is what the pause is about.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // In memory: a pause must be the mount's, not the disk's.
    let mount = Mount::on(Backing::Tmpfs, &format!("{AIRFLOW}{more}"));
    let served = Served { target: mount.target(), permfs: live::mount::permfs };
    let _tells = served.tells_its_log(&live::mount::runtime_dir());
    let room = mount.at("room");
    POD.run(|| fs::create_dir(&room).unwrap());
    // Once without a blow, so that what is compared has all its buffers.
    let at_ease = Options { who: Some(POD), ..Options::new(room.join("before")) };
    at_ease.run(Duration::from_millis(500)).assert_clean();
    let before = served.vitals();
    let load = Load::start(Options { who: Some(POD), ..Options::new(room.join("load")) });
    served.strike(&load, times, OPERATIONS, blow);
    assert_unharmed(&served, &load.finish(), PAUSE, before);
}
