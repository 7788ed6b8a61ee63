//! What happened in a world, as questions that a test or a person asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use covalence_events::fleet::{
    self, BrakeEngaged, BrakeMode, BrakeTrigger, RestartAdmitted, RestartDeferred, RestartSuppressed,
};
use covalence_events::workspace::{self, RestartCause};
use covalence_events::{EventId, Fact, Generation, Recorded, RestartId, StreamId, WorkspaceId};

use super::world::World;
use super::{Millis, Note, What};

/// A brake, from its engagement to its release.
#[derive(Clone, Debug, PartialEq)]
pub struct BrakeTime {
    /// When it was engaged.
    pub from: Millis,
    /// When it was released.
    pub until: Option<Millis>,
    /// Every mode of it, and what led to each.
    pub modes: Vec<(Millis, BrakeMode, BrakeTrigger)>,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// The log.
    pub facts: &'a [(Millis, Recorded)],
    /// What happened outside of it.
    pub notes: &'a [Note],
    workspaces: &'a [WorkspaceId],
}

impl World {
    /// What happened so far.
    pub fn history(&self) -> History<'_> {
        History { facts: self.ledger().facts(), notes: self.notes(), workspaces: self.workspaces() }
    }
}

impl<'a> History<'a> {
    /// Facts of the fleet.
    pub fn fleet(self) -> impl Iterator<Item = (Millis, &'a fleet::Event, &'a Recorded)> {
        self.facts.iter().filter_map(|(at, recorded)| match &recorded.fact {
            Fact::Fleet(event) => Some((*at, event, recorded)),
            Fact::Workspace(_) => None,
        })
    }

    /// Facts of all workspaces.
    pub fn all(self) -> impl Iterator<Item = (Millis, WorkspaceId, &'a workspace::Event, &'a Recorded)> {
        self.facts.iter().filter_map(|(at, recorded)| match (&recorded.fact, recorded.stream) {
            (Fact::Workspace(event), StreamId::Workspace(id)) => Some((*at, id, event, recorded)),
            _ => None,
        })
    }

    /// Facts of one workspace, in the order of the creations.
    pub fn of(self, whom: usize) -> impl Iterator<Item = (Millis, &'a workspace::Event)> {
        let workspace = self.workspaces.get(whom).copied();
        self.all().filter(move |(_, id, ..)| Some(*id) == workspace).map(|(at, _, event, _)| (at, event))
    }

    /// When restarts of a workspace began.
    pub fn restarts_of(self, whom: usize) -> Vec<Millis> {
        let began = self.of(whom).filter(|(_, event)| matches!(event, workspace::Event::RestartStarted(_)));
        began.map(|(at, _)| at).collect()
    }

    /// When restarts began, whosever.
    pub fn restarts(self) -> Vec<Millis> {
        let began =
            self.all().filter(|(_, _, event, _)| matches!(event, workspace::Event::RestartStarted(_)));
        began.map(|(at, ..)| at).collect()
    }

    /// Admitted restarts.
    pub fn admitted(self) -> Vec<(Millis, &'a RestartAdmitted)> {
        self.fleet()
            .filter_map(|(at, event, _)| match event {
                fleet::Event::RestartAdmitted(e) => Some((at, e)),
                _ => None,
            })
            .collect()
    }

    /// Deferred restarts.
    pub fn deferred(self) -> Vec<(Millis, &'a RestartDeferred)> {
        self.fleet()
            .filter_map(|(at, event, _)| match event {
                fleet::Event::RestartDeferred(e) => Some((at, e)),
                _ => None,
            })
            .collect()
    }

    /// Suppressed restarts.
    pub fn suppressed(self) -> Vec<(Millis, &'a RestartSuppressed)> {
        self.fleet()
            .filter_map(|(at, event, _)| match event {
                fleet::Event::RestartSuppressed(e) => Some((at, e)),
                _ => None,
            })
            .collect()
    }

    /// Why each restart was asked for.
    pub fn causes(self) -> BTreeMap<RestartId, RestartCause> {
        self.all()
            .filter_map(|(_, _, event, _)| match event {
                workspace::Event::RestartRequested(e) => Some((e.restart, e.cause)),
                _ => None,
            })
            .collect()
    }

    /// Which restart started which generation.
    pub fn generations(self) -> BTreeMap<(WorkspaceId, Generation), RestartId> {
        self.all()
            .filter_map(|(_, id, event, _)| match event {
                workspace::Event::ProvisionRequested(e) => Some(((id, e.generation), e.restart?)),
                _ => None,
            })
            .collect()
    }

    /// Why each restart was asked for in the first place: one that follows a start which failed goes on for the cause of the
    /// one before.
    pub fn first_causes(self) -> BTreeMap<RestartId, RestartCause> {
        let (generations, known) = (self.generations(), self.by_id());
        let mut causes = BTreeMap::new();
        for (_, id, event, _) in self.all() {
            let workspace::Event::RestartRequested(e) = event else { continue };
            let before = e.evidence.iter().find_map(|evidence| match &known.get(evidence)?.fact {
                Fact::Workspace(workspace::Event::ProvisionFailed(failed)) => {
                    causes.get(generations.get(&(id, failed.generation))?).copied()
                }
                _ => None,
            });
            causes.insert(e.restart, before.unwrap_or(e.cause));
        }
        causes
    }

