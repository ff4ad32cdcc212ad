//! POSIX ACLs with their ids translated, and extended attributes.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use live::{AIRFLOW, Mount, POD, ROOT, Stat, TRANSPARENT, Who, errno};
use nix::errno::Errno;
use rustix::fs::XattrFlags;

const RULES: &str = r#"
version = 1
[profile.test]
uid = [ { pod = 50000, nfs = 2001 }, { pod = 50001, nfs = 2002 } ]
gid = [ { pod = 0, nfs = 2001 }, { pod = 600, nfs = 2600 } ]
"#;

fn setfacl(path: &Path, arguments: &[&str]) -> Output {
    Command::new("setfacl").args(arguments).arg(path).output().expect("setfacl runs: apt-get install acl")
}

/// The entries of an ACL, numbers for names.
fn getfacl(path: &Path) -> Vec<String> {
    let output = Command::new("getfacl")
        .args(["--numeric", "--omit-header", "--no-effective", "--absolute-names"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn an_acl_is_stored_in_the_exports_ids_and_shown_in_the_pods() {
    let mount = Mount::of(RULES);
    POD.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        let set = setfacl(&mount.at("f"), &["-m", "u:50001:rw,g:600:r"]);
        assert!(set.status.success(), "{set:?}");
    });
    let stored = ["user::rw-", "user:2002:rw-", "group::r--", "group:2600:r--", "mask::rw-", "other::r--"];
    let shown = ["user::rw-", "user:50001:rw-", "group::r--", "group:600:r--", "mask::rw-", "other::r--"];
    assert_eq!(getfacl(&mount.stored("f")), stored);
    assert_eq!(POD.run(|| getfacl(&mount.at("f"))), shown);
    POD.run(|| assert!(setfacl(&mount.at("f"), &["-b"]).status.success()));
    assert_eq!(getfacl(&mount.stored("f")), ["user::rw-", "group::r--", "other::r--"]);
}

#[test]
fn an_acl_is_enforced_for_whom_it_names() {
    let mount = Mount::of(RULES);
    POD.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        fs::set_permissions(mount.at("f"), Permissions::from_mode(0o600)).unwrap();
    });
    let named = Who::new(50_001, 600);
    let write =
        || OpenOptions::new().append(true).open(mount.at("f")).and_then(|mut file| file.write_all(b"y"));
    assert_eq!(named.run(|| errno(write())), Errno::EACCES);
    POD.run(|| assert!(setfacl(&mount.at("f"), &["-m", "u:50001:rw"]).status.success()));
    named.run(|| write().unwrap());
    POD.run(|| fs::set_permissions(mount.at("f"), Permissions::from_mode(0o600)).unwrap());
    assert_eq!(named.run(|| errno(write())), Errno::EACCES, "chmod cleared the mask");
    assert_eq!(fs::read_to_string(mount.stored("f")).unwrap(), "xy");
}

#[test]
fn a_default_acl_is_handed_down_in_the_exports_ids() {
    let mount = Mount::of(RULES);
    POD.run(|| {
        fs::create_dir(mount.at("d")).unwrap();
        let set = setfacl(&mount.at("d"), &["-d", "-m", "u::rwx,u:50001:rwx,g::r-x,o::---"]);
        assert!(set.status.success(), "{set:?}");
    });
    POD.with_umask(0o077).run(|| {
        fs::write(mount.at("d/f"), "x").unwrap();
        fs::create_dir(mount.at("d/e")).unwrap();
    });
    let file = getfacl(&mount.stored("d/f"));
    assert!(file.contains(&"user:2002:rwx".to_owned()), "{file:?}");
    assert_eq!(Stat::of(mount.stored("d/f")).mode, 0o660);
    let directory = POD.run(|| getfacl(&mount.at("d/e")));
    assert!(directory.contains(&"default:user:50001:rwx".to_owned()), "{directory:?}");
}

#[test]
fn an_acl_entry_without_a_rule_is_shown_as_nobody_and_cannot_be_set() {
    let mount = Mount::of(RULES);
    POD.run(|| fs::write(mount.at("f"), "x").unwrap());
    assert!(setfacl(&mount.stored("f"), &["-m", "u:7777:r,g:8888:r"]).status.success());
    let shown = POD.run(|| getfacl(&mount.at("f")));
    assert!(shown.contains(&"user:65534:r--".to_owned()), "{shown:?}");
    assert!(shown.contains(&"group:65534:r--".to_owned()), "{shown:?}");
    POD.run(|| fs::write(mount.at("g"), "x").unwrap());
    let refused = POD.run(|| setfacl(&mount.at("g"), &["-m", "u:7777:r"]));
    assert!(!refused.status.success());
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(complaint.contains("Value too large for defined data type"), "EOVERFLOW: {complaint}");
    assert_eq!(getfacl(&mount.stored("g")).len(), 3);
}

#[test]
fn group_write_holds_against_the_mask_of_an_acl() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        assert!(setfacl(&mount.at("f"), &["-m", "u:50000:rw,m::r"]).status.success());
    });
    assert_eq!(Stat::of(mount.stored("f")).mode, 0o664);
}

