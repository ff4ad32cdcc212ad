//! Each operation, conducted: fetch, decide, do, present.

mod api;
mod stub;
pub use api::*;
pub use stub::Filesystem;
