//! What the supervisor knows: the fold of the fleet's stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use covalence_events::fleet::{BrakeMode, Scope, Strategy};
use covalence_events::workspace::{BackendKind, RestartCause};
use covalence_events::{
    EventId, HoldId, IncidentId, PolicyHash, Position, RestartId, Timestamp, TokenId, WorkspaceId,
};

use crate::context::{Roster, ancestors};
use crate::policy::Policy;
use crate::policy::brake::{Brake, Canary};
use crate::policy::bucket::Bucket;

/// Policies that can be gone back to.
pub const POLICIES_MAX: usize = 16;
/// Restarts of a workspace that are remembered after their end. An echo is a few seconds late, and so many take minutes.
pub const ENDED_MAX: usize = 8;
/// Incidents that can be noted on and closed; the oldest are forgotten here, and stay in the log.
pub const INCIDENTS_MAX: usize = 1000;
/// For so long after one a brake asks for no other flight: it would hold most of the same again.
pub const FLIGHT_REST: chrono::TimeDelta = chrono::TimeDelta::minutes(5);
/// The longest intensity window that a policy may have; older admissions are forgotten by the fold.
pub const HISTORY: chrono::Duration = chrono::Duration::hours(24);

/// A restart that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// The cell.
    pub cell: BackendKind,
    /// When it was first deferred; backoff runs from there.
    pub since: Timestamp,
    /// Its place in the queue.
    pub order: Position,
    /// What defers it.
    pub rule: String,
    /// When to look again; none waits for something to happen.
    pub until: Option<Timestamp>,
    /// Whether it has sat out its backoff.
    pub waited: bool,
    /// Whether a person asked to pass over holds.
    pub forced: bool,
    /// The try out of quarantine that it is, if it is one.
    pub half_open: Option<u32>,
    /// The fact that deferred it last: what comes of it comes from there, not from the timer or the slot that let it go on.
    pub deferral: EventId,
}

/// A restart that was admitted and has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The cell.
    pub cell: BackendKind,
    /// Whether it rests on evidence.
    pub automatic: bool,
    /// The fact that admits it.
    pub admission: (Position, EventId),
}

/// A restart for death or hanging that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// When.
    pub at: Timestamp,
    /// Whether the engine could not start it: it is spaced out like any other, and does not count towards a quarantine.
    pub unstarted: bool,
}

/// A workspace that died too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Tries out of it so far.
    pub tries: u32,
    /// When the last of them began, or the quarantine did.
    pub last: Timestamp,
    /// Whether a try was called for and has not been let through yet.
    pub open: bool,
}

/// A person's hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// Whom it is about.
    pub scope: Scope,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// Whether nothing at all is started.
    pub emergency: bool,
}

/// The restart that is tried before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Which.
    pub restart: RestartId,
    /// Whose.
    pub workspace: WorkspaceId,
    /// When it was let through.
    pub at: Timestamp,
    /// What became of it.
    pub canary: Canary,
    /// Whether it has been heard from.
    pub settled: bool,
}

/// A secret that every workspace gets, or got until it was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalSecret {
    /// Its value, sealed; none once it is removed.
    pub value: Option<String>,
    /// When it was last set or removed.
    pub changed: Timestamp,
    /// The fact that says so.
    pub because: EventId,
}

/// Something that is worth being looked at by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The cell whose brake opened it; none where a person did.
    pub cell: Option<BackendKind>,
    /// When it was opened.
    pub opened: Timestamp,
    /// Whether a person is done with it.
    pub closed: bool,
}

/// What the flight recorder owes the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flights {
    /// When one was recorded last.
    pub last: Option<Timestamp>,
    /// The one that a brake asked for and that has not been recorded yet.
    pub due: Option<FlightDue>,
}

/// See [`Flights::due`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightDue {
    /// The fact that engaged the brake.
    pub brake: EventId,
    /// Its cell.
    pub cell: BackendKind,
    /// When.
    pub at: Timestamp,
}

/// One engine and what it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// Its tokens; none is a full bucket.
    pub bucket: Option<Bucket>,
    /// The brake, if one is engaged.
    pub brake: Option<Brake>,
    /// The restart that the brake tries.
    pub trial: Option<Trial>,
    /// Proven deaths of the last while, newest last.
    pub deaths: VecDeque<(WorkspaceId, Timestamp)>,
    /// When its brake was last released: what was silent until then is forgiven.
    pub released: Option<Timestamp>,
    /// Whether its grace after our own start is over.
    pub grace_over: bool,
}

