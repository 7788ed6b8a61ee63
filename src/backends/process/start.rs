//! Starts one generation: idempotent, after whatever was there before is gone.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use covalence_actors::effect::{BackendError, Inspection, ProvisionError, ProvisionSpec, Provisioned};
use covalence_events::{Generation, WorkspaceId};
use tokio::net::TcpStream;

use super::exits::Watched;
use super::identity::{Identity, Presence};
use super::launch::{self, Plan, failure, retryable, unknown};
use super::record::{Exit, Layout, Record};
use super::{ProcessBackend, blocking, logs};
use crate::backends::redact::{redact, values};

/// How long older generations may take to end: what `docker stop` gives.
const OLDER_GRACE: Duration = Duration::from_secs(10);
/// Losing the race for a port twice in a row is rare already.
const PORT_TRIES: u32 = 4;
/// A start that fails does so within moments; an agent that merely is slow is not waited for.
const READY_WAIT: Duration = Duration::from_secs(2);
/// The first pause between two looks whether the port accepts: an agent is up within milliseconds, and looking at a port of
/// the loopback costs some ten microseconds.
const READY_PAUSE_FIRST: Duration = Duration::from_millis(1);
/// Each pause is this share of the time waited so far, so that a look comes late by no more than that.
const READY_PAUSE_SHARE: u32 = 8;
/// Enough of a failed start's output to see why.
const LAST_LINES: u32 = 10;

/// Whether a generation needs no start.
enum Already {
    No,
    Running(Provisioned),
    /// A newer one runs.
    Newer(Generation),
}

impl ProcessBackend {
    /// Starts a generation; the caller has the workspace's turn.
    pub(super) async fn start(&self, spec: &ProvisionSpec) -> Result<Provisioned, ProvisionError> {
        if let Some(running) = self.cleared(spec).await? {
            return Ok(running);
        }
        let layout = self.layout(spec.workspace);
        let mut plan = launch::plan(&self.settings, &layout, spec)?;
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

    /// The answer if this generation runs already. If not, nothing of the workspace is left on return: of this generation
    /// neither, since helpers of an earlier attempt may have outlived its agent.
    async fn cleared(&self, spec: &ProvisionSpec) -> Result<Option<Provisioned>, ProvisionError> {
        let (this, workspace, generation) = (self.clone(), spec.workspace, spec.generation);
        // In one go, because each hand-over to another thread costs a wake-up and a restart waits for all of them.
        let looked = blocking(move || match this.already(workspace, generation)? {
            Already::No => this.clear_if_alone(workspace, generation).map(|alone| (Already::No, alone)),
            known => Ok((known, false)),
        });
        match looked.await.and_then(|looked| looked).map_err(|error| unknown(&error))? {
            (Already::Running(running), _) => return Ok(Some(running)),
            (Already::Newer(newer), _) => {
                let message =
                    format!("generation {newer} of this workspace runs already, newer than {generation}");
                return Err(failure("start_failed", message));
            }
            (Already::No, true) => {}
            (Already::No, false) => {
                self.end(workspace, generation, OLDER_GRACE).await.map_err(|error| unknown(&error))?;
            }
        }
        Ok(None)
    }

    fn already(&self, workspace: WorkspaceId, generation: Generation) -> Result<Already, BackendError> {
        if let Ok(Some(record)) = Record::read(&self.layout(workspace))
            && record.generation > generation
            && let Some(newer) = &record.process
            && newer.presence()? == Presence::Alive
        {
            return Ok(Already::Newer(record.generation));
        }
        match self.find_generation(workspace, generation) {
            Ok(Inspection::Running(running)) => Ok(Already::Running(running)),
            Ok(Inspection::NotThere { .. } | Inspection::Unknown(_)) => Ok(Already::No),
            // An unreadable record is replaced; what it spoke of is found by its environment and ended.
            Err(error) if error.code == "garbage" => Ok(Already::No),
            Err(error) => Err(error),
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
        record.directory = (plan.directory != layout.work()).then(|| plan.directory.clone());
        let started = self.spawn(spec, record, layout, plan).await;
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

    /// Prepares the directory, records the intent, starts the process, completes the record.
    async fn spawn(
        &self,
        spec: &ProvisionSpec,
        record: Record,
        layout: &Layout,
        plan: &Plan,
    ) -> Result<(Record, Identity), ProvisionError> {
        let (settings, spec) = (Arc::clone(&self.settings), spec.clone());
        let (layout, plan) = (layout.clone(), plan.clone());
        let spawned = blocking(move || {
            launch::prepare(&settings, &layout, &spec)?;
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
                code: ProvisionError::OUTCOME_UNKNOWN,
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
            message: redact(&message, &values(spec)),
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
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            tokio::time::sleep(READY_PAUSE_FIRST.max(started.elapsed() / READY_PAUSE_SHARE)).await;
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
