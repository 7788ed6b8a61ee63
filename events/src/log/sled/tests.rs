//! What the store does when the disk, a predecessor or somebody with an editor did not play along.

use std::fs;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::read::payload;
use super::store::guarded;
use super::*;
use crate::envelope::NewEvent;
use crate::log::Expected;
use crate::log::conformance::{event, stream, to};
use crate::log::frame::{self, Frame};

mod mending;
mod retention;
mod rolling;
mod running;

const PATIENCE: Duration = Duration::from_secs(30);

/// A disk whose flushes wait or fail as a test likes.
#[derive(Debug, Default)]
struct TestDisk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct DiskState {
    held: bool,
    fails: bool,
    /// Instead of what is.
    free: Option<u64>,
    waiting: u32,
}

impl TestDisk {
    fn set(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_until_a_flush_waits(&self) {
        let state = self.state.lock().unwrap();
        let (_state, timeout) =
            self.changed.wait_timeout_while(state, PATIENCE, |state| state.waiting == 0).unwrap();
        assert!(!timeout.timed_out(), "the writer never came to flush");
    }
}

impl Disk for TestDisk {
    fn sync(&self, file: &fs::File) -> std::io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.held).unwrap();
        state.waiting -= 1;
        if state.fails {
            return Err(std::io::Error::other("no flush today"));
        }
        file.sync_data()
    }

    fn free_bytes(&self, path: &Path) -> std::io::Result<u64> {
        let free = self.state.lock().unwrap().free;
        free.map_or_else(|| RealDisk.free_bytes(path), Ok)
    }
}

struct Place {
    dir: TempDir,
    disk: Arc<TestDisk>,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), disk: Arc::default() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn try_open(&self, options: &Options) -> Result<(SledLog, Opened), OpenError> {
        let disk: Arc<dyn Disk> = Arc::<TestDisk>::clone(&self.disk);
        SledLog::open_on(disk, &self.path(), options, None)
    }

    fn open(&self) -> (SledLog, Opened) {
        self.try_open(&Options::default()).unwrap()
    }

    fn open_error(&self) -> OpenError {
        self.try_open(&Options::default()).unwrap_err()
    }

    /// A closed log with one append per given number of events.
    async fn filled(&self, appends: &[usize]) {
        let (log, _) = self.open();
        for &count in appends {
            let events = (0..count).map(|n| event(&format!("fact {n} {}", "x".repeat(300)))).collect();
            log.append(to(stream(), Expected::Any, events), Ack::Durable).await.unwrap();
        }
        log.close().await;
    }

    /// Changes the chunks of a closed log behind its back.
    fn tamper(&self, change: impl FnOnce(&::sled::Tree)) {
        let db = ::sled::open(self.path().join("store")).unwrap();
        change(&db.open_tree("chunks").unwrap());
        guarded(|| db.flush()).unwrap();
    }

    fn forget_high_water(&self) {
        fs::remove_file(self.path().join("high-water")).unwrap();
    }
}

fn flip_last_byte(tree: &::sled::Tree, key: &::sled::IVec) {
    let mut bytes = tree.get(key).unwrap().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    tree.insert(key, bytes).unwrap();
}

fn one(log: &SledLog, ack: Ack) -> Appending {
    log.append(to(stream(), Expected::NoStream, vec![event("one")]), ack)
}

#[tokio::test]
async fn a_full_queue_is_busy_at_once_and_takes_nothing() {
    let place = Place::new();
    let (log, _) = place.open();
    place.disk.set(|disk| disk.held = true);
    let mut waiting = vec![one(&log, Ack::Durable)];
    place.disk.wait_until_a_flush_waits();
    waiting.extend((0..QUEUE_APPENDS_MAX).map(|_| one(&log, Ack::Durable)));
    assert!(matches!(one(&log, Ack::Durable).await, Err(AppendError::Busy)));
    assert!(matches!(one(&log, Ack::Accepted).await, Err(AppendError::Busy)));
    place.disk.set(|disk| disk.held = false);
    for append in waiting {
        append.await.unwrap();
    }
    assert_eq!(log.head().0, QUEUE_APPENDS_MAX as u64 + 1);
    one(&log, Ack::Durable).await.unwrap();
}

