//! The suite that every [`EventLog`] passes: the port's promises as tests.
//!
//! A store's tests implement [`Factory`] and call [`log_conformance!`](crate::log_conformance), which makes one test of
//! each function here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Ack, Append, AppendError, EventLog, Expected, Subscription};
use crate::envelope::{Fact, Meta, NewEvent, Principal, Recorded, StreamId};
use crate::id::{BootId, CorrelationId, EventId, PolicyHash, Position, TokenId, Version, WorkspaceId};
use crate::workspace;

/// How long a check waits for what must come. Generous, because it is only used up when something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes logs over one storage.
#[async_trait]
pub trait Factory: Send + Sync {
    /// Opens the log; at first it is empty. Called again only after the last one was closed and dropped.
    async fn open(&self) -> Arc<dyn EventLog>;

    /// Whether what was acknowledged is there when it is opened again.
    fn keeps(&self) -> bool;
}

/// A fact with a text in it, from somebody, about nothing in particular.
pub fn event(text: &str) -> NewEvent {
    let at = chrono::DateTime::from_timestamp_micros(1_763_730_000_123_456).unwrap_or_default();
    NewEvent {
        meta: Meta {
            id: EventId::generate(),
            at,
            boot: BootId::generate(),
            mono_ns: 42,
            correlation: CorrelationId::generate(),
            causation: None,
            principal: Principal::System,
            policy: None,
        },
        fact: Fact::Workspace(workspace::Renamed { name: text.to_owned() }.into()),
    }
}

/// A stream that nobody else has.
pub fn stream() -> StreamId {
    StreamId::Workspace(WorkspaceId::generate())
}

/// An append of some facts to one stream.
pub fn to(stream: StreamId, expected: Expected, events: Vec<NewEvent>) -> Vec<Append> {
    vec![Append { stream, expected, events }]
}

/// Makes one test of each check, over the logs of a factory.
#[macro_export]
macro_rules! log_conformance {
    ($factory:expr) => {
        $crate::log_conformance!(@each $factory,
            expected_versions_are_checked,
            an_append_to_several_streams_is_all_or_nothing,
            positions_and_versions_have_no_gaps,
            calls_are_ordered_even_if_their_futures_never_run,
            a_repeated_append_answers_with_the_first_result,
            appends_that_break_the_rules_are_invalid,
            streams_are_read_in_pages,
            streams_are_read_backwards,
            everything_is_read_in_pages,
            positions_are_found_by_time,
            events_are_found_by_id,
            subscriptions_neither_skip_nor_repeat_under_concurrent_appends,
            an_accepted_append_becomes_visible,
            a_closed_log_refuses_appends_and_ends_its_subscriptions,
            every_part_of_the_envelope_comes_back,
            odd_and_large_payloads_come_back,
            a_reopened_log_goes_on_where_it_stopped,
        );
    };
    (@each $factory:expr, $($check:ident,)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $check() {
            $crate::log::conformance::$check(&$factory).await;
        })+
    };
}

async fn durable(log: &Arc<dyn EventLog>, appends: Vec<Append>) -> Vec<Arc<Recorded>> {
    log.append(appends, Ack::Durable).await.expect("the append is applied").events
}

async fn all(log: &Arc<dyn EventLog>) -> Vec<Arc<Recorded>> {
    log.read_all(Position(1), usize::MAX).await.expect("the log reads")
}

/// See its name.
pub async fn expected_versions_are_checked(factory: &dyn Factory) {
    let log = factory.open().await;
    let ours = stream();
    let append = |expected| log.append(to(ours, expected, vec![event("x")]), Ack::Durable);
    assert!(matches!(
        append(Expected::Exact(Version(1))).await,
        Err(AppendError::Conflict { stream, actual: Version(0), .. }) if stream == ours
    ));
    append(Expected::NoStream).await.expect("a new stream");
    assert!(matches!(
        append(Expected::NoStream).await,
        Err(AppendError::Conflict { actual: Version(1), .. })
    ));
    append(Expected::Exact(Version(1))).await.expect("the right version");
    assert!(matches!(
        append(Expected::Exact(Version(1))).await,
        Err(AppendError::Conflict { actual: Version(2), .. })
    ));
    append(Expected::Any).await.expect("any version");
    assert_eq!(log.read(ours, Version(1), 10).await.expect("reads").len(), 3);
    assert_eq!(log.head(), Position(3), "a conflict uses up no position");
}

