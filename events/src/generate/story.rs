//! What happens to a fleet beside beats and calls.

use chrono::TimeDelta;
use serde_json::json;

use super::{Fleet, WORKSPACES_PER_LARGE_CARD, after, said, said_of_all, to};
use crate::envelope::{NewEvent, Principal, StreamId, Timestamp};
use crate::fleet::RestartProved as FleetProved;
use crate::fleet::{
    AdmissionInputs, PlatformStarted, PlatformStopped, RestartAdmitted, RestartOutcome, RestartSettled,
};
use crate::id::{BootId, Generation, RestartId, TokenId};
use crate::log::Ack;
use crate::workspace::{
    BackendKind, CameOnline, CardUpdated, ConfirmRequested, Created, DeliveryMode, EvidenceClass,
    EvidenceObserved, EvidenceSource, InstanceRef, InstanceStarted, OnlineVia, Paused, ProvisionOrigin,
    ProvisionRequested, Registered, RestartCause, RestartProved, RestartRequested, RestartStarted, Resumed,
    SuspicionCleared, SuspicionRaised, TokenIssued, TokenPurpose, Verdict, VerdictReached, WentOffline,
    WorkspaceAccess,
};

/// How long a restarted workspace has to be well before its restart counts as proved, in milliseconds.
const PROOF_MS: i64 = 20_000;

impl Fleet {
    pub(super) fn begin(&mut self, at: Timestamp) {
        let fact = PlatformStarted {
            version: "0.1.0".to_owned(),
            backend: "process".to_owned(),
            workspaces: if self.position.0 == 0 { 0 } else { self.members.len() as u64 },
            head: self.position,
        };
        let event = self.event(at, said_of_all(fact), None, Principal::System);
        self.tell_fleet(vec![event]);
    }

    pub(super) fn restart_platform(&mut self, at: Timestamp) {
        let fact = PlatformStopped { reason: "SIGTERM".to_owned(), workspaces_stopped: false };
        let event = self.event(at, said_of_all(fact), None, Principal::System);
        self.tell_fleet(vec![event]);
        self.boot = BootId(self.random.id_at(at));
        self.begin(ms(at, 8));
    }

    pub(super) fn create(&mut self, number: usize, at: Timestamp) {
        let id = self.members[number].id;
        let fact = Created {
            name: format!("workspace-{number}"),
            role: Some(self.random.pick(&["researcher", "reviewer", "tester", "writer"]).to_owned()),
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
            delivery_mode: Some(DeliveryMode::Push),
            budget_limit: None,
            max_concurrent_tasks: 5,
            x: 0.0,
            y: 0.0,
        };
        let created = self.event(at, said(fact), None, Principal::Admin);
        let generation = Generation(1);
        let wish = ProvisionRequested {
            generation,
            origin: ProvisionOrigin::Create,
            restart: None,
            reset_session: false,
        };
        let wish = self.event(at, said(wish), Some(&created), Principal::Admin);
        self.tell(id, vec![created, wish.clone()], Ack::Durable);
        self.start(number, at, &wish, None);
    }

    /// What a wish to start an instance leads to, until the workspace is online.
    fn start(
        &mut self,
        number: usize,
        at: Timestamp,
        wish: &NewEvent,
        restart: Option<RestartId>,
    ) -> NewEvent {
        let member = self.members[number];
        let (id, generation) = (member.id, member.generation);
        let mut sha256 = [0; 32];
        sha256[..16].copy_from_slice(&self.random.bytes());
        let token = TokenIssued {
            token: TokenId(self.random.id_at(at)),
            sha256,
            prefix: "cov_".to_owned(),
            purpose: TokenPurpose::Provision,
            generation: Some(generation),
        };
        let token = self.event(ms(at, 1), said(token), Some(wish), Principal::System);
        self.tell(id, vec![token], Ack::Durable);
        let started = InstanceStarted {
            generation,
            instance: Some(self.instance()),
            url: Some(format!("http://127.0.0.1:{}", 20_000 + number % 40_000)),
            withheld: Vec::new(),
            image: None,
        };
        let started = self.event(ms(at, 12), said(started), Some(wish), Principal::System);
        self.tell(id, vec![started], Ack::Durable);
        let registered = Registered {
            url: None,
            agent_card: self.agent_card(number),
            delivery_mode: DeliveryMode::Push,
            generation: Some(generation),
        };
        let registered = self.event(ms(at, 13), said(registered), Some(wish), Principal::Workspace(id));
        let from = if restart.is_some() { "offline" } else { "provisioning" }.to_owned();
        let online = CameOnline { via: OnlineVia::Register, from, generation, restart };
        let online = self.event(ms(at, 13), said(online), Some(&registered), Principal::Workspace(id));
        self.tell(id, vec![registered, online.clone()], Ack::Durable);
        online
    }

