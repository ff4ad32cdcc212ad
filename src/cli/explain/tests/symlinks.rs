//! Where a path leads through symlinks is what is judged, as it is for a pod in the mount.

use super::export::{link, make};
use super::*;
use crate::policy::FileKind;
use crate::sys::Errno;

/// What git-sync leaves, and links to it from outside.
fn export() -> ModelBacking {
    let export = ModelBacking::default();
    make(&export, "/dags", FileKind::Directory, 2001, 0o755);
    make(&export, "/dags/v1", FileKind::Directory, 2001, 0o755);
    make(&export, "/dags/v1/a.py", FileKind::Regular, 2001, 0o644);
    make(&export, "/dags/v1/secret.py", FileKind::Regular, 3000, 0o600);
    link(&export, "/dags/current", "v1");
    link(&export, "/ldags", "dags");
    link(&export, "/secret.py", "dags/v1/secret.py");
    export
}

fn ask_here(op: Op, path: &str) -> Explanation {
    ask(50000, 0, op, path, Some(&export()))
}

fn why_not(export: &ModelBacking, op: Op, path: &str) -> String {
    answer(RULES, &question(50000, 0, op, path), Some(export)).unwrap_err().to_string()
}

#[test]
fn a_read_is_judged_at_the_target_of_the_last_symlink() {
    let said = ask_here(Op::Read, "/secret.py");
    assert_eq!(said.errno.as_deref(), Some("EACCES"), "{said:?}");
    assert_eq!(said.path, "/dags/v1/secret.py");
    assert!(said.notes.contains(&"/secret.py is a symlink to dags/v1/secret.py".to_owned()), "{said:?}");
}

#[test]
fn a_directory_symlink_leads_to_the_path_rule_of_its_target() {
    let said = ask_here(Op::Create, "/ldags/n");
    assert_eq!((said.errno.as_deref(), said.path.as_str()), (Some("EROFS"), "/dags/n"));
    assert_eq!(said.path_rule.as_deref(), Some(said.rule.as_str()));
    assert_eq!(ask_here(Op::Write, "/ldags/v1/a.py").errno.as_deref(), Some("EROFS"));
}

#[test]
fn a_symlink_in_the_middle_is_followed() {
    for path in ["/dags/current/a.py", "/ldags/current/a.py"] {
        let said = ask_here(Op::Read, path);
        assert!(said.allowed, "{said:?}");
        assert_eq!(said.path, "/dags/v1/a.py");
    }
}

#[test]
fn what_works_on_names_does_not_follow_the_last_symlink() {
    for op in [Op::Unlink, Op::Rename] {
        let said = ask_here(op, "/secret.py");
        assert!(said.allowed, "{said:?}");
        assert_eq!(said.path, "/secret.py");
    }
    assert_eq!(ask_here(Op::Look, "/secret.py").path, "/secret.py");
    assert_eq!(ask_here(Op::Getattr, "/secret.py").path, "/dags/v1/secret.py");
}

#[test]
fn a_create_makes_what_a_dangling_symlink_names() {
    let export = export();
    link(&export, "/new.py", "ldags/new.py");
    let said = ask(50000, 0, Op::Create, "/new.py", Some(&export));
    assert_eq!((said.errno.as_deref(), said.path.as_str()), (Some("EROFS"), "/dags/new.py"));
    assert!(ask(50000, 0, Op::Mkdir, "/new.py", Some(&export)).allowed);
}

#[test]
fn a_symlink_goes_on_from_its_own_directory_and_up() {
    let export = export();
    link(&export, "/dags/v1/up", "../../dags/./v1//a.py");
    let said = ask(50000, 0, Op::Read, "/ldags/v1/up", Some(&export));
    assert!(said.allowed, "{said:?}");
    assert_eq!(said.path, "/dags/v1/a.py");
}

#[test]
fn what_leaves_the_mount_is_said_and_not_judged() {
    let export = export();
    link(&export, "/etc", "/etc/passwd");
    link(&export, "/dags/above", "../../x");
    let why = why_not(&export, Op::Read, "/etc");
    assert!(why.starts_with("/etc is a symlink to /etc/passwd, which leaves the mount"), "{why}");
    let why = why_not(&export, Op::Read, "/dags/above");
    assert!(why.contains("/dags/above leads through a symlink above the mount's root"), "{why}");
    assert!(ask(50000, 0, Op::Unlink, "/etc", Some(&export)).allowed);
}

#[test]
fn forty_symlinks_are_followed_and_no_more() {
    let export = export();
    link(&export, "/loop", "loop");
    assert!(why_not(&export, Op::Read, "/loop").contains(&Errno::ELOOP.to_string()));
    link(&export, "/0", "dags");
    for number in 1..=40 {
        link(&export, &format!("/{number}"), &format!("{}", number - 1));
    }
    assert!(ask(50000, 0, Op::Read, "/39", Some(&export)).allowed);
    assert!(why_not(&export, Op::Read, "/40").contains(&Errno::ELOOP.to_string()));
}

#[test]
fn a_file_is_not_walked_through() {
    assert!(why_not(&export(), Op::Read, "/secret.py/x").contains(&Errno::ENOTDIR.to_string()));
}
