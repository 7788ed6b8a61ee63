//! `covalence strangers`: instances with our labels that the log does not know. Reported by the server, removed by a
//! person only.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{Cell, Output, confirm, note, text};

const EXAMPLES: &str = "\
Examples:
  covalence strangers ls
  covalence strangers rm --dry-run            what would go
  covalence strangers rm 4f2a --yes           one of them";

/// List and remove instances that the log does not know
#[derive(Debug, Args)]
pub(super) struct Strangers {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them
    #[command(after_help = EXAMPLES)]
    Ls,
    /// Remove them
    #[command(after_help = EXAMPLES)]
    Rm(Remove),
}

#[derive(Debug, Args)]
struct Remove {
    /// Only these: name, or the beginning of the id; all without one
    instances: Vec<String>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Ask no question
    #[arg(long, short)]
    yes: bool,
}

impl Strangers {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let client = shared.client()?;
        let output = shared.output();
        let strangers = list(&client).await?;
        match self.command {
            Command::Ls => print(output, &strangers),
            Command::Rm(remove) => remove.run(&client, output, &strangers).await,
        }
    }
}

async fn list(client: &Client) -> Outcome<Vec<Value>> {
    let answer = client.get(&["admin", "strangers"]).await?;
    let rows = if answer.is_array() { Some(&answer) } else { answer.get("strangers") };
    Ok(rows.and_then(Value::as_array).cloned().unwrap_or_default())
}

fn print(output: Output, strangers: &[Value]) -> Outcome {
    if output.json {
        return output.document(&json!(strangers));
    }
    let cells: Vec<Vec<Cell>> = strangers
        .iter()
        .map(|row| {
            ["engine", "instance", "name", "workspace"].map(|field| Cell::new(text(row, field))).to_vec()
        })
        .collect();
    output.table(&["ENGINE", "INSTANCE", "NAME", "WORKSPACE"], &cells)
}

impl Remove {
    async fn run(self, client: &Client, output: Output, strangers: &[Value]) -> Outcome {
        let chosen = self.choose(strangers)?;
        if self.dry_run {
            note(&format!("would remove {}", chosen.len()));
            return print(output, &chosen);
        }
        if chosen.is_empty() {
            return print(output, &chosen);
        }
        for row in &chosen {
            note(&format!("{}  {}", text(row, "instance"), text(row, "name")));
        }
        let instances = if chosen.len() == 1 { "instance" } else { "instances" };
        confirm(&format!("removing {} {instances} that the log does not know", chosen.len()), self.yes)?;
        for row in &chosen {
            let segments = ["admin", "strangers", text(row, "engine"), text(row, "instance")];
            client.json(client.request(Method::DELETE, &segments)).await?;
        }
        print(output, &chosen)
    }

    fn choose(&self, strangers: &[Value]) -> Outcome<Vec<Value>> {
        if self.instances.is_empty() {
            return Ok(strangers.to_vec());
        }
        let mut chosen = Vec::new();
        for wanted in &self.instances {
            let matching = strangers.iter().filter(|row| {
                text(row, "name") == wanted
                    || (!wanted.is_empty() && text(row, "instance").starts_with(wanted))
            });
            match matching.collect::<Vec<_>>().as_slice() {
                [one] => chosen.push((*one).clone()),
                [] => return Err(Failure::new(Exit::NotFound, format!("no such stranger `{wanted}`"))),
                several => {
                    let message = format!("`{wanted}` names {} instances", several.len());
                    return Err(Failure::new(Exit::Usage, message).hint("use more of the id"));
                }
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(instances: &[&str]) -> Outcome<Vec<Value>> {
        let strangers = [
            json!({"engine": "docker", "instance": "4f2a00", "name": "ws-one"}),
            json!({"engine": "docker", "instance": "4f3b00", "name": "ws-two"}),
        ];
        let instances = instances.iter().map(|wanted| (*wanted).to_owned()).collect();
        Remove { instances, dry_run: false, yes: false }.choose(&strangers)
    }

    #[test]
    fn strangers_are_chosen_by_name_or_the_beginning_of_their_id() {
        assert_eq!(choose(&[]).unwrap().len(), 2);
        assert_eq!(choose(&["ws-two"]).unwrap()[0]["instance"], "4f3b00");
        assert_eq!(choose(&["4f2"]).unwrap()[0]["name"], "ws-one");
        assert_eq!(choose(&["4f"]).unwrap_err().exit, Exit::Usage);
        assert_eq!(choose(&["zz"]).unwrap_err().exit, Exit::NotFound);
    }
}
