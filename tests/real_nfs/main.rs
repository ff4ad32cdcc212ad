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
//! What is asserted is what the pod's user and the server's owner see; how permfs gets there is tested elsewhere.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../live/mod.rs"]
mod live;

#[path = "../csi_room/mod.rs"]
mod csi_room;

mod csi;
mod failures;
mod files;
mod freshness;
mod hardening;
mod load;
mod locks;
mod machine;
mod names;
mod outages;
mod requests;
mod runner;
mod stage;

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
        locks::SCENARIOS,
        failures::SCENARIOS,
        outages::SCENARIOS,
        hardening::SCENARIOS,
        csi::SCENARIOS,
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
