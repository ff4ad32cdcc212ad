//! permfs on a real kernel NFS mount: v3 and v4.2, root_squash, `manage-gids` off and on.
//!
//! For each of these this program boots a small machine (`tests/nfs/vm`, four seconds) and runs itself inside, where
//! every scenario is a process of its own with a time limit, so that one that hangs is one that fails. Arguments are
//! words that a scenario's full name must contain:
//!
//! ```text
//! cargo test --test real_nfs                         all, about three minutes
//! cargo test --test real_nfs -- nfs3 locks           some, on one version
//! ```
//!
//! The machines' kernel is Debian's user-mode-linux: 6.1 in bookworm, without passthrough. `PERMFS_NFS_KERNEL=DIR` names another one
//! (`tests/nfs/vm --help`); those of the client variants pass on trixie's 6.12, with it.
//!
//! What is asserted is what the pod's user and the server's owner see; how permfs gets there is tested elsewhere.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../live/mod.rs"]
mod live;

#[path = "../backing_room/mod.rs"]
mod backing_room;

#[path = "../csi_room/mod.rs"]
mod csi_room;

#[path = "../systemd_room/mod.rs"]
mod systemd_room;

#[path = "../takeover_room/served.rs"]
mod served;
#[path = "../takeover_room/mod.rs"]
mod takeover_room;

mod backing;
mod changes;
mod csi;
mod failures;
mod files;
mod freshness;
mod hardening;
mod kubelet;
mod load;
mod locks;
mod machine;
mod making;
mod names;
mod outages;
mod requests;
mod runner;
mod stage;
mod systemd;
mod takeover;

use std::process::ExitCode;

use machine::Variant;
use runner::Scenario;

/// All scenarios, in the order they run: what everything else needs comes first.
fn scenarios() -> impl Iterator<Item = Scenario> {
    [
        files::SCENARIOS,
        names::SCENARIOS,
        freshness::SCENARIOS,
        requests::SCENARIOS,
        making::SCENARIOS,
        locks::SCENARIOS,
        failures::SCENARIOS,
        outages::SCENARIOS,
        kubelet::SCENARIOS,
        hardening::SCENARIOS,
        takeover::SCENARIOS,
        systemd::SCENARIOS,
        changes::SCENARIOS,
        csi::SCENARIOS,
        backing::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--inside") => {
            let variant = Variant::named(&arguments.next().expect("a variant"));
            runner::run_all(variant, scenarios(), &arguments.collect::<Vec<_>>())
        }
        Some("--scenario") => {
            let variant = Variant::named(&arguments.next().expect("a variant"));
            runner::run_one(variant, scenarios(), &arguments.next().expect("a scenario"))
        }
        Some("--load-worker") => {
            assert!(takeover_room::be_a_worker(), "only a load runs this");
            ExitCode::SUCCESS
        }
        Some("--load") => load::run(&mut arguments),
        Some("--locker") => locks::locker(&mut arguments),
        first => {
            // Flags such as --nocapture come from habit and from IDEs; they change nothing here.
            let words =
                first.map(str::to_owned).into_iter().chain(arguments).filter(|word| !word.starts_with('-'));
            machine::run_everywhere(scenarios(), &words.collect::<Vec<_>>())
        }
    }
}

/// This program as a worker of the verified load.
fn a_worker_of_the_load() -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.arg("--load-worker");
    command
}
