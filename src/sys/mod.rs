//! The system calls that std and nix do not offer in the form needed, and the only `unsafe` of the program.
//!
//! This room does and never decides; it names no other room. Each function is one call, or the few that are only sound
//! together, takes what the kernel takes, and answers with an [`Errno`].

#![allow(unsafe_code)]

pub mod errno;
pub mod fuse_dev;
pub mod name;

pub use errno::Errno;
pub use name::Name;
