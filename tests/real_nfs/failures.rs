//! The server restarts, goes away, or removes what pods hold; and the mounts that permfs makes itself are gone again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::live::mount::permfs;
use super::live::{AIRFLOW, POD, errno};
use super::machine::Version;
use super::runner::Scenario;
use super::stage::{Outage, PATIENCE, Pods, SERVER_ADDRESS, Stage, mount_table, wait_until, within};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "failures: writers wait while the server restarts, and nothing is lost",
        run: restart_under_load,
    },
    Scenario {
        name: "failures: a file that the server removes is a clean error, and works again when it is back",
        run: removed_file,
    },
    Scenario {
        name: "failures: a directory that the server removes is a clean error, and works again when it is back",
        run: removed_directory,
    },
    Scenario {
        name: "failures: permfs mounts server:/export itself, and leaves nothing behind",
        run: own_mount,
    },
    Scenario {
        name: "failures: an export that is not there is one clear error, and nothing is mounted",
        run: absent_export,
    },
    Scenario {
        name: "failures: status and unmount --lazy answer while the server does not",
        run: lazy_unmount,
    },
];

/// What "within seconds" means, on a machine of one slow core that others use as well. What hangs does so for as long as the outage lasts,
/// which these tests decide.
const SECONDS: Duration = Duration::from_secs(30);

