//! Faults at random: a plan from a seed, a world that lives through it, and the shortest plan that still breaks a rule.

use std::panic::{AssertUnwindSafe, catch_unwind};

use covalence_events::workspace::{Event, ProvisionOrigin};

use super::chance::Chance;
use super::fault::{Calls, Failure, Fault, Person, Whom};
use super::world::World;
use super::{Millis, Setup, invariants};
use crate::policy::Policy;
use crate::workspace::Status;

/// So long everybody is well: the rhythm of the heartbeats is known by then.
const CALM: Millis = 240_000;
/// Faults begin within this after it.
const STORM: Millis = 600_000;
/// Once nothing goes wrong any more, everything that should run runs again within this: a quarantine lasts a quarter of an
/// hour, a failed canary five minutes, and the last of a large fleet waits for its turn.
pub const HEALED_WITHIN: Millis = 20 * 60_000;
/// As many agents hang for good as a brake may be released with.
const HUNG_MAX: u32 = 2;
/// How often it is looked whether everything runs.
const LOOK: Millis = 5_000;

/// One random world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its seed.
    pub seed: u64,
    /// What it begins with.
    pub setup: Setup,
    /// What goes wrong, and when.
    pub faults: Vec<(Millis, Fault)>,
}

/// How it ended.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Rules that were broken.
    pub broken: Vec<String>,
    /// How long it took after the last fault until everything ran again.
    pub healed_after: Millis,
    /// Facts recorded.
    pub facts: usize,
    /// Restarts that began.
    pub restarts: usize,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5eed);
        let workspaces = match chance.index(4) {
            0 => 2 + chance.index(4),
            1 => 20 + chance.index(15),
            _ => 15,
        };
        let teams = chance.hits(0.3).then(|| 3 + chance.index(3));
        let repeated = if chance.hits(0.5) { 0.05 } else { 0.0 };
        let setup = Setup { workspaces, teams, policy: Policy::default(), repeated, naive: false };
        let most = if chance.hits(0.2) { 16 } else { 7 };
        let count = 1 + chance.index(most);
        let mut faults: Vec<_> =
            (0..count).map(|_| (CALM + chance.between(0, STORM), fault(&mut chance, workspaces))).collect();
        faults.sort_by_key(|(at, _)| *at);
        // More agents that hang for good look like a fault of the observer, and a person has to say that it is none.
        let mut hung = 0;
        faults.retain(|(_, fault)| {
            hung += u32::from(matches!(fault, Fault::Hang { .. }));
            !matches!(fault, Fault::Hang { .. }) || hung <= HUNG_MAX
        });
        Self { seed, setup, faults }
    }

    /// Lives through it.
    pub fn run(&self) -> Ending {
        let lived = catch_unwind(AssertUnwindSafe(|| self.live()));
        lived.map_or_else(
            |panic| Ending { broken: vec![said(&*panic)], ..Ending::default() },
            |(_, ending)| ending,
        )
    }

    /// Lives through it, and keeps the world to look at.
    pub fn live(&self) -> (World, Ending) {
        let mut world = World::new(self.seed, self.setup.clone());
        let mut over = CALM;
        for (at, fault) in &self.faults {
            world.inject(*at, fault.clone());
            over = over.max(at + fault.lasts());
        }
        world.run(over + 1);
        tidy(&mut world, self);
        let began = world.now();
        let mut healed = false;
        while !healed && world.now() < began + HEALED_WITHIN {
            let next = world.now() + LOOK;
            world.run(next);
            again_by_hand(&mut world);
            healed = world.is_healed();
        }
        let mut broken = invariants::broken(world.history(), &self.setup.policy);
        if !healed {
            broken.push(format!(
                "everything runs again within {} s: {}",
                HEALED_WITHIN / 1000,
                world.ailing()
            ));
        }
        let ending = Ending {
            broken,
            healed_after: world.now() - began,
            facts: world.ledger().facts().len(),
            restarts: world.history().restarts().len(),
        };
        (world, ending)
    }

    /// The same plan without the faults that it breaks a rule without.
    #[must_use]
    pub fn shorten(&self) -> Self {
        let mut shortest = self.clone();
        let mut index = 0;
        while index < shortest.faults.len() {
            let mut without = shortest.clone();
            without.faults.remove(index);
            if without.run().broken.is_empty() {
                index += 1;
            } else {
                shortest = without;
            }
        }
        shortest
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// What people do when it is over: holds are released, what is paused is resumed, a log that takes no writes is opened anew.
fn tidy(world: &mut World, plan: &Plan) {
    let now = world.now();
    if plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::LogFull { .. })) {
        world.inject(now, Fault::Kill { down: 1_000 });
    }
    world.inject(now + 2_000, Fault::Person(Person::Release));
    for whom in 0..world.workspaces().len() {
        let paused = plan.faults.iter().any(|(_, fault)| *fault == Fault::Person(Person::Pause { whom }));
        if paused {
            world.inject(now + 2_000, Fault::Person(Person::Resume { whom }));
        }
    }
}