/// See its name.
pub async fn an_append_to_several_streams_is_all_or_nothing(factory: &dyn Factory) {
    let log = factory.open().await;
    let (a, b) = (stream(), stream());
    durable(&log, to(a, Expected::NoStream, vec![event("a1")])).await;
    let both = |expected_b| {
        vec![
            Append {
                stream: a,
                expected: Expected::Exact(Version(1)),
                events: vec![event("a2"), event("a3")],
            },
            Append { stream: b, expected: expected_b, events: vec![event("b1")] },
        ]
    };
    let refused = log.append(both(Expected::Exact(Version(7))), Ack::Durable).await;
    assert!(matches!(refused, Err(AppendError::Conflict { stream, .. }) if stream == b));
    assert_eq!(all(&log).await.len(), 1, "nothing of a refused append is there");
    let recorded = durable(&log, both(Expected::NoStream)).await;
    let places: Vec<_> = recorded.iter().map(|event| (event.position.0, event.version.0)).collect();
    assert_eq!(places, [(2, 2), (3, 3), (4, 1)]);
    assert_eq!(all(&log).await[1..], recorded[..]);
}

/// See its name.
pub async fn positions_and_versions_have_no_gaps(factory: &dyn Factory) {
    let log = factory.open().await;
    let streams = [stream(), stream(), StreamId::Fleet];
    let mut tasks = Vec::new();
    for writer in 0..6 {
        let log = Arc::clone(&log);
        tasks.push(tokio::spawn(async move {
            for n in 0..40 {
                let events = (0..=n % 3).map(|_| event("x")).collect();
                let stream = streams[(writer + n) % streams.len()];
                log.append(to(stream, Expected::Any, events), Ack::Durable).await.expect("appended");
            }
        }));
    }
    for task in tasks {
        task.await.expect("a writer ends well");
    }
    let events = all(&log).await;
    assert_eq!(events.len() as u64, log.head().0);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.position.0, index as u64 + 1);
    }
    for stream in streams {
        let versions = events.iter().filter(|event| event.stream == stream).map(|event| event.version.0);
        assert!(versions.zip(1..).all(|(version, expected)| version == expected));
    }
    let verified = log.verify().await.expect("verifies");
    assert_eq!((verified.head, verified.problems), (log.head(), Vec::new()));
}

/// See its name.
pub async fn calls_are_ordered_even_if_their_futures_never_run(factory: &dyn Factory) {
    let log = factory.open().await;
    let ours = stream();
    let first = log.append(to(ours, Expected::NoStream, vec![event("first")]), Ack::Durable);
    drop(log.append(to(ours, Expected::Exact(Version(1)), vec![event("dropped")]), Ack::Durable));
    let third = log.append(to(ours, Expected::Exact(Version(2)), vec![event("third")]), Ack::Durable);
    // The last call's future is the first to be polled.
    assert_eq!(third.await.expect("the third").last(), Some(Position(3)));
    assert_eq!(first.await.expect("the first").last(), Some(Position(1)));
    let names: Vec<_> = all(&log).await.iter().map(|event| event.fact.to_json()["name"].clone()).collect();
    assert_eq!(names, ["first", "dropped", "third"]);
}

/// See its name.
pub async fn a_repeated_append_answers_with_the_first_result(factory: &dyn Factory) {
    let log = factory.open().await;
    let (a, b) = (stream(), stream());
    let append = vec![
        Append { stream: a, expected: Expected::NoStream, events: vec![event("a")] },
        Append { stream: b, expected: Expected::NoStream, events: vec![event("b")] },
    ];
    // Two calls at once may share a commit; the third comes when it is done.
    let first = log.append(append.clone(), Ack::Durable);
    let second = log.append(append.clone(), Ack::Durable);
    let first = first.await.expect("the first").events;
    assert_eq!(second.await.expect("the second").events, first);
    assert_eq!(durable(&log, append.clone()).await, first);
    assert_eq!(log.head(), Position(2));
    let mut half = append;
    half[1].events = vec![event("new")];
    assert!(matches!(log.append(half, Ack::Durable).await, Err(AppendError::Invalid(_))));
}