#[tokio::test]
async fn many_bytes_fill_the_queue_as_well_as_many_appends() {
    let place = Place::new();
    let (log, _) = place.open();
    place.disk.set(|disk| disk.held = true);
    let mut waiting = vec![one(&log, Ack::Durable)];
    place.disk.wait_until_a_flush_waits();
    let big = |log: &SledLog| {
        let large = event(&"x".repeat(QUEUE_BYTES_MAX / 4));
        log.append(to(stream(), Expected::Any, vec![large]), Ack::Durable)
    };
    waiting.extend((0..3).map(|_| big(&log)));
    assert!(matches!(big(&log).await, Err(AppendError::Busy)));
    place.disk.set(|disk| disk.held = false);
    for append in waiting {
        append.await.unwrap();
    }
}

#[tokio::test]
async fn an_accepted_append_is_answered_before_the_flush_and_seen_after_it() {
    let place = Place::new();
    let (log, _) = place.open();
    place.disk.set(|disk| disk.held = true);
    let receipt = one(&log, Ack::Accepted).await.unwrap();
    assert_eq!(receipt.last(), Some(Position(1)));
    assert_eq!(log.head(), Position(0));
    assert!(log.read_all(Position(1), 10).await.unwrap().is_empty());
    assert_eq!(log.find(receipt.events[0].meta.id).await.unwrap(), None);
    place.disk.set(|disk| disk.held = false);
    let mut watch = log.watch();
    tokio::time::timeout(PATIENCE, watch.wait_for(|head| head.0 == 1)).await.unwrap().unwrap();
    assert_eq!(log.read_all(Position(1), 10).await.unwrap(), receipt.events);
}

#[tokio::test]
async fn a_failed_flush_makes_the_log_read_only_for_good() {
    let place = Place::new();
    let (log, _) = place.open();
    one(&log, Ack::Durable).await.unwrap();
    place.disk.set(|disk| (disk.held, disk.fails) = (true, true));
    let waiting = [one(&log, Ack::Durable), one(&log, Ack::Durable), one(&log, Ack::Durable)];
    place.disk.set(|disk| disk.held = false);
    for append in waiting {
        assert!(matches!(append.await, Err(AppendError::ReadOnly(_))));
    }
    place.disk.set(|disk| disk.fails = false);
    let error = one(&log, Ack::Durable).await.unwrap_err().to_string();
    assert!(error.contains("no flush today"), "{error}");
    let read_only = log.read_only().unwrap();
    assert!(read_only.reason.contains("no flush today") && !read_only.passes, "{read_only:?}");
    assert_eq!(log.read_all(Position(1), 10).await.unwrap().len(), 1, "reads go on");
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
    drop(log);
    let (log, opened) = place.open();
    assert!(opened.head >= Position(1));
    one(&log, Ack::Durable).await.unwrap();
}

#[tokio::test]
async fn little_space_stops_writing_and_says_so() {
    let place = Place::new();
    place.filled(&[2]).await;
    let options = Options { reserve_bytes: u64::MAX, ..Options::default() };
    let (log, _) = place.try_open(&options).unwrap();
    assert!(log.read_only().unwrap().reason.contains("low space"));
    assert!(matches!(one(&log, Ack::Durable).await, Err(AppendError::ReadOnly(_))));
    assert_eq!(log.read_all(Position(1), 10).await.unwrap().len(), 2);
}

/// Scenario 35: a second platform on the same data directory does not even begin.
#[tokio::test]
async fn a_second_opener_learns_who_holds_the_log() {
    let place = Place::new();
    let (log, _) = place.open();
    let pid = format!("process {}", std::process::id());
    for error in [place.open_error(), ClosedLog::open(&place.path()).unwrap_err()] {
        assert!(matches!(&error, OpenError::Locked { holder, .. } if holder.contains(&pid)), "{error}");
    }
    drop(log);
    place.open();
}

#[tokio::test]
async fn a_store_whose_last_holder_is_still_letting_go_is_waited_for() {
    let place = Place::new();
    place.filled(&[10]).await;
    let remnant = fs::File::open(place.path().join("store/db")).unwrap();
    while remnant.try_lock().is_err() {
        std::thread::yield_now();
    }
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(remnant);
    });
    let (_log, opened) = place.open();
    assert!(opened.head > Position(0));
    letting_go.join().unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let place = Place::new();
    place.filled(&[1]).await;
    fs::write(place.path().join("format"), "99\n").unwrap();
    assert!(matches!(place.open_error(), OpenError::NewerFormat { found: 99, known: FORMAT, .. }));
}

