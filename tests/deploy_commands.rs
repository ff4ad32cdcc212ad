//! Every command line of permfs in `deploy/`, held against the program's own reading of its arguments.
#![allow(missing_docs, clippy::unwrap_used)]

mod deploy_room;

use std::process::Command;

use deploy_room::*;

#[test]
fn the_program_knows_every_argument_that_its_containers_give_it() {
    let mut documents = written();
    documents.extend(rendered(&["--set=metrics.enabled=true"]));
    let mut seen = 0;
    for document in &documents {
        let containers = document.containers();
        for container in containers.iter().filter(|one| one["image"].as_str().unwrap().contains("/permfs:")) {
            let arguments: Vec<_> = texts(&container["args"])
                .into_iter()
                .map(|argument| argument.replace("$(NODE_NAME)", "node-1"))
                .collect();
            // With --help at the end everything before it is read and nothing is done.
            let output = run(Command::new(BINARY).args(&arguments).arg("--help"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{}: permfs {}\n{said}",
                document.file.display(),
                arguments.join(" ")
            );
            seen += 1;
        }
    }
    // The mount host, the node's and the controller's plugin, rendered and committed; the benchmark.
    assert_eq!(seen, 7);
}

#[test]
fn an_argument_that_the_program_does_not_know_is_noticed_before_the_help() {
    let output = run(Command::new(BINARY).args(["bench", "/a", "/b", "--fail-under=x", "--help"]));
    assert!(!output.status.success());
}
