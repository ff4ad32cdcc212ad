//! The room in which everything happens: an export of its own, by default an ext4 in memory, and places to mount at. It is
//! taken down when it is dropped, whatever is still mounted in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

/// Who owns the export.
pub const OWNER: (u32, u32) = (2001, 2001);
/// Bytes of the ext4, at most; of a machine's free memory it gets a quarter.
const MAX_DISK: u64 = 4 << 30;
/// How often, 20 ms apart, a mount that is in use is asked to go before it is detached.
const PATIENCE: u32 = 100;

/// See above.
pub struct Export {
    // Dropped after the mounts below it have gone.
    room: TempDir,
    directory: PathBuf,
    /// In words.
    pub place: String,
    /// Last first.
    mounted: Vec<PathBuf>,
}

impl Export {
    /// On an ext4 in memory; where none can be made, on a tmpfs.
    pub fn in_memory() -> Result<Self, String> {
        let mut export = Self::room(&std::env::temp_dir())?;
        let memory = export.new_directory("memory")?;
        let size = MAX_DISK.min(free_memory() / 4);
        export.mount(&["-t", "tmpfs", "-o", &format!("size={}", size + (64 << 20)), "tmpfs"], &memory)?;
        let (disk, directory) = (memory.join("disk"), export.new_directory("disk")?);
        let made = fs::File::create(&disk).and_then(|file| file.set_len(size)).map_err(|e| e.to_string());
        let mounted = made
            .and_then(|()| {
                run(Command::new("mkfs.ext4")
                    .args(["-q", "-F", "-E", "lazy_itable_init=0,nodiscard"])
                    .arg(&disk))
            })
            .and_then(|()| export.mount(&["-o", "loop", &disk.to_string_lossy()], &directory));
        match mounted {
            Ok(()) => (export.place, export.directory) = ("ext4 in memory".to_owned(), directory),
            Err(why) => {
                let _ = fs::remove_file(&disk);
                (export.place, export.directory) =
                    (format!("tmpfs, for want of a loop device ({why})"), memory);
            }
        }
        Ok(export)
    }

    /// Below a directory that is given.
    pub fn below(dir: &Path) -> Result<Self, String> {
        let mut export = Self::room(dir)?;
        export.directory = export.room.path().to_owned();
        export.place = dir.display().to_string();
        Ok(export)
    }

    fn room(parent: &Path) -> Result<Self, String> {
        let room = tempfile::Builder::new().prefix("permfs-bench-mount-").tempdir_in(parent);
        let room = room.map_err(|error| format!("cannot work in {}: {error}", parent.display()))?;
        open_to_all(room.path())?;
        Ok(Self { room, directory: PathBuf::new(), place: String::new(), mounted: Vec::new() })
    }

    /// A directory on the export.
    pub fn on_disk(&self, name: &str, owner: (u32, u32)) -> Result<PathBuf, String> {
        let path = self.directory.join(name);
        make(&path, owner)?;
        Ok(path)
    }

    /// A directory beside it.
    pub fn new_directory(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.room.path().join(name);
        make(&path, (0, 0))?;
        Ok(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// mount(8).
    pub fn mount(&mut self, what: &[&str], at: &Path) -> Result<(), String> {
        run(Command::new("mount").args(what).arg(at))?;
        self.has_mounted(at);
        Ok(())
    }

    /// Somebody has mounted something there, which is to go with the export.
    pub fn has_mounted(&mut self, at: &Path) {
        self.mounted.push(at.to_owned());
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        while let Some(path) = self.mounted.pop() {
            let gone = (0..PATIENCE).any(|turn| {
                if turn > 0 {
                    sleep(Duration::from_millis(20));
                }
                umount2(&path, MntFlags::empty()).is_ok()
            });
            if !gone && let Err(error) = umount2(&path, MntFlags::MNT_DETACH) {
                eprintln!("mount: cannot unmount {}: {error}", path.display());
            }
        }
    }
}

/// Runs a command; what it says is the error where it fails.
pub fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    // A daemon keeps what it inherits, so no pipes.
    let said = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let file = said.reopen().map_err(|error| error.to_string())?;
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(file);
    let status = command.status().map_err(|error| format!("{name}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(said.path()).unwrap_or_default();
    Err(format!("{name}: {status}: {}", said.trim()))
}

fn make(path: &Path, (uid, gid): (u32, u32)) -> Result<(), String> {
    let made = fs::create_dir(path).and_then(|()| chown(path, Some(uid), Some(gid)));
    made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    open_to_all(path)
}

fn open_to_all(path: &Path) -> Result<(), String> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("cannot open {}: {error}", path.display()))
}

/// Bytes; /proc/meminfo counts in KiB.
fn free_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    number.unwrap_or(1 << 20) << 10
}
