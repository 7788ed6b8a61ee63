//! `covalence subscriptions …`: who follows the log under a name, what they put aside, and being one of them.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::events;
use crate::cli::failure::Outcome;
use crate::cli::name::Named;
use crate::cli::output::{Cell, Output, note, printable, text};

mod consume;

/// Follow the log under a name, and see who does
#[derive(Debug, Args)]
pub(super) struct Subscriptions {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them: how far they are, what is open, what is parked, and who consumes them
    #[command(after_help = "Examples:\n  covalence subscriptions ls\n  covalence subscriptions ls --json")]
    Ls,
    /// Make one
    Create(Create),
    /// Show one
    #[command(after_help = "Examples:\n  covalence subscriptions show audit")]
    Show(Which),
    /// Read facts as its consumer, and acknowledge them with --ack
    Read(consume::Read),
    /// Acknowledge facts that were read
    Ack(consume::Ack),
    /// Refuse facts that were read: they come again, and are parked in the end
    Nack(consume::Nack),
    /// List the facts that it put aside, and why
    #[command(after_help = "Examples:\n  covalence subscriptions parked alarms")]
    Parked(Which),
    /// Deliver parked facts again
    #[command(
        after_help = "Examples:\n  covalence subscriptions replay alarms --all\n  covalence subscriptions replay audit 41 42"
    )]
    Replay(Chosen),
    /// Give parked facts up
    #[command(
        after_help = "Examples:\n  covalence subscriptions discard audit 41\n  covalence subscriptions discard audit --all"
    )]
    Discard(Chosen),
    /// Remove one, with what it put aside
    #[command(after_help = "Examples:\n  covalence subscriptions rm audit")]
    Rm(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Its name
    name: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence subscriptions create audit --from beginning\n  covalence subscriptions create deaths --kind workspace.went_offline --kind workspace.quarantined\n  covalence subscriptions create fleet --category fleet --from 1200\n\nWhat is there already with the same wishes is left as it is."
)]
struct Create {
    /// Its name: a-z, 0-9, - and _
    name: String,
    /// Only facts of this kind of stream: workspace or fleet
    #[arg(long, value_parser = ["workspace", "fleet"])]
    category: Option<String>,
    /// Only facts about this workspace: name, id, or the beginning of either
    #[arg(long, short, value_name = "WORKSPACE")]
    workspace: Option<String>,
    /// Only facts of this type, or whose type begins so; may be repeated
    #[arg(long = "kind", value_name = "TYPE")]
    kinds: Vec<String>,
    /// Where it begins: beginning, end, or after a position
    #[arg(long, value_name = "WHERE", default_value = "end")]
    from: String,
    /// Refusals after which a fact is parked
    #[arg(long, value_name = "COUNT")]
    nacks_max: Option<u32>,
    /// Seconds that a consumer has for what it was given
    #[arg(long, value_name = "SECONDS")]
    ack_within: Option<f64>,
}

#[derive(Debug, Args)]
struct Chosen {
    /// Its name
    name: String,
    /// Positions of the facts
    #[arg(value_name = "POSITION", required_unless_present = "all", conflicts_with = "all")]
    positions: Vec<u64>,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl Subscriptions {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let (client, output) = (shared.client()?, shared.output());
        match self.command {
            Command::Ls => list(output, &client.get(&["admin", "subscriptions"]).await?),
            Command::Create(create) => create.run(&client, output).await,
            Command::Show(Which { name }) => {
                show(output, &client.get(&["admin", "subscriptions", &name]).await?)
            }
            Command::Read(read) => read.run(&client, output).await,
            Command::Ack(ack) => ack.run(&client, output).await,
            Command::Nack(nack) => nack.run(&client, output).await,
            Command::Parked(Which { name }) => {
                parked(output, &client.get(&["admin", "subscriptions", &name, "parked"]).await?)
            }
            Command::Replay(chosen) => chosen.run(&client, output, "replay", "delivered again").await,
            Command::Discard(chosen) => chosen.run(&client, output, "discard", "given up").await,
            Command::Rm(Which { name }) => {
                let request = client.request(Method::DELETE, &["admin", "subscriptions", &name]);
                done(output, &client.json(request).await?, &format!("{name}: removed"))
            }
        }
    }
}

