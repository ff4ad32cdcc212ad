//! Volumes made and removed by the real plugin through the real host, on a directory of this node. Needs root and
//! /dev/fuse, and fails without.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use csi_room::{Node, RULES, capability, done_as_pod, text};
use permfs::csi::spec::volume_content_source::{Type as Source, VolumeSource};
use permfs::csi::spec::*;
use tonic::Code;

fn sized(mut request: CreateVolumeRequest, required_bytes: i64) -> CreateVolumeRequest {
    request.capacity_range = Some(CapacityRange { required_bytes, limit_bytes: 0 });
    request
}

fn copy_of(mut request: CreateVolumeRequest, volume_id: &str) -> CreateVolumeRequest {
    let volume = VolumeSource { volume_id: volume_id.to_owned() };
    request.volume_content_source = Some(VolumeContentSource { r#type: Some(Source::Volume(volume)) });
    request
}

fn with(mut request: CreateVolumeRequest, key: &str, value: &str) -> CreateVolumeRequest {
    request.parameters.insert(key.to_owned(), value.to_owned());
    request
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_volume_is_a_directory_of_the_mapped_identity_and_a_pod_uses_it() {
    let node = Node::new();
    let volume = node.calls.create(sized(node.creation("pvc-1"), 1 << 30)).unwrap();
    assert_eq!(volume.capacity_bytes, 1 << 30);
    let made = fs::metadata(node.export().join("pvc-1")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (2001, 2001, 0o2775));
    let target = node.target("one");
    let mut request = node.request(&volume.volume_id, &target);
    request.volume_context = volume.volume_context.clone();
    node.calls.publish(request).unwrap();
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", target.display()));
    assert!(node.export().join("pvc-1/file").exists());
    node.calls.unpublish(&volume.volume_id, &target).unwrap();
    node.calls.delete(&volume.volume_id).unwrap();
    node.calls.delete(&volume.volume_id).unwrap();
    assert_eq!(names(&node.export()), [".permfs"]);
    assert!(names(&node.export().join(".permfs")).is_empty());
}

#[test]
fn the_same_request_finds_the_same_volume_and_a_different_one_is_refused() {
    let node = Node::new();
    let first = node.calls.create(sized(node.creation("pvc-1"), 100)).unwrap();
    assert_eq!(node.calls.create(sized(node.creation("pvc-1"), 100)).unwrap(), first);
    for other in [200, 50] {
        let refused = node.calls.create(sized(node.creation("pvc-1"), other)).unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists);
    }
    fs::create_dir(node.export().join("found")).unwrap();
    assert_eq!(node.calls.create(node.creation("found")).unwrap_err().code(), Code::AlreadyExists);
}

#[test]
fn what_is_deleted_may_be_deep_closed_full_of_links_and_of_several_owners() {
    let rules = RULES.replace("nfs = 2001 } ]\ngid", "nfs = 2001 }, { pod = 50001, nfs = 2002 } ]\ngid");
    let node = Node::with_rules(&rules);
    let volume = node.calls.create(node.creation("pvc-1")).unwrap();
    let room = node.export().join("pvc-1");
    let outside = node.export().join("precious");
    fs::write(&outside, "stays").unwrap();
    symlink(node.export(), room.join("link")).unwrap();
    symlink(&outside, room.join("file-link")).unwrap();
    let mut deep = room.clone();
    for _ in 0..150 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
        chown(&deep, Some(2001), Some(2001)).unwrap();
    }
    fs::write(deep.join("file"), "").unwrap();
    let closed = room.join("closed");
    fs::create_dir_all(closed.join("inner")).unwrap();
    for n in 0..2500 {
        fs::write(closed.join(n.to_string()), "").unwrap();
    }
    for dir in [&closed.join("inner"), &closed] {
        chown(dir, Some(2002), Some(2001)).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o500)).unwrap();
    }
    node.calls.delete(&volume.volume_id).unwrap();
    assert!(!room.exists());
    assert_eq!(fs::read_to_string(outside).unwrap(), "stays");
}

