//! Carries a delegated task to the other agent, and what it says back.
//!
//! # Guarantees
//! - A task is sent at most once: before it leaves, its own stream says so, and a run of the platform that ends under it leaves
//!   it *failed, outcome unknown*, for the one who handed it on to decide whether to ask again.
//! - It is tried again only where nothing arrived: while the other agent is busy, is being restarted or is away.
//! - It ends in one way, with a reason where it failed (`decide/delegated.rs`).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use covalence_events::workspace::{CallOutcome, DelegationOutcome, MessageQueued, Text};
use covalence_events::{CallId, CorrelationId, DelegationId, Generation, Principal, WorkspaceId};
use tracing::debug;

use super::{CallReport, CommandError, Permit, PermitRefused, PermitRequest, Runtime};
use crate::context::Origin;
use crate::effect::{AgentReply, Errand, NoticeError};
use crate::workspace::answer::{self, Said};
use crate::workspace::command::DelegationEnd;
use crate::workspace::delegations::{Open, Stage};
use crate::workspace::{Command, Effect, Rejection, Status};

/// A task may take as long as any call (contract 5.2).
const WHOLE: Duration = Duration::from_secs(30 * 60);
/// Between two tries at a slot, doubling up to [`PAUSE_CAP`].
const PAUSE: Duration = Duration::from_millis(100);
/// See [`PAUSE`].
const PAUSE_CAP: Duration = Duration::from_secs(2);
/// Characters of an agent's error that are kept.
const ERROR_BYTES_MAX: usize = 4096;

/// What is being carried by this run of the platform.
#[derive(Debug, Default)]
pub(super) struct Errands(Mutex<HashSet<DelegationId>>);

impl Errands {
    /// Takes one on, unless it is being carried already: an actor that was rebuilt asks again for all that is open.
    fn take(&self, delegation: DelegationId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(delegation)
    }

    fn done(&self, delegation: DelegationId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&delegation);
    }
}

/// One task on its way.
struct Carried<'a> {
    runtime: &'a Runtime,
    source: WorkspaceId,
    delegation: DelegationId,
    open: Open,
    origin: Origin,
    begun: Instant,
}

impl Runtime {
    /// What workspaces have to do with each other, and with those who call them: each in a task of its own.
    pub(super) fn run_errand(&self, workspace: WorkspaceId, effect: Effect, correlation: CorrelationId) {
        let caused = |because| Origin::caused_by(correlation, because);
        let (runtime, shared) = (self.clone(), &self.shared);
        match effect {
            Effect::Delegate { delegation, because } => {
                shared.spawn(runtime.delegate(workspace, delegation, caused(because)));
            }
            Effect::ReturnTask { source, delegation, because } => {
                shared.spawn(runtime.return_task(source, delegation, caused(because)));
            }
            Effect::ServeQueue { because } => {
                shared.spawn(runtime.serve_queue(workspace, caused(because)));
            }
            Effect::PassAgent { assigned, to, because } => {
                shared.spawn(runtime.pass_agent((workspace, to), assigned, caused(because)));
            }
            // Not an errand; dispatch carries it out.
            _ => {}
        }
    }

    /// Carries a task to its end, or to where it waits for the other agent to fetch it.
    pub(super) async fn delegate(self, source: WorkspaceId, delegation: DelegationId, origin: Origin) {
        if !self.shared.errands.take(delegation) {
            return;
        }
        let open = self.peek(source).await.and_then(|state| state.delegations.get(delegation).cloned());
        if let Some(open) = open {
            let carried = Carried { runtime: &self, source, delegation, open, origin, begun: Instant::now() };
            if let Some(end) = carried.run().await {
                carried.end(end).await;
            }
        }
        self.shared.errands.done(delegation);
    }

    /// Tells a workspace that nobody will do the task which it handed on.
    pub(super) async fn return_task(self, source: WorkspaceId, delegation: DelegationId, origin: Origin) {
        let end = DelegationEnd::failed("target_removed", "the workspace that was to do it was removed");
        let command = Command::EndDelegation { delegation, end: Box::new(end) };
        // One that is over, or whose own workspace is gone, is told in vain.
        let _ = self.insist(source, command, &origin).await;
    }
}

