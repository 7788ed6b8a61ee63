//! Starts one generation: idempotent, after whatever was there before is gone.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use covalence_actors::effect::{Inspection, ProvisionError, ProvisionSpec, Provisioned};
use covalence_events::Generation;
use tokio::net::TcpStream;

use super::exits::Watched;
use super::identity::{Identity, Presence};
use super::launch::{self, Plan, failure, retryable, unknown};
use super::record::{Exit, Layout, Record};
use super::{ProcessBackend, blocking, logs};
use crate::backends::redact::redact;

/// How long older generations may take to end: what `docker stop` gives.
const OLDER_GRACE: Duration = Duration::from_secs(10);
/// Losing the race for a port twice in a row is rare already.
const PORT_TRIES: u32 = 4;
/// A start that fails does so within moments; an agent that merely is slow is not waited for.
const READY_WAIT: Duration = Duration::from_secs(2);
/// Short against an agent's own start, so that it does not delay it.
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// Enough of a failed start's output to see why.
const LAST_LINES: u32 = 10;

impl ProcessBackend {
    /// Starts a generation; the caller has the workspace's turn.
    pub(super) async fn start(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        if let Some(running) = self.already(spec).await? {
            return Ok(running);
        }
        // This generation is ended too: helpers of an earlier attempt may have outlived its agent.
        self.end(spec.workspace, spec.generation, OLDER_GRACE).await.map_err(|error| unknown(&error))?;
        let layout = self.layout(spec.workspace);
        let mut plan = launch::plan(&self.settings, &layout, spec)?;
        let (settings, prepared_in, owned) = (Arc::clone(&self.settings), layout.clone(), spec.clone());
        blocking(move || launch::prepare(&settings, &prepared_in, &owned))
            .await
            .map_err(|e| unknown(&e))??;
        for _ in 1..PORT_TRIES {
            match self.attempt(spec, &layout, &mut plan).await {
                Err(error) if error.code == "port_taken" => {
                    tracing::info!(workspace = %spec.workspace, "port taken meanwhile, trying another");
                }
                outcome => return outcome,
            }
        }
        self.attempt(spec, &layout, &mut plan).await
    }

    /// The answer if this generation runs already.
    async fn already(&self, spec: &ProvisionSpec) -> Result<Option<Provisioned>, ProvisionError> {
        let (this, workspace, generation) = (self.clone(), spec.workspace, spec.generation);
        let looked = blocking(move || {
            let layout = this.layout(workspace);
            if let Ok(Some(record)) = Record::read(&layout)
                && record.generation > generation
                && let Some(newer) = &record.process
                && newer.presence()? == Presence::Alive
            {
                return Ok(Err(record.generation));
            }
            this.find_generation(workspace, generation).map(Ok)
        });
        match looked.await.and_then(|looked| looked) {
            Ok(Ok(Inspection::Running(running))) => Ok(Some(running)),
            Ok(Ok(_)) => Ok(None),
            Ok(Err(newer)) => {
                let message =
                    format!("generation {newer} of this workspace runs already, newer than {generation}");
                Err(failure("start_failed", message))
            }
            // An unreadable record is replaced; what it spoke of is found by its environment and ended.
            Err(error) if error.code == "garbage" => Ok(None),
            Err(error) => Err(unknown(&error)),
        }
    }

    async fn attempt(
        &self,
        spec: &ProvisionSpec,
        layout: &Layout,
        plan: &mut Plan,
    ) -> Result<Provisioned, ProvisionError> {
        let port = launch::free_port()
            .map_err(|error| retryable("port_taken", format!("no free port on the loopback: {error}")))?;
        plan.environment.insert("PORT".to_owned(), port.to_string());
        let mut record = Record::intent(spec.workspace, spec.generation, plan.argv.clone());
        record.port = port;
        record.withheld.clone_from(&plan.withheld);
        let started = self.spawn(record, layout, plan).await;
        let (record, identity) = match started {
            Ok(started) => started,
            Err(error) => return self.abandoned(spec, error).await,
        };
        let watched = match self.watch_process(&record, &identity) {
            Ok(Some(watched)) => watched,
            Ok(None) => return self.abandoned(spec, self.ended(spec, plan, None).await).await,
            Err(error) => return self.abandoned(spec, unknown(&error)).await,
        };
        if let Some(exit) = until_ready(&watched, port).await {
            return self.abandoned(spec, self.ended(spec, plan, Some(&exit)).await).await;
        }
        Ok(record.provisioned(&identity))
    }

