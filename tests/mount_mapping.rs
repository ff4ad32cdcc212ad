//! Who becomes whom: ranges, many-to-one, one way only, callers without a rule, root, and the three kinds of `act_as`.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use live::{Backing, Mount, POD, ROOT, Stat, Who, errno, stored_as};
use nix::errno::Errno;

/// An export that everybody may write in, under the profile with these keys.
fn open_to_all(profile: &str) -> Mount {
    Mount::prepared(Backing::TempDir, &rules(profile), |export| chmod(export, 0o777))
}

fn rules(profile: &str) -> String {
    format!("version = 1\n[profile.test]\n{profile}")
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Makes a file as `who` through the mount; how it is stored, and how it is shown.
fn made_by(mount: &Mount, who: Who, name: &str) -> (Stat, Stat) {
    who.run(|| drop(File::create_new(mount.at(name)).unwrap()));
    (Stat::of(mount.stored(name)), shown_to(who, mount, name))
}

/// How `who`, whom the rules admit, sees it.
fn shown_to(who: Who, mount: &Mount, name: &str) -> Stat {
    who.run(|| Stat::of(mount.at(name)))
}

/// Puts a file on the export.
fn stored(mount: &Mount, name: &str, uid: u32, gid: u32, mode: u32) {
    fs::write(mount.stored(name), name).unwrap();
    chown(mount.stored(name), Some(uid), Some(gid)).unwrap();
    chmod(&mount.stored(name), mode);
}

fn denied(mount: &Mount, who: Who) {
    let refused = who.run(|| errno(File::create_new(mount.at("refused"))));
    assert_eq!(refused, Errno::EACCES, "{who:?}");
    assert!(!mount.stored("refused").exists());
}

#[test]
fn ranges_map_from_their_first_id_to_their_last() {
    let mount = open_to_all(
        r#"
uid = [ { pod = "50000-50009", nfs = "2000-2009" } ]
gid = [ { pod = "100-199", nfs = "7100-7199" } ]
"#,
    );
    for (uid, gid) in [(50000, 100), (50003, 150), (50009, 199)] {
        let (stored, shown) = made_by(&mount, Who::new(uid, gid), &format!("{uid}"));
        assert_eq!(stored, Stat::new(uid - 48_000, gid + 7_000, 0o644));
        assert_eq!(shown, Stat::new(uid, gid, 0o644));
    }
    denied(&mount, Who::new(49_999, 100));
    denied(&mount, Who::new(50_010, 100));
    denied(&mount, Who::new(50_000, 99));
    denied(&mount, Who::new(50_000, 200));
}

#[test]
fn many_pods_are_one_owner_and_shown_as_the_one_that_was_named() {
    let mount = open_to_all(
        r#"
uid = [ { pod = "60000-60009", nfs = 3000, shown_as = 60000 } ]
gid = [ { pod = "0-5", nfs = 3000, shown_as = 0 } ]
"#,
    );
    let (stored, shown) = made_by(&mount, Who::new(60_005, 3), "f");
    assert_eq!(stored, Stat::new(3000, 3000, 0o644));
    assert_eq!(shown, Stat::new(60_000, 0, 0o644));
    // What one of them made, the server lets each of them use; what is shown is that 60000 owns it.
    Who::new(60_000, 0).run(|| fs::write(mount.at("f"), "x").unwrap());
    let other = Who::new(60_009, 4).run(|| errno(OpenOptions::new().write(true).open(mount.at("f"))));
    assert_eq!(other, Errno::EACCES);
}

#[test]
fn a_one_way_rule_holds_that_way_only() {
    let mount = open_to_all(
        r#"
uid = [
  { pod = 50000, nfs = 2001 },
  { pod = 70000, nfs = 2001, direction = "pod-to-nfs" },
  { pod = 71000, nfs = 4001, direction = "nfs-to-pod" },
]
gid = [ { pod = 0, nfs = 2001 } ]
"#,
    );
    let (made, shown) = made_by(&mount, Who::new(70_000, 0), "in");
    assert_eq!(made, Stat::new(2001, 2001, 0o644));
    assert_eq!(shown, Stat::new(50_000, 0, 0o644));
    stored(&mount, "out", 4001, 2001, 0o644);
    assert_eq!(shown_to(POD, &mount, "out"), Stat::new(71_000, 0, 0o644));
    denied(&mount, Who::new(71_000, 0));
}

#[test]
fn callers_without_a_rule_can_keep_their_ids() {
    let mount = open_to_all(
        r#"
uid = []
gid = []
[profile.test.unmapped]
pod = "keep"
"#,
    );
    let (stored, shown) = made_by(&mount, Who::new(5000, 5001), "f");
    assert_eq!(stored, Stat::new(5000, 5001, 0o644));
    assert_eq!(shown, Stat::new(65_534, 65_534, 0o644));
    denied(&mount, ROOT);
}

#[test]
fn callers_without_a_rule_can_be_given_one_id() {
    let mount = open_to_all(
        r#"
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.test.unmapped]
pod = 3000
"#,
    );
    let (stored, shown) = made_by(&mount, Who::new(5000, 5001), "f");
    assert_eq!(stored, Stat::new(3000, 3000, 0o644));
    assert_eq!(shown, Stat::new(65_534, 65_534, 0o644));
    assert_eq!(made_by(&mount, POD, "g").0, Stat::new(2001, 2001, 0o644));
    denied(&mount, ROOT);
}

