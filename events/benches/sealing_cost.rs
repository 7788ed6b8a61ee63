//! Question: what does sealing cost: one field, one fact on its way into the log, and one on its way out?
//!
//! `field`: sealing and opening texts of these lengths; the same for each, whichever workspace it is. `key`: the first text of
//! a workspace, whose key is made durable. `append` and `read`: a thousand heartbeats with a task, one field of each sealed,
//! in one append to a log on this disk and back, against the same log without keys.
//!
//! `cargo bench -p covalence-events --bench sealing_cost`. Run as a test each is done once.

use std::hint::black_box;
use std::sync::Arc;

use covalence_events::keyring::Keyring;
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog as _, Expected};
use covalence_events::workspace::HeartbeatReceived;
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, Meta, NewEvent, Position, Principal, StreamId,
    WorkspaceId,
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;

const LENGTHS: [usize; 4] = [16, 256, 4 * 1024, 64 * 1024];
const FACTS: u16 = 1000;
const CONTEXT: &[u8] = b"the fact and the field";

fn keyring(dir: &TempDir) -> Arc<Keyring> {
    Arc::new(Keyring::open(&dir.path().join("keys"), None).expect("keys"))
}

fn field(c: &mut Criterion) {
    let dir = TempDir::new().expect("a directory");
    let keys = keyring(&dir);
    let owner = StreamId::Workspace(WorkspaceId::generate());
    let mut group = c.benchmark_group("sealing_cost/field");
    for length in LENGTHS {
        let text = vec![b'a'; length];
        let sealed = keys.seal(owner, CONTEXT, &text).expect("sealed").expect("not erased");
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("seal", length), |b| {
            b.iter(|| keys.seal(owner, CONTEXT, black_box(&text)).expect("sealed"));
        });
        group.bench_function(BenchmarkId::new("open", length), |b| {
            b.iter(|| keys.unseal(CONTEXT, black_box(&sealed)).expect("opens"));
        });
    }
    group.finish();
}

fn key(c: &mut Criterion) {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk in question");
    let keys = keyring(&dir);
    let mut group = c.benchmark_group("sealing_cost/key");
    group.sample_size(20).bench_function("first_text_of_a_workspace", |b| {
        b.iter(|| {
            let owner = StreamId::Workspace(WorkspaceId::generate());
            keys.seal(owner, CONTEXT, b"text").expect("sealed");
            keys.settle().expect("durable");
        });
    });
    group.finish();
}

fn beats(stream_boot: BootId) -> Vec<NewEvent> {
    (0..FACTS)
        .map(|n| {
            let fact = HeartbeatReceived {
                uptime_seconds: n.into(),
                current_task: "summing up what the team found out".to_owned(),
                generation: Some(Generation(7)),
                ..Default::default()
            };
            let meta = Meta {
                id: EventId::generate(),
                at: chrono::Utc::now(),
                boot: stream_boot,
                mono_ns: n.into(),
                correlation: CorrelationId::generate(),
                causation: None,
                principal: Principal::System,
                policy: None,
            };
            NewEvent { meta, fact: Fact::Workspace(fact.into()) }
        })
        .collect()
}

fn facts(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (name, is_sealed) in [("sealed", true), ("plain", false)] {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk in question");
        let keys = is_sealed.then(|| keyring(&dir));
        let options = Options { roll_events: None, keys, ..Options::default() };
        let (log, _) = SledLog::open(&dir.path().join("events"), &options).expect("a log");
        let (stream, boot) = (StreamId::Workspace(WorkspaceId::generate()), BootId::generate());
        let mut group = c.benchmark_group("sealing_cost/facts");
        group.sample_size(10).throughput(Throughput::Elements(FACTS.into()));
        group.bench_function(BenchmarkId::new("append", name), |b| {
            b.iter_batched(
                || beats(boot),
                |events| {
                    let append = Append { stream, expected: Expected::Any, events };
                    runtime.block_on(log.append(vec![append], Ack::Durable)).expect("appended")
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("read", name), |b| {
            b.iter(|| {
                let read = runtime.block_on(log.read_all(Position(1), FACTS.into())).expect("read");
                assert_eq!(read.len(), usize::from(FACTS));
                read
            });
        });
        group.finish();
    }
}

criterion_group!(benches, field, key, facts);
criterion_main!(benches);
