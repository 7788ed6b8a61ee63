//! What surrounds the platform: agents and the network between, the engine's comings and goings, what people do.

use std::time::Duration;

use covalence_events::Principal;
use covalence_events::workspace::{
    CallFinished, CallOutcome, Created, HeartbeatReceived, RestartCause, WorkspaceAccess,
};
use covalence_events::{CallId, Generation, WorkspaceId};

use super::Millis;
use super::engine::{Container, KILLED, Life, Op, error};
use super::fault::{Calls, Failure, Fault, Person};
use super::platform::{Mail, Purpose};
use super::trace::What;
use super::world::{CELL, Happening, World};
use crate::effect::{Probe, Signal};
use crate::fleet;
use crate::workspace::Command;
use crate::workspace::command::{Create, Register, Restart};

/// Agents send a heartbeat this often, give or take a second.
const BEAT: Millis = 30_000;
const JITTER: Millis = 1_000;
/// An agent that was not heard tries again after this.
const INTRODUCE_AGAIN: Millis = 5_000;
/// Events of the engine take this long.
const EVENT: (Millis, Millis) = (30, 200);
/// A connection to the engine's events is tried again within this.
const RECONNECT: (Millis, Millis) = (100, 5_000);

/// Events, calls, and what keeps them from coming through.
impl World {
    pub(super) fn engine_away(&self, _now: Millis) -> Option<&'static str> {
        self.active().find_map(|fault| match fault {
            Fault::SocketMissing { .. } => Some("socket_missing"),
            Fault::EngineRestart { .. } => Some("refused"),
            _ => None,
        })
    }

    pub(super) fn engine_frozen(&self, _now: Millis) -> Option<Millis> {
        self.until(|fault| matches!(fault, Fault::EngineFrozen { .. }))
    }

    pub(super) fn engine_failure(&mut self, op: &Op) -> Option<Failure> {
        let meant = |calls: &Calls| match calls {
            Calls::All => true,
            Calls::Inspects => matches!(op, Op::Inspect { .. } | Op::Find { .. }),
            Calls::Lists => matches!(op, Op::List),
            Calls::Mutations => op.is_mutation(),
        };
        let found: Vec<_> = self
            .active()
            .filter_map(|fault| match fault {
                Fault::EngineErrors { failure, calls, rate, .. } if meant(calls) => Some((*failure, *rate)),
                _ => None,
            })
            .collect();
        found.into_iter().find(|(_, rate)| self.chance.hits(*rate)).map(|(failure, _)| failure)
    }

    pub(super) fn slowness(&self) -> u64 {
        let factor = |fault: &Fault| if let Fault::EngineSlow { factor, .. } = fault { *factor } else { 1 };
        self.active().map(factor).max().unwrap_or(1)
    }

    pub(super) fn stops_linger(&self) -> bool {
        self.active().any(|fault| matches!(fault, Fault::StopsLinger { .. }))
    }

    pub(super) fn crashes_after(&self, workspace: WorkspaceId) -> Option<Millis> {
        let place = self.workspaces.iter().position(|id| *id == workspace);
        self.active().find_map(|fault| match fault {
            Fault::CrashLoop { whom, after, .. } if whom.is_none() || *whom == place => Some(*after),
            _ => None,
        })
    }

    /// The engine goes away; its containers with it, unless it restores them.
    pub(super) fn engine_goes(&mut self, restart: Option<bool>) {
        if restart == Some(false) {
            let all: Vec<_> = self.engine.containers.keys().cloned().collect();
            for id in &all {
                self.exit(id, KILLED);
            }
        }
        let code = self.engine_away(self.now).unwrap_or("refused");
        self.mail_after(50, Mail::Signals(vec![Signal::Lost(error(code))]));
    }

    pub(super) fn engine_comes(&mut self) {
        if self.engine_away(self.now).is_none() {
            let after = self.chance.between(RECONNECT.0, RECONNECT.1);
            self.mail_after(after, Mail::Signals(vec![Signal::Found]));
        }
    }

    /// The engine's event about a container that ended. Lost where nobody listens.
    pub(super) fn tell_exit(&mut self, container: &Container, status: i32) {
        let lost = self.active().find_map(|fault| match fault {
            Fault::EventsLost { rate, .. } => Some(*rate),
            _ => None,
        });
        if self.engine_away(self.now).is_some() || self.chance.hits(lost.unwrap_or(0.0)) {
            return;
        }
        let thaws = self.engine_frozen(self.now).map_or(0, |until| until - self.now);
        let after = thaws + self.chance.between(EVENT.0, EVENT.1);
        self.mail_after(after, Mail::Signals(vec![exited(container, status)]));
    }

    pub(super) fn stale_event(&mut self, whom: usize) {
        let Some(container) = self.container_of(whom).cloned() else { return };
        let generation = Generation(container.generation.0.saturating_sub(1));
        let older = Container { id: "c000000".to_owned(), generation, ..container };
        self.mail_after(50, Mail::Signals(vec![exited(&older, 1)]));
    }

    pub(super) fn running_of(&self, whom: usize) -> Vec<String> {
        let Some(workspace) = self.workspaces.get(whom) else { return Vec::new() };
        self.engine.running(*workspace).map(|container| container.id.clone()).collect()
    }

    pub(super) fn container_of(&self, whom: usize) -> Option<&Container> {
        self.workspaces.get(whom).and_then(|workspace| self.engine.running(*workspace).next())
    }

    pub(super) fn rename(&mut self, whom: usize) {
        for id in self.running_of(whom) {
            if let Some(container) = self.engine.containers.get_mut(&id) {
                "renamed-by-hand".clone_into(&mut container.name);
            }
        }
    }

    /// An agent that hangs before it was ever heard from is a start that fails, and is not meant.
    pub(super) fn hang(&mut self, whom: usize) {
        let heard = self.state_of(whom).is_none_or(|state| state.last_life.is_some());
        for id in self.running_of(whom) {
            if let Some(container) = self.engine.containers.get_mut(&id).filter(|c| c.introduced && heard) {
                container.hung = true;
            }
        }
    }
}

