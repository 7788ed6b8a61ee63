//! Permits: the right to call a workspace's agent once. Kept in memory; what remains is the outcome, as a fact.
//!
//! *Busy* is the number of open permits against the workspace's limit, never a flag, and each permit is a lease: one
//! that is never given back (its holder died in a way that skipped even `Drop`) runs out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use covalence_events::workspace::{CallFinished, CallOutcome};
use covalence_events::{CallId, Principal};
use tokio::sync::oneshot;

use super::cell::{Cell, Unasked};
use super::domain::Workspace;
use super::{CallReport, CommandError, Grant, PermitRefused, PermitRequest, Shared};
use crate::context::Origin;
use crate::workspace::{Command, Rejection, State, Status};

/// Longer than the longest call (30 min, contract 4.3).
const LEASE: Duration = Duration::from_secs(31 * 60);
/// What a caller is told to wait when all slots are taken (contract 4.7).
const FULL_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Open permits of one workspace.
#[derive(Debug, Default)]
pub(super) struct Permits {
    open: HashMap<CallId, Open>,
}

#[derive(Debug)]
struct Open {
    request: PermitRequest,
    origin: Origin,
    since_ns: u64,
    takes_slot: bool,
}

/// Asks for a permit.
pub(super) struct Acquire {
    pub(super) request: PermitRequest,
    pub(super) origin: Origin,
    pub(super) reply: oneshot::Sender<Result<Grant, PermitRefused>>,
}

impl Message for Acquire {
    type Result = ();
}

/// Gives a permit back.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) call: CallId,
    pub(super) report: CallReport,
}

impl Message for Release {
    type Result = ();
}

impl Permits {
    fn acquire(
        &mut self,
        state: Option<&State>,
        message: &Acquire,
        shared: &Arc<Shared>,
    ) -> Result<Grant, PermitRefused> {
        let state = state.ok_or(Rejection::NotFound)?;
        if state.status == Status::Removed {
            return Err(Rejection::Removed.into());
        }
        let Some(url) = state.url.clone().filter(|_| state.status != Status::Paused) else {
            return Err(PermitRefused::NoUrl { status: state.status });
        };
        let now = shared.clock.now().mono_ns;
        let lease = u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
        // A workspace that calls itself (its first prompt, its idle loop) takes no slot, or it would wait for itself.
        let takes_slot = message.request.caller != Principal::Workspace(state.id);
        let max = state.profile.max_concurrent_tasks;
        if takes_slot {
            let taken = |permits: &Self| permits.open.values().filter(|open| open.takes_slot).count();
            let mut open = taken(self);
            if open >= max as usize {
                self.open.retain(|_, open| now.saturating_sub(open.since_ns) < lease);
                open = taken(self);
            }
            let open = u32::try_from(open).unwrap_or(u32::MAX);
            if open >= max {
                return Err(PermitRefused::Full { open, max, retry_after: FULL_RETRY_AFTER });
            }
        }
        let call = CallId::generate();
        let (request, origin) = (message.request.clone(), message.origin.clone());
        self.open.insert(call, Open { request, origin, since_ns: now, takes_slot });
        Ok(Grant { call, url, trusted: state.url_trusted, generation: state.generation })
    }
}

impl Handler<Acquire> for Cell<Workspace> {
    type Result = ();

    fn handle(&mut self, message: Acquire, _: &mut Self::Context) {
        let shared = Arc::clone(&self.runtime.shared);
        let answer = self.extra.acquire(self.state.as_ref(), &message, &shared);
        if let Err(Ok(grant)) = message.reply.send(answer) {
            // Whoever asked is gone: nobody will give it back.
            self.extra.open.remove(&grant.call);
        }
    }
}

impl Handler<Release> for Cell<Workspace> {
    type Result = ();

    fn handle(&mut self, Release { call, report }: Release, ctx: &mut Self::Context) {
        let Some(open) = self.extra.open.remove(&call) else { return };
        let elapsed_ns = self.runtime.shared.clock.now().mono_ns.saturating_sub(open.since_ns);
        let finished = CallFinished {
            call,
            caller: open.request.caller,
            method: open.request.method,
            outcome: report.outcome,
            status: report.status,
            duration_ms: elapsed_ns / 1_000_000,
            request_bytes: report.request_bytes,
            response_bytes: report.response_bytes,
            error: report.error,
        };
        let command = Command::RecordCallFinished(Box::new(finished));
        self.take(Unasked { command, origin: open.origin }, ctx);
    }
}

impl CallReport {
    /// What is reported for a permit that is dropped: nobody knows how the call ended.
    pub(super) fn dropped() -> Self {
        Self {
            outcome: CallOutcome::Unknown,
            status: None,
            request_bytes: 0,
            response_bytes: 0,
            error: Some("the caller's task ended before the call did".to_owned()),
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
