//! Why: what speaks against a workspace, and the decisions with their numbers.

use chrono::{DateTime, Utc};
use covalence_events::fleet::{AdmissionInputs, BrakeMode, Mode};
use covalence_events::workspace::EvidenceClass;
use covalence_events::{RestartId, WorkspaceId};
use covalence_projections::roster::standing::source_word;
use covalence_projections::supervision::{Suspicion, Watch, Withheld};
use serde::Serialize;
use utoipa::ToSchema;

use super::person::{HoldView, QuarantineView, Who};
use super::rounded;
use crate::http::view::SupervisionView;

/// Everything that the supervisor knows of one workspace.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkspaceSupervision {
    /// Which.
    #[schema(value_type = String, format = Uuid)]
    pub workspace: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// Its status.
    pub status: &'static str,
    /// Where it stands in the eyes of the supervisor.
    pub supervision: SupervisionView,
    /// Sources that speak against it.
    pub doubts: Vec<DoubtView>,
    /// The suspicion, if one is raised.
    pub suspicion: Option<SuspicionView>,
    /// The verdict that a rule withheld, as long as it is suspect.
    pub withheld: Option<WithheldView>,
    /// The last things that were said about whether it lives, newest first; signs of life are left out.
    pub evidence: Vec<EvidenceView>,
    /// Its quarantine, if it is in one.
    pub quarantine: Option<QuarantineView>,
    /// Holds that cover it.
    pub holds: Vec<HoldView>,
    /// `act` or `advise`: whether decisions about it are acted on.
    pub mode: ModeWord,
    /// Who is restarted when one right below it dies: `one_for_one`, `rest_for_one` or `one_for_all`.
    pub strategy: &'static str,
    /// The last decisions about it, newest first.
    pub decisions: Vec<DecisionView>,
}

/// `act` or `advise`.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModeWord {
    /// Decisions are acted on.
    Act,
    /// They are only recorded.
    Advise,
}

impl From<Mode> for ModeWord {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Act => Self::Act,
            Mode::Advise => Self::Advise,
        }
    }
}

/// One decision, with what it was made from.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionView {
    /// The fact's own id.
    pub id: String,
    /// Where in the log it stands.
    pub position: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// Whom it is about.
    pub workspace: Who,
    /// `admitted`, `deferred`, `suppressed`, `refuted` or `withheld`.
    pub decision: &'static str,
    /// The rule; absent for what was let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The restart's name in the log; absent where none was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub restart: Option<RestartId>,
    /// Why it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// When it is looked at again, or may be asked for again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// What a person's wish passed over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
    /// The policy that it was made under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Every number that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<NumbersView>,
}

/// The numbers of a decision.
#[derive(Debug, Serialize, ToSchema)]
pub struct NumbersView {
    /// The cell.
    pub cell: &'static str,
    /// Such restarts of this workspace in a row.
    pub in_a_row: u32,
    /// Restarts of this workspace within the intensity window.
    pub recent: u32,
    /// Restarts of the cell in flight.
    pub in_flight: u32,
    /// How many may be.
    pub in_flight_max: u32,
    /// Tokens in the cell's bucket.
    pub tokens: f64,
    /// The brake of the cell, if one was engaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brake: Option<&'static str>,
    /// Whether the grace after our own start was on.
    pub in_grace: bool,
    /// The hold that covered it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Whether a person asked to pass over holds.
    pub forced: bool,
}

/// One source that speaks against a workspace.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoubtView {
    /// The source.
    pub source: &'static str,
    /// Since when.
    pub since: DateTime<Utc>,
    /// What it said: a stable word.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// A suspicion as it was raised.
#[derive(Debug, Serialize, ToSchema)]
pub struct SuspicionView {
    /// Since when.
    pub since: DateTime<Utc>,
    /// The first source that spoke against it.
    pub source: &'static str,
    /// How surprising its silence was, where heartbeats were the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phi: Option<f64>,
    /// Since its last sign of life, in milliseconds, as of then.
    pub silent_ms: u64,
    /// Our own score at that moment, 0 (well) to 8.
    pub observer_score: u32,
}

/// A verdict that a rule withheld.
#[derive(Debug, Serialize, ToSchema)]
pub struct WithheldView {
    /// When.
    pub at: DateTime<Utc>,
    /// The rule: `one_source`, `observer_unwell`, `brake` or `grace`.
    pub rule: String,
    /// Since its last sign of life, in milliseconds, as of then.
    pub silent_ms: u64,
    /// Our own score at that moment, 0 (well) to 8.
    pub observer_score: u32,
}

/// Something that was said about whether a workspace lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct EvidenceView {
    /// The fact's own id.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Where it comes from.
    pub source: &'static str,
    /// What it is worth.
    pub class: &'static str,
    /// The generation that it speaks of.
    pub generation: u64,
    /// A stable word.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Exit status, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
}

pub(in crate::http::supervision) fn doubts(watch: &Watch) -> Vec<DoubtView> {
    let doubts = watch.doubts.iter().map(|(source, doubt)| DoubtView {
        source: source_word(*source),
        since: doubt.since,
        code: doubt.code.clone(),
        detail: doubt.detail.clone(),
    });
    doubts.collect()
}

pub(in crate::http::supervision) fn suspicion(suspicion: &Suspicion) -> SuspicionView {
    SuspicionView {
        since: suspicion.since,
        source: source_word(suspicion.source),
        phi: suspicion.phi.map(rounded),
        silent_ms: suspicion.silent_ms,
        observer_score: suspicion.observer_score,
    }
}

pub(in crate::http::supervision) fn withheld(withheld: &Withheld) -> WithheldView {
    WithheldView {
        at: withheld.at,
        rule: withheld.rule.clone(),
        silent_ms: withheld.silent_ms,
        observer_score: withheld.observer_score,
    }
}

pub(in crate::http::supervision) fn seen(watch: &Watch) -> Vec<EvidenceView> {
    let seen = watch.seen.iter().rev().map(|seen| EvidenceView {
        id: seen.id.to_string(),
        at: seen.at,
        source: source_word(seen.source),
        class: class_word(seen.class),
        generation: seen.generation.0,
        code: seen.code.clone(),
        detail: seen.detail.clone(),
        exit_status: seen.exit_status,
    });
    seen.collect()
}

const fn class_word(class: EvidenceClass) -> &'static str {
    match class {
        EvidenceClass::Death => "death",
        EvidenceClass::Life => "life",
        EvidenceClass::Suspicion => "suspicion",
        EvidenceClass::Silence => "silence",
        EvidenceClass::ObserverFailure => "observer_failure",
        EvidenceClass::Expected => "expected",
    }
}

pub(super) fn numbers(inputs: &AdmissionInputs) -> NumbersView {
    NumbersView {
        cell: inputs.cell.as_str(),
        in_a_row: inputs.in_a_row,
        recent: inputs.recent,
        in_flight: inputs.in_flight,
        in_flight_max: inputs.in_flight_max,
        tokens: rounded(inputs.tokens),
        brake: inputs.brake.map(BrakeMode::as_str),
        in_grace: inputs.in_grace,
        hold: inputs.hold.map(|hold| hold.to_string()),
        forced: inputs.forced,
    }
}
