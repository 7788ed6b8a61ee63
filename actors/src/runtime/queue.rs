//! Brings an agent the calls that wait for it, in the order in which they came, as it has time.
//!
//! # Guarantees
//! - A call leaves at most once without being known not to have arrived: before it leaves, the stream says so, and a run of
//!   the platform that ends under it leaves it *failed, outcome unknown*.
//! - What is known of the call and the end of its wait are recorded together.
//! - It waits for a slot, for an agent that says that it is busy, and for a workspace that is away, until it expires.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use covalence_events::workspace::{
    CallDequeued, CallDispatched, CallOutcome, CallQueued, Event, MessageQueued, QueueOutcome, Text,
};
use covalence_events::{CallId, Fact, QueueId, StreamId, WorkspaceId};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tracing::debug;

use super::{CallReport, Permit, PermitRefused, PermitRequest, Runtime};
use crate::context::Origin;
use crate::effect::{AgentReply, Errand, NoticeError};
use crate::workspace::answer::{self, Said};
use crate::workspace::queue::{Delivered, Returned, Waiting};
use crate::workspace::{Command, State};

/// A call may take as long as any (contract 4.3).
const WHOLE: Duration = Duration::from_secs(30 * 60);
/// The first pause between two tries at a slot, doubling up to [`PAUSE_CAP`].
const PAUSE: Duration = Duration::from_millis(100);
/// See [`PAUSE`]. The contract's sweeper looks every ten seconds (8.11).
const PAUSE_CAP: Duration = Duration::from_secs(5);
/// How long an agent that did not take a call in is left alone (contract 4.9).
const BACKOFF: TimeDelta = TimeDelta::seconds(5);
/// Bytes of an agent's error that are kept.
const ERROR_BYTES_MAX: usize = 4096;

/// Whose queues are being served by this run of the platform.
#[derive(Debug, Default)]
pub(super) struct Served(Mutex<HashSet<WorkspaceId>>);

impl Served {
    fn take(&self, workspace: WorkspaceId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(workspace)
    }

    fn done(&self, workspace: WorkspaceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&workspace);
    }
}

impl Runtime {
    /// Serves a workspace's queue until nothing waits in it.
    pub(super) async fn serve_queue(self, workspace: WorkspaceId, origin: Origin) {
        // What comes in while one server ends finds it still there, so whoever ends looks once more.
        while self.shared.served.take(workspace) {
            Server { runtime: &self, workspace, origin: &origin, flying: HashSet::new() }.run().await;
            self.shared.served.done(workspace);
            let left = self.peek(workspace).await.is_some_and(|state| !state.queue.is_empty());
            if !left || self.shared.stop.is_cancelled() {
                return;
            }
        }
    }
}

struct Server<'a> {
    runtime: &'a Runtime,
    workspace: WorkspaceId,
    origin: &'a Origin,
    /// What this server has sent and has recorded no outcome of.
    flying: HashSet<QueueId>,
}

impl Server<'_> {
    async fn run(mut self) {
        let runtime = self.runtime;
        let mut flights = FuturesUnordered::new();
        let mut pause = PAUSE;
        loop {
            let Some(state) = runtime.peek(self.workspace).await else { return };
            self.lost(&state).await;
            let next = state.queue.waiting().next();
            if next.is_none() && flights.is_empty() {
                return;
            }
            let begun = match next {
                Some(waiting) if self.may_ask(&state) => self.begin(&state, waiting).await,
                Some(_) | None => None,
            };
            if let Some((permit, call)) = begun {
                self.flying.insert(call.queue);
                flights.push(send(runtime, permit, call));
                pause = PAUSE;
                continue;
            }
            tokio::select! {
                Some((queue, command)) = flights.next(), if !flights.is_empty() => {
                    self.record(command).await;
                    self.flying.remove(&queue);
                    pause = PAUSE;
                }
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_CAP),
                // The next run of the platform goes on from what is recorded.
                () = runtime.shared.stop.cancelled() => return,
            }
        }
    }

    fn may_ask(&self, state: &State) -> bool {
        let now = self.runtime.shared.clock.now().at;
        state.queue.not_before().is_none_or(|at| at <= now)
    }

    /// What an earlier run of the platform sent has an outcome that nobody knows.
    async fn lost(&self, state: &State) {
        for call in state.queue.calls().filter(|call| call.dispatched && !self.flying.contains(&call.queue)) {
            let error = "the platform was restarted while the agent worked on it: it may have been done";
            self.end(failed(call.queue, "outcome_unknown", error.to_owned())).await;
        }
    }

    /// The right to send the next call, and what to send; none where it can't leave now.
    async fn begin(&self, state: &State, waiting: &Waiting) -> Option<(Permit, CallQueued)> {
        if state.polls() {
            self.hand_over(waiting).await;
            return None;
        }
        let request = PermitRequest { caller: waiting.caller.clone(), method: waiting.method.clone() };
        let mut permit = match self.runtime.permit(self.workspace, request, self.origin.clone()) {
            Ok(permit) => permit,
            Err(PermitRefused::Asleep { waking: false }) => {
                // Where it may not be started this is asked again, for as long as the call is wanted.
                let _ = self.runtime.command(self.workspace, Command::Wake, self.origin.clone()).await;
                return None;
            }
            Err(refused) => {
                debug!(workspace = %self.workspace, %refused, "a queued call waits");
                return None;
            }
        };
        let Some(call) = self.request(waiting).await else {
            permit.finish(nothing_left());
            return None;
        };
        let dispatched = CallDispatched { queue: waiting.queue, call: permit.call };
        if !self.record(Command::RecordCallDispatched(dispatched)).await {
            // It was given up meanwhile, or the log takes nothing.
            permit.finish(nothing_left());
            return None;
        }
        permit.sends(Bytes::from(call.request.clone()));
        Some((permit, call))
    }

    /// Its agent fetches its messages by now.
    async fn hand_over(&self, waiting: &Waiting) {
        let Some(call) = self.request(waiting).await else { return };
        let message = MessageQueued {
            call: CallId::generate(),
            caller: call.caller,
            method: call.method,
            digest: call.digest,
            delegation: None,
            request: call.request,
        };
        if self.record(Command::Queue(Box::new(message))).await {
            self.end(completed(waiting.queue)).await;
        }
    }

    /// What was asked, as the log has it. What can't be read can't be sent, now or later.
    async fn request(&self, waiting: &Waiting) -> Option<CallQueued> {
        let stream = StreamId::Workspace(self.workspace);
        let read = self.runtime.shared.log.read(stream, waiting.version, 1).await;
        let found = read.ok().and_then(|facts| facts.into_iter().next());
        let call = found.and_then(|recorded| match &recorded.fact {
            Fact::Workspace(Event::CallQueued(call)) if call.queue == waiting.queue => Some(call.clone()),
            _ => None,
        });
        if call.is_none() {
            let error = "its request can't be read in the log".to_owned();
            self.end(failed(waiting.queue, "unreadable", error)).await;
        }
        call
    }

    async fn end(&self, ended: CallDequeued) {
        self.record(Command::RecordCallDelivered(Box::new(Delivered { ended, call: None }))).await;
    }

    async fn record(&self, command: Command) -> bool {
        self.runtime.insist(self.workspace, command, self.origin).await.is_ok()
    }
}

