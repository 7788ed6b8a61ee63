//! `kill -9` at random instants: whatever was acknowledged is there, in order, with a sound chain.
//!
//! This program is its own victim: it starts itself as a child that appends under load and reports each acknowledged
//! event on a pipe, kills it, opens the log and compares. It has a `main` of its own, because the test harness would
//! print between the reports. `COVALENCE_LOG_KILLS` sets the number of kills, `COVALENCE_LOG_SEED` repeats a run.
#![expect(clippy::print_stdout, clippy::panic, reason = "a test with a main of its own")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use covalence_events::log::conformance::{event, stream};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::{EventId, Position};
use tempfile::TempDir;

const NAME: &str = "acknowledged_appends_survive_kills_at_random_instants";
/// Kills where nothing else is said: what continuous integration has time for.
const KILLS: u64 = 200;
/// A fresh log after so many kills, so that reading it stays quick.
const KILLS_PER_LOG: u64 = 10;
/// From the child's readiness to its death, at most: long enough for many commits and for sled's own flush.
const LIFE_MAX_MS: u64 = 100;
const WRITERS: u64 = 8;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", path] => child(Path::new(path)),
        // The questions that test runners ask.
        _ if args.iter().any(|arg| arg == "--list") => {
            if !args.iter().any(|arg| arg == "--ignored") {
                println!("{NAME}: test");
            }
        }
        _ if args.iter().any(|arg| !arg.starts_with('-') && !NAME.contains(arg.as_str())) => {}
        _ => parent(),
    }
}

fn child(path: &Path) {
    let (log, _) = SledLog::open(path, &Options::default()).expect("the child opens the log");
    let log: Arc<dyn EventLog> = Arc::new(log);
    report("ready\n");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> =
            (0..WRITERS).map(|writer| tokio::spawn(append(Arc::clone(&log), writer))).collect();
        for task in tasks {
            task.await.expect("a writer runs until it is killed");
        }
    });
}

async fn append(log: Arc<dyn EventLog>, writer: u64) {
    let ours = stream();
    for n in writer.. {
        // Mostly small, sometimes an append over two streams, sometimes large enough for a file of its own.
        let text = if n % 23 == 0 { "x".repeat(20_000) } else { format!("fact {n}") };
        let mut appends = vec![Append { stream: ours, expected: Expected::Any, events: vec![event(&text)] }];
        if n % 7 == 0 {
            let events = (0..n % 40).map(|_| event("together")).chain([event("last")]).collect();
            appends.push(Append { stream: stream(), expected: Expected::NoStream, events });
        }
        let ack = if n % 11 == 0 { Ack::Accepted } else { Ack::Durable };
        let receipt = log.append(appends, ack).await.expect("the append is applied");
        if ack == Ack::Durable {
            let lines: Vec<_> = receipt
                .events
                .iter()
                .map(|event| format!("{} {}\n", event.position, event.meta.id))
                .collect();
            report(&lines.concat());
        }
    }
}

/// One write, so that a kill cuts between reports rather than lines.
fn report(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

#[expect(clippy::disallowed_methods, reason = "a test's knob, not the platform's configuration")]
fn knob(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn parent() {
    let kills = knob("COVALENCE_LOG_KILLS", KILLS);
    let mut seed = knob("COVALENCE_LOG_SEED", u64::from(std::process::id())) | 1;
    println!("{kills} kills, COVALENCE_LOG_SEED={seed}");
    let started = Instant::now();
    let (mut acknowledged, mut repaired) = (0, 0);
    let mut dir = TempDir::new().expect("a directory for the log");
    let mut expected = BTreeMap::new();
    for round in 0..kills {
        if round % KILLS_PER_LOG == 0 {
            dir = TempDir::new().expect("a directory for the log");
            expected.clear();
        }
        let path = dir.path().join("log");
        let reported = kill_one(&path, random(&mut seed) % LIFE_MAX_MS);
        acknowledged += reported.len();
        expected.extend(reported);
        repaired += usize::from(compare(&path, &expected, round));
    }
    println!("{acknowledged} acknowledged events, {repaired} torn ends cut, in {:.1?}", started.elapsed());
    assert!(acknowledged > 0, "the children were killed before they did anything");
}

fn kill_one(path: &Path, life_ms: u64) -> Vec<(Position, EventId)> {
    let program = std::env::current_exe().expect("the test's own path");
    let mut child: Child = Command::new(program)
        .arg("child")
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("the child speaks").expect("text"), "ready");
    let reader =
        std::thread::spawn(move || lines.map_while(Result::ok).filter_map(|line| parse(&line)).collect());
    // The instant of death is the point here, not a wait for something.
    std::thread::park_timeout(Duration::from_millis(life_ms));
    child.kill().expect("the child is killed");
    child.wait().expect("the child is dead");
    reader.join().expect("the reader ends")
}

/// A line that the kill cut short is no report.
fn parse(line: &str) -> Option<(Position, EventId)> {
    let (position, id) = line.split_once(' ')?;
    Some((Position(position.parse().ok()?), id.parse().ok()?))
}

/// Opens the log as a restarted platform would. Returns whether it had a torn end.
fn compare(path: &Path, expected: &BTreeMap<Position, EventId>, round: u64) -> bool {
    let mut found = Vec::new();
    let (log, opened) = SledLog::open_with(path, &Options::default(), &mut |event| {
        found.push((event.position, event.meta.id));
    })
    .unwrap_or_else(|error| panic!("round {round}: the log does not open: {error}"));
    for (index, (position, _)) in found.iter().enumerate() {
        assert_eq!(position.0, index as u64 + 1, "round {round}: a gap");
    }
    for (position, id) in expected {
        let there = usize::try_from(position.0 - 1).ok().and_then(|index| found.get(index));
        assert_eq!(there, Some(&(*position, *id)), "round {round}: an acknowledged event is gone");
    }
    drop(log);
    opened.repaired.is_some()
}

/// Xorshift: repeatable, and random enough for instants.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
