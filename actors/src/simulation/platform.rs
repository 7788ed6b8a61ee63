//! The platform's process: actors around the pure functions, as the runtime has them, but on the world's time. It knows of the
//! past only what the log says; killed, it begins anew from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use covalence_events::fleet::PlatformStarted;
use covalence_events::workspace::InstanceRef;
use covalence_events::{
    BootId, CorrelationId, EventId, Fact, Generation, PolicyHash, Position, Principal, Recorded, RestartId,
    StreamId, Timestamp, WorkspaceId,
};

use super::Millis;
use super::dispatch::{Lane, Starts};
use super::engine::Reply;
use super::ledger::Refused;
use super::observing::Looks;
use super::trace::What;
use super::world::{CELL, Happening, World};
use crate::context::{Context, ObserverView, Origin};
use crate::effect::{Moment, Probe, Signal, TimeLine};
use crate::policy::Policy;
use crate::roster::Table;
use crate::watch::{Input, Watch};
use crate::workspace::Rejection;
use crate::{fleet, workspace};

/// What a full queue refused is tried again after this.
const BUSY: Millis = 100;
/// The observer's turn comes within this once the process goes on after a pause.
const WAKING: Millis = 200;

/// What reaches the platform's process.
#[derive(Clone, Debug)]
pub(super) enum Mail {
    Turn,
    Knock(StreamId),
    Answered {
        purpose: Purpose,
        reply: Reply,
        took: Millis,
    },
    Signals(Vec<Signal>),
    Probed {
        workspace: WorkspaceId,
        generation: Generation,
        probe: Probe,
    },
    Workspace {
        workspace: WorkspaceId,
        command: workspace::Command,
        origin: Origin,
    },
    Fleet {
        command: fleet::Command,
        origin: Origin,
    },
    /// An append that took long is durable.
    Recorded {
        stream: StreamId,
        facts: Vec<Recorded>,
    },
    /// A lane goes on.
    Walk {
        workspace: WorkspaceId,
    },
    /// A look is tried again.
    Again(Confirming),
}

/// What an engine call is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    List,
    Look { workspace: WorkspaceId, generation: Generation, instance: InstanceRef },
    Examine { workspace: WorkspaceId, generation: Generation, instance: InstanceRef },
    Confirm(Confirming),
    Lane { workspace: WorkspaceId },
}

/// A fresh look before a restart.
#[derive(Clone, Debug)]
pub(super) struct Confirming {
    pub(super) workspace: WorkspaceId,
    pub(super) restart: RestartId,
    pub(super) generation: Generation,
    pub(super) instance: InstanceRef,
    pub(super) because: EventId,
    pub(super) correlation: CorrelationId,
    pub(super) tries: u32,
}

/// An actor: one stream, one state, one decision at a time.
#[derive(Clone, Debug)]
pub(super) struct Actor<S> {
    pub(super) state: Option<S>,
    pub(super) armed: Option<Timestamp>,
    /// An append of its own is not durable yet: nothing else is decided meanwhile.
    appending: bool,
    pub(super) knocks: (Millis, u32),
}

