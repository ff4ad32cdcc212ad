//! How many requests each thing that people do costs: what a FUSE file system is made of. A request costs as much as ten
//! system calls, so these numbers are the performance that does not depend on the machine.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use live::requests::{Made, Requests};
use live::{AIRFLOW, Mount, POD};

/// A mount under `data`, and names that the kernel believes for long enough to make no difference here.
fn mount(data: &str) -> Mount {
    let cache = format!(
        "[profile.airflow.cache]\ndata = \"{data}\"\nattr_timeout = \"60s\"\nentry_timeout = \"60s\"\n"
    );
    let mount = Mount::of(&format!("{AIRFLOW}{cache}"));
    // The first of each kind may cost more: the kernel learns what it need not ask.
    POD.run(|| {
        let path = mount.at("warm");
        fs::create_dir(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::remove_dir(&path).unwrap();
    });
    mount
}

/// What `work` costs for each of `rounds`, done as a pod.
fn per_round(mount: &Mount, rounds: u64, work: impl Fn(u64) + Send + Sync) -> (Made, f64) {
    let requests = Requests::of(mount);
    POD.run(|| (0..rounds).for_each(&work));
    let made = requests.since();
    // Thousands of rounds would have to be counted for a rounding error to matter.
    #[expect(clippy::cast_precision_loss)]
    let each = made.0.values().sum::<u64>() as f64 / rounds as f64;
    (made, each)
}

fn costs_at_most(bound: f64, (made, each): (Made, f64)) {
    assert!(each <= bound + 0.1, "{each} requests each, more than {bound}: {made:?}");
}

fn make(path: &Path) {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    file.write_all(&[1; 1024]).unwrap();
}

#[test]
fn a_create_costs_four_requests_and_in_the_page_cache_one_for_the_write() {
    for (data, bound) in [("passthrough", 4.0), ("page", 5.0)] {
        let mount = mount(data);
        costs_at_most(bound, per_round(&mount, 100, |n| make(&mount.at(format!("{n}")))));
    }
}

#[test]
fn removing_costs_two_requests_and_a_rename_two_and_a_mkdir_two() {
    let mount = mount("auto");
    POD.run(|| (0..100).for_each(|n| make(&mount.at(format!("{n}")))));
    let (from, to) = (|n| mount.at(format!("{n}")), |n| mount.at(format!("to-{n}")));
    costs_at_most(2.0, per_round(&mount, 100, |n| fs::rename(from(n), to(n)).unwrap()));
    costs_at_most(2.0, per_round(&mount, 100, |n| fs::remove_file(to(n)).unwrap()));
    costs_at_most(2.0, per_round(&mount, 100, |n| fs::create_dir(from(n)).unwrap()));
    costs_at_most(2.0, per_round(&mount, 100, |n| fs::remove_dir(from(n)).unwrap()));
}

#[test]
fn what_was_looked_at_is_looked_at_again_for_nothing() {
    let mount = mount("auto");
    POD.run(|| {
        fs::create_dir(mount.at("d")).unwrap();
        (0..200).for_each(|n| make(&mount.at(format!("d/{n}"))));
    });
    let walk = || {
        let count =
            fs::read_dir(mount.at("d")).unwrap().map(|entry| entry.unwrap().metadata().unwrap()).count();
        assert_eq!(count, 200);
    };
    POD.run(walk);
    costs_at_most(0.0, per_round(&mount, 20, |_| walk()));
    costs_at_most(0.0, per_round(&mount, 200, |n| _ = fs::metadata(mount.at(format!("d/{n}"))).unwrap()));
}

#[test]
fn a_walk_through_what_is_not_known_brings_attributes_with_the_names() {
    let mount = mount("auto");
    let directory = mount.source().join("d");
    fs::create_dir(&directory).unwrap();
    (0..200).for_each(|n| fs::write(directory.join(format!("{n}")), b"").unwrap());
    let (made, _) = per_round(&mount, 1, |_| {
        let count =
            fs::read_dir(mount.at("d")).unwrap().map(|entry| entry.unwrap().metadata().unwrap()).count();
        assert_eq!(count, 200);
    });
    assert!(made.of("readdirplus") >= 1, "{made:?}");
    assert!(made.of("lookup") <= 150, "{made:?}");
}

#[test]
fn an_open_and_a_close_for_reading_cost_one_request_that_is_waited_for() {
    let mount = mount("auto");
    POD.run(|| make(&mount.at("f")));
    let (made, _) = per_round(&mount, 100, |_| {
        let mut text = Vec::new();
        File::open(mount.at("f")).unwrap().read_to_end(&mut text).unwrap();
        assert_eq!(text.len(), 1024);
    });
    assert_eq!(made.of("open"), 100, "{made:?}");
    assert!(made.waited_for() <= 101, "{made:?}");
}

#[test]
fn an_append_costs_nothing_under_passthrough() {
    let mount = mount("passthrough");
    POD.run(|| {
        let mut log = OpenOptions::new().append(true).create(true).open(mount.at("log")).unwrap();
        let requests = Requests::of(&mount);
        (0..1000).for_each(|_| log.write_all(&[b'.'; 100]).unwrap());
        let made = requests.since();
        assert_eq!(made.0.values().sum::<u64>(), 0, "{made:?}");
    });
}

#[test]
fn a_mount_at_rest_has_no_requests_and_takes_no_time() {
    let mount = mount("auto");
    POD.run(|| make(&mount.at("f")));
    sleep(Duration::from_millis(300));
    let stat = format!("/proc/{}/stat", mount.daemon());
    let ticks = || {
        let text = fs::read_to_string(&stat).unwrap();
        let rest = text.rsplit(") ").next().unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>();
        rest[11].parse::<u64>().unwrap() + rest[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    sleep(Duration::from_secs(2));
    // Hundredths of a second.
    assert!(ticks() - before <= 2, "{} ticks in two seconds", ticks() - before);
}
