//! An incident, or any span of time, looked into: what first caused it, whom it hit, what those have in common, and what
//! happened in which order.
//!
//! A span that a brake opened begins with the first sign that led to it, not with the brake: signs are followed back from it as
//! long as no more than [`QUIET`] lies between two of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use covalence_events::log::EventLog;
use covalence_events::{
    Fact, IncidentId, Position, Recorded, StreamId, Timestamp, WorkspaceId, fleet, workspace,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::cause::{self, Candidate};
use crate::factors::{self, Factor};
use crate::impact::{self, Impact};
use crate::incident::{self, Incident};
use crate::reading::{self, Failure, Moment};
use crate::scene::Scene;
use crate::who::Who;
use crate::words::{self, Weight};

/// How far before a brake its first sign may lie, and how far before a span a change may lie that it comes from.
pub const LEAD: TimeDelta = TimeDelta::minutes(15);
/// Signs that lie farther apart than this are two stories: the rhythm of everything that observes is shorter.
pub const QUIET: TimeDelta = TimeDelta::seconds(120);
/// After the end of an incident its restarts come back within this.
pub const AFTERWARDS: TimeDelta = TimeDelta::seconds(120);
/// Facts that are looked at before a span.
pub const LEAD_FACTS_MAX: usize = 10_000;
/// Facts of a span that are looked at; a longer one is cut at its end, since the first cause lies at its beginning.
pub const FACTS_MAX: usize = 40_000;
/// Workspaces that are looked into.
pub const WORKSPACES_MAX: usize = 200;
/// Facts of one workspace before the span that are looked at to know what it was.
const PROFILE_FACTS: usize = 100;
/// Main facts that are shown.
pub const LINES_MAX: usize = 80;
/// Facts that are read at once.
const PAGE: usize = 2000;

/// What is looked into.
#[derive(Clone, Debug)]
pub enum About {
    /// An incident.
    Incident(IncidentId),
    /// A span that a person names.
    Span {
        /// From here on.
        since: Moment,
        /// Up to here.
        until: Moment,
        /// Only these workspaces, and what holds everybody; all where empty.
        workspaces: BTreeSet<WorkspaceId>,
    },
}

/// A main fact in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MainFact {
    /// When.
    pub at: DateTime<Utc>,
    /// Its place in the log.
    pub position: u64,
    /// Whose, or `fleet`.
    pub whose: String,
    /// Its type's word.
    pub word: String,
    /// In words.
    pub text: String,
    /// How much it matters, and which way.
    pub weight: Weight,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The incident; none for a span that a person named.
    pub incident: Option<Incident>,
    /// The first sign, or where the named span begins.
    pub since: DateTime<Utc>,
    /// The end, or the moment of looking.
    pub until: DateTime<Utc>,
    /// Whether it goes on.
    pub goes_on: bool,
    /// The first position of the span.
    pub from: u64,
    /// The last position that was looked at.
    pub to: u64,
    /// Facts that were looked at.
    pub facts: u64,
    /// Whether the span has more facts than are looked at; what is said rests on its beginning then.
    pub cut: bool,
    /// Proposed first causes, the likeliest first. Never empty.
    pub causes: Vec<Candidate>,
    /// Whom it hit, and how.
    pub impact: Impact,
    /// What those whom it hit have in common that others don't.
    pub common: Vec<Factor>,
    /// The main facts, oldest first.
    pub main: Vec<MainFact>,
    /// How many main facts are left out between the first and the last ones.
    pub left_out: u64,
}

/// The edges of what is read.
struct Edges {
    /// From here on facts are looked at for what was so before.
    lead: Position,
    /// The brake, or the first position of a named span.
    start: Position,
    end: Position,
    until: Timestamp,
    goes_on: bool,
    /// The time before which nothing counts; none where the first sign is looked for.
    since: Option<Timestamp>,
}

