//! What the tests of `deploy/` share: Helm, the documents of a YAML file, and where things stand in them.
//!
//! Helm and kubectl are those of `scripts/install-kubernetes-tools`. Without them a test fails and says so.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_permfs");
pub(crate) const CHART: &str = "deploy/chart/permfs";
/// The values that `deploy/kubernetes` is rendered with.
pub(crate) const VALUES: &str = "deploy/examples/values.yaml";

/// One document of a YAML file, and the file.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) file: PathBuf,
    pub(crate) value: Value,
}

impl Document {
    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The pod's spec in it, if it is or makes pods.
    pub(crate) fn pod_spec(&self) -> Option<&Value> {
        let spec = match self.kind() {
            "Pod" => &self.value["spec"],
            "Deployment" | "DaemonSet" | "Job" => &self.value["spec"]["template"]["spec"],
            _ => return None,
        };
        Some(spec)
    }

    pub(crate) fn containers(&self) -> Vec<&Value> {
        let Some(spec) = self.pod_spec() else { return Vec::new() };
        let lists = ["initContainers", "containers"];
        lists.iter().filter_map(|list| spec[list].as_array()).flatten().collect()
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn helm() -> Command {
    tool("helm")
}

pub(crate) fn kubectl() -> Command {
    tool("kubectl")
}

/// A program of `scripts/install-kubernetes-tools`.
fn tool(name: &str) -> Command {
    let mut command = Command::new(root().join("target/tools").join(name));
    command.current_dir(root());
    command
}

/// Runs it; a program that is not there fails the test in words.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| {
        panic!("{:?}: {error}: scripts/install-test-deps installs it", command.get_program())
    })
}

/// Runs it and gives its standard output; where it fails, the test does, with what it said.
#[track_caller]
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// `helm template` with `VALUES` and these arguments.
pub(crate) fn template(arguments: &[&str]) -> Command {
    let mut command = helm();
    command
        .args(["template", "permfs", CHART, "--namespace", "kube-system", "--values", VALUES])
        .args(arguments);
    command
}

/// The objects of the chart, rendered with `VALUES` and these arguments.
#[track_caller]
pub(crate) fn rendered(arguments: &[&str]) -> Vec<Document> {
    documents(Path::new(CHART), &output_of(&mut template(arguments)))
}

/// The one object of this kind and name.
#[track_caller]
pub(crate) fn object<'a>(documents: &'a [Document], kind: &str, name: &str) -> &'a Document {
    let found = documents.iter().find(|document| document.kind() == kind && document.name() == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Reads a text of YAML documents; empty ones do not count.
#[track_caller]
pub(crate) fn documents(file: &Path, text: &str) -> Vec<Document> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let present = values.into_iter().filter(|value| !value.is_null());
    present.map(|value| Document { file: file.to_owned(), value }).collect()
}

/// The files below a folder whose names end so, relative to the project.
pub(crate) fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(end) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Every document of every YAML file in `deploy/` that is not a template.
pub(crate) fn written() -> Vec<Document> {
    let files = files("deploy", ".yaml").into_iter().filter(|file| !file.starts_with("deploy/chart"));
    files.flat_map(|file| documents(&file, &read(&file))).collect()
}

#[track_caller]
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts of a list; nothing for what is no list.
pub(crate) fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
