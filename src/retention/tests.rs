//! The loop around what removes old facts: on a real log, on a clock of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::TimeDelta;
use covalence_actors::effect::Moment;
use covalence_events::log::conformance::{event, stream, to};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, EventLog as _, Expected};
use covalence_events::workspace::HeartbeatReceived;
use covalence_events::{BootId, Fact};
use tempfile::TempDir;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn start() -> Timestamp {
    chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

#[derive(Debug)]
struct Then(Timestamp);

impl Clock for Then {
    fn now(&self) -> Moment {
        Moment { at: self.0, mono_ns: 0 }
    }
}

/// A log with two weeks of a heartbeat an hour in its archive, and the two weeks' end as its time.
async fn log(dir: &TempDir) -> SledLog {
    let options = Options { roll_events: Some(100), ..Options::default() };
    let (log, _) = SledLog::open(dir.path(), &options).unwrap();
    let (stream, boot) = (stream(), BootId::generate());
    for hour in 0..14 * 24 {
        let mut new = event("x");
        (new.meta.at, new.meta.boot) = (start() + TimeDelta::hours(hour), boot);
        new.fact = Fact::Workspace(HeartbeatReceived::default().into());
        log.append(to(stream, Expected::Any, vec![new]), Ack::Durable).await.unwrap();
        log.settle().await;
    }
    log
}

/// The stretches that the loop has told of.
type Stretches = Arc<Mutex<Vec<(u64, u64)>>>;

fn retention(log: &SledLog, rules: Rules, through: Arc<AtomicU64>) -> (Retention, Stretches) {
    let removed = Stretches::default();
    let told = Arc::clone(&removed);
    let around = Around {
        through: Box::new(move || Position(through.load(Ordering::SeqCst))),
        removed: Box::new(move |first, last| told.lock().unwrap().push((first.0, last.0))),
        clock: Arc::new(Then(start() + TimeDelta::days(14))),
    };
    (Retention::new(log.scavenger(), rules, around), removed)
}

async fn ended(retention: &Retention, run: u64) -> Ended {
    let last = async {
        loop {
            if let Some(last) = retention.state().last.filter(|last| last.run == run) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, last).await.expect("the run ends")
}

#[tokio::test]
async fn a_run_that_is_asked_for_removes_what_is_due_as_far_as_everybody_has_it() {
    let dir = TempDir::new().unwrap();
    let log = log(&dir).await;
    let through = Arc::new(AtomicU64::new(0));
    let (retention, removed) = retention(&log, Rules::default(), Arc::clone(&through));
    let stop = CancellationToken::new();
    let keeping = Keeping::begin(retention.clone(), &tokio::runtime::Handle::current(), stop.clone());
    assert_eq!(retention.begin(), Ok(1));
    assert_eq!(retention.begin(), Err(Refused::Running));
    let first = ended(&retention, 1).await;
    assert_eq!((first.outcome(), first.done.events), ("done", 0), "nobody has anything yet");
    let due = lag(&retention.parts().unwrap(), &retention.rules(), start() + TimeDelta::days(14));
    assert!(due.parts > 0 && due.since.is_some(), "{due:?}");

    through.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(retention.begin(), Ok(2));
    let second = ended(&retention, 2).await;
    assert!(second.done.events > 50, "{second:?}");
    assert_eq!(removed.lock().unwrap().len() as u64, second.done.parts);
    let due = lag(&retention.parts().unwrap(), &retention.rules(), start() + TimeDelta::days(14));
    assert_eq!(due, Lag::default());
    assert!(retention.state().next_at.is_some_and(|next| next > second.ended));

    stop.cancel();
    keeping.end().await;
}

#[tokio::test]
async fn where_everything_is_kept_for_ever_nothing_runs() {
    let dir = TempDir::new().unwrap();
    let (log, _) = SledLog::open(dir.path(), &Options::default()).unwrap();
    let (retention, _) = retention(&log, Rules { heartbeats: None, activity: None }, Arc::default());
    assert_eq!(retention.begin(), Err(Refused::Off));
    retention.clone().run(CancellationToken::new()).await;
    assert!(retention.state().next_at.is_none());
}

/// The first run comes a while after the start, the others an hour after the one before; a loop that waits is not stuck.
#[tokio::test(start_paused = true)]
async fn runs_come_by_themselves_and_the_loop_shows_that_it_waits() {
    let dir = TempDir::new().unwrap();
    let (log, _) = SledLog::open(dir.path(), &Options::default()).unwrap();
    let (retention, _) = retention(&log, Rules::default(), Arc::new(AtomicU64::new(u64::MAX)));
    let stop = CancellationToken::new();
    let keeping = Keeping::begin(retention.clone(), &tokio::runtime::Handle::current(), stop.clone());
    let began = Instant::now();
    while retention.state().last.as_ref().is_none_or(|last| last.run < 3) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let passed = began.elapsed();
    assert!(passed >= AFTER_START + 2 * EVERY && passed < AFTER_START + 2 * EVERY + EVERY / 2, "{passed:?}");
    stop.cancel();
    keeping.end().await;
}