/// Looks into an incident or a span, as of a moment.
pub async fn show(log: &dyn EventLog, about: &About, now: Timestamp, who: &Who) -> Result<Report, Failure> {
    let (incident, edges, wanted) = match about {
        About::Incident(id) => {
            let incident = incident::find(log, *id, who).await?;
            let wanted = incident.workspaces.iter().map(|named| named.id).collect();
            (Some(incident.clone()), of_incident(log, &incident, now).await?, wanted)
        }
        About::Span { since, until, workspaces } => {
            (None, of_span(log, *since, *until).await?, workspaces.clone())
        }
    };
    let (facts, cut) = read(log, &edges, &wanted).await?;
    let first = first_sign(&facts, &edges);
    let mut scene = Scene::default();
    know(log, &mut scene, &facts, who).await?;
    let since = edges.since.unwrap_or_else(|| facts.get(first).map_or(edges.until, |event| begins(event)));
    scene.begin(since);
    for event in facts.iter().take(first) {
        if is_change(event) {
            scene.follow(event);
        } else {
            scene.before(event);
        }
    }
    let span = facts.get(first..).unwrap_or_default();
    for event in span {
        scene.follow(event);
    }
    let (main, left_out) = main_facts(span, who);
    Ok(Report {
        incident,
        since,
        until: edges.until,
        goes_on: edges.goes_on,
        from: span.first().map_or(edges.start.0, |event| event.position.0),
        to: span.last().map_or(edges.end.0, |event| event.position.0),
        facts: facts.len() as u64,
        cut,
        causes: cause::propose(&scene, who),
        impact: impact::of(&scene, edges.until, who),
        common: factors::of(&scene, since, who),
        main,
        left_out,
    })
}

async fn of_incident(log: &dyn EventLog, incident: &Incident, now: Timestamp) -> Result<Edges, Failure> {
    let ended = incident.ended();
    let until = ended.map_or(now, |ended| (ended + AFTERWARDS).min(now.max(ended)));
    let end = log.position_at(until).await?;
    let goes_on = ended.is_none();
    if let Some(brake) = incident.brakes.first() {
        let start = Position(brake.position);
        let lead = lead(log, brake.at, start).await?;
        return Ok(Edges { lead, start, end: end.max(start), until, goes_on, since: None });
    }
    let since = incident.since.unwrap_or(incident.opened - LEAD);
    let start = first_at(log, since).await?;
    let lead = lead(log, since, start).await?;
    Ok(Edges { lead, start, end, until, goes_on, since: Some(since) })
}

async fn of_span(log: &dyn EventLog, since: Moment, until: Moment) -> Result<Edges, Failure> {
    let (end, until) = reading::resolve(log, until).await?;
    let (start, since) = match since {
        Moment::Time(at) => (first_at(log, at).await?, at),
        Moment::Position(_) | Moment::Now(_) => reading::resolve(log, since).await?,
    };
    if since > until {
        return Err(Failure::Backwards);
    }
    let lead = lead(log, since, start).await?;
    Ok(Edges { lead, start, end, until, goes_on: false, since: Some(since) })
}

async fn first_at(log: &dyn EventLog, at: Timestamp) -> Result<Position, Failure> {
    let before = at.checked_sub_signed(TimeDelta::microseconds(1)).unwrap_or(at);
    Ok(log.position_at(before).await?.next())
}

async fn lead(log: &dyn EventLog, at: Timestamp, start: Position) -> Result<Position, Failure> {
    let by_time = first_at(log, at.checked_sub_signed(LEAD).unwrap_or(at)).await?;
    let by_count = Position(start.0.saturating_sub(LEAD_FACTS_MAX as u64).max(1));
    Ok(by_time.max(by_count).min(start))
}

