//! Durable appends by 1 to 512 writers at once, each of which appends the next fact once the last is acknowledged.
//!
//! All stores encode the same facts, group what waits into one commit and answer through a oneshot. Rounds are interleaved, because
//! shared machines drift, and each round begins with another store, because each leaves the disk busy for the next; what counts is
//! the ratio within a round, and the median over rounds is shown.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use covalence_events::id::{BootId, CorrelationId, EventId, Generation};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::{Fact, Meta, NewEvent, Principal, StreamId, WorkspaceId, workspace};

use super::batched::Batched;
use super::file::FileStore;
use super::sqlite::SqliteStore;
use super::{Args, SLACK, median};

/// How many append at once.
const WRITERS: [usize; 4] = [1, 8, 64, 512];
/// Appends a second, at least, as shares of the file's. They come from prototypes on two cores: what packing a commit into values
/// of at most 6 KiB reached there, less a quarter.
const FLOORS: [f64; 4] = [0.40, 0.40, 0.30, 0.50];
/// What it should reach.
const GOAL: f64 = 0.50;
/// An acknowledgement's 99th percentile, at most, as a multiple of the file's; and what it should stay below.
const P99: (f64, f64) = (4.0, 3.0);

/// One store under load.
trait Target: Send + Sync + 'static {
    fn append(&self, stream: StreamId, event: NewEvent) -> impl Future<Output = Result<()>> + Send;
}

impl Target for SledLog {
    async fn append(&self, stream: StreamId, event: NewEvent) -> Result<()> {
        let append = Append { stream, expected: Expected::Any, events: vec![event] };
        EventLog::append(self, vec![append], Ack::Durable).await?;
        Ok(())
    }
}

impl Target for Batched {
    async fn append(&self, stream: StreamId, event: NewEvent) -> Result<()> {
        Self::append(self, stream, &event).await
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
}

/// What came of so many writers in one round.
#[derive(Clone, Copy, Debug)]
struct Compared {
    file: Outcome,
    log: Outcome,
    sqlite: Outcome,
}

/// One line of the table: medians over the rounds.
#[derive(Debug)]
struct Row {
    writers: usize,
    floor: f64,
    stores: [(&'static str, Outcome); 3],
    of_file: f64,
    of_sqlite: f64,
    p99_factor: f64,
}

impl Row {
    fn holds(&self) -> bool {
        self.of_file >= self.floor && self.p99_factor <= P99.0
    }

    fn holds_with_slack(&self) -> bool {
        self.of_file >= self.floor * (1.0 - SLACK) && self.p99_factor <= P99.0 * (1.0 + SLACK)
    }

    fn words(&self) -> &'static str {
        if self.of_file >= self.floor.max(GOAL) && self.p99_factor <= P99.1 {
            "goal"
        } else if self.holds() {
            "floor"
        } else if self.holds_with_slack() {
            "within the slack"
        } else {
            "MISSED"
        }
    }
}

/// Measures once, and prints. Answers whether the floors hold, with slack.
pub(crate) fn run(args: &Args, dir: &Path) -> Result<bool> {
    let scratch = tempfile::TempDir::new_in(dir)?;
    if let Some(name) = &args.store {
        let kind =
            Kind::ALL.into_iter().find(|kind| kind.name() == name).context("--store: file, log or sqlite")?;
        let outcome = measured(kind, scratch.path(), (args.writers.unwrap_or(1), args.span))?;
        println!(
            "{name}: {:.0} facts/s, p50 {:.0} us, p99 {:.0} us",
            outcome.rate, outcome.p50_us, outcome.p99_us
        );
        return Ok(true);
    }
    let mut rounds: Vec<Vec<Compared>> = Vec::new();
    for number in 0..args.rounds {
        let mut round = Vec::new();
        for writers in WRITERS {
            let mut outcomes = [Outcome::default(); 3];
            for turn in 0..outcomes.len() {
                let at = (number + turn) % outcomes.len();
                outcomes[at] = measured(Kind::ALL[at], scratch.path(), (writers, args.span))?;
            }
            let [file, log, sqlite] = outcomes;
            round.push(Compared { file, log, sqlite });
        }
        rounds.push(round);
    }
    let rows: Vec<Row> = (0..WRITERS.len()).map(|column| row(&rounds, column)).collect();
    if args.json {
        println!("{}", json(args, &rows));
    } else {
        print(args, &rows);
    }
    Ok(rows.iter().all(Row::holds_with_slack))
}

#[derive(Clone, Copy)]
enum Kind {
    File,
    Log,
    Sqlite,
}

impl Kind {
    const ALL: [Self; 3] = [Self::File, Self::Log, Self::Sqlite];

    const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Log => "log",
            Self::Sqlite => "sqlite",
        }
    }
}

/// A fresh store under load, removed afterwards.
fn measured(kind: Kind, dir: &Path, how: (usize, Duration)) -> Result<Outcome> {
    let path = dir.join("store");
    let outcome = match kind {
        Kind::Log => {
            let log = Arc::new(SledLog::open(&path, &Options::default())?.0);
            load(&log, how)?
        }
        Kind::File => batched(Batched::new(FileStore::create(&path)?), how)?,
        Kind::Sqlite => batched(Batched::new(SqliteStore::create(&path)?), how)?,
    };
    std::fs::remove_dir_all(path)?;
    Ok(outcome)
}

