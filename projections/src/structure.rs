//! What a canvas is told: facts as the wire's structure events, and the newest of them.
//!
//! One function, [`wire`], knows which fact is which event. Not every fact is one, and none is more than one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use covalence_events::seal::ERASED;
use covalence_events::workspace::{
    AgentAssigned, BackendKind, CameOnline, Created, Degraded, DelegationOutcome, Event, OnlineVia,
    Registered, TeamMember,
};
use covalence_events::{DelegationId, EventId, Fact, Position, Recorded, Timestamp, WorkspaceId};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::newest::{Limits, Newest};
use crate::projection::{ApplyError, Projection};
use crate::roster::Card;
use crate::state::Word;

/// Events kept of one workspace, and shown at once: the wire contract's page.
pub const NEWEST: usize = 100;
/// Memory for all kept events. 64 MiB holds about 150 000 small ones, and a flood of big agent cards can't take more.
pub const BYTES_MAX: usize = 64 << 20;
/// What an event takes besides its payload: its row, both indexes, the allocator (measured with 100 000 workspaces).
const BYTES_OVERHEAD: usize = 400;

/// One event as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StructureEvent {
    /// The fact's own id.
    pub id: EventId,
    /// Its place in the log.
    pub position: Position,
    /// The wire's name, `WORKSPACE_ONLINE` and the like.
    #[serde(deserialize_with = "known_type")]
    pub event_type: Word,
    /// Whom it is about.
    pub workspace: WorkspaceId,
    /// What it says, as JSON text.
    #[serde(serialize_with = "Payload::as_text", deserialize_with = "Payload::from_text")]
    pub payload: Payload,
    /// When it happened.
    pub created_at: Timestamp,
}

/// An event's payload. Serializes as the JSON object that it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

    /// As a snapshot keeps it: the text as it is.
    fn as_text<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_json())
    }

    fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Card::from_json(text).map(Self).ok_or_else(|| D::Error::custom("a payload is no JSON"))
    }
}

/// Every name that [`wire`] gives.
const TYPES: [&str; 20] = [
    "AGENT_ASSIGNED",
    "AGENT_CARD_UPDATED",
    "AGENT_MOVED",
    "AGENT_REMOVED",
    "AGENT_REPLACED",
    "DELEGATION_COMPLETE",
    "DELEGATION_FAILED",
    "DELEGATION_SENT",
    "DELEGATION_STATUS",
    "WORKSPACE_AWAITING_AGENT",
    "WORKSPACE_COLLAPSED",
    "WORKSPACE_DEGRADED",
    "WORKSPACE_EXPANDED",
    "WORKSPACE_HIBERNATED",
    "WORKSPACE_OFFLINE",
    "WORKSPACE_ONLINE",
    "WORKSPACE_PAUSED",
    "WORKSPACE_PROVISIONING",
    "WORKSPACE_PROVISION_FAILED",
    "WORKSPACE_REMOVED",
];

fn known_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let text = String::deserialize(deserializer)?;
    TYPES.into_iter().find(|known| *known == text).ok_or_else(|| D::Error::custom("an unknown event type"))
}

/// The structure event that a fact is to clients, if it is one. `moment` has learned this fact and none after it.
pub fn wire(recorded: &Recorded, moment: &Moment) -> Option<StructureEvent> {
    let (Fact::Workspace(event), Some(workspace)) = (&recorded.fact, recorded.subject()) else {
        return None;
    };
    let profile = moment.profiles.get(&workspace)?;
    let (event_type, payload) = match delegated(event, moment) {
        Some(told) => told,
        None => translate(event, profile)?,
    };
    Some(StructureEvent {
        id: recorded.meta.id,
        position: recorded.position,
        event_type,
        workspace,
        payload: Payload(Card::new(&payload)?),
        created_at: recorded.meta.at,
    })
}

