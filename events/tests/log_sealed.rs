//! What is sealed is nowhere in the clear, comes back with its key, and is gone with it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of a test are tests too")]

#[path = "codec/samples.rs"]
mod samples;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use covalence_events::keyring::Keyring;
use covalence_events::log::conformance::{event, to};
use covalence_events::log::restore::{Until, restore};
use covalence_events::log::segments::{Cutter, Place as Segments, check};
use covalence_events::log::sled::{ClosedLog, Options, SledLog};
use covalence_events::log::{Ack, EventLog as _, Expected, OpenError};
use covalence_events::seal::{self, ERASED, SEALED, fields};
use covalence_events::workspace::{Erased, RoleChanged};
use covalence_events::{Fact, NewEvent, Position, Recorded, StreamId, WorkspaceId, fleet};
use tempfile::TempDir;

const CANARY: &str = "canary-8c1f";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self) -> Options {
        let keys = Keyring::open(&self.path("keys"), None).unwrap();
        Options { keys: Some(Arc::new(keys)), ..Options::default() }
    }

    fn open(&self) -> (SledLog, Vec<Arc<Recorded>>) {
        self.try_open(&self.options()).unwrap()
    }

    fn try_open(&self, options: &Options) -> Result<(SledLog, Vec<Arc<Recorded>>), OpenError> {
        let mut seen = Vec::new();
        let opened =
            SledLog::open_with(&self.path("events"), options, &mut |event| seen.push(Arc::clone(event)));
        opened.map(|(log, _)| (log, seen))
    }

    /// Files that have the canary in the clear, in whatever they keep.
    fn files_with_canary(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        search(self.0.path(), &mut found);
        found
    }
}

fn search(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if path.extension().is_some_and(|ending| ending == "zst") {
            bytes = zstd::decode_all(bytes.as_slice()).unwrap();
        }
        if bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
            found.push(path);
        }
    }
}

/// Tags with the names of fields.
type Places = BTreeSet<(String, String)>;

/// One fact of every kind with the canary wherever it has something to seal, and where that is.
fn planted() -> (Vec<(StreamId, Fact)>, Places) {
    let (mut facts, mut paths) = (Vec::new(), BTreeSet::new());
    let sampled = samples::named().into_iter().map(|(_, fact)| fact).chain(samples::grown());
    for sample in sampled.chain(samples::later_fields()) {
        let stream = match &sample {
            Fact::Workspace(_) => workspace(),
            Fact::Fleet(_) => StreamId::Fleet,
        };
        let (fact, planted) = seal::planted(&sample, CANARY).unwrap();
        paths.extend(planted.into_iter().map(|path| (fact.tag().to_owned(), path)));
        if fact.tag() != covalence_events::workspace::ERASED_TAG {
            facts.push((stream, fact));
        }
    }
    (facts, paths)
}

/// The workspace that the samples of the fleet's facts name.
fn workspace() -> StreamId {
    StreamId::Workspace(WorkspaceId("0190a0b0-c0d0-7e00-8f00-000000000001".parse().unwrap()))
}

async fn append(log: &SledLog, stream: StreamId, fact: Fact) -> Arc<Recorded> {
    let new = NewEvent { fact, ..event("") };
    let receipt = log.append(to(stream, Expected::Any, vec![new]), Ack::Durable).await.unwrap();
    Arc::clone(&receipt.events[0])
}

async fn append_planted(log: &SledLog) -> Vec<Arc<Recorded>> {
    let mut written = Vec::new();
    for (stream, fact) in planted().0 {
        written.push(append(log, stream, fact).await);
    }
    written
}

fn shown(event: &Recorded) -> String {
    event.fact.to_json().to_string()
}

#[test]
fn every_sealed_field_is_planted_in_a_sample() {
    let listed = fields::ALL
        .iter()
        .flat_map(|fields| fields.sealed.iter().map(|path| (fields.tag.to_owned(), (*path).to_owned())));
    assert_eq!(planted().1, listed.collect());
}

