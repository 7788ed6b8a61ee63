//! An explanation for people: on a terminal, and as Markdown.

use std::fmt::Write as _;

use covalence_incidents::Weight;
use covalence_incidents::explain::{Explanation, Reason, Stage, Step};
use serde_json::Value;

use crate::cli::incidents::{cell, clock, day_and_clock};
use crate::cli::output::{Colour, Output, printable};

/// Numbers that the sentence before them has, or that only a machine needs.
const SAID: [&str; 18] = [
    "cause",
    "rule",
    "cell",
    "cost",
    "chance",
    "now",
    "requested_at",
    "until",
    "hold_until",
    "generation",
    "restart",
    "exit_status",
    "class",
    "mode",
    "trigger",
    "count",
    "of",
    "threshold",
];

/// Numbers that an admission's sentence has as well.
const SAID_OF_ADMISSION: [&str; 5] = ["tokens", "in_flight", "in_flight_max", "recent", "recent_max"];

/// The one reason for doing nothing that is good news.
const WELL: &str = "nothing_against_it";

/// For a terminal; without colour it is plain text.
pub(super) fn text(explained: &Explanation, output: Output) -> String {
    let mut lines = vec![output.paint(headline(explained), &printable(&explained.summary)), String::new()];
    let mut field = |name: &str, value: &str| {
        lines.push(format!("{}{}", output.paint(Colour::Dim, &format!("{name:10}")), printable(value)));
    };
    if let Some(id) = explained.workspace {
        field("workspace", &format!("{}  {id}", explained.name));
        field("state", &explained.state);
    }
    if let Some(span) = span(explained) {
        field("happened", &span);
    }
    field("as of", &format!("{}, position {}", day_and_clock(explained.at), explained.position));
    if let Some(back) = explained.looked_back_to {
        field("looked at", &format!("since {}; what is older was not looked at", day_and_clock(back)));
    }
    if let [reason] = explained.reasons.as_slice()
        && reason.rule == WELL
    {
        field("now", &reason.text);
    } else if !explained.reasons.is_empty() {
        lines.push(String::new());
        lines.push("why nothing more is done:".to_owned());
        lines.extend(explained.reasons.iter().map(|reason| why(reason, output)));
    }
    if !explained.steps.is_empty() {
        lines.push(String::new());
        lines.push("the chain (time, position, part, what, ← cause):".to_owned());
        for (index, one) in explained.steps.iter().enumerate() {
            if explained.left_out > 0 && index == explained.steps.len() / 2 {
                lines.push(
                    output.paint(Colour::Dim, &format!("  … {} steps are left out", explained.left_out)),
                );
            }
            lines.extend(step(one, output));
        }
    }
    lines.join("\n")
}

/// The colour of how it stands.
fn headline(explained: &Explanation) -> Colour {
    match explained.state.as_str() {
        "healthy" | "probation" => Colour::Green,
        "quarantined" | "held" => Colour::Red,
        _ => Colour::Yellow,
    }
}

/// From the first fact of the story to its last.
fn span(explained: &Explanation) -> Option<String> {
    let mut story = explained.steps.iter().filter(|step| step.stage != Stage::Around).map(|step| step.at);
    let first = story.next()?;
    let last = story.next_back().unwrap_or(first);
    Some(format!("{} to {}", day_and_clock(first), clock(last)))
}

fn why(reason: &Reason, output: Output) -> String {
    let mut line = format!(
        "  {}  {}",
        output.paint(Colour::Yellow, &format!("{:19}", reason.rule)),
        printable(&reason.text)
    );
    if let Some(since) = reason.since {
        let _ = write!(line, ", since {}", clock(since));
    }
    if let Some(until) = reason.until {
        let _ = write!(line, ", until {}", clock(until));
    }
    if let Some(remedy) = &reason.remedy {
        let _ = write!(line, "\n  {:19}  {}", "", output.paint(Colour::Dim, &printable(remedy)));
    }
    line
}

fn step(step: &Step, output: Output) -> Vec<String> {
    let colour = match (step.stage, step.weight) {
        (Stage::Around, Weight::Plain | Weight::Routine) | (_, Weight::Routine) => Some(Colour::Dim),
        (_, Weight::Good) => Some(Colour::Green),
        (_, Weight::Doubt) => Some(Colour::Yellow),
        (_, Weight::Bad) => Some(Colour::Red),
        (_, Weight::Plain) => None,
    };
    let said = printable(&step.text);
    let said = output.paint_maybe(colour, &said);
    let until = step.until.map(|until| format!(", until {}", clock(until))).unwrap_or_default();
    let cause = step.cause.map(|cause| format!("  ← {cause}")).unwrap_or_default();
    // What comes from the platform, or from the workspace itself, need not say so.
    let by = if matches!(step.by.as_str(), "admin" | "anonymous") {
        format!("  by {}", step.by)
    } else {
        String::new()
    };
    let mut lines = vec![format!(
        "  {}  {:>7}  {:10} {said}{until}{}",
        clock(step.at),
        step.position,
        part(step.stage),
        output.paint(Colour::Dim, &printable(&format!("{by}{cause}"))),
    )];
    if let Some(numbers) = numbers(step) {
        lines.push(output.paint(Colour::Dim, &format!("  {:12}  {:>7}  {:10} {numbers}", "", "", "")));
    }
    lines
}

