//! What the tests of this crate share: hand-written logs, in the order in which their facts are made.

use std::sync::Arc;

use covalence_events::fleet::{
    AdmissionInputs, BrakeEngaged, BrakeMode, BrakeReading, BrakeTrigger, IncidentOpened, RestartAdmitted,
    RestartDeferred,
};
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, EventLog as _, Expected};
use covalence_events::workspace::{
    BackendKind, CameOnline, ConfirmRequested, Created, EvidenceClass, EvidenceObserved, EvidenceSource,
    InstanceRef, InstanceStarted, OnlineVia, ProvisionOrigin, ProvisionRequested, RestartCause,
    RestartProved, RestartRequested, RestartStarted, SuspicionRaised, Verdict, VerdictReached,
    WorkspaceAccess,
};
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, IncidentId, Meta, NewEvent, Position, Principal,
    Recorded, RestartId, StreamId, Timestamp, WorkspaceId, fleet, workspace,
};
use uuid::Uuid;

use crate::Who;

pub(crate) fn id(number: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(number))
}

/// `ms` after the beginning of the tests' own calendar, 2023-11-14 22:13:20 UTC.
pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_timestamp_millis(1_700_000_000_000 + ms).unwrap()
}

pub(crate) const LEAD: u128 = 0xa;

/// A log in the making.
#[derive(Debug, Default)]
pub(crate) struct Story {
    facts: Vec<(StreamId, Meta, Fact)>,
    now: i64,
    boot: u128,
    principal: Option<Principal>,
}

impl Story {
    /// A platform that runs, and `lead`, which is online since a second.
    pub(crate) fn of_lead() -> Self {
        let mut story = Self { boot: 1, ..Self::default() };
        story.fleet(fleet::PlatformStarted {
            version: "0.1.0".to_owned(),
            backend: "process".to_owned(),
            workspaces: 0,
            head: Position(0),
        });
        story.created(LEAD, "lead");
        story
    }

    pub(crate) fn created(&mut self, number: u128, name: &str) {
        let created = Created {
            name: name.to_owned(),
            role: None,
            tier: 2,
            runtime: "echo".to_owned(),
            backend: BackendKind::Process,
            model: None,
            template: None,
            entry: None,
            parent: None,
            workspace_dir: None,
            workspace_access: WorkspaceAccess::None,
            url: None,
            delivery_mode: None,
            budget_limit: None,
            max_concurrent_tasks: 5,
            x: 0.0,
            y: 0.0,
        };
        let first = self.of(number, created);
        self.started(number, 1, Some(first), None);
    }

    /// A generation that is asked for, runs, and is heard from within a second.
    pub(crate) fn started(
        &mut self,
        number: u128,
        generation: u64,
        cause: Option<EventId>,
        restart: Option<RestartId>,
    ) -> EventId {
        let origin = if restart.is_some() { ProvisionOrigin::Restart } else { ProvisionOrigin::Create };
        let generation = Generation(generation);
        let asked = self.caused(
            number,
            cause,
            ProvisionRequested { generation, origin, restart, reset_session: false },
        );
        let runs =
            InstanceStarted { generation, instance: None, url: None, withheld: Vec::new(), image: None };
        let runs = self.after(500).caused(number, Some(asked), runs);
        let from = "provisioning".to_owned();
        let online = CameOnline { via: OnlineVia::Register, from, generation, restart };
        self.after(500).caused(number, Some(runs), online)
    }

    pub(crate) fn after(&mut self, ms: i64) -> &mut Self {
        self.now += ms;
        self
    }

    /// Another run of the platform records what follows.
    pub(crate) fn reboot(&mut self) {
        self.boot += 1;
    }

    /// A person does what follows next.
    pub(crate) fn by_admin(&mut self) -> &mut Self {
        self.principal = Some(Principal::Admin);
        self
    }

    pub(crate) fn of(&mut self, number: u128, event: impl Into<workspace::Event>) -> EventId {
        self.caused(number, None, event)
    }

    pub(crate) fn caused(
        &mut self,
        number: u128,
        cause: Option<EventId>,
        event: impl Into<workspace::Event>,
    ) -> EventId {
        self.push(StreamId::Workspace(id(number)), cause, Fact::Workspace(event.into()))
    }

    pub(crate) fn fleet(&mut self, event: impl Into<fleet::Event>) -> EventId {
        self.decided(None, event)
    }

    pub(crate) fn decided(&mut self, cause: Option<EventId>, event: impl Into<fleet::Event>) -> EventId {
        self.push(StreamId::Fleet, cause, Fact::Fleet(event.into()))
    }

    fn push(&mut self, stream: StreamId, causation: Option<EventId>, fact: Fact) -> EventId {
        let number = self.facts.len() as u64 + 1;
        let id = self.next_id(number);
        let meta = Meta {
            id,
            at: at(self.now),
            boot: BootId(Uuid::from_u128(self.boot)),
            mono_ns: number,
            correlation: CorrelationId(Uuid::from_u128(7)),
            causation,
            principal: self.principal.take().unwrap_or(Principal::System),
            policy: None,
        };
        self.facts.push((stream, meta, fact));
        id
    }

    /// It died with a signal, and a restart is asked for.
    pub(crate) fn death(&mut self, number: u128, restart: RestartId) -> EventId {
        let evidence = self.of(
            number,
            EvidenceObserved {
                source: EvidenceSource::Exit,
                class: EvidenceClass::Death,
                generation: Generation(1),
                instance: None,
                code: "exited".to_owned(),
                detail: String::new(),
                exit_status: Some(137),
            },
        );
        let verdict = VerdictReached {
            verdict: Verdict::Dead,
            rule: "proof_of_death".to_owned(),
            generation: Generation(1),
            evidence: vec![evidence],
            observer_score: Some(0),
        };
        let verdict = self.caused(number, Some(evidence), verdict);
        let wish = RestartRequested {
            restart,
            cause: RestartCause::Death,
            generation: Generation(1),
            reset_session: false,
            evidence: vec![evidence],
            forced: false,
            reason: None,
        };
        self.caused(number, Some(verdict), wish)
    }

