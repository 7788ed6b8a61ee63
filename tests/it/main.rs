//! The system from outside: the real programs, over HTTP, the command line and the kernel.
//!
//! One file per story. Run them with `scripts/test`, which builds every program first and sees to a Docker engine and a
//! Python client.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helper functions of tests are not seen as tests; a panic is how a test fails, stderr how it explains"
)]

mod cli;
mod dependencies;
mod docker_backend;
mod engine_faults;
mod process_backend;
mod support;
mod tidy;
