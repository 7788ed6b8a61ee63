//! One call of the runtime: a slot, a task of its own, an outcome.
//!
//! A call runs in a task of its own, so that a caller who hangs up does not cancel work that was begun, a panic in
//! a runtime ends in an error of that call only, and the agent's stop can wait for it.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::a2a::message::{self, Prompt};
use crate::a2a::method::Dialect;
use crate::a2a::rpc::{self, ErrorData, INTERNAL_ERROR, INVALID_PARAMS, RpcError};
use crate::activity::Activity;
use crate::runtime::{Failure, Runtime};

/// All slots are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// Calls that run, which is also the limit.
    pub running: usize,
}

/// Runs calls.
#[derive(Debug)]
pub struct Caller {
    runtime: Arc<dyn Runtime>,
    slots: Option<Arc<Semaphore>>,
    activity: Arc<Activity>,
    tracker: TaskTracker,
    /// Cancelled when the agent can wait no longer.
    abandon: CancellationToken,
}

/// Leave to run one call; `None` inside where the runtime has no limit.
#[derive(Debug)]
pub struct Slot(Option<OwnedSemaphorePermit>);

impl Caller {
    /// A caller of `runtime` whose tasks belong to `tracker`.
    pub fn new(
        runtime: Arc<dyn Runtime>,
        activity: Arc<Activity>,
        tracker: TaskTracker,
        abandon: CancellationToken,
    ) -> Self {
        let slots = runtime.concurrency_max().map(|max| Arc::new(Semaphore::new(max)));
        Self { runtime, slots, activity, tracker, abandon }
    }

    /// Takes a slot, or says that all are taken; never waits, because the platform does the queueing.
    pub fn admit(&self) -> Result<Slot, Busy> {
        let Some(slots) = &self.slots else { return Ok(Slot(None)) };
        match Arc::clone(slots).try_acquire_owned() {
            Ok(permit) => Ok(Slot(Some(permit))),
            Err(_) => Err(Busy { running: self.runtime.concurrency_max().unwrap_or_default() }),
        }
    }

    /// Starts a call; the handle gives the JSON-RPC answer.
    pub fn start(&self, slot: Slot, prompt: Prompt, id: Value, dialect: Dialect) -> JoinHandle<Value> {
        let runtime = Arc::clone(&self.runtime);
        let abandon = self.abandon.clone();
        let running = self.activity.begin(&prompt.text);
        let context_id = prompt.context_id.clone();
        // The inner task is the panic boundary: the outer one always gets to its end and frees the slot.
        let tracker = self.tracker.clone();
        self.tracker.spawn(async move {
            let work = tracker.spawn(async move {
                tokio::select! {
                    answer = runtime.answer(prompt) => answer,
                    () = abandon.cancelled() => Err(Failure::Stopped),
                }
            });
            let outcome = work.await.unwrap_or(Err(Failure::Panicked));
            drop(slot.0);
            match outcome {
                Ok(text) => {
                    running.finish(None);
                    rpc::success(&id, &message::answer(&text, &context_id, dialect))
                }
                Err(failure) => {
                    tracing::warn!(context_id, error = %failure, "call failed");
                    match failure {
                        // These say nothing about the runtime: the caller's text, and our own stop.
                        Failure::Unusable(_) | Failure::Stopped => drop(running),
                        _ => running.finish(Some(&failure.to_string())),
                    }
                    rpc::failure(&id, &rpc_error(&failure), dialect)
                }
            }
        })
    }
}

fn rpc_error(failure: &Failure) -> RpcError {
    let message = failure.to_string();
    let data = match failure {
        Failure::Unusable(_) => return RpcError::new(INVALID_PARAMS, message),
        Failure::Stopped => ErrorData { kind: "Stopped", reason: "STOPPED", fields: Map::new() },
        Failure::Panicked => ErrorData { kind: "Panicked", reason: "PANICKED", fields: Map::new() },
        Failure::NotStarted { .. }
        | Failure::Exited { .. }
        | Failure::TimedOut { .. }
        | Failure::TooLong { .. }
        | Failure::Lost(_) => ErrorData {
            kind: "ProcessError",
            reason: "PROCESS_ERROR",
            fields: [
                ("exit_code".to_owned(), json!(failure.exit_code())),
                ("timed_out".to_owned(), json!(matches!(failure, Failure::TimedOut { .. }))),
            ]
            .into_iter()
            .collect(),
        },
    };
    RpcError { code: INTERNAL_ERROR, message, data: Some(data) }
}
