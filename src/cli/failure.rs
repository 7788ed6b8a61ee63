//! How a command ends when it does not end well: an exit code that scripts can rely on, a text, and perhaps a hint.

use std::fmt;
use std::process::ExitCode;

/// What the process tells its caller. Documented in `docs/cli.md`; never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Something went wrong.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// Its current state does not allow it.
    Refused = 4,
    /// The server can't be reached.
    Unreachable = 5,
    /// The server does not know us, or does not let us.
    Unauthorised = 6,
    /// It did not happen in time.
    TimedOut = 7,
    /// The server is busy; trying again later can help.
    Busy = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened, with its causes.
    pub error: anyhow::Error,
    /// What a person can try.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with this code and text.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{message}"), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it only says that nobody reads our output any more, as in `covalence events | head`.
    pub fn is_broken_pipe(&self) -> bool {
        let kinds = self.error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
        kinds.into_iter().any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::Failure, error, hint: None }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self { exit: Exit::Usage, error: error.into(), hint: None }
    }
}

/// What commands return.
pub type Outcome<T = ()> = Result<T, Failure>;
