//! The container image, as `deploy/image/build-oci` makes it of the static binary: its digests, what its layers unpack to, and
//! that the programs in it run there with nothing of this machine.
#![allow(missing_docs, clippy::unwrap_used)]

mod deploy_room;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use deploy_room::*;
use serde_json::Value;

/// More than this is not small: it is 5 MB.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

#[test]
fn the_image_is_whole_reproducible_small_and_its_programs_run() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first.tar"), dir.path().join("second.tar"));
    build(&first);
    build(&second);
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap(), "the same binary gives the same bytes");
    assert!(first.metadata().unwrap().len() < MAX_BYTES);

    let layout = dir.path().join("layout");
    let image = dir.path().join("image");
    fs::create_dir(&layout).unwrap();
    fs::create_dir(&image).unwrap();
    unpack(&first, &layout);
    let config = hold_digests(&layout);
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/permfs");
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap().clone();
    for (blob, diff) in layers_of(&layout).iter().zip(layers) {
        let plain = dir.path().join("layer.tar");
        fs::write(&plain, Command::new("gzip").arg("-dc").arg(blob).output().unwrap().stdout).unwrap();
        assert_eq!(format!("sha256:{}", sha256(&plain)), diff.as_str().unwrap());
        unpack(&plain, &image);
    }

    let version = output_of(Command::new("chroot").arg(&image).args(["/usr/bin/permfs", "--version"]));
    assert_eq!(version.trim(), format!("permfs {}", env!("CARGO_PKG_VERSION")));
    for program in ["/sbin/mount.nfs", "/usr/sbin/mount.nfs4"] {
        let version = output_of(Command::new("chroot").arg(&image).args([program, "-V"]));
        assert!(version.contains("nfs-utils"), "{version}");
    }
    // It looks names up by what the pod's /etc says, and gets as far as the kernel.
    fs::write(image.join("etc/hosts"), "127.0.0.1 nfs.test\n").unwrap();
    let mount =
        ["/sbin/mount.nfs", "nfs.test:/no-such-export", "/tmp", "-o", "vers=4.2,retry=0,soft,timeo=5"];
    let output = run(Command::new("chroot").arg(&image).args(mount));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("mount.nfs: "), "{said}");
    assert!(!said.contains("resolve") && !said.contains("temporarily"), "{said}");
    assert_eq!(scripts_and_setuid(&image), Vec::<PathBuf>::new());
    mounts_in(&image);
}

/// The image's own build is not run here: it needs a container engine.
#[test]
fn the_containerfile_copies_what_the_source_needs_to_be_built() {
    let file = read("deploy/image/Containerfile");
    let (build, _) = file.split_once("AS below").unwrap();
    let copies = build.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied: Vec<&str> = copies.flat_map(|line| line.split(' ').rev().skip(1)).collect();
    let ignored = read(".dockerignore");
    for path in &copied {
        assert!(ignored.lines().any(|line| line == format!("!{path}")), "{path} is not sent to the build");
    }
    let included = files("src", ".rs").into_iter().flat_map(|source| {
        let text = read(&source);
        let calls = ["include!(", "include_str!(", "include_bytes!("].map(|call| text.split(call).skip(1));
        let arguments: Vec<String> = calls
            .into_iter()
            .flatten()
            .filter_map(|rest| Some(rest.split('"').find(|part| part.contains('.'))?.to_owned()))
            .collect();
        arguments.into_iter().map(move |argument| {
            // From the project's root (CARGO_MANIFEST_DIR), or beside the source.
            argument.strip_prefix('/').map_or_else(|| source.with_file_name(&argument), PathBuf::from)
        })
    });
    let mut known = 0;
    for path in included {
        assert!(root().join(&path).is_file(), "{} is not there", path.display());
        assert!(copied.iter().any(|one| path.starts_with(one)), "{} is not copied", path.display());
        known += 1;
    }
    assert!(known > 0, "src/csi/spec.rs includes proto/csi.v1.rs");
    // Cargo looks for every target of Cargo.toml before it builds any: here it comes as far as the one that is not.
    let dir = tempfile::tempdir().unwrap();
    output_of(Command::new("cp").arg("-r").args(copied.iter().map(|path| root().join(path))).arg(dir.path()));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(dir.path()).args(["check", "--locked", "--offline", "--bin", "no-such-program"]);
    let said = String::from_utf8(run(&mut cargo).stderr).unwrap();
    assert!(said.contains("no bin target named `no-such-program`"), "{said}");
}

