//! How long the past takes to work out on a large log: writes one, makes its snapshots, and asks.
//!
//! `cargo run --release -p covalence-projections --example past_of_a_large_log -- DIR 10000000 [WORKSPACES]` makes a log of so many facts in
//! DIR/events (or opens the one that is there) and snapshots in DIR/snapshots.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use covalence_events::Position;
use covalence_events::generate::{self, Fleet};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, EventLog};
use covalence_projections::history::snapshots::EVERY;
use covalence_projections::roster::Removed;
use covalence_projections::{History, Views};

/// Places that are asked about: in thousandths of the log, and just before the next snapshot, where folding takes longest.
const PLACES: [u64; 8] = [1, 137, 250, 499, 500, 731, 900, 999];

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example's answer")]
#[expect(clippy::expect_used, reason = "a measurement that fails says where")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a directory");
    let mut number = |usual: u64| arguments.next().map_or(usual, |text| text.parse().expect("a number"));
    let (facts, workspaces) = (number(1_000_000), number(1000));
    let begun = Instant::now();
    let (log, opened) =
        SledLog::open(&Path::new(&dir).join("events"), &Options::default()).expect("the log opens");
    println!("open                     {:>10.3?}  {} facts", begun.elapsed(), opened.head);
    if opened.head == Position(0) {
        let begun = Instant::now();
        write(&log, facts, u32::try_from(workspaces).expect("fewer")).await;
        println!("write                    {:>10.3?}  {} facts", begun.elapsed(), log.head());
    }
    let log: Arc<dyn EventLog> = Arc::new(log);
    let snapshots = Path::new(&dir).join("snapshots");
    let history = History::new(Arc::clone(&log), Some(snapshots.clone()));
    let begun = Instant::now();
    let keeper = history.clone();
    let keeping = tokio::spawn(async move { keeper.keep_snapshots().await });
    let last = snapshots.join(format!("snap-{:020}.zst", log.head().0 / EVERY * EVERY));
    while !last.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    keeping.abort();
    let sizes: Vec<u64> = std::fs::read_dir(&snapshots)
        .expect("they are there")
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .collect();
    let megabytes = sizes.iter().sum::<u64>() >> 20;
    println!("make all snapshots       {:>10.3?}  {} of them, {megabytes} MiB", begun.elapsed(), sizes.len());
    for place in PLACES {
        let position = (log.head().0 * place / 1000 / EVERY * EVERY + EVERY - 1).min(log.head().0);
        // A history of its own each time: nothing is kept from the one before.
        let history = History::new(Arc::clone(&log), Some(snapshots.clone()));
        let begun = Instant::now();
        let views = history.at(Position(position)).await.expect("an answer");
        let rows = views.roster.read().list(Removed::Hide).len();
        println!("as of {position:>10}         {:>10.3?}  {rows} workspaces", begun.elapsed());
    }
    let begun = Instant::now();
    let whole = Views::rebuild(log.as_ref()).await.expect("a fold");
    println!("fold from the beginning  {:>10.3?}  to {}", begun.elapsed(), whole.checkpoint());
    let past = history.at(log.head()).await.expect("an answer");
    assert_eq!(*past.roster.read(), *whole.roster.read(), "a snapshot changes no answer");
    log.close().await;
}

#[expect(clippy::expect_used, reason = "a measurement that fails says where")]
async fn write(log: &SledLog, facts: u64, workspaces: u32) {
    let mut fleet = Fleet::new(generate::Options { workspaces, ..generate::Options::default() });
    let mut written = 0;
    while written < facts {
        let step = fleet.next().expect("it has no end");
        let receipt = log.append(step.appends, Ack::Accepted).await.expect("the append is taken");
        written = receipt.last().map_or(written, |last| last.0);
    }
    let mut durable = log.watch();
    durable.wait_for(|head| head.0 >= written).await.expect("still open");
}
