//! Where a workspace stands in the eyes of the supervisor: one word that stands beside its wire status, and one fold that
//! moves it. Everybody who shows that word shows this one.
//!
//! ```text
//!  unknown ─► healthy ⇄ suspect ─► candidate ─► confirming ─► restarting ─► probation ─► healthy
//!                 ▲                    │ ▲           │
//!                 │                    ▼ │           └─ refuted: healthy
//!                 └────────────────── held            also: outcome_unknown, quarantined, stopped
//! ```

use std::fmt;

use covalence_events::Timestamp;
use covalence_events::workspace::{
    Event, EvidenceClass, EvidenceObserved, EvidenceSource, ProvisionOrigin, RestartAbandoned, Verdict,
};
use serde::{Deserialize, Serialize};

use super::row::{Instance, Row, Status};

/// The word shown as `supervision.state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing is known of it yet: it has not been heard from since it, or the platform, was started.
    #[default]
    Unknown,
    /// Nothing speaks against it.
    Healthy,
    /// Something does, and proves nothing.
    Suspect,
    /// A restart is admitted; one fresh look decides whether it is needed.
    Confirming,
    /// It is dead or hung, or somebody asked: a restart is wished for and not decided on.
    Candidate,
    /// It is not restarted for now; the rule says why.
    Held,
    /// Its next generation is being started.
    Restarting,
    /// It is back, and has not been well for long enough to be trusted.
    Probation,
    /// A start or a stop may or may not have happened; lists will tell.
    OutcomeUnknown,
    /// It died too often.
    Quarantined,
    /// Somebody wants it not to run.
    Stopped,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 11] = [
        Self::Unknown,
        Self::Healthy,
        Self::Suspect,
        Self::Confirming,
        Self::Candidate,
        Self::Held,
        Self::Restarting,
        Self::Probation,
        Self::OutcomeUnknown,
        Self::Quarantined,
        Self::Stopped,
    ];

    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::Confirming => "confirming",
            Self::Candidate => "candidate",
            Self::Held => "held",
            Self::Restarting => "restarting",
            Self::Probation => "probation",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Quarantined => "quarantined",
            Self::Stopped => "stopped",
        }
    }

    /// Whether a person may want to look at it: neither well, nor on its way, nor stopped on purpose.
    pub const fn needs_attention(self) -> bool {
        matches!(
            self,
            Self::Suspect
                | Self::Confirming
                | Self::Candidate
                | Self::Held
                | Self::OutcomeUnknown
                | Self::Quarantined
        )
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The word.
    pub condition: Condition,
    /// What put it there: a rule, a cause, a source, an operation. None where the word says it all.
    pub rule: Option<Box<str>>,
    /// Since when.
    pub since: Timestamp,
    /// Whether a restart brought it back and it has not proved itself, whatever is shown meanwhile.
    on_probation: bool,
}

impl Standing {
    /// Of a workspace that is new.
    pub const fn new(since: Timestamp) -> Self {
        Self { condition: Condition::Unknown, rule: None, since, on_probation: false }
    }

    fn enter(&mut self, condition: Condition, rule: Option<&str>, at: Timestamp) {
        if self.condition != condition || self.rule.as_deref() != rule {
            if self.condition != condition {
                self.since = at;
            }
            self.condition = condition;
            self.rule = rule.map(Box::from);
        }
    }

    /// Nothing speaks against it any more.
    fn well(&mut self, at: Timestamp) {
        let condition = if self.on_probation { Condition::Probation } else { Condition::Healthy };
        self.enter(condition, None, at);
    }

    /// The platform has just started: what was well has to be heard from again.
    pub(super) fn forget(&mut self, at: Timestamp) {
        if self.condition == Condition::Healthy {
            self.enter(Condition::Unknown, None, at);
        }
    }

    /// The fleet's supervisor said that its restart waits.
    pub(super) fn deferred(&mut self, rule: &str, at: Timestamp) {
        self.enter(Condition::Held, Some(rule), at);
    }

    /// The fleet's supervisor let its restart through.
    pub(super) fn admitted(&mut self, cause: &str, at: Timestamp) {
        if self.condition == Condition::Held {
            self.enter(Condition::Candidate, Some(cause), at);
        }
    }
}

/// The word for a source of evidence.
pub const fn source_word(source: EvidenceSource) -> &'static str {
    match source {
        EvidenceSource::Exit => "exit",
        EvidenceSource::Inspect => "inspect",
        EvidenceSource::List => "list",
        EvidenceSource::Heartbeat => "heartbeat",
        EvidenceSource::Call => "call",
        EvidenceSource::Probe => "probe",
    }
}

