//! A report as the draft of a post-mortem, in Markdown: what the facts say is filled in, what only people know is left to them.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use crate::report::Report;
use crate::words::{Weight, between, lasting};

/// The draft. Times are UTC, since its readers may be anywhere.
pub fn draft(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string can't fail.
    let _ = write(&mut page, report);
    page.trim_end().to_owned()
}

fn write(page: &mut String, report: &Report) -> std::fmt::Result {
    let title = report.incident.as_ref().map_or("What happened", |incident| incident.title.as_str());
    writeln!(page, "# Post-mortem: {}\n", cell(title))?;
    summary(page, report)?;
    impact(page, report)?;
    cause(page, report)?;
    common(page, report)?;
    timeline(page, report)?;
    flights(page, report)?;
    went_well(page, report)?;
    notes(page, report)?;
    writeln!(page, "## Open questions\n")?;
    for question in questions(report) {
        writeln!(page, "- {question}")?;
    }
    writeln!(page, "\n## Follow-ups\n\n| what | who | until |\n|---|---|---|\n| | | |")
}

fn summary(page: &mut String, report: &Report) -> std::fmt::Result {
    let ended = if report.goes_on { "and it goes on" } else { "to" };
    let lasted = lasting(between(report.since, report.until));
    writeln!(page, "## Summary\n")?;
    if let Some(incident) = &report.incident {
        writeln!(
            page,
            "Incident `{}`, {}, opened by {} at {}.",
            incident.id,
            incident.status.as_str(),
            incident.by,
            utc(incident.opened)
        )?;
    }
    let until = if report.goes_on { String::new() } else { format!(" {}", utc(report.until)) };
    writeln!(
        page,
        "From {} {ended}{until} ({lasted}), positions {} to {}.",
        utc(report.since),
        report.from,
        report.to
    )?;
    let impact = &report.impact;
    writeln!(
        page,
        "{} of {} workspaces were affected; {} restarts began. Proposed first cause: {}.\n",
        impact.workspaces,
        impact.of,
        impact.restarts_begun,
        report.causes.first().map_or_else(|| "unknown".to_owned(), |cause| cell(&cause.reason))
    )
}

fn impact(page: &mut String, report: &Report) -> std::fmt::Result {
    let impact = &report.impact;
    writeln!(page, "## Impact\n\n| | |\n|---|---|")?;
    writeln!(page, "| workspaces affected | {} of {} |", impact.workspaces, impact.of)?;
    writeln!(
        page,
        "| restarts asked for, begun, failed | {}, {}, {} |",
        impact.restarts_asked, impact.restarts_begun, impact.restarts_failed
    )?;
    writeln!(page, "| restarts without a proven death | {} |", impact.restarted_alive)?;
    writeln!(page, "| answers lost | {} |", impact.calls_cut)?;
    writeln!(page, "| longest time offline of one workspace | {} |", lasting(impact.offline_longest_ms))?;
    writeln!(page, "| engine not answering | {} |", lasting(impact.engine_away_ms))?;
    writeln!(page, "| platform down | {} |\n", lasting(impact.platform_down_ms))?;
    if !impact.hit.is_empty() {
        writeln!(
            page,
            "| workspace | since (UTC) | what | offline | restarts | answers lost |\n|---|---|---|---|---|---|"
        )?;
    }
    for hit in &impact.hit {
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            cell(&hit.workspace.name),
            clock(hit.since),
            hit.what.join(", "),
            lasting(hit.offline_ms),
            hit.restarts,
            hit.calls_cut
        )?;
    }
    writeln!(page)
}

fn cause(page: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        page,
        "## First cause, as the facts propose it\n\n| cause | how sure | since (UTC) | explains | why | positions |\n|---|---|---|---|---|---|"
    )?;
    for cause in &report.causes {
        let positions: Vec<String> = cause.positions.iter().map(u64::to_string).collect();
        writeln!(
            page,
            "| {}{} | {} | {} | {} of {} | {} | {} |",
            cause.kind.as_str(),
            cause.subject.as_deref().map(|subject| format!(" ({})", cell(subject))).unwrap_or_default(),
            cause.sure.as_str(),
            clock(cause.since),
            cause.explains,
            cause.effects,
            cell(&cause.reason),
            positions.join(", ")
        )?;
    }
    writeln!(page)
}

