//! Segments: what is cut is what the log has, nothing of it can change unnoticed, and a log made of it is the same log.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::check::check;
use super::export::{Exporter, Rules};
use super::*;
use crate::envelope::NewEvent;
use crate::log::checkpoint::Book;
use crate::log::conformance::{event, stream, to};
use crate::log::restore::{RestoreError, Restored, Until, restore};
use crate::log::sled::{ClosedLog, Options, SledLog};
use crate::log::{Ack, EventLog, Expected, Frames, OpenError};

/// Small enough that a few facts make several segments.
const BYTES: usize = 2000;

struct Logs {
    home: TempDir,
}

impl Logs {
    fn new() -> Self {
        Self { home: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn place(&self) -> Place {
        Place::directory(&self.path("segments")).unwrap()
    }

    /// Appends facts of these sizes, one append a list, and exports what is there by then.
    async fn fill(&self, appends: &[Vec<usize>]) {
        let (log, _) = SledLog::open(&self.path("log"), &Options::default()).unwrap();
        let exporting = tokio::spawn(exporter(&log, Some(self.place())).run());
        for sizes in appends {
            let events = sizes.iter().map(|&size| event(&"x".repeat(size))).collect();
            log.append(to(stream(), Expected::Any, events), Ack::Durable).await.unwrap();
        }
        log.close().await;
        exporting.await.unwrap();
    }

    async fn restore(&self, until: Until) -> Result<Restored, RestoreError> {
        restore(Some(&self.place()), &self.path("restored"), until, false).await
    }

    async fn names(&self) -> Vec<Name> {
        self.place().segments().await.unwrap()
    }

    async fn problems(&self) -> Vec<String> {
        check(&self.place(), &[], &[]).await.unwrap().problems
    }
}

fn exporter(log: &SledLog, place: Option<Place>) -> Exporter {
    let rules = Rules { bytes: BYTES, every: Duration::from_secs(3600), ..Rules::default() };
    Exporter::new((log.frames().unwrap(), log.watch()), log.checkpoints(), place, rules).unwrap()
}

fn bytes(path: &Path) -> (Vec<u8>, String) {
    let log = ClosedLog::open(path).unwrap();
    let verified = log.verify().unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
    (log.frames(Position(1), usize::MAX).unwrap(), verified.chain)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_log_comes_back_from_its_segments_byte_for_byte(
        // Payloads over 4 KiB lie apart; the same one twice lies there once.
        appends in prop::collection::vec(
            prop::collection::vec(prop_oneof![4 => 0_usize..600, 1 => Just(5000), 1 => 4000_usize..20_000], 1..6),
            1..12,
        )
    ) {
        let logs = Logs::new();
        runtime().block_on(async {
            logs.fill(&appends).await;
            let restored = logs.restore(Until::End).await.unwrap();
            assert_eq!(restored.head.0, appends.iter().map(Vec::len).sum::<usize>() as u64);
            assert_eq!(restored.missing, None);
            assert_eq!(logs.problems().await, Vec::<String>::new());
        });
        let (original, copy) = (bytes(&logs.path("log")), bytes(&logs.path("restored")));
        prop_assert_eq!(original, copy);
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_segment_is_noticed() {
    let logs = Logs::new();
    logs.fill(&[vec![100, 5000]]).await;
    let file = fs::read(logs.path("segments").join(logs.names().await[0].to_string())).unwrap();
    Segment::decode(&file).unwrap();
    for byte in 0..file.len() {
        let mut flipped = file.clone();
        flipped[byte] ^= 1 << (byte % 8);
        assert!(Segment::decode(&flipped).is_err(), "byte {byte}");
        assert!(Segment::decode(&file[..byte]).is_err(), "cut to {byte}");
    }
}

#[tokio::test]
async fn the_damaged_segment_is_named_and_those_around_it_are_sound() {
    let logs = Logs::new();
    logs.fill(&vec![vec![300; 5]; 5]).await;
    let names = logs.names().await;
    assert!(names.len() >= 3, "{names:?}");
    let path = logs.path("segments").join(names[1].to_string());
    let mut file = fs::read(&path).unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 1;
    fs::write(&path, file).unwrap();
    let problems = logs.problems().await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains(&names[1].to_string()), "{problems:?}");
    let error = logs.restore(Until::End).await.unwrap_err();
    assert!(error.to_string().contains(&names[1].to_string()), "{error}");
    assert!(!logs.path("restored").exists() && !logs.path("restored.restoring").exists());
    let before = logs.restore(Until::Position(names[0].last)).await.unwrap();
    assert_eq!(before.head, names[0].last);
}

#[tokio::test]
async fn a_missing_segment_is_a_gap_that_is_named() {
    let logs = Logs::new();
    logs.fill(&vec![vec![300; 5]; 5]).await;
    let gone = logs.names().await[1];
    fs::remove_file(logs.path("segments").join(gone.to_string())).unwrap();
    let problems = logs.problems().await;
    assert!(problems[0].contains(&format!("positions {} to {}", gone.first, gone.last)), "{problems:?}");
    let error = logs.restore(Until::End).await.unwrap_err();
    assert!(
        matches!(error, RestoreError::Segments(SegmentError::Gap { from, to, .. }) if (from, to) == (gone.first, gone.last)),
        "{error}"
    );
}

#[tokio::test]
async fn the_export_goes_on_where_it_was_and_never_twice() {
    let logs = Logs::new();
    for _ in 0..3 {
        logs.fill(&[vec![10], vec![3000], vec![10, 10]]).await;
    }
    let mut next = Position(1);
    for name in logs.names().await {
        assert_eq!(name.first, next);
        next = name.last.next();
    }
    assert_eq!(next, Position(13));
}

#[tokio::test]
async fn segments_of_another_history_are_left_alone() {
    let logs = Logs::new();
    logs.fill(&[vec![10; 4]]).await;
    fs::remove_dir_all(logs.path("log")).unwrap();
    let (log, _) = SledLog::open(&logs.path("log"), &Options::default()).unwrap();
    let exporter = exporter(&log, Some(logs.place()));
    let status = exporter.status();
    let exporting = tokio::spawn(exporter.run());
    log.append(to(stream(), Expected::Any, vec![event("other"); 1]), Ack::Durable).await.unwrap();
    log.close().await;
    exporting.await.unwrap();
    let failed = status.progress().failed.unwrap();
    assert!(failed.contains("another history") && failed.contains("ends at 1"), "{failed}");
    assert_eq!(logs.names().await.len(), 1);
}

#[tokio::test]
async fn a_place_that_fails_is_tried_again_and_misses_nothing() {
    let logs = Logs::new();
    let place = logs.place();
    fs::remove_dir(logs.path("segments")).unwrap();
    fs::write(logs.path("segments"), "no directory").unwrap();
    let (log, _) = SledLog::open(&logs.path("log"), &Options::default()).unwrap();
    let exporter = exporter(&log, Some(place));
    let status = exporter.status();
    let exporting = tokio::spawn(exporter.run());
    log.append(to(stream(), Expected::Any, vec![event(&"x".repeat(3000))]), Ack::Durable).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), async {
        while status.progress().failed.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the failure is shown");
    fs::remove_file(logs.path("segments")).unwrap();
    fs::create_dir(logs.path("segments")).unwrap();
    log.close().await;
    exporting.await.unwrap();
    assert_eq!((status.progress().failed, status.progress().exported), (None, Position(1)));
    assert_eq!(logs.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_restore_to_a_position_never_takes_half_an_append() {
    let logs = Logs::new();
    logs.fill(&[vec![10; 3], vec![10; 4]]).await;
    let restored = logs.restore(Until::Position(Position(5))).await.unwrap();
    assert_eq!(restored.head, Position(3));
    assert_eq!(restored.missing, Some((Position(4), Position(5))));
    assert_eq!(bytes(&logs.path("restored")).1, restored.chain);
}

#[tokio::test]
async fn a_restore_to_a_time_takes_what_had_happened_by_then() {
    let logs = Logs::new();
    let (log, _) = SledLog::open(&logs.path("log"), &Options::default()).unwrap();
    let exporting = tokio::spawn(exporter(&log, Some(logs.place())).run());
    let start = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    for second in 0..5 {
        let mut new: NewEvent = event("x");
        new.meta.at = start + chrono::TimeDelta::seconds(second);
        log.append(to(stream(), Expected::Any, vec![new]), Ack::Durable).await.unwrap();
    }
    log.close().await;
    exporting.await.unwrap();
    let then = start + chrono::TimeDelta::milliseconds(2500);
    let restored = logs.restore(Until::Time(then)).await.unwrap();
    assert_eq!((restored.head, restored.at), (Position(3), Some(start + chrono::TimeDelta::seconds(2))));
    fs::remove_dir_all(logs.path("restored")).unwrap();
    let early = logs.restore(Until::Time(start - chrono::TimeDelta::seconds(1))).await.unwrap_err();
    assert!(matches!(early, RestoreError::Nothing { .. }), "{early}");
}

#[tokio::test]
async fn a_log_that_is_there_is_kept_and_what_it_had_acknowledged_is_missed() {
    let logs = Logs::new();
    logs.fill(&[vec![10; 3]]).await;
    let (log, _) = SledLog::open(&logs.path("log"), &Options::default()).unwrap();
    let place = logs.place();
    let refused = restore(Some(&place), &logs.path("log"), Until::End, false).await.unwrap_err();
    assert!(matches!(refused, RestoreError::NotEmpty { .. }), "{refused}");
    let held = restore(Some(&place), &logs.path("log"), Until::End, true).await.unwrap_err();
    assert!(matches!(held, RestoreError::Segments(SegmentError::Log(OpenError::Locked { .. }))), "{held}");
    log.append(to(stream(), Expected::Any, vec![event("later"); 1]), Ack::Durable).await.unwrap();
    log.close().await;
    drop(log);
    let store = logs.path("log").join("store/db");
    fs::write(&store, "no store").unwrap();
    let error = SledLog::open(&logs.path("log"), &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Store { .. } | OpenError::Lost { .. }), "{error}");
    let restored = restore(Some(&place), &logs.path("log"), Until::End, true).await.unwrap();
    assert_eq!(restored.missing, Some((Position(4), Position(4))));
    assert_eq!(fs::read_to_string(restored.moved_to.unwrap().join("store/db")).unwrap(), "no store");
    assert_eq!(SledLog::open(&logs.path("log"), &Options::default()).unwrap().1.head, Position(3));
}

#[tokio::test]
async fn a_rewritten_history_is_noticed_by_a_checkpoint_that_was_kept_elsewhere() {
    let logs = Logs::new();
    logs.fill(&[vec![10], vec![20], vec![30]]).await;
    let book = Book::new(&logs.path("log"));
    let kept = book.read().unwrap().0;
    assert_eq!(kept.iter().map(|kept| kept.position).collect::<Vec<_>>(), [Position(3)]);

    // The same facts but for one, encoded anew with a chain that holds, and under the same key.
    let (log, _) = SledLog::open(&logs.path("log"), &Options::default()).unwrap();
    let facts = log.read_all(Position(1), 10).await.unwrap();
    log.close().await;
    let (forged, _) = SledLog::open(&logs.path("forged"), &Options::default()).unwrap();
    for (number, fact) in facts.iter().enumerate() {
        let mut new = NewEvent { meta: fact.meta.clone(), fact: fact.fact.clone() };
        if number == 1 {
            new.fact = event("what never happened").fact;
        }
        forged.append(to(fact.stream, Expected::Any, vec![new]), Ack::Durable).await.unwrap();
    }
    forged.close().await;
    drop(forged);
    let file = |log: &str, name: &str| logs.path(log).join(name);
    for name in ["checkpoint-key", "checkpoints"] {
        fs::copy(file("log", name), file("forged", name)).unwrap();
    }
    let forged = ClosedLog::open(&logs.path("forged")).unwrap();
    let problems = forged.verify().unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("history was rewritten"), "{problems:?}");

    // Signed anew as well: the directory alone can't tell any more.
    let book = Book::new(&logs.path("forged"));
    fs::remove_file(file("forged", "checkpoints")).unwrap();
    let signer = book.signer().unwrap();
    let link = forged.link(Position(3)).unwrap().unwrap();
    book.add(&[signer.sign(Position(3), link, kept[0].at)]).unwrap();
    assert_eq!(forged.verify().unwrap().problems, Vec::<String>::new());
    let problems = crate::log::checkpoint::check(&forged, &kept, &[signer.public()]);
    assert!(problems.len() == 1 && problems[0].contains("history was rewritten"), "{problems:?}");

    // And by somebody who has another key.
    fs::remove_file(file("forged", "checkpoint-key")).unwrap();
    let other = book.signer().unwrap().sign(Position(3), link, kept[0].at);
    let problems = crate::log::checkpoint::check(&forged, &[other], &[signer.public()]);
    assert!(problems[0].contains("signed by another key"), "{problems:?}");
}

#[tokio::test]
async fn segments_bring_the_checkpoints_along_and_are_held_against_others() {
    let logs = Logs::new();
    logs.fill(&[vec![10], vec![20]]).await;
    let verified = check(&logs.place(), &[], &[]).await.unwrap();
    assert_eq!((verified.checkpoints, verified.problems), (1, Vec::new()));
    assert_eq!(logs.restore(Until::End).await.unwrap().checkpoints, 1);
    let other = Logs::new();
    other.fill(&[vec![10], vec![20]]).await;
    let kept = Book::new(&logs.path("log")).read().unwrap().0;
    let problems = check(&other.place(), &kept, &[]).await.unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("history was rewritten"), "{problems:?}");
}

#[test]
fn a_half_written_checkpoint_is_no_checkpoint_and_is_no_trouble() {
    let home = TempDir::new().unwrap();
    let book = Book::new(home.path());
    let signer = book.signer().unwrap();
    let sign = |position| signer.sign(Position(position), [7; 32], chrono::Utc::now());
    let path = home.path().join("checkpoints");
    book.add(&[sign(1)]).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..40]].concat()).unwrap();
    book.add(&[sign(2)]).unwrap();
    let (checkpoints, problems) = book.read().unwrap();
    assert_eq!((checkpoints.len(), problems), (2, Vec::new()));
    assert!(checkpoints.iter().all(super::super::checkpoint::Checkpoint::is_signed));
    let forged = checkpoints[0].to_string().replace("\"position\":1", "\"position\":2");
    assert!(!forged.parse::<super::super::checkpoint::Checkpoint>().unwrap().is_signed());
    assert_eq!(book.public().unwrap(), Some(signer.public()));
}
