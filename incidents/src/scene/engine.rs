//! What an engine did, or did not answer.

use covalence_events::Timestamp;
use covalence_events::fleet::{CircuitChanged, CircuitState};
use covalence_events::workspace::{Event, EvidenceClass, EvidenceSource};

use super::Mark;

/// How an engine fails us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TroubleKind {
    /// It does not answer within our patience.
    Slow,
    /// It is not there.
    Unreachable,
    /// It answers with errors, or with what is not so.
    Failing,
}

impl TroubleKind {
    /// What an adapter's word for an error means.
    pub(super) fn of(code: &str) -> Self {
        match code {
            "timeout" | "slow" => Self::Slow,
            "socket_missing" | "refused" | "eof" | "permission" | "io" | "transport" => Self::Unreachable,
            _ => Self::Failing,
        }
    }
}

/// One sign of trouble.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) mark: Mark,
    pub(crate) kind: TroubleKind,
    pub(crate) code: String,
}

/// Of one engine.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub(crate) troubles: Vec<Trouble>,
    /// Times in which it did not answer; the end is none while it goes on.
    pub(crate) away: Vec<(Mark, Option<Timestamp>)>,
    /// Times at which its circuit was opened.
    pub(crate) opened: Vec<Mark>,
}

impl Engine {
    pub(super) fn trouble(&mut self, mark: Mark, kind: TroubleKind, code: &str) {
        self.troubles.push(Trouble { mark, kind, code: code.to_owned() });
    }

    pub(super) fn lost(&mut self, mark: Mark, code: &str) {
        self.trouble(mark, TroubleKind::of(code), code);
        self.away.push((mark, None));
    }

    pub(super) fn found(&mut self, mark: Mark) {
        if let Some((_, until)) = self.away.last_mut() {
            until.get_or_insert(mark.at);
        }
    }

    pub(super) fn circuit(&mut self, mark: Mark, e: &CircuitChanged) {
        if e.state != CircuitState::Open {
            return;
        }
        self.opened.push(mark);
        // That many calls failed says nothing of how; the calls themselves do.
        if e.rule == "slow" {
            self.trouble(mark, TroubleKind::Slow, "slow");
        }
    }
}

/// What a fact about a workspace says about its engine.
pub(super) fn trouble_of(fact: &Event) -> Option<(TroubleKind, String)> {
    match fact {
        Event::EvidenceObserved(e)
            if matches!(e.source, EvidenceSource::Inspect | EvidenceSource::List | EvidenceSource::Exit) =>
        {
            // Somebody who takes an error for a death leaves the error's word in the evidence.
            let is_error = e.class == EvidenceClass::ObserverFailure
                || (e.class == EvidenceClass::Death && is_error_word(&e.code));
            is_error.then(|| (TroubleKind::of(&e.code), e.code.clone()))
        }
        Event::OutcomeUnknown(_) => Some((TroubleKind::Slow, "outcome_unknown".to_owned())),
        Event::ProvisionFailed(e) if is_of_engine(&e.code) => {
            Some((TroubleKind::of(&e.code), e.code.clone()))
        }
        Event::DeathRefuted(_) => Some((TroubleKind::Failing, "refuted".to_owned())),
        _ => None,
    }
}

/// Whether a code says that we were not answered, and nothing about what runs.
pub(super) fn is_error_word(code: &str) -> bool {
    code.starts_with("http_")
        || matches!(
            code,
            "timeout"
                | "socket_missing"
                | "refused"
                | "eof"
                | "permission"
                | "io"
                | "transport"
                | "garbage"
                | "stream"
        )
}

/// Whether a start failed because of the engine, and not because of what was to be started.
pub(super) fn is_of_engine(code: &str) -> bool {
    code.starts_with("engine") || is_error_word(code)
}