/// Mounts a directory inside the image, as its container has it: a root of its own that is read-only, a mount namespace, and
/// nothing of this machine but /dev and /proc.
fn mounts_in(image: &Path) {
    let script = r#"
        set -eu
        for place in proc dev run/permfs etc/permfs work; do mkdir -p "$1/$place"; done
        cp config/airflow.toml "$1/etc/permfs/permfs.toml"
        chmod 755 "$1"
        mount --make-rprivate /
        mount --bind "$1" "$1"
        mount -o remount,bind,ro "$1"
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        mount -t tmpfs -o mode=755 state "$1/run/permfs"
        mount -t tmpfs -o mode=755 work "$1/work"
        install -d -o 2001 -g 2001 "$1/work/export" "$1/work/target"
        chroot "$1" /usr/bin/permfs mount /work/export /work/target --config /etc/permfs/permfs.toml
        cd "$1/work" && setpriv --reuid 50000 --regid 0 --clear-groups mkdir target/made
        stat -c '%u:%g %a' "$1/work/export/made"
        chroot "$1" /usr/bin/permfs unmount /work/target
    "#;
    let mut command = Command::new("unshare");
    command.current_dir(root()).args(["--mount", "sh", "-c", script, "sh"]).arg(image);
    assert_eq!(output_of(&mut command).trim(), "2001:2001 2775");
}

fn build(output: &Path) {
    output_of(Command::new(root().join("deploy/image/build-oci")).arg("--output").arg(output));
}

fn unpack(archive: &Path, directory: &Path) {
    output_of(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(directory));
}

fn sha256(file: &Path) -> String {
    let said = output_of(Command::new("sha256sum").arg(file));
    said.split(' ').next().unwrap().to_owned()
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// The file that a descriptor names, once its digest and size are what the descriptor says.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let file = layout.join("blobs/sha256").join(digest);
    assert_eq!(sha256(&file), digest);
    assert_eq!(Some(file.metadata().unwrap().len()), descriptor["size"].as_u64());
    file
}

fn manifest(layout: &Path) -> Value {
    let index = json(&layout.join("index.json"));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    json(&blob(layout, &index["manifests"][0]))
}

fn layers_of(layout: &Path) -> Vec<PathBuf> {
    manifest(layout)["layers"].as_array().unwrap().iter().map(|layer| blob(layout, layer)).collect()
}

/// Follows index, manifest, config and layers by their digests, and Docker's own index to the same files. Gives the config.
fn hold_digests(layout: &Path) -> Value {
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let config = blob(layout, &manifest(layout)["config"]);
    let layers = layers_of(layout);
    let docker = &json(&layout.join("manifest.json"))[0];
    assert_eq!(docker["RepoTags"][0], format!("localhost/permfs:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(layout.join(docker["Config"].as_str().unwrap()), config);
    let named: Vec<_> = texts(&docker["Layers"]).into_iter().map(|path| layout.join(path)).collect();
    assert_eq!(named, layers);
    json(&config)
}

/// What an image for a privileged container has no use for: setuid programs, and scripts without an interpreter to run them.
fn scripts_and_setuid(image: &Path) -> Vec<PathBuf> {
    let found = output_of(
        Command::new("find")
            .arg(image)
            .args(["-type", "f", "(", "-perm", "/6000", "-o", "-name", "*.sh", ")"]),
    );
    found.lines().map(PathBuf::from).collect()
}