/// See its name.
pub async fn appends_that_break_the_rules_are_invalid(factory: &dyn Factory) {
    let log = factory.open().await;
    let ours = stream();
    let twice = event("twice");
    let one = |events| Append { stream: ours, expected: Expected::Any, events };
    let too_many = (0..=super::EVENTS_PER_APPEND_MAX).map(|_| event("x")).collect();
    for appends in [
        vec![one(Vec::new())],
        vec![one(vec![event("x")]), one(vec![event("y")])],
        vec![one(vec![twice.clone(), twice])],
        vec![one(too_many)],
    ] {
        let result = log.append(appends, Ack::Durable).await;
        assert!(matches!(result, Err(AppendError::Invalid(_))), "{result:?}");
    }
    assert_eq!(log.head(), Position(0));
    let empty = log.append(Vec::new(), Ack::Durable).await.expect("nothing to do");
    assert_eq!(empty.last(), None);
}

/// See its name.
pub async fn streams_are_read_in_pages(factory: &dyn Factory) {
    let log = factory.open().await;
    let ours = stream();
    for n in 0..7 {
        durable(&log, to(ours, Expected::Any, vec![event(&n.to_string())])).await;
        durable(&log, to(stream(), Expected::Any, vec![event("other")])).await;
    }
    let page = |from, limit| {
        let log = Arc::clone(&log);
        async move {
            let events = log.read(ours, Version(from), limit).await.expect("reads");
            events.iter().map(|event| event.version.0).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(0, 2).await, [1, 2]);
    assert_eq!(page(1, 3).await, [1, 2, 3]);
    assert_eq!(page(4, 100).await, [4, 5, 6, 7]);
    assert!(page(8, 100).await.is_empty());
    assert!(page(1, 0).await.is_empty());
    assert!(log.read(stream(), Version(1), 10).await.expect("reads").is_empty(), "unknown stream");
}

/// See its name.
pub async fn streams_are_read_backwards(factory: &dyn Factory) {
    let log = factory.open().await;
    let ours = stream();
    // Ours are at the positions 1, 3, 5, 7.
    for n in 0..4 {
        durable(&log, to(ours, Expected::Any, vec![event(&n.to_string())])).await;
        durable(&log, to(stream(), Expected::Any, vec![event("other")])).await;
    }
    let back = |through, limit| {
        let log = Arc::clone(&log);
        async move {
            let events = log.read_back(ours, Position(through), limit).await.expect("reads");
            events.iter().map(|event| event.position.0).collect::<Vec<_>>()
        }
    };
    assert_eq!(back(8, 2).await, [5, 7], "the last ones, oldest first");
    assert_eq!(back(5, 2).await, [3, 5], "a position is inclusive");
    assert_eq!(back(4, 100).await, [1, 3], "and need not be ours");
    assert_eq!(back(u64::MAX, usize::MAX).await, [1, 3, 5, 7]);
    assert!(back(0, 100).await.is_empty());
    assert!(back(8, 0).await.is_empty());
    assert!(log.read_back(stream(), Position(8), 10).await.expect("reads").is_empty(), "unknown stream");
}

/// See its name.
pub async fn positions_are_found_by_time(factory: &dyn Factory) {
    let log = factory.open().await;
    let time = |seconds| chrono::DateTime::from_timestamp(seconds, 0).expect("a time");
    let found = |seconds| {
        let log = Arc::clone(&log);
        async move { log.position_at(time(seconds)).await.expect("reads").0 }
    };
    assert_eq!(found(100).await, 0, "nothing was recorded yet");
    for seconds in [100, 110, 110, 130, 170] {
        let mut timed = event("timed");
        timed.meta.at = time(seconds);
        durable(&log, to(stream(), Expected::Any, vec![timed])).await;
    }
    for (seconds, position) in [(99, 0), (100, 1), (109, 1), (110, 3), (129, 3), (130, 4), (170, 5), (999, 5)]
    {
        assert_eq!(found(seconds).await, position, "at {seconds}");
    }
}

/// See its name.
pub async fn everything_is_read_in_pages(factory: &dyn Factory) {
    let log = factory.open().await;
    let mut written = Vec::new();
    for n in 0..10 {
        written.extend(durable(&log, to(stream(), Expected::Any, vec![event(&n.to_string())])).await);
    }
    let page = |from, limit| {
        let log = Arc::clone(&log);
        async move { log.read_all(Position(from), limit).await.expect("reads") }
    };
    assert_eq!(page(0, 4).await, written[..4]);
    assert_eq!(page(5, 4).await, written[4..8]);
    assert_eq!(page(9, usize::MAX).await, written[8..]);
    assert!(page(11, 4).await.is_empty());
    assert!(page(u64::MAX, 4).await.is_empty());
    assert!(page(1, 0).await.is_empty());
}

/// See its name.
pub async fn events_are_found_by_id(factory: &dyn Factory) {
    let log = factory.open().await;
    let recorded = durable(&log, to(stream(), Expected::Any, vec![event("a"), event("b")])).await;
    assert_eq!(log.find(recorded[1].meta.id).await.expect("finds"), Some(Position(2)));
    assert_eq!(log.find(EventId::generate()).await.expect("finds"), None);
}

/// See its name.
pub async fn subscriptions_neither_skip_nor_repeat_under_concurrent_appends(factory: &dyn Factory) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 100;
    let log = factory.open().await;
    durable(&log, to(stream(), Expected::Any, vec![event("before")])).await;
    let total = WRITERS * EACH + 1;
    let mut readers = Vec::new();
    for limit in [1, 7, 1000] {
        let mut subscription = Subscription::new(Arc::clone(&log), Position(0));
        readers.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            while (seen.len() as u64) < total {
                let page = tokio::time::timeout(PATIENCE, subscription.next(limit)).await;
                let page = page.expect("a fact comes in time").expect("reads").expect("still open");
                assert!(!page.is_empty() && page.len() <= limit);
                seen.extend(page.iter().map(|event| event.position.0));
            }
            seen
        }));
    }
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let log = Arc::clone(&log);
        writers.push(tokio::spawn(async move {
            let ours = stream();
            for _ in 0..EACH {
                let receipt = log.append(to(ours, Expected::Any, vec![event("x")]), Ack::Durable).await;
                let last = receipt.expect("appended").last().expect("one fact");
                assert!(log.head() >= last, "what is acknowledged is visible");
            }
        }));
    }
    for writer in writers {
        writer.await.expect("a writer ends well");
    }
    for reader in readers {
        let seen = reader.await.expect("a reader ends well");
        assert!(seen.iter().copied().eq(1..=total));
    }
}

