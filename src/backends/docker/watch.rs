//! Watching: the engine's event stream turned into signals.
//!
//! The stream is lossy by the engine's design, and silent when the engine hangs. So each (re)connection is a
//! [`Signal::Gap`], after which the platform compares by list, and a probe beside the stream finds a silent engine.

use std::collections::HashMap;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{EventMessage, SystemInfo};
use bollard::query_parameters::EventsOptionsBuilder;
use covalence_actors::effect::Signal;
use covalence_events::workspace::InstanceRef;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::engine::observe;
use super::errors::Failure;
use super::{DockerBackend, names};

/// After a lost connection: at once, then doubling. A restarting engine is back within seconds.
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(100);
/// Decision 20: probes of an unreachable engine back off to at most 15 s.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(15);
/// A frozen engine keeps the stream open and says nothing: found after one interval and one observation's limit.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// One slow answer under load is not an engine that is lost.
const PROBES_FAILED_MAX: u32 = 2;
/// What ended just before a subscription is told again: the list that follows a gap may have been taken before it ended.
/// Telling an end twice is harmless, since it names the exact instance.
const REPLAY: chrono::TimeDelta = chrono::TimeDelta::seconds(10);
/// An OOM event precedes its `die`; a few containers at most are between the two.
const OOM_NOTES_MAX: usize = 64;

/// What goes to the platform, without ever waiting for it.
struct Outbox {
    signals: mpsc::Sender<Signal>,
    /// Something did not fit: the platform must compare by list once there is room.
    gap_due: bool,
    /// Whether the platform was last told that the engine is lost.
    lost: bool,
}

impl Outbox {
    fn send(&mut self, signal: Signal) {
        if self.gap_due && signal != Signal::Gap {
            match self.signals.try_send(Signal::Gap) {
                Ok(()) => self.gap_due = false,
                Err(_) => return,
            }
        }
        match self.signals.try_send(signal) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.gap_due = true,
        }
    }

    fn reachable(&mut self) {
        if self.lost {
            self.lost = false;
            self.send(Signal::Found);
        }
        self.send(Signal::Gap);
    }

    fn unreachable(&mut self, failure: Failure) {
        if !self.lost {
            self.lost = true;
            self.send(Signal::Lost(failure.into()));
        }
    }
}

impl DockerBackend {
    pub(super) async fn watch_engine(&self, signals: mpsc::Sender<Signal>) {
        let closed = signals.clone();
        let mut outbox = Outbox { signals, gap_due: false, lost: false };
        let mut delay = RECONNECT_DELAY_MIN;
        loop {
            let failure = tokio::select! {
                () = closed.closed() => return,
                failure = self.watch_once(&mut outbox, &mut delay) => failure,
            };
            tracing::debug!(error = failure.detail, "the engine's event stream ended");
            // A stream that ended says little; whether the engine answers says more.
            if let Err(failure) = self.engine.ask_identity().await {
                outbox.unreachable(failure);
            }
            tokio::select! {
                () = closed.closed() => return,
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(RECONNECT_DELAY_MAX);
        }
    }

    /// One connection, from asking for the engine's time to the end of the stream.
    async fn watch_once(&self, outbox: &mut Outbox, delay: &mut Duration) -> Failure {
        // Counted on the engine's own clock: what happens while the stream is being set up is delivered late, not lost.
        let since = match self.subscription_start().await {
            Ok(since) => since,
            Err(failure) => {
                outbox.unreachable(failure.clone());
                return failure;
            }
        };
        let docker = match self.engine.client() {
            Ok(docker) => docker,
            Err(failure) => return failure,
        };
        let options = EventsOptionsBuilder::new().since(&since).filters(&self.event_filter()).build();
        let events = std::pin::pin!(docker.events(Some(options)));
        outbox.reachable();
        *delay = RECONNECT_DELAY_MIN;
        self.pump(events, outbox).await
    }

    async fn pump(
        &self,
        mut events: impl Stream<Item = Result<EventMessage, Error>> + Unpin,
        outbox: &mut Outbox,
    ) -> Failure {
        let what = "watch the engine's events";
        let mut out_of_memory = Vec::new();
        let mut probes_failed = 0;
        let mut probe = tokio::time::interval(PROBE_INTERVAL);
        probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        probe.tick().await;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(signal) = signal_of(event, &mut out_of_memory) {
                            outbox.send(signal);
                        }
                    }
                    Some(Err(error)) => return Failure::from_client(what, &error),
                    None => return Failure::garbage(what, "the stream ended"),
                },
                _ = probe.tick() => match self.engine.ask_identity().await {
                    Ok(()) if probes_failed >= PROBES_FAILED_MAX => {
                        probes_failed = 0;
                        outbox.reachable();
                    }
                    Ok(()) => {
                        probes_failed = 0;
                        if outbox.gap_due {
                            outbox.send(Signal::Gap);
                            outbox.gap_due = false;
                        }
                    }
                    Err(failure) => {
                        probes_failed += 1;
                        if probes_failed >= PROBES_FAILED_MAX {
                            outbox.unreachable(failure);
                        }
                    }
                },
            }
        }
    }

    async fn subscription_start(&self) -> Result<String, Failure> {
        let docker = self.engine.client()?;
        let info: SystemInfo = observe("ask the engine for its time", docker.info()).await?;
        let time = info.system_time.unwrap_or_default();
        let parsed = chrono::DateTime::parse_from_rfc3339(&time)
            .map_err(|_| Failure::garbage("ask the engine for its time", "the answer has no time"))?
            - REPLAY;
        self.engine.note_proof();
        Ok(format!("{}.{:09}", parsed.timestamp(), parsed.timestamp_subsec_nanos()))
    }

    fn event_filter(&self) -> HashMap<String, Vec<String>> {
        let mut filter = names::label_filter(&self.config.instance, None);
        filter.insert("type".to_owned(), vec!["container".to_owned()]);
        filter.insert("event".to_owned(), ["die", "oom", "destroy"].map(str::to_owned).to_vec());
        filter
    }
}

