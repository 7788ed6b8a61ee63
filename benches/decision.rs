//! Question: what does our own thinking cost, apart from what is asked of engines and of the log?
//!
//! `watch`: what the observer of one cell thinks in five seconds in which everybody is well: five turns, and one list of
//! everything that runs, the first after a start, which also adopts them all. `survey`: one of the surveys in which it tells the fleet's supervisor what it sees, a tenth of them
//! suspect. `admission`: one restart is asked for while a tenth of the cell waits for its own. `flight`: the flight recorder keeps one
//! more heartbeat, alone and while another thread does the same without a pause. `credential`: who shows this
//! bearer, where a thousand workspaces have fifty tokens each and the organisation five hundred; `near` begins as one that works
//! does, `spent` was revoked.
//!
//! Budget: a thousand watched workspaces take one percent of a core at most, so 50 ms of the five seconds; a
//! decision takes 50 µs at most, a heartbeat that is kept a hundredth of the 25 µs that it takes otherwise, a credential 20 µs,
//! and each kind of it the same.
//!
//! `cargo bench --bench decision`; `scripts/credential-cost` holds the last of these to its budget.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use covalence::http::auth::{Door, Identity};
use covalence_actors::context::{Context, ObserverView, Origin};
use covalence_actors::effect::{Clock, Listed, ListedState, Moment, Secret};
use covalence_actors::fleet::{self, Command, State, Survey};
use covalence_actors::policy::Policy;
use covalence_actors::runtime::FullOfBeats;
use covalence_actors::runtime::token::digest;
use covalence_actors::scenario::Everybody;
use covalence_actors::watch::{Input, Output, Seen, Watch};
use covalence_events::fleet::OrgTokenIssued;
use covalence_events::workspace::{
    BackendKind, InstanceRef, RestartCause, TokenIssued, TokenPurpose, TokensRevoked,
};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, Meta, Position, Principal, Recorded, RestartId,
    StreamId, Timestamp, TokenId, Version, WorkspaceId,
};
use covalence_projections::Views;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use uuid::Uuid;

const CELL: BackendKind = BackendKind::Docker;
const SIZES: [u32; 3] = [15, 200, 1_000];

fn at(seconds: i64) -> Timestamp {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000 + seconds)
}

fn id(n: u32) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(u128::from(n) + 1))
}

fn instance(n: u32) -> InstanceRef {
    InstanceRef { id: format!("{n:064x}") }
}

fn url(n: u32) -> String {
    format!("http://127.0.0.1:{}", 20_000 + n)
}

fn healthy(n: u32) -> Seen {
    Seen {
        workspace: id(n),
        generation: Generation(1),
        desired: true,
        between: false,
        instance: Some(instance(n)),
        url: Some(url(n)),
        heard: at(0),
        suspect: None,
        unknown: None,
    }
}

fn running(n: u32) -> Listed {
    Listed {
        workspace: Some(id(n)),
        generation: Some(Generation(1)),
        instance: instance(n),
        name: format!("workspace-{n}"),
        state: ListedState::Running,
        url: Some(url(n)),
    }
}

fn watch(c: &mut Criterion) {
    let mut group = c.benchmark_group("watch");
    let policy = Policy::default();
    for size in SIZES {
        let seen: Vec<_> = (0..size).map(healthy).collect();
        let list: Vec<_> = (0..size).map(running).collect();
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched(
                || (Watch::new(CELL, at(0)), list.clone()),
                |(mut watch, list)| {
                    let mut asked = 0;
                    for second in 1..=5 {
                        let said = watch.handle(&policy, Input::Turn, &seen, at(second));
                        asked += said.iter().filter(|one| matches!(one, Output::List)).count();
                    }
                    assert_eq!(asked, 1, "a list is under way until it comes back");
                    let listed = Input::Listed { result: Ok(list), took: Duration::from_millis(5) };
                    black_box(watch.handle(&policy, listed, &seen, at(5)))
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// A fleet of one cell and its supervisor.
struct Fleet {
    everybody: Everybody,
    state: State,
    origin: Origin,
    version: u64,
}

impl Fleet {
    /// In which a tenth waits for a restart.
    fn in_trouble(size: u32) -> Self {
        let mut fleet = Self {
            everybody: Everybody::of(CELL, size),
            state: State::default(),
            origin: Origin::part_of(CorrelationId(Uuid::from_u128(1)), Principal::System),
            version: 0,
        };
        for n in 0..size / 10 {
            fleet.record(&restart(n));
        }
        fleet
    }

    fn context(&self) -> Context<'_> {
        let policy = &self.state.policy;
        Context {
            now: Moment { at: at(60), mono_ns: 0 },
            boot: BootId(Uuid::from_u128(2)),
            origin: &self.origin,
            policy,
            policy_hash: policy.hash(),
            observer: ObserverView::well(at(0)),
            stopped: false,
            roster: &self.everybody,
            ids: Uuid::from_u128(u128::from(self.version + 1) << 32),
            chance: 0.5,
        }
    }

    fn record(&mut self, command: &Command) {
        let cx = self.context();
        let decided = fleet::decide(&self.state, command, &cx).expect("the command is allowed");
        let new = decided.map(Fact::Fleet).into_new_events(&cx);
        for new in new {
            self.version += 1;
            let (position, version) = (Position(self.version), Version(self.version));
            let recorded =
                Recorded { position, stream: StreamId::Fleet, version, meta: new.meta, fact: new.fact };
            let state = std::mem::take(&mut self.state);
            self.state = fleet::evolve(state, &recorded).expect("what was decided can be folded");
        }
    }
}

fn restart(n: u32) -> Command {
    let (workspace, restart) = (id(n), RestartId(Uuid::from_u128(u128::from(n) + 1)));
    Command::RequestAdmission { workspace, restart, cause: RestartCause::Death, forced: false }
}

fn decisions(c: &mut Criterion) {
    for (name, command) in [("admission", restart as fn(u32) -> Command), ("survey", survey)] {
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            let fleet = Fleet::in_trouble(size);
            let (cx, command) = (fleet.context(), command(size - 1));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| black_box(fleet::decide(&fleet.state, black_box(&command), &cx)));
            });
        }
        group.finish();
    }
}

