//! What the Helm chart makes of its values, and which values it refuses.
#![allow(missing_docs, clippy::unwrap_used)]

mod deploy_room;

use std::fs;

use deploy_room::*;
use serde_json::Value;

/// Every value that adds an object or a container.
const ALL_ON: &[&str] = &[
    "--set=csi.hostPaths={/srv/exports,/srv/other}",
    "--set=csi.inlineVolumes=true",
    "--set=sidecars.csiResizer.enabled=true",
    "--set=selinux.context=system_u:object_r:container_file_t:s0",
    "--set=storageClasses[0].name=permfs",
    "--set=storageClasses[0].parameters.path=/srv/exports",
    "--set=imagePullSecrets[0].name=registry",
    "--set=node.nodeSelector.disk=ssd",
    "--set=metrics.enabled=true",
];

/// What gives another answer at another time or in another cluster.
const VARYING: &[&str] = &[
    "rand",
    "now",
    "date",
    "genCA",
    "genSigned",
    "genSelf",
    "genPrivate",
    "uuidv4",
    "lookup",
    "Capabilities",
    "Revision",
];

#[test]
fn the_chart_is_clean_to_helms_own_linter() {
    output_of(helm().args(["lint", "--strict", CHART, "--values", VALUES]));
}

#[test]
fn two_renderings_are_equal() {
    for arguments in [&[][..], ALL_ON] {
        let once = output_of(&mut template(arguments));
        assert_eq!(once, output_of(&mut template(arguments)));
    }
}

#[test]
fn nothing_in_a_template_depends_on_chance_time_or_the_cluster() {
    for file in files("deploy/chart/permfs/templates", "") {
        let text = read(&file);
        // Only what stands in braces runs, and a comment there does not.
        let actions = text.split("{{").skip(1).filter_map(|part| part.split("}}").next());
        let actions = actions.filter(|action| !action.trim_start_matches(['-', ' ']).starts_with("/*"));
        for word in actions.flat_map(|action| action.split(|letter: char| !letter.is_alphanumeric())) {
            assert!(
                !VARYING.iter().any(|varying| word.starts_with(varying)),
                "{} has {word}",
                file.display()
            );
        }
    }
}

#[test]
fn the_plain_manifests_are_the_chart_as_it_renders() {
    let fresh = tempfile::tempdir().unwrap();
    output_of(std::process::Command::new(root().join("deploy/render")).arg(fresh.path()));
    let mut names: Vec<_> =
        fs::read_dir(fresh.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in &names {
        let committed = read(std::path::Path::new("deploy/kubernetes").join(name));
        let rendered = fs::read_to_string(fresh.path().join(name)).unwrap();
        assert_eq!(committed, rendered, "deploy/kubernetes/{}: run deploy/render", name.display());
    }
    let mut listed: Vec<_> = files("deploy/kubernetes", ".yaml")
        .into_iter()
        .map(|file| file.file_name().unwrap().to_owned())
        .filter(|name| name != "kustomization.yaml")
        .collect();
    listed.sort();
    assert_eq!(listed, names, "files in deploy/kubernetes, and those that the chart makes");
}

#[test]
fn a_change_of_rules_leaves_every_pod_template_as_it_was() {
    let before = rendered(&[]);
    let after =
        rendered(&["--set-string=rules=version = 1\n[profile.other]\nuid = [ { pod = 7\\, nfs = 8 } ]"]);
    let rules = |documents: &[Document]| object(documents, "ConfigMap", "permfs-rules").value["data"].clone();
    assert_ne!(rules(&before), rules(&after));
    for (kind, name) in
        [("DaemonSet", "permfs-host"), ("DaemonSet", "permfs-node"), ("Deployment", "permfs-controller")]
    {
        assert_eq!(object(&before, kind, name).value, object(&after, kind, name).value, "{kind} {name}");
    }
}

#[test]
fn a_new_version_of_the_chart_alone_leaves_every_pod_template_as_it_was() {
    for document in rendered(&[]) {
        let labels = &document.value["spec"]["template"]["metadata"]["labels"];
        for label in ["helm.sh/chart", "app.kubernetes.io/version"] {
            assert!(
                labels[label].is_null(),
                "{} {} has {label} in its pods",
                document.kind(),
                document.name()
            );
        }
    }
}

#[test]
fn the_rules_of_the_config_map_are_rules_to_permfs_itself() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&[][..], ALL_ON] {
        let documents = rendered(arguments);
        let rules = &object(&documents, "ConfigMap", "permfs-rules").value["data"]["permfs.toml"];
        let file = dir.path().join("permfs.toml");
        fs::write(&file, rules.as_str().unwrap()).unwrap();
        output_of(std::process::Command::new(BINARY).args(["check", "--config"]).arg(&file));
    }
}

