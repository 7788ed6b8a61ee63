//! The state of the fleet at two moments: what is there now and was not, what is gone, and what changed, by which fact.

use std::collections::BTreeMap;
use std::sync::Arc;

use covalence_events::{Position, Recorded};
use covalence_projections::picture::{Change, Fields, Picture, Subject, Walk};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Edge, Failure, Pages, Past, Span, Told, name};

/// Facts before the later moment among which the one that changed a field last is looked for. About half a second; what was
/// changed earlier is shown without its fact.
pub const TRACED_MAX: u64 = 20_000;

/// What differs between two moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The earlier moment.
    pub from: Edge,
    /// The later moment.
    pub to: Edge,
    /// Facts between the two.
    pub facts: u64,
    /// Everything that differs; empty where nothing does.
    pub subjects: Vec<Differing>,
    /// Facts after this position were looked at for who changed what; a field that was changed before it names no fact.
    pub traced_after: u64,
}

/// How a subject differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was not there at the earlier moment.
    Added,
    /// It is not there at the later moment.
    Removed,
    /// It is there at both.
    Changed,
}

/// One subject that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Differing {
    /// What it is: `platform`, `policy`, `mode`, `hold`, `alarm`, `cell` or `workspace`.
    pub what: String,
    /// Which one of its kind; empty where there is one only.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// How it differs.
    pub how: How,
    /// The fact that brought it or took it away, if that was looked at.
    pub by: Option<Told>,
    /// Every field that differs.
    pub fields: Vec<FieldDiffers>,
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FieldDiffers {
    /// Its name.
    pub field: String,
    /// Its value at the earlier moment; null where it said nothing.
    pub before: Value,
    /// Its value at the later moment; null where it says nothing.
    pub after: Value,
    /// The fact that changed it last, if that was looked at.
    pub by: Option<Told>,
}

/// What differs between two moments.
///
/// # Errors
/// The moments are none or in the wrong order, or the log can't be read.
pub async fn between(past: &Past, span: &Span) -> Result<Diff, Failure> {
    let (from, to) = span.edges(past).await?;
    let traced_after = from.position.max(to.position.saturating_sub(TRACED_MAX));
    let mut views = past.history.at(Position(from.position)).await?;
    let before = Picture::of(&views.roster.read(), &views.supervision.read());
    if traced_after > from.position {
        views = past.history.at(Position(traced_after)).await?;
    }
    let mut walk = Walk::from(&views);
    drop(views);
    let mut blame = Blame::default();
    let mut pages = Pages::new(past, Edge { position: traced_after, ..from }, to);
    while let Some(page) = pages.next().await? {
        for fact in &page {
            let changes = walk.step(fact)?;
            blame.take(fact, &changes, walk.picture());
        }
        // Others wait for this thread.
        tokio::task::yield_now().await;
    }
    let subjects = differing(past, &before, walk.picture(), (span, &blame));
    Ok(Diff { from, to, facts: to.position - from.position, subjects, traced_after })
}

fn differing(
    past: &Past,
    before: &Picture,
    after: &Picture,
    (span, blame): (&Span, &Blame),
) -> Vec<Differing> {
    let mut found: Vec<(Subject, Vec<Change>)> = Vec::new();
    for change in before.changes_to(after) {
        if !span.wants(&change.subject, &change.field) {
            continue;
        }
        match found.last_mut() {
            Some((subject, changes)) if *subject == change.subject => changes.push(change),
            Some(_) | None => found.push((change.subject.clone(), vec![change])),
        }
    }
    let told = |fact: Option<&Recorded>| fact.map(|fact| Told::of(fact, &past.who));
    let nothing = Fields::new();
    found
        .into_iter()
        .filter_map(|(subject, changes)| {
            let (then, now) = (before.get(&subject), after.get(&subject));
            let how = match (is_there(then), is_there(now)) {
                (true, true) => How::Changed,
                (false, true) => How::Added,
                (true, false) => How::Removed,
                // Gone before, or come and gone meanwhile.
                (false, false) => return None,
            };
            let fields = changes.into_iter().map(|change| FieldDiffers {
                by: told(blame.of(&subject, Some(&change.field))),
                field: change.field.into_owned(),
                before: change.before,
                after: change.after,
            });
            Some(Differing {
                what: subject.kind().to_owned(),
                key: subject.key(),
                name: name(&subject, now.or(then).unwrap_or(&nothing), &past.who),
                how,
                by: if how == How::Changed { None } else { told(blame.of(&subject, None)) },
                fields: fields.collect(),
            })
        })
        .collect()
}

/// A removed workspace keeps its row, so that it can be told that it is gone.
fn is_there(fields: Option<&Fields>) -> bool {
    fields.is_some_and(|fields| !fields.contains_key("removed_at"))
}

/// Which fact did what last.
#[derive(Debug, Default)]
struct Blame {
    fields: BTreeMap<(Subject, String), Arc<Recorded>>,
    /// What brought a subject, or took it away.
    subjects: BTreeMap<Subject, Arc<Recorded>>,
}

impl Blame {
    fn take(&mut self, fact: &Arc<Recorded>, changes: &[Change], now: &Picture) {
        for change in changes {
            let subject = &change.subject;
            let is_whole = match subject {
                Subject::Workspace(_) => {
                    matches!(change.field.as_ref(), "created_at" | "removed_at")
                }
                _ => now.get(subject).is_none() || change.before.is_null() && change.field == "since",
            };
            if is_whole {
                self.subjects.insert(subject.clone(), Arc::clone(fact));
            }
            self.fields.insert((subject.clone(), change.field.to_string()), Arc::clone(fact));
        }
    }

    /// The fact behind a field, or behind the whole subject.
    fn of(&self, subject: &Subject, field: Option<&str>) -> Option<&Recorded> {
        let found = match field {
            Some(field) => self.fields.get(&(subject.clone(), field.to_owned())),
            None => self.subjects.get(subject),
        };
        found.map(Arc::as_ref)
    }
}