impl Carried<'_> {
    /// How it ended; none where it waits elsewhere.
    async fn run(&self) -> Option<DelegationEnd> {
        match self.open.stage {
            Stage::Requested => {}
            Stage::Dispatched => {
                return Some(DelegationEnd::failed(
                    "outcome_unknown",
                    "the platform was restarted while the other agent worked on it: it may have been done",
                ));
            }
            Stage::Queued => return None,
        }
        let (mut pause, mut away) = (PAUSE, None::<Instant>);
        loop {
            let Some(state) = self.runtime.peek(self.open.target).await else {
                return Some(DelegationEnd::failed("target_not_found", "workspace not found"));
            };
            let absence = if state.polls() {
                match self.queue().await {
                    Ok(()) => return self.waits().await,
                    Err(CommandError::Rejected(Rejection::Removed)) => return Some(removed()),
                    // No fault of the other agent's: its five minutes don't run.
                    Err(CommandError::LogUnavailable(_)) => Absence::Busy,
                    Err(error) => Absence::Trouble(error.to_string()),
                }
            } else {
                match self.permit() {
                    Ok(permit) => match self.send(permit).await {
                        Sent::Ended(end) => return end,
                        Sent::NotThere(why) => Absence::Trouble(why),
                        Sent::Busy => Absence::Busy,
                    },
                    Err(PermitRefused::Rejected(Rejection::Removed)) => return Some(removed()),
                    Err(PermitRefused::Rejected(rejection)) => {
                        return Some(DelegationEnd::failed("target_not_found", &rejection.to_string()));
                    }
                    Err(PermitRefused::Full { .. }) => Absence::Busy,
                    Err(PermitRefused::Restarting { .. }) => Absence::Away(Status::Provisioning),
                    Err(PermitRefused::Asleep { waking }) => self.wake(waking).await,
                    Err(PermitRefused::NoUrl { status }) => Absence::Away(status),
                    Err(PermitRefused::Command(error)) => Absence::Trouble(error.to_string()),
                }
            };
            if let Some(end) = self.patience(&absence, &mut away) {
                return Some(end);
            }
            debug!(delegation = %self.delegation, ?absence, "a delegated task waits");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The next run of the platform goes on from what is recorded.
                () = self.runtime.shared.stop.cancelled() => return None,
            }
            pause = (pause * 2).min(PAUSE_CAP);
        }
    }

    /// Whether it is given up.
    fn patience(&self, absence: &Absence, away: &mut Option<Instant>) -> Option<DelegationEnd> {
        if let Absence::Busy = absence {
            *away = None;
        } else {
            let patience = self.runtime.shared.settings.away_patience;
            if away.get_or_insert_with(Instant::now).elapsed() >= patience {
                return Some(absence.end());
            }
        }
        (self.begun.elapsed() >= WHOLE).then(|| absence.end())
    }

    fn permit(&self) -> Result<Permit, PermitRefused> {
        let caller = Principal::Workspace(self.source);
        let request = PermitRequest { caller, method: "message/send".to_owned() };
        self.runtime.permit(self.open.target, request, self.origin.clone())
    }

    /// Nobody is given a task in his sleep.
    async fn wake(&self, waking: bool) -> Absence {
        if waking {
            return Absence::Away(Status::Provisioning);
        }
        match self.runtime.insist(self.open.target, Command::Wake, &self.origin).await {
            Ok(_) => Absence::Away(Status::Provisioning),
            Err(CommandError::Rejected(why)) => Absence::Asleep(why.to_string()),
            Err(error) => Absence::Trouble(error.to_string()),
        }
    }

    fn request(&self) -> Bytes {
        Bytes::from(answer::request(self.delegation, &self.open.task).to_string())
    }

    /// Leaves it where the other agent fetches its messages.
    async fn queue(&self) -> Result<(), CommandError> {
        let message = MessageQueued {
            call: CallId::generate(),
            caller: Principal::Workspace(self.source),
            method: "message/send".to_owned(),
            digest: Some(format!("delegation:{}", self.delegation)),
            delegation: Some(self.delegation),
            request: answer::request(self.delegation, &self.open.task).to_string(),
        };
        let command = Command::Queue(Box::new(message));
        self.runtime.offer(self.open.target, command, &self.origin).await.map(drop)
    }

    async fn waits(&self) -> Option<DelegationEnd> {
        let command = Command::RecordDelegationQueued(self.delegation);
        let _ = self.runtime.insist(self.source, command, &self.origin).await;
        None
    }

    async fn send(&self, mut permit: Permit) -> Sent {
        let dispatched = Command::RecordDelegationDispatched(self.delegation);
        // A slot is not held for as long as a log may be shut.
        if let Err(error) = self.runtime.offer(self.source, dispatched, &self.origin).await {
            let why = "it was not to be sent";
            permit.finish(report(CallOutcome::NotDelivered, None, 0, 0, Some(why)));
            let later = error.passes_after().is_some();
            return if later { Sent::Busy } else { Sent::Ended(None) };
        }
        let (request, generation) = (self.request(), permit.generation);
        let sent = request.len() as u64;
        permit.sends(request.clone());
        let errand = Errand {
            url: permit.url.to_string(),
            trusted: permit.trusted,
            request,
            limit: WHOLE.saturating_sub(self.begun.elapsed()),
        };
        match self.runtime.shared.channel.send(&errand).await {
            Ok(reply) => {
                permit.receives(&reply.body);
                let done =
                    report(CallOutcome::Answered, Some(reply.status), sent, reply.body.len() as u64, None);
                permit.finish(CallReport { failure: reply.failure.clone(), ..done });
                match answered(&reply) {
                    Sent::Ended(Some(end)) => Sent::Ended(Some(self.interrupted(generation, end).await)),
                    sent => sent,
                }
            }
            Err(NoticeError::NotDelivered(why)) => {
                permit.finish(report(CallOutcome::NotDelivered, None, sent, 0, Some(&why)));
                Sent::NotThere(why)
            }
            Err(NoticeError::Unknown(why)) => {
                permit.finish(report(CallOutcome::Unknown, None, sent, 0, Some(&why)));
                let error = format!("the other agent's answer was lost: {why}; it may have been done");
                let end = DelegationEnd::failed("outcome_unknown", &error);
                Sent::Ended(Some(self.interrupted(generation, end).await))
            }
        }
    }

    /// What an agent says that was stopped under a task is about the stop, not about the task.
    async fn interrupted(&self, generation: Generation, end: DelegationEnd) -> DelegationEnd {
        if end.outcome == DelegationOutcome::Completed {
            return end;
        }
        let Some(state) = self.runtime.peek(self.open.target).await else { return end };
        let (reason, what) = match state.status {
            Status::Removed => ("target_removed", "removed"),
            Status::Paused => ("outcome_unknown", "paused"),
            status if status.is_asleep() => ("outcome_unknown", "sent to sleep"),
            _ if state.generation != generation => ("outcome_unknown", "restarted"),
            _ => return end,
        };
        let said = end.error.unwrap_or_default();
        let error = format!("the workspace was {what} while it worked on it, and may have done it: {said}");
        DelegationEnd::failed(reason, &error)
    }

    async fn end(&self, end: DelegationEnd) {
        let command = Command::EndDelegation { delegation: self.delegation, end: Box::new(end) };
        let _ = self.runtime.insist(self.source, command, &self.origin).await;
    }
}

