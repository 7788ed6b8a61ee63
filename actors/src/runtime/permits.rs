//! Permits: the right to call a workspace's agent once. Kept in memory; what remains is the outcome, as a fact.
//!
//! They are taken at the mailbox's door. The actor posts there what holds for callers, each time that its state changes;
//! callers on any thread take slots and give them back under one short lock. So calls are ordered,
//! counted and refused in one place for each workspace, and none of them waits for another thread.
//!
//! *Busy* is the number of taken slots against the workspace's limit, never a flag, and each slot is a lease: one that is
//! never given back (its holder died in a way that skipped even `Drop`) runs out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use covalence_events::workspace::{
    CallFinished, CallOutcome, CallRecorded, EvidenceClass, EvidenceObserved, EvidenceSource, Text,
};
use covalence_events::{CallId, Generation, Principal, RestartId, Timestamp, WorkspaceId};
use tokio::sync::oneshot;

use super::{CallReport, CommandError, PermitRefused, PermitRequest, Receipt, Runtime};
use crate::context::Origin;
use crate::effect::AgentReply;
use crate::workspace::command::Hibernate;
use crate::workspace::{Command, Rejection, State, Status};

/// Longer than the longest call (30 min, contract 4.3).
const LEASE_NS: u64 = 31 * 60 * 1_000_000_000;
/// Bytes of an answer are looked at as a sign of life this often for one call: a stream of thousands a second costs no more.
const PROGRESS_EVERY_NS: u64 = 5_000_000_000;
/// What a caller is told to wait when all slots are taken (contract 4.7).
const FULL_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The right to call the agent once. Dropping it reports the outcome as unknown, so that a slot is never lost.
#[derive(Debug)]
pub struct Permit {
    /// The call's name.
    pub call: CallId,
    /// Where the agent answers.
    pub url: Arc<str>,
    /// Whether our own backend said so (then address checks do not apply, decision 2).
    pub trusted: bool,
    /// The generation that is called.
    pub generation: Generation,
    /// How often it has been tried; whoever tries again counts here.
    pub tries: u32,
    /// Before this, bytes are no news.
    progress_after_ns: u64,
    /// What is said in the call, as far as it is recorded.
    said: Option<Said>,
    back: Option<Back>,
}

/// What it takes to give a permit back.
#[derive(Debug)]
struct Back {
    runtime: Runtime,
    workspace: WorkspaceId,
    permits: Arc<Permits>,
    request: PermitRequest,
    origin: Origin,
    since_ns: u64,
}

/// How a call ended, and what was said in it where that is recorded.
type Ended = (CallFinished, Option<CallRecorded>);

/// What is said in a call.
#[derive(Debug)]
struct Said {
    request: Bytes,
    response: BytesMut,
    /// Whether there was more of the answer.
    cut: bool,
}

impl Permit {
    /// Gives the slot back and records how the call ended. Does not wait for the log.
    pub fn finish(mut self, report: CallReport) {
        self.give_back(report);
    }

    /// Bytes of its answer came. Whoever sends them lives, whatever has become of its heartbeat (R13).
    pub fn progressed(&mut self) {
        let Some(Back { runtime, workspace, .. }) = &self.back else { return };
        let now = runtime.shared.clock.now();
        if now.mono_ns < self.progress_after_ns {
            return;
        }
        self.progress_after_ns = now.mono_ns + PROGRESS_EVERY_NS;
        runtime.progressed(*workspace, self.generation, now.at);
    }

    /// What is sent, to be recorded with what comes back. Without this only the outcome is.
    pub fn sends(&mut self, request: Bytes) {
        self.said = Some(Said { request, response: BytesMut::new(), cut: false });
    }

    /// What came back, whole or the next piece of it.
    pub fn receives(&mut self, piece: &[u8]) {
        let Some(said) = &mut self.said else { return };
        let room = AgentReply::BODY_MAX.saturating_sub(said.response.len());
        said.response.extend_from_slice(&piece[..piece.len().min(room)]);
        said.cut |= piece.len() > room;
    }