#[test]
fn a_volume_with_another_file_system_in_it_is_not_emptied() {
    let node = Node::new();
    let volume = node.calls.create(node.creation("pvc-1")).unwrap();
    let inner = node.export().join("pvc-1/inner");
    fs::create_dir(&inner).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("t"), &inner, Some("tmpfs"), flags, None::<&str>).unwrap();
    fs::write(inner.join("precious"), "stays").unwrap();
    let refused = node.calls.delete(&volume.volume_id).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(inner.join("precious").exists());
    nix::mount::umount2(&inner, nix::mount::MntFlags::MNT_DETACH).unwrap();
    node.calls.delete(&volume.volume_id).unwrap();
}

#[test]
fn on_delete_says_what_becomes_of_the_content() {
    let node = Node::new();
    for (name, on_delete) in [("kept", "retain"), ("old", "archive")] {
        let volume = node.calls.create(with(node.creation(name), "onDelete", on_delete)).unwrap();
        fs::write(node.export().join(name).join("file"), on_delete).unwrap();
        node.calls.delete(&volume.volume_id).unwrap();
    }
    assert!(node.export().join("kept/file").exists() && !node.export().join("old").exists());
    let archived = names(&node.export()).into_iter().find(|name| name.starts_with("archived-old-")).unwrap();
    assert_eq!(fs::read_to_string(node.export().join(archived).join("file")).unwrap(), "archive");
}

#[test]
fn a_copy_has_the_content_and_is_a_volume_of_its_own() {
    let node = Node::new();
    let first = node.calls.create(node.creation("pvc-1")).unwrap();
    let room = node.export().join("pvc-1");
    let script = "mkdir d; echo one > d/file; chmod 640 d/file; touch -d @1000000000 d/file; ln -s file d/link; chmod 750 d; \
        head -c 3000000 /dev/zero > large; mkfifo fifo";
    done_as_pod(2001, 2001, "", &format!("cd {} && {script}", room.display()));
    let second = node.calls.create(copy_of(node.creation("pvc-2"), &first.volume_id)).unwrap();
    assert_eq!(second.content_source, copy_of(node.creation("x"), &first.volume_id).volume_content_source);
    let copy = node.export().join("pvc-2");
    assert_eq!(names(&copy), names(&room));
    let file = fs::metadata(copy.join("d/file")).unwrap();
    assert_eq!((file.uid(), file.mode() & 0o7777, file.mtime()), (2001, 0o640, 1_000_000_000));
    assert_eq!(fs::metadata(copy.join("d")).unwrap().mode() & 0o777, 0o750);
    assert_eq!(fs::read_link(copy.join("d/link")).unwrap(), Path::new("file"));
    assert_eq!(fs::metadata(copy.join("large")).unwrap().len(), 3_000_000);
    // Asked again, it is there; asked without the content, it is another.
    node.calls.create(copy_of(node.creation("pvc-2"), &first.volume_id)).unwrap();
    assert_eq!(node.calls.create(node.creation("pvc-2")).unwrap_err().code(), Code::AlreadyExists);
}

#[test]
fn a_copy_that_was_interrupted_is_made_whole_by_the_next_call() {
    let node = Node::new();
    let first = node.calls.create(node.creation("pvc-1")).unwrap();
    fs::write(node.export().join("pvc-1/file"), "whole").unwrap();
    let second = node.calls.create(copy_of(node.creation("pvc-2"), &first.volume_id)).unwrap();
    // As a host that died in the middle would have left it.
    let note = node.export().join(".permfs/pvc-2.json");
    let half = fs::read_to_string(&note).unwrap().replace("ready", "making");
    fs::write(&note, half).unwrap();
    fs::write(node.export().join("pvc-2/file"), "ha").unwrap();
    fs::write(node.export().join("pvc-2/rest"), "of before").unwrap();
    assert_eq!(node.calls.create(copy_of(node.creation("pvc-2"), &first.volume_id)).unwrap(), second);
    assert_eq!(names(&node.export().join("pvc-2")), ["file"]);
    assert_eq!(fs::read_to_string(node.export().join("pvc-2/file")).unwrap(), "whole");
}

