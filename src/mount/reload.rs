//! `permfs reload`, from outside: finds the process that serves a mount and asks it.

use std::path::Path;
use std::time::Duration;

use super::MountFailure;
use super::control::{Ask, ask};
use super::reloader::Reloaded;
use super::runtime::RuntimeDir;
use super::table::MountTable;

/// How long a reload may take: reading a file, and a notification to the kernel for each inode that it knows, of which
/// there may be millions.
pub const RELOAD_PATIENCE: Duration = Duration::from_secs(60);

/// Has the rules of the mount on `target` read anew, for which its process may take so long.
///
/// # Errors
/// Where no permfs mount is there, or its process does not answer.
pub fn reload(target: &Path, patience: Duration) -> Result<Reloaded, MountFailure> {
    let table = MountTable::read()?;
    let entry = table.find_permfs(target)?;
    let trace = RuntimeDir::from_env().known(entry)?;
    ask(&trace.control(), &Ask::Reload, patience)
        .map_err(|error| MountFailure::NoAnswer { path: entry.target.clone(), why: error.to_string() })
}