    /// Records the intent, starts the process, completes the record.
    async fn spawn(
        &self,
        record: Record,
        layout: &Layout,
        plan: &Plan,
    ) -> Result<(Record, Identity), ProvisionError> {
        let (layout, plan) = (layout.clone(), plan.clone());
        let spawned = blocking(move || {
            let files = |error: std::io::Error| {
                retryable("start_failed", format!("the workspace's files can't be written: {error}"))
            };
            let log = logs::open(&layout.logs(), record.generation).map_err(files)?;
            record.write(&layout).map_err(files)?;
            let pid = launch::spawn(&plan, &log)?;
            // Not reaped before its watch ends, so the number is still its own.
            let identity =
                i32::try_from(pid).ok().map(Identity::of).transpose().map_err(|error| unknown(&error))?;
            let identity = identity.flatten().ok_or_else(|| {
                retryable("start_failed", "the process was gone before it could be recorded".to_owned())
            })?;
            let record = Record { process: Some(identity.clone()), ..record };
            record.write(&layout).map_err(files)?;
            Ok((record, identity))
        });
        spawned.await.map_err(|error| unknown(&error))?
    }

    /// Nothing of a failed start may run on.
    async fn abandoned(
        &self,
        spec: &ProvisionSpec,
        failed: ProvisionError,
    ) -> Result<Provisioned, ProvisionError> {
        match self.end(spec.workspace, spec.generation, Duration::ZERO).await {
            Ok(()) => Err(failed),
            Err(error) => Err(ProvisionError {
                code: "outcome_unknown",
                message: format!("{}; and what it left may still run: {}", failed.message, error.detail),
                ..failed
            }),
        }
    }

    /// Why an agent that ended at once did so, in its own words.
    async fn ended(&self, spec: &ProvisionSpec, plan: &Plan, exit: Option<&Exit>) -> ProvisionError {
        let output = self.last_output(spec, spec.generation).await;
        let lower = output.to_ascii_lowercase();
        let is_port = lower.contains("address already in use") || lower.contains("address in use");
        let how = exit.map_or_else(|| "the process ended".to_owned(), Exit::detail);
        let said =
            if output.is_empty() { "it said nothing".to_owned() } else { format!("it said: {output}") };
        let message = if is_port {
            format!(
                "other programs took the port of the agent before it could listen, {PORT_TRIES} times in a row: see \
                 what listens on 127.0.0.1 (`ss -ltnp`), then restart it; {said}"
            )
        } else {
            format!("the agent ended as soon as it was started ({how}); {said}")
        };
        ProvisionError {
            code: if is_port { "port_taken" } else { "start_failed" },
            message: redact(&message, &[spec.token.expose()]),
            retryable: true,
            command: Some(launch::by_hand(plan)),
        }
    }

    async fn last_output(&self, spec: &ProvisionSpec, generation: Generation) -> String {
        let logs = self.layout(spec.workspace).logs();
        blocking(move || logs::last_lines(&logs, generation, LAST_LINES)).await.unwrap_or_default()
    }
}

/// Waits until the agent's port accepts, for a bounded time. The exit, if it ended instead.
async fn until_ready(watched: &Watched, port: u16) -> Option<Exit> {
    let accepts = async {
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::time::sleep(READY_INTERVAL).await;
        }
    };
    tokio::select! {
        exit = watched.ended_within(READY_WAIT) => if exit.is_some() { return exit },
        () = accepts => {}
    }
    // In this order, so that an end at this very moment is told by one of the two.
    watched.announce();
    watched.exit.borrow().clone()
}
