//! Power cuts at random instants: whatever was acknowledged is there, and every log opens.
//!
//! A log under load lies on an ext4 file system of its own, on a loop device. At a random instant the writer is stopped, the file
//! system is shut down without writing its journal or any cached page (`EXT4_IOC_SHUTDOWN`), and mounted again: what was not
//! synced is gone, as after a power cut. What a real disk may do besides, reordering or dropping writes that it had taken before
//! a flush, is not simulated. The same without the log's own sync has to lose something, or this test could not fail.
//!
//! Needs root and loop devices. `COVALENCE_LOG_CUTS` sets the number of cuts, `COVALENCE_LOG_SEED` repeats a run.
#![expect(clippy::print_stdout, clippy::panic, reason = "a test with a main of its own")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use covalence_events::log::sled::{Options, SledLog};
use tempfile::TempDir;

use victim::{Found, Victim, append_for_ever, compare, knob, random, rolled};

mod victim;

/// Cuts where nothing else is said: what continuous integration has time for.
const CUTS: u64 = 20;
/// A fresh file system after so many cuts: both an empty and a filled log are cut.
const CUTS_PER_DISK: u64 = 4;
/// From the writer's readiness to the cut, at most: beyond sled's own flush, which comes every half second.
const LIFE_MAX_MS: u64 = 900;
/// Enough for some seconds of appends.
const DISK_BYTES: u64 = 256 << 20;
/// Without our sync something is lost within this many cuts.
const CUTS_UNSYNCED: u64 = 8;

/// `_IOR('X', 125, __u32)`, and the flag for: neither the journal nor data is written.
const SHUTDOWN: &str = r#"open(my $root, "<", $ARGV[0]) or die "open: $!";
my $flag = pack("L", 2);
ioctl($root, 0x8004587d, $flag) or die "shutdown: $!";"#;

fn main() {
    victim::main(
        &[
            ("acknowledged_appends_survive_power_cuts_at_random_instants", cut_anywhere),
            ("a_log_that_is_being_rolled_and_archived_survives_power_cuts_as_well", cut_while_rolling),
            ("without_our_sync_a_power_cut_loses_what_was_acknowledged", cut_without_our_sync),
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

/// A file system in a file. Unmounted when it goes out of scope, also after a failed assertion.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn new() -> Self {
        let disk = Self { dir: TempDir::new().expect("a directory") };
        let image = std::fs::File::create(disk.image()).expect("a file for the file system");
        image.set_len(DISK_BYTES).expect("room for the file system");
        run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(disk.image()));
        std::fs::create_dir(disk.root()).expect("a mount point");
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn log(&self) -> PathBuf {
        self.root().join("log")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.root()));
    }

    fn shut_down(&self) {
        run(Command::new("perl").args(["-e", SHUTDOWN]).arg(self.root()));
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(self.root()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.root()).output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} needs root and loop devices: {said}");
}

/// One life and one cut. How many events were acknowledged, and what is left of them all.
fn cut(
    disk: &Disk,
    kind: &str,
    life_ms: u64,
    acknowledged: &mut BTreeMap<covalence_events::Position, covalence_events::EventId>,
) -> (usize, Found) {
    let mut victim = Victim::start(kind, &disk.log(), Stdio::inherit());
    assert!(victim.is_ready(), "the victim opens the log");
    // The instant of the cut is the point here, not a wait for something.
    std::thread::park_timeout(Duration::from_millis(life_ms));
    run(Command::new("kill").args(["-STOP", &victim.process.id().to_string()]));
    disk.shut_down();
    let reported = victim.kill();
    disk.unmount();
    disk.mount();
    let count = reported.len();
    acknowledged.extend(reported);
    (count, compare(&disk.log(), acknowledged))
}

fn cut_anywhere() {
    cut_again_and_again("child");
}

fn cut_while_rolling() {
    cut_again_and_again("rolling");
}

fn cut_again_and_again(kind: &str) {
    let cuts = knob("COVALENCE_LOG_CUTS", CUTS);
    let mut seed = knob("COVALENCE_LOG_SEED", u64::from(std::process::id())) | 1;
    println!("{cuts} power cuts, COVALENCE_LOG_SEED={seed}");
    let started = Instant::now();
    let (mut events, mut repaired, mut mended, mut archived) = (0, 0, 0, 0);
    let (mut disk, mut acknowledged) = (Disk::new(), BTreeMap::new());
    for round in 0..cuts {
        if round > 0 && round % CUTS_PER_DISK == 0 {
            disk = Disk::new();
            acknowledged.clear();
        }
        let (count, found) = cut(&disk, kind, random(&mut seed) % LIFE_MAX_MS, &mut acknowledged);
        if let Some(wrong) = found.wrong {
            panic!("round {round}: {wrong}");
        }
        events += count;
        repaired += usize::from(found.repaired);
        mended += usize::from(found.mended);
        archived += found.archived.0;
    }
    println!(
        "{events} acknowledged events, {repaired} torn ends cut, {mended} mended, {archived} read from archives, in {:.1?}",
        started.elapsed()
    );
    assert!(events > 0, "the power was cut before anything was acknowledged");
}

fn cut_without_our_sync() {
    for round in 0..CUTS_UNSYNCED {
        let disk = Disk::new();
        // On a loaded machine the first lives may end before anything is acknowledged.
        let (count, found) = cut(&disk, "unsynced", LIFE_MAX_MS * (round + 1), &mut BTreeMap::new());
        println!(
            "cut {round}: {count} acknowledged, {}",
            found.wrong.as_deref().unwrap_or("nothing is wrong")
        );
        if found.wrong.is_some() {
            return;
        }
    }
    panic!("nothing was lost in {CUTS_UNSYNCED} cuts without our sync: the cuts are none");
}
