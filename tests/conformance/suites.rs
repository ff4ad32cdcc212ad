//! pjdfstest and fsx.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::live::{Backing, Mount, TRANSPARENT};

/// How many operations fsx does.
const FSX_OPERATIONS: u32 = 60_000;

/// Debian has no user `tests`; any two users whose group is their own do.
const PJDFSTEST_CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.01

[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// glibc answers pathconf(_PC_LINK_MAX) from a table of filesystem types, where FUSE has no limit and ext4 65,000.
const LINK_MAX: &str = "link::link_count_max";

/// All that Linux has, mmap reads and writes as often as plain ones. Nothing of no length: posix_fallocate(3) of that is EINVAL on every
/// file system, and fsx says that it is not supported.
const FSX_CONFIG: &str = "
flen = 1048576

[opsize]
min = 1
max = 65536

[weights]
close_open = 1
invalidate = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
truncate = 5
fsync = 0.2
fdatasync = 0.2
posix_fallocate = 1
punch_hole = 1
sendfile = 2
posix_fadvise = 1
copy_file_range = 3
";

#[test]
fn pjdfstest_finds_nothing_in_the_mount_that_it_does_not_find_in_the_directory() {
    let mut mount = Mount::unmounted(Backing::TempDir);
    for name in ["bare", "secondary"] {
        fs::create_dir(mount.outside().join(name)).unwrap();
    }
    let [bare, secondary] = ["bare", "secondary"].map(|name| mount.outside().join(name));
    mount.cover(&secondary, "permfs-pjdfstest-secondary");
    mount.mount(TRANSPARENT);
    let config = mount.outside().join("pjdfstest.toml");
    fs::write(&config, PJDFSTEST_CONFIG).unwrap();

    let expected = pjdfstest(&config, &bare, &secondary);
    let found = pjdfstest(&config, &mount.target(), &secondary);
    println!("bare directory: {}", expected.summary);
    println!("through permfs: {}", found.summary);
    let beyond: Vec<_> = found.failed.difference(&expected.failed).collect();
    assert!(beyond.is_empty(), "these fail only through the mount: {beyond:#?}\n{}", found.output);
    let skipped: Vec<_> =
        found.skipped.difference(&expected.skipped).filter(|name| *name != LINK_MAX).collect();
    assert!(skipped.is_empty(), "the mount skips what the directory does not: {skipped:?}");
    assert!(found.passed > 300, "the suite ran hardly anything: {}", found.summary);
}

#[test]
fn fsx_with_mmap_passes_where_the_kernel_chooses_the_data_path() {
    fsx(TRANSPARENT);
}

#[test]
fn fsx_with_mmap_passes_through_the_page_cache() {
    fsx(&format!("{TRANSPARENT}\n[profile.transparent.cache]\ndata = \"page\"\n"));
}

/// What a run of pjdfstest came to.
struct Verdict {
    summary: String,
    failed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    passed: usize,
    output: String,
}

fn pjdfstest(config: &Path, directory: &Path, secondary: &Path) -> Verdict {
    let ran = Command::new(installed("pjdfstest"))
        .arg("-c")
        .arg(config)
        .arg("-p")
        .arg(directory)
        .arg("-s")
        .arg(secondary)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&ran.stdout).into_owned();
    let ended_with = |word: &str| {
        let cases = output.lines().filter_map(|line| line.strip_suffix(word));
        cases.filter(|line| line.ends_with(' ')).map(|line| line.trim().to_owned()).collect::<BTreeSet<_>>()
    };
    let summary = output.lines().find(|line| line.starts_with("Summary:"));
    let summary = summary.unwrap_or_else(|| panic!("pjdfstest did not finish: {ran:?}")).to_owned();
    let (failed, skipped, passed) = (ended_with("FAILED"), ended_with("skipped"), ended_with("ok").len());
    Verdict { summary, failed, skipped, passed, output }
}

fn fsx(rules: &str) {
    let mount = Mount::of(rules);
    let config = mount.outside().join("fsx.toml");
    fs::write(&config, FSX_CONFIG).unwrap();
    let seed = std::env::var("PERMFS_FSX_SEED")
        .unwrap_or_else(|_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().to_string());
    println!("PERMFS_FSX_SEED={seed}");
    let ran = Command::new(installed("fsx"))
        .arg("-f")
        .arg(&config)
        .args(["-N", &FSX_OPERATIONS.to_string(), "-S", &seed, "-P"])
        .arg(mount.outside())
        .arg(mount.at("fsx"))
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && output.contains("All operations completed A-OK!"),
        "fsx found something; PERMFS_FSX_SEED={seed}\n{output}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let (shown, stored) = (fs::read(mount.at("fsx")).unwrap(), fs::read(mount.stored("fsx")).unwrap());
    assert!(shown == stored, "the mount shows another content than the export has; PERMFS_FSX_SEED={seed}");
}

/// The program of that name, from PATH or where cargo installs.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(PathBuf::from(home).join(".cargo"))
    });
    std::env::split_paths(&path)
        .chain(cargo.map(|cargo| cargo.join("bin")))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{program} is not installed: run the README's test command"))
}
