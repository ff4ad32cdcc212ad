//! The structs of the FUSE protocol as they lie in memory, up to 7.45, and the numbers in them.
//!
//! Fields and constants carry the names of `include/uapi/linux/fuse.h`; a test compiles a C program against the
//! machine's own header and compares every size and offset. Only what this program reads or writes is here.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// FUSE_KERNEL_VERSION.
pub(crate) const MAJOR: u32 = 7;
/// FUSE_KERNEL_MINOR_VERSION of the header this was written from.
pub(crate) const MINOR: u32 = 45;

/// Bytes of a message's fixed head, each way.
pub(crate) const IN_HEADER: usize = size_of::<InHeader>();
pub(crate) const OUT_HEADER: usize = size_of::<OutHeader>();

pub(crate) const FATTR_MODE: u32 = 1 << 0;
pub(crate) const FATTR_UID: u32 = 1 << 1;
pub(crate) const FATTR_GID: u32 = 1 << 2;
pub(crate) const FATTR_SIZE: u32 = 1 << 3;
pub(crate) const FATTR_ATIME: u32 = 1 << 4;
pub(crate) const FATTR_MTIME: u32 = 1 << 5;
pub(crate) const FATTR_FH: u32 = 1 << 6;
pub(crate) const FATTR_ATIME_NOW: u32 = 1 << 7;
pub(crate) const FATTR_MTIME_NOW: u32 = 1 << 8;
pub(crate) const FATTR_KILL_SUIDGID: u32 = 1 << 11;

pub(crate) const FUSE_OPEN_KILL_SUIDGID: u32 = 1 << 0;
pub(crate) const FUSE_SETXATTR_ACL_KILL_SGID: u32 = 1 << 0;
pub(crate) const FOPEN_DIRECT_IO: u32 = 1 << 0;
pub(crate) const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// Closes are not told of (7.35, Linux 5.16; before that they are all the same).
pub(crate) const FOPEN_NOFLUSH: u32 = 1 << 5;
pub(crate) const FOPEN_PASSTHROUGH: u32 = 1 << 7;

pub(crate) const FUSE_GETATTR_FH: u32 = 1 << 0;
pub(crate) const FUSE_LK_FLOCK: u32 = 1 << 0;
pub(crate) const FUSE_WRITE_CACHE: u32 = 1 << 0;
pub(crate) const FUSE_WRITE_KILL_SUIDGID: u32 = 1 << 2;
pub(crate) const FUSE_FSYNC_FDATASYNC: u32 = 1 << 0;

/// FUSE_NOTIFY_INVAL_INODE, as it stands in [`OutHeader::error`] of a notification.
pub(crate) const FUSE_NOTIFY_INVAL_INODE: i32 = 2;
/// FUSE_NOTIFY_INC_EPOCH (7.44, Linux 6.16): every name that the kernel knows is to be looked up anew. Has no payload.
pub(crate) const FUSE_NOTIFY_INC_EPOCH: i32 = 8;

/// Where a struct of the C header lies in ours.
#[cfg(test)]
struct Layout {
    c_name: &'static str,
    /// The minor version that brought the struct, or its present size.
    since: u32,
    size: usize,
    fields: &'static [(&'static str, usize)],
}