    /// Wrong restarts: a running container was replaced for the death or the silence of an agent that had been well and
    /// reachable for so long.
    pub fn wrong_restarts(self, well_for: Millis) -> Vec<(Millis, WorkspaceId)> {
        let replaced: Vec<_> = self
            .notes
            .iter()
            .filter_map(|note| match &note.what {
                What::Replaced { workspace, by, well_ms } if *well_ms > well_for => {
                    Some((note.at, *workspace, *by))
                }
                _ => None,
            })
            .collect();
        if replaced.is_empty() {
            return Vec::new();
        }
        let (causes, generations) = (self.first_causes(), self.generations());
        let automatic = |workspace: WorkspaceId, by: Generation| {
            let cause = generations.get(&(workspace, by)).and_then(|restart| causes.get(restart));
            matches!(cause, Some(RestartCause::Death | RestartCause::Hung))
        };
        let wrong = replaced.into_iter().filter(|(_, workspace, by)| automatic(*workspace, *by));
        wrong.map(|(at, workspace, _)| (at, workspace)).collect()
    }

    /// The most restarts that were in flight at once.
    pub fn in_flight_max(self) -> usize {
        let mut in_flight = BTreeSet::new();
        let mut most = 0;
        for (_, event, _) in self.fleet() {
            match event {
                fleet::Event::RestartAdmitted(e) => drop(in_flight.insert(e.restart)),
                fleet::Event::RestartSettled(e) => drop(in_flight.remove(&e.restart)),
                _ => {}
            }
            most = most.max(in_flight.len());
        }
        most
    }

    /// Brakes, from engagement to release.
    pub fn brakes(self) -> Vec<BrakeTime> {
        let mut brakes: Vec<BrakeTime> = Vec::new();
        for (at, event, _) in self.fleet() {
            let open = brakes.last_mut().filter(|brake| brake.until.is_none());
            match (event, open) {
                (fleet::Event::BrakeEngaged(e), Some(brake)) => brake.modes.push((at, e.mode, e.trigger)),
                (fleet::Event::BrakeEngaged(e), None) => {
                    brakes.push(BrakeTime { from: at, until: None, modes: vec![(at, e.mode, e.trigger)] });
                }
                (fleet::Event::BrakeReleased(_), Some(brake)) => brake.until = Some(at),
                _ => {}
            }
        }
        brakes
    }

    /// Every engagement of a brake.
    pub fn engagements(self) -> Vec<(Millis, &'a BrakeEngaged)> {
        self.fleet()
            .filter_map(|(at, event, _)| match event {
                fleet::Event::BrakeEngaged(e) => Some((at, e)),
                _ => None,
            })
            .collect()
    }

    /// Alarms that were raised, by their word.
    pub fn alarms(self) -> Vec<(Millis, &'a str)> {
        self.fleet()
            .filter_map(|(at, event, _)| match event {
                fleet::Event::AlarmRaised(e) => Some((at, e.kind.as_str())),
                _ => None,
            })
            .collect()
    }

    /// The first fact of a workspace of which this holds.
    pub fn first(self, whom: usize, is: impl Fn(&workspace::Event) -> bool) -> Option<Millis> {
        self.of(whom).find(|(_, event)| is(event)).map(|(at, _)| at)
    }

    /// Every fact by its name.
    pub fn by_id(self) -> BTreeMap<EventId, &'a Recorded> {
        self.facts.iter().map(|(_, recorded)| (recorded.meta.id, recorded)).collect()
    }

    /// How often the platform asked the engine to change something within this time.
    pub fn mutations(self, from: Millis, until: Millis) -> usize {
        let within = self.notes.iter().filter(|note| (from..until).contains(&note.at));
        within.filter(|note| matches!(note.what, What::Mutation { .. })).count()
    }

    /// The story from a moment on, one line a fact or note, for people who look for what went wrong.
    pub fn story(self, from: Millis) -> String {
        let place = |id: WorkspaceId| self.workspaces.iter().position(|known| *known == id);
        let mut lines: Vec<(Millis, String)> = Vec::new();
        for (at, recorded) in self.facts.iter().filter(|(at, _)| *at >= from) {
            let routine = matches!(
                &recorded.fact,
                Fact::Workspace(
                    workspace::Event::HeartbeatReceived(_)
                        | workspace::Event::TokenIssued(_)
                        | workspace::Event::TokensRevoked(_)
                        | workspace::Event::EnrolmentOpened(_)
                        | workspace::Event::RegistrationRefused(_)
                )
            );
            if !routine {
                let subject =
                    recorded.subject().and_then(place).map(|n| format!("ws-{n} ")).unwrap_or_default();
                lines.push((*at, format!("{subject}{:?}", recorded.fact)));
            }
        }
        lines.extend(
            self.notes
                .iter()
                .filter(|note| note.at >= from)
                .map(|note| (note.at, format!("{:?}", note.what))),
        );
        lines.sort_by_key(|(at, _)| *at);
        let mut story = String::new();
        for (at, mut line) in lines {
            for (place, id) in self.workspaces.iter().enumerate() {
                line = line.replace(&format!("WorkspaceId({id})"), &format!("ws-{place}"));
            }
            // Writing to a string can't fail.
            let _ = writeln!(story, "{:>6}.{:03} {line}", at / 1000, at % 1000);
        }
        story
    }
}
