//! A socket's place in the file system: whose it is while somebody answers behind it, and anybody's afterwards.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::wire;

/// Listens at `path`, which is given this mode, in place of who did and is gone. None where somebody answers there.
///
/// # Errors
/// What the system says.
pub fn listen(path: &Path, mode: u32) -> io::Result<Option<UnixListener>> {
    if wire::dial(path).is_ok() {
        return Ok(None);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(Some(listener))
}
