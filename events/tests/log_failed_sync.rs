//! A disk that answers a flush with an error, as the kernel passes it on: nothing more is written, and the flush is not tried again.
#![expect(clippy::panic, clippy::print_stdout, reason = "helpers of a test are tests too")]

#[expect(dead_code, unused_imports, reason = "a disk that fails is all that is needed of it here")]
mod crueldisk;

use covalence_events::Position;
use covalence_events::log::conformance::{event, stream, to};
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, AppendError, EventLog, Expected};
use crueldisk::{Image, Mounted};

async fn append(log: &SledLog) -> Result<(), AppendError> {
    log.append(to(stream(), Expected::Any, vec![event("one")]), Ack::Durable).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_the_kernel_fails_is_never_tried_again_and_what_was_acknowledged_is_there() {
    let disk = Mounted::new(&Image::default());
    let path = disk.root().join("log");
    let (log, _) = SledLog::open(&path, &Options::default()).expect("it opens");
    for _ in 0..10 {
        append(&log).await.expect("it is acknowledged");
    }
    disk.disk().refuse_syncs(true);
    let refused = append(&log).await.expect_err("it was not durable");
    assert!(matches!(&refused, AppendError::ReadOnly(why) if !why.passes), "{refused}");
    // sled's own thread may have asked too; from here on nobody does.
    let asked = disk.disk().refused_syncs();
    assert!(asked > 0);
    for _ in 0..10 {
        append(&log).await.expect_err("nothing is taken any more");
    }
    disk.disk().refuse_syncs(false);
    append(&log).await.expect_err("a disk that is well again does not heal it");
    let facts = log.read_all(Position(1), 100).await.expect("reads go on");
    assert_eq!(facts.len(), 10, "what was not durable is not shown");
    log.close().await;
    drop(log);
    let (log, opened) = SledLog::open(&path, &Options::default()).expect("it opens again");
    assert!(opened.head >= Position(10), "{opened:?}");
    append(&log).await.expect("it takes facts again");
}
