//! A log whose database is whole, and what sled keeps beside it is not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Place, TempDir, event, one, stream, to};
use crate::id::Position;
use crate::log::sled::{ClosedLog, Mended, Options, SledLog};
use crate::log::{Ack, EventLog as _, Expected, OpenError};

/// The beginning of a file's name, whether sled always stumbles over it, and what happens to it.
type Damage<'a> = (&'a str, bool, &'a dyn Fn(&Path));

/// A log of 40 facts that was opened twice, so that it has a snapshot which says something.
async fn filled() -> Place {
    let place = Place::new();
    place.filled(&[5, 20, 5]).await;
    place.filled(&[10]).await;
    assert_eq!(files(&place, "snap.").len(), 1);
    place
}

/// Files of the store whose names begin like this.
fn files(place: &Place, begin: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path().join("store")).unwrap().map(|entry| entry.unwrap());
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(begin));
    named.map(|entry| entry.path()).collect()
}

fn snapshot(place: &Place) -> PathBuf {
    files(place, "snap.").remove(0)
}

/// All bytes below a directory, with the time at which each file was changed.
fn contents(of: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let changed = path.metadata().unwrap().modified().unwrap();
            found.insert(path.clone(), (fs::read(&path).unwrap(), changed));
        }
    }
    found
}

/// The facts that a start would see, in their order and once each, and what was mended.
fn start(place: &Place) -> Result<(Vec<u64>, Option<Mended>), OpenError> {
    let mut seen = Vec::new();
    let (_, opened) =
        SledLog::open_with(&place.path(), &Options::default(), &mut |event| seen.push(event.position.0))?;
    Ok((seen, opened.mended))
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_snapshot_that_was_never_finished_is_none() {
    for garbage in ["", "not a snapshot, and longer than its checksum"] {
        let place = filled().await;
        fs::write(place.path().join("store/snap.00000000FFFFFFFF.generating"), garbage).unwrap();
        assert_eq!(start(&place).unwrap(), ((1..=40).collect(), None));
        assert_eq!(files(&place, "snap.").len(), 1, "it is gone");
    }
}

#[tokio::test]
async fn what_sled_keeps_beside_its_file_is_set_aside_if_it_keeps_the_log_from_opening() {
    let other = filled().await;
    one(&other.open().0, Ack::Durable).await.unwrap();
    let foreign = fs::read(snapshot(&other)).unwrap();
    // What a snapshot says of another log's pages may happen to do no harm.
    let damages: [Damage<'_>; 6] = [
        ("snap.", true, &flip_a_bit),
        ("snap.", true, &|path| fs::write(path, "").unwrap()),
        ("snap.", true, &|path| fs::write(path.with_extension("FFFFFFFFFFFF"), "a newer one").unwrap()),
        ("snap.", false, &|path| fs::write(path, &foreign).unwrap()),
        ("conf", true, &flip_a_bit),
        ("conf", true, &|path| fs::write(path, "n0t a configuration of sled's at all").unwrap()),
    ];
    for (number, (file, always, damage)) in damages.into_iter().enumerate() {
        let place = filled().await;
        damage(&files(&place, file)[0]);
        let before = contents(&place.path());
        let verified = ClosedLog::open(&place.path()).unwrap().verify().unwrap();
        assert_eq!((verified.events, verified.head), (40, Position(40)), "damage {number}");
        assert_eq!(contents(&place.path()), before, "damage {number}: to look changes nothing");

        let (seen, mended) = start(&place).unwrap();
        assert_eq!(seen, (1..=40).collect::<Vec<_>>(), "damage {number}");
        assert!(mended.is_some() || !always, "damage {number} went unnoticed");
        if let Some(mended) = mended {
            assert!(mended.reason.contains("store"), "{}", mended.reason);
            let kept: Vec<_> =
                mended.set_aside.iter().map(|path| path.strip_prefix(place.path()).unwrap()).collect();
            let wanted = format!("quarantine/store-{file}");
            assert!(kept.iter().any(|path| path.to_string_lossy().starts_with(&wanted)), "{kept:?}");
            assert!(mended.set_aside.iter().all(|path| path.exists()));
        }
        if always {
            assert!(matches!(&verified.problems[..], [problem] if problem.contains("store")));
        }
        let (log, opened) = place.open();
        assert_eq!(opened.mended, None, "damage {number}: once is enough");
        assert_eq!(one(&log, Ack::Durable).await.unwrap().last(), Some(Position(41)));
        assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
        let left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    }
}

#[tokio::test]
async fn without_a_snapshot_or_a_configuration_the_log_opens_as_with_them() {
    let place = filled().await;
    fs::remove_file(snapshot(&place)).unwrap();
    fs::remove_file(place.path().join("store/conf")).unwrap();
    assert_eq!(start(&place).unwrap(), ((1..=40).collect(), None));
}

#[tokio::test]
async fn nothing_is_set_aside_where_it_would_not_help() {
    let place = filled().await;
    flip_a_bit(&snapshot(&place));
    fs::remove_file(place.path().join("store/db")).unwrap();
    fs::write(place.path().join("store/db"), "").unwrap();
    for _ in 0..2 {
        assert!(start(&place).is_err());
        assert_eq!(fs::read_dir(place.path().join("quarantine")).unwrap().count(), 0);
        assert!(!files(&place, "snap.").is_empty());
    }
}

#[tokio::test]
async fn to_look_into_a_log_changes_no_byte_and_no_time_of_it() {
    let place = filled().await;
    let (log, _) = place.open();
    log.append(to(stream(), Expected::Any, vec![event(&"x".repeat(20_000))]), Ack::Durable).await.unwrap();
    // As a crash leaves it, with work for the next start.
    let crashed = TempDir::new().unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(place.path()).arg(crashed.path()).status();
    assert!(copied.unwrap().success());
    drop(log);
    for log in [place.path(), crashed.path().join("log")] {
        let before = contents(&log);
        let closed = ClosedLog::open(&log).unwrap();
        assert_eq!(closed.verify().unwrap().problems, Vec::<String>::new());
        assert!(
            matches!(SledLog::open(&log, &Options::default()), Err(OpenError::Locked { .. })),
            "it is held"
        );
        drop(closed);
        assert_eq!(contents(&log), before);
    }
}