impl<S> Default for Actor<S> {
    fn default() -> Self {
        Self { state: None, armed: None, appending: false, knocks: (0, 0) }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Platform {
    number: u64,
    boot: BootId,
    started: Millis,
    time: TimeLine,
    pub(super) workspaces: BTreeMap<WorkspaceId, Actor<workspace::State>>,
    pub(super) fleet: Actor<fleet::State>,
    pub(super) policy: Arc<Policy>,
    hash: PolicyHash,
    roster: Table,
    pub(super) watch: Watch,
    pub(super) lanes: BTreeMap<WorkspaceId, Lane>,
    pub(super) starts: Starts,
    pub(super) looks: Looks,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Handled {
    /// Done, durable at once or after a while.
    Done(Millis),
    /// It has to wait its turn.
    Later(Millis),
    /// Not now, or not in this run of the platform.
    Refused(Refused),
    Rejected(Rejection),
}

impl Platform {
    fn fold(&mut self, recorded: &Recorded) {
        match recorded.stream {
            StreamId::Fleet => {
                let state = self.fleet.state.take().unwrap_or_default();
                let next = fleet::evolve(state, recorded);
                self.fleet.state = Some(possible(next));
                if matches!(recorded.fact, Fact::Fleet(covalence_events::fleet::Event::PolicyChanged(_))) {
                    self.adopt_policy();
                }
            }
            StreamId::Workspace(id) => {
                let actor = self.workspaces.entry(id).or_default();
                let next = possible(workspace::evolve(actor.state.take(), recorded));
                self.roster.note(&next);
                actor.state = Some(next);
            }
        }
    }

    fn adopt_policy(&mut self) {
        let policy = self.fleet.state.as_ref().map(|state| state.policy.clone()).unwrap_or_default();
        self.hash = policy.hash();
        self.policy = Arc::new(policy);
    }

    pub(super) fn observer(&self, now: Timestamp) -> ObserverView {
        let fleet = self.fleet.state.as_ref();
        let released = fleet.and_then(|fleet| fleet.cells.get(&CELL)?.released);
        let eye = self.watch.eye(now);
        ObserverView {
            since: released.into_iter().fold(eye.since(&self.policy, now), Timestamp::max),
            score: eye.score,
            quiet: eye.is_quiet(&self.policy, now),
            in_grace: fleet.is_some_and(|fleet| fleet.in_grace(CELL)),
            braked: fleet.is_some_and(|fleet| fleet.brake_mode(CELL).is_some()),
        }
    }

    pub(super) fn at(&self, now: Millis) -> Moment {
        self.time.at(std::time::Duration::from_millis(now - self.started))
    }
}

#[expect(clippy::expect_used, reason = "a log that can't be folded is what a simulation is there to find")]
fn possible<S>(next: Result<S, crate::context::Corrupt>) -> S {
    next.expect("a fact that can follow")
}

impl World {
    /// The platform's process begins: it reads its log, says so, and takes up what was left undone.
    pub(super) fn boot(&mut self) {
        if self.platform.is_some() {
            return;
        }
        self.boots += 1;
        self.ledger.reopen();
        self.note(What::Boot);
        let boot = BootId(self.fresh_id());
        let time = TimeLine::new(self.wall(), self.ledger.latest());
        let now = time.at(std::time::Duration::ZERO).at;
        let policy = Arc::new(self.configured.clone());
        let mut platform = Platform {
            number: self.boots,
            boot,
            started: self.now,
            time,
            workspaces: BTreeMap::new(),
            fleet: Actor { state: Some(fleet::State::default()), ..Actor::default() },
            hash: policy.hash(),
            starts: Starts::new(&policy),
            looks: Looks::default(),
            policy,
            roster: Table::default(),
            watch: Watch::new(CELL, now),
            lanes: BTreeMap::new(),
        };
        self.ledger.facts().iter().for_each(|(_, recorded)| platform.fold(recorded));
        self.platform = Some(platform);
        let started = PlatformStarted {
            version: "simulated".to_owned(),
            backend: CELL.as_str().to_owned(),
            workspaces: self.workspaces.len() as u64,
            head: Position(self.ledger.facts().len() as u64),
        };
        let configure = fleet::Command::Configure(Box::new(self.configured.clone()));
        for command in [configure, fleet::Command::RecordStart(started)] {
            let origin = self.origin(Principal::System);
            self.mail_after(0, Mail::Fleet { command, origin });
        }
        self.mail_after(0, Mail::Turn);
        self.resume();
    }

    fn resume(&mut self) {
        let Some(platform) = &self.platform else { return };
        let fleet: Vec<_> = platform.fleet.state.iter().flat_map(fleet::outstanding).collect();
        let workspaces: Vec<_> = platform
            .workspaces
            .iter()
            .filter_map(|(id, actor)| Some((*id, workspace::outstanding(actor.state.as_ref()?))))
            .collect();
        let correlation = CorrelationId(self.fresh_id());
        for effect in fleet {
            self.told_by_fleet(effect, correlation);
        }
        for (workspace, effects) in workspaces {
            self.arm(StreamId::Workspace(workspace));
            for effect in effects {
                self.dispatch(workspace, effect, correlation);
            }
        }
        self.arm(StreamId::Fleet);
    }

    pub(super) fn origin(&mut self, principal: Principal) -> Origin {
        Origin { principal, correlation: CorrelationId(self.fresh_id()), causation: None }
    }

    /// Something reaches the platform after a while. What is meant for a process that is gone by then is lost.
    pub(super) fn mail_after(&mut self, after: Millis, mail: Mail) {
        if let Some(boot) = self.platform.as_ref().map(|platform| platform.number) {
            self.at(self.now + after, Happening::Mail { boot, late: false, mail });
        }
    }

    /// A message from one actor to another: carried at least once.
    pub(super) fn carry(&mut self, mail: Mail) {
        if self.chance.hits(self.repeated) {
            let after = self.chance.between(0, 3_000);
            self.mail_after(after, mail.clone());
        }
        self.mail_after(0, mail);
    }

    pub(super) fn deliver(&mut self, boot: u64, late: bool, mail: Mail) {
        if self.platform.as_ref().is_none_or(|platform| platform.number != boot) {
            return;
        }
        if let Some(until) = self.until(|fault| matches!(fault, super::Fault::Pause { .. })) {
            // Nobody says which task runs first when the process goes on.
            let after = if matches!(mail, Mail::Turn) { self.chance.between(0, WAKING) } else { 0 };
            return self.at(until + after, Happening::Mail { boot, late, mail });
        }
        let lag = self.active().find_map(|fault| match fault {
            super::Fault::Lag { lag, .. } => Some(*lag),
            _ => None,
        });
        if let Some(lag) = lag.filter(|_| !late) {
            return self.at(self.now + lag, Happening::Mail { boot, late: true, mail });
        }
        self.received(mail);
    }

    fn received(&mut self, mail: Mail) {
        match mail {
            Mail::Turn => self.turn(),
            Mail::Knock(stream) => self.knocked(stream),
            Mail::Answered { purpose, reply, took } => self.answered(purpose, reply, took),
            Mail::Signals(signals) => self.observe(Input::Signals(signals)),
            Mail::Probed { workspace, generation, probe } => {
                let took = std::time::Duration::ZERO;
                self.observe(Input::Probed { workspace, generation, probe, took });
            }
            Mail::Workspace { workspace, command, origin } => self.command(workspace, command, origin),
            Mail::Fleet { command, origin } => self.command_fleet(command, origin),
            Mail::Recorded { stream, facts } => {
                self.appends(stream, false);
                self.recorded(stream, &facts);
            }
            Mail::Walk { workspace } => self.walk(workspace),
            Mail::Again(confirming) => self.look_again(confirming),
        }
    }

    /// A command for a workspace, insisted on unless an agent sends it, who will send another one.
    pub(super) fn command(&mut self, workspace: WorkspaceId, command: workspace::Command, origin: Origin) {
        match self.handle(workspace, &command, &origin) {
            Handled::Done(_) => {}
            Handled::Later(at) => {
                self.mail_after(at - self.now, Mail::Workspace { workspace, command, origin });
            }
            Handled::Refused(refused) => match (&command, refused) {
                (workspace::Command::Heartbeat(_) | workspace::Command::Register(_), _) => {
                    self.observe(Input::BeatRefused);
                }
                (_, Refused::Busy) => self.mail_after(BUSY, Mail::Workspace { workspace, command, origin }),
                (_, Refused::ReadOnly) => {}
            },
            Handled::Rejected(rejection) => {
                if let workspace::Command::RecordAdmission { restart, .. } = command {
                    // Nobody waits for it any more: the slot must not stay taken.
                    let outcome = covalence_events::fleet::RestartOutcome::Abandoned;
                    let command = fleet::Command::SettleRestart { workspace, restart, outcome };
                    self.carry(Mail::Fleet { command, origin });
                } else if origin.principal == Principal::Admin {
                    self.rejections.push((self.now, rejection));
                }
            }
        }
    }

    pub(super) fn command_fleet(&mut self, command: fleet::Command, origin: Origin) {
        match self.handle_fleet(&command, &origin) {
            Handled::Done(_) | Handled::Refused(Refused::ReadOnly) => {}
            Handled::Later(at) => self.mail_after(at - self.now, Mail::Fleet { command, origin }),
            Handled::Refused(Refused::Busy) => self.mail_after(BUSY, Mail::Fleet { command, origin }),
            Handled::Rejected(rejection) => self.rejections.push((self.now, rejection)),
        }
    }

    /// Decides a command for a workspace, and lets what follows happen.
    pub(super) fn handle(
        &mut self,
        workspace: WorkspaceId,
        command: &workspace::Command,
        origin: &Origin,
    ) -> Handled {
        let (ids, chance, now) = (self.fresh_id(), self.chance.share(), self.now);
        let Some(platform) = &self.platform else { return Handled::Refused(Refused::ReadOnly) };
        let actor = platform.workspaces.get(&workspace);
        if actor.is_some_and(|actor| actor.appending) {
            return Handled::Later(now + BUSY);
        }
        let ctx = platform.context(now, origin, (ids, chance));
        let decision = workspace::decide(actor.and_then(|actor| actor.state.as_ref()), command, &ctx);
        match decision.map(|facts| facts.map(Fact::Workspace).into_new_events(&ctx)) {
            Ok(events) => self.append(StreamId::Workspace(workspace), events),
            Err(rejection) => Handled::Rejected(rejection),
        }
    }

    fn handle_fleet(&mut self, command: &fleet::Command, origin: &Origin) -> Handled {
        let (ids, chance, now) = (self.fresh_id(), self.chance.share(), self.now);
        let Some(platform) = &self.platform else { return Handled::Refused(Refused::ReadOnly) };
        if platform.fleet.appending {
            return Handled::Later(now + BUSY);
        }
        let nothing = fleet::State::default();
        let state = platform.fleet.state.as_ref().unwrap_or(&nothing);
        let ctx = platform.context(now, origin, (ids, chance));
        match fleet::decide(state, command, &ctx).map(|facts| facts.map(Fact::Fleet).into_new_events(&ctx)) {
            Ok(events) => self.append(StreamId::Fleet, events),
            Err(rejection) => Handled::Rejected(rejection),
        }
    }

    fn append(&mut self, stream: StreamId, events: Vec<covalence_events::NewEvent>) -> Handled {
        if events.is_empty() {
            return Handled::Done(0);
        }
        let facts = match self.ledger.append(self.now, stream, events) {
            Ok(facts) => facts,
            Err(refused) => {
                if refused == Refused::ReadOnly {
                    self.note(What::NotRecorded);
                    self.observe(Input::AppendFailed);
                }
                return Handled::Refused(refused);
            }
        };
        let latency = self.ledger.latency;
        if latency == 0 {
            self.recorded(stream, &facts);
            return Handled::Done(0);
        }
        self.appends(stream, true);
        self.mail_after(latency, Mail::Recorded { stream, facts });
        Handled::Done(latency)
    }

    fn appends(&mut self, stream: StreamId, appending: bool) {
        if let Some(platform) = &mut self.platform {
            match stream {
                StreamId::Fleet => platform.fleet.appending = appending,
                StreamId::Workspace(id) => platform.workspaces.entry(id).or_default().appending = appending,
            }
        }
    }

    /// Facts are durable: the state changes, and what they ask for is done.
    fn recorded(&mut self, stream: StreamId, facts: &[Recorded]) {
        if let Some(platform) = &mut self.platform {
            for recorded in facts {
                platform.fold(recorded);
            }
        }
        self.arm(stream);
        for recorded in facts {
            let correlation = recorded.meta.correlation;
            let platform = self.platform.as_ref();
            if let (Fact::Workspace(event), StreamId::Workspace(id)) = (&recorded.fact, stream) {
                let state = platform.and_then(|p| p.workspaces.get(&id)?.state.as_ref());
                let effects = state.map(|state| workspace::react(recorded.meta.id, event, state));
                effects.into_iter().flatten().for_each(|effect| self.dispatch(id, effect, correlation));
            } else {
                let state = platform.and_then(|p| p.fleet.state.as_ref());
                let effects = state.map(|state| fleet::react(recorded, state));
                effects.into_iter().flatten().for_each(|effect| self.told_by_fleet(effect, correlation));
            }
        }
    }
}

impl Platform {
    fn context<'a>(
        &'a self,
        now: Millis,
        origin: &'a Origin,
        (ids, chance): (uuid::Uuid, f64),
    ) -> Context<'a> {
        let now = self.at(now);
        Context {
            now,
            boot: self.boot,
            origin,
            policy: &self.policy,
            policy_hash: self.hash,
            observer: self.observer(now.at),
            stopped: self.fleet.state.as_ref().is_some_and(fleet::State::is_stopped),
            roster: &self.roster,
            ids,
            chance,
        }
    }
}
