//! The state of the fleet as plain fields, so that two moments can be held against each other, and stepped between.
//!
//! A [`Picture`] has a [`Subject`] for each workspace and for each thing that holds several of them: the policy, holds, modes,
//! cells with their brakes and engines, alarms. A field that says nothing is not there. [`Picture::changes_to`] compares two;
//! [`Walk`] goes from one moment to a later one fact by fact, and says after each what it has changed: the same changes, so
//! that they can be taken back one by one as well.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use covalence_events::fleet::{self, Scope};
use covalence_events::workspace::{self, BackendKind};
use covalence_events::{Fact, HoldId, Position, Principal, Recorded, WorkspaceId};
use serde_json::Value;

use crate::projection::{ApplyError, Projection as _};
use crate::roster::{Removed, Roster};
use crate::runner::Views;
use crate::supervision::Supervision;

mod fleet_fields;
mod workspace_fields;

/// What is said of one subject, by the field's name.
pub type Fields = BTreeMap<Cow<'static, str>, Value>;

/// Fields that each sign of life changes, and that say nothing else.
pub const PULSE: [&str; 4] = ["last_heartbeat_at", "last_outbound_at", "updated_at", "uptime_seconds"];

/// What a field belongs to. The order is that in which they are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The platform itself.
    Platform,
    /// The policy in force, with each of its parameters.
    Policy,
    /// Where decisions are only recorded: the scope in words.
    Mode(String),
    /// A person's hold.
    Hold(HoldId),
    /// An alarm that is on: its kind, and whom it is about.
    Alarm(String, Option<WorkspaceId>),
    /// An engine and what it runs, with its brake.
    Cell(BackendKind),
    /// A workspace.
    Workspace(WorkspaceId),
}

impl Subject {
    /// What kind of thing it is, in one word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Policy => "policy",
            Self::Mode(_) => "mode",
            Self::Hold(_) => "hold",
            Self::Alarm(..) => "alarm",
            Self::Cell(_) => "cell",
            Self::Workspace(_) => "workspace",
        }
    }

    /// Which one of its kind; empty where there is one only.
    pub fn key(&self) -> String {
        match self {
            Self::Platform | Self::Policy => String::new(),
            Self::Mode(scope) => scope.clone(),
            Self::Hold(id) => id.to_string(),
            Self::Alarm(kind, None) => kind.clone(),
            Self::Alarm(kind, Some(workspace)) => format!("{kind}:{workspace}"),
            Self::Cell(kind) => kind.as_str().to_owned(),
            Self::Workspace(id) => id.to_string(),
        }
    }

    /// The workspace that it is, or is about.
    pub const fn workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::Workspace(id) => Some(*id),
            Self::Alarm(_, workspace) => *workspace,
            Self::Platform | Self::Policy | Self::Mode(_) | Self::Hold(_) | Self::Cell(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key() {
            key if key.is_empty() => f.write_str(self.kind()),
            key => write!(f, "{}:{key}", self.kind()),
        }
    }
}

/// One field before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Whose.
    pub subject: Subject,
    /// The field.
    pub field: Cow<'static, str>,
    /// Its value before; null where it said nothing, or nothing was there.
    pub before: Value,
    /// Its value after; null where it says nothing, or nothing is there.
    pub after: Value,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture(BTreeMap<Subject, Fields>);

impl Picture {
    /// The picture that the projections give.
    pub fn of(roster: &Roster, supervision: &Supervision) -> Self {
        let mut subjects = fleet_fields::all(supervision);
        subjects.extend(fleet_fields::policy(supervision).map(|fields| (Subject::Policy, fields)));
        for row in roster.list(Removed::Show) {
            subjects.insert(Subject::Workspace(row.id), workspace_fields::of(&row, supervision));
        }
        Self(subjects)
    }

    /// Every subject with its fields, in the order in which they are shown.
    pub fn subjects(&self) -> impl Iterator<Item = (&Subject, &Fields)> {
        self.0.iter()
    }

    /// What is said of one subject; none where it is not there.
    pub fn get(&self, subject: &Subject) -> Option<&Fields> {
        self.0.get(subject)
    }

    /// Every field that differs in a later picture, by subject and name.
    pub fn changes_to(&self, later: &Self) -> Vec<Change> {
        let subjects: BTreeSet<&Subject> = self.0.keys().chain(later.0.keys()).collect();
        subjects
            .into_iter()
            .flat_map(|subject| changes(subject, self.get(subject), later.get(subject)))
            .collect()
    }

    fn put(&mut self, subject: Subject, fields: Option<Fields>) -> Vec<Change> {
        let found = changes(&subject, self.0.get(&subject), fields.as_ref());
        match fields {
            Some(fields) => drop(self.0.insert(subject, fields)),
            None => drop(self.0.remove(&subject)),
        }
        found
    }
}

