//! Stand-in until room/fuse is merged.
#![allow(missing_docs, clippy::todo, unused_variables)]
use crate::backing::BackingFs;
use crate::fs::Filesystem;
use std::path::Path;
use std::sync::Arc;
#[derive(Debug, Clone, Default)]
pub struct MountOptions { pub source: std::ffi::OsString, pub read_only: bool, pub context: Option<String> }
#[derive(Debug)]
pub struct Device;
#[derive(Debug, thiserror::Error)]
#[error("stand-in")]
pub struct MountError;
pub fn mount(target: &Path, options: &MountOptions) -> Result<Device, MountError> { Err(MountError) }
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions { pub threads: usize }
#[derive(Debug)]
pub struct Session;
impl Session {
    pub fn start<B: BackingFs>(device: Device, fs: Arc<Filesystem<B>>, options: SessionOptions) -> Result<Self, MountError> { todo!() }
    pub fn join(self) -> Result<(), crate::sys::Errno> { todo!() }
}
