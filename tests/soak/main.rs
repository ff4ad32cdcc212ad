//! A day's churn compressed: files made, renamed, removed, inodes forgotten, workers killed, for as long as is asked; the
//! mount's memory, open files, inodes and processes are printed each round and must stay flat.
//!
//! ```text
//! cargo test --test soak                                  half a minute, as in scripts/test
//! cargo test --release --test soak -- --minutes 60        an hour
//! ```
//!
//! Each round is a verified load (`tests/takeover_room`) under which the worker is killed, then a rest, in which the kernel
//! forgets what it knows and the mount is looked at. The first rounds fill caches; from the third on nothing may grow.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../live/mod.rs"]
mod live;
#[path = "../takeover_room/served.rs"]
mod served;
#[path = "../takeover_room/mod.rs"]
mod takeover_room;

use std::fs;
use std::time::{Duration, Instant};

use clap::Parser;
use live::{AIRFLOW, Backing, Mount};
use served::{Served, Vitals, assert_flat};
use takeover_room::{Load, Options, Who};

/// The pod of the airflow rules.
const POD: Who = Who::new(50000, 0);
/// Rounds in which caches and buffers may still fill.
const WARMING: usize = 2;
/// Without `--minutes`.
const SHORT: Duration = Duration::from_secs(30);

/// Churn, with the memory flat.
#[derive(Parser)]
struct Arguments {
    /// For how long; half a minute where it is not given
    #[arg(long)]
    minutes: Option<u64>,
    /// Kills of the worker in each round
    #[arg(long, default_value_t = 3)]
    kills: usize,
    /// What the load does between two kills
    #[arg(long, default_value_t = 1_000)]
    operations: u64,
}

fn main() {
    let arguments = Arguments::parse();
    let duration = arguments.minutes.map_or(SHORT, |minutes| Duration::from_secs(60 * minutes));
    let mount = Mount::on(Backing::Tmpfs, AIRFLOW);
    let served = Served { target: mount.target(), permfs: live::mount::permfs };
    let room = mount.at("room");
    POD.run(|| fs::create_dir(&room).unwrap());

    let begun = Instant::now();
    let (mut operations, mut worst) = (0, Duration::ZERO);
    let mut base: Option<Vitals> = None;
    for round in 0.. {
        if begun.elapsed() > duration && round > WARMING {
            break;
        }
        let load = Load::start(Options { who: Some(POD), ..Options::new(room.join("load")) });
        served.strike(&load, arguments.kills, arguments.operations, Served::kill_worker);
        let report = load.finish();
        report.assert_clean();
        operations += report.total();
        worst = worst.max(report.worst_pause().1);
        let vitals = served.vitals();
        println!(
            "{:6.0} s  {operations:9} operations  worst {worst:?}  {vitals:?}",
            begun.elapsed().as_secs_f32()
        );
        match base {
            Some(base) => assert_flat(base, vitals),
            None if round + 1 >= WARMING => base = Some(vitals),
            None => {}
        }
    }
}
