//! How calls ended, on the way from callers to the log.
//!
//! Callers put outcomes down here and go; nobody waits for them. Those that come within a few milliseconds go to each
//! actor's mailbox together, and from there into the log as one append: waking an actor for every call would cost more
//! than the call's record itself.
//!
//! # Guarantees
//! - An outcome is kept here, in a mailbox or by its actor until the log has taken it, however often it is full.
//! - Outcomes of one workspace are recorded in the order in which they came, unless the log refused some of them once.
//! - There are never more than [`UNRECORDED_MAX`] besides those of calls under way: beyond that, no permit is given. While the log
//!   is shut calls go on, and what is beyond that is counted and forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use covalence_events::WorkspaceId;
use covalence_events::log::{AppendError, EventLog};
use covalence_events::pulse::Pulse;
use covalence_events::workspace::{CallFinished, CallRecorded, Text};
use tokio::sync::Notify;
use tracing::{error, warn};

use super::cell::{Cell, Undecided, refused};
use super::domain::Workspace;
use super::registry::Registry;
use super::{BUSY_RETRY_AFTER, CommandError, metrics_names};
use crate::context::Origin;
use crate::workspace::Command;

/// How long an outcome rests for others to come. Far below what anybody notices who follows the log, and below the second
/// of telemetry that a power cut may lose.
const REST: Duration = Duration::from_millis(5);
/// Outcomes that the log has not taken yet. At the highest rate measured this is half a second, many times what a busy disk
/// holds the log up for; each takes about half a kilobyte.
const UNRECORDED_MAX: usize = 16_384;
/// Bytes of what was said in them: a second of the largest calls on a fast disk, and no more than a small part of memory.
const WORDS_MAX: usize = 128 << 20;
/// Outcomes in one append: a commit stays quick, and an append that is refused is tried again as a whole.
const TOGETHER_MAX: usize = 1024;

/// One call's outcome.
#[derive(Debug)]
pub(super) struct Outcome {
    command: Command,
    origin: Origin,
    _unrecorded: Counted,
    _words: Words,
}

/// Counts bytes for as long as they are there.
#[derive(Debug)]
struct Words {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Words {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn size(said: &CallRecorded) -> usize {
    said.request.text.len() + said.response.as_ref().map_or(0, |response| response.text.len())
}

/// Counts something for as long as it is there.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// One more; answers how many there were before.
    pub(super) fn in_addition(count: &Arc<AtomicUsize>) -> (Self, usize) {
        let before = count.fetch_add(1, Ordering::Relaxed);
        (Self(Arc::clone(count)), before)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    waiting: Mutex<Vec<(WorkspaceId, Outcome)>>,
    some: Notify,
    unrecorded: Arc<AtomicUsize>,
    /// Bytes of what was said in calls that are not recorded yet.
    bytes: Arc<AtomicUsize>,
}

/// Outcomes for one actor.
pub(super) struct Batch(Vec<Outcome>);

impl Message for Batch {
    type Result = ();
}

impl Outcomes {
    /// Whether another call may begin. Calls go on while the log is shut: their callers are told that nobody records them.
    pub(super) fn room(&self, log: &dyn EventLog) -> Result<(), CommandError> {
        if self.unrecorded.load(Ordering::Relaxed) < UNRECORDED_MAX || log.read_only().is_some() {
            return Ok(());
        }
        metrics::counter!(metrics_names::MAILBOX_FULL).increment(1);
        Err(CommandError::Busy { retry_after: BUSY_RETRY_AFTER })
    }

    /// Takes an outcome to be recorded.
    pub(super) fn add(
        &self,
        workspace: WorkspaceId,
        (finished, said): (CallFinished, Option<CallRecorded>),
        origin: Origin,
        log: &dyn EventLog,
    ) {
        if self.unrecorded.load(Ordering::Relaxed) >= UNRECORDED_MAX && log.read_only().is_some() {
            metrics::counter!(metrics_names::CALLS_UNRECORDED).increment(1);
            return;
        }
        let said = said.map(|said| self.within_bounds(said));
        let bytes = said.as_ref().map_or(0, size);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let outcome = Outcome {
            command: Command::RecordCallFinished(Box::new(finished), said.map(Box::new)),
            origin,
            _unrecorded: Counted::in_addition(&self.unrecorded).0,
            _words: Words { bytes, all: Arc::clone(&self.bytes) },
        };
        let mut waiting = self.lock();
        waiting.push((workspace, outcome));
        let first = waiting.len() == 1;
        drop(waiting);
        if first {
            self.some.notify_one();
        }
    }

