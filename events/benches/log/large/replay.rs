//! Reading everything again, as projections do that are folded anew, against reading the plain file.

use std::time::Instant;

use anyhow::{Result, ensure};
use covalence_events::Position;
use covalence_events::log::EventLog;
use covalence_events::log::sled::SledLog;

use super::outside::forget_cached;
use super::{Places, Verdicts, plain};
use crate::{Args, SLACK, median};

/// Facts read at once, as where projections are rebuilt.
const PAGE: usize = 4096;
/// Facts a second, at least, and as a share of the plain file's.
const RATE_MIN: f64 = 250_000.0;
const SHARE_MIN: f64 = 0.5;

/// Interleaved rounds; the page cache is emptied before each.
pub(crate) async fn compare(
    args: &Args,
    log: &SledLog,
    places: &Places,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let file = &places.plain;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        forget_cached(&places.log)?;
        let begun = Instant::now();
        let facts = replay(log).await?;
        ours.push(facts as f64 / begun.elapsed().as_secs_f64());
        forget_cached(file)?;
        let begun = Instant::now();
        ensure!(plain::replay(file)? == facts, "the plain file holds other facts than the log");
        plain.push(facts as f64 / begun.elapsed().as_secs_f64());
    }
    let share = median(ours.iter().zip(&plain).map(|(ours, plain)| ours / plain).collect());
    let (ours, plain) = (median(ours), median(plain));
    println!("replay, facts a second: {ours:.0}; the plain file {plain:.0}");
    verdicts.must(
        share >= SHARE_MIN * (1.0 - SLACK),
        format!("{share:.2} of the plain file, at least {SHARE_MIN}"),
    );
    verdicts.must(ours >= RATE_MIN * (1.0 - SLACK), format!("{ours:.0} facts a second, at least {RATE_MIN}"));
    Ok(())
}

async fn replay(log: &SledLog) -> Result<u64> {
    let (mut next, mut facts) = (Position(1), 0);
    loop {
        let page = log.read_all(next, PAGE).await?;
        let Some(last) = page.last() else { return Ok(facts) };
        next = last.position.next();
        facts += page.len() as u64;
    }
}
