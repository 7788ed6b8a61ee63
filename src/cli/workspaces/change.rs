//! `covalence workspaces restart|pause|hibernate|resume|rm`.

use chrono::{DateTime, Utc};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::failure::Outcome;
use crate::cli::name::{self, Named};
use crate::cli::output::{Output, confirm, note, printable, text};
use crate::cli::wait::{Begun, Goal, WaitArgs};

/// Which workspace, and the server's clock before anything is changed.
pub(super) struct Chosen {
    pub(super) named: Named,
    pub(super) rows: Vec<Value>,
    since: DateTime<Utc>,
}

pub(super) async fn choose(client: &Client, wanted: &str) -> Outcome<Chosen> {
    let (rows, since) = client.roster().await?;
    let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
    Ok(Chosen { named: name::resolve(wanted, &roster)?, rows, since })
}

pub(super) async fn post(client: &Client, id: &str, verb: &str, query: &[(&str, bool)]) -> Outcome<Value> {
    let set: Vec<(&str, bool)> = query.iter().copied().filter(|(_, is_set)| *is_set).collect();
    client.json(client.request(Method::POST, &["workspaces", id, verb]).query(&set)).await
}

fn answered(output: Output, named: &Named, answer: &Value) -> Outcome {
    if output.json {
        return output.document(answer);
    }
    let more = match (text(answer, "message"), text(answer, "waits_for")) {
        ("", "") => String::new(),
        ("", rule) => format!(": waits because of {rule}"),
        (message, _) => format!(": {message}"),
    };
    output.line(&printable(&format!("{}  {}{more}", named.name, text(answer, "status"))))
}

/// Restart a workspace
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence restart lead --wait\n  covalence restart lead --reset --yes\n  covalence restart lead --force --reason 'its disk is new'    though a hold says no"
)]
pub(in crate::cli) struct Restart {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// Throw its runtime's session away
    #[arg(long)]
    reset: bool,
    /// Pass over holds and a paused parent, but not over an emergency stop
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why, for whoever looks at it later; needed with --force
    #[arg(long)]
    reason: Option<String>,
    /// Ask no question
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Restart {
    pub(in crate::cli) async fn run(self, client: &Client, output: Output) -> Outcome {
        let Chosen { named, since, .. } = choose(client, &self.workspace).await?;
        if self.reset {
            confirm(&format!("throwing the session of `{}` away", printable(&named.name)), self.yes)?;
        }
        let request = client.request(Method::POST, &["workspaces", &named.id, "restart"]);
        let wish = json!({"reset": self.reset, "force": self.force, "reason": self.reason});
        let mut answer = client.json(request.json(&wish)).await?;
        // Nothing of ours runs there, so nothing restarts.
        if text(&answer, "status") == "noop" {
            return answered(output, &named, &answer);
        }
        let restart = text(&answer, "restart").to_owned();
        let restart = Some(restart.as_str()).filter(|restart| !restart.is_empty());
        let begun = Begun { goal: Goal::Restarted, workspace: &named.id, name: &named.name, since, restart };
        let waited = self.wait.settle(client, begun, &mut answer).await;
        answered(output, &named, &answer)?;
        waited
    }
}

/// Stop a workspace and its descendants, and keep them
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  covalence workspaces pause lead --cascade --wait")]
pub(super) struct Pause {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// Its descendants too, where the server asks for that to be said
    #[arg(long)]
    cascade: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Pause {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let Chosen { named, since, .. } = choose(client, &self.workspace).await?;
        let answer = post(client, &named.id, "pause", &[("cascade", self.cascade)]).await?;
        answered(output, &named, &answer)?;
        let begun =
            Begun { goal: Goal::Paused, workspace: &named.id, name: &named.name, since, restart: None };
        self.wait.until(client, begun).await
    }
}

/// Stop a workspace until somebody needs it
///
/// A call, a delegated task or a queued message wakes it; so does `resume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence workspaces hibernate lead\n  covalence workspaces hibernate lead --force --wait    though it works"
)]
pub(super) struct Hibernate {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// Cut off what it is working on
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Hibernate {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let Chosen { named, since, .. } = choose(client, &self.workspace).await?;
        let mut answer = post(client, &named.id, "hibernate", &[("force", self.force)]).await?;
        let begun =
            Begun { goal: Goal::Hibernated, workspace: &named.id, name: &named.name, since, restart: None };
        let waited = self.wait.settle(client, begun, &mut answer).await;
        answered(output, &named, &answer)?;
        waited
    }
}

/// Start a paused or hibernated workspace again
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  covalence workspaces resume lead --wait")]
pub(super) struct Resume {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// Its descendants too, where the server asks for that to be said
    #[arg(long)]
    cascade: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Resume {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let Chosen { named, since, .. } = choose(client, &self.workspace).await?;
        let mut answer = post(client, &named.id, "resume", &[("cascade", self.cascade)]).await?;
        let begun =
            Begun { goal: Goal::Resumed, workspace: &named.id, name: &named.name, since, restart: None };
        let waited = self.wait.settle(client, begun, &mut answer).await;
        answered(output, &named, &answer)?;
        waited
    }
}

/// Stop a workspace and its descendants, and remove them
#[derive(Debug, Args)]
#[command(
    after_help = "Its history stays in the event log.\n\nExamples:\n  covalence workspaces rm tester\n  covalence workspaces rm tester --purge --yes --wait"
)]
pub(super) struct Remove {
    /// Workspace: name, id, or the beginning of either
    workspace: String,
    /// Its volumes and files too
    #[arg(long)]
    purge: bool,
    /// Ask no question
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Remove {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let Chosen { named, rows, since } = choose(client, &self.workspace).await?;
        let descendants = descendants(&named.id, &rows);
        for name in &descendants {
            note(&format!("goes with it: {}", printable(name)));
        }
        let files = if self.purge { " and their files" } else { "" };
        let question = match descendants.len() {
            0 => format!("removing `{}`{files}", printable(&named.name)),
            count => format!("removing `{}` and {count} below it{files}", printable(&named.name)),
        };
        confirm(&question, self.yes)?;
        let request = client.request(Method::DELETE, &["workspaces", &named.id]);
        let mut query = vec![("confirm", "true")];
        query.extend(self.purge.then_some(("purge", "true")));
        let answer = client.json(request.query(&query)).await?;
        answered(output, &named, &answer)?;
        let begun =
            Begun { goal: Goal::Removed, workspace: &named.id, name: &named.name, since, restart: None };
        self.wait.until(client, begun).await
    }
}

/// The names of everything below, however deep. Ends even if the rows hold a circle.
pub(super) fn descendants(id: &str, rows: &[Value]) -> Vec<String> {
    let mut names = Vec::new();
    let mut seen = std::collections::BTreeSet::from([id.to_owned()]);
    let mut open = vec![id.to_owned()];
    while let Some(parent) = open.pop() {
        for row in rows.iter().filter(|row| text(row, "parent_id") == parent) {
            let child = text(row, "id").to_owned();
            if seen.insert(child.clone()) {
                names.push(text(row, "name").to_owned());
                open.push(child);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_below_goes_with_a_removed_workspace() {
        let rows = [
            json!({"id": "a", "name": "lead", "parent_id": null}),
            json!({"id": "b", "name": "builder", "parent_id": "a"}),
            json!({"id": "c", "name": "tester", "parent_id": "b"}),
            json!({"id": "d", "name": "other", "parent_id": null}),
        ];
        assert_eq!(descendants("a", &rows), ["builder", "tester"]);
        assert!(descendants("c", &rows).is_empty());
    }
}
