//! Rules files on disk: the examples load, what cannot be read is refused, what is odd is warned of, and no bytes
//! whatever make the reader panic.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use permfs::config::{MAX_FAULTS, MAX_FILE_SIZE, Overrides, RulesFile, TABLES};
use permfs::policy::{Caller, Operation, PodGid, PodUid, Rules};
use proptest::prelude::*;

const EXAMPLES: [&str; 4] = ["permfs", "airflow", "shared-group", "transparent"];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(format!("{name}.toml"))
}

#[test]
fn the_examples_hold_without_a_warning() {
    for name in EXAMPLES {
        let file = RulesFile::load(&example(name)).unwrap_or_else(|error| panic!("{error}"));
        let warnings = file.check_all().unwrap_or_else(|errors| panic!("{}", errors[0]));
        assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
        let policy = file.policy(None, &Overrides::default()).unwrap();
        assert_eq!(policy.is_transparent(), name == "transparent");
    }
    assert_eq!(std::fs::read_dir(example("permfs").parent().unwrap()).unwrap().count(), EXAMPLES.len());
}

#[test]
fn the_examples_do_what_they_are_for() {
    let admit = |name: &str, uid, gid| {
        let policy = RulesFile::load(&example(name)).unwrap().policy(None, &Overrides::default()).unwrap();
        let caller = Caller { uid: PodUid::new(uid).unwrap(), gid: PodGid::new(gid).unwrap(), groups: &[] };
        let who = policy.admit(&caller).ok()?;
        let who = policy.credentials(Operation::Look, &who, None, None, &Rules::default()).into_owned();
        Some((who.uid.get(), who.gid.get(), who.groups.iter().map(|gid| gid.get()).collect::<Vec<_>>()))
    };
    assert_eq!(admit("airflow", 50000, 0), Some((2001, 2001, vec![])));
    for (uid, gid) in [(50001, 0), (2001, 0), (0, 0), (50000, 1)] {
        assert_eq!(admit("airflow", uid, gid), None);
    }
    assert_eq!(admit("shared-group", 1000, 1000), Some((2001, 2001, vec![3001])));
    assert_eq!(admit("transparent", 0, 0), Some((0, 0, vec![])));
}

