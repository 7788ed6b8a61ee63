//! A month of heartbeats in minutes: what they cost on disk, in memory, and when the log is opened again.
//!
//! `cargo run --release -p covalence-events --features test-support --example month -- DIRECTORY [WORKSPACES] [DAYS]` simulates the time:
//! every workspace sends a heartbeat each 30 s, and each day something happens to it. After each day the archive is rolled
//! up as the server does it, at once instead of slowly. It prints the size on disk after each day, and what a workspace's day costs.
//! Days before the limit of seven are there one by one; from the ninth on the size must stay flat but for the summaries.
#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "an example talks to people, in rounded numbers"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::retention::Rules;
use covalence_events::workspace::{HeartbeatReceived, Renamed};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, Meta, NewEvent, Principal, StreamId, Timestamp,
    WorkspaceId,
};

/// Seconds between two heartbeats.
const BEAT: i64 = 30;
const DAY: i64 = 86_400;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise| args.get(at).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let directory = args.first().expect("usage: month DIRECTORY [WORKSPACES] [DAYS]");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(simulate(Path::new(directory), number(1, 100), number(2, 30)));
}

async fn simulate(path: &Path, workspaces: i64, days: i64) {
    let began = Instant::now();
    let (log, _) = SledLog::open(path, &Options::default()).expect("the log opens");
    let log = Arc::new(log);
    let ids: Vec<StreamId> = (0..workspaces).map(|_| StreamId::Workspace(WorkspaceId::generate())).collect();
    let start = chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let boot = BootId::generate();
    let (mut longest, mut pending) = (Duration::ZERO, 0);
    println!("{workspaces} workspaces, a heartbeat each {BEAT} s");
    println!(
        "  day      events   on disk MB   of it rolled-up kB/workspace/day   RSS MB   longest append ms"
    );
    for day in 0..days {
        for second in (0..DAY).step_by(usize::try_from(BEAT).unwrap_or(30)) {
            let at = start + TimeDelta::seconds(day * DAY + second);
            let appends = ids.iter().map(|&stream| Append {
                stream,
                expected: Expected::Any,
                events: vec![beat(at, boot, (day * DAY + second, second == 0))],
            });
            let asked = Instant::now();
            let written = log.append(appends.collect(), Ack::Durable).await.expect("the append is applied");
            longest = longest.max(asked.elapsed());
            pending += written.events.len();
        }
        let now = start + TimeDelta::days(day + 1);
        log.settle().await;
        let (retention, head) = (log.scavenger(), log.head());
        let run = move || retention.run((&Rules::default(), now), head, u64::MAX, &|_| true);
        tokio::task::spawn_blocking(run).await.expect("it ends").expect("the archive is rolled up");
        let per_day = rolled_up(&log, workspaces).await;
        println!(
            "{:>5} {pending:>11} {:>12.1} {per_day:>36.2} {:>8} {:>19.1}",
            day + 1,
            bytes(path) as f64 / 1e6,
            rss() / 1024,
            longest.as_secs_f64() * 1000.0
        );
    }
    log.close().await;
    drop(log);
    let opened = Instant::now();
    let (log, found) = SledLog::open(path, &Options::default()).expect("the log opens again");
    println!(
        "{} positions, written and rolled up in {:.0?}, opened again in {:.2?}",
        found.head,
        began.elapsed(),
        opened.elapsed()
    );
    let verified = log.verify().await.expect("the log can be read");
    println!("verified: {} events are left, {} problems", verified.events, verified.problems.len());
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}

/// One heartbeat, or, once a day, something that is never removed.
fn beat(at: Timestamp, boot: BootId, (uptime, renamed): (i64, bool)) -> NewEvent {
    let meta = Meta {
        id: EventId::generate(),
        at,
        boot,
        mono_ns: u64::try_from(uptime).unwrap_or(0) * 1_000_000_000,
        correlation: CorrelationId::generate(),
        causation: None,
        principal: Principal::System,
        policy: None,
    };
    let fact = if renamed {
        Renamed { name: format!("on day {}", uptime / DAY) }.into()
    } else {
        let beat = HeartbeatReceived {
            uptime_seconds: uptime,
            active_tasks: uptime % 3,
            current_task: "answering a question about the log".to_owned(),
            generation: Some(Generation(1)),
            ..HeartbeatReceived::default()
        };
        beat.into()
    };
    NewEvent { meta, fact: Fact::Workspace(fact) }
}

/// Kilobytes that the parts from which heartbeats were removed take for a workspace and a day.
async fn rolled_up(log: &SledLog, workspaces: i64) -> f64 {
    let retention = log.scavenger();
    let survey = move || retention.survey(&Rules::default());
    let parts = tokio::task::spawn_blocking(survey).await.expect("it ends").expect("the archive reads");
    let thinned = parts.iter().filter(|part| part.removed > 0);
    let (bytes, positions) =
        thinned.fold((0, 0), |sum, part| (sum.0 + part.bytes, sum.1 + part.last.0 - part.first.0 + 1));
    let days = positions as f64 / (DAY / BEAT) as f64 / workspaces as f64;
    if days == 0.0 { 0.0 } else { bytes as f64 / 1000.0 / days / workspaces as f64 }
}

fn bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| {
        let path = entry.path();
        // What is removed meanwhile takes no room.
        let len = || std::os::unix::fs::MetadataExt::blocks(&entry.metadata().ok()?).checked_mul(512);
        if path.is_dir() { bytes(&path) } else { len().unwrap_or(0) }
    };
    entries.map(size).sum()
}

/// Kilobytes of memory.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
