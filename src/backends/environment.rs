//! The environment that a workspace finds, wherever it runs (R24, R32).
//!
//! It is built from nothing: what is not listed here or given by the operator does not get in, and the platform's own
//! credentials never do.

use std::collections::BTreeMap;

use covalence_actors::effect::ProvisionSpec;

/// Names that no workspace ever gets, whatever the operator's table says: they are credentials of the platform.
pub(crate) const NEVER: [&str; 4] =
    ["ADMIN_TOKEN", "COVALENCE_TOKEN", "MOLECULE_CP_SHARED_SECRET", "PROVISION_SHARED_SECRET"];

/// What is the same for all workspaces of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonEnvironment {
    /// Where a workspace reaches the platform.
    pub platform_url: String,
    /// Base of the awareness service; it and the namespace are set together or not at all.
    pub awareness_url: Option<String>,
    /// The operator's own variables; they win over the derived ones.
    pub operator: BTreeMap<String, String>,
}

/// The variables of one workspace, except those that only its backend knows. The token is not among them.
pub fn variables(
    common: &CommonEnvironment,
    spec: &ProvisionSpec,
    config_path: &str,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        env.insert(name.to_owned(), value);
    };
    set("WORKSPACE_ID", spec.workspace.to_string());
    set("WORKSPACE_NAME", spec.name.clone());
    set("WORKSPACE_CONFIG_PATH", config_path.to_owned());
    set("PLATFORM_URL", common.platform_url.clone());
    set("MOLECULE_URL", common.platform_url.clone());
    set("TIER", spec.tier.to_string());
    set("AGENT_RUNTIME", spec.runtime.clone());
    set("PYTHONPATH", "/app".to_owned());
    set("GIT_AUTHOR_NAME", format!("Molecule AI {}", spec.name));
    set("GIT_COMMITTER_NAME", format!("Molecule AI {}", spec.name));
    set("GIT_AUTHOR_EMAIL", format!("{}@agents.moleculesai.app", slug(&spec.name)));
    set("GIT_COMMITTER_EMAIL", format!("{}@agents.moleculesai.app", slug(&spec.name)));
    if let Some(role) = &spec.role {
        set("MOLECULE_AGENT_ROLE", role.clone());
    }
    if let Some(parent) = spec.parent {
        set("PARENT_ID", parent.to_string());
    }
    if let Some(url) = &common.awareness_url {
        set("AWARENESS_URL", url.clone());
        set("AWARENESS_NAMESPACE", format!("workspace:{}", spec.workspace));
    }
    if let (true, Some(model)) = (spec.runtime == "hermes", &spec.model) {
        set("HERMES_DEFAULT_MODEL", model.clone());
    }
    if spec.reset_session {
        set("WORKSPACE_RESET_SESSION", "1".to_owned());
    }
    env.extend(common.operator.iter().map(|(name, value)| (name.clone(), value.clone())));
    env.extend(spec.secrets.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())));
    // A secret says nothing about who an agent is.
    env.insert("WORKSPACE_ID".to_owned(), spec.workspace.to_string());
    env.retain(|name, value| !NEVER.contains(&name.as_str()) && !value.contains('\0'));
    env
}

/// A name as the local part of an address: lower-case letters and digits, joined by single dashes.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    if slug.is_empty() { "workspace".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use covalence_actors::effect::Secret;
    use covalence_events::workspace::WorkspaceAccess;
    use covalence_events::{Generation, WorkspaceId};

    use super::*;

    fn spec() -> ProvisionSpec {
        ProvisionSpec {
            workspace: WorkspaceId::generate(),
            generation: Generation(3),
            name: "Chief of Staff".to_owned(),
            role: None,
            tier: 2,
            runtime: "echo".to_owned(),
            model: None,
            template: None,
            parent: None,
            workspace_dir: None,
            workspace_access: WorkspaceAccess::None,
            reset_session: false,
            token: Secret::new("the-token".to_owned()),
            secrets: Vec::new(),
        }
    }

    #[test]
    fn the_operators_value_wins_and_credentials_of_the_platform_stay_out() {
        let operator = [("PYTHONPATH", "/lib"), ("ADMIN_TOKEN", "x"), ("COVALENCE_TOKEN", "x")];
        let common = CommonEnvironment {
            platform_url: "http://127.0.0.1:8080".to_owned(),
            operator: operator.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..CommonEnvironment::default()
        };
        let env = variables(&common, &spec(), "/configs");
        assert_eq!(env["PYTHONPATH"], "/lib");
        assert!(!env.contains_key("ADMIN_TOKEN") && !env.contains_key("COVALENCE_TOKEN"));
        assert!(env.values().all(|value| !value.contains("the-token")));
        assert_eq!(env["GIT_AUTHOR_EMAIL"], "chief-of-staff@agents.moleculesai.app");
    }

    #[test]
    fn awareness_is_set_wholly_or_not_at_all() {
        let mut common = CommonEnvironment::default();
        assert!(!variables(&common, &spec(), "/configs").keys().any(|name| name.starts_with("AWARENESS")));
        common.awareness_url = Some("http://awareness".to_owned());
        let env = variables(&common, &spec(), "/configs");
        assert_eq!(env["AWARENESS_NAMESPACE"], format!("workspace:{}", env["WORKSPACE_ID"]));
    }
}
