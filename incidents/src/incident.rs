//! Incidents as objects: who opened which, when its brake was on, what people said about it, and whether they are done with it.
//!
//! All of it is in the fleet's stream. A brake's facts belong to the last incident that its cell opened and nobody closed; the
//! supervisor decided that when it recorded whether a new one was opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use covalence_events::fleet::{BrakeEngaged, Event, IncidentOpened};
use covalence_events::log::EventLog;
use covalence_events::workspace::BackendKind;
use covalence_events::{EventId, Fact, IncidentId, Position, Recorded, StreamId, Version, WorkspaceId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::flight::Flight;
use crate::reading::{self, Failure, Which};
use crate::who::Who;

/// Incidents of one answer, where nobody says.
pub const INCIDENTS_DEFAULT: usize = 20;

/// Incidents of one answer at most.
pub const INCIDENTS_MAX: usize = 200;

/// Facts of the fleet that a list looks back over, and that one incident is followed over.
pub const FACTS_MAX: usize = 20_000;

/// Facts that are read at once.
const PAGE: usize = 2000;

/// How far an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It goes on: a brake is engaged, or nobody said that it ended.
    Open,
    /// It has ended, and no person is done with it yet.
    Over,
    /// A person is done with it.
    Closed,
}

impl Status {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Over => "over",
            Self::Closed => "closed",
        }
    }
}

/// A workspace by id and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: WorkspaceId,
}

impl Named {
    pub(crate) fn of(id: WorkspaceId, who: &Who) -> Self {
        Self { name: who.name(id), id }
    }
}

/// A brake of the incident, from its engagement to its release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Braked {
    /// The fact that engaged it.
    pub position: u64,
    /// The cell.
    pub cell: String,
    /// What engaged it.
    pub trigger: String,
    /// Its first mode.
    pub mode: String,
    /// When.
    pub at: DateTime<Utc>,
    /// When it was released; none while it is engaged.
    pub until: Option<DateTime<Utc>>,
}

/// What a person said about an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Note {
    /// Its place in the log.
    pub position: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// What.
    pub text: String,
}

/// An incident: what people, or a brake, made one of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Incident {
    /// Its id: that of the fact that opened it.
    #[schema(value_type = String, format = Uuid)]
    pub id: IncidentId,
    /// That fact's place in the log.
    pub position: u64,
    /// What it is about.
    pub title: String,
    /// How far it is.
    pub status: Status,
    /// Who opened it: `system` where a brake did.
    pub by: String,
    /// When it was opened.
    pub opened: DateTime<Utc>,
    /// The cell whose brake opened it.
    pub cell: Option<String>,
    /// When it began, as far as a person said.
    pub since: Option<DateTime<Utc>>,
    /// When it ended, as far as a person said.
    pub until: Option<DateTime<Utc>>,
    /// Whom a person named; everybody where none.
    pub workspaces: Vec<Named>,
    /// Its brakes, oldest first.
    pub brakes: Vec<Braked>,
    /// What observers had seen when they engaged, oldest first.
    #[serde(default)]
    pub flights: Vec<Flight>,
    /// What people said, oldest first.
    pub notes: Vec<Note>,
    /// Who is done with it, when, and what they said; none before.
    pub closed: Option<Note>,
}

impl Incident {
    fn new(e: &IncidentOpened, recorded: &Recorded, who: &Who) -> Self {
        Self {
            id: e.incident,
            position: recorded.position.0,
            title: e.title.clone(),
            status: Status::Open,
            by: recorded.meta.principal.to_string(),
            opened: recorded.meta.at,
            cell: e.cell.map(|cell| cell.as_str().to_owned()),
            since: e.since,
            until: e.until,
            workspaces: e.workspaces.iter().map(|id| Named::of(*id, who)).collect(),
            brakes: Vec::new(),
            flights: Vec::new(),
            notes: Vec::new(),
            closed: None,
        }
    }