#[test]
fn owners_without_a_rule_can_be_shown_as_they_are_or_as_one_pod_id() {
    for (nfs, shown_as) in [("\"keep\"", 777), ("4242", 4242)] {
        // No gid rule collides with what is kept.
        let mount = open_to_all(&format!(
            r#"
uid = []
gid = []
[profile.test.unmapped]
pod = "keep"
nfs = {nfs}
"#
        ));
        stored(&mount, "f", 777, 777, 0o644);
        assert_eq!(shown_to(Who::new(5, 5), &mount, "f"), Stat::new(shown_as, shown_as, 0o644));
    }
}

#[test]
fn root_acts_as_the_nfs_id_that_the_rules_give_it() {
    let mount = Mount::of(&rules(
        r#"
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.test.unmapped]
root = 2001
"#,
    ));
    // What kubelet does with a volume: looks, makes the subPath directory, looks again.
    assert!(fs::metadata(mount.target()).unwrap().is_dir());
    ROOT.run(|| fs::create_dir(mount.at("subpath")).unwrap());
    stored_as(mount.stored("subpath"), 2001, 2001, 0o755);
    assert_eq!(Stat::of(mount.at("subpath")), Stat::new(50_000, 0, 0o755));
    // The kernel lets root pass; the server has the last word, and there it is only 2001.
    stored(&mount, "private", 3000, 3000, 0o600);
    assert_eq!(errno(fs::read(mount.at("private"))), Errno::EACCES);
    assert_eq!(errno(chown(mount.at("private"), Some(50_000), None)), Errno::EPERM);
    denied(&mount, Who::new(1, 0));
}

#[test]
fn root_can_be_kept_where_that_is_said() {
    let mount = open_to_all(
        r#"
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 3, nfs = 2001 } ]
[profile.test.unmapped]
root = "keep"
"#,
    );
    let (stored, shown) = made_by(&mount, ROOT, "f");
    assert_eq!(stored, Stat::new(0, 0, 0o644));
    assert_eq!(shown, Stat::new(65_534, 65_534, 0o644), "0 has no rule outbound");
    denied(&mount, Who::new(5000, 3));
}

#[test]
fn a_fixed_act_as_does_everything_as_that_user_and_asks_for_no_gid_rule() {
    let mount = Mount::of(&rules(
        r#"
uid = [ { pod = 50000, nfs = 2001 }, { pod = 50001, nfs = 2002 } ]
gid = [ { pod = 0, nfs = 2001 } ]
act_as = { uid = 2001, gid = 2001, groups = [3001] }
"#,
    ));
    for gid in [0, 12_345] {
        let (stored, shown) = made_by(&mount, Who::new(50_000, gid), &gid.to_string());
        assert_eq!(stored, Stat::new(2001, 2001, 0o644));
        assert_eq!(shown, Stat::new(50_000, 0, 0o644));
    }
    // 50001 is admitted and acts as 2001 as well, but the kernel holds it to what is shown.
    chmod(&mount.source(), 0o777);
    let (stored, _) = made_by(&mount, Who::new(50_001, 5), "of the other");
    assert_eq!(stored, Stat::new(2001, 2001, 0o644));
    denied(&mount, Who::new(50_002, 0));
    denied(&mount, ROOT);
}

#[test]
fn the_groups_of_a_fixed_act_as_count_at_the_server() {
    let mount = Mount::of(&rules(
        r#"
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 3001 } ]
act_as = { uid = 2001, gid = 2001, groups = [3001] }
"#,
    ));
    stored(&mount, "teams", 9999, 3001, 0o660);
    POD.run(|| fs::write(mount.at("teams"), "x").unwrap());
}

