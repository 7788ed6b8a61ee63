//! What the supervisor has decided and why, what holds it back, and what speaks against whom.
//!
//! One read model for *why was it restarted?* and, more often, *why not?*: the brakes, tokens and observers of each cell, the
//! holds and alarms that are on, restarts that wait or are in flight, the policy in force, and the last decisions with the
//! numbers that they were made with. It repeats what the facts say; what could begin right now is the policy's to say.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use covalence_events::fleet::{AdmissionInputs, Scope, Strategy};
use covalence_events::workspace::{BackendKind, RestartCause};
use covalence_events::{EventId, HoldId, PolicyHash, Position, Principal, RestartId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::newest::{Limits, Newest};

pub mod cell;
mod fold;
pub mod watch;

pub use cell::{Brake, Cell, Tokens, Trial, TrialOutcome};
pub use watch::{Doubt, Seen, Suspicion, Watch, Withheld};

/// Decisions kept of one workspace: what a crash loop takes until its quarantine, several times over.
pub const DECISIONS_PER_WORKSPACE: usize = 40;
/// Decisions kept of all together: at about half a kilobyte each, 5 MB.
pub const DECISIONS_MAX: usize = 10_000;
/// Policies kept, with the one in force: one more than can be gone back to.
pub const POLICIES_MAX: usize = 17;

/// A restart that has to wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// The cell; none in facts of before there were cells.
    pub cell: Option<BackendKind>,
    /// Since when it waits.
    pub since: Timestamp,
    /// The rule.
    pub rule: String,
    /// When it is looked at again; none waits for something to happen.
    pub until: Option<Timestamp>,
}

/// A restart that was admitted and has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Whose.
    pub workspace: WorkspaceId,
    /// Why it was asked for.
    pub cause: RestartCause,
    /// The cell; none in facts of before there were cells.
    pub cell: Option<BackendKind>,
    /// Since when.
    pub since: Timestamp,
}

/// A person's hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Its name.
    pub id: HoldId,
    /// Whom it is about.
    pub scope: Scope,
    /// Why, in the words of whoever set it.
    pub reason: String,
    /// Who set it.
    pub by: Principal,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; none for an emergency stop.
    pub until: Option<Timestamp>,
    /// Whether nothing at all is started.
    pub emergency: bool,
}

/// A condition that a person should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// A stable word, with its subject after a colon.
    pub kind: String,
    /// Whom it is about, if one.
    pub workspace: Option<WorkspaceId>,
    /// For people.
    pub message: String,
    /// Since when it is on.
    pub since: Timestamp,
}

/// A workspace that died too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Since when.
    pub since: Timestamp,
    /// Tries out of it so far.
    pub tries: u32,
    /// How many there are before only a person can lift it, as of the last try; none before the first.
    pub tries_max: Option<u32>,
}

/// Where decisions are only recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advised {
    /// Whom it is about.
    pub scope: Scope,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: Principal,
    /// Since when.
    pub since: Timestamp,
}

/// A policy that is, or was, in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyInForce {
    /// Its name.
    pub hash: PolicyHash,
    /// Every parameter, as in the document.
    pub parameters: serde_json::Value,
    /// What changed with it: name, before, after.
    pub changed: Vec<(String, String, String)>,
    /// Why.
    pub reason: String,
    /// `configuration`, `set` or `rollback`.
    pub origin: String,
    /// Who set it.
    pub by: Principal,
    /// Since when.
    pub since: Timestamp,
}

/// The grace after our own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grace {
    /// Since when.
    pub since: Timestamp,
    /// When it ends at the earliest.
    pub until: Timestamp,
}

/// What kind of decision it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Decided {
    /// A restart may begin.
    Admitted,
    /// A restart has to wait.
    Deferred,
    /// A restart is refused.
    Suppressed,
    /// A fresh look found it running: it is not restarted.
    Refuted,
    /// It would count as hung, but for a rule.
    Withheld,
}

impl Decided {
    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Deferred => "deferred",
            Self::Suppressed => "suppressed",
            Self::Refuted => "refuted",
            Self::Withheld => "withheld",
        }
    }
}

/// One decision, with what it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Where in the log it stands.
    pub position: Position,
    /// The fact's own id.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// Whom it is about.
    pub workspace: WorkspaceId,
    /// What was decided.
    pub decided: Decided,
    /// The rule; none for what was let through.
    pub rule: Option<String>,
    /// The restart; none where none was asked for.
    pub restart: Option<RestartId>,
    /// Why it was asked for.
    pub cause: Option<RestartCause>,
    /// When it is looked at again, or may be asked for again.
    pub until: Option<Timestamp>,
    /// What a person's wish passed over.
    pub overridden: Vec<String>,
    /// The policy that it was made under.
    pub policy: Option<PolicyHash>,
    /// Every number that it was made from.
    pub inputs: Option<Box<AdmissionInputs>>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Supervision {
    cells: BTreeMap<BackendKind, Cell>,
    /// The platform's own score, which is no cell's.
    platform: Option<cell::Observer>,
    holds: BTreeMap<HoldId, Hold>,
    alarms: BTreeMap<(String, Option<WorkspaceId>), Alarm>,
    quarantined: BTreeMap<WorkspaceId, Quarantine>,
    in_flight: BTreeMap<RestartId, InFlight>,
    waiting: BTreeMap<RestartId, Waiting>,
    advised: Vec<Advised>,
    strategies: BTreeMap<WorkspaceId, Strategy>,
    grace: Option<Grace>,
    policies: VecDeque<PolicyInForce>,
    decisions: Newest<Decision>,
    #[serde(serialize_with = "crate::state::sorted")]
    watches: HashMap<WorkspaceId, Watch>,
}

