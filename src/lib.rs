//! Covalence: a control plane for teams of AI-agent workspaces.

pub mod app;
pub mod backends;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod demo;
pub mod http;
pub mod images;
pub mod runtimes;
pub mod shutdown;
pub mod telemetry;
