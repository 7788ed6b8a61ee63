//! Question: what does our mailbox cost, against a raw actix actor that does the same kind of work?
//!
//! What the runtime does is a permit (taken at the mailbox's door and given back, its outcome recorded) and a heartbeat
//! (decided, put into the log in memory, folded, answered). The raw actor answers a message with a little state of its own,
//! asked from another thread as the edge asks ours, and from its own thread for scale. Goal: a permit at most twice the raw
//! round trip. A beat is reported: besides its round trip it makes a fact with two ids, and appends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use anyhow::{Context as _, Result};
use covalence_actors::context::Origin;
use covalence_actors::runtime::{
    CallReport, CommandError, PermitRefused, PermitRequest, Ports, Recovery, Runtime, Settings,
};
use covalence_actors::workspace::Command;
use covalence_actors::workspace::command::Create;
use covalence_events::keyring::Keyring;
use covalence_events::log::memory::MemoryLog;
use covalence_events::vault::Vault;
use covalence_events::workspace::{BackendKind, CallOutcome, Created, WorkspaceAccess};
use covalence_events::{Principal, WorkspaceId};

use crate::{Args, median, percentile, verdict};

const GOAL: f64 = 2.0;

/// The raw actor: as much state as a permit needs.
#[derive(Default)]
struct Raw {
    open: HashMap<uuid::Uuid, Instant>,
}

impl Actor for Raw {
    type Context = Context<Self>;
}

struct Take(String);

impl Message for Take {
    type Result = (uuid::Uuid, String);
}

impl Handler<Take> for Raw {
    type Result = MessageResult<Take>;

    fn handle(&mut self, Take(url): Take, _: &mut Self::Context) -> Self::Result {
        let call = uuid::Uuid::now_v7();
        self.open.insert(call, Instant::now());
        MessageResult((call, url))
    }
}

struct Give(uuid::Uuid);

impl Message for Give {
    type Result = ();
}

impl Handler<Give> for Raw {
    type Result = ();

    fn handle(&mut self, Give(call): Give, _: &mut Self::Context) {
        self.open.remove(&call);
    }
}

