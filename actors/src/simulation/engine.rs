//! A container engine as an adapter shows it: containers with their states, calls with their latencies and their locks, events
//! that may get lost. A list takes no lock; a look at one container waits while that container is being started. A client
//! that gives up does not stop what it asked for.

use std::collections::BTreeMap;

use covalence_events::workspace::InstanceRef;
use covalence_events::{Generation, WorkspaceId};

use super::Millis;
use super::platform::{Mail, Purpose};
use super::trace::What;
use super::world::{Happening, World};
use crate::effect::{BackendError, Inspection, Listed, ListedState, Provisioned};

/// A *no such container* is believed only if the engine answered something else within this time, as the adapters do.
const PROOF_TTL: Millis = 10_000;
/// From a start to the first sign of life it takes about six seconds: one to start, five to be ready.
const START: (Millis, Millis) = (700, 1_200);
const READY: (Millis, Millis) = (4_300, 5_200);
/// A mutation whose client gave up may be done so much later.
const LATE: (Millis, Millis) = (5_000, 50_000);
/// A stop that lingers takes longer than any client waits.
const LINGER: Millis = 45_000;
/// Killed.
pub(super) const KILLED: i32 = 137;

/// What the engine is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    List,
    Find {
        workspace: WorkspaceId,
        generation: Generation,
    },
    Inspect {
        id: String,
    },
    /// Stop and remove what older generations left, and what of this one does not run.
    Clear {
        workspace: WorkspaceId,
        below: Generation,
    },
    Create {
        workspace: WorkspaceId,
        generation: Generation,
    },
    Start {
        id: String,
    },
    Stop {
        workspace: WorkspaceId,
        up_to: Generation,
    },
}

impl Op {
    pub(super) const fn is_mutation(&self) -> bool {
        matches!(self, Self::Clear { .. } | Self::Create { .. } | Self::Start { .. } | Self::Stop { .. })
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Listed(Vec<Listed>),
    Seen(Inspection),
    Created(String),
    Started(Provisioned),
    Done,
}

pub(super) type Reply = Result<Answer, BackendError>;

/// A call under way.
#[derive(Clone, Debug)]
pub(super) struct Call {
    op: Op,
    issued: Millis,
    deadline: Millis,
    /// The run of the platform that asked.
    boot: u64,
    /// Where the answer goes; none once the caller has given up.
    waiting: Option<Purpose>,
    gives_up: bool,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Created,
    Running,
    Exited(i32),
}

/// One container and the agent in it.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) workspace: WorkspaceId,
    pub(super) generation: Generation,
    pub(super) life: Life,
    pub(super) locked_until: Millis,
    /// Since when its agent answers.
    pub(super) ready: Option<Millis>,
    /// Whether the platform has been told of its agent.
    pub(super) introduced: bool,
    /// Whether its agent thinks no more.
    pub(super) hung: bool,
}

impl Container {
    pub(super) fn instance(&self) -> InstanceRef {
        InstanceRef { id: self.id.clone() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}:8000", self.id)
    }

