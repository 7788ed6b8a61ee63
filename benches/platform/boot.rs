//! Question: how long from the start of the process until it is ready, and how much memory does it take, with many
//! workspaces in the log?
//!
//! The log is written through the store itself, ten facts a workspace, then copied for each round: sled is slowest at the first
//! open after a long run, so that is the one measured. The baseline is opening the same log without folding anything.
//! Goals: 0.3, 1 and 10 s with 1 000, 10 000 and 100 000 workspaces, and 1 GB.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use covalence_actors::runtime::token;
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::workspace::{
    CameOnline, DeliveryMode, Event, HeartbeatReceived, OnlineVia, Registered, TokenIssued, TokenPurpose,
};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, Meta, NewEvent, Principal, StreamId, WorkspaceId,
};
use futures_util::StreamExt as _;

use crate::server::Server;
use crate::{Args, mailbox, median, verdict};

/// Workspaces, and the goal in seconds.
const SIZES: [(usize, f64); 3] = [(1_000, 0.3), (10_000, 1.0), (100_000, 10.0)];
const FACTS: usize = 10;
const PEAK_MAX_MB: f64 = 1024.0;
/// Appends under way while a log is filled: enough for full batches.
const FILLING: usize = 512;

/// Prints what came out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let sizes = if args.quick { &[(50, 0.3)] } else { &SIZES[..] };
    println!(
        "workspaces | facts    log MB | open only s | ready s  goal | peak MB (at most {PEAK_MAX_MB:.0})"
    );
    for (workspaces, goal) in sizes {
        let scratch = tempfile::TempDir::new_in(&args.dir)?;
        let template = scratch.path().join("template");
        runtime.block_on(fill(&template, *workspaces))?;
        let (mut ready, mut open, mut peak) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..args.rounds {
            let bare = scratch.path().join(format!("bare-{round}"));
            copy(&template, &bare)?;
            let started = Instant::now();
            let (log, _) =
                SledLog::open_with(&covalence::config::log_dir(&bare), &Options::default(), &mut |_| {})?;
            open.push(started.elapsed().as_secs_f64());
            drop(log);
            std::fs::remove_dir_all(&bare)?;
            let data = scratch.path().join(format!("data-{round}"));
            copy(&template, &data)?;
            let server = runtime.block_on(Server::start(args, &data, "process", None))?;
            let head = runtime.block_on(server.head())?;
            ensure!(head >= (workspaces * FACTS) as u64, "the server knows {head} facts only");
            ready.push(server.ready_after.as_secs_f64());
            peak.push(server.peak_mb()?);
            drop(server);
            std::fs::remove_dir_all(&data)?;
        }
        let (ready, open, peak) = (median(ready), median(open), median(peak));
        println!(
            "{workspaces:10} | {:8} {:6.0} | {open:11.3} | {ready:7.3} {goal:5} | {peak:7.0} | {}",
            workspaces * FACTS,
            size_mb(&template)?,
            verdict(ready <= *goal && peak <= PEAK_MAX_MB),
        );
    }
    Ok(())
}

/// Copied to the disk, so that no round pays for another's writes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status()?;
    ensure!(done.success(), "copying {} failed", from.display());
    rustix::fs::sync();
    Ok(())
}

fn size_mb(path: &Path) -> Result<f64> {
    let out = Command::new("du").arg("-sk").arg(path).output()?;
    let text = String::from_utf8(out.stdout)?;
    let kb: f64 = text.split_whitespace().next().context("du said nothing")?.parse()?;
    Ok(kb / 1024.0)
}

/// Writes a log of external workspaces that registered and beat for a while.
async fn fill(data: &Path, workspaces: usize) -> Result<()> {
    covalence::data_dir::create(data)?;
    let (log, _) = SledLog::open(&covalence::config::log_dir(data), &Options::default())?;
    let log = Arc::new(log);
    let boot = BootId::generate();
    let appends = futures_util::stream::iter(0..workspaces).map(|n| {
        let (log, stream) = (Arc::clone(&log), StreamId::Workspace(WorkspaceId::generate()));
        async move {
            let events =
                life(n).into_iter().zip(1..).map(|(event, mono_ns)| event_of(event, boot, mono_ns)).collect();
            log.append(vec![Append { stream, expected: Expected::NoStream, events }], Ack::Durable).await
        }
    });
    let mut appends = appends.buffer_unordered(FILLING);
    while let Some(receipt) = appends.next().await {
        receipt?;
    }
    Ok(())
}

fn event_of(event: Event, boot: BootId, mono_ns: u64) -> NewEvent {
    let meta = Meta {
        id: EventId::generate(),
        at: chrono::Utc::now(),
        boot,
        mono_ns,
        correlation: CorrelationId::generate(),
        causation: None,
        principal: Principal::System,
        policy: None,
    };
    NewEvent { meta, fact: Fact::Workspace(event) }
}

/// Ten facts.
fn life(n: usize) -> Vec<Event> {
    let (_, minted) = token::mint(TokenPurpose::Creation, None);
    let issued = TokenIssued {
        token: minted.token,
        sha256: minted.sha256,
        prefix: minted.prefix,
        purpose: minted.purpose,
        generation: None,
    };
    let card = serde_json::json!({
        "name": format!("workspace-{n}"), "description": "an agent of the bench", "version": "1.0.0",
        "url": "http://127.0.0.1:1/", "skills": [{"id": "research", "name": "research", "tags": ["web", "papers"]}],
        "capabilities": {"streaming": false, "pushNotifications": false},
        "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
    });
    let registered = Registered {
        url: Some("http://127.0.0.1:1/".to_owned()),
        agent_card: card,
        delivery_mode: DeliveryMode::Push,
        generation: None,
    };
    let online = CameOnline {
        via: OnlineVia::Register,
        from: "awaiting_agent".to_owned(),
        generation: Generation(0),
        restart: None,
    };
    let mut facts = vec![mailbox::profile(n).into(), issued.into(), registered.into(), online.into()];
    for beat in facts.len()..FACTS {
        let beat = HeartbeatReceived {
            active_tasks: 1,
            uptime_seconds: i64::try_from(beat * 30).unwrap_or_default(),
            current_task: "summing up what the team found out".to_owned(),
            ..HeartbeatReceived::default()
        };
        facts.push(beat.into());
    }
    facts
}
