//! One fact of every kind, with every field set to something that can be told apart.

use covalence_events::fleet as f;
use covalence_events::workspace as w;
use covalence_events::{
    AgentId, CallId, DelegationId, EventId, Fact, Generation, HoldId, PolicyHash, Position, Principal,
    QueueId, RestartId, Timestamp, TokenId, WorkspaceId,
};

fn id<T: std::str::FromStr>(n: u8) -> T {
    let text = format!("0190a0b0-c0d0-7e00-8f00-0000000000{n:02x}");
    text.parse().unwrap_or_else(|_| panic!("`{text}` is an id"))
}

fn time() -> Timestamp {
    chrono::DateTime::from_timestamp_micros(1_763_730_123_456_789).expect("a time")
}

#[expect(clippy::unnecessary_wraps, reason = "every optional text is set")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn instance() -> w::InstanceRef {
    w::InstanceRef { id: "4711:123456:boot".to_owned() }
}

fn card() -> serde_json::Value {
    serde_json::json!({
        "name": "echo", "version": "1.0", "skills": [{"id": "talk", "tags": []}],
        "capabilities": {"streaming": false, "limit": 18_446_744_073_709_551_615_u64, "share": 0.5, "none": null},
    })
}

/// Facts whose payload has grown since their fixture was written, with every later field set.
pub(crate) fn grown() -> Vec<Fact> {
    let (workspace, restart, cause) = (id::<WorkspaceId>(1), id::<RestartId>(3), w::RestartCause::Team);
    let numbers = Some(Box::new(inputs()));
    let fleet: Vec<f::Event> = vec![
        f::RestartAdmitted {
            workspace,
            restart,
            cause,
            in_flight: 1,
            in_flight_max: 3,
            recent: 0,
            recent_max: 5,
            inputs: numbers.clone(),
            cost: Some(2.0),
            overridden: vec!["brake".to_owned()],
            taken_along: vec![workspace],
        }
        .into(),
        f::RestartDeferred {
            workspace,
            restart,
            cause,
            rule: "tokens".to_owned(),
            until: None,
            in_flight: 1,
            in_flight_max: 3,
            recent: 0,
            recent_max: 5,
            inputs: numbers.clone(),
        }
        .into(),
        f::RestartSuppressed {
            workspace,
            restart,
            cause,
            rule: "hold".to_owned(),
            recent: 0,
            recent_max: 5,
            window_s: 600,
            inputs: numbers,
            until: Some(time()),
        }
        .into(),
    ];
    let verdict = w::VerdictReached {
        verdict: w::Verdict::Dead,
        rule: "hung".to_owned(),
        generation: Generation(7),
        evidence: vec![id::<EventId>(4)],
        observer_score: Some(1),
    };
    fleet.into_iter().map(Fact::Fleet).chain([Fact::Workspace(verdict.into())]).collect()
}

/// See the module.
pub(crate) fn all() -> Vec<Fact> {
    let workspace = life()
        .into_iter()
        .chain(running())
        .chain(supervision())
        .chain(traffic())
        .chain(activity())
        .chain(coordination())
        .chain(doubts());
    let workspace = workspace.chain(sessions()).chain(drains());
    workspace
        .map(Fact::Workspace)
        .chain(
            platform()
                .into_iter()
                .chain(fleet())
                .chain(policy())
                .chain(choices())
                .chain(keys())
                .map(Fact::Fleet),
        )
        .collect()
}

/// Every sample under the name of its fixture: its tag, and a word that the tag's payload learned later.
pub(crate) fn named() -> Vec<(String, Fact)> {
    let later = later().into_iter().map(|(word, event)| (format!("{}~{word}", event.tag()), event));
    let later = later.map(|(name, event)| (name, Fact::Workspace(event)));
    all().into_iter().map(|fact| (fact.tag().to_owned(), fact)).chain(later).collect()
}

