//! The kinds of request, by the kernel's numbers.

macro_rules! opcodes {
    ($($name:ident $label:literal = $number:literal),* $(,)?) => {
        /// FUSE_* of `enum fuse_opcode`. One that is not here is answered with ENOSYS, which the kernel takes for "never
        /// ask again".
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Opcode { $($name = $number),* }

        impl Opcode {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// As it stands in counters and messages.
            pub(crate) const fn label(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }
        }
    };
}

opcodes! {
    Lookup "lookup" = 1, Forget "forget" = 2, Getattr "getattr" = 3, Setattr "setattr" = 4, Readlink "readlink" = 5,
    Symlink "symlink" = 6, Mknod "mknod" = 8, Mkdir "mkdir" = 9, Unlink "unlink" = 10, Rmdir "rmdir" = 11,
    Rename "rename" = 12, Link "link" = 13, Open "open" = 14, Read "read" = 15, Write "write" = 16,
    Statfs "statfs" = 17, Release "release" = 18, Fsync "fsync" = 20, Setxattr "setxattr" = 21,
    Getxattr "getxattr" = 22, Listxattr "listxattr" = 23, Removexattr "removexattr" = 24, Flush "flush" = 25,
    Init "init" = 26, Opendir "opendir" = 27, Readdir "readdir" = 28, Releasedir "releasedir" = 29,
    Fsyncdir "fsyncdir" = 30, Getlk "getlk" = 31, Setlk "setlk" = 32, Setlkw "setlkw" = 33, Access "access" = 34,
    Create "create" = 35, Interrupt "interrupt" = 36, Bmap "bmap" = 37, Destroy "destroy" = 38, Ioctl "ioctl" = 39,
    Poll "poll" = 40, NotifyReply "notify_reply" = 41, BatchForget "batch_forget" = 42, Fallocate "fallocate" = 43,
    Readdirplus "readdirplus" = 44, Rename2 "rename2" = 45, Lseek "lseek" = 46,
    CopyFileRange "copy_file_range" = 47, SetupMapping "setupmapping" = 48, RemoveMapping "removemapping" = 49,
    Syncfs "syncfs" = 50, Tmpfile "tmpfile" = 51, Statx "statx" = 52, CopyFileRange64 "copy_file_range_64" = 53,
}

impl Opcode {
    /// One past the greatest number.
    pub(crate) const BOUND: usize = 54;

    /// A place in an array of [`Self::BOUND`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether the kernel waits for an answer.
    pub(crate) const fn is_answered(self) -> bool {
        !matches!(self, Self::Forget | Self::BatchForget | Self::Interrupt | Self::NotifyReply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_has_a_place_of_its_own_below_the_bound() {
        let mut seen = [false; Opcode::BOUND];
        for &opcode in Opcode::ALL {
            let raw = u32::try_from(opcode.index()).unwrap();
            assert_eq!(Opcode::from_raw(raw), Some(opcode));
            assert!(!std::mem::replace(&mut seen[opcode.index()], true), "{opcode:?}");
        }
        assert_eq!(Opcode::from_raw(0), None);
        assert_eq!(Opcode::from_raw(4096), None);
    }
}