fn common(page: &mut String, report: &Report) -> std::fmt::Result {
    if report.common.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "What those who were affected have in common that others don't:\n\n| property | value | affected | others | by chance |\n|---|---|---|---|---|"
    )?;
    for factor in &report.common {
        writeln!(
            page,
            "| {} | {} | {} of {} | {} of {} | {:.4} |",
            factor.property,
            cell(&factor.value),
            factor.hit_with,
            factor.hit,
            factor.others_with,
            factor.others,
            factor.chance
        )?;
    }
    writeln!(page)
}

fn timeline(page: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(page, "## Timeline\n\n| time (UTC) | position | whose | what |\n|---|---|---|---|")?;
    for fact in &report.main {
        let text = cell(&fact.text);
        let text = if fact.weight == Weight::Bad { format!("**{text}**") } else { text };
        writeln!(page, "| {} | {} | {} | {text} |", clock(fact.at), fact.position, cell(&fact.whose))?;
    }
    if report.left_out > 0 {
        writeln!(
            page,
            "\n{} facts in the middle are left out: `covalence timeline` has them.",
            report.left_out
        )?;
    }
    writeln!(page)
}

fn flights(page: &mut String, report: &Report) -> std::fmt::Result {
    let Some(incident) = report.incident.as_ref().filter(|incident| !incident.flights.is_empty()) else {
        return Ok(());
    };
    writeln!(page, "## What was observed before\n")?;
    for flight in &incident.flights {
        let (cell, position) = (&flight.cell, flight.position);
        write!(page, "- {} {cell}, position {position}: {}.", utc(flight.at), self::cell(&flight.summary()))?;
        if flight.recorded.is_some() {
            write!(page, " `covalence incidents flight {} --position {position}` shows them.", incident.id)?;
        }
        writeln!(page)?;
    }
    writeln!(page)
}

fn went_well(page: &mut String, report: &Report) -> std::fmt::Result {
    let impact = &report.impact;
    writeln!(page, "## What went well\n")?;
    let mut any = false;
    if impact.spared > 0 {
        any = true;
        writeln!(
            page,
            "- {} suspects were heard from again, and had not been restarted: so many wrong restarts were avoided.",
            impact.spared
        )?;
    }
    for held in &impact.held {
        any = true;
        writeln!(page, "- `{}` made restarts of {} workspaces wait.", held.rule, held.workspaces)?;
    }
    if !any {
        writeln!(page, "- nothing was held back by brakes or limits")?;
    }
    writeln!(page)
}

fn notes(page: &mut String, report: &Report) -> std::fmt::Result {
    let Some(incident) = &report.incident else { return Ok(()) };
    let notes =
        incident.notes.iter().chain(incident.closed.as_ref().filter(|closed| !closed.text.is_empty()));
    let mut notes = notes.peekable();
    if notes.peek().is_none() {
        return Ok(());
    }
    writeln!(page, "## Notes\n")?;
    for note in notes {
        writeln!(page, "- {} {}: {}", utc(note.at), note.by, cell(&note.text))?;
    }
    writeln!(page)
}

/// What the facts leave open.
fn questions(report: &Report) -> Vec<String> {
    let mut questions = Vec::new();
    match report.causes.first() {
        Some(first) if first.sure != crate::cause::Sure::High => {
            questions.push(format!(
                "Is `{}` the first cause? The facts are not clear about it ({}).",
                first.kind.as_str(),
                first.sure.as_str()
            ));
        }
        Some(first) => questions
            .push(format!("What made it so (`{}`)? The log sees no further than that.", first.kind.as_str())),
        None => {}
    }
    if report.cut {
        questions.push("The span has more facts than were looked at: what came of its end?".to_owned());
    }
    if report.impact.restarted_alive > 0 {
        questions.push(format!(
            "{} restarts began without a proven death: were they right?",
            report.impact.restarted_alive
        ));
    }
    questions
}

fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S%.3f").to_string()
}

/// A text within a cell of a Markdown table.
fn cell(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(plain).collect::<String>().replace('|', "\\|")
}
