//! A large log, and what it costs: to write, to keep, to read again, to open, and to be asked.
//!
//! The facts are those of a made-up fleet ([`covalence_events::generate`]), the same on every machine. With `--keep DIR` they stay in
//! DIR, and a second run asks the log that is there. What is asked is asked of a log that was just opened.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use covalence_events::Position;
use covalence_events::generate::{self, Fleet};
use covalence_events::log::sled::{Options, QUEUE_APPENDS_MAX, SledLog};
use covalence_events::log::{Ack, EventLog as _};

use super::{Args, SLACK, TRIES};

mod outside;
mod plain;
mod questions;
mod replay;

use outside::{MIB, bytes_below, forget_cached, resident};

/// Lines about memory while facts are written.
const LINES: u64 = 20;
/// Appends that are not answered yet while facts are written: half of what the log's queue holds.
const IN_FLIGHT: usize = QUEUE_APPENDS_MAX / 2;
/// Memory of the process, at most, however many facts there are.
const RESIDENT_MAX: u64 = 400 * MIB;
/// Beyond so many facts the log has been rolled often enough for memory to show whether it grows.
const FLAT_FROM: u64 = 4_000_000;
/// Bytes on disk for each byte that the plain file takes, at most, once most of the log is archived.
const SPACE_MAX: f64 = 2.2;
/// A cold open of a million facts, at most.
const OPEN_MAX: Duration = Duration::from_secs(4);

/// Says what came out beside what is allowed, and remembers whether anything was not held.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    missed: Vec<String>,
}

impl Verdicts {
    fn must(&mut self, holds: bool, bound: impl Into<String>) {
        let bound = bound.into();
        println!("  {} {bound}", if holds { "holds:" } else { "MISSED:" });
        if !holds {
            self.missed.push(bound);
        }
    }

    /// Something that takes time, with the slack that a shared machine needs; asked up to three times if it is checked.
    async fn within<T, F: Future<Output = Result<T>>>(
        &mut self,
        args: &Args,
        (what, limit): (String, Duration),
        mut ask: impl FnMut() -> F,
    ) -> Result<T> {
        let tries = if args.check { TRIES } else { 1 };
        for number in 1..=tries {
            let begun = Instant::now();
            let answer = ask().await?;
            let took = begun.elapsed();
            let holds = took <= limit;
            println!("{what:<46}{took:>10.3?}{}", if holds { "" } else { "  over its bound" });
            if took <= limit.mul_f64(1.0 + SLACK) || number == tries {
                if took > limit.mul_f64(1.0 + SLACK) {
                    self.missed.push(format!("{what}: {took:.3?}, at most {limit:?}"));
                }
                return Ok(answer);
            }
        }
        anyhow::bail!("asked no time")
    }
}

/// Where everything is.
#[derive(Debug)]
struct Places {
    log: PathBuf,
    plain: PathBuf,
    snapshots: PathBuf,
}

/// Writes where nothing is, measures, and says whether all bounds hold.
pub(crate) fn run(args: &Args, dir: &Path) -> Result<bool> {
    let scratch = tempfile::TempDir::new_in(dir)?;
    let root = args.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    let places =
        Places { log: root.join("events"), plain: root.join("plain"), snapshots: root.join("snapshots") };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut verdicts = Verdicts::default();
    runtime.block_on(measure(args, &places, &mut verdicts))?;
    if verdicts.missed.is_empty() {
        println!("\nall bounds hold");
    } else {
        println!("\nnot held:\n  {}", verdicts.missed.join("\n  "));
    }
    Ok(verdicts.missed.is_empty())
}

async fn measure(args: &Args, places: &Places, verdicts: &mut Verdicts) -> Result<()> {
    if places.log.exists() {
        println!("the log of an earlier run, in `{}`", places.log.display());
    } else {
        write(args, places, verdicts).await?;
    }
    let log = open(args, places, verdicts).await?;
    space(places, log.head(), verdicts)?;
    replay::compare(args, &log, places, verdicts).await?;
    log.close().await;
    drop(log);
    forget_cached(&places.log)?;
    let log: Arc<SledLog> = Arc::new(SledLog::open(&places.log, &Options::default())?.0);
    let fleet = Fleet::new(options(args));
    questions::ask(args, &log, &fleet, verdicts).await?;
    questions::ask_about_the_past(args, &log, &places.snapshots, verdicts).await?;
    log.close().await;
    Ok(())
}