/// See its name.
pub async fn an_accepted_append_becomes_visible(factory: &dyn Factory) {
    let log = factory.open().await;
    let mut watch = log.watch();
    let receipt = log.append(to(stream(), Expected::Any, vec![event("beat")]), Ack::Accepted).await;
    let last = receipt.expect("accepted").last().expect("one fact");
    assert_eq!(last, Position(1));
    tokio::time::timeout(PATIENCE, watch.wait_for(|head| *head >= last))
        .await
        .expect("it becomes durable in time")
        .expect("still open");
    assert_eq!(all(&log).await.len(), 1);
}

/// See its name.
pub async fn a_closed_log_refuses_appends_and_ends_its_subscriptions(factory: &dyn Factory) {
    let log = factory.open().await;
    let queued: Vec<_> = (0..20)
        .map(|_| log.append(to(stream(), Expected::Any, vec![event("queued")]), Ack::Durable))
        .collect();
    let mut subscription = Subscription::new(Arc::clone(&log), Position(1));
    log.close().await;
    log.close().await;
    for append in queued {
        append.await.expect("what was queued before the close is written");
    }
    let late = log.append(to(stream(), Expected::Any, vec![event("late")]), Ack::Durable).await;
    assert!(matches!(late, Err(AppendError::Closed)), "{late:?}");
    let mut seen = 0;
    while let Some(page) = subscription.next(8).await.expect("reads go on") {
        seen += page.len();
    }
    assert_eq!(seen, 20);
}

