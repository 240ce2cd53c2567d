//! Compiles the reaper, a program of its own that the library carries inside (see `src/reaper.rs` for why).
//!
//! By hand, since Cargo cannot embed one target in another: a single file that needs nothing but the C library.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "reaper/main.rs";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rustc-check-cfg=cfg(embedded)");
    let variable = |name| env::var_os(name).unwrap_or_else(|| panic!("Cargo sets {name}"));
    let target = variable("TARGET");
    let output = PathBuf::from(variable("OUT_DIR")).join("caloric-reaper");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "caloric_reaper"]);
    // Without the standard library it is 8 kB instead of 300, and starts in half a millisecond.
    rustc.args(["--cfg", "embedded", "-C", "panic=abort", "-C", "opt-level=s", "-C", "strip=symbols"]);
    rustc.arg("--target").arg(target);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    let status = rustc.arg("-o").arg(output).arg(SOURCE).status();
    assert!(status.is_ok_and(|status| status.success()), "the reaper ({SOURCE}) does not compile");
}