    /// A death that is proved, and the restart that makes it good.
    pub(super) fn death(&mut self, number: usize, at: Timestamp) {
        let (id, generation) = (self.members[number].id, self.members[number].generation);
        let instance = self.instance();
        let seen = |source| EvidenceObserved {
            source,
            class: EvidenceClass::Death,
            generation,
            instance: Some(instance.clone()),
            code: "exited".to_owned(),
            detail: "the process was ended by signal 9".to_owned(),
            exit_status: Some(137),
        };
        let exit = self.event(at, said(seen(EvidenceSource::Exit)), None, Principal::System);
        let rule = "proof_of_death".to_owned();
        let evidence = vec![exit.meta.id];
        let verdict = VerdictReached {
            verdict: Verdict::Dead,
            rule: rule.clone(),
            generation,
            evidence: evidence.clone(),
            observer_score: Some(0),
        };
        let verdict = self.event(at, said(verdict), Some(&exit), Principal::System);
        let message = Some("the process was ended by signal 9".to_owned());
        let offline = self.event(at, said(WentOffline { rule, message }), Some(&verdict), Principal::System);
        let restart = RestartId(self.random.id_at(at));
        let wish = RestartRequested {
            restart,
            cause: RestartCause::Death,
            generation,
            reset_session: false,
            evidence,
            forced: false,
            reason: None,
        };
        let wish = self.event(at, said(wish), Some(&verdict), Principal::System);
        self.tell(id, vec![exit, verdict, offline, wish.clone()], Ack::Durable);

        let admitted = self.admitted(number, restart, at);
        let admitted = self.event(ms(at, 2), said_of_all(admitted), Some(&wish), Principal::System);
        self.tell_fleet(vec![admitted.clone()]);
        let admission = self.position;
        let confirm = ConfirmRequested { restart, admission, generation, instance: instance.clone() };
        let confirm = self.event(ms(at, 3), said(confirm), Some(&admitted), Principal::System);
        self.tell(id, vec![confirm.clone()], Ack::Durable);
        let again =
            self.event(ms(at, 4), said(seen(EvidenceSource::Inspect)), Some(&confirm), Principal::System);
        let begun = RestartStarted { restart, admission };
        let begun = self.event(ms(at, 4), said(begun), Some(&again), Principal::System);
        let member = &mut self.members[number];
        (member.generation, member.started) = (generation.next(), at);
        let provision = ProvisionRequested {
            generation: generation.next(),
            origin: ProvisionOrigin::Restart,
            restart: Some(restart),
            reset_session: false,
        };
        let provision = self.event(ms(at, 4), said(provision), Some(&begun), Principal::System);
        self.tell(id, vec![again, begun, provision.clone()], Ack::Durable);
        let online = self.start(number, ms(at, 5), &provision, Some(restart));
        let settled = RestartSettled { workspace: id, restart, outcome: RestartOutcome::Online };
        let settled = self.event(ms(at, 19), said_of_all(settled), Some(&online), Principal::System);
        self.tell_fleet(vec![settled]);
        self.prove(number, restart, at, &online);
    }

    fn admitted(&self, number: usize, restart: RestartId, at: Timestamp) -> RestartAdmitted {
        let inputs = AdmissionInputs { now: ms(at, 2), ..AdmissionInputs::quiet(BackendKind::Process, at) };
        RestartAdmitted {
            workspace: self.members[number].id,
            restart,
            cause: RestartCause::Death,
            in_flight: 0,
            in_flight_max: 2,
            recent: 0,
            recent_max: 5,
            inputs: Some(Box::new(inputs)),
            cost: Some(1.0),
            overridden: Vec::new(),
            taken_along: Vec::new(),
        }
    }

