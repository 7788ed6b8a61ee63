//! Following the log, and what a fact that can't be applied does.

use std::sync::Arc;
use std::time::Duration;

use covalence_events::Position;
use covalence_events::log::EventLog;
use covalence_events::log::memory::MemoryLog;
use covalence_events::workspace::{OnlineVia, Paused, Renamed};

use crate::testing::{History, append, created, id, online, provision, token};
use crate::{Status, Views};

const PATIENCE: Duration = Duration::from_secs(10);
/// For what never comes: the test takes this long.
const SHORT: Duration = Duration::from_millis(20);

fn team() -> History {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, token(1));
    history.of(1, provision(1));
    history
}

#[tokio::test]
async fn follows_the_log_from_where_the_boot_fold_ended() {
    let log = Arc::new(MemoryLog::new());
    let mut history = team();
    append(&log, &history.0).await;
    let mut views = Views::new();
    for recorded in &history.0 {
        views.fold(recorded);
    }
    let views = Arc::new(views);
    let task = views.start(Arc::clone(&log) as Arc<dyn EventLog>);
    assert_eq!(views.checkpoint(), Position(3));
    let known = history.0.len();
    history.of(1, online(OnlineVia::Register, "provisioning"));
    append(&log, &history.0[known..]).await;
    let row = views.wait_for(id(1), PATIENCE, |row| row.status == Status::Online).await;
    assert!(row.is_some());
    assert_eq!(views.caught_up(Position(4), PATIENCE).await, Ok(()));
    assert!(views.health(log.head()).iter().all(|health| health.lag == 0 && health.stalled.is_none()));
    log.close().await;
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn waiting_for_a_position_that_does_not_come_says_how_far_behind() {
    let log = Arc::new(MemoryLog::new());
    append(&log, &team().0).await;
    let views = Arc::new(Views::new());
    let _task = views.start(Arc::clone(&log) as Arc<dyn EventLog>);
    assert_eq!(views.caught_up(Position(3), PATIENCE).await, Ok(()));
    assert_eq!(views.caught_up(Position(10), SHORT).await.unwrap_err().by, 7);
    assert!(views.wait_for(id(1), SHORT, |row| row.status == Status::Paused).await.is_none());
}

#[tokio::test]
async fn a_fact_that_cannot_be_applied_stops_that_projection_and_no_other() {
    let log = Arc::new(MemoryLog::new());
    let mut history = team();
    history.of(9, Paused {});
    history.of(1, Renamed { name: "b".to_owned() });
    history.of(1, Paused {});
    append(&log, &history.0).await;
    let views = Arc::new(Views::new());
    let _task = views.start(Arc::clone(&log) as Arc<dyn EventLog>);
    assert_eq!(views.caught_up(Position(6), PATIENCE).await.unwrap_err().by, 3);
    let stalled = views.roster.stalled().unwrap();
    assert_eq!(stalled.position, Position(4));
    assert_eq!(views.roster.read().get(id(1)).unwrap().name, "a", "it answers with what it knew");
    assert!(views.structure.stalled().is_none());
    assert_eq!(views.structure.checkpoint(), Position(6));
    assert_eq!(views.structure.read().newest(1)[0].payload.as_json(), r#"{"name":"b"}"#);
    let roster = &views.health(log.head())[0];
    assert_eq!((roster.name, roster.lag), ("roster", 3));
}

#[tokio::test]
async fn a_rebuild_from_zero_equals_what_followed_the_log() {
    let log = Arc::new(MemoryLog::new());
    let history = team();
    append(&log, &history.0).await;
    let views = Arc::new(Views::new());
    let _task = views.start(Arc::clone(&log) as Arc<dyn EventLog>);
    views.caught_up(Position(3), PATIENCE).await.unwrap();
    let rebuilt = Views::rebuild(log.as_ref()).await.unwrap();
    assert_eq!(rebuilt.checkpoint(), Position(3));
    assert_eq!(*rebuilt.roster.read(), *views.roster.read());
}
