//! `covalence explain`: why something happened to a workspace, or did not.

use clap::Args;
use covalence_events::Position;
use covalence_incidents::Which;
use covalence_incidents::explain::{self, Explanation};
use reqwest::Method;

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::incidents::{Form, Source, moment, query, read};
use crate::cli::when::When;

mod show;

const EXAMPLES: &str = "\
Examples:
  covalence explain lead                      what became of it last, and why
  covalence explain lead --at 03:07           as things stood then, knowing nothing later
  covalence explain --event 1234              how that fact came about, and what it led to
  covalence explain lead --markdown > lead.md
  covalence explain lead --data-dir /var/lib/covalence
                                              without its server, from a copy of the log

Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d), or a position (1200).";

/// Explain why something happened to a workspace, or did not
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    /// Workspace: name, id, or the beginning of either
    #[arg(required_unless_present = "event", conflicts_with = "event")]
    workspace: Option<String>,
    /// As things stood at this time or position
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse, conflicts_with = "event")]
    at: Option<When>,
    /// The chain around this fact: its whole id, or its position
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    #[command(flatten)]
    form: Form,
}

impl Explain {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let source = Source::find(shared).await?;
        let explained: Explanation = match (&source, &self.workspace, &self.event) {
            (Source::Server(client), Some(wanted), _) => {
                let id = source.workspace(wanted).await?;
                let request = client.request(Method::GET, &["workspaces", &id, "explain"]);
                let at: Vec<_> = self.at.map(|at| ("at", query(at))).into_iter().collect();
                let answer = client.json(request.query(&at)).await?;
                if output.json {
                    return output.document(&answer);
                }
                read(answer)?
            }
            (Source::Server(client), None, event) => {
                let which = event.clone().unwrap_or_default();
                let request = client.request(Method::GET, &["admin", "explain"]).query(&[("event", which)]);
                let answer = client.json(request).await?;
                if output.json {
                    return output.document(&answer);
                }
                read(answer)?
            }
            (Source::Copied(copied), Some(wanted), _) => {
                let id = source.workspace(wanted).await?;
                let id = id.parse().map_err(anyhow::Error::from)?;
                explain::workspace(copied.log.as_ref(), id, moment(self.at), &copied.who).await?
            }
            (Source::Copied(copied), None, event) => {
                explain::fact(copied.log.as_ref(), which(event.as_deref().unwrap_or_default())?, &copied.who)
                    .await?
            }
        };
        if output.json {
            return output.document(&serde_json::to_value(&explained).map_err(anyhow::Error::from)?);
        }
        if self.form.markdown {
            return output.line(&show::markdown(&explained));
        }
        let output = if self.form.plain { output.plain() } else { output };
        output.line(&show::text(&explained, output))
    }
}

fn which(text: &str) -> Outcome<Which> {
    if let Ok(position) = text.parse() {
        return Ok(Which::Position(Position(position)));
    }
    text.parse().map(Which::Id).map_err(|_| {
        Failure::new(Exit::Usage, format!("event `{text}`: expected a fact's id (a UUID) or its position"))
            .hint("`covalence events` shows positions in its second column")
    })
}
