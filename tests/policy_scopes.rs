//! Path rules: walking the tree name by name finds what the longest matching prefix says.

use permfs::policy::rules::RuleOrigins;
use permfs::policy::scope::{MAX_SCOPES, ScopeFault};
use permfs::policy::{Held, MatchPath, Origin, PathRule, Permissions, Rules, ScopeId, Scopes};
use proptest::prelude::*;

fn base() -> Held {
    Held { rules: Rules::default(), origins: RuleOrigins::default(), path: None }
}

fn rule(path: &str, line: u32) -> PathRule {
    PathRule::new(MatchPath::parse(path).expect("a valid path"), Origin::File { path: "test".into(), line })
}

fn tree(rules: &[PathRule]) -> Scopes {
    Scopes::new(base(), rules).expect("the rules hold")
}

/// Few names, so that prefixes often meet.
fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[ab]{1,2}", 0..5)
}

/// What holds at `path`: all matching prefixes, the shorter first, each over what was before.
fn naive(rules: &[PathRule], path: &[String]) -> (Rules, Option<Origin>) {
    let path: Vec<Box<[u8]>> = path.iter().map(|name| name.as_bytes().into()).collect();
    let mut matching: Vec<_> = rules.iter().filter(|rule| path.starts_with(rule.path.names())).collect();
    matching.sort_by_key(|rule| rule.path.names().len());
    let mut held = Rules::default();
    for rule in &matching {
        held.read_only = rule.read_only.as_ref().map_or(held.read_only, |(value, _)| *value);
        held.group_write = rule.group_write.as_ref().map_or(held.group_write, |(value, _)| *value);
        held.umask = rule.umask.as_ref().map_or(held.umask, |(value, _)| *value);
    }
    (held, matching.last().map(|rule| rule.origin.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_finds_what_the_longest_prefix_says(
        written in proptest::collection::btree_map(
            names(), (any::<Option<bool>>(), any::<Option<bool>>(), proptest::option::of(0..0o1000_u32)), 0..8),
        paths in proptest::collection::vec(names(), 20),
    ) {
        let rules: Vec<_> = written.iter().zip(1..).map(|((names, (read_only, group_write, umask)), line)| {
            let mut rule = rule(&format!("/{}", names.join("/")), line);
            let origin = rule.origin.clone();
            rule.read_only = read_only.map(|value| (value, origin.clone()));
            rule.group_write = group_write.map(|value| (value, origin.clone()));
            rule.umask = umask.map(|bits| (Some(Permissions::from_mode(bits)), origin.clone()));
            rule
        }).collect();
        let scopes = tree(&rules);
        for path in paths.iter().chain(written.keys()) {
            let walked = path.iter().fold(ScopeId::ROOT, |scope, name| scopes.child(scope, name.as_bytes()));
            let held = scopes.held(walked);
            prop_assert_eq!((held.rules.clone(), held.path.clone()), naive(&rules, path), "at {:?}", path);
            prop_assert_eq!(scopes.at_path(format!("//{}/", path.join("//")).as_bytes()), walked);
        }
    }

    #[test]
    fn no_text_panics_as_a_match_and_no_name_or_number_as_a_place(
        text in any::<String>(), name in any::<Vec<u8>>(), bits: u16
    ) {
        for text in [text.clone(), format!("/{text}"), format!("/{text}/{text}")] {
            let Ok(path) = MatchPath::parse(&text) else { continue };
            let scopes = tree(&[PathRule::new(path, Origin::Default("test"))]);
            prop_assert!(scopes.rules(scopes.child(ScopeId::from_bits(bits), &name)).change_nothing());
            prop_assert_eq!(&scopes.held(scopes.at_path(text.as_bytes())).path, &Some(Origin::Default("test")));
        }
    }
}

#[test]
fn a_prefix_ends_at_a_name() {
    let mut dags = rule("/dags", 1);
    dags.read_only = Some((true, Origin::Default("test")));
    let scopes = tree(&[dags]);
    for (path, read_only) in
        [("/dags", true), ("/dags/a/b", true), ("/dagsfoo", false), ("/x/dags", false), ("/", false)]
    {
        assert_eq!(scopes.rules(scopes.at_path(path.as_bytes())).read_only, read_only, "{path}");
    }
}

#[test]
fn without_path_rules_there_is_one_scope() {
    let scopes = tree(&[]);
    assert!(scopes.is_trivial());
    assert_eq!(scopes.child(ScopeId::ROOT, b"dags"), ScopeId::ROOT);
    assert!(!tree(&[rule("/dags", 1)]).is_trivial());
}

#[test]
fn of_two_paths_to_one_file_the_read_only_one_holds() {
    let mut dags = rule("/dags", 1);
    dags.read_only = Some((true, Origin::Default("test")));
    let scopes = tree(&[dags, rule("/logs", 2)]);
    let (dags, logs) = (scopes.at_path(b"/dags"), scopes.at_path(b"/logs"));
    assert_eq!(scopes.stricter(dags, logs), dags);
    assert_eq!(scopes.stricter(logs, dags), dags);
    assert_eq!(scopes.stricter(logs, ScopeId::ROOT), logs);
}

#[test]
fn more_places_than_can_be_numbered_are_refused() {
    let rules: Vec<_> = (0..).take(MAX_SCOPES).map(|line| rule(&format!("/{line}"), line)).collect();
    assert!(Scopes::new(base(), &rules[..MAX_SCOPES - 2]).is_ok());
    assert!(matches!(Scopes::new(base(), &rules[..MAX_SCOPES - 1]), Err(ScopeFault::TooMany { .. })));
}

#[test]
fn two_rules_for_one_path_are_refused_however_they_are_written() {
    let rules = [rule("/dags/", 1), rule("/logs", 2), rule("/dags", 3)];
    assert_eq!(Scopes::new(base(), &rules).unwrap_err(), ScopeFault::TwoRules { first: 0, second: 2 });
}
