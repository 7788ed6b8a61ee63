//! `covalence incidents ls`.

use clap::Args;
use covalence_incidents::incident::{self, INCIDENTS_DEFAULT, INCIDENTS_MAX, Incident, Incidents, Status};
use reqwest::Method;

use super::{Source, day_and_clock, read};
use crate::cli::Shared;
use crate::cli::failure::Outcome;
use crate::cli::output::{Cell, note};

/// List incidents, newest first
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence incidents ls\n  covalence incidents ls --limit 100\n  covalence incidents ls --data-dir /var/lib/covalence\n                                              without its server, from a copy of the log\n\nopen: it goes on; over: it has ended, and nobody is done with it; closed: somebody is."
)]
pub(super) struct Ls {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = INCIDENTS_DEFAULT as u64, value_parser = clap::value_parser!(u64).range(1..=INCIDENTS_MAX as u64))]
    limit: u64,
}

impl Ls {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let source = Source::find(shared).await?;
        let limit = usize::try_from(self.limit).unwrap_or(INCIDENTS_MAX);
        let found = all(&source, limit).await?;
        if output.json {
            return output.document(&serde_json::to_value(&found).map_err(anyhow::Error::from)?);
        }
        if found.incidents.is_empty() {
            note("no incident");
        } else {
            let rows: Vec<_> = found.incidents.iter().map(row).collect();
            output.table(&["ID", "STATUS", "OPENED", "BY", "NOTES", "TITLE"], &rows)?;
        }
        if let Some(to) = found.looked_back_to {
            note(&format!("looked back to {}; older ones may be there", day_and_clock(to)));
        }
        Ok(())
    }
}

/// The last incidents, newest first.
pub(super) async fn all(source: &Source, limit: usize) -> Outcome<Incidents> {
    match source {
        Source::Server(client) => {
            let request = client.request(Method::GET, &["incidents"]).query(&[("limit", limit)]);
            read(client.json(request).await?)
        }
        Source::Copied(copied) => Ok(incident::list(copied.log.as_ref(), limit, &copied.who).await?),
    }
}

fn row(incident: &Incident) -> Vec<Cell> {
    let status = match incident.status {
        Status::Closed => Cell::dim(incident.status.as_str()),
        Status::Open | Status::Over => Cell::new(incident.status.as_str()),
    };
    vec![
        Cell::new(&incident.id.to_string()),
        status,
        Cell::new(&day_and_clock(incident.opened)),
        Cell::new(&incident.by),
        Cell::new(&incident.notes.len().to_string()),
        Cell::new(&incident.title),
    ]
}
