//! Python programs from the public registry: real clients, and stand-ins for services that no machine of ours has.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The interpreter that has them, made by the project's script if it is not there yet.
pub(crate) fn interpreter() -> PathBuf {
    let made = Command::new(root().join("scripts/python-client")).output().expect("the script runs");
    assert!(made.status.success(), "scripts/python-client: {}", String::from_utf8_lossy(&made.stderr));
    PathBuf::from(String::from_utf8_lossy(&made.stdout).trim())
}