fn later() -> Vec<(&'static str, w::Event)> {
    let generation = Generation(7);
    let wanted = w::RestartRequested {
        restart: id::<RestartId>(3),
        cause: w::RestartCause::Shutdown,
        generation,
        reset_session: false,
        evidence: Vec::new(),
        forced: false,
        reason: None,
    };
    let stopped = w::StopRequested { generation, reason: w::StopReason::Shutdown };
    vec![("shutdown", wanted.into()), ("shutdown", stopped.into())]
}

fn life() -> Vec<w::Event> {
    let created = w::Created {
        name: "Übersetzerin 🦀".to_owned(),
        role: text("translates"),
        tier: 2,
        runtime: "echo".to_owned(),
        backend: w::BackendKind::Process,
        model: text("some-model"),
        template: text("translator"),
        entry: None,
        parent: Some(id::<WorkspaceId>(1)),
        workspace_dir: text("/srv/texts"),
        workspace_access: w::WorkspaceAccess::ReadOnly,
        url: text("http://agent.example:9000"),
        delivery_mode: Some(w::DeliveryMode::Push),
        budget_limit: Some(-1),
        max_concurrent_tasks: 5,
        x: 1.5,
        y: -2.25,
    };
    vec![
        created.into(),
        w::Renamed { name: "another".to_owned() }.into(),
        w::RoleChanged { role: text("reads") }.into(),
        w::TierChanged { tier: 4 }.into(),
        w::Moved { parent: Some(id(2)) }.into(),
        w::RuntimeChanged { runtime: "command".to_owned() }.into(),
        w::DirectoryChanged { workspace_dir: text("/srv/other") }.into(),
        w::Placed { x: 0.0, y: 1e300 }.into(),
        w::Folded { collapsed: true }.into(),
        w::Paused {}.into(),
        w::Erased {}.into(),
        w::Resumed {}.into(),
        w::HibernationRequested { forced: true, active_tasks: 2 }.into(),
        w::Hibernated {}.into(),
        w::Removed { cascade_deleted: Some(3), purge: true, forwarded_to: None }.into(),
    ]
}

fn running() -> Vec<w::Event> {
    let generation = Generation(7);
    vec![
        w::ProvisionRequested {
            generation,
            origin: w::ProvisionOrigin::Restart,
            restart: Some(id::<RestartId>(3)),
            reset_session: true,
        }
        .into(),
        w::InstanceStarted {
            generation,
            instance: Some(instance()),
            url: text("http://127.0.0.1:40001"),
            withheld: vec!["privileged".to_owned()],
            image: text("covalence/echo:stable"),
        }
        .into(),
        w::ProvisionFailed {
            generation,
            code: "image_missing".to_owned(),
            message: "build it first".to_owned(),
            retryable: false,
            command: text("covalence images build echo"),
        }
        .into(),
        w::StopRequested { generation, reason: w::StopReason::Pause }.into(),
        w::InstanceStopped { generation }.into(),
        w::StopFailed { generation, message: "the engine is gone".to_owned() }.into(),
        w::InstanceAdopted { generation, instance: instance() }.into(),
        w::TokenIssued {
            token: id::<TokenId>(4),
            sha256: std::array::from_fn(|n| u8::try_from(n * 7).unwrap_or_default()),
            prefix: "mlt_abcd".to_owned(),
            purpose: w::TokenPurpose::Provision,
            generation: Some(generation),
        }
        .into(),
        w::TokensRevoked { tokens: vec![id(4), id(5)], reason: "provision".to_owned() }.into(),
        w::EnrolmentOpened { until: time() }.into(),
        w::RegistrationRefused { reason: w::RefusedBecause::NoToken }.into(),
        w::HandlerPanicked { command: "Heartbeat".to_owned(), message: "index out of bounds".to_owned() }
            .into(),
    ]
}

