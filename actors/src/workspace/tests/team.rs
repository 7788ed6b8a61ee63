//! What a workspace says about the team below it.

use covalence_events::workspace::TeamMember;

use super::*;

fn team(numbers: &[u128]) -> Vec<TeamMember> {
    let member = |n: &u128| TeamMember {
        id: WorkspaceId(Uuid::from_u128(*n)),
        name: format!("member-{n}"),
        role: None,
    };
    numbers.iter().map(member).collect()
}

#[test]
fn a_team_is_told_when_somebody_is_new_in_it_and_anew_after_it_was_taken_away() {
    let mut story = Scenario::new();
    story.when(&create(BackendKind::External)).unwrap();
    let expanded = |numbers: &[u128]| Command::RecordTeamExpanded(team(numbers));
    let (told, nothing) = (["workspace.team_expanded.v1"], Vec::<&str>::new());
    assert_eq!(story.tags_when(&expanded(&[1, 2])), told);
    assert_eq!(story.tags_when(&expanded(&[1, 2])), nothing, "it is known");
    assert_eq!(story.tags_when(&expanded(&[1, 3])), told, "one was replaced");
    let collapsed = Command::RecordTeamCollapsed(team(&[1, 3]));
    assert_eq!(story.tags_when(&collapsed), ["workspace.team_collapsed.v1"]);
    assert_eq!(story.tags_when(&Command::RecordTeamCollapsed(Vec::new())), nothing);
    assert_eq!(story.tags_when(&expanded(&[1, 3])), told);
    story.when(&Command::Remove(Remove::default())).unwrap();
    assert_eq!(story.when(&expanded(&[4])).unwrap_err(), Rejection::Removed);
}
