//! Path rules: read-only subtrees, inheritance, the longest prefix.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use live::{AIRFLOW, Backing, Mount, POD, errno, stored_as};
use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, UTIME_NOW, XattrFlags};

const PATHS: &str = r#"
[[profile.airflow.path]]
match = "/dags"
read_only = true

[[profile.airflow.path]]
match = "/dags/scratch"
read_only = false

[[profile.airflow.path]]
match = "/plain"
group_write = false
setgid = false
umask = "0077"

[[profile.airflow.path]]
match = "/plain/shared"
group_write = true
"#;

/// The export has what the rules name, and beside it `dagster`, which only begins alike.
fn mount() -> Mount {
    Mount::prepared(Backing::TempDir, &format!("{AIRFLOW}{PATHS}"), |export| {
        for directory in ["dags/deep/er", "dags/scratch", "dagster", "plain/shared/deep", "other"] {
            fs::create_dir_all(export.join(directory)).unwrap();
        }
        fs::write(export.join("dags/f"), "dag").unwrap();
        fs::write(export.join("dags/deep/er/f"), "dag").unwrap();
        fs::write(export.join("other/f"), "other").unwrap();
        let chowned = std::process::Command::new("chown").args(["-R", "2001:2001"]).arg(export).status();
        assert!(chowned.unwrap().success());
    })
}

#[test]
fn nothing_in_a_read_only_subtree_can_be_changed() {
    let mount = mount();
    POD.run(|| {
        for file in ["dags/f", "dags/deep/er/f"] {
            let file = mount.at(file);
            let new = file.with_file_name("new");
            let directory = file.parent().unwrap();
            let refused = |what: &str, result: std::io::Result<()>| {
                assert_eq!(errno(result), Errno::EROFS, "{what} {}", file.display());
            };
            refused("open for writing", OpenOptions::new().write(true).open(&file).map(drop));
            refused("append to", OpenOptions::new().append(true).open(&file).map(drop));
            refused("truncate", nix::unistd::truncate(&file, 0).map_err(Into::into));
            refused(
                "truncating open of",
                OpenOptions::new().write(true).truncate(true).open(&file).map(drop),
            );
            refused("create beside", File::create_new(&new).map(drop));
            refused("mkdir beside", fs::create_dir(&new));
            refused("symlink beside", symlink("f", &new));
            refused("fifo beside", nix::unistd::mkfifo(&new, 0o644.into_mode()).map_err(Into::into));
            refused("link beside", fs::hard_link(&file, &new));
            refused("link out of", fs::hard_link(&file, mount.at("other/g")));
            refused("link in beside", fs::hard_link(mount.at("other/f"), &new));
            refused("unlink", fs::remove_file(&file));
            refused("rename", fs::rename(&file, &new));
            refused("move out", fs::rename(&file, mount.at("other/g")));
            refused("move in beside", fs::rename(mount.at("other/f"), &new));
            refused("chmod", fs::set_permissions(&file, Permissions::from_mode(0o600)));
            refused("chmod the directory of", fs::set_permissions(directory, Permissions::from_mode(0o700)));
            refused("chown", chown(&file, Some(50_000), Some(0)));
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let times = Timestamps { last_access: now, last_modification: now };
            let touched = rustix::fs::utimensat(CWD, &file, &times, AtFlags::empty());
            refused("touch", touched.map_err(Into::into));
            let set = rustix::fs::setxattr(&file, "user.a", b"x", XattrFlags::empty());
            refused("setxattr", set.map_err(Into::into));
            let exchanged =
                rustix::fs::renameat_with(CWD, &file, CWD, mount.at("other/f"), RenameFlags::EXCHANGE);
            refused("exchange", exchanged.map_err(Into::into));
        }
    });
    assert_eq!(fs::read_to_string(mount.stored("dags/f")).unwrap(), "dag");
    assert_eq!(fs::read_dir(mount.stored("dags")).unwrap().count(), 3);
}

/// nix has its own type for a mode.
trait IntoMode {
    fn into_mode(self) -> nix::sys::stat::Mode;
}

