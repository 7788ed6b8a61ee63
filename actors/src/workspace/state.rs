//! What is known of one workspace: the fold of its stream.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use covalence_events::seal::ERASED;
use covalence_events::workspace::{
    Assigned, BackendKind, Created, DeliveryMode, EvidenceSource, InstanceRef, ProvisionOrigin, RestartCause,
    StopReason, TokenIssued, TokenPurpose,
};
use covalence_events::{BootId, EventId, Generation, Position, RestartId, Timestamp, TokenId, WorkspaceId};

use crate::policy::phi::Beats;

use super::delegations::Delegations;
use super::inbox::Inbox;
use super::queue::Queue;
use super::session::Session;

/// The wire status (contract 0.5; decision 19 maps supervision onto it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// A generation is being started and has not been heard from.
    Provisioning,
    /// It answers.
    Online,
    /// Nobody answers for it.
    Offline,
    /// It answers, but badly.
    Degraded,
    /// It could not be started, or the supervisor gave up on it.
    Failed,
    /// A person stopped it.
    Paused,
    /// It is being stopped until somebody needs it.
    Hibernating,
    /// It is stopped until somebody needs it.
    Hibernated,
    /// It is gone for good.
    Removed,
    /// External, created without a URL, never heard from.
    AwaitingAgent,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Hibernating => "hibernating",
            Self::Hibernated => "hibernated",
            Self::Removed => "removed",
            Self::AwaitingAgent => "awaiting_agent",
        }
    }

    /// Whether the agent is believed to answer.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Online | Self::Degraded)
    }

    /// Whether it is stopped, or about to be, until somebody needs it.
    pub const fn is_asleep(self) -> bool {
        matches!(self, Self::Hibernating | Self::Hibernated)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the backend was asked for and has said about the current generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instance {
    /// Nothing of ours should run: never started, stopped, proved dead, or not ours to run.
    None,
    /// A start was asked for and has no outcome.
    Starting {
        /// The fact that asked.
        requested: EventId,
        /// Why.
        origin: ProvisionOrigin,
        /// Whether the session is thrown away first.
        reset_session: bool,
    },
    /// The backend said that it runs.
    Running {
        /// The exact instance; none for external workspaces.
        instance: Option<InstanceRef>,
    },
    /// A stop was asked for and has no outcome.
    Stopping {
        /// The fact that asked.
        requested: EventId,
        /// Why.
        reason: StopReason,
        /// The backend could not; asked again at the next start, by the next list that shows it, or by a person.
        failed: bool,
    },
    /// A start or a stop was asked for, and the backend can't say what became of it. Lists will tell; until then nothing
    /// else is asked for (rule V6).
    Unknown {
        /// Since when.
        since: Timestamp,
        /// What it was.
        operation: Operation,
    },
}

/// What the backend was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A start.
    Provision {
        /// The fact that asked.
        requested: EventId,
        /// Why.
        origin: ProvisionOrigin,
    },
    /// A stop.
    Stop {
        /// The fact that asked.
        requested: EventId,
        /// Why.
        reason: StopReason,
    },
}

/// An instance that was pronounced dead, until another one is started: a fresh look may refute it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Which.
    pub instance: InstanceRef,
    /// Where it answered.
    pub url: Option<String>,
}

/// A restarted workspace that has been heard from, and has not proved itself yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probation {
    /// The restart.
    pub restart: RestartId,
    /// Since when it has been well.
    pub since: Timestamp,
}

/// A restart from its request to its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRestart {
    /// Its name.
    pub restart: RestartId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// The fact that asked.
    pub requested: EventId,
    /// Whether the session is thrown away first.
    pub reset_session: bool,
    /// Whether a person asked to pass over holds.
    pub forced: bool,
    /// Where the fleet's stream admits it, while a fresh look at the instance is under way, and the fact that asks for it.
    pub confirming: Option<(Position, EventId)>,
    /// The same, once it has begun.
    pub admission: Option<Position>,
    /// What it waits for, while the calls of what it replaces may finish.
    pub drain: Option<Drain>,
}

impl PendingRestart {
    /// Whether it replaces something that works. What died or hangs has nothing to finish.
    pub const fn is_graceful(&self) -> bool {
        matches!(self.cause, RestartCause::Operator | RestartCause::Configuration | RestartCause::Session)
    }
}