#[test]
fn volumes_lie_in_the_directory_that_the_storage_class_names() {
    let node = Node::new();
    let request = with(node.creation("pvc-1"), "subDir", "teams/${pvc.metadata.namespace}");
    let request = with(request, "csi.storage.k8s.io/pvc/namespace", "red");
    let volume = node.calls.create(request).unwrap();
    assert!(node.export().join("teams/red/pvc-1").is_dir());
    assert_eq!(volume.volume_context["subDir"], "teams/red/pvc-1");
    let validated = node.calls.run(node.calls.controller().validate_volume_capabilities(
        ValidateVolumeCapabilitiesRequest {
            volume_id: volume.volume_id.clone(),
            volume_capabilities: vec![capability()],
            ..ValidateVolumeCapabilitiesRequest::default()
        },
    ));
    assert!(validated.unwrap().confirmed.is_some());
    node.calls.delete(&volume.volume_id).unwrap();
    assert_eq!(names(&node.export().join("teams/red")), [".permfs"]);
}

#[test]
fn a_share_in_which_the_rules_let_nobody_write_is_told() {
    let node = Node::new();
    chown(node.export(), Some(0), Some(0)).unwrap();
    let refused = node.calls.create(node.creation("pvc-1")).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("2001:2001"), "{refused:?}");
    assert!(names(&node.export()).is_empty());
    let outside = node.calls.create(with(node.creation("pvc-1"), "path", "/etc")).unwrap_err();
    assert_eq!(outside.code(), Code::PermissionDenied);
}

#[test]
fn a_symlink_in_the_place_of_a_volume_is_followed_by_nobody() {
    let node = Node::new();
    let volume = node.calls.create(node.creation("pvc-1")).unwrap();
    let elsewhere = node.target("x").parent().unwrap().to_owned();
    fs::write(elsewhere.join("precious"), "").unwrap();
    fs::remove_dir(node.export().join("pvc-1")).unwrap();
    symlink(&elsewhere, node.export().join("pvc-1")).unwrap();
    assert_eq!(node.calls.delete(&volume.volume_id).unwrap_err().code(), Code::FailedPrecondition);
    assert!(elsewhere.join("precious").exists(), "{}", text(&elsewhere));
}

