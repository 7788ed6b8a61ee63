//! What the supervisor is asked or told.

use std::time::Duration;

use covalence_events::fleet::{
    BrakeReading, CircuitChanged, EngineLost, FlightLost, FlightRecorded, LogMended, MasterKeyRotated, Mode,
    ObserverChanged, PlatformStarted, PlatformStopped, ProvisionLimitChanged, RestartOutcome, Scope,
    StrangerFound, Strategy, TailRepaired,
};
use covalence_events::workspace::{BackendKind, RestartCause};
use covalence_events::{HoldId, IncidentId, PolicyHash, RestartId, Timestamp, TokenId, WorkspaceId};

use super::state::many;
use crate::policy::Policy;

/// What the observer of one cell sees at one moment. Not recorded as such: what follows from it carries its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The cell.
    pub cell: BackendKind,
    /// Whether a complete list has been seen since our start.
    pub listed: bool,
    /// Suspects without proof of death, and since when.
    pub suspects: Vec<(WorkspaceId, Timestamp)>,
    /// Proven deaths that are about to be reported.
    pub dead: Vec<WorkspaceId>,
    /// The observer's score, 0 to 8.
    pub score: u32,
    /// Whether the engine's circuit is open.
    pub circuit_open: bool,
    /// For how long nothing that the observer sees has spoken for a brake.
    pub calm_for: Duration,
}

impl Survey {
    /// What a brake is judged by, as far as the observer knows it: of a cell of this size, with the suspicions since then as
    /// recent ones.
    pub fn reading(&self, size: u32, since: Timestamp) -> BrakeReading {
        BrakeReading {
            size,
            suspects: many(self.suspects.len()),
            suspects_recent: many(self.suspects.iter().filter(|(_, at)| *at > since).count()),
            observer_score: self.score,
            circuit_open: self.circuit_open,
            calm_ms: u64::try_from(self.calm_for.as_millis()).unwrap_or(u64::MAX),
            ..BrakeReading::default()
        }
    }
}

/// An incident that a person opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewIncident {
    /// What it is about, in a line.
    pub title: String,
    /// When it began.
    pub since: Option<Timestamp>,
    /// When it ended.
    pub until: Option<Timestamp>,
    /// Whom it is about; everybody where none.
    pub workspaces: Vec<WorkspaceId>,
}

/// An organisation token as the log may know it: everything but its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrgToken {
    /// Its public name.
    pub token: TokenId,
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
    /// Its first eight characters.
    pub prefix: String,
    /// What the person who asks for it calls it.
    pub name: Option<String>,
}