/// Open calls may finish, and no new ones come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The fact that asked.
    pub requested: EventId,
    /// Since when.
    pub since: Timestamp,
}

/// A restart that ended well, and that the agent has not been told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untold {
    /// Its name.
    pub restart: RestartId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// The fact that ended it.
    pub online: EventId,
    /// When that was.
    pub restarted: Timestamp,
}

/// An assignment on its way to another workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// What moves.
    pub assigned: Assigned,
    /// Where to.
    pub to: WorkspaceId,
    /// The fact that asked.
    pub requested: EventId,
}

/// A token that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveToken {
    /// Its public name.
    pub token: TokenId,
    /// What it was made for.
    pub purpose: TokenPurpose,
    /// The generation that it speaks for, if any.
    pub generation: Option<Generation>,
}

/// Everything that decisions about one workspace rest on.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that is known, beside the states that are enums"
)]
pub struct State {
    /// Which.
    pub id: WorkspaceId,
    /// What the role is.
    pub profile: Created,
    /// Its wire status.
    pub status: Status,
    /// Since when.
    pub status_since: Timestamp,
    /// The current provisioning; 0 before the first.
    pub generation: Generation,
    /// What the backend was asked for and has said.
    pub instance: Instance,
    /// The fact that asked for the current generation.
    pub provision: Option<EventId>,
    /// Where the agent answers.
    pub url: Option<String>,
    /// Whether our own backend said so.
    pub url_trusted: bool,
    /// How messages reach the agent.
    pub delivery_mode: Option<DeliveryMode>,
    /// Whether a card is known.
    pub has_card: bool,
    /// Working tokens.
    pub tokens: Vec<LiveToken>,
    /// When it was created.
    pub created: Timestamp,
    /// Until when its agent may fetch its first token, where somebody said so.
    pub enrolment: Option<Timestamp>,
    /// When a registration was last refused, as far as it was recorded.
    pub refused: Option<Timestamp>,
    /// The last sign of life of the current generation.
    pub last_life: Option<Timestamp>,
    /// The restart under way.
    pub restart: Option<PendingRestart>,
    /// Whether it was stopped together with the platform and has not been started since.
    pub shut_down: bool,
    /// The restart that the running agent has not been told of.
    pub untold: Option<Untold>,
    /// The last sign of life of the generation before.
    pub previous_life: Option<Timestamp>,
    /// The intervals of its heartbeats.
    pub beats: Beats,
    /// Tasks under way, as the agent of the current generation says.
    pub active_tasks: u32,
    /// The last heartbeat of the current generation, and the run of the platform that took it; none once something spoke against
    /// the workspace, so that what follows an outage is not taken for its rhythm.
    pub last_beat: Option<(Timestamp, BootId)>,
    /// What speaks against it, and since when.
    pub doubts: BTreeMap<EvidenceSource, Timestamp>,
    /// Whether it was said that a verdict on its silence is withheld.
    pub withheld: bool,
    /// The instance that was last pronounced dead.
    pub lost: Option<Lost>,
    /// After a restart, until it has proved itself.
    pub probation: Option<Probation>,
    /// The restart that it has last proved itself after, and the fact that says so.
    pub proved: Option<(RestartId, EventId)>,
    /// What the supervisor's wish for it to run again rests on, until it is started or somebody decides otherwise.
    pub owed: Option<Vec<EventId>>,
    /// Whether the supervisor gave up on it.
    pub quarantined: bool,
    /// Whether what persons and agents said in its facts was made unreadable.
    pub erased: bool,
    /// What calls say about the runtime's session.
    pub session: Session,
    /// Its secrets, sealed, by name.
    pub secrets: BTreeMap<String, String>,
    /// When its current generation was asked for: what is set later it has not got.
    pub provisioned: Option<Timestamp>,
    /// What waits for its agent to be fetched.
    pub inbox: Inbox,
    /// Calls that wait until its agent has time.
    pub queue: Queue,
    /// Tasks that it handed to others.
    pub delegations: Delegations,
    /// The model that is assigned to it.
    pub agent: Option<Assigned>,
    /// Whom it was said to have below it since its team was last taken away.
    pub team: BTreeSet<WorkspaceId>,
    /// The assignment that moves to another workspace, and is not known to be there.
    pub moving: Option<Moving>,
    /// How far its agent has done with its feed.
    pub acked: u64,
}

