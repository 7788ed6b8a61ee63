//! Which facts belong to one story: those that caused each other, those of the same restart, and what held meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use covalence_events::workspace::{self, EvidenceClass, Verdict};
use covalence_events::{EventId, Fact, Recorded, RestartId, StreamId, WorkspaceId, fleet};

use super::Stage;
use super::standing::Standing;

/// What held this long before the first fact of a story, in seconds, is shown with it.
const AROUND_BEFORE_S: i64 = 60;

/// Facts about what held that one story shows; the newest win.
const AROUND_MAX: usize = 40;

/// Routine facts that stand for a life in which nothing happened.
const ROUTINE: usize = 5;

/// A story's facts in the log's order.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) steps: Vec<(Arc<Recorded>, Stage)>,
}

/// Whether a story can be told around a fact: something spoke against a workspace, or somebody wanted it otherwise.
pub(super) fn is_anchor(event: &Recorded) -> bool {
    use workspace::Event as E;
    match &event.fact {
        Fact::Workspace(
            E::VerdictWithheld(_)
            | E::SuspicionRaised(_)
            | E::RestartRequested(_)
            | E::Quarantined(_)
            | E::Paused(_)
            | E::Removed(_)
            | E::ProvisionFailed(_)
            | E::OutcomeUnknown(_)
            | E::WentOffline(_),
        ) => true,
        Fact::Workspace(E::VerdictReached(e)) => e.verdict == Verdict::Dead,
        Fact::Workspace(E::EvidenceObserved(e)) => {
            matches!(e.class, EvidenceClass::Death | EvidenceClass::Silence | EvidenceClass::Suspicion)
        }
        Fact::Workspace(_) | Fact::Fleet(_) => false,
    }
}

impl Chain {
    /// The story around a fact.
    pub(super) fn of(facts: &[Arc<Recorded>], anchor: &Recorded, standing: &Standing) -> Self {
        let about: Vec<&Arc<Recorded>> =
            facts.iter().filter(|event| event.subject() == anchor.subject() && !is_routine(event)).collect();
        let mut story = Story { doubts: doubts(&about), ..Story::default() };
        story.take(anchor);
        // Each round takes one link more in both directions; a story has a bounded number of them.
        while story.grow(&about) {}
        let mut steps: Vec<(Arc<Recorded>, Stage)> = about
            .iter()
            .filter(|event| story.taken.contains(&event.meta.id))
            .map(|event| (Arc::clone(event), stage(event)))
            .collect();
        if steps.is_empty() {
            steps.extend(
                facts
                    .iter()
                    .filter(|event| event.position == anchor.position)
                    .map(|event| (Arc::clone(event), stage(event))),
            );
        }
        let around = around(facts, &steps, standing);
        steps.extend(around);
        steps.sort_by_key(|(event, _)| event.position);
        steps.dedup_by_key(|(event, _)| event.position);
        Self { steps }
    }

    /// The last facts of a life in which nothing was ever against a workspace.
    pub(super) fn routine(facts: &[Arc<Recorded>], workspace: Option<WorkspaceId>) -> Self {
        let mut steps: Vec<(Arc<Recorded>, Stage)> = facts
            .iter()
            .rev()
            .filter(|event| event.subject() == workspace)
            .take(ROUTINE)
            .map(|event| (Arc::clone(event), stage(event)))
            .collect();
        steps.reverse();
        Self { steps }
    }

    /// The newest fact that a question picks something out of.
    pub(super) fn last<T>(&self, pick: impl Fn(&Recorded) -> Option<T>) -> Option<T> {
        self.steps.iter().rev().find_map(|(event, _)| pick(event))
    }

    /// The oldest fact that a question picks something out of.
    pub(super) fn first<T>(&self, pick: impl Fn(&Recorded) -> Option<T>) -> Option<T> {
        self.steps.iter().find_map(|(event, _)| pick(event))
    }
}