    fn provisioned(&self) -> Provisioned {
        Provisioned {
            instance: Some(self.instance()),
            url: Some(self.url()),
            withheld: Vec::new(),
            image: None,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Engine {
    pub(super) containers: BTreeMap<String, Container>,
    calls: BTreeMap<u64, Call>,
    count: u64,
    /// When it last answered something, by the client's reckoning.
    answered: Option<Millis>,
}

impl Engine {
    pub(super) fn running(&self, workspace: WorkspaceId) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(move |c| c.workspace == workspace && c.life == Life::Running)
    }

    fn subject(&self, op: &Op) -> Option<WorkspaceId> {
        match op {
            Op::Find { workspace, .. }
            | Op::Clear { workspace, .. }
            | Op::Create { workspace, .. }
            | Op::Stop { workspace, .. } => Some(*workspace),
            Op::Inspect { id } | Op::Start { id } => self.containers.get(id).map(|c| c.workspace),
            Op::List => None,
        }
    }

    fn list(&self) -> Vec<Listed> {
        let listed = self.containers.values().map(|container| Listed {
            workspace: Some(container.workspace),
            generation: Some(container.generation),
            instance: container.instance(),
            name: container.name.clone(),
            state: match container.life {
                Life::Created => ListedState::Between,
                Life::Running => ListedState::Running,
                Life::Exited(status) => ListedState::Stopped { exit_status: Some(status) },
            },
            url: (container.life == Life::Running).then(|| container.url()),
        });
        listed.collect()
    }

    fn inspect(&self, container: Option<&Container>, now: Millis) -> Inspection {
        match container.map(|container| (container.life, container)) {
            Some((Life::Running, container)) => Inspection::Running(container.provisioned()),
            Some((Life::Exited(status), _)) => Inspection::NotThere {
                code: "exited",
                detail: format!("exited with status {status}"),
                exit_status: Some(status),
            },
            Some((Life::Created, _)) => Inspection::Unknown(error("between")),
            None => self.not_found(now),
        }
    }

    fn not_found(&self, now: Millis) -> Inspection {
        if self.answered.is_some_and(|at| now <= at + PROOF_TTL) {
            Inspection::NotThere {
                code: "not_found",
                detail: "no such container".to_owned(),
                exit_status: None,
            }
        } else {
            Inspection::Unknown(error("not_found"))
        }
    }

    fn find(&self, workspace: WorkspaceId, generation: Generation) -> Option<&Container> {
        self.containers.values().find(|c| c.workspace == workspace && c.generation == generation)
    }
}

pub(super) fn error(code: &'static str) -> BackendError {
    BackendError { code, detail: format!("the engine: {code}") }
}

impl World {
    /// Asks the engine. The answer, or that there was none in time, comes back to the platform.
    pub(super) fn call(&mut self, op: &Op, limit: Millis, purpose: Purpose) {
        self.engine.count += 1;
        let (id, now) = (self.engine.count, self.now);
        let deadline = now + limit;
        let (boot, waiting) = (self.boots, Some(purpose));
        let call = Call { op: op.clone(), issued: now, deadline, boot, waiting, gives_up: false };
        self.engine.calls.insert(id, call);
        if op.is_mutation() {
            let workspace = self.engine.subject(op);
            self.note(What::Mutation { workspace, op: format!("{op:?}") });
        }
        if *op == Op::List {
            self.note(What::ListAsked);
        }
        if let Some(down) = self.engine_away(now) {
            return self.at(now + 1, Happening::CallFails { call: id, code: down });
        }
        match self.engine_failure(op) {
            Some(super::Failure::Timeout) => {
                if op.is_mutation() && self.chance.hits(0.5) {
                    let late = self.chance.between(LATE.0, LATE.1);
                    self.at(now + late, Happening::Execute { call: id });
                }
                self.give_up_at(id, deadline);
            }
            Some(failure) => {
                let after = self.chance.between(2, 200);
                self.at(now + after, Happening::CallFails { call: id, code: failure.code() });
            }
            None => {
                let latency = self.latency(op);
                if let Op::Start { id: target } = op
                    && let Some(container) = self.engine.containers.get_mut(target)
                {
                    container.locked_until = container.locked_until.max(now + latency);
                }
                self.at(now + latency, Happening::Execute { call: id });
                if now + latency > deadline {
                    self.give_up_at(id, deadline);
                }
            }
        }
    }

    fn latency(&mut self, op: &Op) -> Millis {
        let busy = |world: &Self, workspace: WorkspaceId, below: Generation| {
            world.engine.running(workspace).any(|container| container.generation < below)
        };
        let (low, high) = match op {
            Op::List => (10, 80),
            Op::Find { .. } | Op::Inspect { .. } => (3, 30),
            Op::Create { .. } => (100, 400),
            Op::Start { .. } => START,
            Op::Clear { workspace, below } if busy(self, *workspace, *below) => (800, 2_000),
            Op::Clear { .. } => (20, 200),
            Op::Stop { .. } => (500, 2_000),
        };
        let lingers = matches!(op, Op::Stop { .. } | Op::Clear { .. }) && self.stops_linger();
        let usual = self.chance.between(low, high) * self.slowness();
        if lingers && usual > 400 { usual + LINGER } else { usual }
    }

    fn give_up_at(&mut self, call: u64, at: Millis) {
        if let Some(known) = self.engine.calls.get_mut(&call)
            && !std::mem::replace(&mut known.gives_up, true)
        {
            self.at(at, Happening::GiveUp { call });
        }
    }

    /// The client waits no longer. What it asked for goes on.
    pub(super) fn gave_up(&mut self, id: u64) {
        if let Some(call) = self.engine.calls.get_mut(&id) {
            let ended = Call { waiting: call.waiting.take(), ..call.clone() };
            self.answer(ended, Err(error("timeout")));
        }
    }

    /// Passes on what the engine answered to whoever waits for it, if that run of the platform is still there.
    fn answer(&mut self, call: Call, reply: Reply) {
        if let Some(purpose) = call.waiting.filter(|_| call.boot == self.boots) {
            let took = self.now - call.issued;
            self.mail_after(0, Mail::Answered { purpose, reply, took });
        }
    }

    /// The call fails without having done anything.
    pub(super) fn call_failed(&mut self, id: u64, code: &'static str) {
        if let Some(call) = self.engine.calls.remove(&id) {
            let lost = code == super::Failure::Lost404.code()
                && matches!(call.op, Op::Inspect { .. } | Op::Find { .. });
            let reply =
                if lost { Ok(Answer::Seen(self.engine.not_found(self.now))) } else { Err(error(code)) };
            self.answer(call, reply);
        }
    }

    /// The engine gets to it.
    pub(super) fn execute(&mut self, id: u64) {
        let Some(call) = self.engine.calls.get(&id).cloned() else { return };
        let now = self.now;
        if let Some(code) = self.engine_away(now) {
            return self.call_failed(id, code);
        }
        if let Some(until) = self.engine_frozen(now).or_else(|| self.locked(&call.op)) {
            self.at(until, Happening::Execute { call: id });
            return self.give_up_at(id, call.deadline.max(now));
        }
        self.engine.calls.remove(&id);
        let reply = self.perform(&call.op);
        if call.waiting.is_some() && reply.is_ok() {
            let proof = !matches!(&reply, Ok(Answer::Seen(Inspection::Unknown(_))));
            self.engine.answered = if proof { Some(now) } else { self.engine.answered };
            if proof {
                self.note(What::Answered { list: call.op == Op::List });
            }
        }
        self.answer(call, reply);
    }

    /// Until when the container is locked that this is a look at.
    fn locked(&self, op: &Op) -> Option<Millis> {
        let target = match op {
            Op::Inspect { id } => self.engine.containers.get(id),
            Op::Find { workspace, generation } => self.engine.find(*workspace, *generation),
            Op::List | Op::Clear { .. } | Op::Create { .. } | Op::Start { .. } | Op::Stop { .. } => None,
        };
        target.map(|container| container.locked_until).filter(|until| *until > self.now)
    }

    fn perform(&mut self, op: &Op) -> Reply {
        let now = self.now;
        Ok(match op {
            Op::List => Answer::Listed(self.engine.list()),
            Op::Inspect { id } => Answer::Seen(self.engine.inspect(self.engine.containers.get(id), now)),
            Op::Find { workspace, generation } => match self.engine.find(*workspace, *generation) {
                Some(container) if container.life != Life::Created => {
                    Answer::Seen(self.engine.inspect(Some(container), now))
                }
                // One that was made and never started is no instance: the start makes it anew.
                Some(_) | None => Answer::Seen(Inspection::NotThere {
                    code: "not_found",
                    detail: "no container of this generation".to_owned(),
                    exit_status: None,
                }),
            },
            Op::Clear { workspace, below } => {
                self.clear(*workspace, *below);
                Answer::Done
            }
            Op::Create { workspace, generation } => Answer::Created(self.create(*workspace, *generation)),
            Op::Start { id } => return self.start(id),
            Op::Stop { workspace, up_to } => {
                let running: Vec<_> =
                    self.engine.running(*workspace).map(|c| (c.id.clone(), c.generation)).collect();
                for (id, _) in running.into_iter().filter(|(_, generation)| generation <= up_to) {
                    self.exit(&id, KILLED);
                }
                Answer::Done
            }
        })
    }

    fn clear(&mut self, workspace: WorkspaceId, below: Generation) {
        let leftover = |c: &&Container| {
            c.workspace == workspace
                && (c.generation < below || (c.generation == below && c.life != Life::Running))
        };
        let ids: Vec<_> = self.engine.containers.values().filter(leftover).map(|c| c.id.clone()).collect();
        for id in ids {
            if let Some(container) = self.engine.containers.get(&id)
                && container.life == Life::Running
            {
                let well_ms = self.well_for(container);
                self.note(What::Replaced { workspace, by: below, well_ms });
                self.exit(&id, KILLED);
            }
            self.engine.containers.remove(&id);
        }
    }

    fn create(&mut self, workspace: WorkspaceId, generation: Generation) -> String {
        if let Some(container) = self.engine.find(workspace, generation) {
            return container.id.clone();
        }
        self.engine.count += 1;
        let id = format!("c{:06}", self.engine.count);
        let container = Container {
            id: id.clone(),
            name: format!("ws-{workspace}"),
            workspace,
            generation,
            life: Life::Created,
            locked_until: 0,
            ready: None,
            introduced: false,
            hung: false,
        };
        self.engine.containers.insert(id.clone(), container);
        id
    }

    fn start(&mut self, id: &str) -> Reply {
        let Some(container) = self.engine.containers.get(id) else {
            return Err(error("start_failed"));
        };
        let (workspace, generation) = (container.workspace, container.generation);
        let provisioned = container.provisioned();
        if container.life == Life::Running {
            return Ok(Answer::Started(provisioned));
        }
        let others = self.engine.running(workspace).map(|c| c.generation).collect();
        self.note(What::Started { workspace, generation, instance: id.to_owned(), others });
        if let Some(container) = self.engine.containers.get_mut(id) {
            (container.life, container.ready, container.hung) = (Life::Running, None, false);
        }
        let ready = self.now + self.chance.between(READY.0, READY.1);
        self.at(ready, Happening::AgentReady { id: id.to_owned() });
        if let Some(after) = self.crashes_after(workspace) {
            self.at(self.now + after, Happening::Exits { id: id.to_owned(), status: 1 });
        }
        Ok(Answer::Started(provisioned))
    }

    /// A container ends, and the engine says so, if it can.
    pub(super) fn exit(&mut self, id: &str, status: i32) {
        let Some(container) = self.engine.containers.get_mut(id).filter(|c| c.life == Life::Running) else {
            return;
        };
        (container.life, container.ready) = (Life::Exited(status), None);
        let container = container.clone();
        let (workspace, generation) = (container.workspace, container.generation);
        self.note(What::Exited { workspace, generation, instance: id.to_owned(), status });
        self.tell_exit(&container, status);
    }

    /// Somebody removes a container by force.
    pub(super) fn vanish(&mut self, id: &str) {
        self.exit(id, KILLED);
        self.engine.containers.remove(id);
    }
}
