//! `covalence workspaces create`.

use clap::{Args, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::failure::Outcome;
use crate::cli::name::{self, Named};
use crate::cli::output::{Output, text};
use crate::cli::wait::{Begun, Goal, WaitArgs};

const EXAMPLES: &str = "\
Examples:
  covalence workspaces create lead --runtime echo --wait
  covalence workspaces create tester --parent lead --role 'tests what others build'
  covalence workspaces create elsewhere --external --json";

/// Create a workspace and start it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Create {
    /// Its name
    name: String,
    /// What runs in it; the server may have a default
    #[arg(long)]
    runtime: Option<String>,
    /// Its job description
    #[arg(long)]
    role: Option<String>,
    /// Its limits and privileges, 1 to 4
    #[arg(long)]
    tier: Option<u8>,
    /// The workspace above it: name, id, or the beginning of either
    #[arg(long, value_name = "WORKSPACE")]
    parent: Option<String>,
    /// The model that its agent uses
    #[arg(long)]
    model: Option<String>,
    /// The template that its configuration comes from
    #[arg(long)]
    template: Option<String>,
    /// It runs elsewhere; its agent registers itself
    #[arg(long)]
    external: bool,
    /// With --external: where its agent answers
    #[arg(long, value_name = "URL", requires = "external")]
    agent_url: Option<String>,
    /// Directory of the server's machine to work in
    #[arg(long, value_name = "DIR")]
    workspace_dir: Option<String>,
    /// What it may do there
    #[arg(long, value_name = "ACCESS", requires = "workspace_dir")]
    workspace_access: Option<Access>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Access {
    /// Nothing
    None,
    /// Read
    ReadOnly,
    /// Read and write
    ReadWrite,
}

impl Access {
    const fn wire(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ReadOnly => "read_only",
            Self::ReadWrite => "read_write",
        }
    }
}

impl Create {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let (rows, since) = client.roster().await?;
        let parent = match &self.parent {
            Some(wanted) => {
                let roster: Vec<Named> = rows.iter().map(Named::from_row).collect();
                Some(name::resolve(wanted, &roster)?.id)
            }
            None => None,
        };
        let request = client.request(Method::POST, &["workspaces"]).json(&self.body(parent.as_deref()));
        // A repeated request after a lost answer creates nothing twice.
        let request = request.header("Idempotency-Key", uuid::Uuid::new_v4().to_string());
        let mut created = client.json(request).await?;
        let id = text(&created, "id").to_owned();
        let begun = Begun { goal: Goal::Created, workspace: &id, name: &self.name, since, restart: None };
        // An external workspace is started by somebody else, whenever that may be.
        let waited = if self.external { Ok(()) } else { self.wait.settle(client, begun, &mut created).await };
        if output.json {
            output.document(&created)?;
        } else {
            output.line(&format!("{id}  {}", text(&created, "status")))?;
        }
        waited
    }

    fn body(&self, parent: Option<&str>) -> Value {
        let fields = json!({
            "name": self.name,
            "runtime": self.runtime,
            "role": self.role,
            "tier": self.tier,
            "parent_id": parent,
            "model": self.model,
            "template": self.template,
            "external": self.external.then_some(true),
            "url": self.agent_url,
            "workspace_dir": self.workspace_dir,
            "workspace_access": self.workspace_access.map(Access::wire),
        });
        // What was not said is left to the server's defaults.
        let Value::Object(mut fields) = fields else { return fields };
        fields.retain(|_, value| !value.is_null());
        Value::Object(fields)
    }
}
