//! Covalence: a control plane for teams of AI-agent workspaces.

pub mod backends;
pub mod config;
pub mod runtimes;
