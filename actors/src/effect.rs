//! The ports to the outside, and the words that they answer with.
//!
//! A port never decides anything: it does what it is asked, once or several times with the same result, and says what it
//! saw. In particular a backend answers *running*, *not there* or *unknown*, and every error is *unknown* (R10).

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use covalence_events::workspace::{BackendKind, FailureSign, InstanceRef, WorkspaceAccess};
use covalence_events::{Generation, Timestamp, WorkspaceId};
use futures_util::Stream;
use tokio::sync::mpsc;

#[cfg(any(test, feature = "test-support"))]
pub mod conformance;
pub mod files;

use files::{FileError, FilePath, FoundFile, NewFile};

/// Text that never shows up in a log line, an error or an event.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Every use is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Everything that a backend needs to start one generation of one workspace.
#[derive(Clone, Debug)]
pub struct ProvisionSpec {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which provisioning; part of every label and handle.
    pub generation: Generation,
    /// What people call it.
    pub name: String,
    /// Its job description.
    pub role: Option<String>,
    /// 1 to 4: limits and privileges.
    pub tier: u8,
    /// A name of the runtime registry.
    pub runtime: String,
    /// The model that the agent should use.
    pub model: Option<String>,
    /// The template directory that its configuration comes from.
    pub template: Option<String>,
    /// Its parent.
    pub parent: Option<WorkspaceId>,
    /// A host directory to work in; checked against the allowed roots by the edge.
    pub workspace_dir: Option<String>,
    /// What it may do there.
    pub workspace_access: WorkspaceAccess,
    /// Whether the runtime's session is thrown away first (R15).
    pub reset_session: bool,
    /// The bearer token of this generation, for its token file (0600).
    pub token: Secret,
    /// What its agent finds in its environment besides; never in a log line, an error or an equivalent command.
    pub secrets: Vec<(String, Secret)>,
}

/// What runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// The exact instance; none for external workspaces.
    pub instance: Option<InstanceRef>,
    /// Where it answers, seen from the platform.
    pub url: Option<String>,
    /// Privileges of its tier that the operator does not allow, for people to see.
    pub withheld: Vec<String>,
    /// The image or program that it was made from.
    pub image: Option<String>,
}

/// Why a generation could not be started. Nothing of it runs, unless `code` is `outcome_unknown`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProvisionError {
    /// A stable word: `image_missing`, `config_missing`, `engine_unavailable`, `port_taken`, `invalid_config`,
    /// `start_failed`, `outcome_unknown`.
    pub code: &'static str,
    /// For people who may act on it; paths and secrets redacted (R20).
    pub message: String,
    /// Whether trying again without a change can help.
    pub retryable: bool,
    /// The equivalent command to try by hand (R20).
    pub command: Option<String>,
}

impl ProvisionError {
    /// The code of a start of which nobody knows whether it happened.
    pub const OUTCOME_UNKNOWN: &'static str = "outcome_unknown";
}

/// A backend did not do what it was asked; what it runs is as unknown as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct BackendError {
    /// A stable word: `timeout`, `refused`, `eof`, `http_500`, `garbage` and the like.
    pub code: &'static str,
    /// What was being done and what was said, redacted.
    pub detail: String,
}

/// What one look at one instance found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// It runs.
    Running(Provisioned),
    /// The engine or kernel says that it is not there, or there and stopped. The only answer that may lead to a restart.
    NotThere {
        /// A stable word: `not_found`, `exited`, `dead`.
        code: &'static str,
        /// For people.
        detail: String,
        /// Exit status, where there is one; a signal as 128 + its number.
        exit_status: Option<i32>,
    },
    /// Nothing is known: any error whatever.
    Unknown(BackendError),
}

/// One instance of ours in a backend's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The workspace that its labels name; `None` if they name none that is well-formed.
    pub workspace: Option<WorkspaceId>,
    /// The generation that its labels name.
    pub generation: Option<Generation>,
    /// The exact instance.
    pub instance: InstanceRef,
    /// What the backend calls it.
    pub name: String,
    /// Whether it runs, and if not, how it ended.
    pub state: ListedState,
    /// Where it answers, if it runs.
    pub url: Option<String>,
}

/// See [`Listed::state`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedState {
    /// It runs.
    Running,
    /// It is there and stopped.
    Stopped {
        /// Exit status, if the list tells; a signal as 128 + its number.
        exit_status: Option<i32>,
    },
    /// Created, restarting, paused, being removed: says nothing.
    Between,
}

/// What a backend tells unasked. A hint for speed, never the only way to learn something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An instance of ours ended.
    Exited {
        /// Whose.
        workspace: WorkspaceId,
        /// Which provisioning.
        generation: Generation,
        /// The exact instance.
        instance: InstanceRef,
        /// Exit status; a signal as 128 + its number.
        exit_status: Option<i32>,
        /// For people.
        detail: String,
    },
    /// Signals may have been missed: compare by list.
    Gap,
    /// The engine does not answer.
    Lost(BackendError),
    /// The engine answers again; followed by a comparison by list.
    Found,
}

/// Which lines of an instance's output are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The run before the current one.
    pub previous: bool,
    /// Go on as more comes.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u32>,
}

/// Output of an instance, as it comes.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<Bytes, BackendError>> + Send>>;

