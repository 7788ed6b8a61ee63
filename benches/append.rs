//! Question: what does a durable append cost, against the least that durability can cost on this disk?
//!
//! The baseline is a plain file: pre-zeroed segments, a checksum per record, an index in memory, the same batching (one
//! writer that takes whatever waits), and one `fdatasync` a batch. Both encode the same fact and answer through a oneshot.
//! Rounds are interleaved, because this kind of machine drifts; what counts is the ratio within a round, and the median over
//! rounds is printed.
//!
//! Budget (on 2 cores): at least .40 / .40 / .30 / .50 of the file at 1 / 8 / 64 / 512 writers, and an acknowledgement's p99
//! at most four times the file's.
//!
//! `cargo bench --bench append -- [--quick] [--json] [--dir DIR] [--seconds S] [--rounds N]`; `--dir` must be on the disk
//! in question, not on tmpfs. Run as a test it does one short round.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use covalence_events::id::{BootId, CorrelationId, EventId, Generation, Position};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::{Fact, Meta, NewEvent, Principal, StreamId, WorkspaceId, workspace};
use tokio::sync::oneshot;

const WRITERS: [usize; 4] = [1, 8, 64, 512];
const FLOORS: [f64; 4] = [0.40, 0.40, 0.30, 0.50];
const P99_FACTOR_MAX: f64 = 4.0;
/// Zeroed ahead of the writes, so that a flush has no metadata to write.
const SEGMENT_BYTES: usize = 64 << 20;

struct Args {
    quick: bool,
    json: bool,
    dir: PathBuf,
    span: Duration,
    rounds: usize,
}

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

struct Record {
    stream: StreamId,
    bytes: Vec<u8>,
    reply: oneshot::Sender<Position>,
}

#[derive(Default)]
struct Waiting {
    records: Vec<Record>,
    closed: bool,
}

/// The baseline.
struct FileLog {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
    writer: Option<std::thread::JoinHandle<Result<()>>>,
}

impl FileLog {
    fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let shared = Arc::<(Mutex<Waiting>, Condvar)>::default();
        let segment = Segment::create(dir, 0)?;
        let (queue, dir) = (Arc::clone(&shared), dir.to_owned());
        let writer = std::thread::spawn(move || file_writer(&queue, &dir, segment));
        Ok(Self { shared, writer: Some(writer) })
    }

    fn close(mut self) -> Result<()> {
        self.shared.0.lock().expect("no panic under the lock").closed = true;
        self.shared.1.notify_all();
        self.writer.take().map_or(Ok(()), |writer| writer.join().expect("the file's writer ends well"))
    }
}

impl Target for FileLog {
    async fn append(&self, stream: StreamId, event: NewEvent) -> Result<()> {
        let payload = event.fact.encode()?;
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(event.meta.id.0.as_bytes());
        bytes.extend_from_slice(&event.meta.at.timestamp_micros().to_be_bytes());
        bytes.extend_from_slice(event.meta.boot.0.as_bytes());
        bytes.extend_from_slice(event.meta.correlation.0.as_bytes());
        bytes.extend_from_slice(event.fact.tag().as_bytes());
        bytes.extend_from_slice(&payload);
        let (reply, answer) = oneshot::channel();
        self.shared.0.lock().expect("no panic under the lock").records.push(Record { stream, bytes, reply });
        self.shared.1.notify_one();
        answer.await.context("the file's writer is gone")?;
        Ok(())
    }
}

struct Segment {
    file: File,
    at: usize,
}

