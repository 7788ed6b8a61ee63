//! Who answers: the port between the server and whatever does the work.

pub mod command;
pub mod echo;
mod process;

use std::fmt::Debug;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::a2a::message::Prompt;
use crate::config::{CommandConfig, Config, RuntimeConfig};

/// The future that a runtime answers with.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send + 'a>>;

/// Answers messages. One instance serves all calls of an agent.
///
/// Assumptions: the future may be dropped at any await (the agent stops), and must then leave nothing running.
/// Caveats: a caller that hangs up does not drop it; the work is finished and its answer lost.
pub trait Runtime: Debug + Send + Sync + 'static {
    /// Short name, shown in the card and the log.
    fn name(&self) -> &'static str;

    /// Calls at one time; the server refuses more as *busy*. `None` means no limit.
    fn concurrency_max(&self) -> Option<usize>;

    /// Answers one message.
    fn answer(&self, prompt: Prompt) -> Answer<'_>;
}

/// Why a runtime did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The message is one that this runtime can never answer; the caller must change it.
    #[error("{0}")]
    Unusable(String),
    /// The program could not be started.
    #[error("command `{program}` did not start: {source}")]
    NotStarted {
        /// The program as configured.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program ended without success.
    #[error("command ended with {}{}", ended(*.status), stderr_note(.stderr))]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// End of its standard error.
        stderr: String,
    },
    /// The program took too long and was killed.
    #[error("command was killed after {} s without an answer{}", .after.as_secs(), stderr_note(.stderr))]
    TimedOut {
        /// The configured limit.
        after: Duration,
        /// End of its standard error.
        stderr: String,
    },
    /// The program wrote more than an answer may have, and was killed.
    #[error("command was killed: its answer has more than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// Reading from or waiting for the program failed.
    #[error("command was lost: {0}")]
    Lost(std::io::Error),
    /// The agent was told to stop and could not wait for the answer.
    #[error("the agent stopped before the answer was ready")]
    Stopped,
    /// The runtime panicked; its other calls are unaffected.
    #[error("the runtime failed on an internal error")]
    Panicked,
}

impl Failure {
    /// Exit code of the program, where it ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exited { status, .. } => status.code(),
            Self::Unusable(_)
            | Self::NotStarted { .. }
            | Self::TimedOut { .. }
            | Self::TooLong { .. }
            | Self::Lost(_)
            | Self::Stopped
            | Self::Panicked => None,
        }
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

fn stderr_note(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// The runtime that the configuration names.
pub fn from_config(config: &Config) -> Arc<dyn Runtime> {
    match &config.runtime {
        RuntimeConfig::Echo => Arc::new(echo::Echo::new(config.workspace_name.clone())),
        RuntimeConfig::Command(command) => {
            Arc::new(command::CommandRuntime::new(CommandConfig::clone(command)))
        }
    }
}
