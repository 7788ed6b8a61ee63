//! A bit that flipped and a file that is missing, of every kind of file that a log has, while nobody has it open.
//!
//! Either it opens with every fact as it was, or it says what is wrong and where. It never opens with less, never panics, and what a
//! restore then brings back is everything that is still intact in the files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of a test are tests too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use covalence_events::keyring::Keyring;
use covalence_events::log::conformance::{event, stream, to};
use covalence_events::log::restore::{Until, restore};
use covalence_events::log::segments::Place;
use covalence_events::log::segments::export::{Exporter, Rules};
use covalence_events::log::sled::{ClosedLog, Options, SledLog};
use covalence_events::log::{Ack, EventLog as _, Expected, Frames as _};
use covalence_events::{Position, Recorded};
use tempfile::TempDir;

/// Facts of one append.
const APPEND: usize = 3;
/// Bits that are flipped in a database, spread over what is written of it.
const FLIPS_OF_A_DATABASE: usize = 24;
/// The same for any other file.
const FLIPS: usize = 2;
/// Files of one kind that are damaged.
const FILES_OF_A_KIND: usize = 2;

/// A log with archive, store, large payloads, keys, checkpoints and segments; what came last is in no segment.
struct Home {
    dir: TempDir,
    facts: Vec<Arc<Recorded>>,
}

impl Home {
    async fn filled() -> Self {
        let dir = TempDir::new().unwrap();
        let place = Place::directory(&dir.path().join("segments")).unwrap();
        for (exported, appends) in [(true, 40), (false, 25)] {
            let (log, _) = SledLog::open(&dir.path().join("events"), &options(dir.path())).unwrap();
            let rules = Rules { every: Duration::from_secs(3600), ..Rules::default() };
            let place = exported.then(|| place.clone());
            let parts = (log.frames().unwrap(), log.watch());
            let exporting =
                tokio::spawn(Exporter::new(parts, log.checkpoints(), place, rules).unwrap().run());
            let ours = stream();
            for n in 0..appends {
                let text = if n % 9 == 0 { format!("large {n} ").repeat(2000) } else { format!("fact {n}") };
                let events = (0..APPEND).map(|_| event(&text)).collect();
                log.append(to(ours, Expected::Any, events), Ack::Durable).await.unwrap();
            }
            log.settle().await;
            log.close().await;
            exporting.await.unwrap();
        }
        let facts = open(dir.path()).unwrap();
        assert_eq!(facts.len(), 65 * APPEND);
        Self { dir, facts }
    }

