//! Links `tug` without position independence. A position-independent binary of this size carries about a megabyte of
//! relocated data that every process started from it pays for privately, and a pod has a process (its shim) of it.

fn main() {
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rerun-if-changed=build.rs");
}
