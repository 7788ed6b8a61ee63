//! What can go wrong, and what people can do meanwhile.

use covalence_events::WorkspaceId;
use covalence_events::fleet::Scope;

use super::Millis;

/// How an engine call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Never answered; what was asked for may be done all the same, later.
    Timeout,
    /// Answered with HTTP 500, nothing done.
    Error500,
    /// Connection refused.
    Refused,
    /// Answered with something that can't be read.
    Garbage,
    /// No such container, whatever is asked for: a proxy in between has lost its way.
    Lost404,
}

impl Failure {
    /// The adapter's word for it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Error500 => "http_500",
            Self::Refused => "refused",
            Self::Garbage => "garbage",
            Self::Lost404 => "not_found",
        }
    }
}

/// Which engine calls are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// All of them.
    All,
    /// Looks at single instances.
    Inspects,
    /// The list.
    Lists,
    /// Everything that changes something.
    Mutations,
}

/// Something that goes wrong, or that somebody does, at a moment or from a moment on. `whom` counts workspaces in the order
/// in which they were created.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A share of the engine's calls fails.
    EngineErrors {
        /// How.
        failure: Failure,
        /// Which calls.
        calls: Calls,
        /// The share of them.
        rate: f64,
        /// For how long.
        lasts: Millis,
    },
    /// The engine does nothing at all; what it was asked for is done when it goes on.
    EngineFrozen {
        /// For how long.
        lasts: Millis,
    },
    /// The engine's socket is not there; what runs goes on.
    SocketMissing {
        /// For how long.
        lasts: Millis,
    },
    /// The engine is started again.
    EngineRestart {
        /// How long it is away.
        down: Millis,
        /// Whether containers survive that.
        live_restore: bool,
    },
    /// The engine takes so many times as long.
    EngineSlow {
        /// How many times.
        factor: u64,
        /// For how long.
        lasts: Millis,
    },
    /// Events of the engine don't arrive.
    EventsLost {
        /// The share of them.
        rate: f64,
        /// For how long.
        lasts: Millis,
    },
    /// Stops are carried out, but only long after the client has given up.
    StopsLinger {
        /// For how long.
        lasts: Millis,
    },
    /// The container ends.
    Exit {
        /// Whose.
        whom: usize,
        /// With which status.
        status: i32,
    },
    /// Several containers end, one after the other.
    Deaths {
        /// The first of them.
        from: usize,
        /// How many.
        many: usize,
        /// For how long they do.
        lasts: Millis,
    },
    /// The container ends again and again, whichever runs.
    Relapse {
        /// Whose.
        whom: usize,
        /// How often.
        every: Millis,
        /// For how long.
        lasts: Millis,
    },
    /// Somebody removes the container by force.
    Vanish {
        /// Whose.
        whom: usize,
    },
    /// Somebody renames the container.
    Rename {
        /// Whose.
        whom: usize,
    },
    /// An event about the container's predecessor arrives late.
    StaleEvent {
        /// Whose.
        whom: usize,
    },
    /// Every instance of it ends so long after its start.
    CrashLoop {
        /// Whose; everybody's if none is named.
        whom: Option<usize>,
        /// How long after its start.
        after: Millis,
        /// For how long instances do that.
        lasts: Millis,
    },
    /// The agent neither beats nor answers; a fresh instance does.
    Hang {
        /// Whose.
        whom: usize,
    },
    /// The agents neither beat nor answer, for a while: their host is starved.
    Starved {
        /// The first of them.
        from: usize,
        /// How many.
        many: usize,
        /// For how long.
        lasts: Millis,
    },
    /// Heartbeats are not sent, but its card is answered.
    Silent {
        /// The first of them.
        from: usize,
        /// How many.
        many: usize,
        /// For how long.
        lasts: Millis,
    },
    /// Somebody calls an agent through the platform, again and again.
    Traffic {
        /// Whose agent is called.
        whom: usize,
        /// How often.
        every: Millis,
        /// For how long.
        lasts: Millis,
    },
    /// Nothing gets through between the platform and the agents.
    NetworkCut {
        /// For how long.
        lasts: Millis,
    },
    /// The platform's process stands still.
    Pause {
        /// For how long.
        lasts: Millis,
    },
    /// The platform's loop is late.
    Lag {
        /// By how much.
        lag: Millis,
        /// For how long.
        lasts: Millis,
    },
    /// The platform's process is killed, and started again.
    Kill {
        /// After how long.
        down: Millis,
    },
    /// The log can't write; after the first failure it takes nothing until the platform is started again.
    LogFull {
        /// For how long.
        lasts: Millis,
    },
    /// The log's queue is full.
    LogBusy {
        /// For how long.
        lasts: Millis,
    },
    /// Appends take long.
    LogSlow {
        /// How long.
        latency: Millis,
        /// For how long they do.
        lasts: Millis,
    },
    /// The wall clock is set.
    WallJump {
        /// By so many milliseconds.
        by: i64,
    },
    /// A person does something.
    Person(Person),
}

/// What a person does.
#[derive(Clone, Debug, PartialEq)]
pub enum Person {
    /// Creates one more workspace.
    Create {
        /// Below which one.
        parent: Option<usize>,
    },
    /// Restarts a workspace.
    Restart {
        /// Whose.
        whom: usize,
        /// Whether holds are passed over.
        forced: bool,
    },
    /// Pauses a workspace.
    Pause {
        /// Which.
        whom: usize,
    },
    /// Resumes a workspace.
    Resume {
        /// Which.
        whom: usize,
    },
    /// Holds restarts back.
    Hold {
        /// Whom it is about.
        scope: Whom,
        /// For how long.
        lasts: Millis,
    },
    /// Stops everything.
    EmergencyStop,
    /// Ends all holds.
    Release,
}

impl Fault {
    /// For how long it goes on; 0 for what happens at a moment.
    pub const fn lasts(&self) -> Millis {
        match self {
            Self::EngineErrors { lasts, .. }
            | Self::EngineFrozen { lasts }
            | Self::SocketMissing { lasts }
            | Self::EngineSlow { lasts, .. }
            | Self::EventsLost { lasts, .. }
            | Self::StopsLinger { lasts }
            | Self::Deaths { lasts, .. }
            | Self::Relapse { lasts, .. }
            | Self::CrashLoop { lasts, .. }
            | Self::Starved { lasts, .. }
            | Self::Silent { lasts, .. }
            | Self::Traffic { lasts, .. }
            | Self::NetworkCut { lasts }
            | Self::Pause { lasts }
            | Self::Lag { lasts, .. }
            | Self::LogFull { lasts }
            | Self::LogBusy { lasts }
            | Self::LogSlow { lasts, .. }
            | Self::Person(Person::Hold { lasts, .. }) => *lasts,
            Self::EngineRestart { down, .. } | Self::Kill { down } => *down,
            Self::Exit { .. }
            | Self::Vanish { .. }
            | Self::Rename { .. }
            | Self::StaleEvent { .. }
            | Self::Hang { .. }
            | Self::WallJump { .. }
            | Self::Person(_) => 0,
        }
    }
}

/// Whom a hold is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Everybody.
    All,
    /// One workspace.
    One(usize),
    /// One workspace and everything below it.
    Below(usize),
}

impl Whom {
    pub(super) fn of(self, workspaces: &[WorkspaceId]) -> Scope {
        let named = |index: usize| workspaces.get(index).copied();
        match self {
            Self::All => Some(Scope::Fleet),
            Self::One(index) => named(index).map(Scope::Workspace),
            Self::Below(index) => named(index).map(Scope::Subtree),
        }
        .unwrap_or(Scope::Fleet)
    }
}
