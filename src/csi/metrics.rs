//! What the plugin tells Prometheus of its node: the text, computed from what the host and the rules say.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::Write;

use crate::host::Refusal;
use crate::host::protocol::{Service, Survey};

/// A metric of each volume: what a mount's process calls it, how it is called here, its kind, and what it says.
const OF_VOLUMES: [(&str, &str, &str, &str); 6] = [
    ("errors", "permfs_volume_errors_total", "counter", "Requests that were answered with an error."),
    ("takeovers", "permfs_volume_takeovers_total", "counter", "How often a process that died was replaced."),
    ("upgrades", "permfs_volume_upgrades_total", "counter", "How often a newer program has taken it over."),
    ("panics", "permfs_volume_panics_total", "counter", "Requests that met a bug in permfs."),
    ("inodes", "permfs_volume_inodes", "gauge", "Files and directories that the kernel remembers."),
    ("open", "permfs_volume_open_files", "gauge", "Open files."),
];

/// The node at one moment.
pub(super) fn text(rules: &Result<(), Refusal>, survey: &Result<Survey, Refusal>) -> String {
    let mut text = String::new();
    one(&mut text, "permfs_rules_valid", "Whether the rules file can be used.", usize::from(rules.is_ok()));
    one(&mut text, "permfs_host_up", "Whether the mount host of the node answers.", survey.is_ok().into());
    let Ok(Survey { published, asked }) = survey else { return text };
    one(&mut text, "permfs_volumes", "Volumes that are published on the node.", *published);
    let serving = asked.iter().map(|volume| (labels(volume), u64::from(volume.serving)));
    many(&mut text, "permfs_volume_serving", "gauge", "Whether the volume's process answers.", serving);
    for (counted, name, kind, help) in OF_VOLUMES {
        let found = asked.iter().filter_map(|volume| Some((labels(volume), *volume.counters.get(counted)?)));
        many(&mut text, name, kind, help, found);
    }
    let requests = asked.iter().flat_map(|volume| {
        let of = |(operation, count): (&String, &u64)| {
            (format!("{},operation=\"{}\"", labels(volume), escape(operation)), *count)
        };
        volume.requests.iter().map(of)
    });
    many(
        &mut text,
        "permfs_volume_requests_total",
        "counter",
        "Requests of the kernel, by operation.",
        requests,
    );
    text
}

fn one(text: &mut String, name: &str, help: &str, value: usize) {
    // Writing to a String cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
}

fn many(text: &mut String, name: &str, kind: &str, help: &str, values: impl Iterator<Item = (String, u64)>) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}

fn labels(volume: &Service) -> String {
    let target = volume.target.to_string_lossy();
    format!("volume_id=\"{}\",target=\"{}\"", escape(&volume.volume_id), escape(&target))
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Code;

    #[test]
    fn a_volume_is_told_with_all_that_its_process_has_counted() {
        let volume = Service {
            volume_id: "a\"b\\c\nd".into(),
            target: "/pods/one".into(),
            serving: true,
            counters: [("errors".into(), 2), ("inodes".into(), 3)].into(),
            requests: [("lookup".into(), 5)].into(),
        };
        let told = text(&Ok(()), &Ok(Survey { published: 2, asked: vec![volume] }));
        let labels = r#"volume_id="a\"b\\c\nd",target="/pods/one""#;
        for line in [
            "permfs_rules_valid 1".to_owned(),
            "permfs_host_up 1".to_owned(),
            "permfs_volumes 2".to_owned(),
            format!("permfs_volume_serving{{{labels}}} 1"),
            format!("permfs_volume_errors_total{{{labels}}} 2"),
            format!("permfs_volume_inodes{{{labels}}} 3"),
            format!("permfs_volume_requests_total{{{labels},operation=\"lookup\"}} 5"),
        ] {
            assert!(told.lines().any(|told| told == line), "{line} is not in\n{told}");
        }
        assert!(!told.contains("permfs_volume_panics_total{"), "what was not counted is not told");
    }

    #[test]
    fn without_a_host_it_says_so_and_tells_of_no_volume() {
        let refused = || Refusal::new(Code::Unavailable, "away");
        let told = text(&Err(refused()), &Err(refused()));
        assert!(told.contains("\npermfs_host_up 0\n") && told.contains("permfs_rules_valid 0\n"));
        assert!(!told.contains("permfs_volumes"));
    }
}
