//! The systemd unit with an export by its name: what the unit takes from its processes does not stand in mount.nfs(8)'s way.
//!
//! That a unit is killed whole and goes on is tested on a local export (tests/mount_systemd.rs): in user-mode Linux requests come by pipes,
//! which would be lost (`mount/store`).

use std::fs;

use super::live::waits::until;
use super::live::{AIRFLOW, POD};
use super::runner::Scenario;
use super::stage::{Stage, WHOSE_GROUPS};
use super::systemd_room::Machine;

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "systemd: the unit mounts an export by its name, outlives its keeper, and stops",
    run: unit,
}];

fn unit(stage: &Stage) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    let source = stage.nfs_source(stage.directory());
    let options = format!(",nfs:vers={}", stage.variant.version.option());
    let machine = Machine::of(Some((&source, &options)), AIRFLOW);
    machine.start();
    POD.run(|| fs::write(machine.at("before"), "x").unwrap());
    let keeper = machine.show("MainPID");
    machine.kill_main();
    POD.run(|| fs::write(machine.at("after"), "y").unwrap());
    until("another process is the main one", || !["0", &keeper].contains(&&*machine.show("MainPID")));
    machine.systemctl("reload");
    for name in ["before", "after"] {
        stage.belongs_to_the_service_account(name, 0o664);
    }
    machine.stop();
}
