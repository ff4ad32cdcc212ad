//! The server away for long, under load; soft mounts; exports that are replaced or withdrawn.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::live::mount::permfs;
use super::live::{AIRFLOW, POD};
use super::load::Load;
use super::runner::Scenario;
use super::stage::{Outage, Pods, Stage, WHOSE_GROUPS, wait_until, within};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "outages: eight threads wait while the server restarts, and nothing is lost or done twice",
        run: restart,
    },
    Scenario {
        name: "outages: eight threads wait for a link that is cut for 30 s, and nothing is lost or done twice",
        run: cut,
    },
    Scenario {
        name: "outages: below SOURCE one mount's server is gone, and beside 100 callers that wait the rest goes on",
        run: beside,
    },
    Scenario { name: "outages: on a soft mount callers get an error, and things work again", run: soft },
    Scenario {
        name: "outages: SOURCE itself is removed and restored on the server, and the mount works again",
        run: replaced,
    },
    Scenario {
        name: "outages: an export that is withdrawn or has another fsid is an error, and works again when it is back",
        run: withdrawn,
    },
];

/// Within which whoever asks about a mount, takes it down, or kills somebody in it, is through (README).
const ANSWERED: Duration = Duration::from_secs(5);
/// The outage that everybody waits for.
const CUT: Duration = Duration::from_secs(30);
/// How long after the server's return a client may take: it tries again at growing intervals.
const RECOVERS: Duration = Duration::from_secs(120);

fn restart(stage: &Stage) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    let load = Load::begin(&stage.pod(""));
    let outage = Outage::stopped();
    thread::sleep(Duration::from_secs(3));
    drop(outage);
    goes_on(stage);
    load.end(&stage.server(""));
}

fn cut(stage: &Stage) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    let (idle, abandoned) = (stage.mount_again(AIRFLOW), stage.mount_again(AIRFLOW));
    let mut callers = [
        caller(stage, "read -r _; exec cat \"$1\""),
        caller(stage, "read -r _; exec mkdir \"$1\""),
        caller(stage, "read -r _; : >\"$1\""),
        caller(stage, "exec 3>>\"$1\"; read -r _; echo more >&3; exec 3>&-; exec sleep 60"),
        caller(stage, "exec 3>>\"$1\"; echo more >&3; read -r _; exec sleep 60"),
    ];
    let own = Pods::unmounted();
    let options = format!("nfs:vers={},nosharecache", stage.variant.version.option());
    let mounted = own.try_mount(&stage.nfs_source(stage.directory()), AIRFLOW, &["-o", &options]);
    assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
    let mut stuck = caller_at(&abandoned.at("stuck"), "read -r _; exec mkdir \"$1\"");
    let load = Load::begin(&stage.pod(""));
    let (outage, begun) = (Outage::cut(), Instant::now());
    drop(stuck.stdin.take());
    callers.iter_mut().for_each(|caller| drop(caller.stdin.take()));
    thread::sleep(Duration::from_secs(2));
    let before = Load::rounds(&stage.server(""));

    for target in [stage.pod(""), idle.at("")] {
        let status =
            within(ANSWERED, "status", || permfs().args(["status", "--json"]).arg(&target).output().unwrap());
        assert!(String::from_utf8_lossy(&status.stdout).contains("serving"), "{status:?}");
    }
    let busy = within(ANSWERED, "unmount of what is in use", || {
        permfs().arg("unmount").arg(stage.pod("")).output().unwrap()
    });
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    let gone = within(ANSWERED, "unmount of what is not", || idle.unmount(&[]));
    assert!(gone.status.success(), "{gone:?}");
    for (number, caller) in callers.iter_mut().enumerate() {
        caller.kill().unwrap();
        let ended = wait_for(caller).unwrap_or_else(|| panic!("caller {number} {}", state_of(caller.id())));
        assert_eq!(ended.signal(), Some(libc::SIGKILL), "caller {number}");
    }

    let gone = within(ANSWERED, "unmount with an NFS mount of its own", || own.unmount(&[]));
    assert!(gone.status.success(), "{gone:?}");
    stuck.kill().unwrap();
    assert!(wait_for(&mut stuck).is_some(), "the caller {}", state_of(stuck.id()));
    let gone = within(ANSWERED, "unmount of what has a request at the server", || abandoned.unmount(&[]));
    assert!(gone.status.success(), "{gone:?}");

    thread::sleep(CUT.saturating_sub(begun.elapsed()));
    assert_eq!(Load::rounds(&stage.server("")), before, "the load waited");
    drop(outage);
    wait_until(RECOVERS, || Load::rounds(&stage.server("")) > before + 16).expect("the load goes on");
    goes_on(stage);
    load.end(&stage.server(""));
}

