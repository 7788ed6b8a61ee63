//! A log that is rolled: its old databases are gone, and nothing of what they had.

use std::fs;

use super::{Place, event, one, stream, to};
use crate::envelope::Recorded;
use crate::id::{Position, Version};
use crate::log::sled::{ClosedLog, Options, SledLog};
use crate::log::{Ack, EventLog as _, Expected, Frames as _, OpenError};

fn options() -> Options {
    Options { roll_events: Some(10), ..Options::default() }
}

/// A closed log of so many facts in appends of three, every fifth append with a large payload; all that was rolled is archived.
async fn rolled(place: &Place, appends: usize) -> Vec<std::sync::Arc<Recorded>> {
    let (log, _) = place.try_open(&options()).unwrap();
    let ours = stream();
    for n in 0..appends {
        let text = if n % 5 == 0 { format!("{n} ").repeat(3000) } else { n.to_string() };
        let events = (0..3).map(|_| event(&text)).collect();
        log.append(to(ours, Expected::Exact(Version(n as u64 * 3)), events), Ack::Durable).await.unwrap();
        // So that each database is full when the next append comes.
        log.settle().await;
        log.prepared().await;
    }
    log.close().await;
    log.read_all(Position(1), usize::MAX).await.unwrap()
}

pub(super) fn names(place: &Place, of: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path().join(of)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn blobs(place: &Place) -> usize {
    names(place, "blobs").iter().map(|folder| names(place, &format!("blobs/{folder}")).len()).sum()
}

#[tokio::test]
async fn the_room_of_what_was_archived_is_given_back_and_the_log_goes_on_without_a_seam() {
    let (place, plain) = (Place::new(), Place::new());
    let facts = rolled(&place, 20).await;
    assert_eq!(facts.len(), 60);
    assert!(facts.iter().zip(1..).all(|(fact, n)| (fact.position.0, fact.version.0) == (n, n)));
    let stores: Vec<_> = names(&place, "").into_iter().filter(|name| name.starts_with("store")).collect();
    assert_eq!(stores.len(), 1, "{stores:?}");
    assert_ne!(stores, ["store"]);
    let parts = names(&place, "archive").len();
    assert!(parts >= 4, "{parts} parts");
    assert!(blobs(&place) <= 1, "what is archived has its large payloads with it");
    assert_eq!(fs::read_to_string(place.path().join("format")).unwrap().trim(), "2");

    // The same facts in a log that is never rolled are the same bytes.
    let (log, _) = plain.try_open(&Options { roll_events: None, ..Options::default() }).unwrap();
    for facts in facts.chunks(3) {
        let events = facts
            .iter()
            .map(|fact| crate::envelope::NewEvent { meta: fact.meta.clone(), fact: fact.fact.clone() })
            .collect();
        log.append(to(facts[0].stream, Expected::Any, events), Ack::Durable).await.unwrap();
    }
    drop(log);
    let bytes = |place: &Place| {
        let closed = ClosedLog::open(&place.path()).unwrap();
        let verified = closed.verify().unwrap();
        assert_eq!(verified.problems, Vec::<String>::new());
        (closed.frames(Position(1), usize::MAX).unwrap(), verified.chain, verified.events)
    };
    assert_eq!(bytes(&place), bytes(&plain));
}

#[tokio::test]
async fn a_rolled_log_shows_every_fact_at_open_and_in_a_copy() {
    let place = Place::new();
    let facts = rolled(&place, 12).await;
    let mut seen = Vec::new();
    let (log, opened) =
        SledLog::open_with(&place.path(), &options(), &mut |fact| seen.push(std::sync::Arc::clone(fact)))
            .unwrap();
    assert_eq!((opened.head, opened.streams, &seen), (Position(36), 1, &facts));
    drop(log);
    let before = names(&place, "archive");
    seen.clear();
    let scratch = place.dir.path().join("scratch");
    let (copy, _) =
        SledLog::open_copy(&place.path(), &scratch, None, &mut |fact| seen.push(std::sync::Arc::clone(fact)))
            .unwrap();
    assert_eq!(seen, facts);
    assert_eq!(copy.read(facts[0].stream, Version(1), 100).await.unwrap(), facts);
    assert_eq!(copy.verify().await.unwrap().problems, Vec::<String>::new());
    drop(copy);
    assert_eq!(names(&place, "archive"), before);

    // Who wants no facts learns the same from the archive's tables.
    let (log, opened) = place.try_open(&options()).unwrap();
    assert_eq!((opened.head, opened.streams), (Position(36), 1));
    assert_eq!(log.read(facts[0].stream, Version(1), 100).await.unwrap(), facts);
    assert_eq!(log.find(facts[1].meta.id).await.unwrap(), Some(Position(2)));
    assert_eq!(one(&log, Ack::Durable).await.unwrap().last(), Some(Position(37)));
}

#[tokio::test]
async fn what_a_crash_left_in_two_places_is_removed_from_one() {
    let place = Place::new();
    let facts = rolled(&place, 4).await;
    assert!(!place.path().join("archive").exists(), "the next append rolls it");
    let twin = place.dir.path().join("twin");
    assert!(
        std::process::Command::new("cp").arg("-r").arg(place.path()).arg(&twin).status().unwrap().success()
    );
    let (log, _) = place.try_open(&options()).unwrap();
    while log.archived() == Position(0) {
        one(&log, Ack::Durable).await.unwrap();
        log.settle().await;
    }
    let head = log.head();
    drop(log);
    // As it would be if the process had died before the old database was removed.
    fs::rename(twin.join("store"), place.path().join("store")).unwrap();
    fs::create_dir(place.path().join("archive/00000000000000000099.0.tmp")).unwrap();
    assert_eq!(ClosedLog::open(&place.path()).unwrap().verify().unwrap().problems, Vec::<String>::new());
    let (log, opened) = place.try_open(&options()).unwrap();
    assert_eq!(opened.head, head);
    assert_eq!(log.read_all(Position(1), facts.len()).await.unwrap(), facts);
    assert!(!place.path().join("store").exists());
    assert_eq!(names(&place, "archive").len(), 1);
}

#[tokio::test]
async fn a_part_that_is_missing_is_damage_and_nothing_is_opened_without_it() {
    let place = Place::new();
    rolled(&place, 20).await;
    let part = names(&place, "archive")[1].clone();
    fs::remove_dir_all(place.path().join("archive").join(part)).unwrap();
    assert!(matches!(place.try_open(&options()), Err(OpenError::Damaged { .. })));
}
