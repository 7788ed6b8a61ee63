//! A replay's state as the lines of a screen.

use serde_json::Value;

use super::painted;
use super::player::{Key, Player};
use crate::cli::incidents::day_and_clock;
use crate::cli::output::{Colour, Output, printable};
use crate::cli::value::short;

const KEYS: &str = "space play/pause  ←/→ step  p/n notable  +/- speed  g go to  home/end  q quit";
/// Columns of a workspace's row: the field, its heading, and how wide it is.
const COLUMNS: [(&str, &str, usize); 7] = [
    ("name", "NAME", 20),
    ("status", "STATUS", 14),
    ("supervision", "SUPERVISION", 14),
    ("supervision_rule", "RULE", 16),
    ("generation", "GEN", 4),
    ("restarts", "RESTARTS", 8),
    ("restart", "RESTART", 10),
];

/// The lines, at most `height`, each at most `width` letters.
pub(super) fn draw(player: &Player, asked: Option<&str>, (width, height): (usize, usize)) -> Vec<String> {
    let output = Output { json: false, colours: true };
    let (to, total) = (player.state.to.position, player.frames.len());
    let how =
        if player.playing { format!("▶ ×{}", player.speed) } else { format!("‖ ×{}", player.speed) };
    let reading = if player.whole { "" } else { ", reading on" };
    let mut lines = vec![format!(
        "{how}  {}  position {} of {to}  fact {} of {total}{reading}",
        day_and_clock(player.time()),
        player.position(),
        player.at,
    )];
    lines.push(match player.current() {
        Some(frame) => {
            let text = format!("{}: {}", printable(&frame.whose), printable(&frame.fact.text));
            painted(output, frame.weight, &cut(&text, width))
        }
        None => output.paint(Colour::Dim, "the state that it begins with"),
    });
    lines.push(output.paint(Colour::Yellow, &cut(&held(player), width)));
    lines.push(output.paint(Colour::Dim, &cut(&heading(), width)));
    let bottom = 2;
    let room = height.saturating_sub(lines.len() + bottom);
    lines.extend(rows(player, (width, room), output));
    lines.push(output.paint(Colour::Dim, &cut(&changes(player), width)));
    lines.push(match asked {
        Some(asked) => format!("go to (a position, or a time): {asked}"),
        None => output.paint(Colour::Dim, &cut(KEYS, width)),
    });
    lines.truncate(height);
    lines
}

fn heading() -> String {
    COLUMNS.iter().map(|(_, heading, width)| format!("{heading:width$}")).collect::<Vec<_>>().join(" ")
}

/// Brakes, engines, holds, modes and alarms, on one line.
fn held(player: &Player) -> String {
    let said = player.shown.iter().filter_map(|((what, key), fields)| {
        let text = |field: &str| fields.get(field).map(short);
        match what.as_str() {
            "cell" => {
                let parts = ["brake", "circuit", "tokens", "observer_score"];
                let parts = parts.iter().filter_map(|part| Some(format!("{part} {}", text(part)?)));
                Some(format!("{key}: {}", parts.collect::<Vec<_>>().join(", ")))
            }
            "hold" => Some(format!("hold: {}", text("reason").unwrap_or_default())),
            "mode" => Some(format!("only recorded: {key}")),
            "alarm" => Some(format!("alarm: {key}")),
            _ => None,
        }
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() { "nothing holds anybody".to_owned() } else { printable(&said.join("  ")) }
}

/// Those that the fact changed come first where there is no room for all, then those that are not well.
fn rows(player: &Player, (width, room): (usize, usize), output: Output) -> Vec<String> {
    let is_changed = |key: &Key| player.changed.iter().any(|(changed, _)| changed == key);
    let there = player
        .shown
        .iter()
        .filter(|((what, _), fields)| what == "workspace" && !fields.contains_key("removed_at"));
    let mut all: Vec<(u8, String, &Key)> = there
        .map(|(key, fields)| {
            let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
            let well = text("status") == "online" && text("supervision") == "healthy";
            (if is_changed(key) { 0 } else { u8::from(well) + 1 }, text("name").to_owned(), key)
        })
        .collect();
    let more = all.len().saturating_sub(room);
    if more > 0 {
        all.sort();
        all.truncate(room.saturating_sub(1));
    }
    all.sort_by(|left, right| (&left.1, left.2).cmp(&(&right.1, right.2)));
    let mut lines: Vec<String> = all.iter().map(|(_, _, key)| row(player, key, (width, output))).collect();
    if more > 0 {
        lines.push(output.paint(Colour::Dim, &format!("and {} more", more + 1)));
    }
    lines.resize(room, String::new());
    lines
}

fn row(player: &Player, key: &Key, (width, output): (usize, Output)) -> String {
    let mut left = width;
    let cells = COLUMNS.iter().filter_map(|(field, _, wide)| {
        let wide = (*wide).min(left);
        left = left.saturating_sub(wide + 1);
        if wide == 0 {
            return None;
        }
        let value = player.shown.get(key).and_then(|fields| fields.get(*field));
        let text = format!("{:wide$}", cut(&value.map(short).unwrap_or_default(), wide));
        let is_new = player.changed.contains(&(key.clone(), (*field).to_owned()));
        Some(if is_new { format!("\x1b[7m{text}\x1b[0m") } else { coloured(field, &text, output) })
    });
    cells.collect::<Vec<_>>().join(" ")
}

fn coloured(field: &str, text: &str, output: Output) -> String {
    let colour = match (field, text.trim()) {
        ("status", "online") | ("supervision", "healthy") => Some(Colour::Green),
        ("status", "offline" | "failed") | ("supervision", "quarantined") => Some(Colour::Red),
        ("status" | "supervision", _) => Some(Colour::Yellow),
        _ => None,
    };
    output.paint_maybe(colour, text)
}

/// What the fact changed, on one line.
fn changes(player: &Player) -> String {
    let changes = player.current().map(|frame| frame.changes.as_slice()).unwrap_or_default();
    let told = changes.iter().filter(|change| !change.field.ends_with("_since"));
    let told =
        told.map(|change| format!("{} {} → {}", change.field, short(&change.before), short(&change.after)));
    told.collect::<Vec<_>>().join("   ")
}

fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}