    /// What was to be sent was not taken in: it is said another time.
    pub(super) fn unsaid(&mut self) {
        self.said = None;
    }

    /// Gives the slot back, for somebody who records by himself how the call ended.
    pub(super) fn settle(mut self, report: CallReport) -> Option<Ended> {
        self.close(report).map(|(ended, ..)| ended)
    }

    fn give_back(&mut self, report: CallReport) {
        if let Some((ended, runtime, workspace, origin)) = self.close(report) {
            runtime.shared.outcomes.add(workspace, ended, origin, runtime.shared.log.as_ref());
        }
    }

    fn close(&mut self, report: CallReport) -> Option<(Ended, Runtime, WorkspaceId, Origin)> {
        let Back { runtime, workspace, permits, request, origin, since_ns } = self.back.take()?;
        permits.give_back(self.call);
        let elapsed_ns = runtime.shared.clock.now().mono_ns.saturating_sub(since_ns);
        let finished = CallFinished {
            call: self.call,
            caller: request.caller,
            method: request.method,
            outcome: report.outcome,
            status: report.status,
            duration_ms: elapsed_ns / 1_000_000,
            request_bytes: report.request_bytes,
            response_bytes: report.response_bytes,
            error: report.error,
            tries: self.tries,
            failure: report.failure,
        };
        let said = self.said.take().map(|said| recorded(&finished, &said));
        Some(((finished, said), runtime, workspace, origin))
    }
}

/// The row of the feed for a call that ended so.
fn recorded(finished: &CallFinished, said: &Said) -> CallRecorded {
    let response = Text::within(&String::from_utf8_lossy(&said.response), AgentReply::BODY_MAX);
    let cut = response.cut || said.cut;
    CallRecorded {
        call: finished.call,
        caller: finished.caller.clone(),
        method: finished.method.clone(),
        outcome: finished.outcome,
        status: finished.status,
        duration_ms: finished.duration_ms,
        request: Text { text: String::from_utf8_lossy(&said.request).into_owned(), cut: false },
        response: (!said.response.is_empty()).then_some(Text { cut, ..response }),
        error: finished.error.clone(),
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(CallReport::dropped());
    }
}

/// One workspace's door.
#[derive(Debug, Default)]
pub(super) struct Permits {
    door: Mutex<Door>,
}

#[derive(Debug, Default)]
struct Door {
    /// None before the workspace exists, and when its stream can't be folded.
    terms: Option<Terms>,
    /// Since when each slot is taken, on the monotonic clock.
    taken: HashMap<CallId, u64>,
    /// The same for a workspace's calls of itself, which take no slot.
    own: HashMap<CallId, u64>,
    /// By how many it is being decided that the workspace hibernates: no call comes in meanwhile.
    shut: u32,
    /// Who waits until no call is open: drains, one at a time but for those that were overtaken.
    idle: Vec<oneshot::Sender<()>>,
}

/// What a state means to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    status: Status,
    url: Option<Arc<str>>,
    trusted: bool,
    generation: Generation,
    slots: u32,
    /// The restart because of which no call comes in.
    restart: Option<RestartId>,
    /// Whether it hibernates, and whether it is being woken.
    sleep: Option<Sleep>,
}

/// See [`PermitRefused::Asleep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Asleep,
    Waking,
}

impl Sleep {
    const fn of(state: &State) -> Option<Self> {
        if state.status.is_asleep() {
            return Some(Self::Asleep);
        }
        if state.is_waking() { Some(Self::Waking) } else { None }
    }
}

/// What a caller gets to know.
#[derive(Debug)]
struct Grant {
    url: Arc<str>,
    trusted: bool,
    generation: Generation,
}