    /// A copy of it all.
    fn copy(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        for (path, bytes) in files(self.dir.path()) {
            let to = copy.path().join(path.strip_prefix(self.dir.path()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, bytes).unwrap();
        }
        for name in ["events/quarantine", "events/blobs"] {
            fs::create_dir_all(copy.path().join(name)).unwrap();
        }
        copy
    }

    /// The frames of each position.
    fn frames(&self) -> Vec<Vec<u8>> {
        let log = ClosedLog::open(&self.dir.path().join("events")).unwrap();
        let read = |n: usize| log.frames(Position(n as u64), 1).unwrap();
        (1..=self.facts.len()).map(|n| first_frame(&read(n))).collect()
    }
}

/// The first of whole frames: its length stands before it.
fn first_frame(frames: &[u8]) -> Vec<u8> {
    let length = u32::from_be_bytes(*frames.first_chunk().unwrap()) as usize;
    frames[..8 + length].to_vec()
}

fn options(home: &Path) -> Options {
    let keys = Keyring::open(&home.join("keys"), None).unwrap();
    Options { keys: Some(Arc::new(keys)), roll_events: Some(60), ..Options::default() }
}

/// Every fact, as a start would see them.
fn open(home: &Path) -> Result<Vec<Arc<Recorded>>, String> {
    let keys = Keyring::open(&home.join("keys"), None).map_err(|error| in_full(&error))?;
    let options = Options { keys: Some(Arc::new(keys)), roll_events: None, ..Options::default() };
    let mut seen = Vec::new();
    let opened = SledLog::open_with(&home.join("events"), &options, &mut |fact| seen.push(Arc::clone(fact)));
    opened.map(|_| seen).map_err(|error| in_full(&error))
}

fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn files(of: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// What a file is, for choosing some of each kind.
fn kind(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let name = parts.last().unwrap();
    let end = name.split(['-', '.']).next().unwrap();
    match &*parts[0] {
        "events" if parts.len() > 2 && parts[1] == "blobs" => "blob".to_owned(),
        "events" if parts.len() > 2 && parts[1] == "archive" => format!("archive {end}"),
        "events" if parts.len() > 2 => format!("store {end}"),
        "keys" => format!("keys {}", name.split('-').next().unwrap()),
        _ => path.display().to_string(),
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Missing,
    /// One bit of the byte at this offset.
    Flipped(usize),
}

impl Damage {
    fn of(kind: &str, bytes: &[u8]) -> Vec<Self> {
        let flips = if kind == "store db" { FLIPS_OF_A_DATABASE } else { FLIPS };
        // A database is mostly room that was never written, where nothing can be damaged.
        let written: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        let spread = (0..flips).filter_map(|n| written.get(written.len() * (2 * n + 1) / (2 * flips)));
        spread.map(|&at| Self::Flipped(at)).chain([Self::Missing]).collect()
    }

    fn inflict(self, path: &Path) {
        match self {
            Self::Missing => fs::remove_file(path).unwrap(),
            Self::Flipped(at) => {
                let mut bytes = fs::read(path).unwrap();
                bytes[at] ^= 1 << (at % 8);
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

/// Whether a whole append is in what the databases hold, byte for byte, from this position on.
fn is_held(left: &Path, frames: &[Vec<u8>], from: usize) -> bool {
    let stores: Vec<_> = files(left)
        .into_iter()
        .filter(|(path, _)| path.file_name().is_some_and(|name| name == "db"))
        .map(|(_, bytes)| bytes)
        .collect();
    let append = frames.iter().skip(from).take(APPEND);
    append.len() > 0
        && append.clone().all(|frame| {
            stores.iter().any(|store| store.windows(frame.len()).any(|window| window == frame.as_slice()))
        })
}

/// Restores, and checks that what came back is what was there, and all that the databases still hold.
async fn check_restore(home: &Home, frames: &[Vec<u8>], damaged: &TempDir, from: Option<&Place>, case: &str) {
    let log = damaged.path().join("events");
    let restored = match restore(from, &log, Until::End, true).await {
        Ok(restored) => restored,
        Err(error) => panic!("{case}: nothing is restored: {}", in_full(&error)),
    };
    let seen = open(damaged.path()).unwrap_or_else(|error| panic!("{case}: restored, it says {error}"));
    assert_eq!(seen, home.facts[..seen.len()], "{case}: what came back is not what was there");
    assert_eq!(seen.len() as u64, restored.head.0);
    let left = restored.moved_to.unwrap();
    let all = seen.len() == home.facts.len();
    if !all && !names_a_blob(case) {
        assert!(!is_held(&left, frames, seen.len()), "{case}: position {} is still there", seen.len() + 1);
    }
    if all {
        assert_eq!(restored.missing, None, "{case}");
    }
}

/// A large payload that is gone takes its append with it, whose frames are all there.
fn names_a_blob(case: &str) -> bool {
    case.contains("events/blobs/")
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_said_and_what_is_intact_comes_back() {
    let home = Home::filled().await;
    let frames = home.frames();
    let mut kinds: BTreeMap<String, (usize, usize, usize)> = BTreeMap::new();
    for (path, bytes) in files(home.dir.path()) {
        let path = path.strip_prefix(home.dir.path()).unwrap().to_owned();
        let kind = kind(&path);
        let counts = kinds.entry(kind.clone()).or_default();
        if path.starts_with("segments") || path.ends_with("LOCK") || counts.0 == FILES_OF_A_KIND {
            continue;
        }
        counts.0 += 1;
        for damage in Damage::of(&kind, &bytes) {
            let damaged = home.copy();
            damage.inflict(&damaged.path().join(&path));
            let case = format!("`{}` ({kind}), {damage:?}", path.display());
            match open(damaged.path()) {
                Ok(seen) => {
                    kinds.get_mut(&kind).unwrap().1 += 1;
                    assert_eq!(seen.len(), home.facts.len(), "{case}: it opens with less");
                    assert_eq!(seen, home.facts, "{case}: it opens with something else");
                }
                Err(words) => {
                    kinds.get_mut(&kind).unwrap().2 += 1;
                    assert!(words.contains(&*damaged.path().to_string_lossy()), "{case}: {words}");
                    if path.starts_with("keys") {
                        // Segments have no keys; it is theirs that have to come back.
                        continue;
                    }
                    assert!(open(damaged.path()).is_err(), "{case}: a second start makes nothing of it");
                    let place = Place::existing(&damaged.path().join("segments")).unwrap();
                    check_restore(&home, &frames, &damaged, Some(&place), &case).await;
                    let again = home.copy();
                    damage.inflict(&again.path().join(&path));
                    open(again.path()).unwrap_err();
                    if !path.starts_with("events/archive") {
                        check_restore(&home, &frames, &again, None, &case).await;
                    }
                }
            }
        }
    }
    for (kind, (files, opened, refused)) in &kinds {
        println!("{kind:40} {files} files, opened whole {opened}, refused {refused}");
    }
    for kind in ["store db", "archive table", "archive seg", "blob", "events/high-water"] {
        assert!(kinds.contains_key(kind), "no file of the kind `{kind}` was damaged: {kinds:?}");
    }
    let (_, harmless, noticed) = kinds["store db"];
    assert!(noticed > harmless, "most bits of a database that flipped did not matter: they hit nothing");
}
