//! Power cuts of a disk that drops, tears and reorders what was not synced: whatever was acknowledged is there, and every log opens.
//!
//! A log under load lies on a [file system of its own](crueldisk). At a seeded change of that file system the power goes; what
//! chance leaves of it is read on another one, and is what the next victim goes on with on the cruel disk, so that opening and
//! repairing are cut short as well. The same without the log's own sync has to lose something, or this test could not fail.
//!
//! Needs FUSE, and fails without. `COVALENCE_LOG_REORDERED_CUTS` sets the number of cuts, `COVALENCE_LOG_SEED` repeats a run as far as
//! the victim's threads come in the same order.
#![expect(clippy::print_stdout, clippy::panic, reason = "a test with a main of its own")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use covalence_events::log::sled::{Options, SledLog};
use covalence_events::{EventId, Position};
use tempfile::TempDir;

use crueldisk::{Image, Luck, Mounted, Tally};
use victim::{Found, Victim, append_for_ever, compare, knob, random, rolled};

#[expect(dead_code, reason = "its syncs are refused elsewhere")]
mod crueldisk;
mod victim;

/// Cuts where nothing else is said: what continuous integration has time for.
const CUTS: u64 = 30;
/// A fresh disk after so many cuts: both an empty and a filled log are cut.
const CUTS_PER_DISK: u64 = 6;
/// Changes until the power goes: a log is opened with some dozens.
const CHANGES_MAX: u64 = 1200;
/// The same for every fourth cut, which is meant for what opening does.
const CHANGES_OF_AN_OPEN: u64 = 100;
/// Without our sync something is lost within this many cuts.
const CUTS_UNSYNCED: u64 = 12;
/// The longest that a victim may take to use up its changes.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    victim::main(
        &[
            ("acknowledged_appends_survive_a_disk_that_drops_and_reorders_what_was_not_synced", cut_anywhere),
            ("a_log_that_is_being_rolled_and_archived_survives_such_a_disk_as_well", cut_while_rolling),
            ("without_our_sync_such_a_disk_loses_what_was_acknowledged", cut_without_our_sync),
        ],
        &[("child", child), ("rolling", rolling), ("unsynced", unsynced)],
    );
}

fn child(path: &Path) {
    append_for_ever(SledLog::open(path, &Options::default()).expect("the child opens the log").0);
}

fn rolling(path: &Path) {
    append_for_ever(SledLog::open(path, &rolled()).expect("the child opens the log").0);
}

fn unsynced(path: &Path) {
    append_for_ever(SledLog::open_unsynced(path, &Options::default()).expect("the child opens the log"));
}

/// A disk between two power cuts, and what it owes.
#[derive(Default)]
struct Owed {
    image: Image,
    acknowledged: BTreeMap<Position, EventId>,
}

/// What one cut came to.
struct Cut {
    /// Events that were acknowledged in this life.
    events: usize,
    /// Whether the log was open when the power went.
    opened: bool,
    tally: Tally,
    found: Found,
    /// Where what was left is laid out.
    dir: TempDir,
    /// What the victim said of errors.
    words: String,
}

/// One life and one cut, with a kill and a second life before it for every third seed: what the first one had not synced when it
/// died is neither lost nor safe when the second begins.
fn cut(owed: &mut Owed, kind: &str, changes: u64, seed: u64) -> Cut {
    let dir = memory();
    let words = dir.path().join("words");
    let mounted = Mounted::new(&owed.image);
    mounted.disk().cut_after(changes);
    let mut events = 0;
    if seed.is_multiple_of(3) {
        let mut victim = live(&mounted, kind, &words, seed % changes);
        let reported = victim.kill();
        events += reported.len();
        owed.acknowledged.extend(reported);
    }
    let mut victim = live(&mounted, kind, &words, 0);
    let reported = victim.kill();
    events += reported.len();
    owed.acknowledged.extend(reported);
    let opened = victim.is_ready();
    let mut luck = Luck::new(seed);
    owed.image = mounted.disk().after_power_cut(&mut luck);
    drop(mounted);
    let left = dir.path().join("left");
    owed.image.write_to(&left).expect("room for what is left");
    let found = compare(&left.join("log"), &owed.acknowledged);
    Cut { events, opened, tally: luck.tally(), found, dir, words: said(&words) }
}