/// The kernel masks a new object's group bits by the directory's default ACL, after the mode and umask that it is made
/// with.
#[test]
fn group_write_holds_against_a_default_acl() {
    let mount = Mount::of(AIRFLOW);
    let set = setfacl(&mount.stored("."), &["-d", "-m", "u::rwx,g::r,o::r,m::r"]);
    assert!(set.status.success(), "{set:?}");
    POD.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        fs::create_dir(mount.at("d")).unwrap();
    });
    assert_eq!(Stat::of(mount.stored("f")), Stat::new(2001, 2001, 0o664));
    assert_eq!(Stat::of(mount.stored("d")), Stat::new(2001, 2001, 0o2774));
}

#[test]
fn a_transparent_mount_passes_acls_as_they_are() {
    let mount = Mount::of(TRANSPARENT);
    fs::write(mount.at("f"), "x").unwrap();
    assert!(setfacl(&mount.at("f"), &["-m", "u:7777:rw,g:0:r"]).status.success());
    assert_eq!(getfacl(&mount.at("f")), getfacl(&mount.stored("f")));
    assert!(getfacl(&mount.stored("f")).contains(&"user:7777:rw-".to_owned()));
}

#[test]
fn a_malformed_acl_is_refused() {
    let mount = Mount::of(RULES);
    POD.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        for value in [&b"\x02\0\0\0\x01"[..], b"\xff\xff\xff\xff\x01\0\x06\0\xff\xff\xff\xff", b"x"] {
            let set =
                rustix::fs::setxattr(mount.at("f"), "system.posix_acl_access", value, XattrFlags::empty());
            assert!(set.is_err(), "{value:?}");
        }
        assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "x");
    });
}

fn get(path: &Path, name: &str) -> Result<Vec<u8>, rustix::io::Errno> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::getxattr(path, name, &mut *value)?;
    value.truncate(length);
    Ok(value)
}

fn list(path: &Path) -> Vec<String> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::listxattr(path, &mut *names).unwrap();
    let text = String::from_utf8(names[..length].to_vec()).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn user_attributes_are_set_read_listed_and_removed() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        let f = mount.at("f");
        let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&f, name, value, flags);
        set("user.one", b"1", XattrFlags::empty()).unwrap();
        set("user.two", b"", XattrFlags::CREATE).unwrap();
        set("user.one", b"eins", XattrFlags::REPLACE).unwrap();
        assert_eq!(set("user.one", b"", XattrFlags::CREATE), Err(rustix::io::Errno::EXIST));
        assert_eq!(set("user.no", b"", XattrFlags::REPLACE), Err(rustix::io::Errno::NODATA));
        assert_eq!(get(&f, "user.one").unwrap(), b"eins");
        assert_eq!(get(&f, "user.two").unwrap(), b"");
        assert_eq!(get(&f, "user.no"), Err(rustix::io::Errno::NODATA));
        let mut names = list(&f);
        names.sort();
        assert_eq!(names, ["user.one", "user.two"]);
        let mut small = [0; 3];
        assert_eq!(rustix::fs::getxattr(&f, "user.one", &mut small), Err(rustix::io::Errno::RANGE));
        rustix::fs::removexattr(&f, "user.two").unwrap();
        assert_eq!(list(&f), ["user.one"]);
    });
    assert_eq!(get(&mount.stored("f"), "user.one").unwrap(), b"eins");
}

#[test]
fn security_and_trusted_attributes_are_refused_to_mapped_callers() {
    let mount = Mount::of(&format!("{AIRFLOW}\n[profile.airflow.unmapped]\nroot = 2001\n"));
    POD.run(|| fs::write(mount.at("f"), "x").unwrap());
    rustix::fs::setxattr(mount.stored("f"), "trusted.secret", b"x", XattrFlags::empty()).unwrap();
    for who in [POD, ROOT] {
        who.run(|| {
            for name in ["trusted.own", "trusted.secret", "security.own"] {
                let set = rustix::fs::setxattr(mount.at("f"), name, b"y", XattrFlags::empty()).unwrap_err();
                let refused = [rustix::io::Errno::PERM, rustix::io::Errno::NOTSUP];
                assert!(refused.contains(&set), "{who:?} {name}: {set}");
                assert!(rustix::fs::removexattr(mount.at("f"), name).is_err());
            }
            assert!(get(&mount.at("f"), "trusted.secret").is_err());
            assert!(!list(&mount.at("f")).iter().any(|name| name.starts_with("trusted.")));
        });
    }
    assert_eq!(get(&mount.stored("f"), "trusted.secret").unwrap(), b"x");
}

#[test]
fn the_attributes_of_a_foreign_file_are_out_of_reach() {
    let mount = Mount::of(AIRFLOW);
    fs::write(mount.stored("f"), "x").unwrap();
    rustix::fs::setxattr(mount.stored("f"), "user.a", b"x", XattrFlags::empty()).unwrap();
    chown(mount.stored("f"), Some(9), Some(9)).unwrap();
    fs::set_permissions(mount.stored("f"), Permissions::from_mode(0o640)).unwrap();
    POD.run(|| {
        assert_eq!(get(&mount.at("f"), "user.a"), Err(rustix::io::Errno::ACCESS));
        let set = rustix::fs::setxattr(mount.at("f"), "user.a", b"y", XattrFlags::empty());
        assert_eq!(set, Err(rustix::io::Errno::ACCESS));
    });
}
