//! `covalence incidents flight`: what observers saw before a brake engaged.

use clap::Args;
use covalence_events::flight::Observation;
use covalence_incidents::flight::{self, say};
use covalence_incidents::{Weight, Who, incident};
use reqwest::Method;

use super::show::find;
use super::{Source, clock};
use crate::cli::Shared;
use crate::cli::failure::Outcome;
use crate::cli::name::Named;
use crate::cli::output::{Colour, Output, printable};

const EXAMPLES: &str = "\
Examples:
  covalence incidents flight                  of the last incident
  covalence incidents flight 0198c0de         of one of them, by the beginning of its id
  covalence incidents flight --notable        only what was slow, failed, or was otherwise than before
  covalence incidents flight --json | jq 'select(.took_us > 1000000)'
  covalence incidents flight --data-dir /var/lib/covalence
                                              without its server, from a copy of the log

Before a brake everything is kept in memory for a quarter of an hour, as it came: lists with what changed in them, looks, probes,
calls and heartbeats with their times and errors. When it engages this goes into the log.";

/// Show what observers saw in the quarter of an hour before a brake engaged
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flight {
    /// Incident: its id, or the beginning of it [default: the last one]
    incident: Option<String>,
    /// The flight at this position [default: the incident's first]
    #[arg(long, value_name = "POSITION")]
    position: Option<u64>,
    /// Leave out what only says that things go on as ever
    #[arg(long)]
    notable: bool,
    /// No colour, also on a terminal
    #[arg(long)]
    plain: bool,
}

impl Flight {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let source = Source::find(shared).await?;
        let id = find(&source, self.incident.as_deref()).await?;
        let lines = match &source {
            Source::Server(client) => {
                let asked: Vec<_> =
                    self.position.map(|position| ("position", position)).into_iter().collect();
                let path = ["incidents", &id.to_string(), "flight"];
                let answer = client.send(client.request(Method::GET, &path).query(&asked)).await?;
                answer.bytes().await.map_err(|error| client.transport_failure(error))?.to_vec()
            }
            Source::Copied(copied) => {
                let incident = incident::find(copied.log.as_ref(), id, &copied.who).await?;
                flight::lines(copied.log.as_ref(), &incident, self.position).await?
            }
        };
        if output.json && !self.notable {
            return output.bytes(&lines);
        }
        let who = who(&source).await?;
        let output = if self.plain { output.plain() } else { output };
        let text = String::from_utf8_lossy(&lines);
        text.lines().filter_map(|line| self.shown(line, &who, output)).try_for_each(|line| output.line(&line))
    }

    /// A line as it is printed; what another version wrote, as it is.
    fn shown(&self, line: &str, who: &Who, output: Output) -> Option<String> {
        let Ok(observation) = serde_json::from_str::<Observation>(line) else { return Some(printable(line)) };
        let (weight, words) = say(&observation, who);
        if self.notable && !is_notable(&observation, weight) {
            return None;
        }
        if output.json {
            return Some(line.to_owned());
        }
        let colour = match weight {
            Weight::Routine => Some(Colour::Dim),
            Weight::Plain => None,
            Weight::Good => Some(Colour::Green),
            Weight::Doubt => Some(Colour::Yellow),
            Weight::Bad => Some(Colour::Red),
        };
        let cell = observation.cell.map_or("-", |cell| cell.as_str());
        let words = output.paint_maybe(colour, &printable(&words));
        Some(format!("{}  {cell:8}  {words}", clock(observation.at)))
    }
}

fn is_notable(observation: &Observation, weight: Weight) -> bool {
    use covalence_events::flight::Observed::{Listed, ShownBefore};
    match &observation.what {
        Listed { changed, .. } => weight != Weight::Routine || !changed.is_empty(),
        ShownBefore { .. } => true,
        _ => matches!(weight, Weight::Doubt | Weight::Bad | Weight::Plain),
    }
}

/// What workspaces are called.
async fn who(source: &Source) -> Outcome<Who> {
    let client = match source {
        Source::Copied(copied) => return Ok(copied.who.clone()),
        Source::Server(client) => client,
    };
    let mut who = Who::default();
    for named in client.roster().await?.0.iter().map(Named::from_row) {
        if let Ok(id) = named.id.parse() {
            who.know(id, &named.name, None);
        }
    }
    Ok(who)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Output = Output { json: false, colours: false };

    fn flight(notable: bool) -> Flight {
        Flight { incident: None, position: None, notable, plain: true }
    }

    #[test]
    fn a_line_is_said_in_words_and_one_of_another_version_shown_as_it_is() {
        let who = Who::default();
        let failed = r#"{"at":"2026-03-01T12:07:00.5Z","cell":"docker","what":"list_failed","took_us":3000000,"code":"timeout"}"#;
        let shown = flight(false).shown(failed, &who, PLAIN).unwrap();
        assert!(shown.ends_with("docker    no list: timeout after 3.0 s"), "{shown}");
        let later = r#"{"at":"2026-03-01T12:07:00Z","what":"sang","song":"la"}"#;
        assert_eq!(flight(true).shown(later, &who, PLAIN).unwrap(), later);
    }

    #[test]
    fn only_what_is_notable_is_left() {
        let who = Who::default();
        let listed = |took_us: u64, changed: &str| {
            format!(
                r#"{{"at":"2026-03-01T12:07:00Z","cell":"docker","what":"listed","took_us":{took_us},"running":1,"stopped":0,"between":0{changed}}}"#
            )
        };
        let changed = r#","changed":[{"instance":"x","state":"gone"}]"#;
        assert_eq!(flight(true).shown(&listed(900, ""), &who, PLAIN), None);
        for line in [listed(1_000_000, ""), listed(900, changed)] {
            assert!(flight(true).shown(&line, &who, PLAIN).is_some(), "{line}");
            assert_eq!(flight(true).shown(&line, &who, Output { json: true, colours: false }), Some(line));
        }
    }
}