/// What a decision was made with, where it was one.
fn numbers(step: &Step) -> Option<String> {
    if !matches!(
        step.word.as_str(),
        "restart_admitted" | "restart_deferred" | "restart_suppressed" | "brake_engaged"
    ) {
        return None;
    }
    let admitted = step.word == "restart_admitted";
    let is_said = |name: &str| SAID.contains(&name) || (admitted && SAID_OF_ADMISSION.contains(&name));
    // That there are no tokens, or none in flight, is a number too.
    let is_news = |name: &str, value: &Value| matches!(name, "tokens" | "in_flight") || !is_nothing(value);
    let shown = step.numbers.iter().filter(|(name, value)| !is_said(name) && is_news(name, value));
    let mut words: Vec<String> = shown.map(|(name, value)| format!("{name} {}", plain(value))).collect();
    words.extend(step.policy.as_ref().map(|policy| format!("policy {policy}")));
    (!words.is_empty()).then(|| printable(&words.join(", ")))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Null | Value::String(_) | Value::Object(_) => false,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(value) if number.is_f64() => format!("{value:.2}"),
            Some(_) | None => number.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

const fn part(stage: Stage) -> &'static str {
    match stage {
        Stage::Evidence => "evidence",
        Stage::Verdict => "verdict",
        Stage::Request => "request",
        Stage::Admission => "admission",
        Stage::Confirm => "confirm",
        Stage::Start => "start",
        Stage::Outcome => "outcome",
        Stage::Around => "·",
    }
}

/// For a report; times are UTC, since its readers may be anywhere.
pub(super) fn markdown(explained: &Explanation) -> String {
    let utc = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
    let mut page = format!(
        "# {}\n\n{}\n\nAs of {} UTC, position {}",
        cell(&explained.name),
        cell(&explained.summary),
        utc(explained.at),
        explained.position
    );
    if !explained.state.is_empty() {
        let _ = write!(page, "; state `{}`", explained.state);
    }
    page.push_str(".\n");
    if !explained.reasons.is_empty() {
        page.push_str("\n## Why nothing more is done\n\n");
        for reason in &explained.reasons {
            let until = reason.until.map(|until| format!(", until {}", utc(until))).unwrap_or_default();
            let _ = writeln!(page, "- `{}`: {}{until}", reason.rule, cell(&reason.text));
        }
    }
    page.push_str("\n## The chain\n\n| time (UTC) | position | part | what | cause | numbers |\n|---|---|---|---|---|---|\n");
    for step in &explained.steps {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            utc(step.at),
            step.position,
            part(step.stage),
            cell(&step.text),
            step.cause.map(|cause| cause.to_string()).unwrap_or_default(),
            cell(&numbers(step).unwrap_or_default()),
        );
    }
    page.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::incidents::without_times;

    fn explained() -> Explanation {
        let step = |position: u64, stage: &str, word: &str, text: &str, weight: &str| {
            json!({
                "at": "2026-03-01T03:07:00.123Z", "position": position, "stage": stage, "word": word, "text": text,
                "weight": weight, "rule": null, "until": null, "cause": null, "led_to": [], "numbers": {},
                "id": "0195-0000", "policy": null, "by": "system",
            })
        };
        let mut steps = vec![
            step(40, "around", "hold_set", "hold of lead: new | disk", "doubt"),
            step(41, "evidence", "evidence_observed", "proof of death from exit: exited\u{1b}[2J", "bad"),
            step(44, "request", "restart_requested", "a restart is asked for: it died", "doubt"),
            step(45, "admission", "restart_deferred", "waits, by tokens", "doubt"),
        ];
        steps[0]["by"] = json!("admin");
        steps[2]["by"] = json!("workspace:0b8f2a54");
        steps[3]["cause"] = json!(44);
        steps[3]["until"] = json!("2026-03-01T03:07:10Z");
        steps[3]["policy"] = json!("00000000000000ff");
        steps[3]["numbers"] = json!({"tokens": 0.25, "in_flight": 0, "in_flight_max": 2, "rule": "tokens", "forced": false, "in_grace": true});
        for step in &mut steps {
            step["id"] = json!("0b8f2a54-1111-4222-8333-444455556666");
        }
        let explained = json!({
            "workspace": "0b8f2a54-1111-4222-8333-444455556666", "name": "lead", "at": "2026-03-01T03:07:01Z",
            "position": 45, "summary": "lead died; its restart waits, by tokens", "state": "held", "left_out": 0,
            "steps": steps, "looked_back_to": "2026-02-28T12:00:00Z",
            "reasons": [{
                "rule": "tokens", "text": "0.2 tokens are left", "since": "2026-03-01T03:07:00.123Z",
                "until": "2026-03-01T03:07:10Z", "position": 45, "remedy": "covalence release lead",
            }],
        });
        serde_json::from_value(explained).unwrap()
    }

    #[test]
    fn a_terminal_a_pipe_and_a_report_get_the_same_facts() {
        let output = |colours| Output { json: false, colours };
        let plain = text(&explained(), output(false));
        insta::assert_snapshot!("plain", without_times(&plain));
        let coloured = text(&explained(), output(true));
        assert!(coloured.contains("\u{1b}[31m") && !coloured.contains("\u{1b}[2J"), "{coloured}");
        insta::assert_snapshot!("markdown", markdown(&explained()));
    }

    #[test]
    fn good_news_is_one_line_and_no_list_of_reasons() {
        let mut well = explained();
        let reason = json!({
            "rule": WELL, "text": "nothing speaks against it", "since": null, "until": null, "position": null, "remedy": null,
        });
        well.reasons = vec![serde_json::from_value(reason).unwrap()];
        let shown = text(&well, Output { json: false, colours: false });
        assert!(shown.contains("now       nothing speaks against it"), "{shown}");
        assert!(!shown.contains("why nothing more"), "{shown}");
    }
}
