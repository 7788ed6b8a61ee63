//! The projections as they were at a position.

use std::sync::Arc;

use covalence_events::log::EventLog;
use covalence_events::log::memory::MemoryLog;
use covalence_events::workspace::{Paused, Renamed};
use covalence_events::{Position, WorkspaceId};

use crate::testing::{History as Facts, append, created, id, provision, token};
use crate::{History, Status, Views};

async fn recorded() -> (Arc<dyn EventLog>, Facts) {
    let log = Arc::new(MemoryLog::new());
    let mut facts = Facts::default();
    facts.of(1, created("a", None));
    facts.of(1, token(1));
    facts.of(1, provision(1));
    facts.of(1, Renamed { name: "b".to_owned() });
    facts.of(2, created("c", Some(1)));
    facts.of(1, Paused {});
    append(&log, &facts.0).await;
    (log, facts)
}

fn row(views: &Views, id: WorkspaceId) -> Option<(String, Status)> {
    views.roster.read().get(id).map(|row| (row.name.clone(), row.status))
}

#[tokio::test]
async fn each_position_shows_what_was_known_there_and_nothing_later() {
    let (log, facts) = recorded().await;
    let history = History::new(log, None);
    for position in 0..=facts.0.len() {
        let mut expected = Views::new();
        for recorded in &facts.0[..position] {
            expected.fold(recorded);
        }
        let views = history.at(Position(position as u64)).await.unwrap();
        assert_eq!(views.checkpoint(), Position(position as u64));
        assert_eq!(*views.roster.read(), *expected.roster.read());
        assert_eq!(*views.credentials.read(), *expected.credentials.read());
        assert_eq!(*views.structure.read(), *expected.structure.read());
        assert_eq!(*views.supervision.read(), *expected.supervision.read());
    }
    let third = history.at(Position(3)).await.unwrap();
    assert_eq!(row(&third, id(1)), Some(("a".to_owned(), Status::Provisioning)));
    assert_eq!(row(&third, id(2)), None);
}

#[tokio::test]
async fn beyond_the_end_is_what_is_known_at_the_end() {
    let (log, _) = recorded().await;
    let views = History::new(log, None).at(Position(99)).await.unwrap();
    assert_eq!(views.checkpoint(), Position(6));
    assert_eq!(row(&views, id(1)), Some(("b".to_owned(), Status::Paused)));
}