    pub(crate) fn admitted(
        &mut self,
        number: u128,
        restart: RestartId,
        cause: EventId,
        tokens: f64,
    ) -> EventId {
        self.decided(
            Some(cause),
            RestartAdmitted {
                workspace: id(number),
                restart,
                cause: RestartCause::Death,
                in_flight: 0,
                in_flight_max: 2,
                recent: 0,
                recent_max: 5,
                inputs: Some(Box::new(inputs(self.now, tokens))),
                cost: Some(1.0),
                overridden: Vec::new(),
                taken_along: Vec::new(),
            },
        )
    }

    pub(crate) fn deferred(
        &mut self,
        number: u128,
        restart: RestartId,
        cause: EventId,
        rule: &str,
    ) -> EventId {
        let until = Some(at(self.now + 10_000));
        self.decided(
            Some(cause),
            RestartDeferred {
                workspace: id(number),
                restart,
                cause: RestartCause::Death,
                rule: rule.to_owned(),
                until,
                in_flight: 0,
                in_flight_max: 2,
                recent: 0,
                recent_max: 5,
                inputs: Some(Box::new(inputs(self.now, 0.25))),
            },
        )
    }

    /// From the admission to the new generation that is heard from.
    pub(crate) fn restarted(&mut self, number: u128, restart: RestartId, admission: EventId) -> EventId {
        let position = Position(self.facts.len() as u64);
        let look = ConfirmRequested {
            restart,
            admission: position,
            generation: Generation(1),
            instance: InstanceRef { id: "1:2:3".to_owned() },
        };
        let look = self.caused(number, Some(admission), look);
        let begun =
            self.after(10).caused(number, Some(look), RestartStarted { restart, admission: position });
        self.started(number, 2, Some(begun), Some(restart))
    }

    pub(crate) fn proved(&mut self, number: u128, restart: RestartId) {
        self.after(20_000);
        self.of(number, RestartProved { restart, generation: Generation(2), after_ms: 20_000 });
    }

    /// A source that speaks against it and proves nothing.
    pub(crate) fn doubt(&mut self, number: u128, source: EvidenceSource, code: &str) -> EventId {
        self.of(
            number,
            EvidenceObserved {
                source,
                class: EvidenceClass::Suspicion,
                generation: Generation(1),
                instance: None,
                code: code.to_owned(),
                detail: String::new(),
                exit_status: None,
            },
        )
    }

    pub(crate) fn suspicion(&mut self, number: u128) -> EventId {
        self.of(
            number,
            SuspicionRaised {
                generation: Generation(1),
                source: EvidenceSource::Heartbeat,
                phi: Some(9.25),
                silent_ms: 76_000,
                observer_score: 0,
                evidence: Vec::new(),
            },
        )
    }

    pub(crate) fn brake(&mut self, members: &[u128]) -> EventId {
        self.fleet(BrakeEngaged {
            cell: BackendKind::Process,
            mode: BrakeMode::Freeze,
            trigger: BrakeTrigger::Suspicion,
            count: 5,
            of: 15,
            threshold: 3,
            members: members.iter().map(|number| id(*number)).collect(),
            reading: BrakeReading { size: 15, suspects: 5, suspects_recent: 5, ..BrakeReading::default() },
        })
    }

    /// The incident that a brake opens.
    pub(crate) fn incident(&mut self, brake: EventId) -> EventId {
        let number = self.facts.len() as u64 + 1;
        let incident = IncidentId(self.next_id(number).0);
        let (cell, title) = (Some(BackendKind::Process), "process braked".to_owned());
        let (since, until, workspaces) = (None, None, Vec::new());
        self.decided(Some(brake), IncidentOpened { incident, title, cell, since, until, workspaces })
    }

    fn next_id(&self, number: u64) -> EventId {
        // The platform's ids begin with their time, and so do these.
        let time = u64::try_from(at(self.now).timestamp_millis()).unwrap();
        EventId(uuid::Builder::from_unix_timestamp_millis(time, &tail(number)).into_uuid())
    }

    pub(crate) fn now(&self) -> Timestamp {
        at(self.now)
    }

    /// The log of it.
    pub(crate) async fn log(&self) -> MemoryLog {
        let log = MemoryLog::new();
        for (stream, meta, fact) in &self.facts {
            let event = NewEvent { meta: meta.clone(), fact: fact.clone() };
            let append = Append { stream: *stream, expected: Expected::Any, events: vec![event] };
            log.append(vec![append], Ack::Durable).await.unwrap();
        }
        log
    }
}

fn tail(number: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub(crate) fn restart(number: u128) -> RestartId {
    RestartId(Uuid::from_u128(number))
}

fn inputs(now: i64, tokens: f64) -> AdmissionInputs {
    AdmissionInputs { tokens, ..AdmissionInputs::quiet(BackendKind::Process, at(now)) }
}

/// Who everybody in a log is.
pub(crate) async fn who(log: &MemoryLog) -> Who {
    let mut who = Who::default();
    for event in log.read_all(Position(1), usize::MAX).await.unwrap() {
        who.learn(&event);
    }
    who
}

/// Everything in a log.
pub(crate) async fn all(log: &MemoryLog) -> Vec<Arc<Recorded>> {
    log.read_all(Position(1), usize::MAX).await.unwrap()
}