#[test]
fn values_that_the_chart_does_not_know_are_refused() {
    for (value, says) in [
        ("nod.tolerations=x", "'nod'"),
        ("image.repo=x", "'repo'"),
        ("node.livenesProbe=x", "'livenesProbe'"),
        ("metrics.port=80", "/metrics/port"),
        ("host.updateStrategy.type=RollingUpdate", "'updateStrategy'"),
        ("host.maxSurge=0", "/host/maxSurge"),
        ("log.level=verbose", "/log/level"),
        ("kubeletDir=var/lib/kubelet", "/kubeletDir"),
        ("csi.hostPaths={srv}", "/csi/hostPaths/0"),
        ("csi.hostPaths={/srv/../etc}", "/csi/hostPaths/0"),
        ("csi.inlineVolumes=perhaps", "/csi/inlineVolumes"),
        ("image.digest=sha256:12", "/image/digest"),
        ("storageClasses[0].name=a,storageClasses[0].parameters.shar=/x", "'shar'"),
        ("storageClasses[0].name=a,storageClasses[0].parameters.onDelete=keep", "/onDelete"),
        ("storageClasses[0].name=a,storageClasses[0].parameters.mapUid=50000", "/mapUid"),
    ] {
        refused(&mut template(&["--set", value]), says);
    }
}

#[test]
fn rules_must_be_given_once_and_leave_the_drivers_part_to_the_values() {
    refused(helm().args(["template", "permfs", CHART]), "[profile.airflow]");
    refused(&mut template(&["--set", "existingRules=mine"]), "give one of them");
    refused(
        &mut template(&["--set-string=rules=version = 1\n[csi]\ninline_volumes = true"]),
        "csi.inlineVolumes",
    );
    let own = helm().args(["template", "permfs", CHART, "--set", "existingRules=mine"]).output().unwrap();
    assert!(own.status.success());
    let documents = documents(CHART.as_ref(), &String::from_utf8(own.stdout).unwrap());
    assert!(documents.iter().all(|document| document.kind() != "ConfigMap"));
    for (kind, name) in [("DaemonSet", "permfs-node"), ("Deployment", "permfs-controller")] {
        assert_eq!(volume(object(&documents, kind, name), "rules")["configMap"]["name"], "mine");
    }
}

/// A CSIDriver's fields cannot be changed, and `helm upgrade` would fail: what values change is elsewhere.
#[test]
fn no_value_changes_the_driver_object_and_inline_volumes_are_allowed_by_the_rules() {
    let driver =
        |arguments: &[&str]| object(&rendered(arguments), "CSIDriver", "permfs.csi.io").value.clone();
    assert_eq!(driver(&[]), driver(ALL_ON));
    assert_eq!(texts(&driver(&[])["spec"]["volumeLifecycleModes"]), ["Persistent", "Ephemeral"]);
    let rules = |arguments: &[&str]| {
        let rendered = rendered(arguments);
        object(&rendered, "ConfigMap", "permfs-rules").value["data"]["permfs.toml"].to_string()
    };
    assert!(rules(&[]).contains("inline_volumes = false"));
    assert!(rules(&["--set=csi.inlineVolumes=true"]).contains("inline_volumes = true"));
}