/// What an event means. `out_of_memory` remembers containers whose OOM event came first.
fn signal_of(event: EventMessage, out_of_memory: &mut Vec<String>) -> Option<Signal> {
    let actor = event.actor?;
    let id = actor.id?;
    let attributes = actor.attributes.unwrap_or_default();
    let (workspace, generation) = names::owner(&attributes);
    let (workspace, generation) = (workspace?, generation?);
    let instance = InstanceRef { id: id.clone() };
    let exit_status = attributes.get("exitCode").and_then(|code| code.parse().ok());
    let detail = match event.action.as_deref()? {
        "oom" => {
            if out_of_memory.len() >= OOM_NOTES_MAX {
                out_of_memory.remove(0);
            }
            out_of_memory.push(id);
            return None;
        }
        "die" => {
            let status = exit_status.map_or_else(|| "unknown".to_owned(), |status: i32| status.to_string());
            let noted = out_of_memory.iter().position(|noted| *noted == id);
            let reason = match noted {
                Some(place) => {
                    out_of_memory.remove(place);
                    ", killed for exceeding its memory limit"
                }
                None => "",
            };
            format!("the container exited with status {status}{reason}")
        }
        "destroy" => "the container was removed".to_owned(),
        _ => return None,
    };
    Some(Signal::Exited { workspace, generation, instance, exit_status, detail })
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;
    use covalence_events::{Generation, WorkspaceId};

    use super::*;

    fn event(action: &str, workspace: WorkspaceId, code: Option<&str>) -> EventMessage {
        let mut attributes = names::container_labels("p", workspace, Generation(2));
        attributes.extend(code.map(|code| ("exitCode".to_owned(), code.to_owned())));
        let actor = EventActor { id: Some("c".repeat(64)), attributes: Some(attributes) };
        EventMessage { action: Some(action.to_owned()), actor: Some(actor), ..EventMessage::default() }
    }

    #[test]
    fn a_death_by_memory_says_so() {
        let workspace = WorkspaceId::generate();
        let mut notes = Vec::new();
        assert_eq!(signal_of(event("oom", workspace, None), &mut notes), None);
        let Some(Signal::Exited { exit_status, detail, generation, .. }) =
            signal_of(event("die", workspace, Some("137")), &mut notes)
        else {
            panic!("no signal");
        };
        assert_eq!((exit_status, generation), (Some(137), Generation(2)));
        assert!(detail.contains("memory limit"), "{detail}");
        assert!(notes.is_empty());
    }

    #[test]
    fn a_start_is_no_signal() {
        assert_eq!(signal_of(event("start", WorkspaceId::generate(), None), &mut Vec::new()), None);
    }

    #[test]
    fn what_does_not_fit_becomes_a_later_gap() {
        let (signals, mut receiver) = mpsc::channel(1);
        let mut outbox = Outbox { signals, gap_due: false, lost: false };
        outbox.send(Signal::Found);
        outbox.send(Signal::Found);
        assert!(outbox.gap_due);
        assert_eq!(receiver.try_recv(), Ok(Signal::Found));
        outbox.send(Signal::Found);
        assert_eq!(receiver.try_recv(), Ok(Signal::Gap));
    }
}
