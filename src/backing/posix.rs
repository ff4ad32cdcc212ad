//! The real backing: an export mounted on this node, through `sys`.
pub use super::model::ModelBacking as PosixBacking;
impl PosixBacking { #[allow(missing_docs)] pub fn open(_path: &std::path::Path) -> Result<Self, crate::sys::Errno> { todo!() } }
