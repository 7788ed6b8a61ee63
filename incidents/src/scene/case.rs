//! What happened to one workspace.

use covalence_events::fleet::{RestartOutcome, RestartSettled};
use covalence_events::workspace::{BackendKind, CallOutcome, Event, EvidenceClass, RestartCause};
use covalence_events::{EventId, Generation, Principal, RestartId, Timestamp, WorkspaceId};

use super::Mark;
use super::engine::{is_error_word, is_of_engine};
use crate::words;

/// A proven death.
#[derive(Clone, Debug)]
pub(crate) struct Death {
    pub(crate) mark: Mark,
    pub(crate) code: String,
    pub(crate) exit_status: Option<i32>,
    pub(crate) generation: Generation,
}

/// Something that spoke against it.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    pub(crate) mark: Mark,
    /// Its last sign of life before.
    pub(crate) silent_since: Timestamp,
    /// What spoke for it in the end, and when.
    pub(crate) cleared: Option<(Timestamp, String)>,
}

/// A wish for its restart.
#[derive(Clone, Debug)]
pub(crate) struct Restart {
    pub(crate) mark: Mark,
    pub(crate) id: RestartId,
    pub(crate) cause: RestartCause,
    /// Whether it began.
    pub(crate) began: bool,
    /// When it was over, and how.
    pub(crate) settled: Option<(Timestamp, RestartOutcome)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: WorkspaceId,
    pub(crate) cell: Option<BackendKind>,
    pub(crate) runtime: Option<String>,
    pub(crate) tier: Option<u8>,
    pub(crate) parent: Option<WorkspaceId>,
    pub(crate) image: Option<String>,
    pub(crate) created: Option<Timestamp>,
    /// When its current generation was started, as it was when the span began, or when it was first started within it.
    pub(crate) started: Option<Timestamp>,
    pub(crate) generation: Generation,
    /// The last operation on it before its first trouble: `created`, `restarted`, `resumed`, `changed`.
    pub(crate) last_operation: Option<(Timestamp, &'static str)>,
    pub(crate) deaths: Vec<Death>,
    pub(crate) doubts: Vec<Doubt>,
    pub(crate) restarts: Vec<Restart>,
    /// Times in which nobody answered for it.
    pub(crate) offline: Vec<(Mark, Option<Timestamp>)>,
    pub(crate) held: Vec<(Mark, String)>,
    pub(crate) cut_calls: Vec<Mark>,
    /// Starts that failed for a reason of its own, and the reason's word.
    pub(crate) unstarted: Vec<(Mark, String)>,
    pub(crate) quarantined: Option<Mark>,
    pub(crate) poisoned: Option<Mark>,
    /// Changes of what it is, and what they were.
    pub(crate) changes: Vec<(Mark, &'static str)>,
    /// Beats and registrations.
    pub(crate) heard: Vec<Timestamp>,
}

impl Case {
    pub(super) fn new(id: WorkspaceId) -> Self {
        Self {
            id,
            cell: None,
            runtime: None,
            tier: None,
            parent: None,
            image: None,
            created: None,
            started: None,
            generation: Generation(0),
            last_operation: None,
            deaths: Vec::new(),
            doubts: Vec::new(),
            restarts: Vec::new(),
            offline: Vec::new(),
            held: Vec::new(),
            cut_calls: Vec::new(),
            unstarted: Vec::new(),
            quarantined: None,
            poisoned: None,
            changes: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Whether anything bad happened to it.
    pub(crate) fn is_affected(&self) -> bool {
        !self.deaths.is_empty()
            || !self.doubts.is_empty()
            || !self.restarts.is_empty()
            || !self.offline.is_empty()
            || !self.unstarted.is_empty()
            || !self.cut_calls.is_empty()
            || self.poisoned.is_some()
            || self.quarantined.is_some()
    }

    /// When it first got into trouble.
    pub(crate) fn troubled(&self) -> Option<Timestamp> {
        let doubts = self.doubts.iter().map(|doubt| doubt.mark.at);
        let marks = self.deaths.iter().map(|death| death.mark.at);
        let restarts = self.restarts.iter().map(|restart| restart.mark.at);
        let offline = self.offline.iter().map(|(mark, _)| mark.at);
        let unstarted = self.unstarted.iter().map(|(mark, _)| mark.at);
        marks.chain(doubts).chain(restarts).chain(offline).chain(unstarted).min()
    }

    /// What it is, by a fact from before the span.
    pub(super) fn before(&mut self, mark: Mark, fact: &Event) {
        self.is(mark, fact);
    }

    fn is(&mut self, mark: Mark, fact: &Event) {
        match fact {
            Event::Created(e) => {
                (self.cell, self.tier, self.parent) = (Some(e.backend), Some(e.tier), e.parent);
                self.runtime = Some(e.runtime.clone());
                self.created = Some(mark.at);
                self.last_operation = Some((mark.at, "created"));
            }
            Event::Moved(e) => self.parent = e.parent,
            Event::TierChanged(e) => self.tier = Some(e.tier),
            Event::RuntimeChanged(e) => self.runtime = Some(e.runtime.clone()),
            Event::ProvisionRequested(e) => self.generation = e.generation,
            Event::InstanceStarted(e) => {
                self.started = Some(mark.at);
                self.image.clone_from(&e.image);
            }
            Event::RestartStarted(_) => self.last_operation = Some((mark.at, "restarted")),
            Event::Resumed(_) => self.last_operation = Some((mark.at, "resumed")),
            Event::HibernationRequested(_) => self.last_operation = Some((mark.at, "sent to sleep")),
            _ => {}
        }
        if let Some(changed) = change(fact) {
            self.last_operation = Some((mark.at, changed));
        }
    }

    pub(super) fn follow(&mut self, mark: Mark, fact: &Event, by: &Principal) {
        if self.troubled().is_none() {
            self.is(mark, fact);
        } else if let Event::ProvisionRequested(e) = fact {
            self.generation = e.generation;
        }
        if let Some(changed) = change(fact) {
            self.changes.push((mark, changed));
        }
        match fact {
            Event::EvidenceObserved(e) if e.class == EvidenceClass::Death && !is_error_word(&e.code) => {
                // A list repeats what an exit said.
                if self.deaths.last().is_none_or(|last| last.generation != e.generation) {
                    self.deaths.push(Death {
                        mark,
                        code: e.code.clone(),
                        exit_status: e.exit_status,
                        generation: e.generation,
                    });
                } else if let Some(last) = self.deaths.last_mut() {
                    last.exit_status = last.exit_status.or(e.exit_status);
                }
            }
            Event::SuspicionRaised(e) => {
                let silent = i64::try_from(e.silent_ms).unwrap_or(i64::MAX / 2);
                let silent_since =
                    mark.at.checked_sub_signed(chrono::TimeDelta::milliseconds(silent)).unwrap_or(mark.at);
                self.doubts.push(Doubt { mark, silent_since, cleared: None });
            }
            Event::SuspicionCleared(e) => {
                if let Some(doubt) = self.doubts.last_mut() {
                    doubt.cleared.get_or_insert_with(|| (mark.at, e.by.clone()));
                }
            }
            Event::RestartRequested(e) => {
                self.restarts.push(Restart {
                    mark,
                    id: e.restart,
                    cause: e.cause,
                    began: false,
                    settled: None,
                });
            }
            Event::RestartStarted(e) => {
                if let Some(restart) = self.restarts.iter_mut().find(|restart| restart.id == e.restart) {
                    restart.began = true;
                }
            }
            Event::WentOffline(_) => self.offline.push((mark, None)),
            Event::CameOnline(_) => self.back(mark.at),
            Event::Quarantined(_) => {
                self.quarantined.get_or_insert(mark);
            }
            Event::SessionPoisoned(_) => {
                self.poisoned.get_or_insert(mark);
            }
            Event::ProvisionFailed(e) if !is_of_engine(&e.code) && e.code != "shed" => {
                self.unstarted.push((mark, e.code.clone()));
            }
            Event::CallFinished(e) if matches!(e.outcome, CallOutcome::Unknown) => self.cut_calls.push(mark),
            Event::HeartbeatReceived(_) | Event::Registered(_) => self.heard.push(mark.at),
            Event::Paused(_) | Event::HibernationRequested(_) | Event::Removed(_) if by.is_operator() => {
                self.back(mark.at);
            }
            _ => {}
        }
    }

    fn back(&mut self, at: Timestamp) {
        if let Some((_, until)) = self.offline.last_mut() {
            until.get_or_insert(at);
        }
    }

    pub(super) fn settled(&mut self, e: &RestartSettled, mark: Mark) {
        if let Some(restart) = self.restarts.iter_mut().find(|restart| restart.id == e.restart) {
            restart.settled.get_or_insert((mark.at, e.outcome));
        }
    }
}

/// What a change of configuration is called.
const fn change(fact: &Event) -> Option<&'static str> {
    match fact {
        Event::RuntimeChanged(_) => Some("its runtime was changed"),
        Event::TierChanged(_) => Some("its tier was changed"),
        Event::DirectoryChanged(_) => Some("its directory was changed"),
        _ => None,
    }
}

/// The facts that a fact says it rests on, besides its cause.
pub(super) fn evidence(fact: &Event) -> Vec<EventId> {
    match fact {
        Event::VerdictReached(e) => e.evidence.clone(),
        Event::RestartRequested(e) => e.evidence.clone(),
        Event::SuspicionRaised(e) => e.evidence.clone(),
        _ => Vec::new(),
    }
}

/// What a person's fact about a workspace is.
pub(super) fn act(fact: &Event) -> Option<(&'static str, String)> {
    let what = match fact {
        Event::RestartRequested(e) if e.cause == RestartCause::Operator => {
            return Some(("restart_requested", "it was restarted by hand".to_owned()));
        }
        Event::RestartRequested(e) => {
            return Some((
                "restart_requested",
                format!("a restart was asked for ({})", words::cause(e.cause)),
            ));
        }
        Event::Paused(_) => "it was paused",
        Event::HibernationRequested(_) => "it was sent to sleep",
        Event::Removed(_) => "it was removed",
        Event::Resumed(_) => "it was resumed",
        Event::Moved(_) => "it was moved",
        other => change(other)?,
    };
    Some((word_of(fact), what.to_owned()))
}

fn word_of(fact: &Event) -> &'static str {
    fact.tag().split('.').nth(1).unwrap_or_default()
}
