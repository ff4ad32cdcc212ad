//! Real containers (runc) with different users on one published volume, as pods would be. Needs root, /dev/fuse and runc,
//! and fails without.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use csi_room::{Node, RULES, capability_with, text};
use permfs::csi::spec::volume_capability::access_mode::Mode;

/// A container's directory: a root of this machine's programs, and the volume at /data.
struct Container {
    name: String,
    bundle: PathBuf,
}

impl Container {
    fn new(node: &Node, name: &str, user: serde_json::Value, volume: &Path, script: &str) -> Self {
        let bundle = node.target(&format!("bundle-{name}")).parent().unwrap().to_owned();
        let root = bundle.join("rootfs");
        for dir in ["proc", "usr", "data"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for dir in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{dir}"), root.join(dir)).unwrap();
        }
        let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| serde_json::json!({ "type": kind }));
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": user,
                "args": ["sh", "-c", script],
                "env": ["PATH=/usr/bin"],
                "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": { "bounding": [], "effective": [], "permitted": [] },
            },
            "root": { "path": "rootfs", "readonly": true },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"] },
                { "destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rslave"] },
            ],
            "linux": { "namespaces": namespaces },
        });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        Self { name: format!("permfs-{}-{name}", std::process::id()), bundle }
    }

    fn run(&self) -> Output {
        Command::new("runc")
            .arg("--root")
            .arg(self.bundle.join("state"))
            .args(["run", "--bundle"])
            .arg(&self.bundle)
            .arg(&self.name)
            .stdin(Stdio::null())
            .output()
            .expect("runc is installed (scripts/install-test-deps)")
    }
}

#[track_caller]
fn done(container: &Container) -> String {
    let output = container.run();
    assert!(output.status.success(), "{}: {}", container.name, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn two_containers_with_different_users_share_a_volume() {
    let rules = RULES.replace("nfs = 2001 } ]\ngid", "nfs = 2001 }, { pod = 50001, nfs = 2002 } ]\ngid");
    let node = Node::with_rules(&rules);
    let user = |uid: u32| serde_json::json!({ "uid": uid, "gid": 0 });
    let targets = ["one", "other"].map(|pod| node.target(pod));
    for target in &targets {
        node.calls.publish(node.request("vol", target)).unwrap();
    }
    let script =
        "umask 077 && mkdir /data/d && echo one > /data/d/file && stat -c %u:%g:%a /data/d /data/d/file";
    let shown = done(&Container::new(&node, "one", user(50000), &targets[0], script));
    assert_eq!(shown, "50000:0:2770\n50000:0:660");
    let script = "echo other >> /data/d/file && cat /data/d/file && echo new > /data/d/new && stat -c %u:%g /data/d/new";
    let shown = done(&Container::new(&node, "other", user(50001), &targets[1], script));
    assert_eq!(shown, "one\nother\n50001:0");
    let new = fs::metadata(node.export().join("d/new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (2002, 2001));
    let stranger = Container::new(&node, "stranger", user(60000), &targets[0], "cat /data/d/file");
    assert!(!stranger.run().status.success());
    for target in &targets {
        node.calls.unpublish("vol", target).unwrap();
    }
    assert!(node.mounts().is_empty() && node.ledger() == 0);
}

#[test]
fn a_container_that_has_the_volume_by_its_fs_group_alone_writes() {
    let node = Node::new();
    let shared = node.export().join("shared");
    fs::create_dir(&shared).unwrap();
    std::os::unix::fs::chown(&shared, Some(2001), Some(2001)).unwrap();
    fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o2770)).unwrap();
    node.write_rules(
        &RULES.replace("nfs = 2001 } ]\ngid", "nfs = 2001 }, { pod = 1000, nfs = 3000 } ]\ngid"),
    );
    let target = node.target("one");
    let mut request = node.request("vol", &target);
    request.volume_context.insert("subDir".into(), "shared".into());
    request.volume_capability = Some(capability_with(Mode::MultiNodeMultiWriter, &[], "7777"));
    node.calls.publish(request).unwrap();
    // As containerd has it: runAsUser 1000, group 0, the fsGroup among the supplementary ones.
    let user = serde_json::json!({ "uid": 1000, "gid": 0, "additionalGids": [7777] });
    let script = "echo hi > /data/file && stat -c %u:%g /data /data/file";
    let shown = done(&Container::new(&node, "fs-group", user, &target, script));
    assert_eq!(shown, "50000:7777\n1000:7777", "{}", text(&target));
    let file = fs::metadata(shared.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (3000, 2001));
}