#[tokio::test]
async fn a_log_that_lost_acknowledged_facts_is_opened_only_when_told_to() {
    let place = Place::new();
    place.filled(&[3, 2]).await;
    fs::remove_dir_all(place.path().join("store")).unwrap();
    let lost = place.open_error();
    assert!(matches!(lost, OpenError::Lost { head: Position(0), high_water: Position(5), .. }), "{lost}");
    let options = Options { accept_loss: true, ..Options::default() };
    let (log, opened) = place.try_open(&options).unwrap();
    assert_eq!(opened.accepted_loss, Some(Position(5)));
    one(&log, Ack::Durable).await.unwrap();
    drop(log);
    assert_eq!(place.open().1.head, Position(1), "accepted once, it is over");
}

#[tokio::test]
async fn a_missing_or_garbled_high_water_mark_is_reported_and_written_anew() {
    let place = Place::new();
    place.filled(&[3]).await;
    for garbled in [None, Some(&b"not a mark at all"[..])] {
        place.forget_high_water();
        if let Some(garbled) = garbled {
            fs::write(place.path().join("high-water"), garbled).unwrap();
        }
        assert!(place.open().1.high_water_missing);
        assert!(!place.open().1.high_water_missing);
    }
}

#[tokio::test]
async fn a_torn_end_is_cut_and_kept_aside() {
    let place = Place::new();
    place.filled(&[2, 1, 1]).await;
    place.tamper(|tree| flip_last_byte(tree, &tree.last().unwrap().unwrap().0));
    place.forget_high_water();
    let mut seen = Vec::new();
    let (log, opened) =
        SledLog::open_with(&place.path(), &Options::default(), &mut |event| seen.push(event.position.0))
            .unwrap();
    let repair = opened.repaired.unwrap();
    assert_eq!((repair.kept, repair.reason.as_str()), (Position(3), "checksum differs"));
    assert_eq!(fs::metadata(&repair.quarantined).unwrap().len(), repair.cut_bytes);
    assert_eq!(seen, [1, 2, 3], "what is cut is not shown");
    assert_eq!(one(&log, Ack::Durable).await.unwrap().last(), Some(Position(4)));
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
    drop(log);
    let opened = place.open().1;
    assert_eq!((opened.head, opened.repaired), (Position(4), None));
}

#[tokio::test]
async fn an_append_is_cut_as_a_whole_even_if_it_spans_chunks() {
    let place = Place::new();
    place.filled(&[2, 100]).await;
    place.tamper(|tree| {
        assert!(tree.len() > 5, "the second append spans chunks");
        flip_last_byte(tree, &tree.last().unwrap().unwrap().0);
    });
    place.forget_high_water();
    let (log, opened) = place.open();
    assert_eq!(opened.repaired.unwrap().kept, Position(2));
    assert_eq!(log.verify().await.unwrap().events, 2);
    drop(log);
    assert_eq!(place.open().1.head, Position(2));
}

#[tokio::test]
async fn appends_before_a_torn_one_in_the_same_chunk_are_kept() {
    let place = Place::new();
    {
        // Held back at first, so that all of these go into one commit and, being small, one chunk.
        let (log, _) = place.open();
        place.disk.set(|disk| disk.held = true);
        let first = one(&log, Ack::Durable);
        place.disk.wait_until_a_flush_waits();
        let together = [one(&log, Ack::Durable), one(&log, Ack::Durable), one(&log, Ack::Durable)];
        place.disk.set(|disk| disk.held = false);
        first.await.unwrap();
        for append in together {
            append.await.unwrap();
        }
    }
    place.tamper(|tree| {
        assert_eq!(tree.len(), 2);
        flip_last_byte(tree, &tree.last().unwrap().unwrap().0);
    });
    place.forget_high_water();
    let (log, opened) = place.open();
    assert_eq!(opened.repaired.unwrap().kept, Position(3));
    assert_eq!(one(&log, Ack::Durable).await.unwrap().last(), Some(Position(4)));
    drop(log);
    let opened = place.open().1;
    assert_eq!((opened.head, opened.repaired), (Position(4), None));
}

