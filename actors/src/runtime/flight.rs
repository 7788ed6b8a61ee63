//! The flight recorder: what was observed in the last quarter of an hour, as it came, in memory alone. When a brake engages it
//! goes into the log.
//!
//! The log has what observers made of what they saw: evidence, scores, circuits. It has no list that went well, no answer
//! that was slow but came, and no question that is still open. Those are what an operator wants to see after an incident, and
//! far too many to be facts. Here each costs a move under a lock, and nothing is written, until it is worth it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use covalence_events::fleet::FlightLost;
use covalence_events::flight::{Answer, Call, Observation, Observed, Question, Word};
use covalence_events::workspace::BackendKind;
use covalence_events::{CorrelationId, Timestamp, WorkspaceId};
use tracing::error;

use super::{CommandError, Runtime};
use crate::context::Origin;
use crate::effect::{Inspection, Probe, Signal};
use crate::fleet;
use crate::fleet::state::FlightDue;
use crate::watch::{Input, Output, TURN};

mod lists;
mod ring;

#[cfg(test)]
mod tests;

use lists::Lists;
use ring::{Beat, Ring};

/// A turn that is later than this is noted. Timers of a busy machine are late by a few milliseconds.
const LATE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Recorder {
    ring: Mutex<Ring>,
}

impl Recorder {
    /// Nothing has been observed yet.
    pub(super) fn new(begun: Timestamp) -> Self {
        Self { ring: Mutex::new(Ring::new(begun)) }
    }

