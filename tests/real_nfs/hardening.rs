//! What the mount's processes have given up does not stand in the way of NFS, nor of a successor there.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::live::POD;
use super::runner::Scenario;
use super::stage::{PATIENCE, Pods, Stage, status_of, wait_until};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hardening: a mount of an export by its name gives up what it does not need",
        run: confined,
    },
    Scenario { name: "hardening: a successor on NFS is held to the same, and serves", run: succeeded },
];

/// mount.nfs(8) runs before anything is given up, and the unmount at the end needs none of that.
fn confined(stage: &Stage) {
    let pods = Pods::unmounted();
    let source = stage.nfs_source(stage.directory());
    let mounted = pods.try_mount(
        &source,
        super::live::AIRFLOW,
        &["-o", &format!("nfs:vers={}", stage.variant.version.option())],
    );
    assert!(mounted.status.success(), "{mounted:?}");
    POD.run(|| fs::write(pods.at("by-name"), "x").unwrap());
    let [worker, keeper] = processes_of(&pods);
    assert_eq!(said(worker, "Seccomp_filters"), "4");
    assert_eq!(said(keeper, "Seccomp_filters"), "1");
    assert_eq!(said(keeper, "NoNewPrivs"), "1");
    let score = |process: i32| fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap();
    assert_eq!((score(keeper).trim(), score(worker)), ("-1000", score(Pid::this().as_raw())));
    assert!(pods.unmount(&[]).status.success());
    assert!(!pods.is_mounted());
}

fn succeeded(stage: &Stage) {
    let pods = Pods::mount(&stage.client(""), super::live::AIRFLOW);
    POD.run(|| fs::write(pods.at("before"), "x").unwrap());
    let [first, _] = processes_of(&pods);
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    POD.run(|| {
        fs::write(pods.at("after"), "y").unwrap();
        assert_eq!(fs::read_to_string(pods.at("before")).unwrap(), "x");
        fs::rename(pods.at("after"), pods.at("moved")).unwrap();
    });
    let [second, _] = processes_of(&pods);
    assert_ne!(first, second);
    // It answers `permfs status` a moment before it has given up the last.
    wait_until(PATIENCE, || said(second, "Seccomp_filters") == "4").expect("held to the same");
    stage.belongs_to_the_service_account("moved", 0o664);
}

/// Worker and keeper.
fn processes_of(pods: &Pods) -> [i32; 2] {
    let status = status_of(&pods.at(""));
    ["pid", "keeper_pid"].map(|key| status[key].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap())
}

/// A word of proc_pid_status(5).
fn said(process: i32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{key} in {status}")).trim().to_owned()
}
