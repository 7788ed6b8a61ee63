//! What sealing costs: appends of one kind of fact to a log with keys and to one without, and reading them again.
//!
//! `cargo run --release -p covalence-events --example sealing_cost [-- DIR]`; `DIR` must be on the disk in question.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people, on their own machine")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use covalence_events::keyring::Keyring;
use covalence_events::log::conformance::{event, stream, to};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, EventLog as _, Expected};
use covalence_events::workspace::{HeartbeatReceived, RoleChanged};
use covalence_events::{Fact, NewEvent};

const ROUNDS: usize = 5;
const FACTS: u32 = 100_000;
const PER_APPEND: u32 = 100;

fn main() {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let silent = HeartbeatReceived { active_tasks: 1, uptime_seconds: 4711, ..HeartbeatReceived::default() };
    let task = "reviews the change of yesterday".to_owned();
    let busy = HeartbeatReceived { current_task: task, ..silent.clone() };
    let role = RoleChanged { role: Some("r".repeat(200)) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("nanoseconds a fact        append    sealed      read    sealed");
    for (name, fact) in [
        ("beat without a task", Fact::Workspace(silent.into())),
        ("beat with a task", Fact::Workspace(busy.into())),
        ("role of 200 bytes", Fact::Workspace(role.into())),
    ] {
        let mut columns: [Vec<Duration>; 4] = Default::default();
        for _ in 0..ROUNDS {
            let plain = runtime.block_on(round(&dir, &fact, false));
            let sealed = runtime.block_on(round(&dir, &fact, true));
            for (column, time) in columns.iter_mut().zip([plain.0, sealed.0, plain.1, sealed.1]) {
                column.push(time);
            }
        }
        let shown = columns.map(|mut column| {
            column.sort();
            format!("{:>10}", (column[ROUNDS / 2] / FACTS).as_nanos())
        });
        println!("{name:<22}{}", shown.concat());
    }
}

/// How long it takes to append them, and to read them when the log is opened again.
async fn round(dir: &Path, fact: &Fact, sealed: bool) -> (Duration, Duration) {
    let dir = tempfile::TempDir::new_in(dir).unwrap();
    let options = || Options {
        keys: sealed.then(|| Arc::new(Keyring::open(&dir.path().join("keys"), None).unwrap())),
        ..Options::default()
    };
    let (log, _) = SledLog::open(&dir.path().join("log"), &options()).unwrap();
    let own = stream();
    let began = Instant::now();
    for _ in 0..FACTS / PER_APPEND {
        let events = (0..PER_APPEND).map(|_| NewEvent { fact: fact.clone(), ..event("") }).collect();
        log.append(to(own, Expected::Any, events), Ack::Durable).await.unwrap();
    }
    let appended = began.elapsed();
    log.close().await;
    drop(log);
    let began = Instant::now();
    let mut seen = 0;
    SledLog::open_with(&dir.path().join("log"), &options(), &mut |_| seen += 1).unwrap();
    assert_eq!(seen, FACTS);
    (appended, began.elapsed())
}