fn supervision() -> Vec<w::Event> {
    let (generation, restart) = (Generation(7), id::<RestartId>(3));
    let evidence: Vec<EventId> = vec![id(6), id(7)];
    vec![
        w::EvidenceObserved {
            source: w::EvidenceSource::Exit,
            class: w::EvidenceClass::Death,
            generation,
            instance: Some(instance()),
            code: "exited".to_owned(),
            detail: "killed by signal 9".to_owned(),
            exit_status: Some(137),
        }
        .into(),
        w::VerdictReached {
            verdict: w::Verdict::Dead,
            rule: "proof_of_death".to_owned(),
            generation,
            evidence: evidence.clone(),
            observer_score: None,
        }
        .into(),
        w::WentOffline { rule: "proof_of_death".to_owned(), message: text("exited with 137") }.into(),
        w::CameOnline {
            via: w::OnlineVia::Register,
            from: "provisioning".to_owned(),
            generation,
            restart: Some(restart),
        }
        .into(),
        w::Degraded {
            error_rate: 0.75,
            sample_error: "rate limited".to_owned(),
            runtime_state: "wedged".to_owned(),
        }
        .into(),
        w::RestartRequested {
            restart,
            cause: w::RestartCause::Death,
            generation,
            reset_session: false,
            evidence,
            forced: false,
            reason: None,
        }
        .into(),
        w::RestartStarted { restart, admission: Position(u64::MAX) }.into(),
        w::RestartAnnounced {
            restart,
            generation,
            outcome: w::CallOutcome::NotDelivered,
            error: text("connection refused"),
        }
        .into(),
        w::RestartAbandoned { restart, reason: "paused".to_owned() }.into(),
        w::Quarantined { restart, rule: "intensity".to_owned(), message: "five in a minute".to_owned() }
            .into(),
    ]
}

fn traffic() -> Vec<w::Event> {
    vec![
        w::Registered {
            url: text("http://127.0.0.1:40001"),
            agent_card: card(),
            delivery_mode: w::DeliveryMode::Poll,
            generation: Some(Generation(7)),
        }
        .into(),
        w::CardUpdated { agent_card: card() }.into(),
        w::HeartbeatReceived {
            error_rate: 0.125,
            sample_error: "timeout".to_owned(),
            active_tasks: 2,
            uptime_seconds: 86_400,
            current_task: "summing up".to_owned(),
            monthly_spend: Some(1234),
            runtime_state: "wedged".to_owned(),
            agent_card: Some(card()),
            generation: Some(Generation(7)),
        }
        .into(),
        w::CallFinished {
            call: id::<CallId>(8),
            caller: Principal::Workspace(id(9)),
            method: "message/send".to_owned(),
            outcome: w::CallOutcome::Answered,
            status: Some(200),
            duration_ms: 41,
            request_bytes: 1024,
            response_bytes: 65_536,
            error: text("cut off"),
            tries: 1,
            failure: None,
        }
        .into(),
    ]
}

fn said(text: &str) -> w::Text {
    w::Text { text: text.to_owned(), cut: true }
}

/// Calls that wait, and what else workspaces have to do with each other.
fn coordination() -> Vec<w::Event> {
    vec![
        w::CallQueued {
            queue: id::<QueueId>(13),
            caller: Principal::Workspace(id(9)),
            method: "message/send".to_owned(),
            digest: text("00c0ffee00c0ffee"),
            not_before: Some(time()),
            expires: time(),
            request: "{\"method\":\"message/send\"}".to_owned(),
        }
        .into(),
        w::CallDispatched { queue: id::<QueueId>(13), call: id::<CallId>(8) }.into(),
        w::CallReturned {
            queue: id::<QueueId>(13),
            busy: true,
            not_before: time(),
            error: "all slots taken".to_owned(),
        }
        .into(),
        w::CallDequeued {
            queue: id::<QueueId>(13),
            outcome: w::QueueOutcome::Failed,
            reason: text("outcome_unknown"),
            error: text("cut off"),
        }
        .into(),
        w::ActivityAcked { seq: 7_000_000_000 }.into(),
        w::AgentAssigned {
            agent: id::<AgentId>(11),
            model: "opus".to_owned(),
            replaces: Some(w::Assigned { agent: id::<AgentId>(12), model: "sonnet".to_owned() }),
            from: Some(id(9)),
        }
        .into(),
        w::AgentRemoved { agent: id::<AgentId>(11), model: "opus".to_owned(), to: Some(id(9)) }.into(),
        w::AgentMoveEnded { agent: id::<AgentId>(11), taken: true }.into(),
        w::TeamExpanded { children: team() }.into(),
        w::TeamCollapsed { children: team() }.into(),
    ]
}