struct Answers {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

/// A closed loop of one caller.
async fn timed<F: Future<Output = Result<()>>>(
    span: Duration,
    mut once: impl FnMut() -> F,
) -> Result<Answers> {
    let (mut took, started) = (Vec::new(), Instant::now());
    while started.elapsed() < span {
        let before = Instant::now();
        once().await?;
        took.push(before.elapsed().as_secs_f64() * 1e6);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of a few million")]
    let per_second = took.len() as f64 / started.elapsed().as_secs_f64();
    Ok(Answers { per_second, p50_us: percentile(&mut took, 0.5), p99_us: percentile(&mut took, 0.99) })
}

async fn take_and_give(raw: &Addr<Raw>) -> Result<()> {
    let (call, _) = raw.send(Take("http://127.0.0.1:1/".to_owned())).await?;
    raw.try_send(Give(call)).ok().context("the raw mailbox is full")
}

fn raw_other_thread(span: Duration) -> Result<Answers> {
    let system = System::new();
    let arbiter = Arbiter::new();
    let raw = Raw::start_in_arbiter(&arbiter.handle(), |_| Raw::default());
    let answers = system.block_on(timed(span, || take_and_give(&raw)));
    arbiter.stop();
    answers
}

fn raw_same_thread(span: Duration) -> Result<Answers> {
    System::new().block_on(async move {
        let raw = Raw::default().start();
        timed(span, || take_and_give(&raw)).await
    })
}

/// The runtime over a log in memory, with one external workspace that answers at an address.
async fn runtime(tasks: tokio::runtime::Handle) -> Result<(Runtime, WorkspaceId)> {
    let ports = Ports {
        log: Arc::new(MemoryLog::new()),
        clock: Arc::new(covalence::clock::SystemClock::starting_after(None)),
        backends: HashMap::new(),
        vault: Vault::new(Arc::new(Keyring::open(tempfile::tempdir()?.path(), None)?)),
        channel: Arc::new(covalence::channel::HttpChannel::new(
            covalence::http::address::Surroundings::default(),
        )?),
        tasks,
        pulses: Vec::new(),
    };
    let runtime = Runtime::start(Recovery::default(), ports, Settings::default(), Vec::new()).await?;
    let id = WorkspaceId::generate();
    let create = Create { profile: profile(0), token: None, secrets: Vec::new() };
    runtime.command(id, Command::Create(Box::new(create)), Origin::new(Principal::Admin)).await?;
    Ok((runtime, id))
}

/// An external workspace.
pub(crate) fn profile(n: usize) -> Created {
    Created {
        name: format!("workspace-{n}"),
        role: Some("researches what the others need to know".to_owned()),
        tier: 2,
        runtime: "external".to_owned(),
        backend: BackendKind::External,
        model: None,
        template: None,
        entry: None,
        parent: None,
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        url: Some("http://127.0.0.1:1/".to_owned()),
        delivery_mode: None,
        budget_limit: None,
        max_concurrent_tasks: 64,
        x: 0.0,
        y: 0.0,
    }
}

async fn permit(runtime: &Runtime, id: WorkspaceId) -> Result<()> {
    let permit = loop {
        let request = PermitRequest { caller: Principal::Admin, method: "message/send".to_owned() };
        match runtime.permit(id, request, Origin::new(Principal::Admin)) {
            // A loop that does nothing else is quicker than the record of what it does, and has to wait for it.
            Err(PermitRefused::Command(CommandError::Busy { .. })) => tokio::task::yield_now().await,
            answer => break answer?,
        }
    };
    permit.finish(CallReport {
        outcome: CallOutcome::Answered,
        status: Some(200),
        request_bytes: 0,
        response_bytes: 0,
        error: None,
        failure: None,
    });
    Ok(())
}

async fn beat(runtime: &Runtime, id: WorkspaceId) -> Result<()> {
    let command = Command::Heartbeat(Box::default());
    runtime.command(id, command, Origin::new(Principal::Workspace(id))).await?;
    Ok(())
}

fn ours(span: Duration) -> Result<(Answers, Answers)> {
    let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let handle = tasks.handle().clone();
    let both = System::new().block_on(async move {
        let (runtime, id) = runtime(handle).await?;
        let permits = timed(span, || permit(&runtime, id)).await?;
        let beats = timed(span, || beat(&runtime, id)).await?;
        runtime.shut_down(false).await;
        anyhow::Ok((permits, beats))
    });
    tasks.shutdown_background();
    both
}

/// Prints what came out.
pub(crate) fn run(args: &Args) -> Result<()> {
    // The log in memory keeps everything: a second is half a million facts.
    let span = args.span.min(Duration::from_secs(1));
    let (mut raw, mut same, mut permits, mut beats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        raw.push(raw_other_thread(span)?);
        same.push(raw_same_thread(span)?);
        let (permit, beat) = ours(span)?;
        permits.push(permit);
        beats.push(beat);
    }
    for (name, answers) in [
        ("raw actix, same thread", &same),
        ("raw actix, other thread", &raw),
        ("permit", &permits),
        ("heartbeat, in memory", &beats),
    ] {
        let of = |pick: &dyn Fn(&Answers) -> f64| median(answers.iter().map(pick).collect());
        println!(
            "{name:24} {:9.0}/s  p50 {:6.2} us  p99 {:6.1} us",
            of(&|answers| answers.per_second),
            of(&|answers| answers.p50_us),
            of(&|answers| answers.p99_us),
        );
    }
    let times = |ours: &[Answers]| {
        median(ours.iter().zip(&raw).map(|(ours, raw)| raw.per_second / ours.per_second).collect())
    };
    let (permit, beat) = (times(&permits), times(&beats));
    println!("permit {permit:.2} x raw, goal {GOAL}: {}; heartbeat {beat:.2} x raw", verdict(permit <= GOAL));
    Ok(())
}