impl Terms {
    fn say(&self, state: &State) -> bool {
        self.status == state.status
            && self.url.as_deref() == state.url.as_deref()
            && self.trusted == state.url_trusted
            && self.generation == state.generation
            && self.slots == state.profile.max_concurrent_tasks
            && self.restart == restarting(state)
            && self.sleep == Sleep::of(state)
    }
}

/// The restart because of which a workspace takes no calls: it is drained, or what is replaced is gone already.
fn restarting(state: &State) -> Option<RestartId> {
    let pending = state.restart.as_ref()?;
    (pending.drain.is_some() || state.url.is_none()).then_some(pending.restart)
}

impl Door {
    fn is_idle(&self) -> bool {
        self.taken.is_empty() && self.own.is_empty()
    }

    fn open(&self) -> u32 {
        u32::try_from(self.taken.len() + self.own.len()).unwrap_or(u32::MAX)
    }
}

/// A door that is shut.
#[derive(Debug)]
struct Shut<'a>(&'a Permits);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.lock().shut -= 1;
    }
}

impl Permits {
    /// Takes note of a state; cheap when nothing changed for callers.
    pub(super) fn post(&self, state: Option<&State>) {
        let mut door = self.lock();
        match (&door.terms, state) {
            (Some(terms), Some(state)) if terms.say(state) => {}
            (_, state) => {
                door.terms = state.map(|state| Terms {
                    status: state.status,
                    url: state.url.as_deref().map(Arc::from),
                    trusted: state.url_trusted,
                    generation: state.generation,
                    slots: state.profile.max_concurrent_tasks,
                    restart: restarting(state),
                    sleep: Sleep::of(state),
                });
            }
        }
    }

    fn take(&self, call: CallId, takes_slot: bool, now_ns: u64) -> Result<Grant, PermitRefused> {
        let Door { terms, taken, own, shut, .. } = &mut *self.lock();
        let terms = terms.as_ref().ok_or(Rejection::NotFound)?;
        if terms.status == Status::Removed {
            return Err(Rejection::Removed.into());
        }
        if let Some(restart) = terms.restart {
            return Err(PermitRefused::Restarting { restart });
        }
        if let Some(sleep) = terms.sleep.or_else(|| (*shut > 0).then_some(Sleep::Asleep)) {
            return Err(PermitRefused::Asleep { waking: sleep == Sleep::Waking });
        }
        let Some(url) = terms.url.as_ref().filter(|_| terms.status != Status::Paused) else {
            return Err(PermitRefused::NoUrl { status: terms.status });
        };
        if takes_slot {
            let max = terms.slots;
            if taken.len() >= max as usize {
                taken.retain(|_, since_ns| now_ns.saturating_sub(*since_ns) < LEASE_NS);
            }
            let open = u32::try_from(taken.len()).unwrap_or(u32::MAX);
            if open >= max {
                return Err(PermitRefused::Full { open, max, retry_after: FULL_RETRY_AFTER });
            }
            taken.insert(call, now_ns);
        } else {
            own.insert(call, now_ns);
        }
        Ok(Grant { url: Arc::clone(url), trusted: terms.trusted, generation: terms.generation })
    }

    fn give_back(&self, call: CallId) {
        let mut door = self.lock();
        if door.taken.remove(&call).is_none() {
            door.own.remove(&call);
        }
        if !door.idle.is_empty() && door.is_idle() {
            for waiting in door.idle.drain(..) {
                // Whoever gave up has been told that time is up.
                let _ = waiting.send(());
            }
        }
    }

    /// Hears when no call is open, which may be now.
    pub(super) fn when_idle(&self) -> oneshot::Receiver<()> {
        let (told, idle) = oneshot::channel();
        let mut door = self.lock();
        door.idle.retain(|waiting| !waiting.is_closed());
        if door.is_idle() {
            let _ = told.send(());
        } else {
            door.idle.push(told);
        }
        idle
    }

