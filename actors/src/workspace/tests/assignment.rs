//! What is decided about the model that is assigned to a workspace, above all while it moves.

use covalence_events::AgentId;
use covalence_events::workspace::Assigned;

use super::*;

fn model(n: u128) -> Assigned {
    Assigned { agent: AgentId(Uuid::from_u128(n)), model: format!("model-{n}") }
}

fn other() -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(99))
}

fn story() -> Scenario {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::External)).unwrap();
    story.when(&Command::AssignAgent(model(1))).unwrap();
    story
}

fn moved(taken: bool) -> Command {
    Command::RecordAgentMoved { agent: model(1).agent, taken }
}

#[test]
fn one_that_moves_is_asked_for_until_it_has_an_outcome_and_never_in_two_places() {
    let mut story = story();
    assert_eq!(story.tags_when(&Command::MoveAgent { to: other() }), ["workspace.agent_removed.v1"]);
    assert!(story.state().agent.is_none());
    let pass = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::PassAgent { to, assigned, .. } if *to == other() && *assigned == model(1)))
    };
    assert!(pass(&story.effects) && pass(&outstanding(story.state())), "a kill here asks again");
    assert_eq!(story.when(&Command::RemoveAgent).unwrap_err(), Rejection::NoAgent);
    assert_eq!(story.tags_when(&moved(true)), ["workspace.agent_move_ended.v1"]);
    assert!(outstanding(story.state()).is_empty());
    assert!(story.tags_when(&moved(false)).is_empty(), "it has one outcome");
}

#[test]
fn what_could_not_be_taken_comes_back_unless_something_else_was_assigned() {
    let mut story = story();
    story.when(&Command::MoveAgent { to: other() }).unwrap();
    let mut busy = story.clone();
    assert_eq!(
        story.tags_when(&moved(false)),
        ["workspace.agent_move_ended.v1", "workspace.agent_assigned.v1"]
    );
    assert_eq!(story.state().agent, Some(model(1)));
    busy.when(&Command::AssignAgent(model(2))).unwrap();
    assert_eq!(busy.when(&Command::MoveAgent { to: other() }).unwrap_err(), Rejection::AgentMoves);
    assert_eq!(busy.tags_when(&moved(false)), ["workspace.agent_move_ended.v1"]);
    assert_eq!(busy.state().agent, Some(model(2)));
}

#[test]
fn what_is_taken_twice_is_taken_once_and_nobody_takes_what_he_has_no_place_for() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::External)).unwrap();
    let take = |n| Command::TakeAgent { assigned: model(n), from: other() };
    assert_eq!(story.tags_when(&take(1)), ["workspace.agent_assigned.v1"]);
    assert!(story.tags_when(&take(1)).is_empty());
    assert_eq!(story.when(&take(2)).unwrap_err(), Rejection::HasAgent);
    story.when(&Command::Remove(Remove::default())).unwrap();
    assert_eq!(story.when(&take(1)).unwrap_err(), Rejection::Removed);
}
