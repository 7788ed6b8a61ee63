//! `kill -9` at random instants: whatever was acknowledged is there, in order, with a sound chain.
//!
//! `COVALENCE_LOG_KILLS` sets the number of kills, `COVALENCE_LOG_SEED` repeats a run.
#![expect(clippy::print_stdout, clippy::panic, reason = "a test with a main of its own")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use covalence_events::log::sled::{Options, SledLog};
use tempfile::TempDir;

use victim::{Victim, append_for_ever, compare, knob, random, rolled};

mod victim;

/// Kills where nothing else is said: what continuous integration has time for.
const KILLS: u64 = 200;
/// A fresh log after so many kills, so that reading it stays quick.
const KILLS_PER_LOG: u64 = 10;
/// From the child's readiness to its death, at most: long enough for many commits and for sled's own flush.
const LIFE_MAX_MS: u64 = 100;

fn main() {
    victim::main(
        &[
            ("acknowledged_appends_survive_kills_at_random_instants", killed_anywhere),
            ("a_log_that_is_being_rolled_and_archived_survives_kills_as_well", killed_while_rolling),
        ],
        &[("child", child), ("rolling", rolling)],
    );
}

fn child(path: &Path) {
    append_for_ever(SledLog::open(path, &Options::default()).expect("the child opens the log").0);
}

fn rolling(path: &Path) {
    append_for_ever(SledLog::open(path, &rolled()).expect("the child opens the log").0);
}

fn killed_anywhere() {
    killed_again_and_again("child", KILLS);
}

fn killed_while_rolling() {
    let archived = killed_again_and_again("rolling", KILLS / 2);
    assert!(archived > 0, "nothing was archived: there was nothing to interrupt");
}

/// Facts that were found in archives.
fn killed_again_and_again(kind: &str, kills: u64) -> u64 {
    let kills = knob("COVALENCE_LOG_KILLS", kills);
    let mut seed = knob("COVALENCE_LOG_SEED", u64::from(std::process::id())) | 1;
    println!("{kills} kills, COVALENCE_LOG_SEED={seed}");
    let started = Instant::now();
    let (mut acknowledged, mut repaired, mut mended, mut archived) = (0, 0, 0, 0);
    let mut dir = TempDir::new().expect("a directory for the log");
    let mut expected = BTreeMap::new();
    for round in 0..kills {
        if round % KILLS_PER_LOG == 0 {
            dir = TempDir::new().expect("a directory for the log");
            expected.clear();
        }
        let path = dir.path().join("log");
        let mut victim = Victim::start(kind, &path, Stdio::inherit());
        assert!(victim.is_ready(), "the victim opens the log");
        // The instant of death is the point here, not a wait for something.
        std::thread::park_timeout(Duration::from_millis(random(&mut seed) % LIFE_MAX_MS));
        let reported = victim.kill();
        acknowledged += reported.len();
        expected.extend(reported);
        let found = compare(&path, &expected);
        if let Some(wrong) = found.wrong {
            panic!("round {round}: {wrong}");
        }
        repaired += usize::from(found.repaired);
        mended += usize::from(found.mended);
        archived += found.archived.0;
    }
    println!(
        "{acknowledged} acknowledged events, {repaired} torn ends cut, {mended} mended, {archived} read from archives, in {:.1?}",
        started.elapsed()
    );
    assert!(acknowledged > 0, "the children were killed before they did anything");
    archived
}
