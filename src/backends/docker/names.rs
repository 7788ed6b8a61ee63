//! Names and labels of what belongs to a workspace on the engine.
//!
//! Names are for people and for the wire contract; nothing is ever looked up by them. What is ours, whose it is and
//! which provisioning it belongs to stands in the labels.

use std::collections::HashMap;

use covalence_events::{Generation, WorkspaceId};

/// The label of everything that this kind of platform made.
pub(super) const LABEL_MANAGED: &str = "molecule.platform.managed";
/// The label that tells platforms on one engine apart.
pub(super) const LABEL_INSTANCE: &str = "molecule.platform.instance";
/// The label with the workspace's full id.
pub(super) const LABEL_WORKSPACE: &str = "covalence.workspace";
/// The label with the provisioning's number.
pub(super) const LABEL_GENERATION: &str = "covalence.generation";
/// The label with the agent's port, where it is not published (host network).
pub(super) const LABEL_PORT: &str = "covalence.port";

/// The first twelve characters of an id, as the wire contract's names have them.
fn short(workspace: WorkspaceId) -> String {
    let mut text = workspace.to_string();
    text.truncate(12);
    text
}

/// The container's usual name, and its alias on the network.
pub(super) fn container(workspace: WorkspaceId) -> String {
    format!("ws-{}", short(workspace))
}

/// The name to take while an older container still holds the usual one.
pub(super) fn container_beside(workspace: WorkspaceId, generation: Generation) -> String {
    format!("ws-{}-g{generation}", short(workspace))
}

/// The volume with configuration and token.
pub(super) fn config_volume(workspace: WorkspaceId) -> String {
    format!("ws-{}-configs", short(workspace))
}

/// The volume with the agent's files.
pub(super) fn workspace_volume(workspace: WorkspaceId) -> String {
    format!("ws-{workspace}-workspace")
}

/// The volume with the runtime's sessions (R25).
pub(super) fn session_volume(workspace: WorkspaceId) -> String {
    format!("ws-{}-claude-sessions", short(workspace))
}

/// Labels of a volume: it outlives generations.
pub(super) fn volume_labels(instance: &str, workspace: WorkspaceId) -> HashMap<String, String> {
    HashMap::from([
        (LABEL_MANAGED.to_owned(), "true".to_owned()),
        (LABEL_INSTANCE.to_owned(), instance.to_owned()),
        (LABEL_WORKSPACE.to_owned(), workspace.to_string()),
    ])
}

/// Labels of a container.
pub(super) fn container_labels(
    instance: &str,
    workspace: WorkspaceId,
    generation: Generation,
) -> HashMap<String, String> {
    let mut labels = volume_labels(instance, workspace);
    labels.insert(LABEL_GENERATION.to_owned(), generation.to_string());
    labels
}

/// Whose container this is, as far as its labels say so in well-formed words.
pub(super) fn owner(labels: &HashMap<String, String>) -> (Option<WorkspaceId>, Option<Generation>) {
    let workspace = labels.get(LABEL_WORKSPACE).and_then(|text| text.parse().ok());
    let generation = labels.get(LABEL_GENERATION).and_then(|text| text.parse().ok()).map(Generation);
    (workspace, generation)
}

/// The engine's label filter for everything of one platform, perhaps of one workspace only.
pub(super) fn label_filter(instance: &str, workspace: Option<WorkspaceId>) -> HashMap<String, Vec<String>> {
    let mut labels = vec![format!("{LABEL_MANAGED}=true"), format!("{LABEL_INSTANCE}={instance}")];
    labels.extend(workspace.map(|id| format!("{LABEL_WORKSPACE}={id}")));
    HashMap::from([("label".to_owned(), labels)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_wire_contract() {
        let id: WorkspaceId = "01234567-89ab-4cde-8f01-23456789abcd".parse().unwrap();
        assert_eq!(container(id), "ws-01234567-89a");
        assert_eq!(config_volume(id), "ws-01234567-89a-configs");
        assert_eq!(workspace_volume(id), "ws-01234567-89ab-4cde-8f01-23456789abcd-workspace");
        assert_eq!(session_volume(id), "ws-01234567-89a-claude-sessions");
        assert_eq!(container_beside(id, Generation(7)), "ws-01234567-89a-g7");
    }

    #[test]
    fn labels_name_platform_workspace_and_generation() {
        let id = WorkspaceId::generate();
        let labels = container_labels("p1", id, Generation(3));
        assert_eq!(labels[LABEL_MANAGED], "true");
        assert_eq!(labels[LABEL_INSTANCE], "p1");
        assert_eq!(owner(&labels), (Some(id), Some(Generation(3))));
    }

    #[test]
    fn malformed_labels_name_nobody() {
        let labels = HashMap::from([
            (LABEL_WORKSPACE.to_owned(), "nobody".to_owned()),
            (LABEL_GENERATION.to_owned(), "-1".to_owned()),
        ]);
        assert_eq!(owner(&labels), (None, None));
    }
}
