//! The YAML in `deploy/`: every object is one that the Kubernetes API knows, field by field; what names something names what
//! is there; volumes use the documented parameters only; and what other tools read, they can read.
#![allow(missing_docs, clippy::unwrap_used)]

mod deploy_room;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use deploy_room::*;
use k8s_openapi::api::{
    apps::v1 as apps, batch::v1 as batch, core::v1 as core, rbac::v1 as rbac, storage::v1 as storage,
};
use permfs::csi::context::{KEYS, VolumeContext};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Objects of tools outside Kubernetes' own API, in `deploy/examples`: nothing here knows their types.
const FOREIGN: &[(&str, &str)] = &[
    ("argoproj.io/v1alpha1", "Application"),
    ("source.toolkit.fluxcd.io/v1", "GitRepository"),
    ("helm.toolkit.fluxcd.io/v2", "HelmRelease"),
    ("kind.x-k8s.io/v1alpha4", "Cluster"),
    ("kustomize.config.k8s.io/v1beta1", "Kustomization"),
];
/// What the API accepts where its types say only "string".
const WORDS: &[(&str, &[&str])] = &[
    ("imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("restartPolicy", &["Always", "OnFailure", "Never"]),
    ("mountPropagation", &["None", "HostToContainer", "Bidirectional"]),
    ("dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
    ("fsGroupPolicy", &["None", "File", "ReadWriteOnceWithFSType"]),
    ("persistentVolumeReclaimPolicy", &["Retain", "Delete"]),
    ("reclaimPolicy", &["Retain", "Delete"]),
    ("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]),
];
/// Every value that adds an object, a container or a volume.
const ALL_ON: &[&str] = &[
    "--set=csi.hostPaths={/srv/exports}",
    "--set=csi.inlineVolumes=true",
    "--set=sidecars.csiResizer.enabled=true",
    "--set=storageClasses[0].name=permfs",
    "--set=storageClasses[0].parameters.path=/srv/exports",
    "--set=storageClasses[0].allowVolumeExpansion=true",
    "--set=imagePullSecrets[0].name=registry",
    "--set=customLabels.team=storage",
    "--set=host.podLabels.team=storage",
    "--set=node.podAnnotations.team=storage",
];

#[test]
fn every_object_is_one_that_the_kubernetes_api_knows() {
    let complaints: Vec<_> = objects().iter().flat_map(complaints).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn the_check_itself_finds_what_the_api_would_refuse() {
    for (text, says) in [
        (
            "apiVersion: apps/v1\nkind: DaemonSet\nspec: {updateStrategie: {}}",
            "unknown field spec.updateStrategie",
        ),
        (
            "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: b, args: x}]}",
            "expected a sequence",
        ),
        (
            "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, image: b, imagePullPolicy: Sometimes}]}",
            "Sometimes",
        ),
        ("apiVersion: v2\nkind: Pod", "v2 Pod"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: A_b}", "A_b"),
    ] {
        let said: Vec<_> = documents(Path::new("text"), text).iter().flat_map(complaints).collect();
        assert!(said.iter().any(|line| line.contains(says)), "{says}: {said:?}");
    }
}

#[test]
fn containers_mount_volumes_that_their_pod_has_and_pods_have_none_in_vain() {
    for document in objects() {
        let Some(spec) = document.pod_spec() else { continue };
        let what = format!("{}: {} {}", document.file.display(), document.kind(), document.name());
        let names = |list: &Value| -> BTreeSet<String> {
            list.as_array()
                .into_iter()
                .flatten()
                .map(|item| item["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let mounted =
            document.containers().into_iter().flat_map(|container| names(&container["volumeMounts"]));
        assert_eq!(mounted.collect::<BTreeSet<_>>(), names(&spec["volumes"]), "{what}");
        let containers: BTreeSet<_> =
            document.containers().iter().map(|one| one["name"].to_string()).collect();
        assert_eq!(containers.len(), document.containers().len(), "{what}: two containers of one name");
    }
}

#[test]
fn selectors_select_the_pods_below_them_and_names_name_what_is_there() {
    for documents in [rendered(&[]), rendered(ALL_ON)] {
        let accounts: BTreeSet<_> =
            documents.iter().filter(|one| one.kind() == "ServiceAccount").map(Document::name).collect();
        for document in &documents {
            let Some(spec) = document.pod_spec() else { continue };
            let labels = &document.value["spec"]["template"]["metadata"]["labels"];
            for (key, value) in document.value["spec"]["selector"]["matchLabels"].as_object().unwrap() {
                assert_eq!(&labels[key], value, "{}", document.name());
            }
            assert!(accounts.contains(spec["serviceAccountName"].as_str().unwrap()), "{}", document.name());
            for map in
                spec["volumes"].as_array().unwrap().iter().filter_map(|one| one["configMap"]["name"].as_str())
            {
                object(&documents, "ConfigMap", map);
            }
        }
        for binding in documents.iter().filter(|one| one.kind().ends_with("RoleBinding")) {
            let role = &binding.value["roleRef"];
            object(&documents, role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
        }
    }
}

#[test]
fn propagation_to_the_node_is_asked_for_by_privileged_containers_only() {
    for document in objects() {
        for container in document.containers() {
            let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            let outward = mounts.iter().any(|mount| mount["mountPropagation"] == "Bidirectional");
            assert!(!outward || container["securityContext"]["privileged"] == true, "{}", document.name());
        }
    }
}

#[test]
fn volumes_use_only_the_parameters_of_the_readmes_table() {
    let documented = parameters();
    let mut used = BTreeSet::new();
    for document in objects() {
        let keys = volume_parameters(&document);
        for key in keys {
            assert!(documented.contains(&key), "{}: {key} is not in the table", document.file.display());
            used.insert(key);
        }
    }
    assert!(used.contains("server") && used.contains("path"), "{used:?}");
}

#[test]
fn the_tables_of_parameters_have_those_that_the_driver_reads_and_it_reads_their_examples() {
    let known: BTreeSet<_> = KEYS.map(str::to_owned).into();
    for (page, heading) in [("README.md", "| Parameter |"), ("docs/csi.md", "| Key | Means |")] {
        let told: BTreeSet<_> = rows(page, heading).iter().flat_map(|row| words(&row[0])).collect();
        assert_eq!(told, known, "{page}");
    }
    let examples: HashMap<_, _> = rows("README.md", "| Parameter |")
        .iter()
        .map(|row| (words(&row[0]).remove(0), words(row.last().unwrap()).remove(0)))
        .collect();
    let (path, export): (HashMap<_, _>, HashMap<_, _>) =
        examples.into_iter().partition(|(key, _)| key == "path");
    assert_eq!(export.len(), KEYS.len() - 1);
    for attributes in [path, export] {
        VolumeContext::of_attributes(&attributes).unwrap();
        VolumeContext::of_parameters(&attributes).unwrap();
    }
}

#[test]
fn the_schema_of_storage_classes_has_the_parameters_of_the_readmes_table() {
    let schema: Value = serde_json::from_str(&read("deploy/chart/permfs/values.schema.json")).unwrap();
    let known = schema["$defs"]["parameters"]["properties"].as_object().unwrap();
    assert_eq!(known.keys().cloned().collect::<BTreeSet<_>>(), parameters());
}

#[test]
fn profiles_of_the_examples_are_in_their_values_and_for_their_namespace() {
    let rules = read(VALUES);
    for document in written() {
        let attributes = [
            &document.value["parameters"]["profile"],
            &document.value["spec"]["csi"]["volumeAttributes"]["profile"],
        ];
        for profile in attributes.into_iter().filter_map(Value::as_str) {
            assert!(
                rules.contains(&format!("[profile.{profile}]")),
                "{}: {profile}",
                document.file.display()
            );
        }
    }
}

#[test]
fn the_values_that_argo_and_flux_carry_are_values_of_the_chart() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = 0;
    for document in written() {
        let spec = &document.value["spec"];
        let values = match document.kind() {
            "Application" => &spec["source"]["helm"]["valuesObject"],
            "HelmRelease" => &spec["values"],
            _ => continue,
        };
        let file = dir.path().join(format!("{}.json", document.kind()));
        std::fs::write(&file, values.to_string()).unwrap();
        output_of(helm().args(["template", "permfs", CHART, "--values"]).arg(&file));
        found += 1;
    }
    assert_eq!(found, 2);
}

#[test]
fn the_chart_is_where_argo_and_flux_look_for_it() {
    let paths: Vec<_> = written()
        .iter()
        .filter_map(|document| {
            let spec = &document.value["spec"];
            let path = spec["source"]["path"].as_str().or(spec["chart"]["spec"]["chart"].as_str());
            path.map(ToOwned::to_owned)
        })
        .collect();
    assert_eq!(paths, [CHART, CHART]);
}

#[test]
fn kustomize_builds_the_plain_manifests_and_the_overlay_changes_rules_and_images_only() {
    let build = |folder: &str| {
        let text = output_of(kubectl().arg("kustomize").arg(root().join(folder)));
        documents(Path::new(folder), &text)
    };
    let key = |document: &Document| format!("{} {}", document.kind(), document.name());
    let plain: BTreeMap<_, _> = build("deploy/kubernetes").into_iter().map(|one| (key(&one), one)).collect();
    let overlay: BTreeMap<_, _> =
        build("deploy/examples/kustomize").into_iter().map(|one| (key(&one), one)).collect();
    assert_eq!(plain.keys().collect::<Vec<_>>(), overlay.keys().collect::<Vec<_>>());
    let rendered: BTreeSet<_> = rendered(&[]).iter().map(key).collect();
    assert_eq!(rendered, plain.keys().cloned().collect(), "kustomization.yaml lists every file");
    for (key, document) in overlay {
        let said =
            document.value.to_string().replace("registry.example.com/storage/permfs", "localhost/permfs");
        let same = serde_json::from_str::<Value>(&said).unwrap() == plain[&key].value;
        assert_eq!(same, key != "ConfigMap permfs-rules", "{key}");
    }
}

#[test]
fn the_rules_of_the_examples_are_rules_to_permfs_itself() {
    output_of(
        Command::new(BINARY)
            .args(["check", "--config"])
            .arg(root().join("deploy/examples/kustomize/permfs.toml")),
    );
    let documents = written();
    let carried = documents.iter().filter_map(|document| {
        let spec = &document.value["spec"];
        spec["values"]["rules"].as_str().or(spec["source"]["helm"]["valuesObject"]["rules"].as_str())
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("permfs.toml");
    for rules in carried {
        std::fs::write(&file, rules).unwrap();
        output_of(Command::new(BINARY).args(["check", "--config"]).arg(&file));
    }
}

#[test]
fn the_documentation_names_only_values_that_the_chart_has() {
    let values = &documents(Path::new("values.yaml"), &read("deploy/chart/permfs/values.yaml"))[0].value;
    let mut checked = 0;
    for file in ["README.md", "docs/kubernetes.md"] {
        let text = read(file);
        for word in text.split('`').skip(1).step_by(2) {
            let name = word.split(['=', ' ']).next().unwrap();
            let mut parts = name.split('.').peekable();
            if !parts.peek().is_some_and(|first| values[*first].is_object()) || !name.contains('.') {
                continue;
            }
            let found = parts.fold(values, |value, part| &value[part]);
            assert!(!found.is_null(), "{file}: `{name}` is no value of the chart");
            checked += 1;
        }
    }
    assert!(checked > 5, "{checked}");
}

#[test]
fn the_airflow_task_is_python() {
    let script = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
    output_of(
        Command::new("python3").args(["-c", script]).arg(root().join("deploy/examples/airflow/task.py")),
    );
}

/// What is written in `deploy/`, and what the chart renders with everything on.
fn objects() -> Vec<Document> {
    // Values of charts are YAML, and no objects.
    let mut objects: Vec<_> =
        written().into_iter().filter(|document| !document.file.ends_with("values.yaml")).collect();
    objects.extend(rendered(ALL_ON));
    objects
}

/// What the API would say against an object.
fn complaints(document: &Document) -> Vec<String> {
    let version = document.value["apiVersion"].as_str().unwrap_or_default();
    let kind = document.kind();
    let check = match (version, kind) {
        ("v1", "ConfigMap") => fields::<core::ConfigMap>,
        ("v1", "PersistentVolume") => fields::<core::PersistentVolume>,
        ("v1", "PersistentVolumeClaim") => fields::<core::PersistentVolumeClaim>,
        ("v1", "Pod") => fields::<core::Pod>,
        ("v1", "ServiceAccount") => fields::<core::ServiceAccount>,
        ("apps/v1", "DaemonSet") => fields::<apps::DaemonSet>,
        ("apps/v1", "Deployment") => fields::<apps::Deployment>,
        ("batch/v1", "Job") => fields::<batch::Job>,
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => fields::<rbac::ClusterRole>,
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => fields::<rbac::ClusterRoleBinding>,
        ("rbac.authorization.k8s.io/v1", "Role") => fields::<rbac::Role>,
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => fields::<rbac::RoleBinding>,
        ("storage.k8s.io/v1", "CSIDriver") => fields::<storage::CSIDriver>,
        ("storage.k8s.io/v1", "StorageClass") => fields::<storage::StorageClass>,
        foreign if FOREIGN.contains(&foreign) && document.file.starts_with("deploy/examples") => {
            return Vec::new();
        }
        ("kustomize.config.k8s.io/v1beta1", "Kustomization") => return Vec::new(),
        _ => return vec![format!("{}: {version} {kind} is not known here", document.file.display())],
    };
    let mut found = check(&document.value);
    let name = document.name();
    let plain =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter);
    if name.is_empty() || !name.chars().all(plain) || name.len() > 253 {
        found.push(format!("metadata.name is {name:?}"));
    }
    wrong_words(&document.value, &mut found);
    if document.containers().iter().any(|one| !one["name"].is_string() || !one["image"].is_string()) {
        found.push("a container without name or image".to_owned());
    }
    found.iter().map(|what| format!("{}: {kind} {name}: {what}", document.file.display())).collect()
}

/// Reads an object as its type: what is of the wrong type, and which fields the type does not have.
fn fields<T: DeserializeOwned>(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let read = serde_ignored::deserialize::<_, _, T>(value, |path| {
        found.push(format!("unknown field {}", path.to_string().replace(".?", "")))
    });
    found.extend(read.err().map(|error| error.to_string()));
    found
}

/// Words that the API does not accept, anywhere below.
fn wrong_words(value: &Value, found: &mut Vec<String>) {
    if let Some(map) = value.as_object() {
        for (key, below) in map {
            let allowed = WORDS.iter().find(|(known, _)| known == key).map(|(_, words)| *words);
            if let (Some(allowed), Some(word)) = (allowed, below.as_str())
                && !allowed.contains(&word)
            {
                found.push(format!("{key} is {word}, not one of {}", allowed.join(", ")));
            }
            wrong_words(below, found);
        }
    }
    for below in value.as_array().into_iter().flatten() {
        wrong_words(below, found);
    }
}

/// The names in the first column of the README's table of volume parameters.
fn parameters() -> BTreeSet<String> {
    rows("README.md", "| Parameter |").iter().flat_map(|row| words(&row[0])).collect()
}

/// The cells of a page's table that begins so.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(page);
    let table = text.split(heading).nth(1).unwrap_or_else(|| panic!("{page} has no table {heading}"));
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::to_owned).collect()).collect()
}

/// What stands in backquotes.
fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys by which an object describes volumes of this driver.
fn volume_parameters(document: &Document) -> Vec<String> {
    let mut maps = Vec::new();
    if document.value["provisioner"] == "permfs.csi.io" {
        maps.push(&document.value["parameters"]);
    }
    if document.value["spec"]["csi"]["driver"] == "permfs.csi.io" {
        maps.push(&document.value["spec"]["csi"]["volumeAttributes"]);
    }
    let volumes = document.pod_spec().and_then(|spec| spec["volumes"].as_array()).into_iter().flatten();
    maps.extend(
        volumes
            .filter(|one| one["csi"]["driver"] == "permfs.csi.io")
            .map(|one| &one["csi"]["volumeAttributes"]),
    );
    maps.into_iter().filter_map(Value::as_object).flat_map(|map| map.keys().cloned()).collect()
}