#[test]
fn act_as_owner_uses_the_objects_owner_once_the_kernel_has_allowed_it() {
    let mount = Mount::prepared(
        Backing::TempDir,
        &rules(
            r#"
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2002 } ]
act_as = "owner"
"#,
        ),
        |export| {
            chown(export, Some(2002), Some(2002)).unwrap();
            chmod(export, 0o775);
        },
    );
    // Created as the mapped caller.
    let (made, shown) = made_by(&mount, POD, "f");
    assert_eq!(made, Stat::new(2001, 2002, 0o644));
    assert_eq!(shown, Stat::new(50_000, 0, 0o644));
    // Removed and renamed as the parent's owner: in a sticky directory 2001 could not.
    stored(&mount, "theirs", 2003, 2002, 0o664);
    POD.run(|| {
        fs::write(mount.at("theirs"), "by the group").unwrap();
        fs::rename(mount.at("theirs"), mount.at("moved")).unwrap();
        fs::remove_file(mount.at("moved")).unwrap();
    });
    // What is shown is not the pod's stays out of its reach.
    stored(&mount, "private", 2003, 2003, 0o600);
    POD.run(|| assert_eq!(errno(fs::read(mount.at("private"))), Errno::EACCES));
    denied(&mount, ROOT);
}

#[test]
fn apply_to_all_shows_and_opens_what_was_there_before_as_if_made_under_the_policy() {
    let mount = Mount::prepared(
        Backing::TempDir,
        &rules(
            r#"
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2002 } ]
act_as = "owner"
[profile.test.permissions]
group_write = true
setgid = true
apply_to = "all"
"#,
        ),
        |export| {
            chown(export, Some(2002), Some(2002)).unwrap();
            fs::create_dir(export.join("d")).unwrap();
            fs::write(export.join("d/f"), "x").unwrap();
            for (path, mode) in [("d", 0o755), ("d/f", 0o644)] {
                chown(export.join(path), Some(2003), Some(2002)).unwrap();
                chmod(&export.join(path), mode);
            }
        },
    );
    assert_eq!(shown_to(POD, &mount, ""), Stat::new(65_534, 0, 0o2775));
    assert_eq!(shown_to(POD, &mount, "d"), Stat::new(65_534, 0, 0o2775));
    assert_eq!(shown_to(POD, &mount, "d/f"), Stat::new(65_534, 0, 0o664));
    POD.run(|| {
        fs::write(mount.at("d/f"), "by the group").unwrap();
        fs::write(mount.at("d/new"), "x").unwrap();
        fs::rename(mount.at("d/f"), mount.at("d/g")).unwrap();
        fs::create_dir(mount.at("e")).unwrap();
    });
    assert_eq!(fs::read_to_string(mount.stored("d/g")).unwrap(), "by the group");
    let new = Stat::of(mount.stored("d/new"));
    assert_eq!((new.uid, new.gid, new.mode), (2001, 2002, 0o664));
    stored_as(mount.stored("e"), 2001, 2002, 0o2775);
    POD.run(|| fs::remove_dir_all(mount.at("d")).unwrap());
}

#[test]
fn a_umask_in_the_rules_takes_the_place_of_the_callers() {
    let mount = Mount::of(&rules(
        r#"
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.test.permissions]
umask = "0002"
"#,
    ));
    assert_eq!(made_by(&mount, POD.with_umask(0o077), "f").0, Stat::new(2001, 2001, 0o664));
    POD.with_umask(0).run(|| fs::create_dir(mount.at("d")).unwrap());
    stored_as(mount.stored("d"), 2001, 2001, 0o775);
}

#[test]
fn without_the_permission_keys_modes_and_groups_are_the_backings_own() {
    let mount =
        Mount::of(&rules("uid = [ { pod = 50000, nfs = 2001 } ]\ngid = [ { pod = 0, nfs = 2001 } ]\n"));
    for (umask, file, directory) in [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0, 0o666, 0o777)] {
        let pod = POD.with_umask(umask);
        assert_eq!(made_by(&mount, pod, &format!("f{umask}")).0, Stat::new(2001, 2001, file));
        pod.run(|| fs::create_dir(mount.at(format!("d{umask}"))).unwrap());
        stored_as(mount.stored(format!("d{umask}")), 2001, 2001, directory);
    }
    POD.run(|| chmod(&mount.at("f0"), 0o400));
    stored_as(mount.stored("f0"), 2001, 2001, 0o400);
}