fn exited(container: &Container, status: i32) -> Signal {
    Signal::Exited {
        workspace: container.workspace,
        generation: container.generation,
        instance: container.instance(),
        exit_status: Some(status),
        detail: format!("exited with status {status}"),
    }
}

/// Agents.
impl World {
    fn place(&self, workspace: WorkspaceId) -> usize {
        self.workspaces.iter().position(|id| *id == workspace).unwrap_or(usize::MAX)
    }

    /// Whether a fault keeps this workspace's agent from thinking, or from being reached.
    fn struck(fault: &Fault, place: usize) -> bool {
        match fault {
            Fault::Starved { from, many, .. } => (*from..from + many).contains(&place),
            Fault::NetworkCut { .. } => true,
            _ => false,
        }
    }

    fn answers(&self, container: &Container) -> bool {
        let place = self.place(container.workspace);
        container.life == Life::Running
            && container.ready.is_some_and(|ready| ready <= self.now)
            && !container.hung
            && !self.active().any(|fault| Self::struck(fault, place))
    }

    /// For how long an agent has been well and reachable.
    pub(super) fn well_for(&self, container: &Container) -> Millis {
        if !self.answers(container) {
            return 0;
        }
        let place = self.place(container.workspace);
        let struck =
            self.spans.iter().filter(|(from, _, fault)| *from <= self.now && Self::struck(fault, place));
        let since = struck.map(|(_, until, _)| *until).chain(container.ready).max().unwrap_or(0);
        self.now.saturating_sub(since)
    }

    fn beats(&self, container: &Container) -> bool {
        let place = self.place(container.workspace);
        let silent = |fault: &Fault| match fault {
            Fault::Silent { from, many, .. } => (*from..from + many).contains(&place),
            _ => false,
        };
        self.answers(container) && !self.active().any(silent)
    }

