//! Ids typed by the side they belong to, so that no function can mix them up.
//!
//! A pod id and an NFS id are both a `u32` to the kernel. Only [`super::IdMap`] turns one into the other.
//! What exists is valid: 4294967295, which the kernel reads as "no id" (see chown(2)), cannot be constructed.

use std::fmt;

/// A numeric id of one side: what [`super::IdMap`] is generic over.
pub trait Id: Copy + Eq + Ord + fmt::Debug + fmt::Display {
    /// The id, unless it is 4294967295, the kernel's "no id".
    fn new(raw: u32) -> Option<Self>;
    /// The number, for a system call or a message.
    fn get(self) -> u32;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// 0: root, or root's group.
            pub const ROOT: Self = Self(0);
            /// 65534: whom an owner without a rule is shown as (the kernel's overflow id).
            pub const NOBODY: Self = Self(65534);

            /// The id, unless it is 4294967295, the kernel's "no id".
            #[must_use]
            pub const fn new(raw: u32) -> Option<Self> {
                if raw == u32::MAX { None } else { Some(Self(raw)) }
            }

            /// The number, for a system call or a message.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }

            /// Whether this is id 0.
            #[must_use]
            pub const fn is_root(self) -> bool {
                self.0 == 0
            }
        }

        impl Id for $name {
            fn new(raw: u32) -> Option<Self> {
                Self::new(raw)
            }
            fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// A user id as a pod knows it: what the FUSE request carries and `stat` in the pod shows.
    PodUid
}
id! {
    /// A group id as a pod knows it.
    PodGid
}
id! {
    /// A user id as the NFS server knows it: what goes out as fsuid and comes back as a file's owner.
    NfsUid
}
id! {
    /// A group id as the NFS server knows it.
    NfsGid
}