impl Segment {
    fn create(dir: &Path, number: usize) -> Result<Self> {
        let path = dir.join(format!("{number:08}"));
        let file = OpenOptions::new().create_new(true).write(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        for chunk in 0..SEGMENT_BYTES / zeros.len() {
            file.write_all_at(&zeros, (chunk * zeros.len()) as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }
}

fn file_writer(queue: &(Mutex<Waiting>, Condvar), dir: &Path, mut segment: Segment) -> Result<()> {
    let mut streams: HashMap<StreamId, Vec<u64>> = HashMap::new();
    let (mut number, mut head) = (0, 0);
    loop {
        let records = {
            let mut waiting = queue.0.lock().expect("no panic under the lock");
            while waiting.records.is_empty() && !waiting.closed {
                waiting = queue.1.wait(waiting).expect("no panic under the lock");
            }
            if waiting.records.is_empty() {
                return Ok(());
            }
            std::mem::take(&mut waiting.records)
        };
        let mut buffer = Vec::new();
        let mut answers = Vec::with_capacity(records.len());
        for mut record in records {
            head += 1;
            let body = u32::try_from(record.bytes.len() - 8)?;
            record.bytes[..4].copy_from_slice(&body.to_be_bytes());
            let crc = crc32fast::hash(&record.bytes[8..]);
            record.bytes[4..8].copy_from_slice(&crc.to_be_bytes());
            buffer.extend_from_slice(&record.bytes);
            streams.entry(record.stream).or_default().push(head);
            answers.push((record.reply, Position(head)));
        }
        if segment.at + buffer.len() > SEGMENT_BYTES {
            number += 1;
            segment = Segment::create(dir, number)?;
        }
        segment.file.write_all_at(&buffer, segment.at as u64)?;
        segment.file.sync_data()?;
        segment.at += buffer.len();
        for (reply, position) in answers {
            // The load generator may have stopped listening.
            let _ = reply.send(position);
        }
    }
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

#[derive(Clone, Copy, Debug)]
struct Outcome {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Closed loop: each writer appends the next fact once the last is acknowledged.
fn load<T: Target>(target: &Arc<T>, writers: usize, span: Duration) -> Result<Outcome> {
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
        #[expect(clippy::cast_precision_loss, reason = "a count of a few million")]
        let rate = all.len() as f64 / elapsed.as_secs_f64();
        Ok(Outcome { rate, p50_us: at(50), p99_us: at(99) })
    })
}

fn run_sled(dir: &Path, writers: usize, span: Duration) -> Result<Outcome> {
    let path = dir.join("sled");
    let (log, _) = SledLog::open(&path, &Options::default())?;
    let log = Arc::new(log);
    let outcome = load(&log, writers, span)?;
    drop(log);
    std::fs::remove_dir_all(path)?;
    Ok(outcome)
}

fn run_file(dir: &Path, writers: usize, span: Duration) -> Result<Outcome> {
    let path = dir.join("file");
    let log = Arc::new(FileLog::open(&path)?);
    let outcome = load(&log, writers, span)?;
    if let Ok(log) = Arc::try_unwrap(log) {
        log.close()?;
    }
    std::fs::remove_dir_all(path)?;
    Ok(outcome)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn args() -> Result<Args> {
    let mut args = Args {
        quick: true,
        json: false,
        dir: PathBuf::from("target"),
        span: Duration::from_secs(3),
        rounds: 3,
    };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut value = || given.next().with_context(|| format!("`{arg}` needs a value"));
        match arg.as_str() {
            // Cargo says this for `cargo bench`, and nothing for `cargo test --benches`.
            "--bench" => args.quick = false,
            "--json" => args.json = true,
            "--dir" => args.dir = value()?.into(),
            "--seconds" => args.span = Duration::from_secs_f64(value()?.parse()?),
            "--rounds" => args.rounds = value()?.parse()?,
            _ => {}
        }
        if arg == "--quick" {
            args.quick = true;
        }
    }
    if std::env::args().any(|arg| arg == "--quick") {
        args.quick = true;
    }
    if args.quick {
        (args.span, args.rounds) = (Duration::from_millis(100), 1);
    }
    Ok(args)
}

fn main() -> Result<()> {
    let args = args()?;
    let scratch = tempfile::TempDir::new_in(std::fs::canonicalize(&args.dir).unwrap_or_else(|_| ".".into()))?;
    let mut rounds: Vec<[(Outcome, Outcome); 4]> = Vec::new();
    for _ in 0..args.rounds {
        let mut round = Vec::new();
        for writers in WRITERS {
            let file = run_file(scratch.path(), writers, args.span)?;
            round.push((file, run_sled(scratch.path(), writers, args.span)?));
        }
        rounds.extend(<[_; 4]>::try_from(round));
    }
    report(&args, &rounds);
    Ok(())
}

fn report(args: &Args, rounds: &[[(Outcome, Outcome); 4]]) {
    let mut rows = Vec::new();
    if !args.json {
        println!(
            "writers |    file ev/s   p50 us   p99 us |    sled ev/s   p50 us   p99 us | ratio  floor | p99 x"
        );
    }
    for (column, writers) in WRITERS.into_iter().enumerate() {
        let of = |pick: &dyn Fn(&(Outcome, Outcome)) -> f64| {
            median(rounds.iter().map(|round| pick(&round[column])).collect())
        };
        let ratio = of(&|(file, sled)| sled.rate / file.rate);
        let p99_factor = of(&|(file, sled)| sled.p99_us / file.p99_us);
        let (file, sled) = (
            [of(&|(file, _)| file.rate), of(&|(file, _)| file.p50_us), of(&|(file, _)| file.p99_us)],
            [of(&|(_, sled)| sled.rate), of(&|(_, sled)| sled.p50_us), of(&|(_, sled)| sled.p99_us)],
        );
        let floor = FLOORS[column];
        let held = ratio >= floor && p99_factor <= P99_FACTOR_MAX;
        if !args.json {
            println!(
                "{writers:7} | {:12.0} {:8.0} {:8.0} | {:12.0} {:8.0} {:8.0} | {ratio:5.2} {floor:6.2} | {p99_factor:5.2} {}",
                file[0],
                file[1],
                file[2],
                sled[0],
                sled[1],
                sled[2],
                if held { "" } else { "below its floor" },
            );
        }
        rows.push(serde_json::json!({
            "writers": writers, "ratio": ratio, "floor": floor, "p99_factor": p99_factor, "held": held,
            "file": { "events_per_second": file[0], "p50_us": file[1], "p99_us": file[2] },
            "sled": { "events_per_second": sled[0], "p50_us": sled[1], "p99_us": sled[2] },
        }));
    }
    if args.json {
        println!(
            "{}",
            serde_json::json!({ "rounds": rounds.len(), "seconds": args.span.as_secs_f64(), "rows": rows })
        );
    }
}
