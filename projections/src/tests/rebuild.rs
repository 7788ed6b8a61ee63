//! Rebuilding beside what serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use covalence_events::log::EventLog;
use covalence_events::log::memory::MemoryLog;
use covalence_events::workspace::{Paused, Renamed};
use covalence_events::{Position, Recorded};
use tokio::runtime::Handle;

use crate::projection::Projection as _;
use crate::rebuild::{Outcome, Rebuilder, Refused, Report};
use crate::testing::{History as Facts, append, at, created, id};
use crate::{Status, Views};

const PATIENCE: Duration = Duration::from_secs(20);

async fn ended(rebuilder: &Rebuilder) -> Vec<Report> {
    let done = async {
        loop {
            let reports = rebuilder.reports();
            if reports.iter().all(|report| report.outcome != Outcome::Running) {
                return reports;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap()
}

async fn serving(facts: &Facts) -> (Arc<MemoryLog>, Arc<Views>, Rebuilder) {
    let log = Arc::new(MemoryLog::new());
    append(&log, &facts.0).await;
    let views = Arc::new(Views::new());
    drop(views.start(Arc::clone(&log) as Arc<dyn EventLog>));
    let rebuilder =
        Rebuilder::new(Arc::clone(&views), Arc::clone(&log) as Arc<dyn EventLog>, Handle::current());
    (log, views, rebuilder)
}

fn team() -> Facts {
    let mut facts = Facts::default();
    facts.of(1, created("a", None));
    for number in 0..2000 {
        facts.of(1, Renamed { name: format!("name {number:05}") });
    }
    facts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rebuild_agrees_and_nobody_reads_an_older_state_meanwhile() {
    let mut facts = team();
    let (log, views, rebuilder) = serving(&facts).await;
    views.caught_up(log.head(), PATIENCE).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (reader, stop) = (Arc::clone(&views), Arc::clone(&over));
    let reading = std::thread::spawn(move || {
        let (mut last, mut looks) = (String::new(), 0_u64);
        while !stop.load(Ordering::Relaxed) {
            let name = reader.roster.read().get(id(1)).expect("it is always there").name.clone();
            assert!(name >= last, "`{name}` after `{last}`");
            (last, looks) = (name, looks + 1);
        }
        looks
    });
    for round in 0..10_usize {
        rebuilder.begin(None, at(1)).unwrap();
        let known = facts.0.len();
        for number in 0..200 {
            facts.of(1, Renamed { name: format!("name {:05}", 3000 + round * 200 + number) });
        }
        append(&log, &facts.0[known..]).await;
        let reports = ended(&rebuilder).await;
        assert_eq!(reports.len(), 8);
        for report in &reports {
            assert_eq!(report.outcome, Outcome::Agreed, "{report:?}");
            assert!(report.serving.is_some() && report.serving == report.fresh, "{report:?}");
        }
        views.caught_up(log.head(), PATIENCE).await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    assert!(reading.join().unwrap() > 100, "it was read all the while");
    assert_eq!(views.roster.read().get(id(1)).unwrap().name, "name 04999");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_replaced_and_said() {
    let (log, views, rebuilder) = serving(&team()).await;
    views.caught_up(log.head(), PATIENCE).await.unwrap();
    // A state that no fold of this log leads to, as a bug or a bit that flipped would leave it.
    let stray =
        Recorded { position: log.head(), ..(*Facts::default().of(7, created("stray", None))).clone() };
    views.roster.change(|roster| roster.apply(&stray).unwrap());
    assert!(views.roster.read().get(id(7)).is_some());
    rebuilder.begin(Some("roster"), at(1)).unwrap();
    let reports = ended(&rebuilder).await;
    assert_eq!((reports.len(), &reports[0].outcome), (1, &Outcome::Differed));
    assert_ne!(reports[0].serving, reports[0].fresh);
    assert!(views.roster.read().get(id(7)).is_none());
    rebuilder.begin(None, at(2)).unwrap();
    assert!(ended(&rebuilder).await.iter().all(|report| report.outcome == Outcome::Agreed));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stopped_stays_as_it_is_while_the_fact_is_there_and_goes_on_once_it_is_mended() {
    let mut facts = Facts::default();
    facts.of(1, created("a", None));
    facts.of(9, Paused {});
    facts.of(1, Paused {});
    let (_, views, rebuilder) = serving(&facts).await;
    let stopped = async {
        while views.roster.stalled().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.unwrap();
    rebuilder.begin(Some("roster"), at(1)).unwrap();
    let reports = ended(&rebuilder).await;
    assert!(matches!(&reports[0].outcome, Outcome::Stalled(reason) if reason.contains("position 2")));
    assert_eq!(views.roster.stalled().unwrap().position, Position(2));

    // The same log after a mend: the fact belongs to a workspace that there is.
    let mut mended = Facts::default();
    mended.of(1, created("a", None));
    mended.of(1, Renamed { name: "b".to_owned() });
    mended.of(1, Paused {});
    let log = Arc::new(MemoryLog::new());
    append(&log, &mended.0).await;
    let rebuilder = Rebuilder::new(Arc::clone(&views), log as Arc<dyn EventLog>, Handle::current());
    rebuilder.begin(Some("roster"), at(2)).unwrap();
    assert_eq!(ended(&rebuilder).await[0].outcome, Outcome::Healed);
    assert!(views.roster.stalled().is_none());
    assert_eq!(views.roster.read().get(id(1)).unwrap().status, Status::Paused);
    assert_eq!(views.caught_up(Position(3), PATIENCE).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_nothing_is_refused() {
    let (_, _, rebuilder) = serving(&team()).await;
    assert_eq!(rebuilder.begin(Some("nothing"), at(1)), Err(Refused::Unknown));
    assert!(rebuilder.reports().is_empty());
}
