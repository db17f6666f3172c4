//! Makes the gRPC code and the descriptor for reflection from `proto/`, without protoc.

use std::error::Error;
use std::path::PathBuf;

const FOLDER: &str = "proto";
const FILE: &str = "prism/launcher/launcher.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}/{FILE}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new([FOLDER])?;
    compiler.include_imports(true).include_source_info(true).open_file(FILE)?;
    std::fs::write(out.join("launcher.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
