//! A mount outlives whoever serves it: workers and keepers are killed and replaced under the verified load, and nobody who
//! uses the mount notices more than a pause.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod live;
#[path = "takeover_room/served.rs"]
mod served;
mod takeover_room;

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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

#[track_caller]
fn survives(more: &str, times: usize, blow: Blow) {
    // One load at a time is what the pause is about.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // In memory: a pause must be the mount's, not the disk's.
    let mount = Mount::on(Backing::Tmpfs, &format!("{AIRFLOW}{more}"));
    let served = Served { target: mount.target(), permfs: live::mount::permfs };
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