#[test]
fn labels_that_are_the_charts_own_are_refused_and_no_key_stands_twice() {
    for values in ["customLabels", "node.podLabels", "host.podLabels", "controller.podLabels"] {
        let json = |key: &str| {
            let inner = format!("{{\"{key}\":\"x\"}}");
            values.rsplit('.').fold(inner, |inner, name| format!("{{\"{name}\":{inner}}}"))
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("values.json");
        for key in ["app.kubernetes.io/name", "helm.sh/chart"] {
            fs::write(&file, json(key)).unwrap();
            refused(template(&[]).arg("--values").arg(&file), key);
        }
        fs::write(&file, json("team.example/name")).unwrap();
        output_of(template(&[]).arg("--values").arg(&file));
    }
}

#[test]
fn metrics_are_told_by_the_node_plugins_where_they_are_wanted_and_on_a_port_of_their_own() {
    let plugin =
        |documents: &[Document]| object(documents, "DaemonSet", "permfs-node").containers()[0].clone();
    assert!(!plugin(&rendered(&[])).to_string().contains("metrics"));
    let plugin = plugin(&rendered(&["--set=metrics.enabled=true", "--set=metrics.port=9999"]));
    assert!(texts(&plugin["args"]).contains(&"--metrics=:9999"), "{plugin}");
    assert!(plugin["ports"].as_array().unwrap().iter().any(|port| port["containerPort"] == 9999));
    // The liveness probe's, in the same pod.
    refused(&mut template(&["--set=metrics.port=9808"]), "/metrics/port");
}

#[test]
fn the_registrar_is_alive_where_it_says_so_by_http() {
    let documents = rendered(&[]);
    let node = object(&documents, "DaemonSet", "permfs-node");
    let registrar =
        node.containers().into_iter().find(|one| one["name"] == "node-driver-registrar").unwrap().clone();
    let port = &registrar["ports"][0];
    let listens = format!("--http-endpoint=:{}", port["containerPort"]);
    assert!(texts(&registrar["args"]).contains(&listens.as_str()), "{registrar}");
    assert_eq!(registrar["livenessProbe"]["httpGet"]["port"], port["name"]);
    assert_eq!(registrar["livenessProbe"]["httpGet"]["path"], "/healthz");
}

#[test]
fn a_node_without_one_of_the_directories_has_a_mount_host_all_the_same() {
    let documents = rendered(ALL_ON);
    let host = object(&documents, "DaemonSet", "permfs-host");
    assert_eq!(volume(host, "path-0")["hostPath"]["type"], "DirectoryOrCreate");
}

#[test]
fn the_driver_needs_no_attaching_knows_the_pod_and_never_has_a_volume_chowned() {
    let documents = rendered(&[]);
    let spec = &object(&documents, "CSIDriver", "permfs.csi.io").value["spec"];
    assert_eq!(spec["attachRequired"], false);
    assert_eq!(spec["podInfoOnMount"], true);
    assert_eq!(spec["fsGroupPolicy"], "None");
    assert_eq!(spec["seLinuxMount"], false);
}

#[test]
fn directories_for_path_volumes_reach_the_mount_host_and_its_rules() {
    let documents = rendered(ALL_ON);
    let host = object(&documents, "DaemonSet", "permfs-host");
    for path in ["/srv/exports", "/srv/other"] {
        let mounts = host.containers()[0]["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == path).unwrap();
        assert_eq!(mount["mountPropagation"], "HostToContainer");
        assert_eq!(volume(host, mount["name"].as_str().unwrap())["hostPath"]["path"], path);
    }
    let rules = &object(&documents, "ConfigMap", "permfs-rules").value["data"]["permfs.toml"];
    assert!(rules.as_str().unwrap().contains("host_paths = [\"/srv/exports\",\"/srv/other\"]"), "{rules}");
}

#[test]
fn the_selinux_context_reaches_the_mounts_of_the_storage_classes() {
    let documents = rendered(ALL_ON);
    let options = &object(&documents, "StorageClass", "permfs").value["mountOptions"];
    assert_eq!(texts(options), ["context=\"system_u:object_r:container_file_t:s0\""]);
}

#[test]
fn only_the_mount_host_is_privileged_and_nothing_else_has_a_capability() {
    for document in rendered(ALL_ON) {
        for container in document.containers() {
            let security = &container["securityContext"];
            let what = format!("{} {}: {}", document.kind(), document.name(), container["name"]);
            assert_eq!(security["readOnlyRootFilesystem"], true, "{what}");
            if document.name() == "permfs-host" {
                assert_eq!(security["privileged"], true, "{what}");
                continue;
            }
            assert_eq!(security["privileged"], false, "{what}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{what}");
            assert_eq!(texts(&security["capabilities"]["drop"]), ["ALL"], "{what}");
            assert!(security["capabilities"]["add"].is_null(), "{what}");
        }
    }
}

#[test]
fn pods_on_nodes_have_no_rights_in_the_api_and_no_token() {
    let documents = rendered(ALL_ON);
    let mut bound = Vec::new();
    for document in documents.iter().filter(|document| document.kind().ends_with("RoleBinding")) {
        let subjects = document.value["subjects"].as_array().unwrap();
        bound.extend(subjects.iter().map(|subject| subject["name"].as_str().unwrap().to_owned()));
    }
    assert!(!bound.is_empty());
    assert!(bound.iter().all(|name| name == "permfs-controller"), "{bound:?}");
    for name in ["permfs-host", "permfs-node"] {
        let spec = object(&documents, "DaemonSet", name).pod_spec().unwrap();
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
    }
}

#[test]
fn no_role_may_read_secrets_or_has_a_wildcard() {
    for document in rendered(ALL_ON).iter().filter(|document| document.kind().ends_with("Role")) {
        for rule in document.value["rules"].as_array().unwrap() {
            for key in ["apiGroups", "resources", "verbs"] {
                let words = texts(&rule[key]);
                assert!(!words.contains(&"*") && !words.contains(&"secrets"), "{}: {rule}", document.name());
            }
        }
    }
}

#[test]
fn the_mount_hosts_next_pod_comes_before_the_last_one_goes_and_nothing_restarts_or_limits_it() {
    let documents = rendered(ALL_ON);
    let host = object(&documents, "DaemonSet", "permfs-host");
    let strategy = &host.value["spec"]["updateStrategy"];
    assert_eq!(strategy["type"], "RollingUpdate");
    assert_eq!(strategy["rollingUpdate"]["maxSurge"], 1);
    assert_eq!(strategy["rollingUpdate"]["maxUnavailable"], 0);
    let container = host.containers()[0];
    // Two pods of it are on a node at once: nothing of theirs may be the node's only one.
    assert!(container["ports"].is_null());
    let arguments = container["args"].as_array().unwrap();
    assert!(arguments.iter().any(|argument| argument == "--outstay-mounts"));
    // Ready is who has taken all mounts over, by the socket that it listens at.
    let ready = container["readinessProbe"]["exec"]["command"].as_array().unwrap();
    assert!(ready.contains(&arguments[1]) && ready.iter().any(|word| word == "--check"));
    assert!(container["livenessProbe"].is_null(), "a failed probe would end every mount of the node");
    assert!(
        container["resources"]["limits"]["memory"].is_null(),
        "at the limit every mount of the node ends"
    );
    let spec = host.pod_spec().unwrap();
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(spec["hostPID"], true);
    assert_eq!(spec["priorityClassName"], "system-node-critical");
}

#[test]
fn mounts_of_the_mount_host_appear_on_the_node_under_the_same_paths() {
    let documents = rendered(&["--set=kubeletDir=/data/kubelet"]);
    let host = object(&documents, "DaemonSet", "permfs-host");
    let mut propagated = Vec::new();
    for mount in host.containers()[0]["volumeMounts"].as_array().unwrap() {
        if mount["mountPropagation"] == "Bidirectional" {
            let on_node = &volume(host, mount["name"].as_str().unwrap())["hostPath"]["path"];
            assert_eq!(on_node, &mount["mountPath"]);
            propagated.push(on_node.as_str().unwrap().to_owned());
        }
    }
    // Not /run/permfs: what the host mounts for its daemons has peers in no other mount namespace.
    assert_eq!(propagated, ["/data/kubelet"]);
}

#[test]
fn another_kubelet_directory_reaches_every_path_of_the_kubelet() {
    let text = output_of(&mut template(&["--set=kubeletDir=/data/kubelet/"]));
    assert!(!text.contains("/var/lib/kubelet"), "{text}");
    assert!(text.contains("path: /data/kubelet/plugins/permfs.csi.io\n"));
    assert!(text.contains("--kubelet-registration-path=/data/kubelet/plugins/permfs.csi.io/csi.sock"));
}

#[test]
fn plugin_and_mount_host_go_to_the_same_nodes() {
    let documents = rendered(ALL_ON);
    let host = object(&documents, "DaemonSet", "permfs-host").pod_spec().unwrap().clone();
    let node = object(&documents, "DaemonSet", "permfs-node").pod_spec().unwrap().clone();
    for key in ["nodeSelector", "tolerations", "affinity", "priorityClassName"] {
        assert_eq!(host[key], node[key], "{key}");
    }
    assert_eq!(host["nodeSelector"]["disk"], "ssd");
    assert_eq!(host["tolerations"][0]["operator"], "Exists");
}

#[test]
fn plugin_controller_and_mount_host_agree_on_the_hosts_socket() {
    let documents = rendered(&[]);
    let socket = |kind: &str, name: &str, option: &str| {
        let document = object(&documents, kind, name);
        let arguments = texts(&document.containers()[0]["args"]);
        let option = arguments.iter().find_map(|argument| argument.strip_prefix(option)).unwrap();
        let (directory, _) = option.rsplit_once('/').unwrap();
        let mounts = document.containers()[0]["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == directory).unwrap();
        assert_eq!(volume(document, mount["name"].as_str().unwrap())["hostPath"]["path"], directory);
        option.to_owned()
    };
    let host = socket("DaemonSet", "permfs-host", "--socket=");
    assert_eq!(socket("DaemonSet", "permfs-node", "--host-socket="), host);
    assert_eq!(socket("Deployment", "permfs-controller", "--host-socket="), host);
}

#[test]
fn the_controller_and_its_rights_can_stay_away() {
    let documents = rendered(&["--set=controller.enabled=false"]);
    assert!(
        documents.iter().all(|document| document.kind() != "Deployment" && !document.kind().contains("Role"))
    );
}

fn volume<'a>(document: &'a Document, name: &str) -> &'a Value {
    let volumes = document.pod_spec().unwrap()["volumes"].as_array().unwrap();
    volumes.iter().find(|volume| volume["name"] == name).unwrap_or_else(|| panic!("no volume {name}"))
}

#[track_caller]
fn refused(command: &mut std::process::Command, says: &str) {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{command:?} was accepted");
    assert!(said.contains(says), "{command:?} should say {says}:\n{said}");
}
