//! What people ask of a log: why, what happened then, and how things were.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::TimeDelta;
use covalence_events::Position;
use covalence_events::generate::Fleet;
use covalence_events::log::EventLog;
use covalence_events::log::sled::SledLog;
use covalence_incidents::timeline::{self, Span};
use covalence_incidents::{Moment, Which, Who, explain};
use covalence_projections::history::snapshots::EVERY;
use covalence_projections::roster::Removed;
use covalence_projections::{History, Views};

use super::{Args, Verdicts};

/// An explanation or a timeline, at most.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// The past, at most, wherever.
const PAST_MAX: Duration = Duration::from_secs(2);
/// Places that are asked about: in tenths of the log.
const TENTHS: [u64; 3] = [1, 5, 9];
/// Places of the past: in thousandths of the log, each just before the next snapshot, where there is most to fold.
const PLACES: [u64; 8] = [1, 137, 250, 499, 500, 731, 900, 999];

/// Explanations and timelines. Nothing is warm but what the question before has read.
pub(crate) async fn ask(
    args: &Args,
    log: &Arc<SledLog>,
    fleet: &Fleet,
    verdicts: &mut Verdicts,
) -> Result<()> {
    for tenth in TENTHS {
        let position = log.head().0 * tenth / 10;
        let who = Who::default();
        let found = log.read_all(Position(position), 1).await?;
        let (at, id) = found.first().map(|event| (event.meta.at, event.meta.id)).context("a fact")?;
        let one = fleet.workspace(u32::try_from(position % u64::from(args.workspaces))?);
        println!("at position {position}:");
        let bound = |what: &str| (format!("  {what}"), ANSWER_MAX);
        let explain = || async { Ok(explain::workspace(&**log, one, Moment::Time(at), &who).await?) };
        verdicts.within(args, bound("explain a workspace"), explain).await?;
        let explain = || async { Ok(explain::fact(&**log, Which::Id(id), &who).await?) };
        verdicts.within(args, bound("explain a fact by its id"), explain).await?;
        let whole = Span {
            since: Some(Moment::Time(at)),
            until: Moment::Time(at.checked_add_signed(TimeDelta::minutes(5)).unwrap_or(at)),
            after: None,
            workspaces: [].into(),
            lines: timeline::LINES_MAX,
        };
        let few =
            Span { workspaces: (0..3).map(|number| fleet.workspace(number)).collect(), ..whole.clone() };
        for (what, span) in [("timeline of five minutes", whole), ("the same of three workspaces", few)] {
            let between = || async { Ok(timeline::between(&**log, &span, &who).await?) };
            verdicts.within(args, bound(what), between).await?;
        }
    }
    Ok(())
}

/// The projections as they were, without snapshots and with.
pub(crate) async fn ask_about_the_past(
    args: &Args,
    log: &Arc<SledLog>,
    snapshots: &Path,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let log: Arc<dyn EventLog> = Arc::<SledLog>::clone(log);
    let head = log.head();
    for tenth in TENTHS {
        let position = Position(head.0 * tenth / 10);
        let begun = Instant::now();
        History::new(Arc::clone(&log), None).at(position).await?;
        println!("{:<46}{:>10.3?}", format!("as of {position}, without snapshots"), begun.elapsed());
    }
    keep_snapshots(&log, snapshots).await?;
    for place in PLACES {
        let position = Position((head.0 * place / 1000 / EVERY * EVERY + EVERY - 1).min(head.0));
        let what = format!("as of {position}, with snapshots");
        // A history of its own each time: nothing is kept from the one before.
        let past =
            || async { Ok(History::new(Arc::clone(&log), Some(snapshots.to_owned())).at(position).await?) };
        let views = verdicts.within(args, (what, PAST_MAX), past).await?;
        ensure!(!views.roster.read().list(Removed::Hide).is_empty(), "nobody was there at {position}");
    }
    let begun = Instant::now();
    let whole = Views::rebuild(log.as_ref()).await?;
    println!("{:<46}{:>10.3?}", "fold all of it", begun.elapsed());
    let past = History::new(Arc::clone(&log), Some(snapshots.to_owned())).at(head).await?;
    ensure!(*past.roster.read() == *whole.roster.read(), "a snapshot changes an answer");
    Ok(())
}

/// Makes all snapshots that are due, as the server does in the background.
async fn keep_snapshots(log: &Arc<dyn EventLog>, snapshots: &Path) -> Result<()> {
    let begun = Instant::now();
    let keeper = History::new(Arc::clone(log), Some(snapshots.to_owned()));
    let keeping = tokio::spawn(async move { keeper.keep_snapshots().await });
    let last = snapshots.join(format!("snap-{:020}.zst", log.head().0 / EVERY * EVERY));
    while log.head().0 >= EVERY && !last.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    keeping.abort();
    let sizes: Vec<u64> = std::fs::read_dir(snapshots)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .collect();
    let mib = sizes.iter().sum::<u64>() >> 20;
    println!("{:<46}{:>10.3?}  {} of them, {mib} MiB", "make the snapshots", begun.elapsed(), sizes.len());
    Ok(())
}
