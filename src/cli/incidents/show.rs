//! `covalence incidents show`: one incident, or any span, looked into.

use std::collections::BTreeSet;

use chrono::Utc;
use clap::Args;
use covalence_events::IncidentId;
use covalence_incidents::postmortem;
use covalence_incidents::report::{self, About, Report};
use covalence_incidents::timeline::SINCE_DEFAULT;
use covalence_incidents::{Moment, Weight};
use reqwest::Method;

use super::ls::all;
use super::{Form, Source, clock, day_and_clock, moment, query, read};
use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::{Colour, Output, printable};
use crate::cli::when::When;

const EXAMPLES: &str = "\
Examples:
  covalence incidents show                    the last incident
  covalence incidents show 0198c0de           one of them, by the beginning of its id
  covalence incidents show --since 03:00 --until 03:30
                                              any time, also where no brake engaged
  covalence incidents show --markdown > post-mortem.md
  covalence incidents show --data-dir /var/lib/covalence
                                              without its server, from a copy of the log

Causes are proposed from facts alone, the likeliest first; how sure: high, medium, low.
Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d), or a position (1200).";

/// Say what first caused an incident, whom it hit, and what those have in common
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Show {
    /// Incident: its id, or the beginning of it [default: the last one]
    incident: Option<String>,
    /// Look into any time instead, from this time or position on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse, conflicts_with = "incident")]
    since: Option<When>,
    /// Up to this time or position [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse, conflicts_with = "incident")]
    until: Option<When>,
    /// Of that time, only about this workspace, and what holds everybody; may be repeated
    #[arg(long = "workspace", short, value_name = "WORKSPACE", conflicts_with = "incident")]
    workspaces: Vec<String>,
    #[command(flatten)]
    form: Form,
}

impl Show {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let source = Source::find(shared).await?;
        let named_time = self.since.is_some() || self.until.is_some() || !self.workspaces.is_empty();
        let report = if named_time {
            self.span(&source).await?
        } else {
            let id = find(&source, self.incident.as_deref()).await?;
            incident(&source, id).await?
        };
        if output.json {
            return output.document(&serde_json::to_value(&report).map_err(anyhow::Error::from)?);
        }
        if self.form.markdown {
            return output.line(&postmortem::draft(&report));
        }
        let output = if self.form.plain { output.plain() } else { output };
        output.line(&text(&report, output))
    }

    async fn span(&self, source: &Source) -> Outcome<Report> {
        let mut ids = BTreeSet::new();
        for wanted in &self.workspaces {
            ids.insert(source.workspace(wanted).await?);
        }
        match source {
            Source::Server(client) => {
                let mut asked = Vec::new();
                asked.extend(self.since.map(|since| ("since", query(since))));
                asked.extend(self.until.map(|until| ("until", query(until))));
                if !ids.is_empty() {
                    asked.push(("workspace", ids.into_iter().collect::<Vec<_>>().join(",")));
                }
                let request = client.request(Method::GET, &["incidents", "span"]).query(&asked);
                read(client.json(request).await?)
            }
            Source::Copied(copied) => {
                let workspaces: Result<_, uuid::Error> = ids.iter().map(|id| id.parse()).collect();
                let usual = Moment::Time(Utc::now() - SINCE_DEFAULT);
                let about = About::Span {
                    since: self.since.map_or(usual, |since| moment(Some(since))),
                    until: moment(self.until),
                    workspaces: workspaces.map_err(anyhow::Error::from)?,
                };
                Ok(report::show(copied.log.as_ref(), &about, Utc::now(), &copied.who).await?)
            }
        }
    }
}

async fn incident(source: &Source, id: IncidentId) -> Outcome<Report> {
    match source {
        Source::Server(client) => {
            let request = client.request(Method::GET, &["incidents", &id.to_string()]);
            read(client.json(request).await?)
        }
        Source::Copied(copied) => {
            Ok(report::show(copied.log.as_ref(), &About::Incident(id), Utc::now(), &copied.who).await?)
        }
    }
}

/// The incident that a person names: by its id, by the beginning of it, or the last one (`last`, or no name at all).
pub(super) async fn find(source: &Source, wanted: Option<&str>) -> Outcome<IncidentId> {
    let wanted = wanted.filter(|wanted| *wanted != "last");
    if let Some(Ok(id)) = wanted.map(str::parse) {
        return Ok(id);
    }
    let known = all(source, covalence_incidents::incident::INCIDENTS_MAX).await?.incidents;
    let wanted = wanted.unwrap_or_default();
    let mut fitting = known.iter().filter(|incident| incident.id.to_string().starts_with(wanted));
    match (fitting.next(), fitting.next()) {
        (Some(first), None) => Ok(first.id),
        (Some(first), Some(_)) if wanted.is_empty() => Ok(first.id),
        (Some(_), Some(_)) => Err(Failure::new(Exit::Usage, format!("incident `{wanted}` is ambiguous"))
            .hint("ids of the same time begin alike: name more of it")),
        (None, _) if wanted.is_empty() => Err(Failure::new(Exit::NotFound, "there is no incident")
            .hint("`covalence incidents show --since -15m` looks into any time")),
        (None, _) => Err(Failure::new(Exit::NotFound, format!("no incident `{wanted}`"))
            .hint("`covalence incidents ls` shows them")),
    }
}

