//! A timeline for people: lanes on a terminal, plain lines, and Markdown.

use std::fmt::Write as _;

use chrono::Local;
use covalence_incidents::Weight;
use covalence_incidents::timeline::{Line, Timeline};

use crate::cli::incidents::{cell, clock};
use crate::cli::output::{Colour, Output, printable};

/// More lanes than these leave no room for the words.
const LANES_MAX: usize = 24;
/// Longer names push the rest of their line.
const NAME_WIDTH: usize = 16;

/// How a lane is, by its last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trend {
    Calm,
    Doubt,
    Down,
    /// Nobody watches it.
    Blind,
}

/// For a terminal: with colour each line has its lanes before it, without it only the name of its lane.
pub(super) fn text(timeline: &Timeline, output: Output) -> String {
    let drawn = output.colours && timeline.lanes.len() <= LANES_MAX;
    let mut lines = Vec::new();
    if drawn {
        for (index, lane) in timeline.lanes.iter().enumerate() {
            let dots = format!("{}●", "  ".repeat(index));
            lines.push(output.paint(Colour::Dim, &format!("{dots}  {}", printable(&lane.name))));
        }
    }
    let mut trends = vec![Trend::Calm; timeline.lanes.len()];
    let mut day = None;
    for line in &timeline.lines {
        let today = line.at.with_timezone(&Local).date_naive();
        if day.replace(today) != Some(today) {
            lines.push(output.paint(Colour::Dim, &format!("── {today} ──")));
        }
        let gutter = if drawn { gutter(line, &mut trends, output) } else { String::new() };
        lines.push(format!(
            "{}  {:>7}  {gutter}{:NAME_WIDTH$}  {}",
            clock(line.at),
            line.position,
            timeline.lanes.get(line.lane).map(|lane| printable(&lane.name)).unwrap_or_default(),
            output.paint_maybe(colour(line), &printable(&words(line))),
        ));
    }
    if timeline.lines.is_empty() {
        lines.push(format!("nothing happened from {} to {}", clock(timeline.since), clock(timeline.until)));
    }
    lines.join("\n")
}

/// The lanes at one line: a dot where it belongs, rings where it also does, and how the others are.
fn gutter(line: &Line, trends: &mut [Trend], output: Output) -> String {
    if line.word == "platform_down" {
        trends.fill(Trend::Blind);
    } else if let Some(trend) = trends.get_mut(line.lane) {
        *trend = match line.weight {
            Weight::Routine | Weight::Plain | Weight::Good => Trend::Calm,
            Weight::Doubt => Trend::Doubt,
            Weight::Bad => Trend::Down,
        };
        if line.gap && line.to.is_none() {
            *trend = Trend::Blind;
        }
    }
    let mut drawn = String::new();
    for (index, trend) in trends.iter_mut().enumerate() {
        let (mark, colour) = if line.gap && (index == line.lane || line.word == "platform_down") {
            ("⋮", Colour::Yellow)
        } else if index == line.lane {
            ("●", colour(line).unwrap_or(Colour::Dim))
        } else if line.also.contains(&index) {
            ("○", colour(line).unwrap_or(Colour::Dim))
        } else {
            match trend {
                Trend::Calm => ("│", Colour::Dim),
                Trend::Doubt => ("┊", Colour::Yellow),
                Trend::Down => ("╎", Colour::Red),
                Trend::Blind => (" ", Colour::Dim),
            }
        };
        let _ = write!(drawn, "{} ", output.paint(colour, mark));
        // A gap that has ended leaves its lane as it was before anything was known.
        if line.gap && line.to.is_some() && *trend == Trend::Blind {
            *trend = Trend::Calm;
        }
    }
    format!("{drawn} ")
}

const fn colour(line: &Line) -> Option<Colour> {
    match line.weight {
        Weight::Routine => Some(Colour::Dim),
        Weight::Plain => None,
        Weight::Good => Some(Colour::Green),
        Weight::Doubt => Some(Colour::Yellow),
        Weight::Bad => Some(Colour::Red),
    }
}

fn words(line: &Line) -> String {
    let mut words = line.text.clone();
    if let Some(until) = line.until {
        let _ = write!(words, ", until {}", clock(until));
    }
    match (line.gap, line.to) {
        (true, Some(to)) => words = format!("┄┄ {words}, until {}", clock(to)),
        (true, None) => words = format!("┄┄ {words}, and it goes on"),
        (false, Some(to)) => {
            let _ = write!(words, "  ×{} until {}", line.count, clock(to));
        }
        (false, None) => {}
    }
    words
}

