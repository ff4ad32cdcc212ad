//! The modes that are told beforehand are those that the operation leaves.

use super::export::make;
use super::*;
use crate::policy::FileKind;

#[test]
fn a_symlink_has_no_umask() {
    for export in [None, Some(&ModelBacking::default())] {
        let said = ask(50000, 0, Op::Symlink, "/link", export);
        assert_eq!(said.stored.unwrap().mode, "0777");
    }
}

#[test]
fn a_chmod_by_who_is_outside_the_group_loses_setgid() {
    let rules = RULES.replace("gid = [", "gid = [ { pod = 500, nfs = 2500 },");
    let export = ModelBacking::default();
    make(&export, "/dir", FileKind::Directory, 2001, 0o755);
    for (gid, mode) in [(0, "2674"), (500, "0674")] {
        let said = answer(&rules, &question(50000, gid, Op::Chmod, "/dir"), Some(&export)).unwrap();
        assert!(said.allowed, "{said:?}");
        assert_eq!(said.stored.unwrap().mode, mode, "group {gid}");
    }
}
