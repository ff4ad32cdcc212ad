//! Makes the mount: opens `/dev/fuse` and calls mount(2). Nothing answers there until a session is started on it.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::device::Device;
use super::negotiate::MAX_WRITE;
use crate::fs::Errno;

/// Where the kernel's FUSE is reached.
const DEVICE: &str = "/dev/fuse";

/// What `/proc/mounts` shows as the type: fuse, with a subtype.
const FILE_SYSTEM_TYPE: &str = "fuse.permfs";

/// How to mount. nosuid and nodev always hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// What `/proc/mounts` shows as the source; any text, since mount(2) takes it apart from the options and the kernel
    /// escapes it there.
    pub source: String,
    /// Nothing can be changed through the mount.
    pub read_only: bool,
    /// Nothing can be executed from the mount.
    pub no_exec: bool,
    /// The SELinux label that everything in the mount carries, e.g. `system_u:object_r:container_file_t:s0`.
    pub selinux_context: Option<String>,
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel has no FUSE, or the container was not given it.
    #[error(
        "{DEVICE} does not exist: load the module with `modprobe fuse`, or give the device to the container"
    )]
    NoDevice,
    /// The device is there, but not for us.
    #[error(
        "{DEVICE} cannot be opened ({0}): permfs needs root, and in a container the device must be allowed"
    )]
    DeviceRefused(Errno),
    /// The kernel knows no file system called fuse.
    #[error("the kernel has no fuse file system: load the module with `modprobe fuse`")]
    NoFileSystem,
    /// mount(2) is not allowed.
    #[error("mounting on {0} is not permitted: permfs needs root with CAP_SYS_ADMIN")]
    NotPermitted(PathBuf),
    /// The target is not there.
    #[error("{0} does not exist: create the directory first")]
    NoTarget(PathBuf),
    /// The target is something else than a directory.
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    /// The target's last mount lost its daemon.
    #[error("{0} is a mount whose daemon is gone: unmount it first")]
    DeadMount(PathBuf),
    /// A label that cannot be passed to the kernel.
    #[error("the SELinux context {0:?} has a quotation mark or a NUL in it")]
    BadContext(String),
    /// The source or the target has a NUL in it, or the kernel refuses an option.
    #[error("the kernel refuses the mount on {0}, or one of its options ({1})")]
    Refused(PathBuf, Errno),
}

/// Mounts on `target`.
///
/// # Errors
/// Says in a sentence what is missing; nothing is left mounted.
pub fn mount(target: &Path, options: &MountOptions) -> Result<Device, MountError> {
    // A context that the kernel must not see is the one thing wrong before anything is opened.
    let context = options.selinux_context.as_deref().map(checked_context).transpose()?;
    let device = open_device()?;
    let data = mount_data(device.as_raw_fd(), context);
    let source = if options.source.is_empty() { "permfs" } else { options.source.as_str() };
    nix::mount::mount(Some(source), target, Some(FILE_SYSTEM_TYPE), flags(options), Some(data.as_str()))
        .map_err(|error| mount_error(target, error.into()))?;
    Ok(Device::from(device))
}

fn open_device() -> Result<File, MountError> {
    OpenOptions::new().read(true).write(true).open(DEVICE).map_err(|error| match Errno::from(error) {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => MountError::NoDevice,
        error => MountError::DeviceRefused(error),
    })
}

fn mount_error(target: &Path, error: Errno) -> MountError {
    let target = target.to_path_buf();
    match error {
        Errno::EPERM | Errno::EACCES => MountError::NotPermitted(target),
        Errno::ENODEV => MountError::NoFileSystem,
        Errno::ENOENT => MountError::NoTarget(target),
        Errno::ENOTDIR => MountError::NotADirectory(target),
        Errno::ENOTCONN => MountError::DeadMount(target),
        error => MountError::Refused(target, error),
    }
}

fn flags(options: &MountOptions) -> MsFlags {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    flags.set(MsFlags::MS_NOEXEC, options.no_exec);
    flags
}

/// Options are separated by commas, which a label with categories has too: hence the quotation marks, and hence none
/// inside.
fn checked_context(context: &str) -> Result<&str, MountError> {
    if context.contains(['"', '\0']) { Err(MountError::BadContext(context.to_owned())) } else { Ok(context) }
}

fn mount_data(device: i32, context: Option<&str>) -> String {
    // The root's mode here says only that it is a directory. user_id is the mount's owner, not the files'.
    let mut data = format!(
        "fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={MAX_WRITE}"
    );
    if let Some(context) = context {
        data.push_str(&format!(",context=\"{context}\""));
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_say_what_the_kernel_needs() {
        assert_eq!(
            mount_data(5, None),
            "fd=5,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=1048576"
        );
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        assert!(mount_data(5, Some(label)).ends_with(&format!(",context=\"{label}\"")));
    }

    #[test]
    fn a_label_cannot_smuggle_in_an_option() {
        for bad in ["a\",suid", "\"", "a\0"] {
            assert!(matches!(checked_context(bad), Err(MountError::BadContext(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_mount_is_always_nosuid_and_nodev() {
        let always = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        assert_eq!(flags(&MountOptions::default()), always);
        let all = MountOptions { read_only: true, no_exec: true, ..MountOptions::default() };
        assert_eq!(flags(&all), always | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC);
    }

    #[test]
    fn each_failure_says_what_to_do() {
        let target = Path::new("/mnt/x");
        for (error, says) in [
            (Errno::EPERM, "CAP_SYS_ADMIN"),
            (Errno::ENODEV, "modprobe fuse"),
            (Errno::ENOENT, "/mnt/x does not exist"),
            (Errno::ENOTDIR, "not a directory"),
            (Errno::ENOTCONN, "unmount it first"),
            (Errno::EINVAL, "options"),
        ] {
            let sentence = mount_error(target, error).to_string();
            assert!(sentence.contains(says), "{sentence}");
        }
    }
}