    /// When it ended, as far as the facts say.
    pub fn ended(&self) -> Option<DateTime<Utc>> {
        let released = self.brakes.last().and_then(|brake| brake.until);
        self.until.or(released).or_else(|| self.closed.as_ref().map(|closed| closed.at))
    }

    fn judged(mut self) -> Self {
        let ended = self.until.is_some() || self.brakes.last().is_some_and(|brake| brake.until.is_some());
        self.status = match (&self.closed, ended) {
            (Some(_), _) => Status::Closed,
            (None, true) => Status::Over,
            (None, false) => Status::Open,
        };
        self
    }
}

/// Incidents, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Incidents {
    /// Newest first.
    pub incidents: Vec<Incident>,
    /// Where looking back ended, if that was before the log's beginning and before there were as many as were asked for.
    pub looked_back_to: Option<DateTime<Utc>>,
}

/// The last incidents, at most so many (up to [`INCIDENTS_MAX`]), as of the log's head.
pub async fn list(log: &dyn EventLog, limit: usize, who: &Who) -> Result<Incidents, Failure> {
    let limit = limit.clamp(1, INCIDENTS_MAX);
    let mut facts: Vec<Arc<Recorded>> = Vec::new();
    let mut opened = 0;
    let mut reached = true;
    while opened < limit {
        let end =
            facts.first().map_or_else(|| log.head(), |first| Position(first.position.0.saturating_sub(1)));
        let mut older = log.read_back(StreamId::Fleet, end, PAGE).await?;
        opened += older.iter().filter(|event| is_opening(event)).count();
        let done = older.len() < PAGE;
        older.append(&mut facts);
        facts = older;
        if done {
            break;
        }
        if facts.len() >= FACTS_MAX {
            reached = false;
            break;
        }
    }
    let looked_back_to = facts.first().filter(|_| !reached).map(|first| first.meta.at);
    let mut incidents = Fold::over(&facts, who).finish();
    incidents.reverse();
    incidents.truncate(limit);
    Ok(Incidents { incidents, looked_back_to })
}

/// One incident by its id, as of the log's head.
pub async fn find(log: &dyn EventLog, id: IncidentId, who: &Who) -> Result<Incident, Failure> {
    let opening = reading::locate(log, Which::Id(EventId(id.0))).await;
    let opening = opening.map_err(|failure| match failure {
        Failure::NoFact(_) => Failure::NoIncident(id),
        other => other,
    })?;
    if !is_opening(&opening) {
        return Err(Failure::NoIncident(id));
    }
    // The brake that opened it is right before it.
    let mut next = Version(opening.version.0.saturating_sub(1).max(1));
    let mut fold = Fold::new(who);
    let mut left = FACTS_MAX;
    while left > 0 {
        let page = log.read(StreamId::Fleet, next, PAGE.min(left)).await?;
        let Some(last) = page.last() else { break };
        next = last.version.next();
        left = left.saturating_sub(page.len());
        for event in &page {
            fold.follow(event);
        }
    }
    fold.finish().into_iter().find(|incident| incident.id == id).ok_or(Failure::NoIncident(id))
}

fn is_opening(event: &Recorded) -> bool {
    matches!(&event.fact, Fact::Fleet(Event::IncidentOpened(_)))
}

/// Facts of the fleet to incidents.
struct Fold<'a> {
    who: &'a Who,
    incidents: Vec<Incident>,
    by_id: BTreeMap<IncidentId, usize>,
    /// The last incident of each cell.
    last: BTreeMap<BackendKind, usize>,
    /// The brake that is on, where no incident is known that it belongs to.
    loose: BTreeMap<BackendKind, Braked>,
}

impl<'a> Fold<'a> {
    fn new(who: &'a Who) -> Self {
        Self {
            who,
            incidents: Vec::new(),
            by_id: BTreeMap::new(),
            last: BTreeMap::new(),
            loose: BTreeMap::new(),
        }
    }

