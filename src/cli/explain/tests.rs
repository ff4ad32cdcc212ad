//! Explanations against the model export: the decision, who was asked, what is shown and stored.

use clap::ValueEnum;

use super::decide::decide;
use super::explanation::Explanation;
use super::*;
use crate::backing::model::ModelBacking;
use crate::config::{Overrides, RulesFile};

const RULES: &str = "version = 1
[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]
[profile.airflow.permissions]
group_write = true
setgid = true
[[profile.airflow.path]]
match = \"/dags\"
read_only = true
";

fn ask(uid: u32, gid: u32, op: Op, path: &str, export: Option<&ModelBacking>) -> Explanation {
    answer(RULES, &question(uid, gid, op, path), export).unwrap()
}

fn question(uid: u32, gid: u32, op: Op, path: &str) -> Question {
    let (uid, gid) = (PodUid::new(uid).unwrap(), PodGid::new(gid).unwrap());
    Question {
        uid,
        gid,
        groups: Vec::new(),
        op,
        path: path.to_owned(),
        mode: op.usual_mode(),
        umask: Permissions::from_mode(0o022),
        owner: (Some(uid), Some(gid)),
    }
}

fn answer(
    rules: &str,
    question: &Question,
    export: Option<&ModelBacking>,
) -> Result<Explanation, Unanswerable> {
    let policy = RulesFile::parse(rules, "rules.toml").unwrap().policy(None, &Overrides::default()).unwrap();
    decide(&policy, question, export)
}

#[test]
fn a_mkdir_says_who_makes_it_and_what_it_becomes() {
    for export in [None, Some(&ModelBacking::default())] {
        let said = ask(50000, 0, Op::Mkdir, "/logs", export);
        assert!(said.allowed, "{said:?}");
        let who = said.credentials.unwrap();
        assert_eq!((who.uid, who.gid), (2001, 2001));
        let (stored, shown) = (said.stored.unwrap(), said.shown.unwrap());
        assert_eq!((stored.uid, stored.gid, stored.mode.as_str()), (2001, 2001, "2775"));
        assert_eq!((shown.uid, shown.gid, shown.mode.as_str()), (50000, 0, "2775"));
        assert_eq!((said.uid_rule.as_str(), said.gid_rule.as_str()), ("rules.toml:3", "rules.toml:4"));
    }
}

#[test]
fn a_caller_without_a_rule_is_denied_by_the_default() {
    let said = ask(50001, 0, Op::Read, "/", Some(&ModelBacking::default()));
    assert!(!said.allowed);
    assert_eq!(said.errno.as_deref(), Some("EACCES"));
    assert!(said.rule.contains("unmapped.pod"), "{}", said.rule);
    assert_eq!(said.credentials, None);
}

#[test]
fn a_read_only_path_names_the_rule_that_makes_it_so() {
    let said = ask(50000, 0, Op::Create, "/dags/new.py", None);
    assert_eq!(said.errno.as_deref(), Some("EROFS"));
    assert_eq!(said.rule, said.path_rule.unwrap());
    assert!(ask(50000, 0, Op::Read, "/dags/old.py", None).allowed);
}

#[test]
fn to_remove_a_name_its_directory_must_be_open_to_changes() {
    let said = ask(50000, 0, Op::Unlink, "/dags/old.py", None);
    assert_eq!(said.errno.as_deref(), Some("EROFS"));
    assert_eq!(said.steps.last().unwrap().asked, "/dags may change");
    assert!(ask(50000, 0, Op::Unlink, "/logs/old.log", None).allowed);
}

#[test]
fn the_kernels_check_of_what_is_shown_counts() {
    let private = ModelBacking::owned_by(
        crate::policy::NfsUid::new(3000).unwrap(),
        crate::policy::NfsGid::new(3000).unwrap(),
        Permissions::from_mode(0o755),
    );
    let said = ask(50000, 0, Op::Create, "/x", Some(&private));
    assert!(!said.allowed);
    let last = said.steps.last().unwrap();
    assert_eq!((last.by, last.allowed), ("kernel", false));
}

#[test]
fn a_chown_to_oneself_succeeds() {
    let said = ask(50000, 0, Op::Chown, "/", Some(&ModelBacking::default()));
    assert!(said.allowed, "{said:?}");
    assert!(said.notes.iter().any(|note| note.contains("already shown")));
}

#[test]
fn a_path_with_dots_is_refused_with_an_export_and_without() {
    for export in [None, Some(&ModelBacking::default())] {
        let why = answer(RULES, &question(50000, 0, Op::Create, "/x/../dags/x"), export).unwrap_err();
        assert!(why.to_string().contains("`..` is not followed"), "{why}");
    }
}

#[test]
fn every_operation_can_be_explained_without_an_export() {
    for &op in Op::value_variants() {
        assert!(ask(50000, 0, op, "/logs/x", None).allowed, "{op:?}");
    }
}

mod chown;
mod export;
mod modes;
mod sticky;
mod symlinks;
