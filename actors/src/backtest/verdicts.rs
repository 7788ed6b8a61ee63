//! Decisions about single workspaces, made again: the very functions that decide are put to the state that the facts tell of.
//!
//! Facts of one decision share the beginning of their ids. What was asked is read off the first of them: evidence, a deadline,
//! the answer of a fresh look. How well the observer saw is what the facts say it was, else what it last said of itself.

use covalence_events::workspace::{Event, EvidenceClass, EvidenceSource};
use covalence_events::{Meta, Position, Recorded, RestartId, WorkspaceId};

use super::{Backtest, Decision, Kind, Under};
use crate::context::{Context, ObserverView, Origin, decision_of};
use crate::effect::Moment;
use crate::policy::verdict;
use crate::workspace::{self, Command, State};

/// A decision whose facts are not all read.
#[derive(Debug)]
pub(super) struct Open {
    position: Position,
    meta: Meta,
    command: Command,
    /// Before it.
    state: State,
    observer: ObserverView,
    stopped: bool,
    recorded: Vec<String>,
}

impl Backtest {
    /// Takes the next fact of a workspace's stream, before it is folded.
    pub(super) fn judge_again(&mut self, id: WorkspaceId, event: &Event, recorded: &Recorded) {
        if !matches!(self.under, Under::Recorded) {
            return;
        }
        if let Some(open) = self.open.get_mut(&id)
            && decision_of(open.meta.id) == decision_of(recorded.meta.id)
        {
            open.recorded.extend(word(event));
            saw(&mut open.observer, event);
            return;
        }
        self.close(id);
        let Some(state) = self.scene.workspaces.get(&id) else { return };
        let Some(command) = asked(state, event, recorded) else { return };
        let mut observer = self.scene.view(state.profile.backend, recorded.meta.at);
        saw(&mut observer, event);
        let open = Open {
            position: recorded.position,
            meta: recorded.meta.clone(),
            command,
            state: state.clone(),
            observer,
            stopped: self.scene.fleet.is_stopped(),
            recorded: word(event).into_iter().collect(),
        };
        self.open.insert(id, open);
    }

    /// Its facts are read: makes it again.
    pub(super) fn close(&mut self, id: WorkspaceId) {
        let Some(open) = self.open.remove(&id) else { return };
        let policy = &self.scene.other.policy;
        let origin = Origin {
            principal: open.meta.principal.clone(),
            correlation: open.meta.correlation,
            causation: open.meta.causation,
        };
        let context = Context {
            now: Moment { at: open.meta.at, mono_ns: open.meta.mono_ns },
            boot: open.meta.boot,
            origin: &origin,
            policy,
            policy_hash: open.meta.policy.unwrap_or_else(|| policy.hash()),
            observer: open.observer,
            stopped: open.stopped,
            roster: &self.scene.table,
            ids: open.meta.id.0,
            // Only the fleet's supervisor draws, and says what it drew.
            chance: 0.5,
        };
        let would: Vec<String> = match workspace::decide(Some(&open.state), &open.command, &context) {
            Ok(facts) => facts.facts().iter().filter_map(|fact| word(&fact.event)).collect(),
            Err(rejection) => vec![format!("refused: {rejection}")],
        };
        self.report.judged += 1;
        self.list(Decision {
            at: open.meta.at,
            position: open.position,
            kind: Kind::Verdict,
            workspace: Some(id),
            recorded: said(&open.recorded),
            under: said(&would),
        });
    }
}

/// The command that a decision with this first fact answered; none where that can't be told, or nothing was judged.
fn asked(state: &State, event: &Event, recorded: &Recorded) -> Option<Command> {
    match event {
        Event::EvidenceObserved(e) => {
            let confirming = state.restart.as_ref().and_then(|pending| Some((pending, pending.confirming?)));
            let answers = |(_, asked): (_, _)| recorded.meta.causation == Some(asked);
            if let Some((pending, _)) = confirming.filter(|(_, confirming)| answers(*confirming)) {
                return Some(confirmed(pending.restart, e.clone()));
            }
            match (e.class, e.source) {
                // What it was worth before we had caused it is not recorded.
                (EvidenceClass::Expected, _) => None,
                (_, EvidenceSource::Heartbeat) => Some(Command::RecordDeadline),
                (_, _) => Some(Command::RecordEvidence(Box::new(e.clone()))),
            }
        }
        Event::VerdictWithheld(_) | Event::RestartProved(_) => Some(Command::RecordDeadline),
        _ => None,
    }
}

fn confirmed(restart: RestartId, evidence: covalence_events::workspace::EvidenceObserved) -> Command {
    Command::RecordConfirmed { restart, evidence: Box::new(evidence), url: None }
}

/// How well the observer saw, where a fact says so. That it stood still is noticed before it is recorded.
fn saw(observer: &mut ObserverView, event: &Event) {
    match event {
        Event::VerdictReached(e) => {
            observer.score = e.observer_score.unwrap_or(observer.score);
            observer.quiet |= e.rule == verdict::OBSERVER_UNWELL;
        }
        Event::VerdictWithheld(e) => observer.score = e.observer_score,
        Event::SuspicionRaised(e) => observer.score = e.observer_score,
        _ => {}
    }
}

/// What a fact decides, in words that don't change with what it is about.
fn word(event: &Event) -> Option<String> {
    Some(match event {
        Event::EvidenceObserved(e) if e.class == EvidenceClass::Expected => "expected".to_owned(),
        Event::EvidenceObserved(_) => return None,
        Event::VerdictReached(e) => format!("{} by {}", name(&e.verdict), e.rule),
        Event::VerdictWithheld(e) => format!("hung, withheld by {}", e.rule),
        Event::SuspicionRaised(e) => format!("suspect by {}", name(&e.source)),
        Event::SuspicionCleared(e) => format!("cleared by {}", e.by),
        Event::RestartRequested(e) => format!("a restart asked for: {}", e.cause.as_str()),
        Event::RestartAbandoned(e) => format!("the restart given up: {}", e.reason),
        other => other.tag().split('.').nth(1).unwrap_or_default().replace('_', " "),
    })
}

/// A word of the vocabulary as it is written.
fn name(word: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(word).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn said(words: &[String]) -> String {
    if words.is_empty() { "noted".to_owned() } else { words.join(", ") }
}
