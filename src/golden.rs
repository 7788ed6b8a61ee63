//! Golden incidents: makes cases of a log, and puts the facts of cases to today's rules.
//!
//! `covalence-incidents` knows what a case is and `covalence-actors` what is decided; only here do they meet.

use std::collections::BTreeSet;
use std::sync::Arc;

use covalence_actors::backtest::{self, Backtest, Kind, Under};
use covalence_actors::context::Corrupt;
use covalence_events::codec::CodecError;
use covalence_events::log::EventLog;
use covalence_events::{Fact, IncidentId, Recorded, Timestamp, WorkspaceId};
use covalence_incidents::golden::{self, Case, CaseError, Decision, Expected, Header, Mismatch, Span};
use covalence_incidents::report::{self, About};
use covalence_incidents::{Failure, Moment, Who};

use crate::redaction::redact_in_shape;

/// What a case is to be about.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What it is called.
    pub name: String,
    /// What happened, in a person's words.
    pub about: String,
    /// The first moment whose decisions are expected.
    pub since: Moment,
    /// The last one.
    pub until: Moment,
    /// Whose decisions; everybody's where empty.
    pub workspaces: BTreeSet<WorkspaceId>,
}

impl Wish {
    /// A case of an incident: from its first sign to its end, or to now while it goes on; about those whom a person named, else
    /// about everybody. What is said about it is its title, unless something else is given.
    ///
    /// # Errors
    /// There is no such incident, or the log can't be read.
    pub async fn of_incident(
        log: &dyn EventLog,
        id: IncidentId,
        (name, about): (String, String),
        (now, who): (Timestamp, &Who),
    ) -> Result<Self, Failure> {
        let report = report::show(log, &About::Incident(id), now, who).await?;
        let (title, named) = report.incident.map_or_else(Default::default, |it| (it.title, it.workspaces));
        Ok(Self {
            name,
            about: if about.is_empty() { title } else { about },
            since: Moment::Time(report.since),
            until: Moment::Time(report.until),
            workspaces: named.into_iter().map(|one| one.id).collect(),
        })
    }
}

/// Why a case can't be made or replayed.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// There is no such case.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// Its facts don't follow each other.
    #[error("the facts can't be folded")]
    Fold(#[from] Corrupt),
    /// What is left of a fact without its secrets is none.
    #[error("the fact at position {position} can't be redacted")]
    Redact {
        /// Which.
        position: u64,
        /// What is wrong with it.
        #[source]
        source: CodecError,
    },
}

/// Makes a case. Beats and calls from long before the span are left out where everything is decided the same without them.
pub async fn make(log: &dyn EventLog, wish: Wish) -> Result<Case, GoldenError> {
    let span = Span::find(log, wish.since, wish.until).await?;
    let mut whole = Backtest::new(Under::Recorded, span.since, span.until);
    let mut broken = None;
    let each = |event: &Recorded| {
        if broken.is_none() {
            broken = whole.take(event).err();
        }
    };
    let (mut facts, mut left_out) = golden::collect(log, span, false, each).await?;
    if let Some(corrupt) = broken {
        return Err(corrupt.into());
    }
    if left_out > 0 && decisions(&facts, span)? != whole.finish_with_decisions().1 {
        (facts, left_out) = golden::collect(log, span, true, |_| {}).await?;
    }
    let facts = facts.iter().map(redacted).collect::<Result<Vec<_>, _>>()?;
    let header = Header {
        format: 0,
        name: wish.name,
        about: wish.about,
        made_by: env!("CARGO_PKG_VERSION").to_owned(),
        since: span.since,
        until: span.until,
        workspaces: wish.workspaces,
        facts: 0,
        left_out,
        policy: golden::policy_in_force(&facts),
        digest: String::new(),
        expected: Expected::default(),
    };
    let mut case = Case { header, facts };
    case.header.expected = today(&case).await?;
    Ok(case)
}

/// What the facts of a case lead to by today's rules.
pub async fn today(case: &Case) -> Result<Expected, GoldenError> {
    let header = &case.header;
    let span = Span { since: header.since, until: header.until, last: covalence_events::Position(0) };
    let wanted = |decision: &backtest::Decision| {
        let whose = decision.workspace;
        header.workspaces.is_empty() || whose.is_none_or(|id| header.workspaces.contains(&id))
    };
    let decisions: Vec<Decision> =
        decisions(&case.facts, span)?.into_iter().filter(wanted).map(decision).collect();
    let explained = golden::explained(&case.facts, &decisions).await?;
    Ok(Expected { decisions, explained })
}

/// Everything that comes out otherwise today.
pub async fn replay(case: &Case) -> Result<Vec<Mismatch>, GoldenError> {
    Ok(golden::compare(&case.header.expected, &today(case).await?))
}

fn decisions(facts: &[Arc<Recorded>], span: Span) -> Result<Vec<backtest::Decision>, Corrupt> {
    let mut backtest = Backtest::new(Under::Recorded, span.since, span.until);
    for event in facts {
        backtest.take(event)?;
    }
    Ok(backtest.finish_with_decisions().1)
}

fn decision(made: backtest::Decision) -> Decision {
    let kind = match made.kind {
        Kind::Verdict => "verdict",
        Kind::Admission => "admission",
        Kind::Brake => "brake",
    };
    Decision {
        position: made.position.0,
        at: made.at,
        kind: kind.to_owned(),
        workspace: made.workspace,
        recorded: made.recorded,
        decided: made.under,
    }
}

/// A fact without what is secret in it, in the shape that it has.
fn redacted(event: &Arc<Recorded>) -> Result<Arc<Recorded>, GoldenError> {
    let before = event.fact.to_json();
    let mut after = before.clone();
    redact_in_shape(&mut after);
    if after == before {
        return Ok(Arc::clone(event));
    }
    let fact = Fact::from_json(event.fact.tag(), after)
        .map_err(|source| GoldenError::Redact { position: event.position.0, source })?;
    Ok(Arc::new(Recorded { fact, ..(**event).clone() }))
}