#[expect(clippy::too_many_lines, reason = "one arm for every kind of fact, exhaustive on purpose")]
fn translate(event: &Event, profile: &Profile) -> Option<(&'static str, Value)> {
    match event {
        Event::Created(e) => created(e),
        Event::ProvisionRequested(_) => {
            let payload =
                json!({"name": profile.name, "tier": profile.tier, "runtime": profile.runtime.as_ref()});
            Some(("WORKSPACE_PROVISIONING", payload))
        }
        // One that was not up is told when `CameOnline` says that it is; a paused one stays paused.
        Event::Registered(e) => profile.up.then(|| ("WORKSPACE_ONLINE", registered(e))),
        Event::CameOnline(e) => Some(("WORKSPACE_ONLINE", came_online(e, profile)?)),
        Event::WentOffline(_) => Some(("WORKSPACE_OFFLINE", json!({}))),
        Event::Degraded(e) => Some(("WORKSPACE_DEGRADED", degraded(e))),
        Event::ProvisionFailed(e) => Some(("WORKSPACE_PROVISION_FAILED", json!({"error": e.message}))),
        // The wire has no other word for "became `failed`".
        Event::Quarantined(e) => {
            Some(("WORKSPACE_PROVISION_FAILED", json!({"error": e.message, "source": "supervision"})))
        }
        Event::Paused(_) => Some(("WORKSPACE_PAUSED", json!({"name": profile.name}))),
        Event::Hibernated(_) => {
            Some(("WORKSPACE_HIBERNATED", json!({"name": profile.name, "tier": profile.tier})))
        }
        Event::Resumed(_) => {
            // What we run goes on with `ProvisionRequested`, which says so.
            let awaited = || ("WORKSPACE_AWAITING_AGENT", json!({"name": profile.name, "external": true}));
            profile.external.then(awaited)
        }
        Event::Removed(e) => {
            let mut payload =
                e.cascade_deleted.map_or_else(|| json!({}), |count| json!({"cascade_deleted": count}));
            if let Some(successor) = e.forwarded_to {
                payload["forwarded_to"] = json!(successor);
            }
            Some(("WORKSPACE_REMOVED", payload))
        }
        Event::AgentAssigned(e) => Some(assigned(e)),
        Event::AgentRemoved(e) => Some(match e.to {
            None => ("AGENT_REMOVED", json!({"agent_id": e.agent, "model": e.model})),
            Some(to) => {
                let payload = json!({"agent_id": e.agent, "model": e.model, "target_workspace_id": to});
                ("AGENT_MOVED", payload)
            }
        }),
        Event::TeamExpanded(e) => Some(("WORKSPACE_EXPANDED", json!({"children": team(&e.children)}))),
        Event::TeamCollapsed(e) => {
            let names: Vec<_> = e.children.iter().map(|child| child.name.as_str()).collect();
            Some(("WORKSPACE_COLLAPSED", json!({"removed_children": names})))
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
        | Event::Erased(_)
        | Event::HibernationRequested(_)
        | Event::InstanceStarted(_)
        | Event::StopRequested(_)
        | Event::InstanceStopped(_)
        | Event::StopFailed(_)
        | Event::InstanceAdopted(_)
        | Event::EvidenceObserved(_)
        | Event::VerdictReached(_)
        | Event::RestartRequested(_)
        | Event::RestartStarted(_)
        | Event::DrainRequested(_)
        | Event::DrainEnded(_)
        | Event::RestartAbandoned(_)
        | Event::RestartAnnounced(_)
        | Event::HeartbeatReceived(_)
        | Event::TokenIssued(_)
        | Event::TokensRevoked(_)
        | Event::EnrolmentOpened(_)
        | Event::RegistrationRefused(_)
        | Event::CallFinished(_)
        | Event::CallRecorded(_)
        | Event::SecretSet(_)
        | Event::SecretRemoved(_)
        | Event::MessageQueued(_)
        | Event::ActivityReported(_)
        | Event::Notified(_)
        | Event::DelegationRequested(_)
        | Event::DelegationDispatched(_)
        | Event::DelegationQueued(_)
        | Event::DelegationEnded(_)
        | Event::CallQueued(_)
        | Event::CallDispatched(_)
        | Event::CallReturned(_)
        | Event::CallDequeued(_)
        | Event::ActivityAcked(_)
        | Event::AgentMoveEnded(_)
        | Event::SessionSuspected(_)
        | Event::SessionPoisoned(_)
        | Event::SessionCleared(_)
        | Event::HandlerPanicked(_)
        | Event::SuspicionRaised(_)
        | Event::SuspicionCleared(_)
        | Event::VerdictWithheld(_)
        | Event::ConfirmRequested(_)
        | Event::DeathRefuted(_)
        | Event::OutcomeUnknown(_)
        | Event::RestartProved(_) => None,
    }
}

/// Characters of a task in its event (contract 5.1).
const TASK_PREVIEW: usize = 100;
/// Characters of an answer in its event (contract 5.2).
const RESPONSE_PREVIEW: usize = 200;

fn delegated(event: &Event, moment: &Moment) -> Option<(&'static str, Value)> {
    let cut = |text: &str, max: usize| text.chars().take(max).collect::<String>();
    let status = |delegation: DelegationId, status: &str| {
        let target = moment.targets.get(&delegation);
        let payload = json!({"delegation_id": delegation, "target_id": target, "status": status});
        Some(("DELEGATION_STATUS", payload))
    };
    match event {
        Event::DelegationRequested(e) => {
            let preview = cut(&e.task, TASK_PREVIEW);
            let payload =
                json!({"delegation_id": e.delegation, "target_id": e.target, "task_preview": preview});
            Some(("DELEGATION_SENT", payload))
        }
        Event::DelegationDispatched(e) => status(e.delegation, "dispatched"),
        Event::DelegationQueued(e) => status(e.delegation, "queued"),
        Event::DelegationEnded(e) => Some(match e.outcome {
            DelegationOutcome::Completed => {
                let said = e.response.as_ref().map(|said| said.text.as_str()).unwrap_or_default();
                let preview = cut(said, RESPONSE_PREVIEW);
                let payload = json!({"delegation_id": e.delegation, "target_id": e.target, "response_preview": preview});
                ("DELEGATION_COMPLETE", payload)
            }
            DelegationOutcome::Failed => {
                let payload = json!({
                    "delegation_id": e.delegation, "target_id": e.target, "error": e.error, "reason": e.reason,
                });
                ("DELEGATION_FAILED", payload)
            }
        }),
        _ => None,
    }
}

fn assigned(e: &AgentAssigned) -> (&'static str, Value) {
    let payload = json!({"agent_id": e.agent, "model": e.model});
    match (&e.replaces, e.from) {
        (Some(old), _) => {
            ("AGENT_REPLACED", json!({"agent_id": e.agent, "model": e.model, "old_model": old.model}))
        }
        (None, Some(from)) => {
            ("AGENT_MOVED", json!({"agent_id": e.agent, "model": e.model, "source_workspace_id": from}))
        }
        (None, None) => ("AGENT_ASSIGNED", payload),
    }
}

fn team(children: &[TeamMember]) -> Vec<Value> {
    let child = |child: &TeamMember| {
        // The contract's clients read a text, also where there is no role.
        json!({"id": child.id, "name": child.name, "role": child.role.as_deref().unwrap_or_default()})
    };
    children.iter().map(child).collect()
}

fn created(e: &Created) -> Option<(&'static str, Value)> {
    if e.backend != BackendKind::External {
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

fn came_online(e: &CameOnline, profile: &Profile) -> Option<Value> {
    match e.via {
        // `Created` stands beside it and has told it.
        OnlineVia::Create => None,
        OnlineVia::Register => Some(profile.registration.as_ref().map_or_else(|| json!({}), Card::to_value)),
        OnlineVia::Heartbeat | OnlineVia::Inspect => Some(match e.from.as_str() {
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Structure {
    moment: Moment,
    newest: Newest<StructureEvent>,
}

impl Default for Structure {
    fn default() -> Self {
        let limits = Limits { per_workspace: NEWEST, weight_max: BYTES_MAX };
        Self { moment: Moment::default(), newest: Newest::new(limits) }
    }
}

impl Structure {
    /// What it says of workspaces besides their facts.
    pub const fn moment(&self) -> &Moment {
        &self.moment
    }

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
    const VERSION: u32 = 3;

    fn apply(&mut self, recorded: &Recorded) -> Result<(), ApplyError> {
        self.moment.learn(recorded);
        if let (Fact::Workspace(Event::Erased(_)), Some(workspace)) = (&recorded.fact, recorded.subject()) {
            // What they say was taken from its facts.
            self.newest.forget(workspace);
        }
        if let Some(event) = wire(recorded, &self.moment) {
            let weight = BYTES_OVERHEAD + event.payload.as_json().len();
            self.newest.push(recorded.position, event.workspace, weight, event);
        }
        Ok(())
    }
}

/// What [`wire`] says of workspaces besides the fact, as of one position. Another projection's rows would not do: they
/// may be ahead of the fact that is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    #[serde(serialize_with = "crate::state::sorted")]
    profiles: HashMap<WorkspaceId, Profile>,
    runtimes: BTreeSet<Arc<str>>,
    /// Whom each task that is not over was handed to.
    targets: BTreeMap<DelegationId, WorkspaceId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    name: String,
    tier: u8,
    runtime: Arc<str>,
    external: bool,
    /// Whether clients were told that it is up.
    up: bool,
    /// How its agent introduced itself while it was not up, until it is.
    #[serde(with = "crate::state::card")]
    registration: Option<Card>,
}

impl Moment {
    /// What a workspace is called.
    pub(crate) fn name(&self, id: WorkspaceId) -> &str {
        self.profiles.get(&id).map(|profile| profile.name.as_str()).unwrap_or_default()
    }

    /// Takes in the next fact.
    pub fn learn(&mut self, recorded: &Recorded) {
        let (Fact::Workspace(event), Some(id)) = (&recorded.fact, recorded.subject()) else { return };
        // Only these change what an event says besides its fact.
        if let Event::Created(e) = event {
            let external = e.backend == BackendKind::External;
            let profile = Profile {
                name: e.name.clone(),
                tier: e.tier,
                runtime: self.runtime(&e.runtime),
                external,
                up: external && e.url.is_some(),
                registration: None,
            };
            self.profiles.insert(id, profile);
        } else if let Event::RuntimeChanged(e) = event {
            let runtime = self.runtime(&e.runtime);
            self.change(id, |profile| profile.runtime = runtime);
        } else if let Event::Renamed(e) = event {
            self.change(id, |profile| profile.name.clone_from(&e.name));
        } else if let Event::TierChanged(e) = event {
            self.change(id, |profile| profile.tier = e.tier);
        } else if let Event::DelegationRequested(e) = event {
            self.targets.insert(e.delegation, e.target);
        } else if let Event::DelegationEnded(e) = event {
            self.targets.remove(&e.delegation);
        } else if let Event::Erased(_) = event {
            self.change(id, |profile| ERASED.clone_into(&mut profile.name));
        } else {
            self.change(id, |profile| learn_state(profile, event));
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

fn learn_state(profile: &mut Profile, event: &Event) {
    if let Event::Registered(e) = event {
        profile.registration = if profile.up { None } else { Card::new(&registered(e)) };
    } else if let Event::CameOnline(_) | Event::Degraded(_) = event {
        profile.up = true;
    } else if let Event::ProvisionRequested(_)
    | Event::ProvisionFailed(_)
    | Event::WentOffline(_)
    | Event::Quarantined(_)
    | Event::Paused(_)
    | Event::HibernationRequested(_)
    | Event::Resumed(_)
    | Event::Removed(_) = event
    {
        (profile.up, profile.registration) = (false, None);
    }
}