/// What is known to belong together so far.
#[derive(Debug, Default)]
struct Story {
    taken: BTreeSet<EventId>,
    /// Facts that those taken rest on.
    wanted: BTreeSet<EventId>,
    restarts: BTreeSet<RestartId>,
    /// Which time of doubt a fact is a part of. Facts about doubt need not name each other.
    doubts: BTreeMap<EventId, usize>,
    doubted: BTreeSet<usize>,
}

impl Story {
    fn wants(&self, event: &Recorded) -> bool {
        !self.taken.contains(&event.meta.id)
            && (self.wanted.contains(&event.meta.id)
                || event.meta.causation.is_some_and(|cause| self.taken.contains(&cause))
                || restart(&event.fact).is_some_and(|restart| self.restarts.contains(&restart))
                || self.doubts.get(&event.meta.id).is_some_and(|doubt| self.doubted.contains(doubt)))
    }

    fn take(&mut self, event: &Recorded) {
        self.wanted.extend(event.meta.causation);
        self.wanted.extend(evidence(&event.fact));
        self.restarts.extend(restart(&event.fact));
        self.doubted.extend(self.doubts.get(&event.meta.id));
        self.taken.insert(event.meta.id);
    }

    /// Takes everything that is known to belong; whether that was anything.
    fn grow(&mut self, about: &[&Arc<Recorded>]) -> bool {
        let before = self.taken.len();
        for event in about {
            if self.wants(event) {
                self.take(event);
            }
        }
        self.taken.len() > before
    }
}

/// Times of doubt, each from the first thing that speaks against a workspace until it is heard from or judged.
fn doubts(about: &[&Arc<Recorded>]) -> BTreeMap<EventId, usize> {
    use workspace::Event as E;
    let mut found = BTreeMap::new();
    let (mut number, mut open) = (0, false);
    for event in about {
        let Fact::Workspace(fact) = &event.fact else { continue };
        let (begins, ends) = match fact {
            E::SuspicionRaised(_) | E::VerdictWithheld(_) => (true, false),
            E::EvidenceObserved(e) => {
                (matches!(e.class, EvidenceClass::Suspicion | EvidenceClass::Silence), false)
            }
            E::SuspicionCleared(_) | E::VerdictReached(_) => (false, true),
            // Whoever is started anew is doubted anew.
            E::ProvisionRequested(_) | E::Paused(_) => {
                open = false;
                continue;
            }
            _ => continue,
        };
        if begins && !open {
            number += 1;
            open = true;
        }
        if open && (begins || ends) {
            found.insert(event.meta.id, number);
        }
        open = open && !ends;
    }
    found
}

/// The facts that a judgement says that it rests on.
fn evidence(fact: &Fact) -> &[EventId] {
    if let Fact::Workspace(event) = fact {
        if let workspace::Event::VerdictReached(e) = event {
            return &e.evidence;
        } else if let workspace::Event::RestartRequested(e) = event {
            return &e.evidence;
        } else if let workspace::Event::SuspicionRaised(e) = event {
            return &e.evidence;
        }
    }
    &[]
}

/// The restart that a fact is a part of.
fn restart(fact: &Fact) -> Option<RestartId> {
    use fleet::Event as F;
    use workspace::Event as E;
    match fact {
        Fact::Workspace(event) => match event {
            E::RestartRequested(e) => Some(e.restart),
            E::RestartStarted(e) => Some(e.restart),
            E::RestartAbandoned(e) => Some(e.restart),
            E::RestartAnnounced(e) => Some(e.restart),
            E::DrainRequested(e) => Some(e.restart),
            E::DrainEnded(e) => Some(e.restart),
            E::Quarantined(e) => Some(e.restart),
            E::ConfirmRequested(e) => Some(e.restart),
            E::DeathRefuted(e) => Some(e.restart),
            E::RestartProved(e) => Some(e.restart),
            E::ProvisionRequested(e) => e.restart,
            E::CameOnline(e) => e.restart,
            _ => None,
        },
        Fact::Fleet(event) => match event {
            F::RestartAdmitted(e) => Some(e.restart),
            F::RestartDeferred(e) => Some(e.restart),
            F::RestartSuppressed(e) => Some(e.restart),
            F::RestartSettled(e) => Some(e.restart),
            F::RestartProved(e) => Some(e.restart),
            _ => None,
        },
    }
}

