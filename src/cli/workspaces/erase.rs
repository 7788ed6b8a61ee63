//! `covalence workspaces erase`.

use clap::Args;
use covalence_events::WorkspaceId;
use reqwest::Method;

use crate::cli::client::Client;
use crate::cli::failure::Outcome;
use crate::cli::output::{Output, confirm, printable, text};

/// Make what was said about a removed workspace unreadable, for good
#[derive(Debug, Args)]
#[command(
    after_help = "Its key is destroyed: names, roles, tasks, errors, cards and addresses in its facts, wherever copies of the log\nare. That it was there, and what happened to it, stays.\n\nExamples:\n  covalence workspaces rm tester --purge --yes --wait\n  covalence workspaces erase 0b6f3c1e-5a4d-4a54-9f43-6a1de1ab2c3d"
)]
pub(super) struct Erase {
    /// The id of a removed workspace, in full
    #[arg(value_name = "ID")]
    workspace: WorkspaceId,
    /// Ask no question
    #[arg(long, short)]
    yes: bool,
}

impl Erase {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let id = self.workspace.to_string();
        let request = client.request(Method::GET, &["workspaces", &id]).query(&[("include_removed", "true")]);
        let row = client.json(request).await?;
        let name = printable(text(&row, "name"));
        if text(&row, "status") == "removed" {
            confirm(&format!("erasing what was said about `{name}` ({id}), for good"), self.yes)?;
        }
        let answer = client.json(client.request(Method::POST, &["workspaces", &id, "erase"])).await?;
        if output.json {
            return output.document(&answer);
        }
        output.line(&format!("{id}  {}", text(&answer, "status")))
    }
}
