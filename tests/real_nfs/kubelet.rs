//! What a kubelet does with a pod's subPath, whose bind mount it looks at before it takes it away: also without the server.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::live::{AIRFLOW, POD};
use super::runner::Scenario;
use super::stage::{Outage, Pods, Stage, WHOSE_GROUPS, wait_until, within};

pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "kubelet: without the server the node's root looks at a subPath and takes it away, and a pod's root waits",
    run: without_the_server,
}];

/// Within which the first look is answered (README: 5 s), on a machine of one slow core.
const ANSWERED: Duration = Duration::from_secs(8);
/// And whoever comes after that.
const AT_ONCE: Duration = Duration::from_secs(3);
/// How long after the server's return a client may take: it tries again at growing intervals.
const RECOVERS: Duration = Duration::from_secs(120);

fn without_the_server(stage: &Stage) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    // The NFS client itself must not know the answer any more.
    let pods = Pods::unmounted();
    let options = format!("nfs:vers={},actimeo=1,nosharecache", stage.variant.version.option());
    let mounted = pods.try_mount(&stage.nfs_source(stage.directory()), AIRFLOW, &["-o", &options]);
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    POD.run(|| {
        fs::create_dir(pods.at("d")).unwrap();
        fs::write(pods.at("f"), "content").unwrap();
    });
    let room = tempfile::tempdir().unwrap();
    let (directory, file, busy) = (room.path().join("0"), room.path().join("1"), room.path().join("2"));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(&busy).unwrap();
    fs::write(&file, "").unwrap();
    for (what, at) in [("d", &directory), ("f", &file), ("d", &busy)] {
        mount(Some(&pods.at(what)), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }
    let before = [seen("stat", &directory), seen("stat", &file)];
    assert!(seen("df", &directory).contains("fuse.permfs"));

    let outage = Outage::stopped();
    thread::sleep(Duration::from_secs(3));
    let before_it = in_a_pod("stat", &busy);
    let first = within(ANSWERED, "the first look", || seen("stat", &directory));
    let file_seen = within(ANSWERED, "a look at a file", || seen("stat", &file));
    assert_eq!([first, file_seen], before);
    assert_eq!(within(AT_ONCE, "another look", || seen("stat", &directory)), before[0]);
    // Now this node's root is answered by the workers themselves.
    let after_it = [in_a_pod("stat", &busy), in_a_pod("df", &busy)];
    assert!(within(AT_ONCE, "df", || seen("df", &directory)).contains("fuse.permfs"));
    for at in [&directory, &file] {
        let taken = within(AT_ONCE, "umount", || Command::new("umount").arg(at).status().unwrap());
        assert!(taken.success());
    }
    fs::remove_dir(&directory).unwrap();
    thread::sleep(ANSWERED);
    for mut waiting in [before_it].into_iter().chain(after_it) {
        assert!(matches!(waiting.try_wait(), Ok(None)), "a pod's root waits, as on NFS itself");
        killpg(Pid::from_raw(waiting.id().cast_signed()), Signal::SIGKILL).unwrap();
        within(ANSWERED, "the end of who waited", || waiting.wait().unwrap());
    }
    drop(outage);

    // From now on it is asked again.
    stage.make_at_server("longer", "longer than it was", (2001, 2001), 0o664);
    fs::rename(stage.server("longer"), stage.server("d/g")).unwrap();
    let is_new = || seen("stat", &busy) != before[0];
    wait_until(RECOVERS, is_new).expect("what has changed at the server");
    assert!(Command::new("umount").arg(&busy).status().unwrap().success());
    assert!(pods.unmount(&[]).status.success());
}

/// What stat or df says of it, in a process that can be left behind.
fn seen(program: &str, path: &Path) -> String {
    let format = if program == "df" { "--output=fstype" } else { "--format=%F %a %u %g %s %Y" };
    let output = Command::new(program).arg(format).arg(path).output().unwrap();
    assert!(output.status.success(), "{program} {}: {output:?}", path.display());
    String::from_utf8(output.stdout).unwrap()
}

/// A root in a pid namespace of its own who looks at this.
fn in_a_pod(program: &str, path: &Path) -> Child {
    Command::new("unshare")
        .args(["--pid", "--fork", program])
        .arg(path)
        .process_group(0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