fn team() -> Vec<w::TeamMember> {
    let member = |n, name: &str, role| w::TeamMember { id: id(n), name: name.to_owned(), role };
    vec![member(1, "digger", text("digs")), member(2, "carrier", None)]
}

fn activity() -> Vec<w::Event> {
    vec![
        w::SecretSet { name: "API_KEY".to_owned(), value: "AQIDBA==".to_owned() }.into(),
        w::SecretRemoved { name: "API_KEY".to_owned() }.into(),
        w::CallRecorded {
            call: id::<CallId>(8),
            caller: Principal::Workspace(id(9)),
            method: "message/send".to_owned(),
            outcome: w::CallOutcome::Unknown,
            status: Some(200),
            duration_ms: 41,
            request: said("{\"method\":\"message/send\"}"),
            response: Some(said("{\"result\":{}}")),
            error: text("cut off"),
        }
        .into(),
        w::MessageQueued {
            call: id::<CallId>(8),
            caller: Principal::Anonymous,
            method: "message/send".to_owned(),
            digest: text("00c0ffee00c0ffee"),
            delegation: Some(id::<DelegationId>(10)),
            request: "{\"method\":\"message/send\"}".to_owned(),
        }
        .into(),
        w::ActivityReported {
            kind: w::ActivityKind::SkillPromotion,
            method: text("promote"),
            summary: text("learnt to knit"),
            target: Some(id(9)),
            status: "ok".to_owned(),
            duration_ms: Some(12),
            error_detail: text("a stitch was dropped"),
            request: text("{\"skill\":\"knit\"}"),
            response: text("[1,2]"),
        }
        .into(),
        w::Notified {
            message: "the scarf is done".to_owned(),
            attachments: text("[{\"uri\":\"workspace:/workspace/scarf.png\",\"name\":\"scarf.png\"}]"),
        }
        .into(),
        w::DelegationRequested {
            delegation: id::<DelegationId>(10),
            target: id(9),
            task: "knit a scarf".to_owned(),
            key: text("00c0ffee00c0ffee"),
            runner: w::DelegationRunner::Agent,
        }
        .into(),
        w::DelegationDispatched { delegation: id::<DelegationId>(10) }.into(),
        w::DelegationQueued { delegation: id::<DelegationId>(10) }.into(),
        w::DelegationEnded {
            delegation: id::<DelegationId>(10),
            target: id(9),
            outcome: w::DelegationOutcome::Failed,
            reason: text("target_paused"),
            response: Some(said("half a scarf")),
            error: text("it was paused for five minutes"),
        }
        .into(),
    ]
}

fn failure() -> w::FailureSign {
    w::FailureSign {
        kind: w::FailureKind::NoConversation,
        fingerprint: "00c0ffee00c0ffee".to_owned(),
        excerpt: "no conversation found with session ID: …".to_owned(),
        message: text("0123456789abcdef"),
    }
}