fn restart_under_load(stage: &Stage) {
    const WRITERS: usize = 4;
    const RECORDS: usize = 120;
    let over = AtomicBool::new(false);
    let records: Vec<_> = thread::scope(|scope| {
        let write = |number: usize| {
            POD.run(|| {
                let mut file = File::create(stage.pod(number.to_string())).unwrap();
                let mut record = 0;
                // However late the outage comes, it comes while they write.
                while record < RECORDS || !over.load(Ordering::Relaxed) {
                    writeln!(file, "record {record} of {number}").unwrap();
                    file.sync_data().unwrap();
                    let marker = stage.pod(format!("{number}.{record}"));
                    fs::write(&marker, "").unwrap();
                    fs::remove_file(&marker).unwrap();
                    thread::sleep(Duration::from_millis(20));
                    record += 1;
                }
                record
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(move || write(number))).collect();
        thread::sleep(Duration::from_millis(500));
        let outage = Outage::stopped();
        thread::sleep(Duration::from_secs(2));
        drop(outage);
        over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for (number, records) in records.into_iter().enumerate() {
        let expected: String = (0..records).map(|record| format!("record {record} of {number}\n")).collect();
        assert_eq!(fs::read_to_string(stage.server(number.to_string())).unwrap(), expected);
    }
    stage.server_comes_to_have("", &["0", "1", "2", "3"]);
}

fn removed_file(stage: &Stage) {
    stage.make_at_server("f", "first", (2001, 2001), 0o664);
    let read = || POD.run(|| fs::read_to_string(stage.pod("f")));
    let open = POD.run(|| OpenOptions::new().read(true).write(true).open(stage.pod("f")).unwrap());
    assert_eq!(read().unwrap(), "first");
    fs::remove_file(stage.server("f")).unwrap();

    let write = || POD.run(|| open.write_all_at(b"lost", 0).and_then(|()| open.sync_all()));
    match stage.variant.version {
        // A v3 server forgets a removed file once it closes it, some seconds after the last request.
        Version::V3 => {
            let stale = || write().is_err_and(|error| error.raw_os_error() == Some(libc::ESTALE));
            wait_until(PATIENCE, stale).unwrap_or_else(|()| panic!("{:?}, not ESTALE", write()));
        }
        Version::V4_2 => write().unwrap(),
    }
    let reopened = errno(read());
    assert!(matches!(reopened, Errno::ENOENT | Errno::ESTALE), "open of what is gone: {reopened}");
    goes_on(stage);

    stage.make_at_server("f", "second", (2001, 2001), 0o664);
    comes_back(stage, "the file", || read().is_ok_and(|content| content == "second"));
}

fn removed_directory(stage: &Stage) {
    let make = |content: &str| {
        fs::create_dir(stage.server("d")).unwrap();
        chown(stage.server("d"), Some(2001), Some(2001)).unwrap();
        stage.make_at_server("d/f", content, (2001, 2001), 0o664);
    };
    let list = || POD.run(|| fs::read_dir(stage.pod("d")).map(Iterator::count));
    let read = || POD.run(|| fs::read_to_string(stage.pod("d/f")));
    make("first");
    let held = POD.run(|| File::open(stage.pod("d")).unwrap());
    assert_eq!(list().unwrap(), 1);
    assert_eq!(read().unwrap(), "first");
    fs::remove_dir_all(stage.server("d")).unwrap();

    let made = POD.run(|| errno(rustix::fs::mkdirat(&held, "new", 0o755.into()).map_err(Into::into)));
    assert!(matches!(made, Errno::ENOENT | Errno::ESTALE), "mkdir in what is gone: {made}");
    let created = POD.run(|| errno(fs::write(stage.pod("d/new"), "")));
    assert!(matches!(created, Errno::ENOENT | Errno::ESTALE), "create in what is gone: {created}");
    goes_on(stage);

    make("second");
    comes_back(stage, "the directory", || read().is_ok_and(|content| content == "second"));
    comes_back(stage, "its listing", || list().is_ok_and(|names| names == 1));
    stage.write_as_pod("d/new", "");
    assert_eq!(stage.names_at_server("d"), ["f", "new"]);
}

/// What happened to one object is nothing to the others.
#[track_caller]
fn goes_on(stage: &Stage) {
    POD.run(|| {
        fs::write(stage.pod("other"), "fine").unwrap();
        assert_eq!(fs::read_to_string(stage.pod("other")).unwrap(), "fine");
        fs::remove_file(stage.pod("other")).unwrap();
    });
}

/// Whether it works within the `entry_timeout` of a second and some. An NFS v3 client itself may believe for half a
/// minute that a name is absent, unless somebody looks at the directory, as a person would.
#[track_caller]
fn comes_back(stage: &Stage, what: &str, works: impl Fn() -> bool) {
    let list = || POD.run(|| fs::read_dir(stage.pod("")).unwrap().count());
    wait_until(Duration::from_secs(3), || list() > 0 && works())
        .unwrap_or_else(|()| panic!("{what} does not work again"));
}

fn own_mount(stage: &Stage) {
    let before = mount_table();
    let pods = Pods::unmounted();
    let version = format!("nfs:vers={}", stage.variant.version.option());
    let output = pods.try_mount(&stage.nfs_source(stage.directory()), AIRFLOW, &["-o", &version]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    POD.run(|| {
        fs::create_dir(pods.at("d")).unwrap();
        fs::write(pods.at("d/f"), "content").unwrap();
    });
    stage.belongs_to_the_service_account("d", 0o2775);
    stage.belongs_to_the_service_account("d/f", 0o664);
    let output = pods.unmount(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(mount_table(), before, "what is mounted afterwards, and was before");
}

fn absent_export(stage: &Stage) {
    let before = mount_table();
    let pods = Pods::unmounted();
    let version = format!("nfs:vers={}", stage.variant.version.option());
    let source = stage.nfs_source(Path::new("data/no-such-folder"));
    let output =
        within(PATIENCE, "a mount that fails", || pods.try_mount(&source, AIRFLOW, &["-o", &version]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(SERVER_ADDRESS), "the error names the source: {said}");
    assert_eq!(mount_table(), before, "what is mounted afterwards, and was before");
}

fn lazy_unmount(stage: &Stage) {
    for (what, outage) in [("stopped", Outage::stopped as fn() -> Outage), ("cut off", Outage::cut)] {
        let pods = stage.mount_again(AIRFLOW);
        POD.run(|| fs::write(pods.at("f"), "content").unwrap());
        // A process of its own, started before the outage, as [`Outage`] explains.
        let mut writer = Command::new("sh")
            .args(["-c", "read -r _; echo content >\"$1\"", "sh"])
            .arg(pods.at("hanging"))
            .uid(POD.uid)
            .gid(POD.gid)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let outage = outage();
        drop(writer.stdin.take());
        thread::sleep(Duration::from_millis(500));
        assert!(writer.try_wait().unwrap().is_none(), "with the server {what}, a write waits");
        let status = within(SECONDS, "status", || permfs().args(["status", "--json"]).output().unwrap());
        assert!(
            status.status.success(),
            "with the server {what}: {}",
            String::from_utf8_lossy(&status.stderr)
        );
        let unmounted = within(SECONDS, "unmount --lazy", || pods.unmount(&["--lazy"]));
        assert!(
            unmounted.status.success(),
            "with the server {what}: {}",
            String::from_utf8_lossy(&unmounted.stderr)
        );
        assert!(!pods.is_mounted());
        drop(outage);
        writer.wait().unwrap();
    }
    goes_on(stage); // on the first mount, which was there all along
}
