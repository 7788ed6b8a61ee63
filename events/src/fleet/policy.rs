//! The policy as data, and what a person changed about how it is applied.

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::envelope::Timestamp;
use crate::id::{HoldId, PolicyHash, WorkspaceId};
use crate::workspace::BackendKind;

/// Everything that an admission looked at, so that it can be made again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that was looked at, not a state")]
pub struct AdmissionInputs {
    /// The cell: one engine and what it runs.
    pub cell: BackendKind,
    /// When the restart was asked for; delays run from here.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub requested_at: Timestamp,
    /// When it was judged.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub now: Timestamp,
    /// Such restarts of this workspace in a row.
    pub in_a_row: u32,
    /// Restarts of this workspace within the intensity window.
    pub recent: u32,
    /// Restarts of the cell in flight.
    pub in_flight: u32,
    /// How many of them may be.
    pub in_flight_max: u32,
    /// Restarts of all cells in flight.
    pub in_flight_all: u32,
    /// Tokens in the cell's bucket.
    pub tokens: f64,
    /// The brake of the cell, if one is engaged.
    pub brake: Option<super::BrakeMode>,
    /// Whether the brake would let one more restart with this cause through.
    pub brake_lets_one: bool,
    /// Whether the grace after our own start is on.
    pub in_grace: bool,
    /// The hold that covers it, if one does.
    pub hold: Option<HoldId>,
    /// When that hold ends by itself.
    pub hold_until: Option<Timestamp>,
    /// Whether that hold is an emergency stop.
    pub emergency: bool,
    /// Whether an ancestor waits for its turn or is being restarted.
    pub after_ancestor: bool,
    /// Whether an ancestor is paused.
    pub ancestor_paused: bool,
    /// Whether decisions about it are only recorded.
    pub advise_only: bool,
    /// Whether it was quarantined, or tried out of quarantine, within the intensity window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
    /// The try out of quarantine that this is, if it is one.
    pub half_open: Option<u32>,
    /// Whether a person asked to pass over holds and paused ancestors.
    pub forced: bool,
    /// Whether it has sat out its backoff.
    pub waited: bool,
    /// The number drawn for it, 0 to 1 (jitter).
    pub chance: f64,
}

#[cfg(any(test, feature = "test-support"))]
impl AdmissionInputs {
    /// The first restart of a quiet cell, judged as it is asked for: two may be in flight and none is, three tokens are there.
    pub fn quiet(cell: BackendKind, at: Timestamp) -> Self {
        Self {
            cell,
            requested_at: at,
            now: at,
            in_a_row: 0,
            recent: 0,
            in_flight: 0,
            in_flight_max: 2,
            in_flight_all: 0,
            tokens: 3.0,
            brake: None,
            brake_lets_one: true,
            in_grace: false,
            hold: None,
            hold_until: None,
            emergency: false,
            after_ancestor: false,
            ancestor_paused: false,
            advise_only: false,
            quarantined: false,
            half_open: None,
            forced: false,
            waited: false,
            chance: 0.5,
        }
    }
}

/// See [`super::Event::PolicyChanged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyChanged {
    /// Its name: what each decision made under it carries.
    pub hash: PolicyHash,
    /// The policy before.
    pub from: PolicyHash,
    /// Every parameter, as in the document.
    pub parameters: serde_json::Value,
    /// The parameters that differ.
    pub changed: Vec<ParameterChange>,
    /// Why, in the words of whoever changed it.
    pub reason: String,
    /// A stable word: `configuration`, `set`, `rollback`.
    pub origin: String,
}

/// One parameter that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParameterChange {
    /// Its name.
    pub name: String,
    /// Its value before, as in the document.
    pub from: String,
    /// Its value from here on.
    pub to: String,
}

/// Whether decisions are acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are.
    Act,
    /// They are recorded only.
    Advise,
}

/// See [`super::Event::ModeSet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModeSet {
    /// Whom it is about.
    pub scope: Scope,
    /// Whether decisions about them are acted on.
    pub mode: Mode,
    /// Why, in the words of whoever set it.
    pub reason: String,
}

/// Who is restarted when a member of a team dies (OTP's words).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The dead one.
    #[default]
    OneForOne,
    /// The dead one, and those that were created after it.
    RestForOne,
    /// All members.
    OneForAll,
}

impl Strategy {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::RestForOne => "rest_for_one",
            Self::OneForAll => "one_for_all",
        }
    }
}

/// See [`super::Event::StrategySet`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrategySet {
    /// The team: the workspaces right below this one.
    pub team: WorkspaceId,
    /// Who is restarted when a member dies.
    pub strategy: Strategy,
}

/// See [`super::Event::QuarantineProbed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineProbed {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Which try, from 1.
    pub attempt: u32,
    /// How many there are before only a person can lift it.
    pub attempts_max: u32,
}

/// See [`super::Event::QuarantineLifted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuarantineLifted {
    /// Whose.
    pub workspace: WorkspaceId,
    /// A stable word: `proved`, `operator`.
    pub reason: String,
}

/// See [`super::Event::ProvisionLimitChanged`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionLimitChanged {
    /// The cell.
    pub cell: BackendKind,
    /// Starts at once before.
    pub from: u32,
    /// Starts at once from here on.
    pub to: u32,
    /// A stable word: `engine_trouble`, `going_well`.
    pub reason: String,
}

/// See [`super::Event::InvariantViolated`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvariantViolated {
    /// Which.
    pub invariant: String,
    /// Whom it is about, if one.
    pub workspace: Option<WorkspaceId>,
    /// With which numbers.
    pub detail: String,
}
