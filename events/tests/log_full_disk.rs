//! A disk that really is full: what was acknowledged stays readable, and the log says why it does not write.
//!
//! Needs to be root, to mount a small file system; without that it says so and checks nothing.
#![expect(clippy::panic, reason = "helpers of a test are tests too")]

use std::process::Command;

use covalence_events::Position;
use covalence_events::log::conformance::{event, stream, to};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, AppendError, EventLog, Expected};
use tempfile::TempDir;

const DISK_BYTES: u64 = 8 << 20;

/// Unmounts when it goes out of scope, also after a failed assertion.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = TempDir::new().expect("a directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

async fn fill(log: &SledLog) -> (u64, String) {
    for acknowledged in 0.. {
        let append = to(stream(), Expected::Any, vec![event(&"x".repeat(3000))]);
        match log.append(append, Ack::Durable).await {
            Ok(_) => {}
            Err(AppendError::ReadOnly(why)) => return (acknowledged, why.reason.to_string()),
            Err(other) => panic!("unexpected: {other}"),
        }
    }
    unreachable!("the disk never fills")
}

#[tokio::test]
async fn a_full_disk_makes_the_log_read_only_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        println!("not root: nothing was checked");
        return;
    };
    let path = disk.0.path().join("log");
    let (log, _) = SledLog::open(&path, &Options { reserve_bytes: 0, ..Options::default() }).expect("opens");
    let (acknowledged, reason) = fill(&log).await;
    assert!(acknowledged > 100, "{acknowledged}");
    assert!(reason.contains("No space left"), "{reason}");
    let events = log.read_all(Position(1), usize::MAX).await.expect("reads go on");
    assert_eq!(events.len() as u64, acknowledged);
}

#[tokio::test]
async fn the_reserve_stops_writing_before_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount() else {
        println!("not root: nothing was checked");
        return;
    };
    let path = disk.0.path().join("log");
    let options = Options { reserve_bytes: DISK_BYTES / 2, ..Options::default() };
    let (log, _) = SledLog::open(&path, &options).expect("opens");
    let (acknowledged, reason) = fill(&log).await;
    assert!(reason.contains("low space"), "{reason}");
    log.close().await;
    drop(log);
    let (log, opened) = SledLog::open(&path, &options).expect("there is room to open it again");
    assert_eq!(opened.head.0, acknowledged);
    assert!(log.read_only().is_some_and(|why| why.passes && why.reason.contains("low space")));
}
