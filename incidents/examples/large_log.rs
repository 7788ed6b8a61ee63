//! How long questions take on a large log: writes one and asks.
//!
//! `cargo run --release -p covalence-incidents --example large_log -- DIR 10000000 [WORKSPACES]` makes a log of so many facts in DIR (or
//! opens the one that is there): workspaces that beat each 30 s, and a death with its restart now and then.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use covalence_events::log::sled::{Options, SledLog};
use covalence_events::log::{Ack, Append, EVENTS_PER_APPEND_MAX, EventLog, Expected};
use covalence_events::workspace::{
    CameOnline, EvidenceClass, EvidenceObserved, EvidenceSource, HeartbeatReceived, OnlineVia, RestartCause,
    RestartRequested,
};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, Meta, NewEvent, Position, Principal, RestartId,
    StreamId, Timestamp, WorkspaceId, workspace,
};
use covalence_incidents::timeline::{self, Span};
use covalence_incidents::{Moment, Which, Who, explain};
use uuid::Uuid;

/// Of so many rounds of beats one has a death in it.
const ROUNDS_PER_DEATH: u64 = 500;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example's answer")]
#[expect(clippy::expect_used, reason = "a measurement that fails says where")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a directory");
    let mut number = |usual: u64| arguments.next().map_or(usual, |text| text.parse().expect("a number"));
    let (facts, workspaces) = (number(1_000_000), number(1000));
    let begun = Instant::now();
    let (log, opened) = SledLog::open(Path::new(&dir), &Options::default()).expect("the log opens");
    println!("open              {:>10.3?}  {} facts", begun.elapsed(), opened.head);
    if opened.head < Position(facts) {
        let begun = Instant::now();
        write(&log, facts, workspaces).await;
        println!("write             {:>10.3?}  {} facts", begun.elapsed(), log.head());
    }
    for share in [1, 5, 9] {
        ask(&log, log.head().0 * share / 10, workspaces).await;
    }
    log.close().await;
}

/// Asks everything about a moment. Each question is asked once: nothing is warm but what the one before it read.
#[expect(clippy::print_stdout, reason = "an example's answer")]
#[expect(clippy::expect_used, reason = "a measurement that fails says where")]
async fn ask(log: &SledLog, position: u64, workspaces: u64) {
    let who = Who::default();
    let found = log.read_all(Position(position), 1).await.expect("reads");
    let (at, id) = found.first().map(|event| (event.meta.at, event.meta.id)).expect("a fact");
    let took = |name: &str, begun: Instant, said: String| {
        let elapsed: Duration = begun.elapsed();
        println!("{name:18}{elapsed:>10.3?}  {said}");
    };
    println!("at position {position}");
    let begun = Instant::now();
    let explained =
        explain::workspace(log, one(position % workspaces), Moment::Time(at), &who).await.expect("an answer");
    took("explain --at", begun, explained.summary);
    let begun = Instant::now();
    let explained = explain::fact(log, Which::Id(id), &who).await.expect("an answer");
    took("explain --event", begun, explained.summary);
    let five_minutes = at.checked_add_signed(TimeDelta::minutes(5)).unwrap_or(at);
    let whole = Span {
        since: Some(Moment::Time(at)),
        until: Moment::Time(five_minutes),
        after: None,
        workspaces: [].into(),
        lines: timeline::LINES_MAX,
    };
    let few = Span { workspaces: (0..3).map(one).collect(), ..whole.clone() };
    for (name, span) in [("timeline of 5 min", whole), ("of 3 workspaces", few)] {
        let begun = Instant::now();
        let shown = timeline::between(log, &span, &who).await.expect("an answer");
        took(name, begun, format!("{} facts, {} lines", shown.facts, shown.lines.len()));
    }
}

#[expect(clippy::expect_used, reason = "a measurement that fails says where")]
async fn write(log: &SledLog, facts: u64, workspaces: u64) {
    let start = Timestamp::from_timestamp(1_700_000_000, 0).unwrap_or_default();
    let mut written = log.head().0;
    let mut round = 0_u64;
    while written < facts {
        let seconds = i64::try_from(round * 30).unwrap_or(i64::MAX / 2);
        let at = start.checked_add_signed(TimeDelta::seconds(seconds)).unwrap_or(start);
        let mut appends: Vec<Append> = (0..workspaces)
            .map(|number| append(number, vec![event(at, HeartbeatReceived::default(), None)]))
            .collect();
        if round.is_multiple_of(ROUNDS_PER_DEATH)
            && let Ok(index) = usize::try_from(round / ROUNDS_PER_DEATH % workspaces)
            && let Some(append) = appends.get_mut(index)
        {
            append.events.extend(death(at));
        }
        for part in appends.chunks(EVENTS_PER_APPEND_MAX / 8) {
            written = log
                .append(part.to_vec(), Ack::Accepted)
                .await
                .expect("the append is taken")
                .last()
                .map_or(written, |last| last.0);
        }
        round += 1;
    }
    let mut durable = log.watch();
    durable.wait_for(|head| head.0 >= written).await.expect("still open");
}

fn death(at: Timestamp) -> Vec<NewEvent> {
    let (generation, restart) = (Generation(1), RestartId::generate());
    let evidence = EvidenceObserved {
        source: EvidenceSource::Exit,
        class: EvidenceClass::Death,
        generation,
        instance: None,
        code: "exited".to_owned(),
        detail: String::new(),
        exit_status: Some(137),
    };
    let evidence = event(at, evidence, None);
    let wish = RestartRequested {
        restart,
        cause: RestartCause::Death,
        generation,
        reset_session: false,
        evidence: vec![evidence.meta.id],
        forced: false,
        reason: None,
    };
    let wish = event(at, wish, Some(evidence.meta.id));
    let from = "offline".to_owned();
    let online =
        CameOnline { via: OnlineVia::Register, from, generation: Generation(2), restart: Some(restart) };
    let online = event(at, online, Some(wish.meta.id));
    vec![evidence, wish, online]
}

fn event(at: Timestamp, fact: impl Into<workspace::Event>, causation: Option<EventId>) -> NewEvent {
    // As the platform's: an id says when it was made.
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or_default();
    let chance = *Uuid::new_v4().as_bytes();
    let mut tail = [0; 10];
    tail.copy_from_slice(&chance[..10]);
    NewEvent {
        meta: Meta {
            id: EventId(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()),
            at,
            boot: BootId(Uuid::nil()),
            mono_ns: 0,
            correlation: CorrelationId(Uuid::nil()),
            causation,
            principal: Principal::System,
            policy: None,
        },
        fact: Fact::Workspace(fact.into()),
    }
}

fn append(number: u64, events: Vec<NewEvent>) -> Append {
    Append { stream: StreamId::Workspace(one(number)), expected: Expected::Any, events }
}

fn one(number: u64) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(u128::from(number) + 1))
}
