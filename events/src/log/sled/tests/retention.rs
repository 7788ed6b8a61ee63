//! Retention: old heartbeats go and leave their summaries, and so does what was said; nothing else does, and nobody can tell from
//! what is folded.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use super::rolling::names;
use super::{Place, event, stream, to};
use crate::envelope::{Fact, NewEvent, Principal, Recorded, StreamId, Timestamp};
use crate::id::{BootId, CallId, Position, Version};
use crate::log::removal::KEPT_EVERY;
use crate::log::restore::{Until, restore};
use crate::log::segments::check::check;
use crate::log::segments::{Cutter, Place as Segments};
use crate::log::sled::{ClosedLog, Options, SledLog};
use crate::log::{Ack, EventLog as _, Expected, Subscription};
use crate::retention::{ACTIVITY_DEFAULT, Class, INTERVALS_KEPT, Rhythm, Rules};
use crate::workspace::{CallOutcome, CallRecorded, HeartbeatReceived, MessageQueued, Notified, Text};

const DAYS: i64 = 10;

fn start() -> Timestamp {
    chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn end() -> Timestamp {
    start() + chrono::TimeDelta::days(DAYS)
}

fn options() -> Options {
    Options { roll_events: Some(100), ..Options::default() }
}

fn is_beat(fact: &Recorded) -> bool {
    fact.fact.tag() == "workspace.heartbeat_received.v1"
}

/// Three workspaces send a heartbeat an hour for ten days; every day each is renamed. Rolled every hundred facts, with a checkpoint in
/// each day.
async fn filled(place: &Place) -> (SledLog, Vec<Arc<Recorded>>) {
    let (log, _) = place.try_open(&options()).unwrap();
    let (streams, boot) = ([stream(), stream(), stream()], BootId::generate());
    let (book, signer) = (log.checkpoints(), log.checkpoints().signer().unwrap());
    for hour in 0..DAYS * 24 {
        let at = start() + chrono::TimeDelta::hours(hour);
        let appends = streams.map(|stream| {
            let mut new = event(&format!("day {}", hour / 24));
            (new.meta.at, new.meta.boot) = (at, boot);
            if hour % 24 != 5 {
                let beat = HeartbeatReceived { uptime_seconds: hour * 3600, ..HeartbeatReceived::default() };
                new.fact = Fact::Workspace(beat.into());
            }
            to(stream, Expected::Any, vec![new]).remove(0)
        });
        log.append(appends.to_vec(), Ack::Durable).await.unwrap();
        log.settle().await;
        log.prepared().await;
        if hour % 24 == 12 {
            let link = log.frames().unwrap().link(log.head()).unwrap().unwrap();
            book.add(&[signer.sign(log.head(), link, at)]).unwrap();
        }
    }
    let facts = log.read_all(Position(1), usize::MAX).await.unwrap();
    assert_eq!(facts.len(), usize::try_from(DAYS * 24 * 3).unwrap());
    (log, facts)
}

fn run(log: &SledLog) -> crate::log::sled::Scavenged {
    log.scavenger().run((&Rules::default(), end()), Position(u64::MAX), u64::MAX, &|_| true).unwrap()
}

#[tokio::test]
async fn old_heartbeats_go_and_every_reader_finds_what_is_left() {
    let place = Place::new();
    let (log, before) = filled(&place).await;
    let due = |log: &SledLog| {
        let parts = log.scavenger().survey(&Rules::default()).unwrap();
        parts.iter().filter(|part| part.is_due(&Rules::default(), end())).count()
    };
    let parts = due(&log);
    let done = run(&log);
    assert!(done.events > 100 && done.bytes > 0, "{done:?}");
    assert_eq!((done.parts, due(&log)), (parts as u64, 0));
    assert_eq!(run(&log).events, 0, "a second run finds nothing");

    let after = log.read_all(Position(1), usize::MAX).await.unwrap();
    assert_eq!(after.len() as u64 + done.events, before.len() as u64);
    let rest =
        |facts: &[Arc<Recorded>]| -> Vec<_> { facts.iter().filter(|fact| !is_beat(fact)).cloned().collect() };
    assert_eq!(rest(&before), rest(&after), "nothing but heartbeats goes");
    let young = |facts: &[Arc<Recorded>]| -> Vec<_> {
        let limit = end() - crate::retention::HEARTBEATS_DEFAULT;
        facts.iter().filter(|fact| fact.meta.at >= limit).cloned().collect()
    };
    assert_eq!(young(&before), young(&after), "nothing that is young goes");

    let positions: BTreeSet<Position> = after.iter().map(|fact| fact.position).collect();
    let ours = after[0].stream;
    let of_ours: Vec<_> = after.iter().filter(|fact| fact.stream == ours).cloned().collect();
    assert_eq!(log.read(ours, Version(1), usize::MAX).await.unwrap(), of_ours);
    assert_eq!(log.read(ours, Version(50), 7).await.unwrap(), {
        let from = of_ours.partition_point(|fact| fact.version < Version(50));
        of_ours[from..from + 7].to_vec()
    });
    assert_eq!(log.read_back(ours, Position(300), 2).await.unwrap(), {
        let through = of_ours.partition_point(|fact| fact.position <= Position(300));
        of_ours[through - 2..through].to_vec()
    });
    for from in (1..=before.len() as u64).step_by(11) {
        let page = log.read_all(Position(from), 3).await.unwrap();
        let expected: Vec<_> = positions.range(Position(from)..).take(3).copied().collect();
        assert_eq!(page.iter().map(|fact| fact.position).collect::<Vec<_>>(), expected);
    }
    for hour in [0, 7, 30, 100, 200] {
        let at = start() + chrono::TimeDelta::hours(hour);
        let last = after.iter().rev().find(|fact| fact.meta.at <= at).unwrap();
        assert_eq!(log.position_at(at).await.unwrap(), last.position, "hour {hour}");
    }
    let log: Arc<dyn crate::log::EventLog> = Arc::new(log);
    let mut subscription = Subscription::new(Arc::clone(&log), Position(1));
    let mut seen = Vec::new();
    while seen.len() < after.len() {
        seen.extend(subscription.next(10).await.unwrap().unwrap());
    }
    assert_eq!(seen, after);
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
    log.close().await;
    drop((log, subscription));

    let mut seen = Vec::new();
    let (log, opened) =
        SledLog::open_with(&place.path(), &options(), &mut |fact| seen.push(Arc::clone(fact))).unwrap();
    assert_eq!((opened.head.0, opened.streams, &seen), (before.len() as u64, 3, &after));
    let last = before.iter().rev().find(|fact| fact.stream == ours).unwrap();
    let next = to(ours, Expected::Exact(last.version), vec![event("next")]);
    assert_eq!(log.append(next, Ack::Durable).await.unwrap().events[0].version, last.version.next());
}

#[tokio::test]
async fn a_workspace_that_fell_silent_keeps_its_last_rhythm() {
    let place = Place::new();
    let (log, before) = filled(&place).await;
    let later = end() + chrono::TimeDelta::days(30);
    let done = log.scavenger().run((&Rules::default(), later), Position(u64::MAX), u64::MAX, &|_| true);
    assert!(done.unwrap().events > 100);
    let after = log.read_all(Position(1), usize::MAX).await.unwrap();
    for stream in before[..3].iter().map(|fact| fact.stream) {
        let rhythm = |facts: &[Arc<Recorded>]| -> Vec<_> {
            let mut rhythm = Rhythm::default();
            let back = facts.iter().rev().filter(|fact| fact.stream == stream);
            let last: Vec<_> = back.take_while(|fact| !rhythm.add(fact)).cloned().collect();
            assert!(
                last.len() > INTERVALS_KEPT && last.last().unwrap().position > Position(1),
                "{}",
                last.len()
            );
            last
        };
        assert_eq!(rhythm(&before), rhythm(&after), "{stream}");
    }
}

#[tokio::test]
async fn what_others_are_bound_by_stays() {
    let place = Place::new();
    let (log, _) = place.try_open(&Options { roll_events: Some(6000), ..Options::default() }).unwrap();
    let (stream, boot) = (stream(), BootId::generate());
    let beats = i64::try_from(KEPT_EVERY).unwrap() + 5000;
    for first in (0..beats).step_by(500) {
        let beats = (first..first + 500).map(|number| {
            let mut new = event("a beat");
            (new.meta.at, new.meta.boot) = (start() + chrono::TimeDelta::seconds(30 * number), boot);
            NewEvent { fact: Fact::Workspace(HeartbeatReceived::default().into()), ..new }
        });
        log.append(to(stream, Expected::Any, beats.collect()), Ack::Durable).await.unwrap();
        log.settle().await;
        log.prepared().await;
    }
    let link = |at| log.frames().unwrap().link(Position(at));
    let known = link(KEPT_EVERY).unwrap();
    let later = end() + chrono::TimeDelta::days(30);
    let done = log.scavenger().run((&Rules::default(), later), Position(u64::MAX), u64::MAX, &|_| true);
    assert!(done.unwrap().events > KEPT_EVERY);
    assert_eq!(link(KEPT_EVERY).unwrap(), known);
    assert!(link(KEPT_EVERY - 2).is_err() && known.is_some());
    let next = log.read_all(Position(KEPT_EVERY - 10), 1).await.unwrap();
    assert_eq!(next[0].position, Position(KEPT_EVERY));
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn what_went_is_summed_up_and_the_chain_leads_across_it() {
    let place = Place::new();
    let (log, _) = filled(&place).await;
    let done = run(&log);
    let verified = log.verify().await.unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
    assert_eq!(verified.checkpoints, DAYS.unsigned_abs(), "their links are still known");
    let frames = log.frames().unwrap();
    let (mut at, mut beats, mut events) = (Position(1), 0, 0);
    while let Some(segment) = frames.thinned(at).unwrap() {
        let removal = &segment.removal().unwrap().removal;
        events += removal.events();
        for hour in removal.streams.iter().flat_map(|removed| &removed.hours) {
            assert_eq!((hour.first_at, hour.errors), (hour.last_at, 0));
            assert!([0, 3_600_000, 7_200_000].contains(&hour.longest_ms), "{hour:?}");
            beats += u64::from(hour.beats);
        }
        at = segment.name.last.next();
    }
    assert_eq!((events, beats), (done.events, done.events));
}

#[tokio::test]
async fn a_removal_that_somebody_else_signed_is_noticed() {
    let place = Place::new();
    let (log, _) = filled(&place).await;
    let key = place.path().join("checkpoint-key");
    let ours = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    run(&log);
    assert_ne!(fs::read(&key).unwrap(), ours);
    fs::write(&key, ours).unwrap();
    log.close().await;
    drop(log);
    let problems = ClosedLog::open(&place.path()).unwrap().verify().unwrap().problems;
    assert!(!problems.is_empty());
    assert!(problems.iter().all(|problem| problem.contains("a key that is not the log's")), "{problems:?}");
}

#[tokio::test]
async fn a_log_without_its_old_heartbeats_is_backed_up_and_restored_as_it_is() {
    let place = Place::new();
    let (log, _) = filled(&place).await;
    run(&log);
    let after = log.read_all(Position(1), usize::MAX).await.unwrap();
    let segments = Segments::directory(&place.dir.path().join("backup")).unwrap();
    let frames = log.frames().unwrap();
    let mut cutter = Cutter::at(&*frames, Position(0)).unwrap();
    loop {
        cutter.fill(&*frames, 4096).unwrap();
        let Some(segment) = cutter.segment(&*frames).unwrap() else { break };
        segments.put(segment.name, segment.encode().unwrap()).await.unwrap();
        cutter = cutter.following();
    }
    let verified = check(&segments, &log.checkpoints().read().unwrap().0, &[]).await.unwrap();
    assert_eq!((verified.problems, verified.events), (Vec::new(), after.len() as u64));
    let other = crate::log::checkpoint::Book::new(place.dir.path()).signer().unwrap().public();
    assert!(!check(&segments, &[], &[other]).await.unwrap().problems.is_empty());

    let restored = place.dir.path().join("restored");
    let back = restore(Some(&segments), &restored, Until::End, false).await.unwrap();
    assert_eq!((back.head, back.chain), (log.head(), log.verify().await.unwrap().chain));
    let (log, _) = SledLog::open(&restored, &options()).unwrap();
    assert_eq!(log.read_all(Position(1), usize::MAX).await.unwrap(), after);
    let ours: StreamId = after[0].stream;
    let version = after.iter().filter(|fact| fact.stream == ours).map(|fact| fact.version).max();
    let next: NewEvent = event("next");
    let receipt = log.append(to(ours, Expected::Exact(version.unwrap()), vec![next]), Ack::Durable).await;
    assert_eq!(receipt.unwrap().last(), Some(back.head.next()));
}

#[tokio::test]
async fn a_crash_before_or_after_the_swap_leaves_one_of_both_and_no_rest() {
    let place = Place::new();
    let (log, _) = filled(&place).await;
    let first = names(&place, "archive").remove(0);
    let kept = place.dir.path().join("kept");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(place.path().join("archive").join(&first))
        .arg(&kept)
        .status();
    assert!(copied.unwrap().success());
    let stopped =
        log.scavenger().run((&Rules::default(), end()), Position(u64::MAX), u64::MAX, &|_| false).unwrap();
    assert!(stopped.stopped && stopped.events == 0);
    run(&log);
    let after = log.read_all(Position(1), usize::MAX).await.unwrap();
    log.close().await;
    drop(log);
    assert!(!place.path().join("archive").join(&first).exists(), "its room is given back");
    fs::rename(&kept, place.path().join("archive").join(&first)).unwrap();
    fs::create_dir(place.path().join("archive/00000000000000000001.1.tmp")).unwrap();
    let (log, _) = place.try_open(&options()).unwrap();
    assert_eq!(log.read_all(Position(1), usize::MAX).await.unwrap(), after);
    assert!(!names(&place, "archive").iter().any(|name| *name == first || name.contains(".tmp")));
}

/// Text that does not get shorter by compression than half of its length.
fn body(seed: i64) -> String {
    let line = |number| blake3::hash(format!("{seed} {number}").as_bytes()).to_hex().to_string();
    (0..1500).map(line).collect()
}

/// Two workspaces for sixty days: each day each is called, left a message, renamed, and sends heartbeats. Rolled each week.
async fn spoken(place: &Place) -> (SledLog, Vec<Arc<Recorded>>) {
    let (log, _) = place.try_open(&Options { roll_events: Some(120), ..Options::default() }).unwrap();
    let (streams, boot) = ([stream(), stream()], BootId::generate());
    let call = |day: i64| CallRecorded {
        call: CallId::generate(),
        caller: Principal::Admin,
        method: "message/send".to_owned(),
        outcome: CallOutcome::Answered,
        status: Some(200),
        duration_ms: 1,
        request: Text::within(&body(day), usize::MAX),
        response: None,
        error: None,
    };
    let message = |day: i64| MessageQueued {
        call: CallId::generate(),
        caller: Principal::Admin,
        method: "message/send".to_owned(),
        digest: Some(day.to_string()),
        delegation: None,
        request: "{}".to_owned(),
    };
    for day in 0..60 {
        for stream in streams {
            let said: [crate::workspace::Event; 7] = [
                call(day).into(),
                Notified { message: "done".to_owned(), attachments: None }.into(),
                message(day).into(),
                HeartbeatReceived::default().into(),
                HeartbeatReceived::default().into(),
                HeartbeatReceived::default().into(),
                HeartbeatReceived::default().into(),
            ];
            let mut events: Vec<NewEvent> = said
                .into_iter()
                .map(|fact| NewEvent { fact: Fact::Workspace(fact), ..event("said") })
                .collect();
            events.push(event(&format!("day {day}")));
            for new in &mut events {
                (new.meta.at, new.meta.boot) = (start() + chrono::TimeDelta::days(day), boot);
            }
            log.append(to(stream, Expected::Any, events), Ack::Durable).await.unwrap();
        }
        log.settle().await;
        log.prepared().await;
    }
    let facts = log.read_all(Position(1), usize::MAX).await.unwrap();
    (log, facts)
}

fn is_said(fact: &Recorded) -> bool {
    Class::of(fact.fact.tag()) == Some(Class::Activity)
}

#[tokio::test]
async fn what_was_said_goes_a_day_after_it_left_every_feed_and_what_waits_to_be_fetched_stays() {
    let place = Place::new();
    let (log, before) = spoken(&place).await;
    let last = before.last().unwrap().meta.at;
    let scavenger = log.scavenger();
    let run = |rules: Rules, now: Timestamp| {
        scavenger.run((&rules, now), Position(u64::MAX), u64::MAX, &|_| true).unwrap()
    };
    // However late it is: what the log tells of its own time is what feeds go by.
    let ever = Rules { heartbeats: None, ..Rules::default() };
    let later = last + chrono::TimeDelta::days(300);
    let done = run(ever, later);
    let after = log.read_all(Position(1), usize::MAX).await.unwrap();
    assert!(done.events > 50 && done.bytes > 50 * 1000, "{done:?}");
    assert_eq!(before.len() as u64 - done.events, after.len() as u64);
    let gone: Vec<_> = before
        .iter()
        .filter(|fact| after.binary_search_by_key(&fact.position, |left| left.position).is_err())
        .collect();
    assert!(gone.iter().all(|fact| is_said(fact) && last - fact.meta.at > ACTIVITY_DEFAULT), "{gone:?}");
    let first_left = after.iter().find(|fact| is_said(fact)).unwrap();
    assert!(last - first_left.meta.at < ACTIVITY_DEFAULT + chrono::TimeDelta::days(11), "{first_left:?}");
    assert_eq!(run(ever, later).events, 0, "a second run finds nothing");

    // Heartbeats have a limit of their own, and go of parts that were gone through before.
    let both = run(Rules::default(), later);
    assert!(both.events > 20, "{both:?}");
    let due = |scavenger: &crate::log::sled::Scavenger| {
        let parts = scavenger.survey(&Rules::default()).unwrap();
        parts.into_iter().filter(|part| part.is_due(&Rules::default(), later)).collect::<Vec<_>>()
    };
    assert_eq!((run(Rules::default(), later).events, due(&scavenger)), (0, Vec::new()));
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
    let left = log.read_all(Position(1), usize::MAX).await.unwrap();
    log.close().await;
    drop((log, scavenger));

    let (log, _) = place.try_open(&options()).unwrap();
    assert_eq!(log.read_all(Position(1), usize::MAX).await.unwrap(), left);
    let (scavenger, parts) = (log.scavenger(), log.scavenger().survey(&Rules::default()).unwrap());
    let (thinned, open) = (parts.iter().filter(|part| part.removed > 0).count(), due(&scavenger));
    assert!(
        thinned > open.iter().filter(|part| part.removed > 0).count(),
        "it says how far it was gone through: {open:?}"
    );
    let again = scavenger.run((&Rules::default(), later), Position(u64::MAX), u64::MAX, &|_| true).unwrap();
    assert_eq!((again.events, due(&scavenger)), (0, Vec::new()));
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_part_whose_heartbeats_went_is_gone_through_again_when_what_was_said_is_old() {
    let place = Place::new();
    let (log, before) = spoken(&place).await;
    let run = |now: Timestamp| {
        log.scavenger().run((&Rules::default(), now), Position(u64::MAX), u64::MAX, &|_| true).unwrap()
    };
    let young = run(start() + chrono::TimeDelta::days(20));
    let after = log.read_all(Position(1), usize::MAX).await.unwrap();
    assert!(young.events > 0 && after.iter().filter(|fact| is_said(fact)).count() == 60 * 4, "{young:?}");
    let old = run(before.last().unwrap().meta.at);
    let left = log.read_all(Position(1), usize::MAX).await.unwrap();
    assert!(old.parts >= young.parts && left.iter().filter(|fact| is_said(fact)).count() < 60 * 3, "{old:?}");
    assert!(!left.iter().take(50).any(|fact| is_said(fact)), "the oldest parts are the first");
    assert_eq!(log.verify().await.unwrap().problems, Vec::<String>::new());
}
