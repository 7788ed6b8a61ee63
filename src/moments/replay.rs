//! The fleet step by step: its state at a moment, then each fact up to a later one with what it changed.
//!
//! # Guarantees
//! - Every change has its value before and after, so a reader goes back as well as forward with what it has.
//! - A reel reads ahead by one page at most: who does not ask for the next frame costs nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use covalence_events::{EventId, Position, Recorded, WorkspaceId};
use covalence_incidents::{Weight, words};
use covalence_projections::picture::{Change, Picture, Subject, Walk};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Edge, Failure, Pages, Past, Span, Told, name};

/// Facts that one replay goes over at most: what a reader can keep to go back in, about 100 MB at worst.
pub const FACTS_MAX: u64 = 100_000;

/// One line of a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = ReplayLine)]
pub enum Line {
    /// The first one: the state that it begins with.
    State(State),
    /// A fact, and what it changed.
    Fact(Frame),
    /// The last one.
    End(End),
}

/// The state that a replay begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReplayState)]
pub struct State {
    /// The moment that it shows.
    pub from: Edge,
    /// The moment up to which facts follow.
    pub to: Edge,
    /// Everything that is there.
    pub subjects: Vec<Shown>,
}

/// One subject with all its fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    /// What it is: `platform`, `policy`, `mode`, `hold`, `alarm`, `cell` or `workspace`.
    pub what: String,
    /// Which one of its kind; empty where there is one only.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// What is said of it.
    #[schema(value_type = Object)]
    pub fields: BTreeMap<String, Value>,
}

/// A fact, and what it changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Frame {
    /// The fact.
    #[serde(flatten)]
    pub fact: Told,
    /// The fact's id.
    #[schema(value_type = String, format = Uuid)]
    pub id: EventId,
    /// Whom it is about.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub workspace: Option<WorkspaceId>,
    /// What that one is called; `fleet` where it is about all.
    pub whose: String,
    /// How much it matters, and which way.
    pub weight: Weight,
    /// What it changed, and what facts that have no frame of their own changed before it.
    pub changes: Vec<FrameChange>,
}

/// One field before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FrameChange {
    /// What kind of subject.
    pub what: String,
    /// Which one of its kind.
    pub key: String,
    /// The field.
    pub field: String,
    /// Its value before; null where it said nothing.
    #[schema(value_type = Object)]
    pub before: Value,
    /// Its value after; null where it says nothing.
    #[schema(value_type = Object)]
    pub after: Value,
}

/// Where a replay ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReplayEnd)]
pub struct End {
    /// The last position that was looked at.
    pub position: u64,
    /// What changed after the last frame.
    pub changes: Vec<FrameChange>,
}

/// Which facts have a frame of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReplayStep)]
pub enum Step {
    /// Each.
    #[default]
    Fact,
    /// Those that say more than that things go on as ever: no heartbeats.
    Notable,
}

/// Gives the lines of a replay one after the other.
#[derive(Debug)]
pub struct Reel {
    past: Past,
    span: Span,
    step: Step,
    pages: Pages,
    page: VecDeque<Arc<Recorded>>,
    walk: Walk,
    /// Changes that no frame has shown, with the value before the first of them.
    pending: BTreeMap<(Subject, String), (Value, Value)>,
    opening: Option<State>,
    ended: bool,
}

impl Reel {
    /// Finds the moments and the state to begin with.
    ///
    /// # Errors
    /// The moments are none, in the wrong order or further apart than [`FACTS_MAX`], or the log can't be read.
    pub async fn open(past: Past, span: Span, step: Step) -> Result<Self, Failure> {
        let (from, to) = span.edges(&past).await?;
        let facts = to.position - from.position;
        if facts > FACTS_MAX {
            return Err(Failure::TooLong { facts, most: FACTS_MAX });
        }
        let walk = Walk::from(past.history.at(Position(from.position)).await?.as_ref());
        let opening = Some(State { from, to, subjects: shown(&past, &span, walk.picture()) });
        let pages = Pages::new(&past, from, to);
        let (page, pending, ended) = (VecDeque::new(), BTreeMap::new(), false);
        Ok(Self { past, span, step, pages, page, walk, pending, opening, ended })
    }

    /// The next line; `None` after the last. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// The log can't be read. The replay is over then.
    pub async fn next(&mut self) -> Result<Option<Line>, Failure> {
        if let Some(state) = self.opening.take() {
            return Ok(Some(Line::State(state)));
        }
        if self.ended {
            return Ok(None);
        }
        loop {
            while let Some(fact) = self.page.pop_front() {
                if let Some(frame) = self.take(&fact)? {
                    return Ok(Some(Line::Fact(frame)));
                }
            }
            match self.pages.next().await? {
                Some(page) => self.page = page.into(),
                None => break,
            }
            // Others wait for this thread.
            tokio::task::yield_now().await;
        }
        self.ended = true;
        let changes = self.changes();
        Ok(Some(Line::End(End { position: self.walk.position().0, changes })))
    }

    fn take(&mut self, fact: &Recorded) -> Result<Option<Frame>, Failure> {
        for change in self.walk.step(fact).inspect_err(|_| self.ended = true)? {
            if self.span.wants(&change.subject, &change.field) {
                self.keep(change);
            }
        }
        let said = words::say(fact, &self.past.who);
        let about = fact.subject();
        let wanted =
            about.is_none_or(|id| self.span.workspaces.is_empty() || self.span.workspaces.contains(&id));
        if !wanted || self.step == Step::Notable && said.weight == Weight::Routine {
            return Ok(None);
        }
        let whose = about.map_or_else(|| "fleet".to_owned(), |id| self.past.who.name(id));
        Ok(Some(Frame {
            fact: Told::of(fact, &self.past.who),
            id: fact.meta.id,
            workspace: about,
            whose,
            weight: said.weight,
            changes: self.changes(),
        }))
    }

    fn keep(&mut self, change: Change) {
        let key = (change.subject, change.field.into_owned());
        let before = self.pending.remove(&key).map_or(change.before, |(before, _)| before);
        // What was changed back has not changed.
        if before != change.after {
            self.pending.insert(key, (before, change.after));
        }
    }

    fn changes(&mut self) -> Vec<FrameChange> {
        let pending = std::mem::take(&mut self.pending);
        let change = |((subject, field), (before, after)): ((Subject, String), (Value, Value))| FrameChange {
            what: subject.kind().to_owned(),
            key: subject.key(),
            field,
            before,
            after,
        };
        pending.into_iter().map(change).collect()
    }
}

fn shown(past: &Past, span: &Span, picture: &Picture) -> Vec<Shown> {
    let subjects = picture.subjects().filter(|(subject, _)| span.wants(subject, "name"));
    subjects
        .map(|(subject, fields)| Shown {
            what: subject.kind().to_owned(),
            key: subject.key(),
            name: name(subject, fields, &past.who),
            fields: fields
                .iter()
                .filter(|(field, _)| span.wants(subject, field))
                .map(|(field, value)| (field.to_string(), value.clone()))
                .collect(),
        })
        .collect()
}