/// What the supervisor is asked or told.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A workspace asks for a restart. Repeated requests for the same restart change nothing.
    RequestAdmission {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
        /// Why.
        cause: RestartCause,
        /// Whether a person asked to pass over holds.
        forced: bool,
    },
    /// A workspace says how a restart ended.
    SettleRestart {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
        /// How.
        outcome: RestartOutcome,
    },
    /// A workspace has been well for the whole probation after a restart.
    ProveRestart {
        /// Whose.
        workspace: WorkspaceId,
        /// Which.
        restart: RestartId,
    },
    /// What the observer of a cell sees.
    RecordSurvey(Survey),
    /// Something that waits for a time may have come due.
    RecordDeadline,
    /// A person holds restarts back. At most [`Policy::hold_max`], but for an emergency stop, which never ends by itself.
    SetHold {
        /// Whom it is about; an emergency stop is about everybody.
        scope: Scope,
        /// Why.
        reason: String,
        /// For how long.
        lasts: Duration,
        /// Whether nothing at all is started, whoever asks.
        emergency: bool,
    },
    /// A person ends a hold.
    ReleaseHold {
        /// Which.
        hold: HoldId,
        /// Why.
        comment: Option<String>,
    },
    /// A person releases the brake of a cell.
    ReleaseBrake {
        /// Which.
        cell: BackendKind,
    },
    /// A person lifts a quarantine.
    LiftQuarantine {
        /// Whose.
        workspace: WorkspaceId,
    },
    /// A person says whether decisions are acted on.
    SetMode {
        /// Whom it is about.
        scope: Scope,
        /// Whether they are.
        mode: Mode,
        /// Why.
        reason: String,
    },
    /// A person says who is restarted when a member of a team dies.
    SetStrategy {
        /// The team: what is right below this one.
        team: WorkspaceId,
        /// Who.
        strategy: Strategy,
    },
    /// A person gives every workspace a secret, or another value of one. Sealed already.
    SetSecret {
        /// Its name.
        name: String,
        /// Its value, as the vault sealed it.
        value: String,
    },
    /// A person takes a secret from every workspace.
    RemoveSecret {
        /// Its name.
        name: String,
    },
    /// A person makes a token that opens what the admin's does.
    IssueOrgToken(NewOrgToken),
    /// A person ends such a token.
    RevokeOrgToken {
        /// Which.
        token: TokenId,
    },
    /// A person changes the policy.
    SetPolicy {
        /// All of it.
        policy: Box<Policy>,
        /// Why.
        reason: String,
    },
    /// A person goes back to a policy that was in force before; the one before the current where none is named.
    RollBackPolicy {
        /// Which.
        hash: Option<PolicyHash>,
        /// Why.
        reason: String,
    },
    /// A person says that something is worth being looked at.
    OpenIncident(Box<NewIncident>),
    /// A person says something about an incident.
    NoteIncident {
        /// Which.
        incident: IncidentId,
        /// What.
        text: String,
    },
    /// A person is done with an incident.
    CloseIncident {
        /// Which.
        incident: IncidentId,
        /// What it was in the end.
        comment: Option<String>,
    },
    /// A condition that a person should know of: repeated while it lasts, said once.
    RaiseAlarm {
        /// A stable word, with its subject after a colon.
        kind: String,
        /// Whom it is about, if one.
        workspace: Option<WorkspaceId>,
        /// For people.
        message: String,
    },
    /// That condition is over.
    ResolveAlarm {
        /// The same word.
        kind: String,
        /// The same subject.
        workspace: Option<WorkspaceId>,
    },
    /// The policy of the configuration, as the platform starts with it.
    Configure(Box<Policy>),
    /// The platform's process is up.
    RecordStart(PlatformStarted),
    /// The platform's process goes down in order.
    RecordStop(PlatformStopped),
    /// The log's end was cut at open.
    RecordRepair(TailRepaired),
    /// Something of the log was mended at open.
    RecordMended(LogMended),
    /// A backend does not answer.
    RecordEngineLost(EngineLost),
    /// A backend answers.
    RecordEngineFound {
        /// Which.
        engine: String,
    },
    /// A backend runs something of ours that the log does not know.
    RecordStranger(StrangerFound),
    /// We see worse, or better, than before.
    RecordObserver(ObserverChanged),
    /// An engine is asked less, or as usual again.
    RecordCircuit(CircuitChanged),
    /// Another number of starts is let through at once.
    RecordProvisionLimit(ProvisionLimitChanged),
    /// The master key was replaced, or will be by the next start.
    RecordKeyRotated(MasterKeyRotated),
    /// What had been observed when a brake engaged, or that it is lost.
    RecordFlight(Result<Box<FlightRecorded>, FlightLost>),
}

impl Command {
    /// The name used in spans, metrics and panics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RequestAdmission { .. } => "request_admission",
            Self::SettleRestart { .. } => "settle_restart",
            Self::ProveRestart { .. } => "prove_restart",
            Self::RecordSurvey(_) => "record_survey",
            Self::RecordDeadline => "record_deadline",
            Self::SetHold { .. } => "set_hold",
            Self::ReleaseHold { .. } => "release_hold",
            Self::SetSecret { .. } => "set_secret",
            Self::RemoveSecret { .. } => "remove_secret",
            Self::IssueOrgToken(_) => "issue_org_token",
            Self::RevokeOrgToken { .. } => "revoke_org_token",
            Self::ReleaseBrake { .. } => "release_brake",
            Self::LiftQuarantine { .. } => "lift_quarantine",
            Self::SetMode { .. } => "set_mode",
            Self::SetStrategy { .. } => "set_strategy",
            Self::SetPolicy { .. } => "set_policy",
            Self::RollBackPolicy { .. } => "roll_back_policy",
            Self::OpenIncident(_) => "open_incident",
            Self::NoteIncident { .. } => "note_incident",
            Self::CloseIncident { .. } => "close_incident",
            Self::RaiseAlarm { .. } => "raise_alarm",
            Self::ResolveAlarm { .. } => "resolve_alarm",
            Self::Configure(_) => "configure",
            Self::RecordStart(_) => "record_start",
            Self::RecordStop(_) => "record_stop",
            Self::RecordRepair(_) => "record_repair",
            Self::RecordMended(_) => "record_mended",
            Self::RecordEngineLost(_) => "record_engine_lost",
            Self::RecordEngineFound { .. } => "record_engine_found",
            Self::RecordStranger(_) => "record_stranger",
            Self::RecordObserver(_) => "record_observer",
            Self::RecordCircuit(_) => "record_circuit",
            Self::RecordProvisionLimit(_) => "record_provision_limit",
            Self::RecordKeyRotated(_) => "record_key_rotated",
            Self::RecordFlight(_) => "record_flight",
        }
    }
}
