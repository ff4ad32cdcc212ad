//! Makes `proto/csi.v1.rs` of `proto/csi.proto`, without protoc. Run it from the project's root after a change:
//! `cargo run --manifest-path scripts/csi-proto/Cargo.toml`; with `--check` it only compares.

use std::error::Error;
use std::{env, fs, process};

const PROTO: &str = "proto/csi.proto";
const GENERATED: &str = "proto/csi.v1.rs";

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::temp_dir().join(format!("csi-proto-{}", process::id()));
    fs::create_dir(&out)?;
    let files = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure()
        .out_dir(&out)
        // Clients over any transport, for the tests.
        .build_transport(false)
        .compile_fds(files)?;
    let made = fs::read_to_string(out.join("csi.v1.rs"))?;
    fs::remove_dir_all(&out)?;
    if env::args().any(|argument| argument == "--check") {
        let same = fs::read_to_string(GENERATED)? == made;
        println!("{GENERATED} {}", if same { "is what csi.proto makes" } else { "is NOT what csi.proto makes" });
        process::exit(i32::from(!same));
    }
    fs::write(GENERATED, made)?;
    Ok(())
}