#[tokio::test]
async fn sealed_fields_come_back_and_are_nowhere_in_the_clear() {
    let place = Place::new();
    let (log, _) = place.open();
    let written = append_planted(&log).await;
    let large = append(&log, workspace(), RoleChanged { role: Some(CANARY.repeat(2000)) }.into_fact()).await;
    assert_eq!(place.files_with_canary(), Vec::<PathBuf>::new());
    log.close().await;
    drop(log);
    let (log, seen) = place.open();
    assert_eq!(seen[..written.len()], written);
    assert_eq!(seen[written.len()], large);
    assert!(written.iter().filter(|event| shown(event).contains(CANARY)).count() > 20);
    let verified = log.verify().await.unwrap();
    assert_eq!((verified.problems, verified.erased, verified.sealed), (vec![], 0, 0));
    assert_eq!(place.files_with_canary(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn without_keys_it_can_be_followed_and_says_what_is_sealed() {
    let place = Place::new();
    let (log, _) = place.open();
    append_planted(&log).await;
    drop(log);
    let mut seen = Vec::new();
    let (log, _) = SledLog::open_copy(&place.path("events"), &place.path("copy"), None, &mut |event| {
        seen.push(Arc::clone(event));
    })
    .unwrap();
    assert!(seen.iter().all(|event| !shown(event).contains(CANARY)));
    assert!(seen.iter().filter(|event| shown(event).contains(SEALED)).count() > 20);
    let verified = log.verify().await.unwrap();
    assert_eq!((verified.problems, verified.erased), (vec![], 0));
    assert!(verified.sealed > 30, "{}", verified.sealed);
}

#[tokio::test]
async fn a_log_whose_keys_are_lost_is_not_opened_as_if_they_had_been_destroyed() {
    let place = Place::new();
    let (log, _) = place.open();
    append(&log, StreamId::Fleet, planted().0[0].1.clone()).await;
    append(&log, workspace(), planted().0[0].1.clone()).await;
    drop(log);
    fs::rename(place.path("keys"), place.path("elsewhere")).unwrap();
    let error = place.try_open(&place.options()).unwrap_err();
    assert!(matches!(error, OpenError::KeysMissing { position: Position(1), .. }), "{error}");
    assert!(!place.path("keys").exists(), "no key is made in their place");
    let (_, seen) = place.try_open(&Options { accept_loss: true, ..place.options() }).unwrap();
    assert!(shown(&seen[0]).contains(SEALED));
    fs::rename(place.path("elsewhere"), place.path("keys")).unwrap();
    assert!(shown(&place.open().1[0]).contains(CANARY));
}

#[tokio::test]
async fn lost_keys_that_a_person_gave_up_stop_no_start_and_their_owner_gets_another() {
    let place = Place::new();
    let (log, _) = place.open();
    append(&log, StreamId::Fleet, planted().0[0].1.clone()).await;
    append(&log, workspace(), planted().0[0].1.clone()).await;
    drop(log);
    fs::remove_file(place.path("keys").join("fleet.key")).unwrap();
    assert!(matches!(place.try_open(&place.options()), Err(OpenError::KeysMissing { fields: 1.., .. })));
    let accepting = Options { accept_lost_keys: true, ..place.options() };
    drop(place.try_open(&accepting).unwrap());
    let (log, seen) = place.open();
    assert!(shown(&seen[0]).contains(SEALED) && shown(&seen[1]).contains(CANARY));
    append(&log, StreamId::Fleet, planted().0[0].1.clone()).await;
    drop(log);
    let (_, seen) = place.open();
    assert!(shown(&seen[0]).contains(SEALED) && shown(&seen[2]).contains(CANARY));
}

#[tokio::test]
async fn an_erasure_leaves_a_valid_chain_and_nothing_to_read() {
    let place = Place::new();
    let (log, _) = place.open();
    let written = append_planted(&log).await;
    let kept = StreamId::Workspace(WorkspaceId::generate());
    append(&log, kept, RoleChanged { role: Some(CANARY.to_owned()) }.into_fact()).await;
    append(&log, workspace(), Erased {}.into_fact()).await;
    let late = append(&log, workspace(), RoleChanged { role: Some(CANARY.to_owned()) }.into_fact()).await;
    assert!(shown(&late).contains(ERASED), "nothing is recorded of it any more");
    let chain = log.verify().await.unwrap().chain;
    let live = log.read_all(Position(1), 1000).await.unwrap();
    drop(log);
    let (log, seen) = place.open();
    assert_eq!(live, seen, "memory shows what the log shows");
    let verified = log.verify().await.unwrap();
    assert_eq!((verified.chain, verified.problems, verified.sealed), (chain, vec![], 0));
    assert!(verified.erased > 30, "{}", verified.erased);
    for (before, after) in written.iter().zip(&seen) {
        let owner = seal::owner(before.stream, &before.fact);
        let expected =
            if owner == workspace() { seal::erased(&before.fact).unwrap() } else { before.fact.clone() };
        assert_eq!(after.fact, expected);
        assert!(owner != workspace() || !shown(after).contains(CANARY));
    }
    assert!(shown(&seen[written.len()]).contains(CANARY), "others keep theirs");
}

#[tokio::test]
async fn an_erasure_that_a_crash_interrupted_is_finished_by_the_next_start() {
    let place = Place::new();
    let (log, _) = place.open();
    append(&log, workspace(), RoleChanged { role: Some(CANARY.to_owned()) }.into_fact()).await;
    drop(log);
    let key = place.path("keys").join(workspace().to_string().replace('/', "-") + ".key");
    // The fact is there, and its writer had no keyring: as if it had died before it destroyed the key.
    let (log, _) = place.try_open(&Options::default()).unwrap();
    append(&log, workspace(), Erased {}.into_fact()).await;
    drop(log);
    assert!(key.exists());
    let (log, seen) = place.open();
    assert!(!key.exists());
    assert!(shown(&seen[0]).contains(CANARY), "while it is read, the key is still there");
    assert!(shown(&log.read_all(Position(1), 1).await.unwrap()[0]).contains(ERASED));
    drop(log);
    assert!(shown(&place.open().1[0]).contains(ERASED));
}

#[tokio::test]
async fn what_was_recorded_in_the_clear_reads_as_before_and_is_hidden_once_erased() {
    let place = Place::new();
    let (log, _) = place.try_open(&Options::default()).unwrap();
    let old = append(&log, workspace(), RoleChanged { role: Some(CANARY.to_owned()) }.into_fact()).await;
    let hold = fleet::HoldSet {
        hold: covalence_events::HoldId::generate(),
        scope: fleet::Scope::Subtree(WorkspaceId("0190a0b0-c0d0-7e00-8f00-000000000001".parse().unwrap())),
        reason: CANARY.to_owned(),
        until: None,
        emergency: false,
    };
    append(&log, StreamId::Fleet, Fact::Fleet(hold.into())).await;
    drop(log);
    let (log, seen) = place.open();
    assert_eq!(seen[0], old);
    append(&log, workspace(), Erased {}.into_fact()).await;
    for event in log.read_all(Position(1), 10).await.unwrap() {
        assert!(!shown(&event).contains(CANARY), "{event:?}");
    }
}

#[tokio::test]
async fn segments_hold_what_is_sealed_and_stay_erased_when_restored() {
    let place = Place::new();
    let (log, _) = place.open();
    append_planted(&log).await;
    append(&log, workspace(), Erased {}.into_fact()).await;
    log.close().await;
    drop(log);
    let segments = Segments::directory(&place.path("segments")).unwrap();
    let closed = ClosedLog::open(&place.path("events")).unwrap();
    let mut cutter = Cutter::at(&closed, Position(0)).unwrap();
    cutter.fill(&closed, usize::MAX).unwrap();
    let segment = cutter.segment(&closed).unwrap().unwrap();
    segments.put(segment.name, segment.encode().unwrap()).await.unwrap();
    drop(closed);
    assert_eq!(place.files_with_canary(), Vec::<PathBuf>::new());
    let checked = check::check(&segments, &[], &[]).await.unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    assert!(checked.sealed > 30);
    restore(Some(&segments), &place.path("events"), Until::End, true).await.unwrap();
    let (log, seen) = place.open();
    assert!(seen.iter().any(|event| shown(event).contains(ERASED)));
    let verified = log.verify().await.unwrap();
    assert_eq!((verified.problems, verified.sealed), (vec![], 0));
}

/// A fact of a payload.
trait IntoFact {
    fn into_fact(self) -> Fact;
}

impl<T: Into<covalence_events::workspace::Event>> IntoFact for T {
    fn into_fact(self) -> Fact {
        Fact::Workspace(self.into())
    }
}
