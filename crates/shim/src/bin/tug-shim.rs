//! The shim alone, as a program: `tug-shim shim --dir DIR`. The engine's tests start it in place of `tug`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tug_shim::main(std::env::args().skip(2))
}
