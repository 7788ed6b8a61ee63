//! The runtime `command`: one run of the configured program per message.
//!
//! The program comes from the configuration only and is started without a shell; a caller chooses nothing but the
//! text that it gets. Its standard output is the answer (white space at the end removed), success is exit code 0.

use crate::a2a::message::Prompt;
use crate::config::{CommandConfig, CommandInput};
use crate::runtime::process::{self, Job};
use crate::runtime::{Answer, Failure, Runtime};

/// Linux takes no single argument above 128 KiB (`MAX_ARG_STRLEN`), its closing NUL included.
const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;

/// Runs a command for each message.
#[derive(Debug)]
pub struct CommandRuntime {
    config: CommandConfig,
}

impl CommandRuntime {
    /// A runtime for the given command.
    pub fn new(config: CommandConfig) -> Self {
        Self { config }
    }

    async fn run(&self, text: String) -> Result<String, Failure> {
        let mut argv = self.config.argv.clone();
        let stdin = match self.config.input {
            CommandInput::Stdin => Some(text),
            CommandInput::Argument => {
                argv.push(usable_argument(text)?);
                None
            }
        };
        let output = process::run(Job { argv, stdin, timeout: self.config.timeout }).await?;
        Ok(output.trim_end().to_owned())
    }
}

fn usable_argument(text: String) -> Result<String, Failure> {
    if text.contains('\0') {
        return Err(Failure::Unusable("the text has a NUL byte and cannot be an argument".to_owned()));
    }
    if text.len() > ARGUMENT_BYTES_MAX {
        return Err(Failure::Unusable(format!(
            "the text has {} bytes, and an argument at most {ARGUMENT_BYTES_MAX}; `AGENT_COMMAND_INPUT=stdin` \
             has no such limit",
            text.len()
        )));
    }
    Ok(text)
}

impl Runtime for CommandRuntime {
    fn name(&self) -> &'static str {
        "command"
    }

    fn concurrency_max(&self) -> Option<usize> {
        Some(self.config.concurrency_max)
    }

    fn answer(&self, prompt: Prompt) -> Answer<'_> {
        Box::pin(self.run(prompt.text))
    }
}