/// Lets a victim live until the power goes, or until at most this many changes are left until then.
fn live(mounted: &Mounted, kind: &str, words: &Path, left: u64) -> Victim {
    let file = File::options().create(true).append(true).open(words).expect("a file for the victim's words");
    let mut victim = Victim::start(kind, &mounted.root().join("log"), file.into());
    let until = Instant::now() + PATIENCE;
    while !mounted.is_off_within(Duration::from_millis(2)) && mounted.disk().changes_left() > left {
        let ended = victim.process.try_wait().expect("the victim is a child");
        let ended_by_itself = ended.is_some() && !mounted.disk().is_off();
        assert!(!ended_by_itself, "the victim ended before the power did: {}", said(words));
        assert!(Instant::now() < until, "its changes have not come about: {}", said(words));
    }
    victim
}

/// A directory in memory, where there is such a thing: what is left need not survive another power cut.
fn memory() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a directory")
}

fn said(words: &Path) -> String {
    std::fs::read_to_string(words).unwrap_or_default()
}

fn cut_anywhere() {
    cut_again_and_again("child");
}

fn cut_while_rolling() {
    let archived = cut_again_and_again("rolling");
    assert!(archived > 0, "nothing was archived: there was nothing to interrupt");
}

/// Facts that were found in archives.
fn cut_again_and_again(kind: &str) -> u64 {
    let cuts = knob("COVALENCE_LOG_REORDERED_CUTS", CUTS);
    let mut seed = knob("COVALENCE_LOG_SEED", u64::from(std::process::id())) | 1;
    println!("{cuts} cuts, COVALENCE_LOG_SEED={seed}");
    let started = Instant::now();
    let (mut events, mut opening, mut repaired, mut mended, mut archived) = (0, 0, 0, 0, 0);
    let mut tally = Tally::default();
    let mut owed = Owed::default();
    for round in 0..cuts {
        if round % CUTS_PER_DISK == 0 {
            owed = Owed::default();
        }
        let most = if random(&mut seed).is_multiple_of(4) { CHANGES_OF_AN_OPEN } else { CHANGES_MAX };
        let changes = 1 + random(&mut seed) % most;
        let cut = cut(&mut owed, kind, changes, random(&mut seed));
        if let Some(wrong) = cut.found.wrong {
            panic!(
                "round {round}, after {changes} changes: {wrong}; what is left is in `{}`; {:?}; the victim said: {}",
                cut.dir.keep().display(),
                cut.tally,
                cut.words
            );
        }
        events += cut.events;
        opening += u64::from(!cut.opened);
        repaired += usize::from(cut.found.repaired);
        mended += usize::from(cut.found.mended);
        archived += cut.found.archived.0;
        tally += cut.tally;
    }
    println!(
        "{events} acknowledged events, {opening} cuts while opening, {repaired} torn ends cut, {mended} mended, {archived} read from archives, in {:.1?}; {tally:?}",
        started.elapsed()
    );
    assert!(events > 0, "the power was cut before anything was acknowledged");
    archived
}

fn cut_without_our_sync() {
    let mut seed = knob("COVALENCE_LOG_SEED", u64::from(std::process::id())) | 1;
    for round in 0..CUTS_UNSYNCED {
        let cut = cut(&mut Owed::default(), "unsynced", CHANGES_MAX, random(&mut seed));
        let wrong = cut.found.wrong.as_deref();
        println!("cut {round}: {} acknowledged, {}", cut.events, wrong.unwrap_or("nothing is wrong"));
        if wrong.is_some() {
            return;
        }
    }
    panic!("nothing was lost in {CUTS_UNSYNCED} cuts without our sync: the cuts are none");
}
