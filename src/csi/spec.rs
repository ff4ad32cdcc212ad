//! CSI's messages and services, generated from `proto/csi.proto` by scripts/csi-proto; nothing needs protoc to build.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

include!(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/csi.v1.rs"));