/// A first start or a resume that failed is not tried again by itself: whoever asked for it asks again.
fn again_by_hand(world: &mut World) {
    for whom in 0..world.workspaces().len() {
        let failed = world.state_of(whom).is_some_and(|state| {
            state.status == Status::Failed && !state.quarantined && state.restart.is_none()
        });
        if !failed {
            continue;
        }
        let origins = world.history().of(whom).filter_map(|(_, event)| match event {
            Event::ProvisionRequested(e) => Some(e.origin),
            _ => None,
        });
        if matches!(origins.last(), Some(ProvisionOrigin::Create | ProvisionOrigin::Resume)) {
            let now = world.now();
            world.inject(now, Fault::Person(Person::Restart { whom, forced: false }));
        }
    }
}

fn fault(chance: &mut Chance, workspaces: usize) -> Fault {
    match chance.index(3) {
        0 => of_the_engine(chance),
        1 => of_a_workspace(chance, workspaces),
        _ => of_the_platform(chance, workspaces),
    }
}

fn of_the_engine(chance: &mut Chance) -> Fault {
    let lasts = chance.between(1_000, 240_000);
    match chance.index(9) {
        0..=2 => {
            let failures =
                [Failure::Timeout, Failure::Error500, Failure::Refused, Failure::Garbage, Failure::Lost404];
            let calls = [Calls::All, Calls::Inspects, Calls::Lists, Calls::Mutations];
            Fault::EngineErrors {
                failure: failures[chance.index(failures.len())],
                calls: calls[chance.index(calls.len())],
                rate: 0.2 + 0.8 * chance.share(),
                lasts,
            }
        }
        3 => Fault::EngineFrozen { lasts },
        4 => Fault::SocketMissing { lasts },
        5 => Fault::EngineRestart { down: lasts.min(60_000), live_restore: chance.hits(0.5) },
        6 => Fault::EngineSlow { factor: 2 + chance.between(0, 18), lasts },
        7 => Fault::EventsLost { rate: chance.share(), lasts },
        _ => Fault::StopsLinger { lasts },
    }
}

fn of_a_workspace(chance: &mut Chance, workspaces: usize) -> Fault {
    let (whom, lasts) = (chance.index(workspaces), chance.between(5_000, 240_000));
    let many = 1 + chance.index(workspaces);
    match chance.index(14) {
        0 | 1 => Fault::Exit { whom, status: 1 },
        2 => Fault::Vanish { whom },
        3 => Fault::Rename { whom },
        4 => Fault::StaleEvent { whom },
        5 => {
            let everybody = chance.hits(0.2);
            // Long enough for a try out of quarantine to fail.
            let lasts = if !everybody && chance.hits(0.2) { lasts * 8 } else { lasts };
            Fault::CrashLoop { whom: (!everybody).then_some(whom), after: chance.between(200, 15_000), lasts }
        }
        6 => Fault::Hang { whom },
        7 => Fault::Starved { from: whom, many, lasts },
        8 => Fault::Silent { from: whom, many, lasts },
        9 | 10 => Fault::Deaths { from: whom, many, lasts: chance.between(100, 60_000) },
        11 => Fault::Relapse { whom, every: chance.between(20_000, 400_000), lasts: lasts * 5 },
        12 => Fault::Starved { from: whom, many: 1 + chance.index(2), lasts: lasts + 60_000 },
        _ => Fault::Traffic { whom, every: chance.between(500, 20_000), lasts },
    }
}

fn of_the_platform(chance: &mut Chance, workspaces: usize) -> Fault {
    let lasts = chance.between(1_000, 180_000);
    // The first is above others, if anybody is.
    let whom = if chance.hits(0.3) { 0 } else { chance.index(workspaces) };
    match chance.index(15) {
        0 => Fault::Pause { lasts: lasts.min(90_000) },
        1 => Fault::Lag { lag: chance.between(200, 4_000), lasts },
        2 | 3 => Fault::Kill { down: lasts.min(60_000) },
        4 => Fault::LogFull { lasts },
        5 => Fault::LogBusy { lasts: lasts.min(30_000) },
        6 => Fault::LogSlow { latency: chance.between(50, 2_000), lasts },
        7 => Fault::WallJump { by: if chance.hits(0.5) { 3_600_000 } else { -3_600_000 } },
        8 => Fault::NetworkCut { lasts },
        9 => Fault::Person(Person::Restart { whom, forced: chance.hits(0.5) }),
        10 => Fault::Person(Person::Pause { whom }),
        _ => {
            let scope = if chance.hits(0.5) { Whom::All } else { Whom::Below(whom) };
            Fault::Person(if chance.hits(0.2) {
                Person::EmergencyStop
            } else {
                // Long enough for something to die meanwhile.
                Person::Hold { scope, lasts: lasts * 4 }
            })
        }
    }
}
