//! The runtime `echo`: answers what it was told, with the workspace's name. For demos, tests and measurements.

use std::future::ready;

use crate::a2a::message::Prompt;
use crate::runtime::{Answer, Runtime};

/// Answers `echo <workspace name>: <text>`.
#[derive(Debug)]
pub struct Echo {
    workspace_name: String,
}

impl Echo {
    /// An echo that calls itself `workspace_name`.
    pub fn new(workspace_name: String) -> Self {
        Self { workspace_name }
    }
}

impl Runtime for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn concurrency_max(&self) -> Option<usize> {
        None
    }

    fn answer(&self, prompt: Prompt) -> Answer<'_> {
        Box::pin(ready(Ok(format!("echo {}: {}", self.workspace_name, prompt.text))))
    }
}