/// A shell of the pod's that begins once its standard input is closed, with a name in a directory of its own as `$1`: in one
/// directory the kernel lets one make a name at a time, and who waits for that cannot be killed, here as on any file system.
fn caller(stage: &Stage, script: &str) -> Child {
    let directory = stage.pod(format!("caller-{}", script.len()));
    POD.run(|| fs::create_dir(&directory).unwrap());
    caller_at(&directory.join("name"), script)
}

fn caller_at(path: &Path, script: &str) -> Child {
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(path)
        .uid(POD.uid)
        .gid(POD.gid)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// None where it goes on after [`ANSWERED`].
fn wait_for(child: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + ANSWERED;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// For the message of a failed test: where a process is.
fn state_of(pid: u32) -> String {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    format!("is not gone: {}{}{}", read("stat"), read("wchan"), read("stack"))
}

fn soft(stage: &Stage) {
    if stage.variant.manage_gids {
        return stage.leave_out(WHOSE_GROUPS);
    }
    let pods = Pods::unmounted();
    let options = format!("nfs:vers={},soft,timeo=10,retrans=2,nosharecache", stage.variant.version.option());
    let output = pods.try_mount(&stage.nfs_source(stage.directory()), AIRFLOW, &["-o", &options]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    POD.run(|| {
        fs::create_dir(pods.at("d")).unwrap();
        fs::write(pods.at("d/f"), "content").unwrap();
    });
    let outage = Outage::cut();
    let refused =
        within(RECOVERS, "a caller on a soft mount", || POD.run(|| fs::create_dir(pods.at("d/new"))));
    let refused = refused.unwrap_err().raw_os_error();
    assert!(matches!(refused, Some(libc::EIO | libc::ETIMEDOUT)), "{refused:?}");
    drop(outage);
    let works = || POD.run(|| fs::read_to_string(pods.at("d/f")).is_ok_and(|content| content == "content"));
    wait_until(RECOVERS, works).expect("it works again");
    POD.run(|| fs::write(pods.at("d/g"), "more").unwrap());
    assert!(within(ANSWERED, "unmount", || pods.unmount(&[])).status.success());
}

fn replaced(stage: &Stage) {
    POD.run(|| {
        fs::create_dir(stage.pod("d")).unwrap();
        fs::write(stage.pod("d/f"), "first").unwrap();
    });
    let root = stage.server("");
    for round in 0..2 {
        fs::remove_dir_all(&root).unwrap();
        if round == 1 {
            // Not there for a while: an error, no more.
            assert!(
                POD.run(|| fs::read_dir(stage.pod("d")).is_err() || fs::write(stage.pod("x"), "").is_err())
            );
        }
        // A tick of the server's clock: within one a v3 client that has just looked does not see that there is something again, and
        // believes the contrary for half a minute.
        thread::sleep(Duration::from_millis(30));
        // So that the numbers of the old ones are not dealt out again.
        fs::write(root.parent().unwrap().join(format!("between-{round}")), "").unwrap();
        fs::create_dir(&root).unwrap();
        chown(&root, Some(2001), Some(2001)).unwrap();
        fs::create_dir(root.join("d")).unwrap();
        chown(root.join("d"), Some(2001), Some(2001)).unwrap();
        stage.make_at_server("d/f", "restored", (2001, 2001), 0o664);
        // A v3 client believes for a while that what it knows is so; it is asked as a person would, by looking.
        let read = || {
            let _ = fs::read_dir(stage.client("").parent().unwrap()).map(Iterator::count);
            POD.run(|| fs::read_to_string(stage.pod("d/f")).is_ok_and(|content| content == "restored"))
        };
        wait_until(RECOVERS, read)
            .unwrap_or_else(|()| panic!("{:?}", POD.run(|| fs::read_to_string(stage.pod("d/f")))));
        goes_on(stage);
        POD.run(|| fs::rename(stage.pod("d/f"), stage.pod("moved")).unwrap());
        assert_eq!(stage.names_at_server(""), ["d", "moved"]);
    }
}

fn withdrawn(stage: &Stage) {
    POD.run(|| {
        fs::create_dir(stage.pod("d")).unwrap();
        fs::write(stage.pod("d/f"), "content").unwrap();
    });
    for outage in [Outage::withdrawn, Outage::renumbered] {
        let outage = outage();
        let refused = within(RECOVERS, "a caller of an export that is not there", || {
            POD.run(|| fs::create_dir(stage.pod("d/new")).unwrap_err())
        });
        assert!(
            matches!(refused.raw_os_error(), Some(libc::ESTALE | libc::EACCES | libc::EIO)),
            "{refused:?}"
        );
        drop(outage);
        let works =
            || POD.run(|| fs::read_to_string(stage.pod("d/f")).is_ok_and(|content| content == "content"));
        wait_until(RECOVERS, works).expect("it works again");
        goes_on(stage);
    }
    POD.run(|| fs::rename(stage.pod("d/f"), stage.pod("f")).unwrap());
}

fn beside(stage: &Stage) {
    const CALLERS: usize = 100;
    let room = tempfile::tempdir().unwrap();
    for name in ["", "fine", "hung"] {
        fs::create_dir_all(room.path().join(name)).unwrap();
        chown(room.path().join(name), Some(2001), Some(2001)).unwrap();
    }
    let (hung, nothing) = (room.path().join("hung"), None::<&str>);
    mount(Some(&stage.client("")), &hung, nothing, MsFlags::MS_BIND, nothing).unwrap();
    let pods = Pods::mount(room.path(), AIRFLOW);
    POD.run(|| fs::write(pods.at("hung/f"), "content").unwrap());
    let outage = Outage::cut();
    // Until nobody believes any more that `hung` is what it was.
    thread::sleep(Duration::from_millis(1500));
    let mut callers: Vec<_> = (0..CALLERS)
        .map(|number| caller_at(&pods.at(format!("hung/{number}")), "read -r _; echo content >\"$1\""))
        .collect();
    callers.iter_mut().for_each(|caller| drop(caller.stdin.take()));
    thread::sleep(Duration::from_secs(3));
    assert!(callers.iter_mut().all(|caller| matches!(caller.try_wait(), Ok(None))), "they wait");
    for round in 0..5 {
        within(ANSWERED, "work beside them", || {
            POD.run(|| {
                fs::write(pods.at("fine/new"), "fine").unwrap();
                fs::rename(pods.at("fine/new"), pods.at(format!("fine/{round}"))).unwrap();
                assert_eq!(fs::read_dir(pods.at("")).unwrap().count(), 2);
            });
        });
    }
    drop(outage);
    for caller in &mut callers {
        assert!(caller.wait().unwrap().success());
    }
    for number in 0..CALLERS {
        assert_eq!(fs::read_to_string(stage.server(number.to_string())).unwrap(), "content\n");
    }
    drop(pods);
    umount2(&hung, MntFlags::MNT_DETACH).unwrap();
}

#[track_caller]
fn goes_on(stage: &Stage) {
    let path: &Path = &stage.pod("goes-on");
    POD.run(|| {
        fs::write(path, "fine").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "fine");
        fs::remove_file(path).unwrap();
    });
}
