//! Snapshots: they change no answer, whatever becomes of them.

use std::path::Path;
use std::sync::Arc;

use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::workspace::{OnlineVia, Renamed};
use covalence_events::{NewEvent, Position, Recorded};

use crate::testing::{History as Facts, beat, created, id, online, provision, registered, token};
use crate::{History, Views};

const EVERY: u64 = 50;

async fn store(path: &Path, facts: &[Arc<Recorded>]) -> Arc<dyn EventLog> {
    let (log, _) = SledLog::open(path, &Options::default()).unwrap();
    for recorded in facts {
        let event = NewEvent { meta: recorded.meta.clone(), fact: recorded.fact.clone() };
        let append = Append { stream: recorded.stream, expected: Expected::Any, events: vec![event] };
        log.append(vec![append], Ack::Accepted).await.unwrap();
    }
    log.append(Vec::new(), Ack::Durable).await.unwrap();
    let log: Arc<dyn EventLog> = Arc::new(log);
    let mut head = log.watch();
    head.wait_for(|head| head.0 == facts.len() as u64).await.unwrap();
    log
}

fn facts(name: &str) -> Facts {
    let mut facts = Facts::default();
    facts.of(1, created(name, None));
    facts.of(1, token(1));
    facts.of(1, provision(1));
    facts.of(1, registered(Some("http://x")));
    facts.of(1, online(OnlineVia::Register, "provisioning"));
    for number in 0..395 {
        facts.of(1, beat(1));
        if number % 100 == 99 {
            facts.of(1, Renamed { name: format!("{name}{number}") });
        }
    }
    facts
}

/// Waits until the snapshots that are due are there.
async fn snapshots(history: &History, directory: &Path, count: usize) -> Vec<String> {
    let keeper = history.clone();
    let task = tokio::spawn(async move { keeper.keep_snapshots().await });
    let there = async {
        loop {
            let names = listed(directory);
            if names.len() == count && !names.iter().any(|name| name.contains(".tmp")) {
                return names;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let names = tokio::time::timeout(std::time::Duration::from_secs(20), there).await.unwrap();
    task.abort();
    names
}

fn listed(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn assert_right_everywhere(history: &History, facts: &Facts) {
    for position in [1, 49, 50, 51, 99, 100, 207, 350, facts.0.len() as u64] {
        let mut expected = Views::new();
        for recorded in &facts.0[..usize::try_from(position).unwrap()] {
            expected.fold(recorded);
        }
        let views = history.at(Position(position)).await.unwrap();
        let prints = |views: &Views| views.each().map(|view| view.fingerprint().unwrap());
        assert_eq!(prints(&views), prints(&expected), "{position}");
        assert_eq!(*views.roster.read(), *expected.roster.read());
        assert_eq!(*views.structure.read(), *expected.structure.read());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_a_snapshot_is_the_one_from_the_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, path) = (facts("a"), dir.path().join("snapshots"));
    let log = store(&dir.path().join("log"), &facts.0).await;
    let history = History::with(Arc::clone(&log), Some(path.clone()), EVERY);
    let names = snapshots(&history, &path, facts.0.len() / 50).await;
    assert_eq!(names[0], "snap-00000000000000000050.zst");
    assert_right_everywhere(&history, &facts).await;
    // Another run finds them.
    assert_right_everywhere(&History::with(log, Some(path), EVERY), &facts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_passed_over_removed_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, path) = (facts("a"), dir.path().join("snapshots"));
    let log = store(&dir.path().join("log"), &facts.0).await;
    let history = || History::with(Arc::clone(&log), Some(path.clone()), EVERY);
    let names = snapshots(&history(), &path, facts.0.len() / 50).await;
    for (number, name) in names.iter().enumerate() {
        let file = path.join(name);
        let mut bytes = std::fs::read(&file).unwrap();
        match number % 3 {
            0 => bytes.truncate(bytes.len() / 2),
            1 => *bytes.last_mut().unwrap() ^= 1,
            _ => bytes.clear(),
        }
        std::fs::write(&file, bytes).unwrap();
    }
    let damaged = history();
    assert_right_everywhere(&damaged, &facts).await;
    assert!(listed(&path).len() < names.len(), "what was looked at is gone");
    assert_eq!(snapshots(&damaged, &path, names.len()).await, names);
    assert_right_everywhere(&history(), &facts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_log_is_none_of_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshots");
    let (first, second) = (facts("a"), facts("b"));
    let log = store(&dir.path().join("first"), &first.0).await;
    snapshots(&History::with(log, Some(path.clone()), EVERY), &path, first.0.len() / 50).await;
    let log = store(&dir.path().join("second"), &second.0).await;
    let history = History::with(log, Some(path), EVERY);
    assert_right_everywhere(&history, &second).await;
    assert_eq!(history.at(Position(60)).await.unwrap().roster.read().get(id(1)).unwrap().name, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_stay_bounded_however_long_the_log_is() {
    let dir = tempfile::tempdir().unwrap();
    let (facts, path) = (facts("a"), dir.path().join("snapshots"));
    let log = store(&dir.path().join("log"), &facts.0).await;
    // One each fact would be hundreds: each second one goes until there are at most 128.
    let history = History::with(log, Some(path.clone()), 1);
    let names = snapshots(&history, &path, facts.0.len() / 4).await;
    assert!(names.len() <= 128, "{}", names.len());
    assert_right_everywhere(&history, &facts).await;
    history.forget().unwrap();
    assert!(!path.exists());
    assert_right_everywhere(&history, &facts).await;
}