async fn read(
    log: &dyn EventLog,
    edges: &Edges,
    wanted: &BTreeSet<WorkspaceId>,
) -> Result<(Vec<Arc<Recorded>>, bool), Failure> {
    let mut facts = Vec::new();
    let mut next = Position(edges.lead.0.max(1));
    let mut left = FACTS_MAX + LEAD_FACTS_MAX;
    while next <= edges.end && left > 0 {
        let page = log.read_all(next, PAGE.min(left)).await?;
        let Some(last) = page.last() else { break };
        next = last.position.next();
        left = left.saturating_sub(page.len());
        facts.extend(page.into_iter().filter(|event| {
            event.position <= edges.end
                && (wanted.is_empty() || event.subject().is_none_or(|id| wanted.contains(&id)))
        }));
    }
    Ok((facts, left == 0 && next <= edges.end))
}

/// What everybody was before: the first fact of each stream, and the last ones before the span.
async fn know(
    log: &dyn EventLog,
    scene: &mut Scene,
    facts: &[Arc<Recorded>],
    who: &Who,
) -> Result<(), Failure> {
    let mut ids: BTreeSet<WorkspaceId> = facts.iter().filter_map(|event| event.subject()).collect();
    ids.extend(who.living().map(|(id, _)| id));
    let before =
        facts.first().map_or_else(|| log.head(), |first| Position(first.position.0.saturating_sub(1)));
    for id in ids.into_iter().take(WORKSPACES_MAX) {
        let stream = StreamId::Workspace(id);
        let created = log.read(stream, covalence_events::Version(1), 1).await?;
        // Whoever was created after the span is no part of it.
        let Some(created) = created.first().filter(|created| created.position <= before) else { continue };
        scene.know(created);
        let back = log.read_back(stream, before, PROFILE_FACTS).await?;
        if back.iter().any(|event| matches!(event.fact, Fact::Workspace(workspace::Event::Removed(_)))) {
            scene.forget(id);
            continue;
        }
        back.iter().filter(|event| event.position > created.position).for_each(|event| scene.know(event));
    }
    Ok(())
}

/// The index of the first fact that belongs to the span.
fn first_sign(facts: &[Arc<Recorded>], edges: &Edges) -> usize {
    let start = facts.iter().position(|event| event.position >= edges.start).unwrap_or(facts.len());
    if edges.since.is_some() {
        return start;
    }
    let (mut first, mut at) = (start, facts.get(start).map_or(edges.until, |event| event.meta.at));
    for (index, event) in facts.iter().enumerate().take(start).rev() {
        if event.meta.at + QUIET < at {
            break;
        }
        if is_sign(event, index.checked_sub(1).and_then(|before| facts.get(before))) {
            first = index;
            at = at.min(begins(event));
        }
    }
    first
}

/// Since when what a fact says was so.
fn begins(event: &Recorded) -> Timestamp {
    let ms = match &event.fact {
        Fact::Workspace(workspace::Event::SuspicionRaised(e)) => e.silent_ms,
        Fact::Fleet(fleet::Event::ObserverChanged(e)) => e.pause_ms.unwrap_or(0),
        Fact::Workspace(_) | Fact::Fleet(_) => 0,
    };
    let back = TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 2));
    event.meta.at.checked_sub_signed(back).unwrap_or(event.meta.at)
}

/// Whether a fact may be a part of what led to a brake.
fn is_sign(event: &Recorded, before: Option<&Arc<Recorded>>) -> bool {
    use fleet::Event as F;
    use workspace::Event as W;
    if before.is_some_and(|before| before.meta.boot != event.meta.boot) {
        return true;
    }
    match &event.fact {
        Fact::Workspace(fact) => match fact {
            W::EvidenceObserved(e) => e.class != workspace::EvidenceClass::Life,
            W::SuspicionRaised(_)
            | W::VerdictReached(_)
            | W::VerdictWithheld(_)
            | W::RestartRequested(_)
            | W::ProvisionFailed(_)
            | W::OutcomeUnknown(_)
            | W::WentOffline(_)
            | W::StopFailed(_)
            | W::SessionPoisoned(_)
            | W::HandlerPanicked(_)
            | W::DeathRefuted(_) => true,
            W::Paused(_) | W::Removed(_) => event.meta.principal.is_operator(),
            _ => is_change(event),
        },
        Fact::Fleet(fact) => match fact {
            F::ObserverChanged(e) => e.score > e.from || e.pause_ms.is_some(),
            F::CircuitChanged(e) => e.state == fleet::CircuitState::Open,
            F::EngineLost(_)
            | F::PlatformStopped(_)
            | F::TailRepaired(_)
            | F::LogMended(_)
            | F::InvariantViolated(_) => true,
            _ => is_change(event),
        },
    }
}