impl Create {
    async fn run(self, client: &Client, output: Output) -> Outcome {
        let workspace = match &self.workspace {
            Some(wanted) => {
                let roster: Vec<Named> = client.roster().await?.0.iter().map(Named::from_row).collect();
                Some(events::workspace_id(wanted, &roster)?)
            }
            None => None,
        };
        let wish = json!({
            "name": self.name, "category": self.category, "workspace": workspace, "kinds": self.kinds,
            "start": self.from, "nacks_max": self.nacks_max, "ack_within": self.ack_within,
        });
        let request = client.request(Method::POST, &["admin", "subscriptions"]).json(&wish);
        show(output, &client.json(request).await?)
    }
}

impl Chosen {
    async fn run(self, client: &Client, output: Output, what: &str, said: &str) -> Outcome {
        let positions = (!self.all).then_some(self.positions);
        let path = ["admin", "subscriptions", &self.name, "parked", what];
        let request = client.request(Method::POST, &path).json(&json!({"positions": positions}));
        let answer = client.json(request).await?;
        done(output, &answer, &format!("{}: {} {said}", self.name, answer["count"]))
    }
}

/// A change that was made: the answer for programs, a line for people.
fn done(output: Output, answer: &Value, said: &str) -> Outcome {
    if output.json {
        return output.document(answer);
    }
    note(said);
    Ok(())
}

fn list(output: Output, answer: &Value) -> Outcome {
    if output.json {
        return output.document(answer);
    }
    let rows: Vec<Vec<Cell>> = answer.as_array().into_iter().flatten().map(row).collect();
    output.table(&["NAME", "CHECKPOINT", "LAG", "OPEN", "PARKED", "CONSUMER", "FOLLOWS"], &rows)
}

fn row(one: &Value) -> Vec<Cell> {
    let parked = one["parked"].to_string();
    vec![
        Cell::new(text(one, "name")),
        Cell::new(&one["checkpoint"].to_string()),
        Cell::new(&one["lag"].to_string()),
        Cell::new(&one["open"].to_string()),
        if parked == "0" { Cell::dim(&parked) } else { Cell::alarming(&parked) },
        match (one["lost"].as_str(), one["consumer"]["name"].as_str()) {
            (Some(_), _) => Cell::alarming("lost its place"),
            (None, Some(consumer)) => Cell::new(consumer),
            (None, None) => Cell::dim("nobody"),
        },
        Cell::dim(&follows(one)),
    ]
}

/// What one wants, in words.
fn follows(one: &Value) -> String {
    let kinds = one["kinds"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut parts: Vec<&str> = kinds.collect();
    parts.extend(one["category"].as_str());
    parts.extend(one["workspace"].as_str());
    if parts.is_empty() { "everything".to_owned() } else { parts.join(" ") }
}

fn show(output: Output, one: &Value) -> Outcome {
    if output.json {
        return output.document(one);
    }
    for (name, value) in one.as_object().into_iter().flatten() {
        let said = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Object(consumer) => {
                format!(
                    "{}, for {} s",
                    text(value, "name"),
                    consumer.get("expires_in").unwrap_or(&Value::Null)
                )
            }
            Value::Array(items) if items.is_empty() => continue,
            other => other.to_string(),
        };
        output.line(&format!("{name:12} {}", printable(&said)))?;
    }
    Ok(())
}

fn parked(output: Output, answer: &Value) -> Outcome {
    if output.json {
        return output.document(answer);
    }
    let row = |one: &Value| {
        vec![
            Cell::new(&one["position"].to_string()),
            Cell::new(one["fact"]["type"].as_str().unwrap_or("gone")),
            Cell::new(&one["deliveries"].to_string()),
            Cell::new(&one["nacks"].to_string()),
            Cell::new(text(one, "reason")),
        ]
    };
    let rows: Vec<Vec<Cell>> = answer.as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        note("nothing is parked");
        return Ok(());
    }
    output.table(&["POSITION", "TYPE", "DELIVERED", "REFUSED", "REASON"], &rows)
}
