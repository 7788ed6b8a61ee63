//! Where settings come from besides flags: the process, or a map in tests.

use std::path::Path;

/// The surroundings of the process, as far as configuration asks about them.
pub trait Environment {
    /// Value of an environment variable; `None` if unset or not UTF-8.
    fn var(&self, name: &str) -> Option<String>;
    /// Whether this process runs inside a container of its own.
    fn in_container(&self) -> bool;
}

/// The real process environment.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    #[expect(clippy::disallowed_methods, reason = "the one place of this program that reads the environment")]
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn in_container(&self) -> bool {
        // Docker and Podman leave these marks; a FROM scratch image has no more than them and pid 1.
        std::process::id() == 1
            || Path::new("/.dockerenv").exists()
            || Path::new("/run/.containerenv").exists()
    }
}