impl IntoMode for u32 {
    fn into_mode(self) -> nix::sys::stat::Mode {
        nix::sys::stat::Mode::from_bits_truncate(self)
    }
}

#[test]
fn a_read_only_subtree_is_read_as_ever() {
    let mount = mount();
    POD.run(|| {
        assert_eq!(fs::read_to_string(mount.at("dags/deep/er/f")).unwrap(), "dag");
        assert_eq!(fs::read_dir(mount.at("dags")).unwrap().count(), 3);
        let file = File::open(mount.at("dags/f")).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).unwrap();
        assert!(rustix::fs::access(mount.at("dags/f"), rustix::fs::Access::READ_OK).is_ok());
    });
}

#[test]
fn the_longest_prefix_wins() {
    let mount = mount();
    POD.run(|| {
        fs::write(mount.at("dags/scratch/f"), "x").unwrap();
        fs::create_dir(mount.at("dags/scratch/d")).unwrap();
        fs::write(mount.at("dags/scratch/d/f"), "x").unwrap();
        fs::rename(mount.at("dags/scratch/f"), mount.at("other/from scratch")).unwrap();
    });
    stored_as(mount.stored("dags/scratch/d"), 2001, 2001, 0o2775);
}

#[test]
fn a_prefix_ends_at_a_slash() {
    let mount = mount();
    POD.run(|| {
        fs::write(mount.at("dagster/f"), "x").unwrap();
        fs::create_dir(mount.at("dags2")).unwrap();
    });
    stored_as(mount.stored("dagster/f"), 2001, 2001, 0o664);
}

#[test]
fn keys_that_a_path_does_not_give_are_inherited() {
    let mount = mount();
    POD.run(|| {
        fs::write(mount.at("plain/f"), "x").unwrap();
        fs::create_dir(mount.at("plain/d")).unwrap();
        fs::write(mount.at("plain/shared/f"), "x").unwrap();
        fs::create_dir(mount.at("plain/shared/deep/d")).unwrap();
        fs::write(mount.at("other/new"), "x").unwrap();
    });
    stored_as(mount.stored("plain/f"), 2001, 2001, 0o600);
    stored_as(mount.stored("plain/d"), 2001, 2001, 0o700);
    // group_write comes back; the umask and setgid are still those of /plain.
    stored_as(mount.stored("plain/shared/f"), 2001, 2001, 0o660);
    stored_as(mount.stored("plain/shared/deep/d"), 2001, 2001, 0o770);
    stored_as(mount.stored("other/new"), 2001, 2001, 0o664);
}

#[test]
fn a_moved_directory_takes_the_rules_of_its_new_place() {
    let mount = mount();
    POD.run(|| {
        fs::create_dir_all(mount.at("dags/scratch/tree/deep")).unwrap();
        fs::rename(mount.at("dags/scratch/tree"), mount.at("plain/tree")).unwrap();
        fs::write(mount.at("plain/tree/deep/f"), "x").unwrap();
    });
    stored_as(mount.stored("plain/tree/deep/f"), 2001, 2001, 0o600);
}

#[test]
fn a_rule_holds_for_a_path_that_is_made_only_later() {
    let rules = format!("{AIRFLOW}\n[[profile.airflow.path]]\nmatch = \"/later/on\"\nread_only = true\n");
    let mount = Mount::of(&rules);
    POD.run(|| {
        fs::create_dir(mount.at("later")).unwrap();
        assert_eq!(
            errno(fs::create_dir(mount.at("later/on"))),
            Errno::EROFS,
            "the place itself is read-only"
        );
        fs::create_dir(mount.at("later/other")).unwrap();
        assert_eq!(errno(fs::rename(mount.at("later/other"), mount.at("later/on"))), Errno::EROFS);
    });
    fs::create_dir(mount.stored("later/on")).unwrap();
    chown(mount.stored("later/on"), Some(2001), Some(2001)).unwrap();
    POD.run(|| assert_eq!(errno(File::create(mount.at("later/on/f"))), Errno::EROFS));
}