#[test]
fn a_default_acl_keeps_its_precedence_over_the_umask() {
    for rules_of in [live::AIRFLOW, live::TRANSPARENT] {
        let mount = Mount::prepared(Backing::TempDir, rules_of, |export| {
            let set = std::process::Command::new("setfacl")
                .args(["-d", "-m", "u::rwx,g::rwx,o::r-x"])
                .arg(export)
                .status()
                .expect("setfacl runs: apt-get install acl");
            assert!(set.success());
            chown(export, Some(2001), Some(2001)).unwrap();
        });
        let who = if rules_of == live::AIRFLOW { POD } else { live::OWNER };
        who.with_umask(0o077).run(|| drop(File::create_new(mount.at("f")).unwrap()));
        stored_as(mount.stored("f"), 2001, 2001, 0o664);
    }
}

/// 50000:500 may use what belongs to the export's groups 2600 and 2700 by way of its supplementary groups, if they count.
fn export_of_groups(groups: &str) -> Mount {
    Mount::prepared(
        Backing::TempDir,
        &rules(&format!(
            r#"
uid = [ {{ pod = 50000, nfs = 2001 }} ]
gid = [ {{ pod = 500, nfs = 2500 }}, {{ pod = 600, nfs = 2600 }}, {{ pod = 700, nfs = 2700 }} ]
groups = {groups}
"#
        )),
        |export| {
            for gid in [2600, 2700] {
                let directory = export.join(gid.to_string());
                fs::create_dir(&directory).unwrap();
                chown(&directory, Some(9999), Some(gid)).unwrap();
                chmod(&directory, 0o770);
            }
        },
    )
}

const GROUPED: Who = Who::new(50_000, 500).with_groups(&[600, 700, 888]);

#[test]
fn the_processs_groups_count_by_default() {
    let mount = export_of_groups("\"process\"");
    assert_eq!(made_by(&mount, GROUPED, "2600/f").0, Stat::new(2001, 2500, 0o644));
    assert_eq!(made_by(&mount, GROUPED, "2700/f").0, Stat::new(2001, 2500, 0o644));
    // The same ids without those groups: the same process id would be another process.
    let without = Who::new(50_000, 500);
    assert_eq!(without.run(|| errno(File::create_new(mount.at("2600/g")))), Errno::EACCES);
}

#[test]
fn a_group_that_a_process_gains_counts_at_once() {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    let mount = export_of_groups("\"process\"");
    chmod(&mount.stored(""), 0o777);
    // A service that serves several users in one thread: root, and somebody else for the moment.
    let be = |uid| set_thread_res_uid(Uid::ROOT, Uid::from_raw(uid), Uid::ROOT).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(Gid::ROOT, Gid::from_raw(500), Gid::ROOT).unwrap();
            for group in [600, 700] {
                be(50_000);
                File::create(mount.at("known")).unwrap();
                let path = mount.at(format!("2{group}/f"));
                assert_eq!(errno(File::create_new(&path)), Errno::EACCES);
                be(0);
                set_thread_groups(&[Gid::from_raw(group)]).unwrap();
                be(50_000);
                File::create_new(&path).unwrap();
                fs::metadata(&path).unwrap();
                be(0);
                set_thread_groups(&[]).unwrap();
            }
        });
    });
}

#[test]
fn the_processs_groups_can_be_left_out() {
    let mount = export_of_groups("\"none\"");
    // The kernel knows of the groups and lets it pass; the server does not hear of them.
    assert_eq!(GROUPED.run(|| errno(File::create_new(mount.at("2600/f")))), Errno::EACCES);
}

#[test]
fn a_list_of_groups_takes_the_place_of_the_processs() {
    let mount = export_of_groups("[600]");
    assert_eq!(made_by(&mount, GROUPED, "2600/f").0, Stat::new(2001, 2500, 0o644));
    assert_eq!(GROUPED.run(|| errno(File::create_new(mount.at("2700/f")))), Errno::EACCES);
}

#[test]
fn command_line_maps_make_a_profile_of_their_own() {
    let mount = Mount::unmounted(Backing::TempDir);
    let mounted = live::mount::permfs()
        .arg("mount")
        .args([mount.source(), mount.target()])
        .args(["--map-uid", "50000:2001", "--map-uid", "50010-50019:2010-2019", "--map-gid", "0:2001"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(mounted.success());
    assert_eq!(made_by(&mount, POD, "f").0, Stat::new(2001, 2001, 0o644));
    chmod(&mount.source(), 0o777);
    assert_eq!(made_by(&mount, Who::new(50_013, 0), "g").0, Stat::new(2013, 2001, 0o644));
    denied(&mount, Who::new(50_020, 0));
    denied(&mount, ROOT);
}