/// See its name.
pub async fn every_part_of_the_envelope_comes_back(factory: &dyn Factory) {
    let log = factory.open().await;
    let mut written = Vec::new();
    let principals = [
        Principal::System,
        Principal::Admin,
        Principal::Anonymous,
        Principal::Workspace(WorkspaceId::generate()),
        Principal::OrgToken(TokenId::generate()),
        Principal::Session,
    ];
    for (n, principal) in principals.into_iter().enumerate() {
        let mut full = event("envelope");
        full.meta.principal = principal;
        full.meta.causation = (n % 2 == 0).then(EventId::generate);
        full.meta.policy = (n > 1).then_some(PolicyHash(u64::MAX));
        full.meta.mono_ns = u64::MAX;
        // Older than 1970, and finer than what is kept.
        full.meta.at = chrono::DateTime::from_timestamp(-5, 123_456_000).expect("a time");
        let stream = if n == 0 { StreamId::Fleet } else { stream() };
        let recorded = durable(&log, to(stream, Expected::Any, vec![full.clone()])).await;
        assert_eq!((&recorded[0].meta, &recorded[0].fact), (&full.meta, &full.fact));
        written.extend(recorded);
    }
    assert_eq!(all(&log).await, written);
    log.close().await;
    drop(log);
    if factory.keeps() {
        let log = factory.open().await;
        assert_eq!(all(&log).await, written, "read from the store, not from memory");
    }
}

/// See its name.
pub async fn odd_and_large_payloads_come_back(factory: &dyn Factory) {
    let log = factory.open().await;
    let ours = stream();
    let texts = [
        String::new(),
        "naïve – 東京 🦀 \u{0} \u{202e}".to_owned(),
        "x".repeat(4096),
        "y".repeat(4097),
        "é".repeat(100_000),
        "z".repeat(3 << 20),
        "z".repeat(3 << 20),
    ];
    let events = texts.iter().map(|text| event(text)).collect();
    let written = durable(&log, to(ours, Expected::NoStream, events)).await;
    assert_eq!(log.read(ours, Version(1), 10).await.expect("reads"), written);
    assert_eq!(log.verify().await.expect("verifies").problems, Vec::<String>::new());
    log.close().await;
    drop(log);
    if factory.keeps() {
        let log = factory.open().await;
        assert_eq!(log.read(ours, Version(1), 10).await.expect("reads"), written);
    }
}

/// See its name.
pub async fn a_reopened_log_goes_on_where_it_stopped(factory: &dyn Factory) {
    if !factory.keeps() {
        return;
    }
    let ours = stream();
    let mut written = Vec::new();
    let mut chain = None;
    for round in 0..4_u64 {
        let log = factory.open().await;
        assert_eq!(log.head(), Position(round * 30));
        assert_eq!(all(&log).await, written);
        let verified = log.verify().await.expect("verifies");
        assert!(chain.is_none_or(|chain| chain == verified.chain), "the chain goes on");
        if let Some(last) = written.last().cloned() {
            let again = NewEvent { meta: last.meta.clone(), fact: last.fact.clone() };
            let repeated = durable(&log, to(last.stream, Expected::NoStream, vec![again])).await;
            assert_eq!(repeated, [last], "ids are remembered");
        }
        for n in 0..10 {
            let expected = Expected::Exact(Version(round * 30 + n * 3));
            let events = (0..3).map(|_| event("kept")).collect();
            written.extend(durable(&log, to(ours, expected, events)).await);
        }
        chain = Some(log.verify().await.expect("verifies").chain);
        log.close().await;
    }
}