macro_rules! wire {
    ($($(#[$doc:meta])* $c_name:ident since $minor:literal $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            #[allow(dead_code, reason = "the layout is the kernel's; not every field means something to us")]
            pub(crate) struct $name { $(pub(crate) $field: $kind),* }
        )*

        #[cfg(test)]
        const LAYOUTS: &[Layout] = &[$(Layout {
            c_name: stringify!($c_name),
            since: $minor,
            size: size_of::<$name>(),
            fields: &[$((stringify!($field), std::mem::offset_of!($name, $field))),*],
        }),*];
    };
}

wire! {
    fuse_in_header since 38 InHeader {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32, total_extlen: u16, padding: u16,
    }
    fuse_out_header since 0 OutHeader { len: u32, error: i32, unique: u64 }

    fuse_init_in since 36 InitIn {
        major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11],
    }
    fuse_init_out since 43 InitOut {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16, congestion_threshold: u16,
        max_write: u32, time_gran: u32, max_pages: u16, map_alignment: u16, flags2: u32, max_stack_depth: u32,
        request_timeout: u16, unused: [u16; 11],
    }

    fuse_attr since 32 Attr {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64, atimensec: u32, mtimensec: u32,
        ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    fuse_attr_out since 0 AttrOut { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }
    fuse_entry_out since 0 EntryOut {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32, attr_valid_nsec: u32,
        attr: Attr,
    }
    fuse_sx_time since 39 SxTime { tv_sec: i64, tv_nsec: u32, __reserved: i32 }
    fuse_statx since 39 Statx {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16, __spare0: [u16; 1],
        ino: u64, size: u64, blocks: u64, attributes_mask: u64, atime: SxTime, btime: SxTime, ctime: SxTime,
        mtime: SxTime, rdev_major: u32, rdev_minor: u32, dev_major: u32, dev_minor: u32, __spare2: [u64; 14],
    }
    fuse_statx_in since 39 StatxIn { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32 }
    fuse_statx_out since 39 StatxOut {
        attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: Statx,
    }
    fuse_kstatfs since 0 KStatFs {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32, frsize: u32,
        padding: u32, spare: [u32; 6],
    }

    fuse_forget_in since 0 ForgetIn { nlookup: u64 }
    fuse_forget_one since 16 ForgetOne { nodeid: u64, nlookup: u64 }
    fuse_batch_forget_in since 16 BatchForgetIn { count: u32, dummy: u32 }
    fuse_getattr_in since 9 GetattrIn { getattr_flags: u32, dummy: u32, fh: u64 }
    fuse_setattr_in since 23 SetattrIn {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    fuse_mknod_in since 12 MknodIn { mode: u32, rdev: u32, umask: u32, padding: u32 }
    fuse_mkdir_in since 12 MkdirIn { mode: u32, umask: u32 }
    fuse_rename_in since 0 RenameIn { newdir: u64 }
    fuse_rename2_in since 23 Rename2In { newdir: u64, flags: u32, padding: u32 }
    fuse_link_in since 0 LinkIn { oldnodeid: u64 }

    fuse_open_in since 33 OpenIn { flags: u32, open_flags: u32 }
    fuse_create_in since 33 CreateIn { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    fuse_open_out since 40 OpenOut { fh: u64, open_flags: u32, backing_id: i32 }
    fuse_release_in since 8 ReleaseIn { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    fuse_flush_in since 7 FlushIn { fh: u64, unused: u32, padding: u32, lock_owner: u64 }
    fuse_read_in since 9 ReadIn {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    fuse_write_in since 9 WriteIn {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    fuse_write_out since 0 WriteOut { size: u32, padding: u32 }
    fuse_fsync_in since 0 FsyncIn { fh: u64, fsync_flags: u32, padding: u32 }
    fuse_fallocate_in since 19 FallocateIn { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    fuse_lseek_in since 24 LseekIn { fh: u64, offset: u64, whence: u32, padding: u32 }
    fuse_lseek_out since 24 LseekOut { offset: u64 }
    fuse_copy_file_range_in since 28 CopyFileRangeIn {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    }
    fuse_copy_file_range_out since 45 CopyFileRangeOut { bytes_copied: u64 }

    fuse_setxattr_in since 33 SetxattrIn { size: u32, flags: u32, setxattr_flags: u32, padding: u32 }
    fuse_getxattr_in since 0 GetxattrIn { size: u32, padding: u32 }
    fuse_getxattr_out since 0 GetxattrOut { size: u32, padding: u32 }

    fuse_file_lock since 0 FileLock { start: u64, end: u64, r#type: u32, pid: u32 }
    fuse_lk_in since 9 LkIn { fh: u64, owner: u64, lk: FileLock, lk_flags: u32, padding: u32 }
    fuse_lk_out since 0 LkOut { lk: FileLock }

    fuse_access_in since 3 AccessIn { mask: u32, padding: u32 }
    fuse_interrupt_in since 7 InterruptIn { unique: u64 }
    fuse_dirent since 0 Dirent { ino: u64, off: u64, namelen: u32, r#type: u32 }
    fuse_notify_inval_inode_out since 12 NotifyInvalInodeOut { ino: u64, off: i64, len: i64 }
}

/// FUSE_COMPAT_SETXATTR_IN_SIZE: [`SetxattrIn`] where FUSE_SETXATTR_EXT was not agreed on.
pub(crate) const COMPAT_SETXATTR_IN: usize = 8;

/// What CREATE is answered with.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct CreateOut {
    pub(crate) entry: EntryOut,
    pub(crate) open: OpenOut,
}

/// FUSE_REC_ALIGN: records of variable length begin at multiples of eight bytes.
pub(crate) const fn record_size(length: usize) -> usize {
    length.next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::process::Command;

    use super::*;

    /// A C program that prints a line for each struct of [`LAYOUTS`] that the header on this machine has.
    fn c_program() -> String {
        let mut c = String::from(
            "#include <linux/fuse.h>\n#include <stdio.h>\n#include <stddef.h>\nint main(void) {\n",
        );
        for layout in LAYOUTS {
            let name = layout.c_name;
            writeln!(c, "#if FUSE_KERNEL_MINOR_VERSION >= {}", layout.since).unwrap();
            // A struct that ends in `char name[]` has the size up to there.
            writeln!(c, "printf(\"{name} %zu\", sizeof(struct {name}));").unwrap();
            for (field, _) in layout.fields {
                let field = field.trim_start_matches("r#");
                writeln!(c, "printf(\" %zu\", offsetof(struct {name}, {field}));").unwrap();
            }
            writeln!(c, "printf(\"\\n\");\n#endif").unwrap();
        }
        c.push_str("return 0; }\n");
        c
    }

    #[test]
    fn every_struct_lies_in_memory_as_the_c_header_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let (source, program) = (dir.path().join("layout.c"), dir.path().join("layout"));
        std::fs::write(&source, c_program()).unwrap();
        let built =
            Command::new("cc").arg("-o").arg(&program).arg(&source).output().expect("a C compiler, cc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let printed = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
        let mut compared = 0;
        for line in printed.lines() {
            let (name, numbers) = line.split_once(' ').unwrap();
            let layout = LAYOUTS.iter().find(|layout| layout.c_name == name).unwrap();
            let ours: Vec<String> = std::iter::once(layout.size)
                .chain(layout.fields.iter().map(|(_, offset)| *offset))
                .map(|number| number.to_string())
                .collect();
            assert_eq!(numbers, ours.join(" "), "{name}: size, then offsets of {:?}", layout.fields);
            compared += 1;
        }
        assert!(
            compared >= 35,
            "the header on this machine has only {compared} of {} structs",
            LAYOUTS.len()
        );
    }

    #[test]
    fn structs_newer_than_the_machines_header_have_the_sizes_of_7_45() {
        let sizes = [
            (size_of::<InHeader>(), 40),
            (size_of::<InitOut>(), 64),
            (size_of::<SxTime>(), 16),
            (size_of::<Statx>(), 256),
            (size_of::<StatxIn>(), 24),
            (size_of::<StatxOut>(), 288),
            (size_of::<OpenOut>(), 16),
            (size_of::<CreateOut>(), 144),
            (size_of::<CopyFileRangeOut>(), 8),
        ];
        for (ours, theirs) in sizes {
            assert_eq!(ours, theirs);
        }
    }
}