#[tokio::test]
async fn damage_to_an_acknowledged_end_is_a_loss_and_changes_nothing() {
    let place = Place::new();
    place.filled(&[1, 1, 1]).await;
    place.tamper(|tree| flip_last_byte(tree, &tree.last().unwrap().unwrap().0));
    for _ in 0..2 {
        let lost = place.open_error();
        assert!(matches!(lost, OpenError::Lost { head: Position(2), high_water: Position(3), .. }), "{lost}");
    }
    let problems = ClosedLog::open(&place.path()).unwrap().verify().unwrap().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(fs::read_dir(place.path().join("quarantine")).unwrap().next().is_none());
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_is_damage_and_is_never_cut() {
    let place = Place::new();
    place.filled(&[1, 1, 1]).await;
    place.tamper(|tree| flip_last_byte(tree, &2_u64.to_be_bytes().as_slice().into()));
    for _ in 0..2 {
        let error = place.open_error();
        assert!(matches!(error, OpenError::Damaged { position: Position(2), .. }), "{error}");
    }
    let verified = ClosedLog::open(&place.path()).unwrap().verify().unwrap();
    assert!(verified.problems[0].starts_with("position 2: checksum differs"), "{:?}", verified.problems);
    assert_eq!(verified.head, Position(3), "it goes on behind the damage");
}

#[tokio::test]
async fn a_missing_chunk_is_damage() {
    for gone in [1_u64, 2] {
        let place = Place::new();
        place.filled(&[1, 1, 1]).await;
        place.tamper(|tree| {
            tree.remove(gone.to_be_bytes()).unwrap();
        });
        let error = place.open_error();
        assert!(matches!(error, OpenError::Damaged { position, .. } if position.0 == gone), "{error}");
    }
}

#[tokio::test]
async fn a_rewritten_fact_with_a_good_checksum_breaks_the_chain() {
    let place = Place::new();
    place.filled(&[1, 1, 1]).await;
    place.tamper(|tree| {
        let key = 2_u64.to_be_bytes();
        let mut bytes = tree.get(key).unwrap().unwrap().to_vec();
        // The version's last byte stays; the event's id changes, and the checksum is made to fit.
        bytes[50] ^= 1;
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        tree.insert(key, bytes).unwrap();
    });
    let error = place.open_error();
    assert!(
        matches!(&error, OpenError::Damaged { position: Position(2), reason, .. } if reason == "the chain is broken"),
        "{error}"
    );
}

#[tokio::test]
async fn a_changed_or_missing_large_payload_is_noticed() {
    let place = Place::new();
    let (log, _) = place.open();
    log.append(to(stream(), Expected::Any, vec![event(&"x".repeat(10_000))]), Ack::Durable).await.unwrap();
    log.close().await;
    drop(log);
    let folder = fs::read_dir(place.path().join("blobs")).unwrap().next().unwrap().unwrap().path();
    let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let damage: [&dyn Fn(); 2] = [&|| fs::write(&file, "y").unwrap(), &|| fs::remove_file(&file).unwrap()];
    for damage in damage {
        damage();
        let (log, _) = place.open();
        assert!(matches!(log.read_all(Position(1), 1).await, Err(ReadError::Store { .. })));
        assert_eq!(log.verify().await.unwrap().problems.len(), 1);
        drop(log);
        let visited = SledLog::open_with(&place.path(), &Options::default(), &mut |_| {});
        assert!(matches!(visited, Err(OpenError::Damaged { position: Position(1), .. })));
    }
}

#[tokio::test]
async fn garbage_in_the_stores_file_is_an_error_and_never_a_panic_or_an_empty_log() {
    let place = Place::new();
    place.filled(&[5; 20]).await;
    let file = place.path().join("store/db");
    let mut bytes = fs::read(&file).unwrap();
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(n * 31 % 251).unwrap();
    }
    fs::write(&file, bytes).unwrap();
    let error = place.open_error();
    assert!(matches!(error, OpenError::Store { .. } | OpenError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn any_flipped_bit_of_a_frame_is_noticed() {
    let place = Place::new();
    let new = event("text");
    let mut draft = frame::Draft::new(stream(), &new, new.fact.encode().unwrap());
    let mut bytes = Vec::new();
    draft.finish((Position(1), Version(1)), true, &frame::GENESIS, &mut bytes);
    let read = Frame::read(&bytes).unwrap();
    let payload = payload(&read, &Blobs::new(place.path())).unwrap();
    let (recorded, _) = Decoder { keys: None }.decode(&read, &payload).unwrap();
    assert_eq!(NewEvent { meta: recorded.meta, fact: recorded.fact }, new);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Frame::read(&flipped).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(Frame::read(&bytes[..len]).is_err(), "cut to {len}");
    }
}
