//! Calls that wait until an agent has time, as far as decisions rest on them. Their bodies stay in the log.

use std::collections::VecDeque;

use chrono::TimeDelta;
use covalence_events::workspace::{
    CallDequeued, CallDispatched, CallFinished, CallQueued, CallRecorded, CallReturned,
};
use covalence_events::{EventId, Principal, QueueId, Timestamp, Version};

/// Calls of one workspace that may wait at once. Who would be behind so many has an answer sooner elsewhere.
pub const WAITING_MAX: usize = 100;
/// How long a call waits where its caller does not say, and at most.
pub const EXPIRES_MAX: TimeDelta = TimeDelta::hours(24);
/// How often it is tried at an agent that can't be reached (contract 4.9).
pub const ATTEMPTS_MAX: u32 = 5;

/// A call that waits, or is with its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub queue: QueueId,
    /// Where in the workspace's stream its request is.
    pub version: Version,
    /// The fact that asked.
    pub queued: EventId,
    /// Since when.
    pub since: Timestamp,
    /// Who called.
    pub caller: Principal,
    /// The JSON-RPC method.
    pub method: String,
    /// By what a repetition is known.
    pub digest: Option<String>,
    /// From then on it is not wanted any more.
    pub expires: Timestamp,
    /// How often nobody took it in, not counting agents without time.
    pub attempts: u32,
    /// Whether it may have arrived.
    pub dispatched: bool,
}

/// See [`RecordCallReturned`](super::Command::RecordCallReturned).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Which.
    pub queue: QueueId,
    /// Whether the agent had no time; else nobody took it in at all.
    pub busy: bool,
    /// For how long it is not tried again.
    pub pause: TimeDelta,
    /// What went wrong, for people.
    pub error: String,
}

/// See [`RecordCallDelivered`](super::Command::RecordCallDelivered).
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// How the wait ended.
    pub ended: CallDequeued,
    /// How the call did, and what was said in it; none where this run of the platform did not make it.
    pub call: Option<(CallFinished, Option<CallRecorded>)>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// In the order in which they came.
    calls: VecDeque<Waiting>,
    /// Before this the agent does not want to be asked.
    not_before: Option<Timestamp>,
}

impl Queue {
    /// All of them, those that are with the agent too, in the order in which they came.
    pub fn calls(&self) -> impl Iterator<Item = &Waiting> {
        self.calls.iter()
    }

    /// Those that have not left.
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.calls.iter().filter(|call| !call.dispatched)
    }

    /// One of them.
    pub fn get(&self, queue: QueueId) -> Option<&Waiting> {
        self.calls.iter().find(|call| call.queue == queue)
    }

    /// Whether one of them is this.
    pub fn knows(&self, digest: &str) -> bool {
        self.calls.iter().any(|call| call.digest.as_deref() == Some(digest))
    }

    /// Whether as many wait as may.
    pub fn is_full(&self) -> bool {
        self.calls.len() >= WAITING_MAX
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Before when the agent does not want to be asked.
    pub const fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// When the first of those that wait is not wanted any more.
    pub fn due(&self) -> Option<Timestamp> {
        self.waiting().map(|call| call.expires).min()
    }

    pub(super) fn queued(&mut self, e: &CallQueued, queued: EventId, (version, since): (Version, Timestamp)) {
        self.not_before = self.not_before.max(e.not_before);
        self.calls.push_back(Waiting {
            queue: e.queue,
            version,
            queued,
            since,
            caller: e.caller.clone(),
            method: e.method.clone(),
            digest: e.digest.clone(),
            expires: e.expires,
            attempts: 0,
            dispatched: false,
        });
    }

    pub(super) fn dispatched(&mut self, e: &CallDispatched) {
        if let Some(call) = self.find(e.queue) {
            call.dispatched = true;
        }
    }

    pub(super) fn returned(&mut self, e: &CallReturned) {
        if let Some(call) = self.find(e.queue) {
            call.dispatched = false;
            call.attempts += u32::from(!e.busy);
        }
        self.not_before = Some(e.not_before);
    }

    pub(super) fn ended(&mut self, queue: QueueId) {
        self.calls.retain(|call| call.queue != queue);
        if self.calls.is_empty() {
            self.not_before = None;
        }
    }

    /// Nobody is called any more.
    pub(super) fn abandoned(&mut self) {
        *self = Self::default();
    }

    fn find(&mut self, queue: QueueId) -> Option<&mut Waiting> {
        self.calls.iter_mut().find(|call| call.queue == queue)
    }
}
