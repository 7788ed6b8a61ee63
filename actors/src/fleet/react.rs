//! Facts of the fleet to effects: what has to be told to whom.

use covalence_events::fleet::{Event, RestartSuppressed};
use covalence_events::{EventId, Fact, Position, Recorded, RestartId, WorkspaceId};

use super::state::{FlightDue, State};
use crate::policy::admission;
use crate::workspace::{Command, Rejection};

/// What has to be told to whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell a workspace that its restart may begin.
    Grant {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
        /// Where the log says so.
        admission: Position,
        /// The fact that says so.
        because: EventId,
    },
    /// Tell a workspace that its restart is refused.
    Deny {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
        /// The rule.
        rule: String,
        /// For people.
        message: String,
        /// The fact that says so.
        because: EventId,
    },
    /// Ask a quarantined workspace to ask for a restart once more.
    TryAgain {
        /// Whose.
        workspace: WorkspaceId,
        /// The fact that asks.
        because: EventId,
    },
    /// Tell every workspace that secrets of the fleet have changed.
    SpreadSecrets {
        /// The fact that says so.
        because: EventId,
        /// Whether it has just happened: whoever is being started at this moment may not have got it.
        fresh: bool,
    },
    /// Ask a member of a team to be restarted along with another.
    TakeAlong {
        /// Whose.
        workspace: WorkspaceId,
        /// The fact that asks.
        because: EventId,
    },
    /// Put what had been observed when a brake engaged into the log.
    RecordFlight(FlightDue),
}

impl Effect {
    /// Which workspace is told, what, and because of which fact; none where it is all of them, or no workspace at all.
    pub fn command(self) -> Option<(WorkspaceId, Command, EventId)> {
        Some(match self {
            Self::SpreadSecrets { .. } | Self::RecordFlight(_) => return None,
            Self::Grant { workspace, restart, admission, because } => {
                (workspace, Command::RecordAdmission { restart, admission }, because)
            }
            Self::Deny { workspace, restart, rule, message, because } => {
                (workspace, Command::RecordSuppression { restart, rule, message }, because)
            }
            Self::TryAgain { workspace, because } => (workspace, Command::RecordQuarantineProbed, because),
            Self::TakeAlong { workspace, because } => (workspace, Command::RecordTakenAlong, because),
        })
    }
}

/// What a fact that just happened asks for, in the state after it.
pub fn react(recorded: &Recorded, state: &State) -> Vec<Effect> {
    let Fact::Fleet(event) = &recorded.fact else { return Vec::new() };
    let because = recorded.meta.id;
    match event {
        Event::RestartAdmitted(e) => {
            let admission = recorded.position;
            let grant = Effect::Grant { workspace: e.workspace, restart: e.restart, admission, because };
            let along =
                e.taken_along.iter().map(|workspace| Effect::TakeAlong { workspace: *workspace, because });
            [grant].into_iter().chain(along).collect()
        }
        Event::RestartSuppressed(e) => vec![Effect::Deny {
            workspace: e.workspace,
            restart: e.restart,
            rule: e.rule.clone(),
            message: refusal(e),
            because,
        }],
        Event::SecretSet(_) | Event::SecretRemoved(_) => vec![Effect::SpreadSecrets { because, fresh: true }],
        Event::QuarantineProbed(e) => vec![Effect::TryAgain { workspace: e.workspace, because }],
        Event::BrakeEngaged(_) => {
            let due = state.flights.due.filter(|due| due.brake == because);
            due.map(Effect::RecordFlight).into_iter().collect()
        }
        Event::PlatformStarted(_)
        | Event::PlatformStopped(_)
        | Event::TailRepaired(_)
        | Event::LogMended(_)
        | Event::RestartDeferred(_)
        | Event::RestartSettled(_)
        | Event::RestartProved(_)
        | Event::BrakeReleased(_)
        | Event::ObserverChanged(_)
        | Event::CircuitChanged(_)
        | Event::GraceStarted(_)
        | Event::GraceEnded(_)
        | Event::HoldSet(_)
        | Event::HoldReleased(_)
        | Event::ModeSet(_)
        | Event::StrategySet(_)
        | Event::MasterKeyRotated(_)
        | Event::OrgTokenIssued(_)
        | Event::OrgTokenRevoked(_)
        | Event::PolicyChanged(_)
        | Event::QuarantineLifted(_)
        | Event::ProvisionLimitChanged(_)
        | Event::IncidentOpened(_)
        | Event::IncidentNoted(_)
        | Event::IncidentClosed(_)
        | Event::FlightRecorded(_)
        | Event::FlightLost(_)
        | Event::InvariantViolated(_)
        | Event::EngineLost(_)
        | Event::EngineFound(_)
        | Event::AlarmRaised(_)
        | Event::AlarmResolved(_)
        | Event::StrangerFound(_) => Vec::new(),
    }
}

/// A refusal for people: the rule, and what to do.
fn refusal(e: &RestartSuppressed) -> String {
    let until =
        e.until.map(|until| format!(" until {}", until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
    let until = until.unwrap_or_default();
    match e.rule.as_str() {
        admission::INTENSITY => format!(
            "restarted {} times within {} s and died each time: quarantined{until}, then tried again; see its log, then \
             restart it by hand",
            e.recent, e.window_s
        ),
        admission::HOLD => format!("restarts are held{until}: release the hold, or force the restart"),
        admission::EMERGENCY_STOP => Rejection::EmergencyStop.to_string(),
        admission::ANCESTOR_PAUSED => {
            "a workspace above it is paused: resume that one, or force the restart".to_owned()
        }
        rule => format!("refused by `{rule}`{until}"),
    }
}

/// What was decided and may not have been heard, and what was asked for and is not there.
pub fn outstanding(state: &State) -> Vec<Effect> {
    let grants = state.in_flight.iter().map(|(restart, in_flight)| Effect::Grant {
        workspace: in_flight.workspace,
        restart: *restart,
        admission: in_flight.admission.0,
        because: in_flight.admission.1,
    });
    // Whoever has them already is not told twice: see `workspace/decide/secrets.rs`.
    let secrets = state.secrets.values().map(|secret| secret.because).max();
    grants
        .chain(secrets.map(|because| Effect::SpreadSecrets { because, fresh: false }))
        .chain(state.flights.due.map(Effect::RecordFlight))
        .collect()
}
