//! What a canvas is told: facts as the wire's structure events, and the newest of them.
//!
//! One function, [`wire`], knows which fact is which event. Not every fact is one, and none is more than one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use covalence_events::workspace::{CameOnline, Created, Degraded, Event, OnlineVia, Registered};
use covalence_events::{EventId, Fact, Position, Recorded, Timestamp, WorkspaceId};
use serde_json::{Value, json};

use crate::newest::{Limits, Newest};
use crate::projection::{ApplyError, Projection};
use crate::roster::{Card, Roster};

/// Events kept of one workspace, and shown at once: the wire contract's page.
pub const NEWEST: usize = 100;
/// Memory for all kept events. 64 MiB holds about 150 000 of them, and a flood of big agent cards can't take more.
pub const BYTES_MAX: usize = 64 << 20;
/// What an event takes besides its payload: its row, the index, the allocator.
const BYTES_OVERHEAD: usize = 240;

/// One event as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct StructureEvent {
    /// The fact's own id.
    pub id: EventId,
    /// Its place in the log.
    pub position: Position,
    /// The wire's name, `WORKSPACE_ONLINE` and the like.
    pub event_type: &'static str,
    /// Whom it is about.
    pub workspace: WorkspaceId,
    /// What it says, as JSON text.
    pub payload: Payload,
    /// When it happened.
    pub created_at: Timestamp,
}

/// An event's payload. Serializes as the JSON object that it is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Payload(Card);

impl Payload {
    /// Its JSON text.
    pub fn as_json(&self) -> &str {
        self.0.as_json()
    }

    /// Its tree, parsed anew.
    pub fn to_value(&self) -> Value {
        self.0.to_value()
    }
}

/// What an event says of a workspace besides the fact: as it is when the fact happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// 1 to 4.
    pub tier: u8,
    /// Its runtime.
    pub runtime: Arc<str>,
    /// Whether somebody else runs it.
    pub external: bool,
}

/// Where [`wire`] looks up what a fact does not say.
pub trait Profiles {
    /// The profile of a workspace, if it is known.
    fn profile(&self, id: WorkspaceId) -> Option<Profile>;
}

impl Profiles for Roster {
    fn profile(&self, id: WorkspaceId) -> Option<Profile> {
        let row = self.get(id)?;
        Some(Profile {
            name: row.name.clone(),
            tier: row.tier,
            runtime: Arc::clone(&row.runtime),
            external: row.is_external(),
        })
    }
}

/// The structure event that a fact is to clients, if it is one.
pub fn wire(recorded: &Recorded, profiles: &impl Profiles) -> Option<StructureEvent> {
    let (Fact::Workspace(event), Some(workspace)) = (&recorded.fact, recorded.subject()) else {
        return None;
    };
    let (event_type, payload) = translate(event, workspace, profiles)?;
    Some(StructureEvent {
        id: recorded.meta.id,
        position: recorded.position,
        event_type,
        workspace,
        payload: Payload(Card::new(&payload)?),
        created_at: recorded.meta.at,
    })
}

fn translate(event: &Event, id: WorkspaceId, profiles: &impl Profiles) -> Option<(&'static str, Value)> {
    match event {
        Event::Created(e) => created(e),
        Event::ProvisionRequested(_) => {
            let profile = profiles.profile(id)?;
            let payload =
                json!({"name": profile.name, "tier": profile.tier, "runtime": profile.runtime.as_ref()});
            Some(("WORKSPACE_PROVISIONING", payload))
        }
        Event::Registered(e) => Some(("WORKSPACE_ONLINE", registered(e))),
        Event::CameOnline(e) => Some(("WORKSPACE_ONLINE", came_online(e)?)),
        Event::WentOffline(_) => Some(("WORKSPACE_OFFLINE", json!({}))),
        Event::Degraded(e) => Some(("WORKSPACE_DEGRADED", degraded(e))),
        Event::ProvisionFailed(e) => Some(("WORKSPACE_PROVISION_FAILED", json!({"error": e.message}))),
        // The wire has no other word for "became `failed`".
        Event::Quarantined(e) => {
            Some(("WORKSPACE_PROVISION_FAILED", json!({"error": e.message, "source": "supervision"})))
        }
        Event::Paused(_) => Some(("WORKSPACE_PAUSED", json!({"name": profiles.profile(id)?.name}))),
        Event::Resumed(_) => {
            // What we run goes on with `ProvisionRequested`, which says so.
            let profile = profiles.profile(id).filter(|profile| profile.external)?;
            Some(("WORKSPACE_AWAITING_AGENT", json!({"name": profile.name, "external": true})))
        }
        Event::Removed(e) => {
            let payload =
                e.cascade_deleted.map_or_else(|| json!({}), |count| json!({"cascade_deleted": count}));
            Some(("WORKSPACE_REMOVED", payload))
        }
        Event::CardUpdated(e) => Some(("AGENT_CARD_UPDATED", json!({"agent_card": e.agent_card}))),
        // No client has a word for these; the raw log shows them.
        Event::Renamed(_)
        | Event::RoleChanged(_)
        | Event::TierChanged(_)
        | Event::Moved(_)
        | Event::RuntimeChanged(_)
        | Event::DirectoryChanged(_)
        | Event::Placed(_)
        | Event::Folded(_)
        | Event::InstanceStarted(_)
        | Event::StopRequested(_)
        | Event::InstanceStopped(_)
        | Event::StopFailed(_)
        | Event::InstanceAdopted(_)
        | Event::EvidenceObserved(_)
        | Event::VerdictReached(_)
        | Event::RestartRequested(_)
        | Event::RestartStarted(_)
        | Event::RestartAbandoned(_)
        | Event::HeartbeatReceived(_)
        | Event::TokenIssued(_)
        | Event::TokensRevoked(_)
        | Event::CallFinished(_)
        | Event::HandlerPanicked(_) => None,
    }
}

