//! What a chown means under each of the four policies, and what becomes of an id without a rule.
//!
//! For an ordinary caller the kernel answers most chowns itself (`default_permissions`): it lets the owner name itself
//! and its groups, nothing else. Root on the node passes the kernel, so it is root here that asks for more.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self};
use std::os::unix::fs::chown;

use live::{Mount, POD, ROOT, Stat, Who, errno};
use nix::errno::Errno;

/// A mount where root acts as 2001, with a file `own` of 2001:2001 and a file `foreign` of 3000:2001, shown as 50300.
fn mount(policy: &str) -> Mount {
    let mount = Mount::of(&format!(
        r#"
version = 1
[profile.test]
uid = [ {{ pod = 50000, nfs = 2001 }}, {{ pod = 50300, nfs = 3000 }} ]
gid = [ {{ pod = 0, nfs = 2001 }}, {{ pod = 600, nfs = 2600 }} ]
[profile.test.unmapped]
root = 2001
[profile.test.permissions]
chown = "{policy}"
"#
    ));
    for (name, uid) in [("own", 2001), ("foreign", 3000)] {
        fs::write(mount.stored(name), "x").unwrap();
        chown(mount.stored(name), Some(uid), Some(2001)).unwrap();
    }
    mount
}

fn stored(mount: &Mount, name: &str) -> (u32, u32) {
    let found = Stat::of(mount.stored(name));
    (found.uid, found.gid)
}

#[test]
fn absorb_takes_a_refusal_for_done_where_nothing_would_change() {
    let mount = mount("absorb");
    // 2001 may not touch 3000's file at all, not even to leave it as it is.
    ROOT.run(|| chown(mount.at("foreign"), Some(50_300), Some(0)).unwrap());
    ROOT.run(|| chown(mount.at("foreign"), Some(50_300), None).unwrap());
    // What would change is the backing's to decide.
    assert_eq!(errno(chown(mount.at("foreign"), Some(50_000), None)), Errno::EPERM);
    assert_eq!(errno(chown(mount.at("own"), Some(50_300), None)), Errno::EPERM);
    assert_eq!((stored(&mount, "own"), stored(&mount, "foreign")), ((2001, 2001), (3000, 2001)));
    // And the backing lets an owner give a file to its own group.
    let grouped = Who::new(50_000, 0).with_groups(&[600]);
    grouped.run(|| chown(mount.at("own"), None, Some(600)).unwrap());
    assert_eq!(stored(&mount, "own"), (2001, 2600));
    assert_eq!(Stat::of(mount.at("own")).gid, 600);
}

#[test]
fn pass_gives_the_backings_answer_whatever_it_is() {
    let mount = mount("pass");
    ROOT.run(|| chown(mount.at("own"), Some(50_000), Some(0)).unwrap());
    assert_eq!(errno(chown(mount.at("foreign"), Some(50_300), Some(0))), Errno::EPERM);
    assert_eq!(errno(chown(mount.at("own"), Some(50_300), None)), Errno::EPERM);
}

#[test]
fn deny_is_eperm_for_every_chown() {
    let mount = mount("deny");
    assert_eq!(errno(chown(mount.at("own"), Some(50_000), Some(0))), Errno::EPERM);
    POD.run(|| assert_eq!(errno(chown(mount.at("own"), Some(50_000), Some(0))), Errno::EPERM));
    assert_eq!(errno(chown(mount.at("foreign"), Some(50_000), None)), Errno::EPERM);
    // Other changes still work.
    POD.run(|| fs::write(mount.at("own"), "y").unwrap());
}

#[test]
fn ignore_succeeds_and_changes_nothing() {
    let mount = mount("ignore");
    for (uid, gid) in [(Some(50_300), None), (None, Some(600)), (Some(50_000), Some(0))] {
        chown(mount.at("own"), uid, gid).unwrap();
        chown(mount.at("foreign"), uid, gid).unwrap();
    }
    assert_eq!((stored(&mount, "own"), stored(&mount, "foreign")), ((2001, 2001), (3000, 2001)));
    assert_eq!(Stat::of(mount.at("own")).uid, 50_000);
}

#[test]
fn an_id_without_a_rule_is_eoverflow() {
    for policy in ["absorb", "pass"] {
        let mount = mount(policy);
        assert_eq!(errno(chown(mount.at("own"), Some(12_345), None)), Errno::EOVERFLOW, "{policy}");
        assert_eq!(errno(chown(mount.at("own"), None, Some(12_345))), Errno::EOVERFLOW, "{policy}");
        let grouped = Who::new(50_000, 0).with_groups(&[777]);
        let result = grouped.run(|| errno(chown(mount.at("own"), None, Some(777))));
        assert_eq!(result, Errno::EOVERFLOW, "{policy}");
        assert_eq!(stored(&mount, "own"), (2001, 2001), "{policy}");
    }
}

#[test]
fn a_chown_by_an_ordinary_caller_that_the_kernel_refuses_stays_refused() {
    for policy in ["absorb", "pass", "deny", "ignore"] {
        let mount = mount(policy);
        POD.run(|| {
            assert_eq!(errno(chown(mount.at("own"), Some(50_300), None)), Errno::EPERM, "{policy}");
            assert_eq!(errno(chown(mount.at("foreign"), Some(50_000), None)), Errno::EPERM, "{policy}");
        });
    }
}

#[test]
fn cp_and_tar_that_keep_owners_work_for_what_is_the_pods_own() {
    let mount = mount("absorb");
    POD.run(|| {
        let run = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(program);
            let ended = command.args(arguments).current_dir(mount.target()).output().unwrap();
            assert!(ended.status.success(), "{program}: {}", String::from_utf8_lossy(&ended.stderr));
        };
        fs::create_dir(mount.at("d")).unwrap();
        fs::write(mount.at("d/f"), "x").unwrap();
        run("cp", &["-a", "d", "copy"]);
        run("tar", &["cf", "d.tar", "d"]);
        fs::create_dir(mount.at("out")).unwrap();
        run("tar", &["xpf", "d.tar", "-C", "out", "--same-owner"]);
        run("install", &["-m", "0640", "-o", "50000", "-g", "0", "d/f", "installed"]);
    });
    for name in ["copy/f", "out/d/f", "installed"] {
        assert_eq!(stored(&mount, name), (2001, 2001), "{name}");
    }
}
