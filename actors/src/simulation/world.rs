//! The world: one thread, one queue of what happens next, time that jumps from one thing to the next.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use covalence_events::workspace::BackendKind;
use covalence_events::{Timestamp, WorkspaceId};
use uuid::Uuid;

use super::chance::Chance;
use super::engine::{Engine, KILLED};
use super::fault::{Fault, Person};
use super::ledger::Ledger;
use super::platform::{Mail, Platform};
use super::trace::{Note, What};
use super::{Millis, Setup};
use crate::policy::Policy;
use crate::workspace::Rejection;

/// The cell that everything runs in.
pub(super) const CELL: BackendKind = BackendKind::Docker;
/// The wall clock's time when a world begins, in seconds.
const BEGINNING: i64 = 1_800_000_000;

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Begins(Fault),
    Ends(Fault),
    Boot,
    /// The engine gets to a call.
    Execute {
        call: u64,
    },
    /// The platform waits for a call no longer.
    GiveUp {
        call: u64,
    },
    /// A call is answered with an error.
    CallFails {
        call: u64,
        code: &'static str,
    },
    /// The agent in a container is ready.
    AgentReady {
        id: String,
    },
    /// It tries to introduce itself.
    Introduces {
        id: String,
    },
    /// It is time for its heartbeat.
    Beat {
        id: String,
    },
    /// A container ends by itself.
    Exits {
        id: String,
        status: i32,
    },
    /// Somebody calls the agent of a workspace.
    Traffic {
        whom: usize,
        every: Millis,
        until: Millis,
    },
    /// Something reaches the platform's process, if it is still the same.
    Mail {
        boot: u64,
        late: bool,
        mail: Mail,
    },
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub(super) now: Millis,
    pub(super) seed: u64,
    pub(super) chance: Chance,
    pub(super) ledger: Ledger,
    pub(super) engine: Engine,
    pub(super) platform: Option<Platform>,
    pub(super) boots: u64,
    pub(super) ids: u32,
    pub(super) configured: Policy,
    /// The share of messages between actors that are carried twice.
    pub(super) repeated: f64,
    /// Whether an engine's error is taken for a death.
    pub(super) naive: bool,
    pub(super) workspaces: Vec<WorkspaceId>,
    pub(super) rejections: Vec<(Millis, Rejection)>,
    /// Creations that were refused because too many starts waited.
    pub(super) shed: u32,
    pub(super) wall_jumps: i64,
    pub(super) spans: Vec<(Millis, Millis, Fault)>,
    notes: Vec<Note>,
    queue: BTreeMap<(Millis, u64), Happening>,
    order: u64,
}

impl World {
    /// A world of this seed, in which nothing has happened yet; the platform starts with it.
    pub fn new(seed: u64, setup: Setup) -> Self {
        let mut world = Self {
            now: 0,
            seed,
            chance: Chance::new(seed),
            ledger: Ledger::default(),
            engine: Engine::default(),
            platform: None,
            boots: 0,
            ids: 0,
            configured: setup.policy,
            repeated: setup.repeated,
            naive: setup.naive,
            workspaces: Vec::new(),
            rejections: Vec::new(),
            shed: 0,
            wall_jumps: 0,
            spans: Vec::new(),
            notes: Vec::new(),
            queue: BTreeMap::new(),
            order: 0,
        };
        world.at(0, Happening::Boot);
        for index in 0..setup.workspaces {
            let parent = setup.teams.filter(|size| index % size != 0).map(|size| index - index % size);
            world.inject(1, Fault::Person(Person::Create { parent }));
        }
        world
    }

    /// A fault begins at this time.
    pub fn inject(&mut self, at: Millis, fault: Fault) {
        self.at(at, Happening::Begins(fault));
    }

    /// Lets time go by until then, or until a condition holds; whether it does.
    pub fn run_until(&mut self, until: Millis, mut enough: impl FnMut(&Self) -> bool) -> bool {
        while let Some((&(at, order), _)) = self.queue.first_key_value() {
            if at > until {
                break;
            }
            let Some(happening) = self.queue.remove(&(at, order)) else { break };
            self.now = at;
            self.happen(happening);
            if enough(self) {
                return true;
            }
        }
        self.now = self.now.max(until);
        enough(self)
    }

    /// Lets time go by until then.
    pub fn run(&mut self, until: Millis) {
        self.run_until(until, |_| false);
    }

    /// Milliseconds since the world began.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The time on the platform's time line; the wall clock's while it is down.
    pub fn moment(&self) -> Timestamp {
        self.platform.as_ref().map_or_else(|| self.wall(), |platform| platform.at(self.now).at)
    }

    /// What happened outside the log.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The log.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The workspaces in the order in which they were created.
    pub fn workspaces(&self) -> &[WorkspaceId] {
        &self.workspaces
    }

    /// What people were refused, and when.
    pub fn rejections(&self) -> &[(Millis, Rejection)] {
        &self.rejections
    }

    /// Creations that were refused because too many starts waited.
    pub fn shed(&self) -> u32 {
        self.shed
    }

    pub(super) fn at(&mut self, at: Millis, happening: Happening) {
        self.order += 1;
        self.queue.insert((at.max(self.now), self.order), happening);
    }

    pub(super) fn note(&mut self, what: What) {
        self.notes.push(Note { at: self.now, what });
    }

    /// The wall clock, which people may set.
    pub(super) fn wall(&self) -> Timestamp {
        let begun = chrono::DateTime::from_timestamp(BEGINNING, 0).unwrap_or_default();
        begun + TimeDelta::milliseconds(i64::try_from(self.now).unwrap_or(i64::MAX) + self.wall_jumps)
    }