    pub(super) fn agent_ready(&mut self, id: &str) {
        let now = self.now;
        if let Some(container) = self.engine.containers.get_mut(id).filter(|c| c.life == Life::Running) {
            container.ready = Some(now);
            self.introduces(id);
        }
    }

    pub(super) fn introduces(&mut self, id: &str) {
        let Some(container) = self.engine.containers.get(id).filter(|c| c.ready.is_some()).cloned() else {
            return;
        };
        if !self.beats(&container) || self.platform.is_none() {
            return self.at(self.now + INTRODUCE_AGAIN, Happening::Introduces { id: id.to_owned() });
        }
        let register = Register {
            url: Some(container.url()),
            agent_card: serde_json::Value::Null,
            delivery_mode: None,
            generation: Some(container.generation),
            mint: None,
            enrolment: chrono::TimeDelta::zero(),
        };
        self.said_by_agent(&container, Command::Register(Box::new(register)));
        if let Some(container) = self.engine.containers.get_mut(id) {
            container.introduced = true;
        }
        self.next_beat(id);
    }

    fn next_beat(&mut self, id: &str) {
        let after = self.chance.between(BEAT - JITTER, BEAT + JITTER);
        self.at(self.now + after, Happening::Beat { id: id.to_owned() });
    }

    pub(super) fn beat(&mut self, id: &str) {
        let Some(container) = self.engine.containers.get(id).filter(|c| c.life == Life::Running).cloned()
        else {
            return;
        };
        if self.beats(&container) {
            let beat =
                HeartbeatReceived { generation: Some(container.generation), ..HeartbeatReceived::default() };
            self.said_by_agent(&container, Command::Heartbeat(Box::new(beat)));
        }
        self.next_beat(id);
    }

    fn said_by_agent(&mut self, container: &Container, command: Command) {
        let workspace = container.workspace;
        let origin = self.origin(Principal::Workspace(workspace));
        self.mail_after(3, Mail::Workspace { workspace, command, origin });
    }

    /// What comes of asking an agent for its card.
    pub(super) fn probe(&mut self, workspace: WorkspaceId, generation: Generation, limit: Millis) {
        let container = self.engine.running(workspace).find(|c| c.generation == generation).cloned();
        let silent = |code| Probe::Silent { code, detail: code.to_owned() };
        let (after, probe) = match container {
            Some(container) if self.answers(&container) => {
                (self.chance.between(5, 50), Probe::Answered { status: 200 })
            }
            Some(container) if container.ready.is_some() => (limit, silent("timeout")),
            _ if self.active().any(|fault| matches!(fault, Fault::NetworkCut { .. })) => {
                (limit, silent("timeout"))
            }
            _ => (2, silent("refused")),
        };
        let answered = matches!(probe, Probe::Answered { .. });
        self.note(What::CardAsked { workspace, generation, answered });
        self.mail_after(after, Mail::Probed { workspace, generation, probe });
    }

    /// Somebody calls an agent through the platform. A call that fails makes the platform look at the container.
    pub(super) fn traffic(&mut self, whom: usize, every: Millis, until: Millis) {
        if self.now >= until {
            return;
        }
        self.at(self.now + every, Happening::Traffic { whom, every, until });
        let (Some(workspace), true) = (self.workspaces.get(whom).copied(), self.platform.is_some()) else {
            return;
        };
        let container = self.container_of(whom).cloned();
        if container.as_ref().is_some_and(|container| self.answers(container)) {
            let call = CallFinished {
                call: CallId(self.fresh_id()),
                caller: Principal::Admin,
                method: "message/send".to_owned(),
                outcome: CallOutcome::Answered,
                status: Some(200),
                duration_ms: 5,
                request_bytes: 1,
                response_bytes: 1,
                error: None,
                tries: 1,
                failure: None,
            };
            let origin = self.origin(Principal::System);
            let command = Command::RecordCallFinished(Box::new(call), None);
            self.mail_after(5, Mail::Workspace { workspace, command, origin });
        } else {
            self.examine(workspace);
        }
    }

