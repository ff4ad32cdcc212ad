//! Every wrong rules file of the contract, with the line it is refused at and the words that help.

use permfs::config::{ConfigError, Overrides, RulesFile, policy_from_flags};

/// A profile with these lines in it; its first is line 3.
fn profile(lines: &str) -> String {
    format!("version = 1\n[profile.p]\n{lines}\n")
}

fn errors(text: &str) -> Vec<ConfigError> {
    match RulesFile::parse_all(text, "rules.toml") {
        Ok(file) => file.check_all().expect_err("the file is wrong"),
        Err(errors) => errors,
    }
}

/// (text, line, words that the sentence has)
type Wrong<'a> = (String, usize, &'a [&'a str]);

fn assert_refused(table: &[Wrong<'_>]) {
    for (text, line, words) in table {
        let errors = errors(text);
        let error = &errors[0];
        let sentence = error.to_string();
        assert_eq!(error.line(), Some(*line), "{sentence}\n{text}");
        assert!(sentence.starts_with(&format!("rules.toml:{line}:")), "{sentence}");
        assert!(!sentence.contains('\n'), "one sentence: {sentence}");
        for word in *words {
            assert!(sentence.contains(word), "{sentence:?} lacks {word:?}\n{text}");
        }
        let picture = error.render(false);
        assert!(picture.contains("rules.toml") && picture.contains("help:"), "{picture}");
        assert!(error.render(true).contains('\u{1b}') && !picture.contains('\u{1b}'));
    }
}

#[test]
fn what_is_no_rules_file_is_refused() {
    let rest = "[profile.p]\nuid = []\n";
    assert_refused(&[
        (rest.to_owned(), 1, &["version is missing", "version = 1"]),
        (format!("version = 2\n{rest}"), 1, &["the integer 2", "version = 1"]),
        (format!("version = \"1\"\n{rest}"), 1, &["the string \"1\""]),
        (format!("verison = 1\n{rest}"), 1, &["did you mean \"version\"?"]),
        ("version = 1\n".to_owned(), 1, &["no profile", "[profile.NAME]"]),
        ("version = 1\nprofile = 3\n".to_owned(), 2, &["profile is the integer 3"]),
        ("version = 1\n[profile]\n".to_owned(), 2, &["no profile"]),
        ("version = 1\n[profile.\"a b\"]\n".to_owned(), 2, &["\"a b\" is no name"]),
        ("version = 1\n[profile.p\n".to_owned(), 2, &["not TOML"]),
        (profile("uid = []\nuid = []"), 4, &["not TOML", "duplicate"]),
        (format!("version = 1\n{rest}[csi]\nhost_paths = [\"../x\"]\n"), 5, &["absolute"]),
        (
            format!("version = 1\n{rest}[csi]\ninline = true\n"),
            5,
            &["unknown key \"inline\"", "did you mean \"inline_"],
        ),
    ]);
}

#[test]
fn unknown_keys_are_refused_with_the_one_that_was_meant() {
    assert_refused(&[
        (profile("uids = []"), 3, &["unknown key \"uids\"", "did you mean \"uid\"?"]),
        (profile("actas = \"owner\""), 3, &["did you mean \"act_as\"?"]),
        (profile("zzz = 1"), 3, &["unknown key \"zzz\"", "uid, gid"]),
        (profile("uid = [{ pods = 1, nfs = 2 }]"), 3, &["did you mean \"pod\"?"]),
        (profile("[profile.p.permissions]\ngroup-write = true"), 4, &["did you mean \"group_write\"?"]),
        (profile("[profile.p.unmapped]\npods = \"deny\""), 4, &["did you mean \"pod\"?"]),
        (profile("[profile.p.cache]\nattr_timeuot = \"1s\""), 4, &["did you mean \"attr_timeout\"?"]),
        (profile("[profile.p.locks]\nscop = \"node\""), 4, &["did you mean \"scope\"?"]),
        (profile("[[profile.p.path]]\nmatch = \"/d\"\nreadonly = true"), 5, &["did you mean \"read_only\"?"]),
        (profile("[[profile.p.path]]\nmatch = \"/d\"\nuid = []"), 5, &["uid cannot differ by path"]),
        (
            profile("[[profile.p.path]]\nmatch = \"/d\"\nact_as = \"owner\""),
            5,
            &["act_as cannot differ by path"],
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_one_of_the_right() {
    let permissions = |line: &str| profile(&format!("[profile.p.permissions]\n{line}"));
    let cache = |line: &str| profile(&format!("[profile.p.cache]\n{line}"));
    let path = |line: &str| profile(&format!("[[profile.p.path]]\n{line}"));
    assert_refused(&[
        (permissions("umask = 2"), 4, &["umask = 2 is an integer", "did you mean \"0002\"?"]),
        (permissions("umask = 664"), 4, &["did you mean \"0664\"?"]),
        (permissions("umask = 0o22"), 4, &["octal string"]),
        (permissions("umask = \"088\""), 4, &["not an octal umask"]),
        (permissions("umask = \"7777\""), 4, &["not an octal umask"]),
        (permissions("group_write = \"yes\""), 4, &["group_write", "true or false"]),
        (permissions("setgid = 1"), 4, &["setgid = the integer 1", "true or false"]),
        (permissions("chown = \"absorbe\""), 4, &["did you mean \"absorb\"?"]),
        (permissions("apply_to = \"everything\""), 4, &["\"new\" or \"all\""]),
        (profile("act_as = \"onwer\""), 3, &["did you mean \"owner\"?"]),
        (profile("act_as = { uid = 1 }"), 3, &["act_as without gid"]),
        (profile("groups = \"proces\""), 3, &["did you mean \"process\"?"]),
        (profile("groups = [4294967295]"), 3, &["4294967295"]),
        (profile("[profile.p.unmapped]\npod = \"denny\""), 4, &["did you mean \"deny\"?"]),
        (profile("[profile.p.unmapped]\nnfs = \"deny\""), 4, &["\"nobody\" or \"keep\""]),
        (profile("[profile.p.unmapped]\nroot = 4294967295"), 4, &["4294967295 is no id"]),
        (cache("attr_timeout = 1"), 4, &["has no unit", "did you mean \"1s\"?"]),
        (cache("attr_timeout = \"1\""), 4, &["did you mean \"1s\"?"]),
        (cache("attr_timeout = \"-1s\""), 4, &["not a time"]),
        (cache("attr_timeout = \"1 week\""), 4, &["not a time"]),
        (cache("entry_timeout = \"25h\""), 4, &["longer than a day"]),
        (cache("entry_timeout = \"99999999999999999999s\""), 4, &["longer than a day"]),
        (cache("entry_timeout = \"18446744073709551615h\""), 4, &["longer than a day"]),
        (cache("data = \"pagecache\""), 4, &["did you mean \"page\"?"]),
        (profile("namespaces = [\"Airflow\"]"), 3, &["no namespace"]),
        (path("match = \"dags\""), 4, &["does not start with \"/\""]),
        (path("match = \"/a/../b\""), 4, &["\"..\""]),
        (path("match = \"/a//b\""), 4, &["empty name"]),
        (path("match = \"/a\\u0000\""), 4, &["NUL"]),
        (path(&format!("match = \"/{}\"", "n".repeat(256))), 4, &["longer than any path"]),
        (path("read_only = true"), 3, &["without match"]),
    ]);
}

#[test]
fn ids_and_ranges_that_cannot_be_are_refused() {
    let uid = |rule: &str| profile(&format!("uid = [\n  {{ {rule} }},\n]"));
    assert_refused(&[
        (uid("pod = 4294967295, nfs = 1"), 4, &["4294967295 is no id"]),
        (uid("pod = 1, nfs = 4294967295"), 4, &["4294967295 is no id"]),
        (uid("pod = \"1-4294967295\", nfs = \"1-4294967295\""), 4, &["4294967295 is no id"]),
        (uid("pod = 4294967296, nfs = 1"), 4, &["larger than any id"]),
        (uid("pod = \"4294967290-4294967300\", nfs = \"1-11\""), 4, &["larger than any id"]),
        (uid("pod = -1, nfs = 1"), 4, &["-1 is negative"]),
        (
            uid("pod = \"200-100\", nfs = \"1-101\""),
            4,
            &["ends before it begins", "did you mean \"100-200\"?"],
        ),
        (uid("pod = \"1-10\", nfs = \"1-9\""), 4, &["unequal width", "10 pod uids and 9 nfs uids"]),
        (uid("pod = 1, nfs = \"1-9\""), 4, &["unequal width"]),
        (uid("pod = \"a\", nfs = 1"), 4, &["\"a\" is not an id"]),
        (uid("pod = 1.5, nfs = 1"), 4, &["no id"]),
        (uid("pod = 1"), 4, &["a rule without nfs"]),
        (uid("pod = 1, nfs = 2, direction = \"nfs\""), 4, &["direction", "\"nfs-to-pod\""]),
        (profile("uid = { pod = 1, nfs = 2 }"), 3, &["uid is a table", "[ { pod = 50000, nfs = 2001 } ]"]),
    ]);
}

#[test]
fn root_is_refused_unless_the_file_says_so() {
    let root: &[(&str, usize, &[&str])] = &[
        ("uid = [{ pod = 5, nfs = 0 }]", 3, &["uid 0", "allow_root = true to the rule"]),
        ("gid = [{ pod = 5, nfs = 0 }]", 3, &["gid 0", "allow_root = true"]),
        ("uid = [{ pod = \"5-9\", nfs = \"0-4\" }]", 3, &["uid 0"]),
        ("uid = [{ pod = 5, nfs = 0, direction = \"pod-to-nfs\" }]", 3, &["uid 0"]),
        ("act_as = { uid = 0, gid = 1 }", 3, &["root", "to the profile"]),
        ("act_as = { uid = 1, gid = 0 }", 3, &["root"]),
        ("act_as = { uid = 1, gid = 1, groups = [0] }", 3, &["root"]),
        ("[profile.p.unmapped]\npod = 0", 4, &["root", "allow_root"]),
        ("[profile.p.unmapped]\nroot = 0", 4, &["root", "allow_root"]),
    ];
    for (lines, line, words) in root {
        assert_refused(&[(profile(lines), *line, words)]);
        let allowed = profile(&format!("allow_root = true\n{lines}"));
        assert!(RulesFile::parse(&allowed, "t").unwrap().check_all().is_ok(), "{allowed}");
    }
    for allowed in [
        "uid = [{ pod = 5, nfs = 0, allow_root = true }]",
        "[profile.p.unmapped]\nroot = \"keep\"",
        "uid = [{ pod = 5, nfs = 0, direction = \"nfs-to-pod\" }]",
    ] {
        assert!(RulesFile::parse(&profile(allowed), "t").unwrap().check_all().is_ok(), "{allowed}");
    }
}

#[test]
fn rules_that_contradict_each_other_are_refused_and_both_are_named() {
    let both = |kind: &str, one: &str, other: &str| {
        profile(&format!("{kind} = [\n  {{ {one} }},\n  {{ {other} }},\n]"))
    };
    let keep = |key: &str, rule: &str| {
        profile(&format!("uid = [{{ {rule} }}]\n[profile.p.unmapped]\n{key} = \"keep\""))
    };
    let owner = "act_as = \"owner\"\n";
    assert_refused(&[
        (
            both("uid", "pod = 5, nfs = 1", "pod = 5, nfs = 2"),
            5,
            &["two rules for pod uid 5", "rules.toml:4"],
        ),
        (
            both("gid", "pod = 0, nfs = 1", "pod = 0, nfs = 2"),
            5,
            &["two rules for pod gid 0", "rules.toml:4"],
        ),
        (both("uid", "pod = \"1-9\", nfs = \"1-9\"", "pod = 9, nfs = 77"), 5, &["two rules for pod uid 9"]),
        (
            both("uid", "pod = 5, nfs = 1", "pod = 6, nfs = 1"),
            5,
            &["ambiguous inverse", "nfs uid 1", "rules.toml:4"],
        ),
        (
            both("uid", "pod = \"1-9\", nfs = \"11-19\"", "pod = \"20-29\", nfs = \"10-19\""),
            5,
            &["ambiguous inverse", "nfs uid 11"],
        ),
        (
            profile("uid = [{ pod = \"5-9\", nfs = 1 }]"),
            3,
            &["ambiguous inverse", "shown_as = 5", "pod-to-nfs"],
        ),
        (profile("uid = [{ pod = \"5-9\", nfs = 1, shown_as = 10 }]"), 3, &["shown_as = 10 is not one of"]),
        (
            profile("uid = [{ pod = \"5-6\", nfs = \"1-2\", shown_as = 5 }]"),
            3,
            &["shown_as means nothing here"],
        ),
        (
            keep("nfs", "pod = 50000, nfs = 2001"),
            3,
            &["presentation collision", "2001", "50000", "rules.toml:5"],
        ),
        (
            keep("pod", "pod = 50000, nfs = 2001"),
            3,
            &["authority collision", "2001", "50000", "rules.toml:5"],
        ),
        (
            profile(&format!("{owner}uid = [{{ pod = 65534, nfs = 9 }}]")),
            4,
            &["presentation collision", "65534", "unmapped.nfs"],
        ),
        (profile("[profile.p.permissions]\napply_to = \"all\""), 4, &["act_as = \"owner\""]),
        (profile("act_as = \"caller\"\n[profile.p.permissions]\napply_to = \"all\""), 5, &["rules.toml:3"]),
        (profile("[[profile.p.path]]\nmatch = \"/a\"\napply_to = \"all\""), 5, &["act_as = \"owner\""]),
        (profile("[profile.p.cache]\nopen = \"trust\""), 4, &["read-only everywhere", "read_only = true"]),
        (
            profile(
                "[profile.p.permissions]\nread_only = true\n[profile.p.cache]\ndata = \"passthrough\"\nopen = \"trust\"",
            ),
            7,
            &["cannot pass through", "data = \"auto\""],
        ),
        (
            profile("[[profile.p.path]]\nmatch = \"/a\"\n[[profile.p.path]]\nmatch = \"/a/\""),
            6,
            &["two rules for one path", "rules.toml:4"],
        ),
    ]);
}

#[test]
fn many_to_one_and_one_way_rules_hold_where_the_inverse_is_stated() {
    for rules in [
        "{ pod = \"5-9\", nfs = 1, shown_as = 7 }",
        "{ pod = \"5-9\", nfs = 1, direction = \"pod-to-nfs\" }",
        "{ pod = 5, nfs = 1 }, { pod = 6, nfs = 1, direction = \"pod-to-nfs\" }",
        "{ pod = 5, nfs = 1, shown_as = 5 }, { pod = 6, nfs = 1, shown_as = 5 }",
        "{ pod = 5, nfs = 1, direction = \"pod-to-nfs\" }, { pod = 5, nfs = 2, direction = \"nfs-to-pod\" }",
    ] {
        let text = profile(&format!("uid = [{rules}]\ngid = [{{ pod = 0, nfs = 1 }}]"));
        let warnings = RulesFile::parse(&text, "t").unwrap().check_all();
        assert_eq!(
            warnings.map(|warnings| warnings.len()).map_err(|errors| errors[0].to_string()),
            Ok(0),
            "{rules}"
        );
    }
    let trust = "[profile.p.permissions]\nread_only = true\n[profile.p.cache]\nopen = \"trust\"";
    assert!(RulesFile::parse(&profile(trust), "t").unwrap().check_all().is_ok());
}

#[test]
fn all_that_is_wrong_is_told_in_the_order_of_the_file() {
    let text =
        profile("uid = [{ pod = -1, nfs = 1 }]\nactas = 1\n[profile.p.permissions]\numask = 2\nsetgid = 1");
    let lines: Vec<_> = errors(&text).iter().map(ConfigError::line).collect();
    assert_eq!(lines, [Some(3), Some(4), Some(6), Some(7)]);
}

#[test]
fn a_picture_quotes_both_lines_and_says_what_to_write() {
    let text = profile("uid = [\n  { pod = 5, nfs = 1 },\n  { pod = 5, nfs = 2 },\n]");
    let picture = errors(&text)[0].render(false);
    for part in
        ["4 |   { pod = 5, nfs = 1 },", "5 |   { pod = 5, nfs = 2 },", "and here", "help: remove one of them"]
    {
        assert!(picture.contains(part), "{picture}");
    }
}

#[test]
fn flags_are_read_as_pod_then_nfs_and_obey_the_same_laws() {
    let uid = |values: &[&str]| Overrides {
        map_uid: values.iter().map(|&value| value.to_owned()).collect(),
        map_gid: vec!["0:2001".to_owned()],
        fs_group: None,
    };
    let policy = policy_from_flags(&uid(&["50000:2001", "100-199:300-399"])).unwrap();
    assert_eq!(policy.uid_map().rules().len(), 2);
    for (values, words) in [
        (&["50000"][..], &["--map-uid 50000", "not POD:NFS", "50000:2001"][..]),
        (&["a:b"], &["\"a\" is not an id"]),
        (&["1:4294967295"], &["4294967295 is no id"]),
        (&["1-5:1-4"], &["unequal width"]),
        (&["1-5:7"], &["ambiguous inverse"]),
        (&["5-1:1-5"], &["did you mean \"1-5\"?"]),
        (&["5:0"], &["uid 0, root"]),
        (&["5:1", "5:2"], &["two rules for pod uid 5", "--map-uid 5:1", "--map-uid 5:2"]),
        (&["1:2:3"], &["\"2:3\" is not an id"]),
        (&[""], &["not POD:NFS"]),
    ] {
        let error = policy_from_flags(&uid(values)).unwrap_err();
        let picture = error.render(false);
        for word in words {
            assert!(error.to_string().contains(word), "{error} lacks {word:?}\n{picture}");
        }
    }
    let nothing = policy_from_flags(&Overrides::default()).unwrap_err().to_string();
    assert!(nothing.contains("--map-uid 50000:2001") && nothing.contains("--map-gid 0:2001"), "{nothing}");
}

#[test]
fn flags_are_added_to_a_profile_and_point_at_the_rule_they_contradict() {
    let text = profile("uid = [{ pod = 5, nfs = 1 }]\ngid = [{ pod = 0, nfs = 1 }]");
    let file = RulesFile::parse(&text, "rules.toml").unwrap();
    let with = |value: &str| {
        file.policy(None, &Overrides { map_uid: vec![value.to_owned()], ..Overrides::default() })
    };
    assert_eq!(with("6:2").unwrap().uid_map().rules().len(), 2);
    let error = with("5:2").unwrap_err();
    assert!(
        error.to_string().contains("--map-uid 5:2") && error.to_string().contains("rules.toml:3"),
        "{error}"
    );
    let picture = error.render(false);
    assert!(picture.contains("3 | uid = [{ pod = 5, nfs = 1 }]"), "{picture}");
}

#[test]
fn a_profile_is_named_where_there_are_several() {
    let text = "version = 1\n[profile.alpha]\n[profile.beta]\n";
    let file = RulesFile::parse(text, "rules.toml").unwrap();
    let none = Overrides::default();
    assert_eq!(file.profile_names(), ["alpha", "beta"]);
    assert!(file.policy(Some("beta"), &none).is_ok());
    let error = file.policy(None, &none).unwrap_err().to_string();
    assert!(error.contains("alpha, beta") && error.contains("--profile"), "{error}");
    let error = file.policy(Some("bata"), &none).unwrap_err().to_string();
    assert!(error.contains("no profile \"bata\"") && error.contains("did you mean \"beta\"?"), "{error}");
}
