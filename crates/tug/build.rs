//! How `tug` is linked: without position independence, and with GCC's unwinder in it.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    // A position-independent binary of this size carries about a megabyte of relocated data that every process started
    // from it pays for privately, and a pod has a process (its shim) of it.
    println!("cargo:rustc-link-arg-bins=-no-pie");

    // The standard library asks for `libgcc_s`, which computers without a compiler may lack. This script is found first,
    // and has the linker take the static halves of the same library.
    let directory = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(directory.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
    println!("cargo:rustc-link-search=native={}", directory.display());
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}