    /// Takes a fresh look at a workspace whose agent could not be reached. Who calls while the platform stands still shares the
    /// look of the first who calls when it goes on.
    fn examine(&mut self, workspace: WorkspaceId) {
        if self.until(|fault| matches!(fault, Fault::Pause { .. })).is_some() {
            return;
        }
        let Some(state) = self.platform.as_ref().and_then(|p| p.workspaces.get(&workspace)?.state.as_ref())
        else {
            return;
        };
        let crate::workspace::state::Instance::Running { instance: Some(instance) } = &state.instance else {
            return;
        };
        let (generation, instance) = (state.generation, instance.clone());
        let op = Op::Inspect { id: instance.id.clone() };
        let patience = self.patience();
        self.call(&op, patience, Purpose::Examine { workspace, generation, instance });
    }
}

/// People.
impl World {
    pub(super) fn person(&mut self, person: &Person) {
        if self.platform.is_none() {
            // Refused at the door.
            return;
        }
        match person {
            Person::Create { parent } => self.create_workspace(*parent),
            Person::Restart { whom, forced } => {
                let restart = Restart { forced: *forced, ..Restart::because_of(RestartCause::Operator) };
                self.ask(*whom, Command::Restart(restart));
            }
            Person::Pause { whom } => self.ask(*whom, Command::Pause),
            Person::Resume { whom } => self.ask(*whom, Command::Resume),
            Person::Hold { scope, lasts } => self.ask_fleet(fleet::Command::SetHold {
                scope: scope.of(&self.workspaces),
                reason: "a deployment".to_owned(),
                lasts: Duration::from_millis(*lasts),
                emergency: false,
            }),
            Person::EmergencyStop => self.ask_fleet(fleet::Command::SetHold {
                scope: covalence_events::fleet::Scope::Fleet,
                reason: "stop everything".to_owned(),
                lasts: Duration::ZERO,
                emergency: true,
            }),
            Person::Release => {
                let holds: Vec<_> =
                    self.fleet().into_iter().flat_map(|fleet| fleet.holds.keys().copied()).collect();
                for hold in holds {
                    self.ask_fleet(fleet::Command::ReleaseHold { hold, comment: None });
                }
            }
        }
    }

    fn create_workspace(&mut self, parent: Option<usize>) {
        if self.starts_are_full() {
            self.shed += 1;
            return;
        }
        let workspace = WorkspaceId(self.fresh_id());
        let parent = parent.and_then(|index| self.workspaces.get(index).copied());
        self.workspaces.push(workspace);
        let profile = Created {
            name: format!("ws-{}", self.workspaces.len() - 1),
            role: None,
            tier: 2,
            runtime: "echo".to_owned(),
            backend: CELL,
            model: None,
            template: None,
            entry: None,
            parent,
            workspace_dir: None,
            workspace_access: WorkspaceAccess::None,
            url: None,
            delivery_mode: None,
            budget_limit: None,
            max_concurrent_tasks: 5,
            x: 0.0,
            y: 0.0,
        };
        let create = Create { profile, token: None, secrets: Vec::new() };
        self.ask(self.workspaces.len() - 1, Command::Create(Box::new(create)));
    }

    fn ask(&mut self, whom: usize, command: Command) {
        let Some(workspace) = self.workspaces.get(whom).copied() else { return };
        let origin = self.origin(Principal::Admin);
        self.mail_after(1, Mail::Workspace { workspace, command, origin });
    }

    fn ask_fleet(&mut self, command: fleet::Command) {
        let origin = self.origin(Principal::Admin);
        self.mail_after(1, Mail::Fleet { command, origin });
    }
}