    /// Lets no call in until this is dropped, if none is open; else says how many are.
    fn shut(&self) -> Result<Shut<'_>, u32> {
        let mut door = self.lock();
        if !door.is_idle() {
            return Err(door.open());
        }
        door.shut += 1;
        Ok(Shut(self))
    }

    /// How many calls are open, those that take no slot included.
    pub(super) fn open(&self) -> u32 {
        self.lock().open()
    }

    fn lock(&self) -> MutexGuard<'_, Door> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime {
    /// Takes the right to call a workspace's agent once, or says why there is none.
    pub fn permit(
        &self,
        id: WorkspaceId,
        request: PermitRequest,
        origin: Origin,
    ) -> Result<Permit, PermitRefused> {
        let entry = self.shared.registry.get(id).ok_or(Rejection::NotFound)?;
        if !entry.address.connected() {
            return Err(CommandError::ShuttingDown.into());
        }
        self.shared.outcomes.room(self.shared.log.as_ref())?;
        let (call, since_ns) = (CallId::generate(), self.shared.clock.now().mono_ns);
        // A workspace that calls itself (its first prompt, its idle loop) takes no slot, or it would wait for itself.
        let takes_slot = request.caller != Principal::Workspace(id);
        let grant = entry.permits.take(call, takes_slot, since_ns)?;
        let permits = Arc::clone(&entry.permits);
        Ok(Permit {
            call,
            url: grant.url,
            trusted: grant.trusted,
            generation: grant.generation,
            tries: 1,
            progress_after_ns: 0,
            said: None,
            back: Some(Back { runtime: self.clone(), workspace: id, permits, request, origin, since_ns }),
        })
    }
}

impl Runtime {
    /// Has a workspace hibernate. Unless it is forced to, no call is under way then and none comes in between: the door is
    /// shut while it is decided, and stays so by what was decided.
    pub async fn hibernate(
        &self,
        id: WorkspaceId,
        forced: bool,
        origin: Origin,
    ) -> Result<Receipt, CommandError> {
        let entry = self.shared.registry.get(id).ok_or(Rejection::NotFound)?;
        let (shut, open) = match entry.permits.shut() {
            Ok(shut) => (Some(shut), 0),
            Err(open) => (None, open),
        };
        let command = Command::Hibernate(Hibernate { forced, open });
        let done = self.command(id, command, origin).await;
        drop(shut);
        done
    }

    /// Records that an answer goes on, if nothing else was heard of its workspace for as long as a heartbeat takes.
    fn progressed(&self, workspace: WorkspaceId, generation: Generation, now: Timestamp) {
        let Some(entry) = self.shared.registry.get(workspace) else { return };
        let current = entry.glance().is_some_and(|glance| glance.desired && glance.generation == generation);
        if !current || now < entry.heard() + self.policy().heartbeat_interval {
            return;
        }
        let evidence = EvidenceObserved {
            source: EvidenceSource::Call,
            class: EvidenceClass::Life,
            generation,
            instance: None,
            code: "progress".to_owned(),
            detail: "an answer of it goes on".to_owned(),
            exit_status: None,
        };
        let runtime = self.clone();
        self.shared.spawn(async move {
            let command = Command::RecordEvidence(Box::new(evidence));
            // One that is refused comes again with the next bytes.
            let _ = runtime.command(workspace, command, Origin::new(Principal::System)).await;
        });
    }

    /// Returns once a workspace's actor has taken in what it recorded before: who read in the log that it answers is not
    /// to be refused for what its door said a moment earlier.
    pub async fn settled(&self, id: WorkspaceId) {
        let _ = self.peek(id).await;
    }
}

impl CallReport {
    /// What is reported for a permit that is dropped: nobody knows how the call ended.
    fn dropped() -> Self {
        Self {
            outcome: CallOutcome::Unknown,
            status: None,
            request_bytes: 0,
            response_bytes: 0,
            error: Some("the caller's task ended before the call did".to_owned()),
            failure: None,
        }
    }
}

impl From<CommandError> for PermitRefused {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected(rejection) => Self::Rejected(rejection),
            other => Self::Command(other),
        }
    }
}