impl Default for Supervision {
    fn default() -> Self {
        let limits = Limits { per_workspace: DECISIONS_PER_WORKSPACE, weight_max: DECISIONS_MAX };
        Self {
            cells: BTreeMap::new(),
            platform: None,
            holds: BTreeMap::new(),
            alarms: BTreeMap::new(),
            quarantined: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            waiting: BTreeMap::new(),
            advised: Vec::new(),
            strategies: BTreeMap::new(),
            grace: None,
            policies: VecDeque::new(),
            decisions: Newest::new(limits),
            watches: HashMap::new(),
        }
    }
}

impl Supervision {
    /// What is known of a cell; none before its first fact.
    pub fn cell(&self, kind: BackendKind) -> Option<&Cell> {
        self.cells.get(&kind)
    }

    /// Every cell that some fact is about.
    pub fn cells(&self) -> impl Iterator<Item = (BackendKind, &Cell)> {
        self.cells.iter().map(|(kind, cell)| (*kind, cell))
    }

    /// The platform's own score, if it was ever anything but well.
    pub const fn platform(&self) -> Option<&cell::Observer> {
        self.platform.as_ref()
    }

    /// The holds that are on, oldest first.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    /// A hold that is on.
    pub fn hold(&self, id: HoldId) -> Option<&Hold> {
        self.holds.get(&id)
    }

    /// The alarms that are on.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.values()
    }

    /// The workspaces that died too often.
    pub fn quarantined(&self) -> impl Iterator<Item = (WorkspaceId, &Quarantine)> {
        self.quarantined.iter().map(|(id, quarantine)| (*id, quarantine))
    }

    /// The quarantine of a workspace, if it is in one.
    pub fn quarantine(&self, workspace: WorkspaceId) -> Option<&Quarantine> {
        self.quarantined.get(&workspace)
    }

    /// Restarts that were admitted and have no outcome.
    pub fn in_flight(&self) -> impl Iterator<Item = (RestartId, &InFlight)> {
        self.in_flight.iter().map(|(id, one)| (*id, one))
    }

    /// Restarts that wait, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = (RestartId, &Waiting)> {
        self.waiting.iter().map(|(id, one)| (*id, one))
    }

    /// Where decisions are only recorded, oldest first. Everywhere else they are acted on.
    pub fn advised(&self) -> &[Advised] {
        &self.advised
    }

    /// Who is restarted when a member of this team dies.
    pub fn strategy(&self, team: WorkspaceId) -> Strategy {
        self.strategies.get(&team).copied().unwrap_or_default()
    }

    /// The grace after our own start, while it lasts for this cell.
    pub fn grace(&self, cell: BackendKind) -> Option<Grace> {
        self.grace.filter(|_| !self.cells.get(&cell).is_some_and(|cell| cell.grace_over))
    }

    /// The policy in force; none in a log of before policies were recorded.
    pub fn policy(&self) -> Option<&PolicyInForce> {
        self.policies.back()
    }

    /// Policies, newest first, the one in force among them; at most [`POLICIES_MAX`].
    pub fn policies(&self) -> impl Iterator<Item = &PolicyInForce> {
        self.policies.iter().rev()
    }

    /// The last decisions of all, newest first.
    pub fn decisions(&self, limit: usize) -> Vec<Arc<Decision>> {
        self.decisions.overall(limit)
    }

    /// The last decisions about a workspace, newest first; at most [`DECISIONS_PER_WORKSPACE`] are kept.
    pub fn decisions_about(&self, workspace: WorkspaceId, limit: usize) -> Vec<Arc<Decision>> {
        self.decisions.of(workspace, limit)
    }

    /// What speaks against a workspace, and what was said about it last; none where nothing was.
    pub fn watch(&self, workspace: WorkspaceId) -> Option<&Watch> {
        self.watches.get(&workspace)
    }

    /// Everybody that something speaks against at the moment.
    pub fn suspects(&self) -> impl Iterator<Item = (WorkspaceId, &Suspicion)> {
        self.watches.iter().filter_map(|(id, watch)| Some((*id, watch.suspicion.as_ref()?)))
    }
}