/// The keys of each table of a file, tables named as in [`TABLES`].
fn keys_of(name: &str, value: &toml::Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
    match value {
        toml::Value::Table(table) => {
            for (key, below) in table {
                found.entry(name.to_owned()).or_default().insert(key.clone());
                let name = match name {
                    "" => key.clone(),
                    "profile" => "profile.NAME".to_owned(),
                    _ => format!("{name}.{key}"),
                };
                keys_of(&name, below, found);
            }
        }
        toml::Value::Array(list) => {
            for below in list {
                keys_of(&format!("{name}[]"), below, found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_commented_example_shows_exactly_the_keys_that_are_known() {
    let text = std::fs::read_to_string(example("permfs")).unwrap();
    let mut found = BTreeMap::new();
    keys_of("", &toml::Value::Table(text.parse().unwrap()), &mut found);
    for (table, known) in TABLES {
        let known: BTreeSet<_> = known.iter().map(|&key| key.to_owned()).collect();
        if *table == "profile.NAME.act_as" {
            // One of several forms of the key: the example shows it in a comment.
            let form = text.lines().find(|line| line.starts_with("#") && line.contains("{ uid =")).unwrap();
            assert!(known.iter().all(|key| form.contains(&format!("{key} ="))), "{form}");
            continue;
        }
        // gid rules have the keys of uid rules, which the example shows.
        let shown = if *table == "profile.NAME.gid[]" { "profile.NAME.uid[]" } else { table };
        assert_eq!(found.get(shown), Some(&known), "[{table}]");
    }
}

#[test]
fn every_key_with_a_default_says_which() {
    let text = std::fs::read_to_string(example("permfs")).unwrap();
    let defaults =
        text.to_lowercase().matches("default:").count() + text.to_lowercase().matches("default for").count();
    assert!(defaults >= 25, "{defaults} defaults are told");
}

#[test]
fn what_the_comments_call_the_default_is_what_an_empty_profile_has() {
    let written = "version = 1\n[profile.p]\nuid = []\ngid = []\nallow_root = false\nact_as = \"caller\"\n\
                   groups = \"process\"\n[profile.p.unmapped]\npod = \"deny\"\nnfs = \"nobody\"\nroot = \"deny\"\n\
                   [profile.p.permissions]\ngroup_write = false\nsetgid = false\numask = \"caller\"\n\
                   apply_to = \"new\"\nchown = \"absorb\"\nread_only = false\n[profile.p.cache]\n\
                   attr_timeout = \"1s\"\nentry_timeout = \"1s\"\nnegative_timeout = \"0s\"\ndata = \"auto\"\n\
                   open = \"revalidate\"\n[profile.p.locks]\nscope = \"server\"\n";
    let policy =
        |text: &str| RulesFile::parse(text, "t").unwrap().policy(None, &Overrides::default()).unwrap();
    let (written, empty) = (policy(written), policy("version = 1\n[profile.p]\n"));
    assert_eq!(written.cache(), empty.cache());
    assert_eq!(written.lock_scope(), empty.lock_scope());
    assert_eq!(written.act_as().value, empty.act_as().value);
    assert_eq!(written.groups().value, empty.groups().value);
    assert_eq!(written.scopes().all_held()[0].rules, empty.scopes().all_held()[0].rules);
    for id in [0, 1, 50000] {
        let caller = Caller { uid: PodUid::new(id).unwrap(), gid: PodGid::new(id).unwrap(), groups: &[] };
        assert_eq!(written.admit(&caller), empty.admit(&caller));
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let huge = usize::try_from(MAX_FILE_SIZE).unwrap() + 1;
    for (path, words) in [
        (dir.path().join("missing"), "No such file"),
        (dir.path().to_owned(), "is not a file"),
        (PathBuf::from("/dev/null"), "is not a file"),
        (file("huge", &vec![b'#'; huge]), "larger than 1048576 bytes"),
        (file("latin1", b"version = 1\n# caf\xe9\n"), ":2:6: not UTF-8"),
        (file("empty", b""), "version is missing"),
    ] {
        let error = RulesFile::load(&path).unwrap_err();
        let sentence = error.to_string();
        assert!(sentence.contains(words) && sentence.contains(path.to_str().unwrap()), "{sentence}");
        assert!(!error.render(true).is_empty());
    }
    let largest = file("largest", format!("version = 1\n[profile.p]\n{}", "#".repeat(huge - 26)).as_bytes());
    assert!(RulesFile::load(&largest).is_ok());
}

#[test]
fn rules_that_hold_but_hardly_say_what_was_meant_are_warned_of() {
    let airflow = "uid = [{ pod = 5, nfs = 1 }]\ngid = [{ pod = 0, nfs = 1 }]\n";
    let table: &[(&str, &[&str])] = &[
        ("", &["no uid rule", "every caller is denied"]),
        ("uid = [{ pod = 5, nfs = 1 }]", &["no gid rule", "every caller is denied"]),
        ("+groups = [7]", &["groups names 7"]),
        ("+allow_root = true", &["allow_root changes nothing"]),
        ("+namespaces = []", &["namespaces is empty"]),
        ("+[profile.p.unmapped]\nnfs = 5", &["look like its own"]),
        (
            "act_as = \"owner\"\ngid = [{ pod = 0, nfs = 1 }]\nuid = [{ pod = 5, nfs = 1 },\n{ pod = 5, nfs = 2, direction = \"nfs-to-pod\" }]",
            &["acts as the owner that it shows"],
        ),
        ("+[profile.p.permissions]\ngroup_write = true\numask = \"0027\"", &["overrides the group's part"]),
        ("+[[profile.p.path]]\nmatch = \"/a\"\nread_only = false", &["changes nothing"]),
        ("+[[profile.p.path]]\nmatch = \"/a\"", &["changes nothing"]),
        ("+[[profile.p.path]]\nmatch = \"/*\"\nread_only = true", &["wildcard"]),
        ("+[[profile.p.path]]\nmatch = \"/\"\nread_only = true", &["holds everywhere"]),
    ];
    for (lines, words) in table {
        let lines = lines.strip_prefix('+').map_or((*lines).to_owned(), |rest| format!("{airflow}{rest}"));
        let text = format!("version = 1\n[profile.p]\n{lines}\n");
        let warnings = RulesFile::parse(&text, "rules.toml").unwrap().check_all().unwrap();
        assert_eq!(warnings.len(), 1, "{text}");
        let sentence = warnings[0].to_string();
        assert!(
            sentence.starts_with("rules.toml:") && words.iter().all(|word| sentence.contains(word)),
            "{sentence}"
        );
        assert!(warnings[0].render(false).starts_with("warning:"));
    }
}

#[test]
fn the_csi_part_is_kept() {
    let file = RulesFile::load(&example("permfs")).unwrap();
    assert_eq!(file.csi().host_paths, [PathBuf::from("/srv/exports")]);
    assert!(!file.csi().inline_volumes && !file.csi().inline_rules);
    assert_eq!(file.namespaces("airflow").unwrap(), Some(&["airflow".to_owned()][..]));
    let airflow = RulesFile::load(&example("airflow")).unwrap();
    assert_eq!(airflow.namespaces("airflow").unwrap(), None);
}

#[test]
fn the_largest_files_are_read_without_delay_and_tell_a_bounded_number_of_faults() {
    let largest = usize::try_from(MAX_FILE_SIZE).unwrap();
    let started = std::time::Instant::now();
    for (start, line) in [
        ("version = 1\n[profile.p]\nuid = [\n", "{pod=NNNNNN,nfs=NNNNNN},\n"),
        ("version = 1\n[profile.p]\nuid = [", "{pod=7,nfs=NNNNNN},"),
        ("version = 1\n[profile.p]\nuid = [", "{pod=-1,nfs=NNNNNN},"),
        ("version = 1\n", "[[profile.p.path]]\nmatch = \"/NNNNNN/a/NNNNNN\"\n"),
        ("version = 1\n", "[profile.pNNNNNN]\n"),
    ] {
        let count = (largest - start.len() - 2) / line.len();
        let body = (0..count).map(|number| line.replace("NNNNNN", &(100_000 + number).to_string()));
        let end = if line.ends_with(",\n") || line.ends_with(',') { "]\n" } else { "" };
        let text = format!("{start}{}{end}", body.collect::<String>());
        let result = RulesFile::parse_all(&text, "large.toml").and_then(|file| file.check_all());
        assert!(result.as_ref().map_or_else(Vec::len, Vec::len) <= MAX_FAULTS);
    }
    // Far more than it takes: what it guards against is quadratic, and takes minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
    println!("{:?}", started.elapsed());
}

/// Reads, checks and renders, whatever comes of it.
fn exercise(text: &str) {
    let show = |errors: Vec<permfs::config::ConfigError>| {
        for error in errors {
            assert!(!error.to_string().chars().any(char::is_control), "{error}");
            let _ = error.render(true);
        }
    };
    match RulesFile::parse_all(text, "fuzz.toml") {
        Ok(file) => file.check_all().map_or_else(show, |warnings| {
            for warning in warnings {
                let _ = warning.render(false);
            }
        }),
        Err(errors) => show(errors),
    }
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<_> =
        EXAMPLES.iter().map(|name| std::fs::read(example(name)).expect("the file is there")).collect();
    let edit = (
        any::<prop::sample::Index>(),
        0..12_usize,
        prop_oneof![
            any::<Vec<u8>>().prop_map(|mut bytes| {
                bytes.truncate(8);
                bytes
            }),
            prop::sample::select(vec![
                "4294967295",
                "0",
                "-",
                "\"",
                "[",
                "]",
                "{",
                "}",
                "\n",
                "=",
                "..",
                "/",
                "keep",
                "\u{1b}[31m",
                "é",
                "\r",
                "shown_as",
                "0o7",
                "1e9",
                "\"\"\"",
                "[[profile.x.path]]\n",
                "[profile.\"\\u0000\"]\n",
                ".",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
        ],
    );
    (prop::sample::select(texts), proptest::collection::vec(edit, 1..6)).prop_map(|(mut text, edits)| {
        for (at, cut, insert) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, insert);
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>(), text in "[ -~\n=\\[\\]{}\"'.#]{0,200}") {
        exercise(&String::from_utf8_lossy(&bytes));
        exercise(&text);
        exercise(&format!("version = 1\n[profile.p]\n{text}"));
    }

    #[test]
    fn no_change_of_a_valid_file_makes_the_reader_panic(bytes in mutated()) {
        exercise(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_value_of_a_known_key_makes_the_reader_panic(
        table in 0..TABLES.len(), key in any::<prop::sample::Index>(), value in value()
    ) {
        let (table, keys) = TABLES[table];
        let key = keys[key.index(keys.len())];
        let header = match table.strip_suffix("[]").unwrap_or(table) {
            "" => String::new(),
            name if table.ends_with("[]") => format!("[[{name}]]\n"),
            name => format!("[{name}]\n"),
        };
        exercise(&format!("version = 1\n{header}{key} = {value}\n"));
    }
}

/// A TOML value of any kind, often nearly right.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        any::<String>().prop_map(|text| format!("{:?}", toml::Value::String(text).to_string())),
        "\"[a-z0-9/.-]{0,12}\"",
        "[0-9_]{1,40}",
        "0[xob][0-9a-f]{1,40}",
        "\\[ ?(\\{ pod = [0-9]{1,11}, nfs = \"[0-9]{1,11}-[0-9]{1,11}\" \\},?){0,3} ?\\]",
        Just("1979-05-27".to_owned()),
        Just("{ uid = 1, gid = [] }".to_owned()),
    ]
}
