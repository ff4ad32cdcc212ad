//! What the command line says where nothing is mounted: check, explain, completions, man, version, status.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

const BINARY: &str = env!("CARGO_BIN_EXE_permfs");
const RULES: &str = "\
version = 1

[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]

[profile.airflow.permissions]
group_write = true
setgid = true
";

fn permfs(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(BINARY).args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn rules(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn right_rules_pass_the_check() {
    let (_dir, path) = rules(RULES);
    let (code, out, err) = permfs(&["check", "--config", &path]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("airflow"), "{out}");
}

#[test]
fn wrong_rules_end_with_2_and_the_quoted_line() {
    let (_dir, path) = rules(&RULES.replace("uid = [", "uidd = ["));
    let (code, _, err) = permfs(&["check", "--config", &path]);
    assert_eq!(code, 2);
    assert!(err.contains("rules.toml:4") && err.contains("uidd = [") && err.contains("uid"), "{err}");
    assert!(!err.contains('\x1b'), "no colour where it is no terminal");
}

#[test]
fn an_explanation_ends_with_0_or_3() {
    let (_dir, path) = rules(RULES);
    let ask =
        |uid| permfs(&["explain", "--config", &path, "--uid", uid, "--gid", "0", "--op", "mkdir", "/logs"]);
    let (code, out, _) = ask("50000");
    assert_eq!(code, 0);
    assert!(out.starts_with("allowed: mkdir /logs by 50000:0") && out.contains("2001:2001 2775"), "{out}");
    assert!(out.contains("rules.toml:4"), "{out}");
    let (code, out, _) = ask("50001");
    assert_eq!(code, 3);
    assert!(out.starts_with("denied, EACCES: mkdir /logs by 50001:0"), "{out}");
    assert!(out.contains("no rule maps pod uid 50001"), "{out}");
}

#[test]
fn an_explanation_for_machines_has_these_fields() {
    let (_dir, path) = rules(RULES);
    let words =
        ["explain", "--config", &path, "--uid", "50000", "--gid", "0", "--op", "create", "/x", "--json"];
    let (code, out, _) = permfs(&words);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &said["allowed"]), (0, &true.into()));
    for field in [
        "errno",
        "reason",
        "rule",
        "uid_rule",
        "gid_rule",
        "path_rule",
        "credentials",
        "stored",
        "shown",
        "steps",
    ] {
        assert!(said.get(field).is_some(), "{field} is missing in {out}");
    }
    assert_eq!(said["stored"]["mode"], "0664");
}

#[test]
fn an_export_is_asked_where_one_is_named() {
    let (dir, path) = rules(RULES);
    let export = dir.path().join("export");
    fs::create_dir(&export).unwrap();
    std::os::unix::fs::chown(&export, Some(3000), Some(3000)).unwrap();
    fs::set_permissions(&export, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let export = export.to_str().unwrap();
    let ask = |op| {
        permfs(&[
            "explain", "-c", &path, "--uid", "50000", "--gid", "0", "--op", op, "/x", "--source", export,
        ])
    };
    let (code, out, _) = ask("create");
    assert_eq!(code, 3, "{out}");
    let (code, _, err) = ask("read");
    assert_eq!(code, 1);
    assert!(err.contains("/x cannot be looked at"), "{err}");
}

#[test]
fn a_probe_of_an_export_suggests_rules_that_pass_the_check_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("export");
    fs::create_dir(&export).unwrap();
    fs::write(export.join("file"), "").unwrap();
    for path in [export.join("file"), export.clone()] {
        std::os::unix::fs::chown(path, Some(3001), Some(3002)).unwrap();
    }
    let (code, out, err) = permfs(&["check", "--source", export.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("3001:3002") && out.contains("is not squashed"), "{out}");
    assert_eq!(fs::read_dir(&export).unwrap().count(), 1);
    let (_dir, suggested) = rules(&out[out.find("# A rules file").unwrap()..]);
    assert_eq!(permfs(&["check", "--config", &suggested]).0, 0);
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = permfs(&["completions", shell]);
        assert!(code == 0 && out.contains("unmount"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(permfs(&["man", dir.path().to_str().unwrap()]).0, 0);
    for page in ["permfs.1", "permfs-mount.1", "permfs-explain.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
    assert_eq!(permfs(&["man", "/nowhere"]).0, 1);
}

#[test]
fn the_version_is_told_and_what_nobody_types_is_hidden() {
    assert!(permfs(&["--version"]).1.starts_with("permfs 0."));
    let (_, help, _) = permfs(&["--help"]);
    assert!(
        help.contains("\n  reload") && help.contains("\n  upgrade") && !help.contains("resume"),
        "{help}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let script = format!("{BINARY} completions bash | true");
    let ended = Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn the_rules_suggested_for_an_export_of_roots_group_name_its_user() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(3005), Some(0)).unwrap();
    let (code, out, _) = permfs(&["check", "--source", dir.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("uid = [ { pod = 50000, nfs = 3005 } ]"), "{out}");
    assert!(out.contains("gid = [ { pod = 0, nfs = 3005 } ]"), "{out}");
    assert!(out.contains("no rule should name") && !out.contains("but root owns"), "{out}");
}

#[test]
fn a_fs_group_that_a_rule_names_is_refused_with_the_flag_and_the_rule() {
    let (_dir, path) = rules(RULES);
    let (code, _, err) =
        permfs(&["mount", "/nowhere", "/nowhere", "--config", &path, "--fs-group", "0:2005"]);
    assert_eq!(code, 2);
    assert!(err.contains("two rules for pod gid 0") && err.contains("--fs-group 0:2005"), "{err}");
    assert!(err.contains("rules.toml:5"), "{err}");
}