#[test]
fn what_is_no_note_is_named_and_waited_for_by_nobody() {
    let node = Node::new();
    let volume = node.calls.create(node.creation("pvc-1")).unwrap();
    let note = node.export().join(".permfs/pvc-1.json");
    for spoil in
        ["mkfifo note", "echo '{' > note", "mkdir note", "ln -s /etc/passwd note", "truncate -s 1M note"]
    {
        fs::remove_file(&note).or_else(|_| fs::remove_dir(&note)).unwrap();
        let script = spoil.replace("note", note.to_str().unwrap());
        done_as_pod(2001, 2001, "", &script);
        let begin = std::time::Instant::now();
        let made = node.calls.create(node.creation("pvc-1")).unwrap_err();
        let removed = node.calls.delete(&volume.volume_id).unwrap_err();
        for refused in [made, removed] {
            assert_eq!(refused.code(), Code::FailedPrecondition, "{spoil}: {refused:?}");
            assert!(refused.message().contains("/.permfs/pvc-1.json"), "{spoil}: {refused:?}");
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{spoil}");
    }
    assert!(node.export().join("pvc-1").is_dir());
}

#[test]
fn a_copy_that_cannot_be_made_leaves_nothing_and_names_the_file() {
    let node = Node::new();
    let first = node.calls.create(node.creation("pvc-1")).unwrap();
    let room = node.export().join("pvc-1");
    done_as_pod(2001, 2001, "", &format!("cd {} && mkdir -p a/b && echo 1 > a/file", room.display()));
    for closed in [room.join("a/b"), room.join("a/closed")] {
        fs::create_dir_all(&closed).unwrap();
        chown(&closed, Some(0), Some(0)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let refused = node.calls.create(copy_of(node.creation("pvc-2"), &first.volume_id)).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let name = closed.strip_prefix(&room).unwrap().to_str().unwrap();
        assert!(refused.message().contains(&format!("{name} into ")), "{refused:?}");
        assert_eq!(names(&node.export()), [".permfs", "pvc-1"]);
        assert_eq!(names(&node.export().join(".permfs")), ["pvc-1.json"]);
        fs::remove_dir(&closed).unwrap();
    }
    node.calls.create(copy_of(node.creation("pvc-2"), &first.volume_id)).unwrap();
}

#[test]
fn holes_of_a_copied_file_stay_holes() {
    let node = Node::new();
    let first = node.calls.create(node.creation("pvc-1")).unwrap();
    let room = node.export().join("pvc-1");
    let script = format!(
        "cd {} && truncate -s 1G empty && truncate -s 300M file && echo begin | dd conv=notrunc of=file 2>/dev/null && \
         echo middle | dd conv=notrunc bs=1M seek=100 of=file 2>/dev/null",
        room.display()
    );
    done_as_pod(2001, 2001, "", &script);
    node.calls.create(copy_of(node.creation("pvc-2"), &first.volume_id)).unwrap();
    let copy = node.export().join("pvc-2");
    for (name, most) in [("empty", 1 << 20), ("file", 4 << 20)] {
        let (from, to) = (fs::metadata(room.join(name)).unwrap(), fs::metadata(copy.join(name)).unwrap());
        assert_eq!(from.len(), to.len());
        assert!(from.blocks() * 512 < most, "the test's own file has holes: {}", from.blocks());
        assert!(to.blocks() * 512 < most, "{name}: {} bytes", to.blocks() * 512);
    }
    done_as_pod(2001, 2001, "", &format!("cmp {}/file {}/file", room.display(), copy.display()));
}

#[test]
fn the_copy_of_a_file_that_grows_ends() {
    let node = Node::new();
    let first = node.calls.create(node.creation("pvc-1")).unwrap();
    let file = node.export().join("pvc-1/log");
    fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::File::options().append(true).open(&file).unwrap();
            let chunk = vec![b'x'; 4 << 20];
            while !stop.load(std::sync::atomic::Ordering::Acquire) && log.metadata().unwrap().len() < 2 << 30
            {
                std::io::Write::write_all(&mut log, &chunk).unwrap();
            }
        });
        let outcome = node.calls.create(copy_of(node.creation("pvc-2"), &first.volume_id));
        stop.store(true, std::sync::atomic::Ordering::Release);
        outcome.unwrap();
    });
    let (from, to) =
        (file.metadata().unwrap().len(), fs::metadata(node.export().join("pvc-2/log")).unwrap().len());
    assert!(from < 2 << 30 && to >= 1 << 20 && to <= from, "{to} of {from}");
}

#[test]
fn the_same_name_with_other_terms_is_another_volume() {
    let rules = format!(
        "{RULES}[profile.other]\nuid = [{{ pod = 1, nfs = 2001 }}]\ngid = [{{ pod = 0, nfs = 2001 }}]\n"
    );
    let node = Node::with_rules(&rules);
    let request = with(node.creation("pvc-1"), "profile", "airflow");
    let first = node.calls.create(request.clone()).unwrap();
    for (key, value) in [("onDelete", "retain"), ("profile", "other")] {
        let refused = node.calls.create(with(request.clone(), key, value)).unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    }
    assert_eq!(node.calls.create(request).unwrap(), first);
}

#[test]
fn an_id_that_names_a_plain_directory_removes_nothing() {
    let node = Node::new();
    let volume = node.calls.create(node.creation("pvc-1")).unwrap();
    let precious = node.export().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "stays").unwrap();
    chown(&precious, Some(2001), Some(2001)).unwrap();
    let forged = volume.volume_id.replace("#pvc-1#", "#precious#");
    for forged in [forged.clone(), forged.replace("#delete#", "#archive#")] {
        let refused = node.calls.delete(&forged).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    }
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "stays");
    node.calls.delete(&forged.replace("#delete#", "#retain#")).unwrap();
    assert!(precious.join("file").exists());
}