/// Sends one call, and says what is to be recorded of it.
async fn send(runtime: &Runtime, mut permit: Permit, call: CallQueued) -> (QueueId, Command) {
    let (queue, request) = (call.queue, Bytes::from(call.request));
    let sent = request.len() as u64;
    let errand = Errand { url: permit.url.to_string(), trusted: permit.trusted, request, limit: WHOLE };
    let command = match runtime.shared.channel.send(&errand).await {
        Ok(reply) if reply.status == 503 => {
            permit.unsaid();
            permit.finish(report(CallOutcome::Answered, Some(503), (sent, reply.body.len() as u64), None));
            returned(queue, true, said(&reply))
        }
        Ok(reply) => {
            permit.receives(&reply.body);
            let bytes = (sent, reply.body.len() as u64);
            let done = report(CallOutcome::Answered, Some(reply.status), bytes, None);
            delivered(permit, CallReport { failure: reply.failure.clone(), ..done }, ended(queue, &reply))
        }
        Err(NoticeError::NotDelivered(why)) => {
            permit.unsaid();
            permit.finish(report(CallOutcome::NotDelivered, None, (sent, 0), Some(&why)));
            returned(queue, false, why)
        }
        Err(NoticeError::Unknown(why)) => {
            let error = format!("the agent's answer was lost: {why}; it may have been done");
            let ended = failed(queue, "outcome_unknown", error);
            delivered(permit, report(CallOutcome::Unknown, None, (sent, 0), Some(&why)), ended)
        }
    };
    (queue, command)
}

fn delivered(permit: Permit, report: CallReport, ended: CallDequeued) -> Command {
    Command::RecordCallDelivered(Box::new(Delivered { ended, call: permit.settle(report) }))
}

const fn returned(queue: QueueId, busy: bool, error: String) -> Command {
    Command::RecordCallReturned(Returned { queue, busy, pause: BACKOFF, error })
}

/// What an answer means for who waits for it. An error of the protocol is an answer, as it is for a call that did not wait.
fn ended(queue: QueueId, reply: &AgentReply) -> CallDequeued {
    if !(200..300).contains(&reply.status) {
        let error = format!("the agent answered with status {}: {}", reply.status, said(reply));
        return failed(queue, "agent_error", error);
    }
    if reply.body.iter().all(u8::is_ascii_whitespace) {
        return failed(queue, "empty_response", "agent returned empty response body".to_owned());
    }
    completed(queue)
}

const fn completed(queue: QueueId) -> CallDequeued {
    CallDequeued { queue, outcome: QueueOutcome::Completed, reason: None, error: None }
}

fn failed(queue: QueueId, reason: &str, error: String) -> CallDequeued {
    let reason = Some(reason.to_owned());
    CallDequeued { queue, outcome: QueueOutcome::Failed, reason, error: Some(error) }
}

fn said(reply: &AgentReply) -> String {
    let text = match answer::read(&String::from_utf8_lossy(&reply.body)) {
        Said::Failed(text) | Said::Done(text) => text,
    };
    Text::within(&text, ERROR_BYTES_MAX).text
}

fn nothing_left() -> CallReport {
    report(CallOutcome::NotDelivered, None, (0, 0), Some("it was not to be sent any more"))
}

fn report(
    outcome: CallOutcome,
    status: Option<u16>,
    (request_bytes, response_bytes): (u64, u64),
    error: Option<&str>,
) -> CallReport {
    let error = error.map(str::to_owned);
    CallReport { outcome, status, request_bytes, response_bytes, error, failure: None }
}