/// Of a cell with this number and as many below it.
fn survey(last: u32) -> Command {
    Command::RecordSurvey(Survey {
        cell: CELL,
        listed: true,
        suspects: (0..=last).step_by(10).map(|n| (id(n), at(50))).collect(),
        dead: Vec::new(),
        score: 0,
        circuit_open: false,
        calm_for: Duration::ZERO,
    })
}

fn flight(c: &mut Criterion) {
    let recorder = FullOfBeats::of(id(0), at(0));
    let mut group = c.benchmark_group("flight");
    group.bench_function("beat", |b| b.iter(|| recorder.beat(black_box(id(1)), at(1))));
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                recorder.beat(id(2), at(1));
            }
        });
        group.bench_function("beat beside another", |b| b.iter(|| recorder.beat(black_box(id(1)), at(1))));
        over.store(true, Ordering::Relaxed);
    });
    group.finish();
}

/// Tokens of a workspace, and of the organisation: as many as there may be.
const OWN_TOKENS: u32 = 50;
const ORG_TOKENS: u32 = 500;
const ADMIN_TOKEN: &str = "an admin token that is as long as one that is made, 43";

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Moment {
        Moment { at: at(0), mono_ns: 0 }
    }
}

/// A text as long as a token's.
fn text_of(kind: &str, n: u32) -> String {
    format!("{kind:-<33}{n:010}")
}

/// Everybody's tokens, folded as the platform folds them.
fn everybodys_tokens() -> Views {
    let mut views = Views::new();
    let mut position = 0;
    let mut fold = |stream: StreamId, fact: Fact| {
        position += 1;
        let meta = Meta {
            id: EventId(Uuid::from_u128(position)),
            at: at(0),
            boot: BootId(Uuid::from_u128(1)),
            mono_ns: 0,
            correlation: CorrelationId(Uuid::from_u128(1)),
            causation: None,
            principal: Principal::System,
            policy: None,
        };
        let position = Position(u64::try_from(position).expect("few"));
        views.fold(&Recorded { position, stream, version: Version(1), meta, fact });
    };
    for n in 0..OWN_TOKENS * 1_000 {
        let issued = TokenIssued {
            token: TokenId(Uuid::from_u128(u128::from(n))),
            sha256: digest(&text_of("own", n)),
            prefix: "own-----".to_owned(),
            purpose: TokenPurpose::Person,
            generation: None,
        };
        fold(StreamId::Workspace(id(n / OWN_TOKENS)), Fact::Workspace(issued.into()));
    }
    let spent = TokensRevoked { tokens: vec![TokenId(Uuid::from_u128(0))], reason: "revoked".to_owned() };
    fold(StreamId::Workspace(id(0)), Fact::Workspace(spent.into()));
    for n in 0..ORG_TOKENS {
        let issued = OrgTokenIssued {
            token: TokenId(Uuid::from_u128(u128::from(n) + (1 << 64))),
            sha256: digest(&text_of("org", n)),
            prefix: "org-----".to_owned(),
            name: None,
        };
        fold(StreamId::Fleet, Fact::Fleet(issued.into()));
    }
    views
}

fn credential(c: &mut Criterion) {
    let (views, door) = (everybodys_tokens(), Door::new(&Secret::new(ADMIN_TOKEN.to_owned())));
    let mut near = text_of("own", 777);
    near.replace_range(42.., "x");
    let shown = [
        ("own", text_of("own", 777)),
        ("org", text_of("org", 77)),
        ("admin", ADMIN_TOKEN.to_owned()),
        ("unknown", text_of("nobody", 1)),
        ("near", near),
        ("spent", text_of("own", 0)),
    ];
    let mut group = c.benchmark_group("credential");
    for (kind, bearer) in shown {
        let known = door.recognise(&bearer, &views, &Noon);
        assert!(
            match kind {
                "own" => matches!(known, Identity::Workspace(_)),
                "org" => matches!(known, Identity::Org(_)),
                "admin" => known == Identity::Admin,
                "spent" => matches!(known, Identity::Spent(_)),
                _ => known == Identity::Unknown,
            },
            "{kind}: {known:?}"
        );
        group.bench_function(kind, |b| b.iter(|| door.recognise(black_box(&bearer), &views, &Noon)));
    }
    group.finish();
}

criterion_group!(benches, watch, decisions, flight, credential);
criterion_main!(benches);