/// For a terminal.
fn text(report: &Report, output: Output) -> String {
    let mut lines = head(report, output);
    lines.push(output.paint(Colour::Dim, "── proposed first causes ──"));
    for cause in &report.causes {
        let positions: Vec<String> = cause.positions.iter().map(u64::to_string).collect();
        let colour = if cause.score > 0.0 { Some(Colour::Red) } else { None };
        let whose = cause.subject.as_deref().map(|whose| format!(" {whose}")).unwrap_or_default();
        lines.push(format!(
            "{}  sure: {}, since {}, explains {} of {}",
            output.paint_maybe(colour, &printable(&format!("{}{whose}", cause.kind.as_str()))),
            cause.sure.as_str(),
            clock(cause.since),
            cause.explains,
            cause.effects
        ));
        lines.push(format!("    {}", printable(&cause.reason)));
        if !positions.is_empty() {
            lines.push(output.paint(Colour::Dim, &format!("    facts {}", positions.join(" "))));
        }
    }
    lines.push(output.paint(Colour::Dim, "── impact ──"));
    lines.extend(impact(report));
    if !report.common.is_empty() {
        lines.push(output.paint(Colour::Dim, "── in common ──"));
    }
    for factor in &report.common {
        lines.push(printable(&format!(
            "{} {}: {} of {} affected, {} of {} others; by chance {:.4}",
            factor.property,
            factor.value,
            factor.hit_with,
            factor.hit,
            factor.others_with,
            factor.others,
            factor.chance
        )));
    }
    lines.push(output.paint(Colour::Dim, "── main facts ──"));
    lines.extend(report.main.iter().map(|fact| {
        let colour = match fact.weight {
            Weight::Bad => Some(Colour::Red),
            Weight::Doubt => Some(Colour::Yellow),
            Weight::Good => Some(Colour::Green),
            Weight::Plain | Weight::Routine => None,
        };
        let words = output.paint_maybe(colour, &printable(&fact.text));
        format!("{}  {:>7}  {:16}  {words}", clock(fact.at), fact.position, printable(&fact.whose))
    }));
    if report.left_out > 0 {
        lines.push(format!(
            "{} facts in the middle are left out: `covalence timeline` has them",
            report.left_out
        ));
    }
    lines.extend(flights(report, output));
    lines.extend(notes(report));
    lines.join("\n")
}

fn head(report: &Report, output: Output) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(incident) = &report.incident {
        lines.push(format!(
            "{}  {}, opened by {} at {}",
            output.paint(Colour::Yellow, &printable(&incident.title)),
            incident.status.as_str(),
            incident.by,
            day_and_clock(incident.opened)
        ));
        lines.push(output.paint(Colour::Dim, &format!("incident {}", incident.id)));
    }
    let end = if report.goes_on { "now, and it goes on".to_owned() } else { day_and_clock(report.until) };
    lines.push(format!(
        "{} to {end}, positions {} to {}",
        day_and_clock(report.since),
        report.from,
        report.to
    ));
    if report.cut {
        lines.push(
            "the span has more facts than are looked at: what is said rests on its beginning".to_owned(),
        );
    }
    lines
}

fn impact(report: &Report) -> Vec<String> {
    let impact = &report.impact;
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    let mut lines = vec![format!(
        "{} of {} workspaces; restarts: {} asked for, {} begun, {} of them without a proven death; answers lost: {}",
        impact.workspaces,
        impact.of,
        impact.restarts_asked,
        impact.restarts_begun,
        impact.restarted_alive,
        impact.calls_cut
    )];
    if impact.engine_away_ms + impact.platform_down_ms > 0 {
        lines.push(format!(
            "engine not answering {}, platform down {}",
            seconds(impact.engine_away_ms),
            seconds(impact.platform_down_ms)
        ));
    }
    if impact.spared > 0 {
        lines.push(format!("{} suspects were heard from again and had not been restarted", impact.spared));
    }
    lines.extend(impact.held.iter().map(|held| format!("{} made {} wait", held.rule, held.workspaces)));
    lines.extend(impact.hit.iter().map(|hit| {
        let offline =
            if hit.offline_ms > 0 { format!(", offline {}", seconds(hit.offline_ms)) } else { String::new() };
        printable(&format!("{}  {}{offline}", hit.workspace.name, hit.what.join(", ")))
    }));
    if impact.not_listed > 0 {
        lines.push(format!("and {} more", impact.not_listed));
    }
    lines
}

/// What the flight recorder left.
fn flights(report: &Report, output: Output) -> Vec<String> {
    let flights = report.incident.iter().flat_map(|incident| &incident.flights);
    let mut lines: Vec<String> = flights
        .map(|flight| {
            let summary = printable(&flight.summary());
            format!("{}  {:>7}  {}: {summary}", clock(flight.at), flight.position, printable(&flight.cell))
        })
        .collect();
    if !lines.is_empty() {
        lines.insert(0, output.paint(Colour::Dim, "── observed before: `covalence incidents flight` ──"));
    }
    lines
}

fn notes(report: &Report) -> Vec<String> {
    let Some(incident) = &report.incident else { return Vec::new() };
    let said = incident.notes.iter().map(|note| ("note", note));
    let closed = incident.closed.iter().map(|note| ("closed", note));
    said.chain(closed)
        .map(|(word, note)| {
            printable(&format!("{word}  {}  {}: {}", day_and_clock(note.at), note.by, note.text))
        })
        .collect()
}
