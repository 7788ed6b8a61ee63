//! What becomes of the disk while the log is open: room that comes and goes, and what was written that changes.

use super::*;

const RESERVE: u64 = 1_000;

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn when_there_is_room_again_the_log_goes_on_by_itself_and_has_lost_nothing() {
    let place = Place::new();
    let options = Options { reserve_bytes: RESERVE, ..Options::default() };
    let (log, _) = place.try_open(&options).unwrap();
    one(&log, Ack::Durable).await.unwrap();
    place.disk.set(|disk| disk.free = Some(RESERVE - 1));
    let mut taken = 1;
    let refused = loop {
        match one(&log, Ack::Durable).await {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(&refused, AppendError::ReadOnly(why) if why.passes), "{refused}");
    assert_eq!(log.read_all(Position(1), 100).await.unwrap().len(), taken, "reads go on");
    // As much as it keeps is too little to begin again: the next commit would stop it.
    place.disk.set(|disk| disk.free = Some(RESERVE));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(log.read_only().is_some());
    place.disk.set(|disk| disk.free = Some(2 * RESERVE));
    eventually("it takes facts again", || log.read_only().is_none()).await;
    let appended = one(&log, Ack::Durable).await.unwrap();
    assert_eq!(appended.last(), Some(Position(taken as u64 + 1)), "what was refused left no gap");
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
    drop(log);
    assert_eq!(place.try_open(&options).unwrap().1.head, Position(taken as u64 + 1));
}

#[tokio::test]
async fn room_does_not_heal_a_flush_that_failed() {
    let place = Place::new();
    let options = Options { reserve_bytes: RESERVE, ..Options::default() };
    let (log, _) = place.try_open(&options).unwrap();
    place.disk.set(|disk| disk.free = Some(0));
    while one(&log, Ack::Durable).await.is_ok() {}
    log.shared.health.stop("no flush today");
    place.disk.set(|disk| disk.free = None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(log.read_only().is_some_and(|why| !why.passes && why.reason.contains("no flush today")));
    assert!(one(&log, Ack::Durable).await.is_err());
}

/// Damage that nobody has met is no damage yet; once met it is kept until a check finds everything sound again.
#[tokio::test]
async fn a_read_that_hits_damage_says_where_and_a_check_that_finds_none_forgets_it() {
    let place = Place::new();
    let options = Options { roll_events: Some(50), ..Options::default() };
    let (log, _) = place.try_open(&options).unwrap();
    for _ in 0..RECENT_EVENTS_MAX / 50 + 3 {
        let events = (0..50).map(|n| event(&format!("fact {n}"))).collect();
        log.append(to(stream(), Expected::Any, events), Ack::Durable).await.unwrap();
        log.prepared().await;
    }
    log.settle().await;
    let segment = fs::read_dir(place.path().join("archive"))
        .unwrap()
        .map(|part| part.unwrap().path())
        .min()
        .and_then(|part| {
            fs::read_dir(part).unwrap().map(|file| file.unwrap().path()).find(|path| !path.ends_with("table"))
        })
        .unwrap();
    let sound = fs::read(&segment).unwrap();
    let mut damaged = sound.clone();
    // Behind the header, in every block.
    damaged.iter_mut().skip(300).step_by(50).for_each(|byte| *byte ^= 1);
    fs::write(&segment, &damaged).unwrap();
    assert_eq!(log.damage(), []);
    let error = log.read_all(Position(1), 10).await.unwrap_err().to_string();
    let name = segment.file_name().unwrap().to_string_lossy().into_owned();
    assert!(error.contains("position 1") && error.contains(&name), "{error}");
    assert_eq!(log.damage().len(), 1);
    assert!(log.frames().unwrap().frames(Position(1), 1).is_err());
    assert_eq!(log.damage().len(), 1, "the same place is told once");
    one(&log, Ack::Durable).await.unwrap();
    // How far the segment reaches depends on when the log was rolled.
    let last: u64 = name.trim_end_matches(".zst").rsplit('-').next().unwrap().parse().unwrap();
    log.read_all(Position(last + 1), 10).await.expect("what is sound is read on");
    let problems = log.verify().await.unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains(&name)), "{problems:?}");
    fs::write(&segment, &sound).unwrap();
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
    log.read_all(Position(1), 10).await.expect("what is mended is read anew");
    assert_eq!(log.damage(), []);
}

#[tokio::test]
async fn a_database_whose_file_is_gone_is_found_by_a_check() {
    let place = Place::new();
    let (log, _) = place.open();
    one(&log, Ack::Durable).await.unwrap();
    let db = place.path().join("store/db");
    let aside = place.path().join("aside");
    fs::rename(&db, &aside).unwrap();
    let problems = log.verify().await.unwrap().problems;
    assert!(matches!(&problems[..], [problem] if problem.contains("store/db")), "{problems:?}");
    fs::copy(&aside, &db).unwrap();
    let problems = log.verify().await.unwrap().problems;
    assert!(matches!(&problems[..], [problem] if problem.contains("another file")), "{problems:?}");
    fs::rename(&aside, &db).unwrap();
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
    assert_eq!(log.damage(), []);
}
