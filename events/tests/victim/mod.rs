//! What dies: a program that appends under load and reports each acknowledged event, and what finds out what it left behind.
//!
//! Test programs start themselves as their victim. They have a `main` of their own, because the test harness would print between
//! the reports.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use covalence_events::log::conformance::{event, stream};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::{EventId, Position};

const WRITERS: u64 = 8;

/// What a victim says once it has the log.
const READY: &str = "ready";

/// What a test program is when it is started as its own victim, at a path.
pub(crate) type Life = fn(&Path);

/// The test programs' own `main`: the victim, an answer to what test runners ask, or the test.
pub(crate) fn main(names: &[(&str, fn())], children: &[(&str, Life)]) {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [kind, path] = &args[..]
        && let Some((_, child)) = children.iter().find(|(name, _)| name == kind)
    {
        return child(Path::new(path));
    }
    let wanted = |name: &str| {
        let mut filters = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in names.iter().filter(|_| !args.iter().any(|arg| arg == "--ignored")) {
            println!("{name}: test");
        }
        return;
    }
    for (_, test) in names.iter().filter(|(name, _)| wanted(name)) {
        test();
    }
}

/// A log that is rolled every few commits.
pub(crate) fn rolled() -> Options {
    Options { roll_events: Some(200), ..Options::default() }
}

/// Appends until it is killed.
pub(crate) fn append_for_ever(log: SledLog) {
    let log: Arc<dyn EventLog> = Arc::new(log);
    report(&format!("{READY}\n"));
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
pub(crate) fn knob(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A victim at work.
pub(crate) struct Victim {
    pub(crate) process: Child,
    ready: Receiver<()>,
    reader: Option<JoinHandle<Vec<(Position, EventId)>>>,
}

impl Victim {
    /// Starts this very program as one. What it says of errors goes to `words`.
    pub(crate) fn start(kind: &str, path: &Path, words: Stdio) -> Self {
        let program = std::env::current_exe().expect("the test's own path");
        let mut process = Command::new(program)
            .arg(kind)
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(words)
            .spawn()
            .expect("the child starts");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (begins, ready) = channel();
        let reader = Some(std::thread::spawn(move || reported(lines, &begins)));
        Self { process, ready, reader }
    }

    /// Waits until it appends or is dead; whether it came so far.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.recv().is_ok()
    }

    /// Kills it. What it had acknowledged.
    pub(crate) fn kill(&mut self) -> Vec<(Position, EventId)> {
        self.end();
        self.reader.take().and_then(|reader| reader.join().ok()).expect("the reader ends")
    }

    fn end(&mut self) {
        self.process.kill().expect("the child is killed");
        self.process.wait().expect("the child is dead");
    }
}

impl Drop for Victim {
    /// Also after a failed assertion nobody is left behind.
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.end();
        }
    }
}

fn reported(lines: std::io::Lines<BufReader<ChildStdout>>, begins: &Sender<()>) -> Vec<(Position, EventId)> {
    let mut lines = lines.map_while(Result::ok);
    if lines.next().as_deref() == Some(READY) {
        // Nobody may be interested.
        let _ = begins.send(());
    }
    lines.filter_map(|line| parse(&line)).collect()
}

/// A line that the kill cut short is no report.
fn parse(line: &str) -> Option<(Position, EventId)> {
    let (position, id) = line.split_once(' ')?;
    Some((Position(position.parse().ok()?), id.parse().ok()?))
}

/// What a log turned out to hold.
pub(crate) struct Found {
    /// Whether it had a torn end.
    pub(crate) repaired: bool,
    /// Whether it was opened without what sled keeps beside its files.
    pub(crate) mended: bool,
    /// How far it was archived.
    pub(crate) archived: Position,
    /// What is wrong with it.
    pub(crate) wrong: Option<String>,
}

/// Opens the log as a restarted platform would, and looks for what was acknowledged.
pub(crate) fn compare(path: &Path, acknowledged: &BTreeMap<Position, EventId>) -> Found {
    let mut found = Vec::new();
    let opened = SledLog::open_with(path, &Options::default(), &mut |event| {
        found.push((event.position, event.meta.id));
    });
    let (archived, opened) = match opened {
        Ok((log, opened)) => (log.archived(), opened),
        Err(error) => {
            let wrong = Some(format!("it does not open: {error}"));
            return Found { repaired: false, mended: false, archived: Position(0), wrong };
        }
    };
    let gap = found.iter().enumerate().find(|(index, (position, _))| position.0 != *index as u64 + 1);
    let there = |position: &Position| usize::try_from(position.0 - 1).ok().and_then(|index| found.get(index));
    let gone =
        acknowledged.iter().filter(|(position, id)| there(position) != Some(&(**position, **id))).count();
    let wrong = match (gap, gone) {
        (Some((_, (position, _))), _) => Some(format!("a gap before position {position}")),
        (None, 0) if opened.high_water_missing && !acknowledged.is_empty() => {
            Some("nothing says how far it was acknowledged".to_owned())
        }
        (None, 0) => None,
        (None, gone) => Some(format!("{gone} of {} acknowledged events are gone", acknowledged.len())),
    };
    Found { repaired: opened.repaired.is_some(), mended: opened.mended.is_some(), archived, wrong }
}

/// Xorshift: repeatable, and random enough for instants.
pub(crate) fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
