//! Logs that earlier programs wrote, as they lay on the disk: they open, mean what they meant, and go on.
//!
//! `fixtures/databases/README.md` says how they were made. They are never made again, nor edited.
#![expect(clippy::unwrap_used, reason = "helpers of a test are tests too")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use covalence_events::keyring::Keyring;
use covalence_events::log::conformance::{event, stream, to};
use covalence_events::log::restore::{Until, restore};
use covalence_events::log::segments::{Place, check};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, EventLog as _, Expected};
use covalence_events::{Position, Recorded};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The store, by the commit that wrote it, and its archive's digest.
const STORE: (&str, &str) = ("db9e134", "28673ca695459ea39e04c473869aee7b6a51a8f4495d506f63dc0fd2c36fc674");

/// Segments and a checkpoint, likewise.
const SEGMENTS: (&str, &str) =
    ("48fd244", "aff7fe94b654bac950fc1d0e690f803e1c929e101878a6794c44d05cedd03748");

fn unpacked((name, digest): (&str, &str)) -> TempDir {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/databases/{name}.tar.zst"));
    let archive = fs::read(&path).unwrap();
    assert_eq!(blake3::hash(&archive).to_hex().as_str(), digest, "`{}` was edited", path.display());
    let dir = TempDir::new().unwrap();
    tar::Archive::new(zstd::Decoder::new(archive.as_slice()).unwrap()).unpack(dir.path()).unwrap();
    dir
}

/// What the program of then read, a fact a line.
fn written(dir: &Path) -> Vec<Value> {
    let lines = fs::read_to_string(dir.join("facts.ndjson")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn shown(event: &Recorded) -> Value {
    json!({
        "position": event.position, "stream": event.stream.to_string(), "version": event.version,
        "tag": event.fact.tag(), "meta": event.meta, "fact": event.fact.to_json(),
    })
}

fn options(dir: &Path) -> Options {
    Options { keys: Some(Arc::new(Keyring::open(&dir.join("keys"), None).unwrap())), ..Options::default() }
}

fn open(dir: &Path) -> (SledLog, Vec<Value>) {
    let mut seen = Vec::new();
    let (log, opened) =
        SledLog::open_with(&dir.join("events"), &options(dir), &mut |event| seen.push(shown(event))).unwrap();
    assert_eq!((opened.repaired, opened.accepted_loss, opened.high_water_missing), (None, None, false));
    (log, seen)
}

#[tokio::test]
async fn a_database_of_the_first_format_opens_and_goes_on() {
    let dir = unpacked(STORE);
    let written = written(dir.path());
    assert!(written.len() > 250, "{}", written.len());
    let chain = fs::read_to_string(dir.path().join("chain")).unwrap();
    let (log, seen) = open(dir.path());
    assert_eq!(seen, written);
    let verified = log.verify().await.unwrap();
    assert_eq!((verified.problems, verified.chain), (vec![], chain));

    let receipt =
        log.append(to(stream(), Expected::NoStream, vec![event("new")]), Ack::Durable).await.unwrap();
    assert_eq!(receipt.last(), Some(Position(written.len() as u64 + 1)));
    log.close().await;
    drop(log);
    let (log, seen) = open(dir.path());
    assert_eq!(seen[..written.len()], written);
    assert_eq!(seen.last(), Some(&shown(&receipt.events[0])));
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn segments_and_a_checkpoint_of_the_first_format_are_understood() {
    let dir = unpacked(SEGMENTS);
    let segments = Place::existing(&dir.path().join("segments")).unwrap();
    assert!(segments.segments().await.unwrap().len() > 2);
    let checked = check::check(&segments, &[], &[]).await.unwrap();
    assert_eq!((checked.problems, checked.checkpoints), (vec![], 1));
    let restored = restore(Some(&segments), &dir.path().join("events"), Until::End, false).await.unwrap();
    assert_eq!(restored.chain, fs::read_to_string(dir.path().join("chain")).unwrap());
    let (log, seen) = open(dir.path());
    assert_eq!(seen, written(dir.path()));
    let verified = log.verify().await.unwrap();
    assert_eq!((verified.problems, verified.checkpoints), (vec![], 1));
}
