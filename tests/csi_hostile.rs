//! What tenants may try with volumes that they can name or write in. Needs root and /dev/fuse, and fails without.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use csi_room::{Node, as_pod, done_as_pod};

/// How long a race may go on without being won.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_directory_whose_path_is_longer_than_a_mounts_source_may_be_is_shown() {
    let node = Node::new();
    let name = "d".repeat(250);
    let depth = permfs::host::sub_path::MAX_NAMES;
    // No path leads there: it is longer than PATH_MAX.
    let deep = (0..depth).fold(File::open(node.export()).unwrap(), |at, _| {
        let below = PathBuf::from(format!("/proc/self/fd/{}/{name}", at.as_raw_fd()));
        fs::create_dir(&below).unwrap();
        chown(&below, Some(2001), Some(2001)).unwrap();
        File::open(&below).unwrap()
    });
    let target = node.target("one");
    let mut request = node.request("vol", &target);
    request.volume_context.insert("subDir".into(), vec![name; depth].join("/"));
    node.calls.publish(request).unwrap();
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
    assert!(Path::new(&format!("/proc/self/fd/{}/file", deep.as_raw_fd())).exists());
    node.calls.unpublish("vol", &target).unwrap();
    assert!(node.mounts().is_empty() && node.ledger() == 0);
}

#[test]
fn names_that_would_mean_something_to_mount_are_names() {
    let node = Node::new();
    let target = node.target("one");
    for name in ["a b", "a,ro,b", "a\"b", "a\\040b", "a#b", "-o", "(deleted)", "$HOME", "a:b", "'"] {
        let directory = node.export().join(name);
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(2001), Some(2001)).unwrap();
        let mut request = node.request(name, &target);
        request.volume_context.insert("subDir".into(), name.into());
        node.calls.publish(request.clone()).unwrap();
        node.calls.publish(request).unwrap();
        done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
        assert!(directory.join("file").exists(), "{name}");
        node.calls.unpublish(name, &target).unwrap();
        assert!(node.mounts().is_empty() && node.ledger() == 0, "{name}: {:?}", node.mounts());
    }
}

#[test]
fn a_directory_that_turns_into_a_symlink_and_back_leads_no_pod_out_of_the_share() {
    let node = Node::new();
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(outside.path().join("secret"), "").unwrap();
    let place = node.export().join("d");
    let target = node.target("one");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // From 0.3 to 5 ms each: a busy machine needs longer to win.
            let pauses = (0..5).map(|doubled| Duration::from_micros(300 << doubled)).cycle();
            for pause in pauses.take_while(|_| !stop.load(Ordering::Acquire)) {
                fs::create_dir(&place).unwrap();
                chown(&place, Some(2001), Some(2001)).unwrap();
                sleep(pause);
                fs::remove_dir(&place).unwrap();
                symlink(outside.path(), &place).unwrap();
                sleep(pause);
                fs::remove_file(&place).unwrap();
            }
        });
        let mut request = node.request("vol", &target);
        request.volume_context.insert("subDir".into(), "d".into());
        let (mut shown, begun) = (0, Instant::now());
        for attempt in 0.. {
            if attempt >= 60 && (shown > 0 || begun.elapsed() > PATIENCE) {
                break;
            }
            if node.calls.publish(request.clone()).is_ok() {
                shown += 1;
                let seen = as_pod(50000, 0, "", &format!("ls {}", target.display()));
                assert_eq!(String::from_utf8_lossy(&seen.stdout), "");
            }
            node.calls.unpublish("vol", &target).unwrap();
        }
        stop.store(true, Ordering::Release);
        assert!(shown > 0, "the race was never won");
    });
    assert!(node.mounts().is_empty() && node.ledger() == 0, "{:?}", node.mounts());
}