fn changes(subject: &Subject, before: Option<&Fields>, after: Option<&Fields>) -> Vec<Change> {
    let nothing = Fields::new();
    let (before, after) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
    let names: BTreeSet<&Cow<'static, str>> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let value = |fields: &Fields, name: &Cow<'static, str>| fields.get(name).cloned().unwrap_or_default();
    differing
        .map(|name| Change {
            subject: subject.clone(),
            field: name.clone(),
            before: value(before, name),
            after: value(after, name),
        })
        .collect()
}

/// Goes forward through the log from a moment, fact by fact.
#[derive(Clone, Debug)]
pub struct Walk {
    roster: Roster,
    supervision: Supervision,
    picture: Picture,
    position: Position,
}

impl Walk {
    /// Begins at the moment that these projections show.
    pub fn from(views: &Views) -> Self {
        let (roster, supervision) = (views.roster.read().clone(), views.supervision.read().clone());
        let picture = Picture::of(&roster, &supervision);
        Self { roster, supervision, picture, position: views.checkpoint() }
    }

    /// The state after the last step.
    pub const fn picture(&self) -> &Picture {
        &self.picture
    }

    /// The last fact that was taken in.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Takes in the next fact, and answers what it has changed; nothing for one that was taken in before.
    ///
    /// # Errors
    /// It cannot follow the facts before it: the log is damaged. Nothing has changed then.
    pub fn step(&mut self, recorded: &Recorded) -> Result<Vec<Change>, ApplyError> {
        if recorded.position <= self.position {
            return Ok(Vec::new());
        }
        self.roster.apply(recorded)?;
        self.supervision.apply(recorded)?;
        self.position = recorded.position;
        let mut found = Vec::new();
        for id in self.touched(recorded) {
            let row = self.roster.get(id);
            let fields = row.map(|row| workspace_fields::of(&row, &self.supervision));
            found.extend(self.picture.put(Subject::Workspace(id), fields));
        }
        if let Fact::Fleet(event) = &recorded.fact {
            found.extend(self.fleet(event));
        }
        found.sort_by(|left, right| (&left.subject, &left.field).cmp(&(&right.subject, &right.field)));
        Ok(found)
    }

    /// The workspaces that a fact can have changed.
    fn touched(&self, recorded: &Recorded) -> BTreeSet<WorkspaceId> {
        let mut touched: BTreeSet<WorkspaceId> = recorded.subject().into_iter().collect();
        match &recorded.fact {
            // Who has called is a field of the caller.
            Fact::Workspace(workspace::Event::CallFinished(call)) => {
                if let Principal::Workspace(caller) = call.caller {
                    touched.insert(caller);
                }
            }
            // Nothing is known of anybody after our own start.
            Fact::Fleet(fleet::Event::PlatformStarted(_)) => {
                touched.extend(self.roster.list(Removed::Show).iter().map(|row| row.id));
            }
            Fact::Fleet(fleet::Event::StrategySet(set)) => drop(touched.insert(set.team)),
            Fact::Workspace(_) | Fact::Fleet(_) => {}
        }
        touched
    }

    /// Everything but the workspaces, which is little.
    fn fleet(&mut self, event: &fleet::Event) -> Vec<Change> {
        let now = fleet_fields::all(&self.supervision);
        let is_one = |subject: &Subject| !matches!(subject, Subject::Policy | Subject::Workspace(_));
        let gone: Vec<Subject> = self
            .picture
            .0
            .keys()
            .take_while(|subject| !matches!(subject, Subject::Workspace(_)))
            .filter(|subject| is_one(subject) && !now.contains_key(*subject))
            .cloned()
            .collect();
        let mut found = Vec::new();
        for subject in gone {
            found.extend(self.picture.put(subject, None));
        }
        for (subject, fields) in now {
            found.extend(self.picture.put(subject, Some(fields)));
        }
        // A hundred parameters, and they hardly ever change.
        if let fleet::Event::PolicyChanged(_) = event {
            found.extend(self.picture.put(Subject::Policy, fleet_fields::policy(&self.supervision)));
        }
        found
    }
}

/// A scope as a person reads it.
fn scope(scope: Scope) -> String {
    match scope {
        Scope::Fleet => "fleet".to_owned(),
        Scope::Subtree(id) => format!("subtree {id}"),
        Scope::Workspace(id) => format!("workspace {id}"),
    }
}

/// Adds what there is to say.
fn say(fields: &mut Fields, name: &'static str, value: impl Into<Value>) {
    let value = value.into();
    let silent = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    if !silent {
        fields.insert(Cow::Borrowed(name), value);
    }
}