/// Runs workspaces somehow. Adapters: process, docker, external.
///
/// # Guarantees that every adapter gives
/// - Everything is bounded by the adapter's own timeouts; no call hangs.
/// - `provision` is idempotent by (workspace, generation): if that generation already runs, it is answered, not doubled.
///   Leftovers of older generations of the same workspace are stopped and removed first.
/// - `stop` and `purge` of something that is not there are `Ok`.
/// - No adapter ever restarts anything by itself.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// Which kind it is.
    fn kind(&self) -> BackendKind;

    /// Starts one generation.
    async fn provision(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError>;

    /// Looks for the instance of one generation, by labels; used to finish what a crash interrupted.
    async fn find(&self, workspace: WorkspaceId, generation: Generation) -> Inspection;

    /// Looks at exactly this instance, by its id and nothing else.
    async fn inspect(&self, workspace: WorkspaceId, instance: &InstanceRef) -> Inspection;

    /// Everything of this platform, running or not, in one call.
    async fn list(&self) -> Result<Vec<Listed>, BackendError>;

    /// Stops every instance of the workspace up to and including this generation: gracefully, then by force after `grace`.
    async fn stop(
        &self,
        workspace: WorkspaceId,
        generation: Generation,
        grace: Duration,
    ) -> Result<(), BackendError>;

    /// Removes what a stopped workspace left behind: volumes, directories, logs.
    async fn purge(&self, workspace: WorkspaceId) -> Result<(), BackendError>;

    /// Removes one instance that the log does not know, by its exact id. Only ever asked for by a person.
    async fn remove_stranger(&self, instance: &InstanceRef) -> Result<(), BackendError>;

    /// Starts watching; what is seen goes into the channel, which is bounded: a full one turns into a later `Gap`.
    /// Called once. Ends when the receiver is dropped.
    async fn watch(&self, signals: mpsc::Sender<Signal>);

    /// The instance's output.
    async fn logs(&self, workspace: WorkspaceId, query: LogQuery) -> Result<LogStream, BackendError>;

    /// Puts files into what runs of the workspace, readable by its agent: all of them or an error. What was written before
    /// that may stay, so names that are new each time are for the caller to choose. Unless an adapter says otherwise, nothing
    /// that files could be put into runs here.
    async fn put_files(&self, _workspace: WorkspaceId, _files: Vec<NewFile>) -> Result<(), FileError> {
        Err(FileError::NotRunning)
    }

    /// A file out of what runs of the workspace.
    async fn open_file(&self, _workspace: WorkspaceId, _path: &FilePath) -> Result<FoundFile, FileError> {
        Err(FileError::NotRunning)
    }
}

/// What came of asking an agent for its card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It answered, whatever it said.
    Answered {
        /// With this HTTP status.
        status: u16,
    },
    /// Nobody answered: refused, or nothing within the time.
    Silent {
        /// A stable word: `refused`, `timeout`, `closed`.
        code: &'static str,
        /// For people.
        detail: String,
    },
    /// It was not even asked, by a fault of ours.
    Unknown(BackendError),
}

/// Something that the platform itself says to an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Where the agent answers, as our own backend said; nobody else's address is told anything.
    pub url: String,
    /// The JSON-RPC request.
    pub request: serde_json::Value,
}

/// Why an agent may not know what it was told. Says nothing about whether the agent lives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// It never got the request.
    #[error("not delivered: {0}")]
    NotDelivered(String),
    /// It may have: the answer was late or cut off, or is an error.
    #[error("delivered, perhaps: {0}")]
    Unknown(String),
}

/// A task for an agent, in the name of whoever hands it on.
#[derive(Clone, Debug, PartialEq)]
pub struct Errand {
    /// Where the agent answers.
    pub url: String,
    /// Whether our own backend said so; an address that somebody else states is looked at before it is called (decision 2).
    pub trusted: bool,
    /// The JSON-RPC request.
    pub request: Bytes,
    /// How long the answer may take.
    pub limit: Duration,
}

/// What an agent answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReply {
    /// The HTTP status.
    pub status: u16,
    /// The body, up to [`AgentReply::BODY_MAX`].
    pub body: Bytes,
    /// Whether there was more of it.
    pub cut: bool,
    /// What the failure is recognised by, if it is one (R14).
    pub failure: Option<FailureSign>,
}

impl AgentReply {
    /// Bytes of an answer that are kept (decision 11).
    pub const BODY_MAX: usize = 1 << 20;
}

/// Speaks to agents in the platform's own name.
#[async_trait]
pub trait AgentChannel: Send + Sync + fmt::Debug {
    /// Sends once and waits for the answer, which is bounded in time and size and means nothing but that it came.
    async fn tell(&self, notice: &Notice) -> Result<(), NoticeError>;

    /// Sends once and waits for the answer, within the errand's time.
    async fn send(&self, errand: &Errand) -> Result<AgentReply, NoticeError>;

    /// Asks for the agent's card at its address. Any HTTP answer at all is a sign of life; bounded by `limit`.
    async fn probe(&self, url: &str, limit: Duration) -> Probe;
}

/// One moment, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock, UTC; never runs backwards across our own events (decision 10).
    pub at: Timestamp,
    /// Nanoseconds since our start, on a clock that never jumps.
    pub mono_ns: u64,
}

/// The time of one run of the platform: where the wall clock stood when it began, but not before the last fact of the log,
/// and from there on the clock that never jumps. A wall clock that is set meanwhile moves no deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLine {
    begun: Timestamp,
}

impl TimeLine {
    /// Begins when the wall clock shows this, after a log whose last fact is of this time.
    pub fn new(wall: Timestamp, latest: Option<Timestamp>) -> Self {
        Self { begun: latest.map_or(wall, |latest| latest.max(wall)) }
    }

    /// The moment so long after the beginning, to the microsecond: as facts keep it.
    pub fn at(self, since: Duration) -> Moment {
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let at = self.begun.timestamp_micros().saturating_add(micros);
        Moment {
            // Out of range only beyond the year 262000.
            at: Timestamp::from_timestamp_micros(at).unwrap_or(Timestamp::MAX_UTC),
            mono_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// This moment.
    fn now(&self) -> Moment;
}
