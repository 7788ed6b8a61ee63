//! What the tests of this crate share: facts with an envelope, in the order in which they are made.

use std::sync::Arc;

use chrono::DateTime;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, EventLog, Expected};
use covalence_events::workspace::{
    BackendKind, CallFinished, CallOutcome, CameOnline, Created, DeliveryMode, Event, HeartbeatReceived,
    InstanceRef, InstanceStarted, OnlineVia, ProvisionOrigin, ProvisionRequested, Registered, RestartCause,
    TokenIssued, TokenPurpose, WorkspaceAccess,
};
use covalence_events::{
    BootId, CallId, CorrelationId, EventId, Fact, Generation, Meta, NewEvent, Position, Principal, Recorded,
    RestartId, StreamId, Timestamp, TokenId, Version, WorkspaceId, fleet,
};
use serde_json::json;
use uuid::Uuid;

pub(crate) fn id(number: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(number))
}

/// Second `seconds` of the tests' own calendar.
pub(crate) fn at(seconds: u64) -> Timestamp {
    DateTime::from_timestamp(1_700_000_000 + i64::try_from(seconds).unwrap(), 0).unwrap()
}

pub(crate) fn meta(number: u64) -> Meta {
    Meta {
        id: EventId(Uuid::from_u128(u128::from(number))),
        at: at(number),
        boot: BootId(Uuid::nil()),
        mono_ns: number,
        correlation: CorrelationId(Uuid::from_u128(7)),
        causation: None,
        principal: Principal::System,
        policy: None,
    }
}

/// A history in the making: each fact gets the next position, and that many seconds as its time.
#[derive(Debug, Default)]
pub(crate) struct History(pub(crate) Vec<Arc<Recorded>>);

impl History {
    pub(crate) fn push(&mut self, stream: StreamId, fact: Fact) -> Arc<Recorded> {
        let position = self.0.len() as u64 + 1;
        let version = self.0.iter().filter(|known| known.stream == stream).count() as u64 + 1;
        let recorded = Arc::new(Recorded {
            position: Position(position),
            stream,
            version: Version(version),
            meta: meta(position),
            fact,
        });
        self.0.push(Arc::clone(&recorded));
        recorded
    }

    pub(crate) fn of(&mut self, number: u128, event: impl Into<Event>) -> Arc<Recorded> {
        self.push(StreamId::Workspace(id(number)), Fact::Workspace(event.into()))
    }

    pub(crate) fn fleet(&mut self, event: impl Into<fleet::Event>) -> Arc<Recorded> {
        self.push(StreamId::Fleet, Fact::Fleet(event.into()))
    }
}

/// Records what a history holds, in its order.
pub(crate) async fn append(log: &MemoryLog, history: &[Arc<Recorded>]) {
    for recorded in history {
        let event = NewEvent { meta: recorded.meta.clone(), fact: recorded.fact.clone() };
        let append = Append { stream: recorded.stream, expected: Expected::Any, events: vec![event] };
        log.append(vec![append], Ack::Durable).await.unwrap();
    }
}

pub(crate) fn created(name: &str, parent: Option<u128>) -> Created {
    Created {
        name: name.to_owned(),
        role: None,
        tier: 2,
        runtime: "echo".to_owned(),
        backend: BackendKind::Process,
        model: None,
        template: None,
        entry: None,
        parent: parent.map(id),
        workspace_dir: None,
        workspace_access: WorkspaceAccess::None,
        url: None,
        delivery_mode: None,
        budget_limit: None,
        max_concurrent_tasks: 5,
        x: 0.0,
        y: 0.0,
    }
}

pub(crate) fn external(name: &str, url: Option<&str>) -> Created {
    Created {
        backend: BackendKind::External,
        runtime: "external".to_owned(),
        url: url.map(str::to_owned),
        ..created(name, None)
    }
}

pub(crate) fn provision(generation: u64) -> ProvisionRequested {
    ProvisionRequested {
        generation: Generation(generation),
        origin: ProvisionOrigin::Create,
        restart: None,
        reset_session: false,
    }
}

pub(crate) fn started(generation: u64) -> InstanceStarted {
    InstanceStarted {
        generation: Generation(generation),
        instance: Some(InstanceRef { id: format!("42:{generation}:boot") }),
        url: Some("http://127.0.0.1:9000".to_owned()),
        withheld: Vec::new(),
        image: Some("covalence-agent".to_owned()),
    }
}

pub(crate) fn registered(url: Option<&str>) -> Registered {
    Registered {
        url: url.map(str::to_owned),
        agent_card: json!({"name": "the card"}),
        delivery_mode: DeliveryMode::Push,
        generation: None,
    }
}

pub(crate) fn online(via: OnlineVia, from: &str) -> CameOnline {
    CameOnline { via, from: from.to_owned(), generation: Generation(1), restart: None }
}

pub(crate) fn beat(generation: u64) -> HeartbeatReceived {
    HeartbeatReceived { generation: Some(Generation(generation)), ..HeartbeatReceived::default() }
}

pub(crate) fn call(caller: Principal, outcome: CallOutcome, duration_ms: u64) -> CallFinished {
    CallFinished {
        call: CallId(Uuid::from_u128(u128::from(duration_ms))),
        caller,
        method: "message/send".to_owned(),
        outcome,
        status: Some(200),
        duration_ms,
        request_bytes: 10,
        response_bytes: 20,
        error: None,
        tries: 1,
        failure: None,
    }
}

pub(crate) fn token(number: u8) -> TokenIssued {
    TokenIssued {
        token: TokenId(Uuid::from_u128(u128::from(number))),
        sha256: [number; 32],
        prefix: "abcdefgh".to_owned(),
        purpose: TokenPurpose::Provision,
        generation: Some(Generation(1)),
    }
}

/// The restart that the tests' histories are about.
pub(crate) fn restart() -> RestartId {
    RestartId(Uuid::from_u128(5))
}

pub(crate) fn admitted(number: u128) -> fleet::RestartAdmitted {
    fleet::RestartAdmitted {
        workspace: id(number),
        restart: restart(),
        cause: RestartCause::Death,
        in_flight: 0,
        in_flight_max: 2,
        recent: 0,
        recent_max: 5,
        inputs: None,
        cost: None,
        overridden: Vec::new(),
        taken_along: Vec::new(),
    }
}

pub(crate) fn deferred(number: u128, rule: &str) -> fleet::RestartDeferred {
    fleet::RestartDeferred {
        workspace: id(number),
        restart: restart(),
        cause: RestartCause::Death,
        rule: rule.to_owned(),
        until: Some(at(60)),
        in_flight: 2,
        in_flight_max: 2,
        recent: 0,
        recent_max: 5,
        inputs: None,
    }
}
