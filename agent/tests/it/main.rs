//! The agent from outside: real HTTP, real processes, and a small platform that writes down what it is told.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, and the lint sees them as plain code"
)]

mod a2a;
mod command;
mod configuration;
mod golden;
mod own_runtime;
mod platform;
mod process;
mod support;