    fn over(facts: &[Arc<Recorded>], who: &'a Who) -> Self {
        let mut fold = Self::new(who);
        for event in facts {
            fold.follow(event);
        }
        fold
    }

    fn follow(&mut self, event: &Recorded) {
        let Fact::Fleet(fact) = &event.fact else { return };
        match fact {
            Event::BrakeEngaged(e) => self.braked(e, event),
            Event::BrakeReleased(e) => {
                self.loose.remove(&e.cell);
                if let Some(brake) = self.brake_of(e.cell) {
                    brake.until.get_or_insert(event.meta.at);
                }
            }
            Event::IncidentOpened(e) => self.opened(e, event),
            Event::FlightRecorded(e) => self.flown(e.cell, Flight::recorded(e, event)),
            Event::FlightLost(e) => self.flown(e.cell, Flight::lost(e, event)),
            Event::IncidentNoted(e) => {
                let note = note(event, &e.text);
                if let Some(incident) = self.of(e.incident) {
                    incident.notes.push(note);
                }
            }
            Event::IncidentClosed(e) => {
                let note = note(event, e.comment.as_deref().unwrap_or_default());
                if let Some(incident) = self.of(e.incident) {
                    incident.closed = Some(note);
                }
            }
            _ => {}
        }
    }

    fn of(&mut self, id: IncidentId) -> Option<&mut Incident> {
        let index = *self.by_id.get(&id)?;
        self.incidents.get_mut(index)
    }

    /// The last brake of the cell's last incident.
    fn brake_of(&mut self, cell: BackendKind) -> Option<&mut Braked> {
        let index = *self.last.get(&cell)?;
        self.incidents.get_mut(index)?.brakes.last_mut()
    }

    fn braked(&mut self, e: &BrakeEngaged, event: &Recorded) {
        let on = self.brake_of(e.cell).is_some_and(|brake| brake.until.is_none());
        if on || self.loose.contains_key(&e.cell) {
            return;
        }
        let braked = Braked {
            position: event.position.0,
            cell: e.cell.as_str().to_owned(),
            trigger: e.trigger.as_str().to_owned(),
            mode: e.mode.as_str().to_owned(),
            at: event.meta.at,
            until: None,
        };
        let open = self.last.get(&e.cell).and_then(|index| self.incidents.get_mut(*index));
        match open.filter(|incident| incident.closed.is_none()) {
            Some(incident) => incident.brakes.push(braked),
            None => drop(self.loose.insert(e.cell, braked)),
        }
    }

    /// Its brake is the last one of its cell: it comes right after it.
    fn flown(&mut self, cell: BackendKind, flight: Flight) {
        let last = self.last.get(&cell).and_then(|index| self.incidents.get_mut(*index));
        if let Some(incident) = last {
            incident.flights.push(flight);
        }
    }

    fn opened(&mut self, e: &IncidentOpened, event: &Recorded) {
        let mut incident = Incident::new(e, event, self.who);
        if let Some(cell) = e.cell {
            let index = self.incidents.len();
            if let Some(braked) = self.loose.remove(&cell) {
                incident.brakes.push(braked);
            } else if let Some(earlier) =
                self.last.get(&cell).and_then(|index| self.incidents.get_mut(*index))
            {
                // It was engaged a moment ago, and opened an incident of its own.
                let fresh = earlier.brakes.pop_if(|brake| brake.until.is_none());
                incident.brakes.extend(fresh);
            }
            self.last.insert(cell, index);
        }
        self.by_id.insert(e.incident, self.incidents.len());
        self.incidents.push(incident);
    }

    fn finish(self) -> Vec<Incident> {
        self.incidents.into_iter().map(Incident::judged).collect()
    }
}

fn note(event: &Recorded, text: &str) -> Note {
    Note {
        position: event.position.0,
        at: event.meta.at,
        by: event.meta.principal.to_string(),
        text: text.to_owned(),
    }
}