    fn with<T>(&self, on: impl FnOnce(&mut Ring) -> T) -> T {
        // Nothing that runs under the lock can panic half-way through a change.
        on(&mut self.ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A heartbeat arrived, and was taken or refused.
    pub(super) fn beat(&self, workspace: WorkspaceId, refused: bool, at: Timestamp) {
        self.with(|ring| ring.beat(Beat { at, workspace, refused }));
    }

    /// A call of somebody else than the observer to an engine ended.
    pub(super) fn called(
        &self,
        (cell, at): (BackendKind, Timestamp),
        call: Call,
        failed: bool,
        took: Duration,
    ) {
        let what = Observed::Called { call, took_us: micros(took), failed };
        self.with(|ring| ring.keep(Observation { at, cell: Some(cell), what }));
    }
}

/// A recorder that is full of heartbeats, for a bench: what does one more cost?
#[cfg(feature = "test-support")]
#[derive(Debug)]
pub struct FullOfBeats(Recorder);

#[cfg(feature = "test-support")]
impl FullOfBeats {
    /// As many as there is room for, all of one moment.
    pub fn of(workspace: WorkspaceId, at: Timestamp) -> Self {
        let recorder = Recorder::new(at);
        (0..ring::BEATS_MAX).for_each(|_| recorder.beat(workspace, false, at));
        Self(recorder)
    }

    /// One more, which pushes the first one out.
    pub fn beat(&self, workspace: WorkspaceId, at: Timestamp) {
        self.0.beat(workspace, false, at);
    }
}

/// What one observer has to remember of what it saw, to say what is new in the next.
#[derive(Debug)]
pub(super) struct Notes {
    cell: BackendKind,
    lists: Lists,
    last_turn: Option<Timestamp>,
    /// The magnitude of the slowness of appends that was noted last.
    pressed: u32,
}

impl Notes {
    /// Of an observer that has just begun.
    pub(super) fn new(cell: BackendKind) -> Self {
        Self { cell, lists: Lists::default(), last_turn: None, pressed: 0 }
    }

    /// Keeps what came in.
    pub(super) fn saw(&mut self, recorder: &Recorder, input: &Input, at: Timestamp) {
        if self.is_idle(matches!(input, Input::Listed { .. })) {
            return;
        }
        let what = match input {
            Input::Turn => self.turn(at),
            Input::Listed { result: Ok(listed), took } => Some(self.lists.take(listed, micros(*took))),
            Input::Listed { result: Err(error), took } => {
                Some(Observed::ListFailed { took_us: micros(*took), code: Word::Borrowed(error.code) })
            }
            Input::Inspected { workspace, generation, instance, inspection, took } => {
                let (answer, code, exit_status) = inspected(inspection);
                let (workspace, generation, took_us) = (*workspace, *generation, micros(*took));
                let instance = Arc::from(instance.id.as_str());
                Some(Observed::Inspected {
                    workspace,
                    generation,
                    instance,
                    took_us,
                    answer,
                    code,
                    exit_status,
                })
            }
            Input::Probed { workspace, generation, probe, took } => {
                let (answer, status, code) = match probe {
                    Probe::Answered { status } => (Answer::Running, Some(*status), None),
                    Probe::Silent { code, .. } => (Answer::NotThere, None, Some(Word::Borrowed(*code))),
                    Probe::Unknown(error) => (Answer::Unknown, None, Some(Word::Borrowed(error.code))),
                };
                let (workspace, generation, took_us) = (*workspace, *generation, micros(*took));
                Some(Observed::Probed { workspace, generation, took_us, answer, status, code })
            }
            Input::Signals(signals) => {
                let told = signals.iter().map(signalled).map(|what| self.observation(what, at));
                return recorder.with(|ring| told.for_each(|observation| ring.keep(observation)));
            }
            // Kept where it is known what was called for, and for whom the beat was.
            Input::Called { .. }
            | Input::BeatRefused
            | Input::AppendsTook(_)
            | Input::AppendFailed
            | Input::LogShut => None,
        };
        self.keep(recorder, what, at);
    }

    /// Keeps how hard the platform is pressed, where that is another magnitude than before.
    pub(super) fn felt(
        &mut self,
        recorder: &Recorder,
        append_p99: Duration,
        (append_failed, beat_refused): (bool, bool),
        at: Timestamp,
    ) {
        let append_p99_us = micros(append_p99);
        let pressed = u64::BITS - (append_p99_us / 1000).leading_zeros();
        if std::mem::replace(&mut self.pressed, pressed) != pressed || append_failed || beat_refused {
            let what = Observed::Pressed { append_p99_us, append_failed, beat_refused };
            self.keep(recorder, Some(what), at);
        }
    }

    /// Keeps that a question goes out.
    pub(super) fn asks(&self, recorder: &Recorder, output: &Output, at: Timestamp) {
        if self.is_idle(matches!(output, Output::List)) {
            return;
        }
        let (question, about) = match output {
            Output::List => (Question::List, None),
            Output::Inspect { workspace, generation, .. } => {
                (Question::Inspect, Some((*workspace, *generation)))
            }
            Output::Probe { workspace, generation, .. } => (Question::Probe, Some((*workspace, *generation))),
            Output::Evidence { .. }
            | Output::Adopted { .. }
            | Output::Outcome { .. }
            | Output::Recheck { .. }
            | Output::Fleet(_) => return,
        };
        let (workspace, generation) = about.unzip();
        self.keep(recorder, Some(Observed::Asked { question, workspace, generation }), at);
    }

    /// External workspaces have no engine: their lists are always empty and cost nothing.
    fn is_idle(&self, is_list: bool) -> bool {
        is_list && self.cell == BackendKind::External
    }

    fn turn(&mut self, at: Timestamp) -> Option<Observed> {
        let since = self.last_turn.replace(at).map(|last| (at - last).to_std().unwrap_or_default());
        let late = since?.checked_sub(TURN)?;
        (late >= LATE).then(|| Observed::Late { late_us: micros(late) })
    }

    fn keep(&self, recorder: &Recorder, what: Option<Observed>, at: Timestamp) {
        if let Some(what) = what {
            recorder.with(|ring| ring.keep(self.observation(what, at)));
        }
    }

    fn observation(&self, what: Observed, at: Timestamp) -> Observation {
        Observation { at, cell: Some(self.cell), what }
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn inspected(inspection: &Inspection) -> (Answer, Option<Word>, Option<i32>) {
    match inspection {
        Inspection::Running(_) => (Answer::Running, None, None),
        Inspection::NotThere { code, exit_status, .. } => {
            (Answer::NotThere, Some(Word::Borrowed(*code)), *exit_status)
        }
        Inspection::Unknown(error) => (Answer::Unknown, Some(Word::Borrowed(error.code)), None),
    }
}

fn signalled(signal: &Signal) -> Observed {
    match signal {
        Signal::Exited { workspace, generation, instance, exit_status, .. } => Observed::Exited {
            workspace: *workspace,
            generation: *generation,
            instance: Arc::from(instance.id.as_str()),
            exit_status: *exit_status,
        },
        Signal::Gap => Observed::Gap,
        Signal::Lost(error) => Observed::Lost { code: Word::Borrowed(error.code) },
        Signal::Found => Observed::Found,
    }
}

impl Runtime {
    /// Puts what was observed until a brake engaged into the log, or says that it is lost.
    pub(super) fn record_flight(&self, due: FlightDue, correlation: CorrelationId) {
        let (runtime, origin) = (self.clone(), Origin::caused_by(correlation, due.brake));
        self.shared.spawn(async move {
            let packing = {
                let runtime = runtime.clone();
                tokio::task::spawn_blocking(move || runtime.flight(due))
            };
            let command = packing.await.unwrap_or_else(|error| {
                error!(%error, "packing a flight failed");
                lost(due, "not_packed")
            });
            runtime.insist_fleet(command, origin);
        });
    }

    /// The command that records a flight. Takes milliseconds, a hundred of them where the ring is full.
    fn flight(&self, due: FlightDue) -> fleet::Command {
        let now = self.shared.clock.now().at;
        let Some(taken) = self.shared.recorder.with(|ring| ring.taken_for(due.at, now)) else {
            return lost(due, "platform_ended");
        };
        match taken.pack(due.cell) {
            Ok(flight) => fleet::Command::RecordFlight(Ok(Box::new(flight))),
            Err(error) => {
                error!(%error, "packing a flight failed");
                lost(due, "not_packed")
            }
        }
    }

    /// Notes how a heartbeat was taken.
    pub(super) fn note_beat<T>(&self, workspace: WorkspaceId, asked: &Result<T, CommandError>) {
        let refused = match asked {
            Ok(_) => false,
            Err(CommandError::Busy { .. } | CommandError::LogUnavailable(_)) => true,
            // It was none: of a workspace that does not exist any more, of an old generation.
            Err(_) => return,
        };
        if refused {
            self.shared.strain.beat_refused();
        }
        self.shared.recorder.beat(workspace, refused, self.shared.clock.now().at);
    }
}

fn lost(due: FlightDue, reason: &str) -> fleet::Command {
    fleet::Command::RecordFlight(Err(FlightLost { cell: due.cell, reason: reason.to_owned() }))
}