/// Moves the standing. Called after status and instance have followed the same fact.
pub(super) fn supervise(row: &mut Row, event: &Event, at: Timestamp) {
    let up = row.status.is_up();
    let standing = &mut row.standing;
    // A chain, not a match: only these facts say anything about supervision.
    if let Event::SuspicionRaised(e) = event {
        if matches!(standing.condition, Condition::Healthy | Condition::Unknown | Condition::Probation) {
            standing.enter(Condition::Suspect, Some(source_word(e.source)), at);
        }
    } else if let Event::SuspicionCleared(_) = event {
        if standing.condition == Condition::Suspect {
            standing.well(at);
        }
    } else if let Event::VerdictReached(e) = event {
        match e.verdict {
            Verdict::Alive if standing.condition == Condition::Suspect => standing.well(at),
            Verdict::Alive | Verdict::Unknown => {}
            Verdict::Dead => {
                standing.on_probation = false;
                standing.enter(Condition::Candidate, Some(&e.rule), at);
            }
        }
    } else if let Event::RestartRequested(e) = event {
        if standing.condition != Condition::Candidate {
            standing.enter(Condition::Candidate, Some(e.cause.as_str()), at);
        }
    } else if let Event::ConfirmRequested(_) = event {
        standing.enter(Condition::Confirming, None, at);
    } else if let Event::DeathRefuted(_) = event {
        standing.well(at);
    } else if let Event::RestartStarted(_) = event {
        standing.enter(Condition::Restarting, None, at);
    } else if let Event::RestartAbandoned(e) = event {
        abandoned(row, e, at);
    } else if let Event::RestartProved(_) = event {
        standing.on_probation = false;
        if standing.condition == Condition::Probation {
            standing.enter(Condition::Healthy, None, at);
        }
    } else if let Event::CameOnline(e) = event {
        standing.on_probation |= e.restart.is_some();
        standing.well(at);
    } else if let Event::WentOffline(e) = event {
        standing.on_probation = false;
        if row.is_external() {
            // Silence is no proof, and nobody of ours could start it again.
            row.standing.enter(Condition::Suspect, Some(&e.rule), at);
        }
    } else if let Event::HeartbeatReceived(_) | Event::Registered(_) | Event::InstanceAdopted(_) = event {
        if up && standing.condition == Condition::Unknown {
            standing.well(at);
        }
    } else {
        operated(row, event, at);
    }
}

/// What starts and stops bring about.
fn operated(row: &mut Row, event: &Event, at: Timestamp) {
    let standing = &mut row.standing;
    if let Event::ProvisionRequested(e) = event {
        standing.on_probation = false;
        let condition =
            if e.origin == ProvisionOrigin::Restart { Condition::Restarting } else { Condition::Unknown };
        standing.enter(condition, None, at);
    } else if let Event::ProvisionFailed(e) = event {
        standing.on_probation = false;
        standing.enter(Condition::Held, Some(&e.code), at);
    } else if let Event::OutcomeUnknown(e) = event {
        standing.enter(Condition::OutcomeUnknown, Some(&e.operation), at);
    } else if let Event::InstanceStarted(_) | Event::InstanceStopped(_) | Event::StopFailed(_) = event {
        if standing.condition == Condition::OutcomeUnknown {
            settled(row, at);
        }
    } else if let Event::Quarantined(e) = event {
        standing.enter(Condition::Quarantined, Some(&e.rule), at);
    } else if let Event::Paused(_)
    | Event::HibernationRequested(_)
    | Event::Hibernated(_)
    | Event::Removed(_) = event
    {
        standing.on_probation = false;
        standing.enter(Condition::Stopped, Some(row.status.as_str()), at);
    } else if let Event::Resumed(_) = event {
        standing.enter(Condition::Unknown, None, at);
    }
}

/// What became of an operation is known after all.
fn settled(row: &mut Row, at: Timestamp) {
    let condition = match row.status {
        Status::Paused | Status::Removed | Status::Hibernating | Status::Hibernated => Condition::Stopped,
        _ if row.restart.is_some() => Condition::Restarting,
        _ => Condition::Unknown,
    };
    let rule = (condition == Condition::Stopped).then(|| row.status.as_str());
    row.standing.enter(condition, rule, at);
}

/// A wish that ends without a restart leaves the workspace as it was, or dead and left so.
fn abandoned(row: &mut Row, e: &RestartAbandoned, at: Timestamp) {
    let pending =
        matches!(row.standing.condition, Condition::Candidate | Condition::Held | Condition::Confirming);
    if !pending {
        return;
    }
    if row.status.is_up() {
        row.standing.well(at);
    } else if matches!(row.instance, Instance::Running { .. }) {
        row.standing.enter(Condition::Unknown, Some(&e.reason), at);
    } else {
        row.standing.enter(Condition::Held, Some(&e.reason), at);
    }
}

/// Signs of life that the observer fetched clear what was unknown; what speaks against it waits for its own fact.
pub(super) fn observe(row: &mut Row, e: &EvidenceObserved, at: Timestamp) {
    let heard = e.class == EvidenceClass::Life && e.generation == row.generation && row.status.is_up();
    if heard && row.standing.condition == Condition::Unknown {
        row.standing.well(at);
    }
}