    /// A fresh id, of the seed's own.
    pub(super) fn fresh_id(&mut self) -> Uuid {
        self.ids += 1;
        let time = u128::from(self.now) << 80;
        Uuid::from_u128(time | (u128::from(self.seed & 0xffff_ffff) << 48) | (u128::from(self.ids) << 16))
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Begins(fault) => self.begins(&fault),
            Happening::Ends(fault) => self.ends(&fault),
            Happening::Boot => self.boot(),
            Happening::Execute { call } => self.execute(call),
            Happening::GiveUp { call } => self.gave_up(call),
            Happening::CallFails { call, code } => self.call_failed(call, code),
            Happening::AgentReady { id } => self.agent_ready(&id),
            Happening::Introduces { id } => self.introduces(&id),
            Happening::Beat { id } => self.beat(&id),
            Happening::Exits { id, status } => self.exit(&id, status),
            Happening::Traffic { whom, every, until } => self.traffic(whom, every, until),
            Happening::Mail { boot, late, mail } => self.deliver(boot, late, mail),
        }
    }

    fn begins(&mut self, fault: &Fault) {
        let (now, lasts) = (self.now, fault.lasts());
        self.note(What::Fault(fault.clone()));
        if lasts > 0 && !matches!(fault, Fault::Person(_)) {
            self.spans.push((now, now + lasts, fault.clone()));
            self.at(now + lasts, Happening::Ends(fault.clone()));
        }
        match fault {
            Fault::SocketMissing { .. } => self.engine_goes(None),
            Fault::EngineRestart { live_restore, .. } => self.engine_goes(Some(*live_restore)),
            Fault::Exit { whom, status } => {
                self.running_of(*whom).into_iter().for_each(|id| self.exit(&id, *status));
            }
            Fault::Deaths { from, many, lasts } => self.deaths(*from, *many, *lasts),
            Fault::Relapse { whom, every, lasts } => {
                for nth in 0..lasts / every.max(&1) {
                    self.inject(now + nth * every, Fault::Exit { whom: *whom, status: 1 });
                }
            }
            Fault::Vanish { whom } => self.running_of(*whom).into_iter().for_each(|id| self.vanish(&id)),
            Fault::Rename { whom } => self.rename(*whom),
            Fault::StaleEvent { whom } => self.stale_event(*whom),
            Fault::Hang { whom } => self.hang(*whom),
            Fault::Traffic { whom, every, lasts } => self.traffic(*whom, *every, now + lasts),
            Fault::Kill { .. } => {
                self.platform = None;
                self.note(What::Killed);
            }
            Fault::LogFull { .. } => self.ledger.full = true,
            Fault::LogBusy { .. } => self.ledger.busy = true,
            Fault::LogSlow { latency, .. } => self.ledger.latency = *latency,
            Fault::WallJump { by } => self.wall_jumps += by,
            Fault::Person(person) => self.person(person),
            // Read off the spans, when it matters.
            Fault::EngineErrors { .. }
            | Fault::EngineFrozen { .. }
            | Fault::EngineSlow { .. }
            | Fault::EventsLost { .. }
            | Fault::StopsLinger { .. }
            | Fault::CrashLoop { .. }
            | Fault::Starved { .. }
            | Fault::Silent { .. }
            | Fault::NetworkCut { .. }
            | Fault::Pause { .. }
            | Fault::Lag { .. } => {}
        }
    }

    /// Evenly spread over that time.
    fn deaths(&mut self, from: usize, many: usize, lasts: Millis) {
        let apart = lasts / (many as u64).max(1);
        for (nth, whom) in (from..from + many).enumerate() {
            self.inject(self.now + nth as u64 * apart, Fault::Exit { whom, status: KILLED });
        }
    }

    fn ends(&mut self, fault: &Fault) {
        let still = |world: &Self, same: fn(&Fault) -> bool| world.active().any(same);
        match fault {
            Fault::SocketMissing { .. } | Fault::EngineRestart { .. } => self.engine_comes(),
            Fault::Kill { .. } => self.at(self.now, Happening::Boot),
            Fault::LogFull { .. } => self.ledger.full = still(self, |f| matches!(f, Fault::LogFull { .. })),
            Fault::LogBusy { .. } => self.ledger.busy = still(self, |f| matches!(f, Fault::LogBusy { .. })),
            Fault::LogSlow { .. } if !still(self, |f| matches!(f, Fault::LogSlow { .. })) => {
                self.ledger.latency = 0;
            }
            _ => {}
        }
    }

    /// What goes wrong at the moment.
    pub(super) fn active(&self) -> impl Iterator<Item = &Fault> {
        let now = self.now;
        self.spans
            .iter()
            .filter(move |(from, until, _)| (*from..*until).contains(&now))
            .map(|(.., fault)| fault)
    }

    /// Until when a kind of fault goes on.
    pub(super) fn until(&self, same: impl Fn(&Fault) -> bool) -> Option<Millis> {
        let now = self.now;
        let on =
            self.spans.iter().filter(|(from, until, fault)| (*from..*until).contains(&now) && same(fault));
        on.map(|(_, until, _)| *until).max()
    }

    /// Everybody's state as the platform knows it.
    pub fn state_of(&self, whom: usize) -> Option<&crate::workspace::State> {
        self.platform.as_ref()?.workspaces.get(self.workspaces.get(whom)?)?.state.as_ref()
    }

    /// The supervisor's state.
    pub fn fleet(&self) -> Option<&crate::fleet::State> {
        self.platform.as_ref()?.fleet.state.as_ref()
    }

    /// The observer.
    pub fn watch(&self) -> Option<&crate::watch::Watch> {
        self.platform.as_ref().map(|platform| &platform.watch)
    }
}