/// What the supervisor knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The policy in force.
    pub policy: Policy,
    /// Earlier ones, newest last.
    pub earlier: VecDeque<(PolicyHash, Policy)>,
    /// The last policy that came from the configuration.
    pub configured: Option<PolicyHash>,
    /// Admissions for death or hanging, newest last, by workspace.
    pub history: BTreeMap<WorkspaceId, Vec<Tried>>,
    /// Restarts that wait.
    pub waiting: BTreeMap<RestartId, Waiting>,
    /// Restarts in flight.
    pub in_flight: BTreeMap<RestartId, InFlight>,
    /// Restarts that brought their workspace back and have not proved themselves.
    pub proving: BTreeMap<RestartId, (WorkspaceId, BackendKind)>,
    /// The restarts of each workspace that were last settled or refused, newest last: a request for one of them that comes
    /// late is an echo.
    pub ended: BTreeMap<WorkspaceId, VecDeque<RestartId>>,
    /// Workspaces that died too often.
    pub quarantined: BTreeMap<WorkspaceId, Quarantine>,
    /// Cells.
    pub cells: BTreeMap<BackendKind, Cell>,
    /// Holds.
    pub holds: BTreeMap<HoldId, Hold>,
    /// Where decisions are only recorded.
    pub advised: Vec<Scope>,
    /// Teams with another strategy than one for one.
    pub strategies: BTreeMap<WorkspaceId, Strategy>,
    /// Secrets that every workspace gets, by name.
    pub secrets: BTreeMap<String, GlobalSecret>,
    /// Organisation tokens that work.
    pub org_tokens: BTreeSet<TokenId>,
    /// Alarms that are on.
    pub alarms: BTreeSet<(String, Option<WorkspaceId>)>,
    /// Backends that do not answer, and since when.
    pub lost: BTreeMap<String, Timestamp>,
    /// Instances that nobody knows, as reported in this run.
    pub strangers: Vec<String>,
    /// Incidents, oldest first: their ids begin with their time.
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// What the flight recorder owes the log.
    pub flights: Flights,
    /// When the grace after our own start ends at the earliest, and when it began.
    pub grace: Option<(Timestamp, Timestamp)>,
}

impl State {
    /// Admissions of this workspace since then, for death or hanging.
    pub fn since(&self, workspace: WorkspaceId, since: Timestamp) -> u32 {
        many(self.tried(workspace, since).count())
    }

    /// Those among them that started something, or may have.
    pub fn started_since(&self, workspace: WorkspaceId, since: Timestamp) -> u32 {
        many(self.tried(workspace, since).filter(|tried| !tried.unstarted).count())
    }

    fn tried(&self, workspace: WorkspaceId, since: Timestamp) -> impl Iterator<Item = &Tried> {
        self.history.get(&workspace).into_iter().flatten().filter(move |tried| tried.at > since)
    }

    /// Whether the grace after our own start is on for a cell.
    pub fn in_grace(&self, cell: BackendKind) -> bool {
        self.grace.is_some() && !self.cells.get(&cell).is_some_and(|cell| cell.grace_over)
    }

    /// Tokens of a cell.
    pub fn tokens(&self, cell: BackendKind, now: Timestamp) -> f64 {
        let bucket = self.cells.get(&cell).and_then(|cell| cell.bucket);
        bucket.map_or(self.policy.bucket_capacity, |bucket| bucket.level(&self.policy, now))
    }

    /// The mode of a cell's brake.
    pub fn brake_mode(&self, cell: BackendKind) -> Option<BrakeMode> {
        self.cells.get(&cell).and_then(|cell| cell.brake).map(|brake| brake.mode)
    }

    /// Restarts of a cell in flight.
    pub fn in_flight_of(&self, cell: BackendKind) -> u32 {
        many(self.in_flight.values().filter(|one| one.cell == cell).count())
    }

    /// Whether an emergency stop is on: then nothing at all is started.
    pub fn is_stopped(&self) -> bool {
        self.holds.values().any(|hold| hold.emergency)
    }

    /// The hold that covers a workspace: an emergency stop before any other, then the one that lasts longest.
    pub fn hold_over(&self, workspace: WorkspaceId, roster: &dyn Roster) -> Option<(HoldId, &Hold)> {
        let covering =
            self.holds.iter().filter(|(_, hold)| hold.scope.covers(workspace, ancestors(roster, workspace)));
        covering
            .max_by_key(|(_, hold)| (hold.emergency, hold.until.is_none(), hold.until))
            .map(|(id, hold)| (*id, hold))
    }

    /// Whether decisions about a workspace are only recorded.
    pub fn advises(&self, workspace: WorkspaceId, roster: &dyn Roster) -> bool {
        self.advised.iter().any(|scope| scope.covers(workspace, ancestors(roster, workspace)))
    }

    /// Distinct proven deaths of a cell since then, with those that are about to be reported.
    pub fn deaths_since(
        &self,
        cell: BackendKind,
        since: Timestamp,
        announced: &[WorkspaceId],
    ) -> BTreeSet<WorkspaceId> {
        let recorded = self.cells.get(&cell).into_iter().flat_map(|cell| &cell.deaths);
        let recent = recorded.filter(|(_, at)| *at > since).map(|(id, _)| *id);
        recent.chain(announced.iter().copied()).collect()
    }
}

/// A length as the facts write it.
pub fn many(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