/// Whether a fact changes what is so, so that what comes later may come from it.
fn is_change(event: &Recorded) -> bool {
    use workspace::Event as W;
    match &event.fact {
        Fact::Workspace(W::RuntimeChanged(_) | W::TierChanged(_) | W::DirectoryChanged(_)) => true,
        Fact::Fleet(fleet::Event::PolicyChanged(e)) => {
            !e.changed.is_empty() && event.meta.principal.is_operator()
        }
        Fact::Fleet(fleet::Event::HoldSet(_)) => true,
        Fact::Workspace(_) | Fact::Fleet(_) => false,
    }
}

fn main_facts(span: &[Arc<Recorded>], who: &Who) -> (Vec<MainFact>, u64) {
    let mut main: Vec<MainFact> = Vec::new();
    for event in span {
        let said = words::say(event, who);
        let is_routine = matches!(said.weight, Weight::Routine)
            || matches!(
                &event.fact,
                Fact::Workspace(
                    workspace::Event::ProvisionRequested(_)
                        | workspace::Event::ConfirmRequested(_)
                        | workspace::Event::TokenIssued(_)
                        | workspace::Event::TokensRevoked(_)
                        | workspace::Event::CallFinished(_)
                        | workspace::Event::CallRecorded(_)
                        | workspace::Event::SecretSet(_)
                        | workspace::Event::SecretRemoved(_)
                        | workspace::Event::MessageQueued(_)
                        | workspace::Event::ActivityReported(_)
                        | workspace::Event::Notified(_)
                        | workspace::Event::DelegationRequested(_)
                        | workspace::Event::DelegationDispatched(_)
                        | workspace::Event::DelegationQueued(_)
                        | workspace::Event::DelegationEnded(_)
                        | workspace::Event::CallQueued(_)
                        | workspace::Event::CallDispatched(_)
                        | workspace::Event::CallReturned(_)
                        | workspace::Event::CallDequeued(_)
                        | workspace::Event::ActivityAcked(_)
                        | workspace::Event::AgentAssigned(_)
                        | workspace::Event::AgentRemoved(_)
                        | workspace::Event::AgentMoveEnded(_)
                        | workspace::Event::TeamExpanded(_)
                        | workspace::Event::TeamCollapsed(_)
                        | workspace::Event::Registered(_)
                        | workspace::Event::CardUpdated(_)
                        | workspace::Event::StopRequested(_)
                        | workspace::Event::Placed(_)
                ) | Fact::Fleet(fleet::Event::ProvisionLimitChanged(_) | fleet::Event::RestartSettled(_))
            );
        if is_routine {
            continue;
        }
        let whose = event.subject().map_or_else(|| "fleet".to_owned(), |id| who.name(id));
        let (word, text) = (words::word(&event.fact).to_owned(), said.text);
        if main.last().is_some_and(|last| (&last.whose, &last.word, &last.text) == (&whose, &word, &text)) {
            continue;
        }
        let (at, position) = (event.meta.at, event.position.0);
        main.push(MainFact { at, position, whose, word, text, weight: said.weight });
    }
    let left_out = main.len().saturating_sub(LINES_MAX);
    if left_out > 0 {
        // How it began and how it ended say more than the middle.
        let head = LINES_MAX * 3 / 4;
        main.drain(head..head + left_out);
    }
    (main, left_out as u64)
}