fn options(args: &Args) -> generate::Options {
    generate::Options { workspaces: args.workspaces, ..generate::Options::default() }
}

/// Writes the facts into the log, and into the file that reading is compared with.
async fn write(args: &Args, places: &Places, verdicts: &mut Verdicts) -> Result<()> {
    std::fs::create_dir_all(places.log.parent().unwrap_or(&places.log))?;
    let mut plain = plain::Writer::create(&places.plain)?;
    let (log, _) = SledLog::open(&places.log, &Options::default())?;
    println!("{} facts of {} workspaces", args.facts, args.workspaces);
    println!("      facts   facts/s   resident MiB   on disk MiB");
    let (mut written, mut shown, mut line) = (0, 0, Instant::now());
    let mut appending = VecDeque::new();
    let mut resident_at = Vec::new();
    for step in Fleet::new(options(args)) {
        for event in step.events() {
            plain.write(event)?;
        }
        written += step.events().count() as u64;
        appending.push_back(log.append(step.appends, Ack::Accepted));
        // Telemetry rests before it is written, so one after the other would mostly wait; `append` measures acknowledgements.
        if appending.len() > IN_FLIGHT
            && let Some(first) = appending.pop_front()
        {
            first.await?;
        }
        if written - shown >= (args.facts / LINES).max(1) {
            let rate = (written - shown) as f64 / line.elapsed().as_secs_f64();
            let (memory, disk) = (resident()?, bytes_below(&places.log)?);
            println!("{written:>11} {rate:>9.0} {:>14} {:>13}", memory / MIB, disk / MIB);
            resident_at.push(memory);
            (shown, line) = (written, Instant::now());
        }
        if written >= args.facts {
            break;
        }
    }
    plain.finish()?;
    for last in appending {
        last.await?;
    }
    let mut durable = log.watch();
    durable.wait_for(|head| head.0 >= written).await.context("the log was closed")?;
    log.settle().await;
    log.close().await;
    let peak = resident_at.iter().max().copied().unwrap_or_default();
    verdicts
        .must(peak <= RESIDENT_MAX, format!("{} MiB of memory at most {}", peak / MIB, RESIDENT_MAX / MIB));
    if args.facts >= FLAT_FROM {
        let (early, late) = resident_at.split_at(resident_at.len() / 2);
        let peaks = [early, late].map(|half| half.iter().max().copied().unwrap_or_default());
        let flat = peaks[1] as f64 <= peaks[0] as f64 * (1.0 + SLACK);
        verdicts.must(
            flat,
            format!(
                "memory is flat: {} MiB in the first half, {} in the second",
                peaks[0] / MIB,
                peaks[1] / MIB
            ),
        );
    }
    Ok(())
}

/// Opens the log with nothing of it in the page cache.
async fn open(args: &Args, places: &Places, verdicts: &mut Verdicts) -> Result<SledLog> {
    let millions = (args.facts as f64 / 1e6).max(1.0);
    let what = ("cold open".to_owned(), OPEN_MAX.mul_f64(millions));
    verdicts
        .within(args, what, async || {
            forget_cached(&places.log)?;
            Ok(SledLog::open(&places.log, &Options::default())?.0)
        })
        .await
}

fn space(places: &Places, head: Position, verdicts: &mut Verdicts) -> Result<()> {
    let (log, plain) = (bytes_below(&places.log)? as f64, bytes_below(&places.plain)? as f64);
    let facts = head.0 as f64;
    println!("{:.0} bytes a fact on disk; the plain file takes {:.0}", log / facts, plain / facts);
    if head.0 < FLAT_FROM {
        return Ok(());
    }
    verdicts.must(
        log <= plain * SPACE_MAX,
        format!("{:.2} of the plain file's space, at most {SPACE_MAX}", log / plain),
    );
    Ok(())
}
