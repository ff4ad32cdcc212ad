//! A chown: the kernel asks who may give what away, before the rules are asked what becomes of it.

use super::export::make;
use super::*;
use crate::policy::FileKind;

/// What a chown of a file of 50000:0 comes to, under this `chown`, with root admitted as the same user.
fn outcome(chown: &str, caller: u32, groups: &[u32], owner: (u32, u32)) -> Option<String> {
    let rules = RULES.replace("setgid = true", &format!("chown = \"{chown}\""));
    let rules = format!("{rules}[profile.airflow.unmapped]\nroot = 2001\n");
    let export = ModelBacking::default();
    make(&export, "/own", FileKind::Regular, 2001, 0o664);
    let question = Question {
        groups: groups.iter().map(|&gid| PodGid::new(gid).unwrap()).collect(),
        owner: (PodUid::new(owner.0), PodGid::new(owner.1)),
        ..question(caller, 0, Op::Chown, "/own")
    };
    let said = answer(&rules, &question, Some(&export)).unwrap();
    if said.errno.is_some() && caller != 0 {
        // It is known without an export, too.
        assert_eq!(answer(&rules, &question, None).unwrap().errno.as_deref(), Some("EPERM"));
    }
    said.errno
}

#[test]
fn nobody_but_root_gives_a_file_away_whatever_the_rules_say() {
    for chown in ["absorb", "deny", "pass", "ignore"] {
        let said = outcome(chown, 50000, &[], (50001, 0));
        assert_eq!(said.as_deref(), Some("EPERM"), "{chown}");
    }
    assert_eq!(outcome("ignore", 0, &[], (50001, 0)), None);
    assert_eq!(outcome("absorb", 0, &[], (50001, 0)).as_deref(), Some("EOVERFLOW"));
}

#[test]
fn an_owner_gives_a_file_only_to_a_group_of_its_own() {
    assert_eq!(outcome("ignore", 50000, &[], (50000, 0)), None);
    assert_eq!(outcome("ignore", 50000, &[100], (50000, 100)), None);
    assert_eq!(outcome("ignore", 50000, &[], (50000, 100)).as_deref(), Some("EPERM"));
}