impl State {
    /// What can't be read in the log any more is not kept here either: the same, whether the key was gone when it was read or not.
    pub(super) fn erase(&mut self) {
        self.erased = true;
        ERASED.clone_into(&mut self.profile.name);
        let stated = (!self.url_trusted).then_some(&mut self.url).into_iter().flatten();
        let profile = &mut self.profile;
        let texts = profile
            .role
            .iter_mut()
            .chain(&mut profile.entry)
            .chain(&mut profile.workspace_dir)
            .chain(&mut profile.url);
        texts.chain(stated).for_each(|text| ERASED.clone_into(text));
        self.session = Session::default();
        self.secrets.clear();
        self.inbox = Inbox::default();
        self.queue = Queue::default();
        self.delegations = Delegations::default();
    }

    /// Whether somebody else runs it.
    pub fn is_external(&self) -> bool {
        self.profile.backend == BackendKind::External
    }

    /// Whether its agent fetches its messages: it said so, or there is nowhere to bring them to.
    pub fn polls(&self) -> bool {
        self.delivery_mode == Some(DeliveryMode::Poll)
            || (self.is_external() && self.delivery_mode.is_none() && self.url.is_none())
    }

    /// Whether a sign of life that names this generation (or none) speaks for what should be running now. After proof
    /// of death it does not: a beat that was under way when the process died must not resurrect it. What is stopped because it
    /// hangs is listened to until it has stopped.
    pub fn hears(&self, generation: Option<Generation>) -> bool {
        if self.is_external() {
            return !matches!(self.status, Status::Removed);
        }
        let listens = match self.instance {
            Instance::Starting { .. } | Instance::Running { .. } => true,
            Instance::Stopping { reason, .. }
            | Instance::Unknown { operation: Operation::Stop { reason, .. }, .. } => {
                reason == StopReason::Restart
            }
            Instance::None | Instance::Unknown { .. } => false,
        };
        listens && generation.is_none_or(|named| named == self.generation)
    }

    /// The last sign of life, or what stands for it.
    pub fn last_heard(&self) -> Timestamp {
        self.last_life.unwrap_or(self.status_since)
    }

    /// Since when nothing was heard of it, where `since` is when somebody began to listen.
    pub fn heard(&self, since: Timestamp) -> Timestamp {
        self.last_heard().max(since)
    }

    pub(super) fn issue(&mut self, e: &TokenIssued) {
        self.tokens.push(LiveToken { token: e.token, purpose: e.purpose, generation: e.generation });
    }

    /// All of them where none is named.
    pub(super) fn revoke(&mut self, tokens: &[TokenId]) {
        self.tokens.retain(|live| !tokens.is_empty() && !tokens.contains(&live.token));
    }

    /// Whether its agent has a token.
    pub fn has_agents_token(&self) -> bool {
        self.tokens.iter().any(|live| live.purpose.is_agents())
    }

    /// Whether the backend was asked for this generation and has not answered yet.
    pub fn is_starting(&self, generation: Generation) -> bool {
        self.generation == generation && matches!(self.instance, Instance::Starting { .. })
    }

    /// Whether the backend may have been asked for the current generation already, by a run of the platform that ended before it
    /// learnt the outcome: a start asks for nothing before its token is on record.
    pub fn may_have_started(&self) -> bool {
        self.tokens.iter().any(|live| live.generation == Some(self.generation))
    }

    /// Whether calls can reach it once it was heard from: our own backend has said where, or somebody else runs it.
    pub fn is_reachable(&self) -> bool {
        self.is_external() || matches!(self.instance, Instance::Running { .. })
    }

    /// Whether it is being started because somebody needs it.
    pub const fn is_waking(&self) -> bool {
        matches!(self.instance, Instance::Starting { origin: ProvisionOrigin::Wake, .. })
    }

    /// Whether a start of the platform has to ask for it: it went down with the platform, and nothing else brings it back.
    pub fn comes_back(&self) -> bool {
        self.shut_down && self.is_desired() && self.restart.is_none()
    }

    /// Whether its current instance should be running.
    pub fn is_desired(&self) -> bool {
        let unwanted = matches!(self.status, Status::Removed | Status::Paused) || self.status.is_asleep();
        !unwanted && !self.is_external()
    }
}