/// A call that was tried more than once, one that failed, a restart with a reason, a removal with a successor, and one of a team: fields that came after the fixtures of their tags.
pub(crate) fn later_fields() -> Vec<Fact> {
    let retried = traffic().into_iter().filter_map(|event| match event {
        w::Event::CallFinished(call) => {
            Some(w::CallFinished { tries: 4, failure: Some(failure()), ..call }.into())
        }
        _ => None,
    });
    let forced = w::RestartRequested {
        restart: id::<RestartId>(3),
        cause: w::RestartCause::Operator,
        generation: Generation(7),
        reset_session: false,
        evidence: Vec::new(),
        forced: true,
        reason: text("its disk is new"),
    };
    let forwarded =
        w::Removed { cascade_deleted: Some(2), purge: false, forwarded_to: Some(id::<WorkspaceId>(9)) };
    let of_a_team = life().into_iter().filter_map(|event| match event {
        w::Event::Created(created) => Some(w::Created { entry: text("digger"), ..created }.into()),
        _ => None,
    });
    let others = [forced.into(), forwarded.into()];
    retried.chain(others).chain(of_a_team).map(Fact::Workspace).collect()
}

fn sessions() -> Vec<w::Event> {
    vec![
        w::SessionSuspected { call: id::<CallId>(8), failure: failure() }.into(),
        w::SessionPoisoned {
            call: id::<CallId>(8),
            failure: failure(),
            in_a_row: 3,
            after_reset: true,
            message: "restart it with a fresh session".to_owned(),
        }
        .into(),
        w::SessionCleared { call: id::<CallId>(8), in_a_row: 2 }.into(),
    ]
}

fn drains() -> Vec<w::Event> {
    let restart = id::<RestartId>(3);
    vec![
        w::DrainRequested { restart, generation: Generation(7), within_ms: 30_000 }.into(),
        w::DrainEnded { restart, outcome: w::DrainOutcome::TimedOut, open: Some(2), took_ms: 30_001 }.into(),
    ]
}

/// What the platform says of itself and of its log.
fn platform() -> Vec<f::Event> {
    vec![
        f::PlatformStarted {
            version: "0.1.0".to_owned(),
            backend: "process".to_owned(),
            workspaces: 5,
            head: Position(99),
        }
        .into(),
        f::PlatformStopped { reason: "signal".to_owned(), workspaces_stopped: false }.into(),
        f::TailRepaired { kept: Position(98), cut_bytes: 4096, reason: "checksum differs".to_owned() }.into(),
        f::LogMended {
            part: "store".to_owned(),
            reason: "open the store: read corrupted data".to_owned(),
            action: "set_aside".to_owned(),
        }
        .into(),
    ]
}

fn fleet() -> Vec<f::Event> {
    let (workspace, restart, cause) = (id::<WorkspaceId>(1), id::<RestartId>(3), w::RestartCause::Hung);
    vec![
        f::RestartAdmitted {
            workspace,
            restart,
            cause,
            in_flight: 1,
            in_flight_max: 3,
            recent: 0,
            recent_max: 5,
            inputs: None,
            cost: None,
            overridden: Vec::new(),
            taken_along: Vec::new(),
        }
        .into(),
        f::RestartDeferred {
            workspace,
            restart,
            cause,
            rule: "in_flight".to_owned(),
            until: Some(time()),
            in_flight: 3,
            in_flight_max: 3,
            recent: 1,
            recent_max: 5,
            inputs: None,
        }
        .into(),
        f::RestartSuppressed {
            workspace,
            restart,
            cause,
            rule: "intensity".to_owned(),
            recent: 5,
            recent_max: 5,
            window_s: 600,
            inputs: None,
            until: None,
        }
        .into(),
        f::RestartSettled { workspace, restart, outcome: f::RestartOutcome::Online }.into(),
        f::EngineLost { engine: "docker".to_owned(), code: "timeout".to_owned(), detail: "2 s".to_owned() }
            .into(),
        f::EngineFound { engine: "docker".to_owned(), after_ms: 1500 }.into(),
        f::AlarmRaised {
            kind: "crash_loop".to_owned(),
            workspace: Some(workspace),
            message: "it dies at once".to_owned(),
        }
        .into(),
        f::AlarmResolved { kind: "crash_loop".to_owned(), workspace: Some(workspace) }.into(),
        f::StrangerFound {
            engine: "docker".to_owned(),
            name: "covalence-x".to_owned(),
            instance: "deadbeef".to_owned(),
            workspace: text("not-a-uuid"),
        }
        .into(),
    ]
}