fn batched(store: Batched, how: (usize, Duration)) -> Result<Outcome> {
    let store = Arc::new(store);
    let outcome = load(&store, how)?;
    if let Ok(store) = Arc::try_unwrap(store) {
        store.close()?;
    }
    Ok(outcome)
}

/// Closed loop, on a runtime like the server's.
fn load<T: Target>(target: &Arc<T>, (writers, span): (usize, Duration)) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let boot = BootId::generate();
        let started = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let target = Arc::clone(target);
                tokio::spawn(async move {
                    let stream = StreamId::Workspace(WorkspaceId::generate());
                    let mut took = Vec::new();
                    while started.elapsed() < span {
                        let event = sample(took.len() as u64, boot);
                        let before = Instant::now();
                        target.append(stream, event).await?;
                        took.push(before.elapsed());
                    }
                    anyhow::Ok(took)
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await??);
        }
        let elapsed = started.elapsed();
        all.sort_unstable();
        let at = |share: usize| all.get(all.len() * share / 100).map_or(0.0, |took| took.as_secs_f64() * 1e6);
        Ok(Outcome { rate: all.len() as f64 / elapsed.as_secs_f64(), p50_us: at(50), p99_us: at(99) })
    })
}

/// A fact of the platform's everyday mix: about 330 bytes of payload every third time, about 120 otherwise.
fn sample(n: u64, boot: BootId) -> NewEvent {
    let fact: workspace::Event = if n.is_multiple_of(3) {
        workspace::EvidenceObserved {
            source: workspace::EvidenceSource::Inspect,
            class: workspace::EvidenceClass::Suspicion,
            generation: Generation(n),
            instance: Some(workspace::InstanceRef { id: "0123456789abcdef".repeat(4) }),
            code: "timeout".to_owned(),
            detail: "the engine did not answer within 2 s; the last heartbeat is 47 s old; nothing is proved"
                .to_owned(),
            exit_status: None,
        }
        .into()
    } else {
        workspace::HeartbeatReceived {
            error_rate: 0.25,
            active_tasks: 3,
            uptime_seconds: i64::try_from(n).unwrap_or_default(),
            current_task: "summing up what the team found out".to_owned(),
            generation: Some(Generation(7)),
            ..Default::default()
        }
        .into()
    };
    let meta = Meta {
        id: EventId::generate(),
        at: chrono::Utc::now(),
        boot,
        mono_ns: n,
        correlation: CorrelationId::generate(),
        causation: None,
        principal: Principal::System,
        policy: None,
    };
    NewEvent { meta, fact: Fact::Workspace(fact) }
}

fn row(rounds: &[Vec<Compared>], column: usize) -> Row {
    let of =
        |pick: &dyn Fn(&Compared) -> f64| median(rounds.iter().map(|round| pick(&round[column])).collect());
    let store = |pick: &dyn Fn(&Compared) -> Outcome| Outcome {
        rate: of(&|round| pick(round).rate),
        p50_us: of(&|round| pick(round).p50_us),
        p99_us: of(&|round| pick(round).p99_us),
    };
    Row {
        writers: WRITERS[column],
        floor: FLOORS[column],
        stores: [
            ("file", store(&|round| round.file)),
            ("log", store(&|round| round.log)),
            ("sqlite", store(&|round| round.sqlite)),
        ],
        of_file: of(&|round| round.log.rate / round.file.rate),
        of_sqlite: of(&|round| round.log.rate / round.sqlite.rate),
        p99_factor: of(&|round| round.log.p99_us / round.file.p99_us),
    }
}

fn print(args: &Args, rows: &[Row]) {
    println!(
        "durable appends: medians of {} rounds of {:?}; latencies in microseconds",
        args.rounds, args.span
    );
    println!(
        "        |          file             |           log             |         SQLite            |   log / file    |       | log /"
    );
    println!(
        "writers |  facts/s    p50     p99   |  facts/s    p50     p99   |  facts/s    p50     p99   | rate      floor | p99   | SQLite"
    );
    for row in rows {
        let stores = row.stores.map(|(_, store)| {
            format!(" {:>8.0} {:>6.0} {:>7.0}   |", store.rate, store.p50_us, store.p99_us)
        });
        println!(
            "{:>7} |{} {:>4.2}       {:>4.2} | {:>4.1}x | {:>5.2}   {}",
            row.writers,
            stores.concat(),
            row.of_file,
            row.floor,
            row.p99_factor,
            row.of_sqlite,
            row.words()
        );
    }
    println!(
        "floors: so much of the file's rate, and its p99 at most {} times; goals: {GOAL} and {} times",
        P99.0, P99.1
    );
}

fn json(args: &Args, rows: &[Row]) -> serde_json::Value {
    let rows = rows.iter().map(|row| {
        let stores: serde_json::Map<_, _> = row
            .stores
            .iter()
            .map(|(name, store)| {
                let store = serde_json::json!({
                    "facts_per_second": store.rate, "p50_us": store.p50_us, "p99_us": store.p99_us,
                });
                ((*name).to_owned(), store)
            })
            .collect();
        serde_json::json!({
            "writers": row.writers, "of_file": row.of_file, "of_sqlite": row.of_sqlite, "floor": row.floor, "goal": GOAL,
            "p99_factor": row.p99_factor, "holds": row.holds(), "stores": stores,
        })
    });
    let rows: Vec<_> = rows.collect();
    serde_json::json!({ "rounds": args.rounds, "seconds": args.span.as_secs_f64(), "rows": rows })
}
