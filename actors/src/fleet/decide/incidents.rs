//! Incidents: opened by a brake that engages, or by a person; noted on and closed by people.

use chrono::TimeDelta;
use covalence_events::fleet::{BrakeMode, BrakeTrigger, IncidentClosed, IncidentNoted, IncidentOpened};
use covalence_events::workspace::BackendKind;
use covalence_events::{EventId, IncidentId};

use super::Draft;
use crate::fleet::command::Command;
use crate::fleet::state::Incident;
use crate::workspace::Rejection;

/// A brake that engages again within this long after its release joins the incident that it opened before: what comes and goes
/// is one story. Twice the rest after a failed canary, which engages it anew by itself.
const REJOINS_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// A brake that was off has just been engaged by this fact.
pub(super) fn braked(
    draft: &mut Draft<'_>,
    cell: BackendKind,
    (mode, trigger): (BrakeMode, BrakeTrigger),
    because: EventId,
) {
    if joins(draft, cell) {
        return;
    }
    let title = format!("{} braked: {}, by {}", cell.as_str(), mode.as_str(), trigger.as_str());
    let opened = IncidentOpened {
        incident: next(draft),
        title,
        cell: Some(cell),
        since: None,
        until: None,
        workspaces: Vec::new(),
    };
    draft.push_because(Some(because), opened);
}

/// Whether there is an open incident that a brake of this cell belongs to.
fn joins(draft: &Draft<'_>, cell: BackendKind) -> bool {
    let last = draft.state.incidents.values().rev().find(|incident| incident.cell == Some(cell));
    let released = draft.state.cells.get(&cell).and_then(|cell| cell.released);
    last.is_some_and(|incident| {
        let quiet_since = released.map_or(incident.opened, |released| released.max(incident.opened));
        !incident.closed && draft.now() < quiet_since + REJOINS_WITHIN
    })
}

/// What people ask about incidents.
pub(super) fn asked(draft: &mut Draft<'_>, command: &Command) -> Result<(), Rejection> {
    if let Command::OpenIncident(wish) = command {
        let opened = IncidentOpened {
            incident: next(draft),
            title: wish.title.clone(),
            cell: None,
            since: wish.since,
            until: wish.until,
            workspaces: wish.workspaces.clone(),
        };
        draft.push(opened);
    } else if let Command::NoteIncident { incident, text } = command {
        // What is learned later belongs to it too, so a closed one takes notes.
        known(draft, *incident)?;
        draft.push(IncidentNoted { incident: *incident, text: text.clone() });
    } else if let Command::CloseIncident { incident, comment } = command {
        if known(draft, *incident)?.closed {
            return Err(Rejection::IncidentClosed);
        }
        draft.push(IncidentClosed { incident: *incident, comment: comment.clone() });
    }
    Ok(())
}

fn known(draft: &Draft<'_>, incident: IncidentId) -> Result<Incident, Rejection> {
    draft.state.incidents.get(&incident).copied().ok_or(Rejection::NoSuchIncident)
}

/// An incident bears the id of the fact that opens it, which is the next one.
fn next(draft: &Draft<'_>) -> IncidentId {
    IncidentId(draft.facts.next_id(draft.ctx).0)
}
