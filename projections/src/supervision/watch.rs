//! What speaks against one workspace, and what was said about it last.

use std::collections::{BTreeMap, VecDeque};

use covalence_events::workspace::{
    Event, EvidenceClass, EvidenceObserved, EvidenceSource, SuspicionRaised, VerdictWithheld,
};
use covalence_events::{EventId, Generation, Recorded, Timestamp};
use serde::{Deserialize, Serialize};

/// Pieces of evidence kept of one workspace: several restarts' worth.
const SEEN_MAX: usize = 10;

/// One source that speaks against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Since when.
    pub since: Timestamp,
    /// What it said: a stable word.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// The suspicion as it was raised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Since when.
    pub since: Timestamp,
    /// The first source that spoke against it.
    pub source: EvidenceSource,
    /// How surprising its silence was, where heartbeats were the source.
    pub phi: Option<f64>,
    /// Since its last sign of life, in milliseconds, as of then.
    pub silent_ms: u64,
    /// Our own score at that moment.
    pub observer_score: u32,
}

/// A verdict that was not reached, and the rule that said to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// When.
    pub at: Timestamp,
    /// The rule: `one_source`, `observer_unwell`, `brake`, `grace`.
    pub rule: String,
    /// Since its last sign of life, in milliseconds, as of then.
    pub silent_ms: u64,
    /// Our own score at that moment.
    pub observer_score: u32,
}

/// Something that was said about whether it lives, other than signs of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The fact's own id.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// Where it comes from.
    pub source: EvidenceSource,
    /// What it is worth.
    pub class: EvidenceClass,
    /// The generation that it speaks of.
    pub generation: Generation,
    /// A stable word.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Exit status, where there is one.
    pub exit_status: Option<i32>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Sources that speak against it.
    pub doubts: BTreeMap<EvidenceSource, Doubt>,
    /// The suspicion, if one is raised.
    pub suspicion: Option<Suspicion>,
    /// The verdict that was not reached, as long as it is suspect.
    pub withheld: Option<Withheld>,
    /// What was said last, newest last.
    pub seen: VecDeque<Seen>,
}

impl Watch {
    /// Whether nothing in it is worth keeping.
    pub(super) fn is_empty(&self) -> bool {
        self.doubts.is_empty() && self.suspicion.is_none() && self.withheld.is_none() && self.seen.is_empty()
    }

    pub(super) fn take(&mut self, event: &Event, recorded: &Recorded) {
        let at = recorded.meta.at;
        // A chain, not a match: only these facts say anything about whether it lives.
        if let Event::EvidenceObserved(e) = event {
            self.observe(e, recorded);
        } else if let Event::SuspicionRaised(e) = event {
            self.suspicion = Some(Suspicion::raised(e, at));
        } else if let Event::VerdictWithheld(e) = event {
            self.withheld = Some(Withheld::of(e, at));
        } else if let Event::SuspicionCleared(_)
        | Event::ProvisionRequested(_)
        | Event::ProvisionFailed(_)
        | Event::StopRequested(_)
        | Event::InstanceStopped(_) = event
        {
            // Everything that speaks against an instance ends with it.
            self.doubts.clear();
            (self.suspicion, self.withheld) = (None, None);
        }
    }

    fn observe(&mut self, e: &EvidenceObserved, recorded: &Recorded) {
        let at = recorded.meta.at;
        if e.class == EvidenceClass::Life {
            return;
        }
        if e.class == EvidenceClass::Suspicion {
            let doubt = || Doubt { since: at, code: e.code.clone(), detail: e.detail.clone() };
            self.doubts.entry(e.source).or_insert_with(doubt);
        }
        if self.seen.len() == SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen {
            id: recorded.meta.id,
            at,
            source: e.source,
            class: e.class,
            generation: e.generation,
            code: e.code.clone(),
            detail: e.detail.clone(),
            exit_status: e.exit_status,
        });
    }
}

impl Suspicion {
    fn raised(e: &SuspicionRaised, at: Timestamp) -> Self {
        Self {
            since: at,
            source: e.source,
            phi: e.phi,
            silent_ms: e.silent_ms,
            observer_score: e.observer_score,
        }
    }
}

impl Withheld {
    fn of(e: &VerdictWithheld, at: Timestamp) -> Self {
        Self { at, rule: e.rule.clone(), silent_ms: e.silent_ms, observer_score: e.observer_score }
    }
}