    fn prove(&mut self, number: usize, restart: RestartId, at: Timestamp, online: &NewEvent) {
        let member = self.members[number];
        let proved_at = ms(at, PROOF_MS);
        let proved =
            RestartProved { restart, generation: member.generation, after_ms: PROOF_MS.unsigned_abs() };
        let proved = self.event(proved_at, said(proved), Some(online), Principal::System);
        let token = FleetProved { workspace: member.id, restart, cell: BackendKind::Process };
        let token = self.event(ms(proved_at, 2), said_of_all(token), Some(&proved), Principal::System);
        self.tell_later(proved_at, vec![to(StreamId::Workspace(member.id), vec![proved])]);
        self.tell_later(ms(proved_at, 2), vec![to(StreamId::Fleet, vec![token])]);
    }

    /// Something speaks against it for a while, and nothing comes of it.
    pub(super) fn suspicion(&mut self, number: usize, at: Timestamp) {
        let (id, generation) = (self.members[number].id, self.members[number].generation);
        let seen = EvidenceObserved {
            source: EvidenceSource::Call,
            class: EvidenceClass::Suspicion,
            generation,
            instance: None,
            code: "timeout".to_owned(),
            detail: "the agent did not answer within 30 s".to_owned(),
            exit_status: None,
        };
        let seen = self.event(at, said(seen), None, Principal::System);
        let raised = SuspicionRaised {
            generation,
            source: EvidenceSource::Call,
            phi: Some(1.5),
            silent_ms: 12_000,
            observer_score: 0,
            evidence: vec![seen.meta.id],
        };
        let raised = self.event(at, said(raised), Some(&seen), Principal::System);
        let cleared = SuspicionCleared { generation, by: "heartbeat".to_owned(), lasted_ms: 9000 };
        let cleared = self.event(ms(at, 9000), said(cleared), Some(&raised), Principal::System);
        self.tell(id, vec![seen, raised], Ack::Durable);
        self.tell_later(ms(at, 9000), vec![to(StreamId::Workspace(id), vec![cleared])]);
    }

    pub(super) fn pause(&mut self, number: usize, at: Timestamp) {
        let id = self.members[number].id;
        let paused = self.event(at, said(Paused {}), None, Principal::Admin);
        let resumed = self.event(ms(at, 5000), said(Resumed {}), None, Principal::Admin);
        self.tell(id, vec![paused], Ack::Durable);
        self.tell_later(ms(at, 5000), vec![to(StreamId::Workspace(id), vec![resumed])]);
    }

    pub(super) fn card(&mut self, number: usize, at: Timestamp) {
        let id = self.members[number].id;
        let agent_card = self.agent_card(number);
        let event = self.event(at, said(CardUpdated { agent_card }), None, Principal::Workspace(id));
        self.tell(id, vec![event], Ack::Durable);
    }

    /// A card of a few hundred bytes, of some workspaces one of several kilobytes.
    fn agent_card(&mut self, number: usize) -> serde_json::Value {
        let skills = if (number as u64).is_multiple_of(WORKSPACES_PER_LARGE_CARD) {
            50 + self.random.below(300)
        } else {
            2
        };
        let skills: Vec<_> = (0..skills)
            .map(|skill| {
                let chance = self.random.next();
                json!({ "id": format!("skill-{skill}-{chance:016x}"), "name": "summarise",
                        "description": "reads what others wrote and says it in fewer words", "tags": ["text"] })
            })
            .collect();
        json!({ "name": format!("workspace-{number}"), "version": "1.0.0", "protocolVersion": "0.3.0", "skills": skills })
    }

    fn instance(&mut self) -> InstanceRef {
        let (pid, start) = (1000 + self.random.below(60_000), self.random.below(1 << 40));
        InstanceRef { id: format!("{pid}:{start}:5d0c8a52") }
    }
}

fn ms(at: Timestamp, millis: i64) -> Timestamp {
    after(at, TimeDelta::milliseconds(millis))
}
