//! The system from outside: the real programs, over HTTP, the command line and the kernel.
//!
//! One file per story. `support` holds what at least three stories share. Run them with `scripts/test`, which builds every
//! program first and sees to a Docker engine and a Python client.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helper functions of tests are not seen as tests; a panic is how a test fails, stderr how it explains"
)]

mod a2a_client;
mod cli;
mod clients;
mod coordination;
mod damaged;
mod demo;
mod dependencies;
mod docker_backend;
mod engine_faults;
mod erasure;
mod explained;
mod failed_sync;
mod flight;
mod full_disk;
mod golden;
mod graceful_restart;
mod incidents;
mod kill_and_heal;
mod log_backup;
mod mass_death;
mod master_key;
mod operator;
mod panic_boundary;
mod platform_crash;
mod process_backend;
mod provision_failures;
mod readme;
mod reboot;
mod replay_terminal;
mod restart_context;
mod rolled_up;
mod roster_and_actor;
mod s3;
mod second_server;
mod secrets;
mod storm;
mod subscriptions;
mod support;
mod tidy;