/// Facts that come by the thousand and belong to no story.
fn is_routine(event: &Recorded) -> bool {
    use workspace::Event as E;
    matches!(
        &event.fact,
        Fact::Workspace(
            E::HeartbeatReceived(_)
                | E::CallFinished(_)
                | E::CallRecorded(_)
                | E::SecretSet(_)
                | E::SecretRemoved(_)
                | E::MessageQueued(_)
                | E::ActivityReported(_)
                | E::Notified(_)
                | E::DelegationRequested(_)
                | E::DelegationDispatched(_)
                | E::DelegationQueued(_)
                | E::DelegationEnded(_)
                | E::CallQueued(_)
                | E::CallDispatched(_)
                | E::CallReturned(_)
                | E::CallDequeued(_)
                | E::ActivityAcked(_)
                | E::AgentAssigned(_)
                | E::AgentRemoved(_)
                | E::AgentMoveEnded(_)
                | E::TeamExpanded(_)
                | E::TeamCollapsed(_)
                | E::Placed(_)
                | E::Folded(_)
                | E::CardUpdated(_)
                | E::TokenIssued(_)
                | E::TokensRevoked(_)
                | E::RestartAnnounced(_)
        )
    )
}

/// Which part of a chain a fact is.
fn stage(event: &Recorded) -> Stage {
    use fleet::Event as F;
    use workspace::Event as E;
    match &event.fact {
        Fact::Workspace(event) => match event {
            E::EvidenceObserved(_) | E::SuspicionRaised(_) | E::SuspicionCleared(_) => Stage::Evidence,
            E::VerdictReached(_) | E::VerdictWithheld(_) | E::WentOffline(_) => Stage::Verdict,
            E::RestartRequested(_) => Stage::Request,
            E::Quarantined(_) => Stage::Admission,
            E::ConfirmRequested(_) | E::DrainRequested(_) | E::DrainEnded(_) => Stage::Confirm,
            E::RestartStarted(_)
            | E::ProvisionRequested(_)
            | E::InstanceStarted(_)
            | E::InstanceStopped(_)
            | E::InstanceAdopted(_)
            | E::StopRequested(_)
            | E::StopFailed(_)
            | E::Registered(_) => Stage::Start,
            _ => Stage::Outcome,
        },
        Fact::Fleet(event) => match event {
            F::RestartAdmitted(_)
            | F::RestartDeferred(_)
            | F::RestartSuppressed(_)
            | F::QuarantineProbed(_)
            | F::QuarantineLifted(_) => Stage::Admission,
            F::RestartSettled(_) | F::RestartProved(_) => Stage::Outcome,
            _ => Stage::Around,
        },
    }
}

/// What held from shortly before a story's first fact to its last, for the workspace that it is about.
fn around(
    facts: &[Arc<Recorded>],
    story: &[(Arc<Recorded>, Stage)],
    standing: &Standing,
) -> Vec<(Arc<Recorded>, Stage)> {
    let (Some((first, _)), Some((last, _))) = (story.first(), story.last()) else { return Vec::new() };
    // As long as it is not over, what holds now belongs to it as well.
    let end = if standing.is_settled() { Some(last.position) } else { None };
    let begin = first.meta.at.checked_sub_signed(TimeDelta::seconds(AROUND_BEFORE_S));
    let mut found: Vec<_> = facts
        .iter()
        .rev()
        .filter(|event| begin.is_none_or(|begin| event.meta.at >= begin))
        .filter(|event| end.is_none_or(|end| event.position <= end))
        .filter(|event| event.stream == StreamId::Fleet && standing.concerns(event))
        .take(AROUND_MAX)
        .map(|event| (Arc::clone(event), Stage::Around))
        .collect();
    found.reverse();
    found
}