fn doubts() -> Vec<w::Event> {
    let (generation, restart) = (Generation(7), id::<RestartId>(3));
    vec![
        w::SuspicionRaised {
            generation,
            source: w::EvidenceSource::Heartbeat,
            phi: Some(8.25),
            silent_ms: 76_000,
            observer_score: 1,
            evidence: vec![id::<EventId>(4)],
        }
        .into(),
        w::SuspicionCleared { generation, by: "probe".to_owned(), lasted_ms: 12_000 }.into(),
        w::VerdictWithheld {
            generation,
            rule: "one_source".to_owned(),
            sources: vec![w::EvidenceSource::Heartbeat, w::EvidenceSource::Probe],
            silent_ms: 180_000,
            observer_score: 2,
        }
        .into(),
        w::ConfirmRequested { restart, admission: Position(44), generation, instance: instance() }.into(),
        w::DeathRefuted { restart, generation, instance: instance(), url: text("http://127.0.0.1:9") }.into(),
        w::OutcomeUnknown { generation, operation: "provision".to_owned(), detail: "timeout".to_owned() }
            .into(),
        w::RestartProved { restart, generation, after_ms: 20_000 }.into(),
    ]
}

fn inputs() -> f::AdmissionInputs {
    f::AdmissionInputs {
        cell: w::BackendKind::Docker,
        requested_at: time(),
        now: time(),
        in_a_row: 2,
        recent: 3,
        in_flight: 1,
        in_flight_max: 2,
        in_flight_all: 4,
        tokens: 1.5,
        brake: Some(f::BrakeMode::SlowStart),
        brake_lets_one: true,
        in_grace: true,
        hold: Some(id::<HoldId>(5)),
        hold_until: Some(time()),
        emergency: true,
        after_ancestor: true,
        ancestor_paused: true,
        advise_only: true,
        quarantined: false,
        half_open: Some(2),
        forced: true,
        waited: true,
        chance: 0.75,
    }
}

fn reading() -> f::BrakeReading {
    f::BrakeReading {
        size: 15,
        suspects: 6,
        suspects_recent: 5,
        deaths_recent: 4,
        observer_score: 3,
        circuit_open: true,
        in_grace: true,
        calm_ms: 4_000,
    }
}

fn policy() -> Vec<f::Event> {
    let (workspace, restart, cell) = (id::<WorkspaceId>(1), id::<RestartId>(3), w::BackendKind::Docker);
    vec![
        f::RestartProved { workspace, restart, cell }.into(),
        f::BrakeEngaged {
            cell,
            mode: f::BrakeMode::Freeze,
            trigger: f::BrakeTrigger::Suspicion,
            count: 5,
            of: 15,
            threshold: 3,
            members: vec![workspace],
            reading: reading(),
        }
        .into(),
        f::BrakeReleased { cell, reason: "trigger_gone".to_owned(), after_ms: 55_000, reading: reading() }
            .into(),
        f::ObserverChanged {
            cell: Some(cell),
            score: 8,
            from: 1,
            engine: 2,
            loop_lag: 3,
            log: 2,
            beats: 1,
            pause_ms: Some(8_000),
        }
        .into(),
        f::CircuitChanged {
            cell,
            state: f::CircuitState::HalfOpen,
            rule: "error_rate".to_owned(),
            calls: 12,
            failed: 5,
            p95_ms: 3_000,
            probe_at: Some(time()),
        }
        .into(),
        f::GraceStarted { workspaces: 15, until: time() }.into(),
        f::GraceEnded { cell, after_ms: 60_500 }.into(),
        f::HoldSet {
            hold: id::<HoldId>(5),
            scope: f::Scope::Subtree(workspace),
            reason: "maintenance".to_owned(),
            until: Some(time()),
            emergency: true,
        }
        .into(),
        f::HoldReleased { hold: id::<HoldId>(5), reason: "released".to_owned(), comment: text("done") }
            .into(),
    ]
}