/// What came of sending it.
enum Sent {
    /// That is all; none where it was not to be sent any more.
    Ended(Option<DelegationEnd>),
    /// Nothing arrived.
    NotThere(String),
    /// The agent has no time.
    Busy,
}

/// Why a task can't be brought now.
#[derive(Debug)]
enum Absence {
    Busy,
    Away(Status),
    /// It hibernates, and this is why it can't be woken.
    Asleep(String),
    Trouble(String),
}

impl Absence {
    fn end(&self) -> DelegationEnd {
        match self {
            Self::Busy => DelegationEnd::failed("target_busy", "workspace agent busy for half an hour"),
            Self::Away(Status::Paused) => {
                DelegationEnd::failed("target_paused", "the workspace is paused, and was not resumed in time")
            }
            Self::Away(status) => DelegationEnd::failed(
                "target_unavailable",
                &format!("the workspace is {status}, and did not come back in time"),
            ),
            Self::Asleep(why) => DelegationEnd::failed(
                "target_hibernated",
                &format!("the workspace hibernates and could not be woken in time: {why}"),
            ),
            Self::Trouble(why) => DelegationEnd::failed("target_unavailable", why),
        }
    }
}

fn removed() -> DelegationEnd {
    DelegationEnd::failed("target_removed", "workspace removed")
}

/// What an answer means for the task.
fn answered(reply: &AgentReply) -> Sent {
    let body = String::from_utf8_lossy(&reply.body);
    if reply.status == 503 {
        return Sent::Busy;
    }
    if !(200..300).contains(&reply.status) {
        let said = match answer::read(&body) {
            Said::Failed(text) | Said::Done(text) => text,
        };
        let said = Text::within(&said, ERROR_BYTES_MAX).text;
        let error = format!("the other agent answered with status {}: {said}", reply.status);
        return Sent::Ended(Some(DelegationEnd::failed("agent_error", &error)));
    }
    if body.trim().is_empty() {
        let end = DelegationEnd::failed("empty_response", "workspace agent returned empty response");
        return Sent::Ended(Some(end));
    }
    Sent::Ended(Some(match answer::read(&body) {
        Said::Failed(text) => {
            DelegationEnd::failed("agent_error", &Text::within(&text, ERROR_BYTES_MAX).text)
        }
        Said::Done(text) => DelegationEnd {
            outcome: DelegationOutcome::Completed,
            reason: None,
            response: Some(Text { text, cut: reply.cut }),
            error: None,
        },
    }))
}

fn report(
    outcome: CallOutcome,
    status: Option<u16>,
    request_bytes: u64,
    response_bytes: u64,
    error: Option<&str>,
) -> CallReport {
    let error = error.map(str::to_owned);
    CallReport { outcome, status, request_bytes, response_bytes, error, failure: None }
}
