//! What people said and must know: holds, modes, alarms, quarantines. And the names of whom all of it is about.

use chrono::{DateTime, Utc};
use covalence_events::fleet::Scope;
use covalence_events::workspace::RestartCause;
use covalence_events::{RestartId, WorkspaceId};
use covalence_projections::roster::Roster;
use covalence_projections::supervision::{Advised, Alarm, Decision, Hold, InFlight, Quarantine, Waiting};
use serde::Serialize;
use utoipa::ToSchema;

use super::reasons::{DecisionView, numbers};
use super::{InFlightView, WaitingView};
use crate::conditions::Condition;

/// A workspace by id and name.
#[derive(Debug, Serialize, ToSchema)]
pub struct Who {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: WorkspaceId,
    /// What people call it; empty for one that is not known any more.
    pub name: String,
}

/// Where decisions are only recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdvisedView {
    /// `fleet`, `subtree` or `workspace`.
    pub scope: &'static str,
    /// Whose, unless it is about everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Who>,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A person's hold.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldView {
    /// Its name.
    pub id: String,
    /// `fleet`, `subtree` or `workspace`.
    pub scope: &'static str,
    /// Whose, unless it is about everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Who>,
    /// Why.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When it ends by itself; null for an emergency stop, which never does.
    pub until: Option<DateTime<Utc>>,
    /// Whether nothing at all is started, whoever asks.
    pub emergency: bool,
}

/// A condition that a person should know of.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlarmView {
    /// A stable word, with its subject after a colon.
    pub kind: String,
    /// Whom it is about, if one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Who>,
    /// For people.
    pub message: String,
    /// Since when it is on.
    pub since: DateTime<Utc>,
}

impl AlarmView {
    /// What is wrong with our own disk or log.
    pub(in crate::http::supervision) fn own(condition: Condition) -> Self {
        let Condition { kind, message, since } = condition;
        Self { kind, workspace: None, message, since }
    }
}

/// A workspace that died too often.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuarantineView {
    /// Which.
    pub workspace: Who,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Tries out of it so far.
    pub tries: u32,
    /// How many there are before only a person can lift it; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries_max: Option<u32>,
}

/// Puts names to ids.
pub(in crate::http::supervision) struct Names<'a>(pub(in crate::http::supervision) &'a Roster);

impl Names<'_> {
    /// A workspace with its name.
    pub(in crate::http::supervision) fn who(&self, id: WorkspaceId) -> Who {
        Who { id, name: self.0.get(id).map(|row| row.name.clone()).unwrap_or_default() }
    }

    fn scope(&self, scope: Scope) -> (&'static str, Option<Who>) {
        match scope {
            Scope::Fleet => ("fleet", None),
            Scope::Subtree(id) => ("subtree", Some(self.who(id))),
            Scope::Workspace(id) => ("workspace", Some(self.who(id))),
        }
    }

    pub(in crate::http::supervision) fn hold(&self, hold: &Hold) -> HoldView {
        let (scope, workspace) = self.scope(hold.scope);
        HoldView {
            id: hold.id.to_string(),
            scope,
            workspace,
            reason: hold.reason.clone(),
            by: hold.by.to_string(),
            since: hold.since,
            until: hold.until,
            emergency: hold.emergency,
        }
    }

    pub(in crate::http::supervision) fn advised(&self, advised: &Advised) -> AdvisedView {
        let (scope, workspace) = self.scope(advised.scope);
        let (reason, by) = (advised.reason.clone(), advised.by.to_string());
        AdvisedView { scope, workspace, reason, by, since: advised.since }
    }

    pub(in crate::http::supervision) fn alarm(&self, alarm: &Alarm) -> AlarmView {
        AlarmView {
            kind: alarm.kind.clone(),
            workspace: alarm.workspace.map(|id| self.who(id)),
            message: alarm.message.clone(),
            since: alarm.since,
        }
    }

    pub(in crate::http::supervision) fn quarantined(
        &self,
        (id, quarantine): (WorkspaceId, &Quarantine),
    ) -> QuarantineView {
        QuarantineView {
            workspace: self.who(id),
            since: quarantine.since,
            tries: quarantine.tries,
            tries_max: quarantine.tries_max,
        }
    }

    pub(in crate::http::supervision) fn in_flight(
        &self,
        (restart, one): (RestartId, &InFlight),
    ) -> InFlightView {
        let (workspace, cause) = (self.who(one.workspace), one.cause.as_str());
        InFlightView { restart, workspace, cause, since: one.since }
    }

    pub(in crate::http::supervision) fn waiting(&self, (restart, one): (RestartId, &Waiting)) -> WaitingView {
        WaitingView {
            restart,
            workspace: self.who(one.workspace),
            cause: one.cause.as_str(),
            rule: one.rule.clone(),
            until: one.until,
            since: one.since,
        }
    }

    pub(in crate::http::supervision) fn decision(&self, decision: &Decision) -> DecisionView {
        DecisionView {
            id: decision.id.to_string(),
            position: decision.position.0,
            at: decision.at,
            workspace: self.who(decision.workspace),
            decision: decision.decided.as_str(),
            rule: decision.rule.clone(),
            restart: decision.restart,
            cause: decision.cause.map(RestartCause::as_str),
            until: decision.until,
            overridden: decision.overridden.clone(),
            policy: decision.policy.map(|policy| policy.to_string()),
            numbers: decision.inputs.as_deref().map(numbers),
        }
    }
}