fn created(e: &Created) -> Option<(&'static str, Value)> {
    if e.backend != covalence_events::workspace::BackendKind::External {
        return None;
    }
    let name = if e.url.is_some() { "WORKSPACE_ONLINE" } else { "WORKSPACE_AWAITING_AGENT" };
    Some((name, json!({"name": e.name, "external": true})))
}

fn registered(e: &Registered) -> Value {
    json!({
        "url": e.url.as_deref().unwrap_or_default(),
        "agent_card": e.agent_card,
        "delivery_mode": e.delivery_mode.as_str(),
    })
}

fn came_online(e: &CameOnline) -> Option<Value> {
    match e.via {
        // `Registered` and `Created` stand beside it and have said so, with more to say.
        OnlineVia::Register | OnlineVia::Create => None,
        OnlineVia::Heartbeat => Some(match e.from.as_str() {
            "offline" | "degraded" => json!({}),
            from => json!({"recovered_from": from}),
        }),
    }
}

fn degraded(e: &Degraded) -> Value {
    if e.runtime_state.is_empty() {
        json!({"error_rate": e.error_rate, "sample_error": e.sample_error})
    } else {
        json!({"runtime_state": e.runtime_state, "sample_error": e.sample_error})
    }
}

/// The newest structure events.
#[derive(Clone, Debug, PartialEq)]
pub struct Structure {
    profiles: Known,
    newest: Newest<StructureEvent>,
}

impl Default for Structure {
    fn default() -> Self {
        let limits = Limits { per_workspace: NEWEST, weight_max: BYTES_MAX };
        Self { profiles: Known::default(), newest: Newest::new(limits) }
    }
}

impl Structure {
    /// The newest of all, newest first; `limit` up to [`NEWEST`].
    pub fn newest(&self, limit: usize) -> Vec<Arc<StructureEvent>> {
        self.newest.overall(limit.min(NEWEST))
    }

    /// The newest of one workspace, newest first; `limit` up to [`NEWEST`].
    pub fn of(&self, workspace: WorkspaceId, limit: usize) -> Vec<Arc<StructureEvent>> {
        self.newest.of(workspace, limit.min(NEWEST))
    }

    /// Those after a position, oldest first, as far as they are kept: what a live channel has to send next.
    pub fn since(&self, after: Position, limit: usize) -> Vec<Arc<StructureEvent>> {
        self.newest.since(after, limit)
    }
}

impl Projection for Structure {
    const NAME: &'static str = "events";
    const VERSION: u32 = 1;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        self.profiles.learn(recorded);
        if let Some(event) = wire(recorded, &self.profiles) {
            let weight = BYTES_OVERHEAD + event.payload.as_json().len();
            self.newest.push(recorded.position, event.workspace, weight, event);
        }
        Ok(())
    }
}

/// The profiles as they are at the checkpoint: another projection's would be ahead or behind.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    profiles: HashMap<WorkspaceId, Profile>,
    runtimes: BTreeSet<Arc<str>>,
}

impl Known {
    fn learn(&mut self, recorded: &Recorded) {
        let (Fact::Workspace(event), Some(id)) = (&recorded.fact, recorded.subject()) else { return };
        // Only these change what an event says besides its fact.
        if let Event::Created(e) = event {
            let profile = Profile {
                name: e.name.clone(),
                tier: e.tier,
                runtime: self.runtime(&e.runtime),
                external: e.backend == covalence_events::workspace::BackendKind::External,
            };
            self.profiles.insert(id, profile);
        } else if let Event::RuntimeChanged(e) = event {
            let runtime = self.runtime(&e.runtime);
            self.change(id, |profile| profile.runtime = runtime);
        } else if let Event::Renamed(e) = event {
            self.change(id, |profile| profile.name.clone_from(&e.name));
        } else if let Event::TierChanged(e) = event {
            self.change(id, |profile| profile.tier = e.tier);
        }
    }

    fn change(&mut self, id: WorkspaceId, change: impl FnOnce(&mut Profile)) {
        if let Some(profile) = self.profiles.get_mut(&id) {
            change(profile);
        }
    }

    fn runtime(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.runtimes.get(text) {
            return Arc::clone(known);
        }
        let runtime: Arc<str> = Arc::from(text);
        self.runtimes.insert(Arc::clone(&runtime));
        runtime
    }
}

impl Profiles for Known {
    fn profile(&self, id: WorkspaceId) -> Option<Profile> {
        self.profiles.get(&id).cloned()
    }
}