/// Keys and tokens of everybody's.
fn keys() -> Vec<f::Event> {
    vec![
        f::MasterKeyRotated { master: "0123456789abcdef".to_owned(), keys: 7, in_force: true }.into(),
        f::OrgTokenIssued {
            token: id::<TokenId>(9),
            sha256: [0xab; 32],
            prefix: "Zm9vYmFy".to_owned(),
            name: text("deploy"),
        }
        .into(),
        f::OrgTokenRevoked { token: id::<TokenId>(9) }.into(),
    ]
}

fn choices() -> Vec<f::Event> {
    let (workspace, cell) = (id::<WorkspaceId>(1), w::BackendKind::Docker);
    vec![
        f::ModeSet { scope: f::Scope::Fleet, mode: f::Mode::Advise, reason: "trial".to_owned() }.into(),
        f::SecretSet { name: "API_KEY".to_owned(), value: "AQIDBA==".to_owned() }.into(),
        f::SecretRemoved { name: "API_KEY".to_owned() }.into(),
        f::StrategySet { team: workspace, strategy: f::Strategy::RestForOne }.into(),
        f::PolicyChanged {
            hash: PolicyHash(7),
            from: PolicyHash(6),
            parameters: serde_json::json!({"backoff_base": "5s", "intensity_max": 5}),
            changed: vec![f::ParameterChange {
                name: "backoff_base".to_owned(),
                from: "5s".to_owned(),
                to: "7s".to_owned(),
            }],
            reason: "too eager".to_owned(),
            origin: "set".to_owned(),
        }
        .into(),
        f::QuarantineProbed { workspace, attempt: 2, attempts_max: 3 }.into(),
        f::QuarantineLifted { workspace, reason: "proved".to_owned() }.into(),
        f::ProvisionLimitChanged { cell, from: 3, to: 2, reason: "engine_trouble".to_owned() }.into(),
        f::IncidentOpened {
            incident: id(6),
            title: "docker braked: freeze, by observer".to_owned(),
            cell: Some(w::BackendKind::Docker),
            since: Some(time()),
            until: Some(time()),
            workspaces: vec![workspace],
        }
        .into(),
        f::IncidentNoted { incident: id(6), text: "the disk was full".to_owned() }.into(),
        f::IncidentClosed { incident: id(6), comment: text("a full disk") }.into(),
        f::FlightRecorded {
            cell: w::BackendKind::Docker,
            since: time(),
            beats_since: time(),
            until: time(),
            cut: true,
            counts: f::FlightCounts {
                observations: 12,
                lists: f::Answers { answered: 2, failed: 1, slow: 1, slowest_ms: 3000, pending: 1 },
                looks: f::Answers { answered: 3, failed: 2, slow: 1, slowest_ms: 1500, pending: 2 },
                probes: f::Answers { answered: 4, failed: 3, slow: 2, slowest_ms: 2500, pending: 3 },
                calls: f::Answers { answered: 5, failed: 4, slow: 3, slowest_ms: 3500, pending: 4 },
                exits: 6,
                beats: 7,
                beats_refused: 8,
                late_turns: 9,
                latest_turn_ms: 1000,
                appends_failed: 10,
                append_p99_ms: 11,
            },
            observations: vec![0x28, 0xb5, 0x2f, 0xfd].into(),
        }
        .into(),
        f::FlightLost { cell: w::BackendKind::Docker, reason: "platform_ended".to_owned() }.into(),
        f::InvariantViolated {
            invariant: "restart_without_proof".to_owned(),
            workspace: Some(workspace),
            detail: "cause death, evidence none".to_owned(),
        }
        .into(),
    ]
}