/// For a report; times are UTC, since its readers may be anywhere.
pub(super) fn markdown(timeline: &Timeline) -> String {
    let utc = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
    let mut page = format!(
        "# Timeline\n\n{} to {} UTC.\n\n| time (UTC) | position | lane | what | times |\n|---|---|---|---|---|\n",
        utc(timeline.since),
        utc(timeline.until)
    );
    for line in &timeline.lines {
        let lane = timeline.lanes.get(line.lane).map(|lane| cell(&lane.name)).unwrap_or_default();
        let mut what = cell(&line.text);
        if line.gap {
            what = format!("*{what}*");
        } else if matches!(line.weight, Weight::Bad) {
            what = format!("**{what}**");
        }
        let times = match line.to {
            Some(to) if line.gap => format!("until {}", utc(to)),
            Some(to) => format!("{} until {}", line.count, utc(to)),
            None => String::new(),
        };
        let _ = writeln!(page, "| {} | {} | {lane} | {what} | {times} |", utc(line.at), line.position);
    }
    page.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::incidents::without_times;

    fn timeline() -> Timeline {
        let line = |position: u64, lane: usize, word: &str, text: &str, weight: &str| {
            json!({
                "at": "2026-03-01T12:07:00.123Z", "to": null, "position": position, "lane": lane, "also": [],
                "id": "0b8f2a54-1111-4222-8333-444455556666", "word": word, "text": text, "weight": weight,
                "until": null, "count": 1, "gap": false,
            })
        };
        let mut lines = vec![
            line(40, 2, "heartbeat_received", "heartbeat", "routine"),
            line(60, 2, "evidence_observed", "proof of death", "bad"),
            line(61, 2, "restart_admitted", "admitted", "good"),
            line(70, 0, "platform_down", "not observed for 9.0 s", "doubt"),
            line(71, 1, "engine_away", "not observed", "doubt"),
            line(72, 2, "restart_deferred", "waits | by tokens", "doubt"),
        ];
        lines[0]["count"] = json!(20);
        lines[0]["to"] = json!("2026-03-01T12:17:00.123Z");
        lines[2]["also"] = json!([1]);
        lines[3]["gap"] = json!(true);
        lines[3]["to"] = json!("2026-03-01T12:17:09Z");
        lines[4]["gap"] = json!(true);
        lines[5]["until"] = json!("2026-03-01T12:17:20Z");
        let lane = |kind: &str, name: &str| json!({"kind": kind, "name": name, "workspace": null});
        let timeline = json!({
            "since": "2026-03-01T12:00:00Z", "until": "2026-03-01T12:30:00Z", "facts": 40, "next_after": null,
            "lanes": [lane("platform", "platform"), lane("engine", "engine:docker"), lane("workspace", "lead")],
            "lines": lines,
        });
        serde_json::from_value(timeline).unwrap()
    }

    /// Only the lanes' marks, without colour.
    fn marks(text: &str) -> Vec<String> {
        let bare = text.replace('\u{1b}', "").replace("[2m", "").replace("[0m", "");
        let bare = ["[31m", "[32m", "[33m"].iter().fold(bare, |text, code| text.replace(code, ""));
        let lines =
            bare.lines().filter(|line| line.contains(':') && line.starts_with(|c: char| c.is_ascii_digit()));
        lines.map(|line| line.chars().skip(23).take(5).collect()).collect()
    }

    #[test]
    fn plain_lines_and_a_report_say_the_same() {
        let plain = text(&timeline(), Output { json: false, colours: false });
        insta::assert_snapshot!("plain", without_times(&plain));
        insta::assert_snapshot!("markdown", markdown(&timeline()));
    }

    #[test]
    fn lanes_show_whose_line_it_is_and_how_the_others_are() {
        let coloured = text(&timeline(), Output { json: false, colours: true });
        assert_eq!(marks(&coloured), ["│ │ ●", "│ │ ●", "│ ○ ●", "⋮ ⋮ ⋮", "│ ⋮ │", "│   ●"], "{coloured}");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let empty = Timeline { lines: Vec::new(), ..timeline() };
        assert!(text(&empty, Output { json: false, colours: false }).starts_with("nothing happened from"));
    }
}