    /// While the log takes nothing, what is said in calls is forgotten rather than kept without end; that they were made is not.
    fn within_bounds(&self, said: CallRecorded) -> CallRecorded {
        if self.bytes.load(Ordering::Relaxed) + size(&said) <= WORDS_MAX {
            return said;
        }
        let gone = || Text { text: String::new(), cut: true };
        CallRecorded { request: gone(), response: said.response.as_ref().map(|_| gone()), ..said }
    }

    /// Hands outcomes on until cancelled.
    pub(super) async fn run(&self, registry: &Registry, pulse: &Pulse) {
        loop {
            pulse.waiting(self.some.notified(), || self.lock().is_empty()).await;
            tokio::time::sleep(REST).await;
            self.hand_on(registry);
        }
    }

    /// Returns when the log has taken every outcome.
    pub(super) async fn recorded(&self, registry: &Registry) {
        while self.unrecorded.load(Ordering::Relaxed) > 0 {
            self.hand_on(registry);
            tokio::time::sleep(REST).await;
        }
    }

    fn hand_on(&self, registry: &Registry) {
        let waiting = std::mem::take(&mut *self.lock());
        let mut by_workspace = HashMap::<_, Vec<_>>::new();
        for (workspace, outcome) in waiting {
            by_workspace.entry(workspace).or_default().push(outcome);
        }
        for (workspace, mut outcomes) in by_workspace {
            let Some(entry) = registry.get(workspace) else { continue };
            while !outcomes.is_empty() {
                let rest = outcomes.split_off(outcomes.len().min(TOGETHER_MAX));
                if let Err(SendError::Full(Batch(outcomes))) = entry.address.try_send(Batch(outcomes)) {
                    self.take_back(workspace, outcomes.into_iter().chain(rest));
                    break;
                }
                outcomes = rest;
            }
        }
    }

    /// A mailbox that is full of commands has room a moment later.
    fn take_back(&self, workspace: WorkspaceId, outcomes: impl Iterator<Item = Outcome>) {
        self.lock().splice(..0, outcomes.map(|outcome| (workspace, outcome)));
        self.some.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(WorkspaceId, Outcome)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler<Batch> for Cell<Workspace> {
    type Result = ();

    fn handle(&mut self, Batch(outcomes): Batch, ctx: &mut Self::Context) {
        self.record(outcomes, ctx);
    }
}

impl Cell<Workspace> {
    fn record(&mut self, outcomes: Vec<Outcome>, ctx: &mut Context<Self>) {
        let mut events = Vec::with_capacity(outcomes.len());
        for outcome in &outcomes {
            match self.decide(&outcome.command, &outcome.origin) {
                Ok(decided) => events.extend(decided.events),
                Err(Undecided::Rejected(rejection)) => {
                    warn!(stream = %self.stream, %rejection, "an outcome was not recorded");
                }
                Err(Undecided::Panicked(panic)) => {
                    error!(stream = %self.stream, panic, "an outcome was not recorded, its handler panicked");
                }
                Err(Undecided::Corrupt(reason)) => {
                    warn!(stream = %self.stream, reason, "an outcome was not recorded");
                }
            }
        }
        if events.is_empty() {
            return;
        }
        match self.queue(events, ctx) {
            Err(error) => self.record_later(&error, outcomes, ctx),
            Ok(None) => {}
            Ok(Some(appending)) => {
                ctx.spawn(appending.into_actor(self).map(|result, cell, ctx| {
                    if let Err(error) = result {
                        cell.rebuild(ctx);
                        cell.record_later(&error, outcomes, ctx);
                    }
                }));
            }
        }
    }

    /// Nobody waits for these who would notice that the log refused them, so they come back until it takes them.
    fn record_later(&self, error: &AppendError, outcomes: Vec<Outcome>, ctx: &mut Context<Self>) {
        let Some(retry_after) = refused(error).passes_after() else {
            error!(stream = %self.stream, count = outcomes.len(), %error, "outcomes were not recorded");
            return;
        };
        ctx.run_later(retry_after, |cell, ctx| cell.record(outcomes, ctx));
    }
}
