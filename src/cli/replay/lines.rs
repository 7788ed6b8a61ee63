//! A replay in lines, for pipes and for who prefers to scroll.

use std::time::Duration;

use covalence_events::Timestamp;
use tokio::sync::mpsc;

use super::{GAP_MAX, cut_off, painted};
use crate::cli::failure::Outcome;
use crate::cli::incidents::{clock, day_and_clock};
use crate::cli::output::{Colour, Output, printable};
use crate::cli::value::short;
use crate::moments::replay::{FrameChange, Line};

/// Prints line after line, at once or in the pace in which it happened.
pub(super) async fn print(
    mut lines: mpsc::Receiver<Outcome<Line>>,
    output: Output,
    speed: Option<u16>,
) -> Outcome {
    let mut before = None;
    let mut names = Names::default();
    while let Some(line) = lines.recv().await {
        let line = line?;
        if let Some(speed) = speed {
            tokio::time::sleep(pause(&line, &mut before, speed)).await;
        }
        if output.json {
            output.line(&serde_json::to_string(&line).map_err(anyhow::Error::from)?)?;
        } else {
            for text in shown(&line, &mut names, output) {
                output.line(&text)?;
            }
        }
        if let Line::End(_) = line {
            return Ok(());
        }
    }
    Err(cut_off())
}

fn pause(line: &Line, before: &mut Option<Timestamp>, speed: u16) -> Duration {
    let at = match line {
        Line::State(state) => state.from.at,
        Line::Fact(frame) => frame.fact.at,
        Line::End(_) => return Duration::ZERO,
    };
    let Some(before) = before.replace(at) else { return Duration::ZERO };
    ((at - before).to_std().unwrap_or_default() / u32::from(speed)).min(GAP_MAX)
}

/// What subjects are called.
#[derive(Debug, Default)]
struct Names(std::collections::BTreeMap<(String, String), String>);

impl Names {
    fn of(&self, change: &FrameChange) -> String {
        let known = self.0.get(&(change.what.clone(), change.key.clone()));
        let name = known.map_or(change.key.as_str(), String::as_str);
        if change.what == "workspace" {
            name.to_owned()
        } else {
            format!("{} {name}", change.what).trim_end().to_owned()
        }
    }

    fn learn(&mut self, change: &FrameChange) {
        if change.field == "name"
            && let Some(name) = change.after.as_str()
        {
            self.0.insert((change.what.clone(), change.key.clone()), name.to_owned());
        }
    }
}

fn shown(line: &Line, names: &mut Names, output: Output) -> Vec<String> {
    match line {
        Line::State(state) => {
            let named =
                |one: &crate::moments::replay::Shown| ((one.what.clone(), one.key.clone()), one.name.clone());
            names.0.extend(state.subjects.iter().map(named));
            let there = state.subjects.iter().filter(|one| one.what == "workspace");
            let head = format!(
                "state at {} (position {}): {} workspaces",
                day_and_clock(state.from.at),
                state.from.position,
                there.filter(|one| !one.fields.contains_key("removed_at")).count()
            );
            vec![output.paint(Colour::Dim, &head)]
        }
        Line::Fact(frame) => {
            let said = format!("{}: {}", printable(&frame.whose), printable(&frame.fact.text));
            let at = format!("{}  {:>7}", clock(frame.fact.at), frame.fact.position);
            let mut texts = vec![format!("{at}  {}", painted(output, frame.weight, &said))];
            texts.extend(changed(&frame.changes, names));
            texts
        }
        Line::End(end) => {
            let mut texts = changed(&end.changes, names);
            texts.push(output.paint(Colour::Dim, &format!("the end, position {}", end.position)));
            texts
        }
    }
}

fn changed(changes: &[FrameChange], names: &mut Names) -> Vec<String> {
    for change in changes {
        names.learn(change);
    }
    // The time since which something is follows from the line above.
    let told = changes.iter().filter(|change| !change.field.ends_with("_since"));
    told.map(|change| {
        let (whose, field) = (printable(&names.of(change)), &change.field);
        format!("            {whose}  {field}  {} → {}", short(&change.before), short(&change.after))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: Output = Output { json: false, colours: false };

    fn lines() -> Vec<Line> {
        let change = |what: &str, key: &str, field: &str, after: &str| json!({"what": what, "key": key, "field": field, "before": null, "after": after});
        let fact = |position: u64, whose: &str, text: &str, changes: serde_json::Value| {
            json!({
                "kind": "fact", "position": position, "at": "2026-03-01T12:07:00.123Z", "type": "workspace.renamed.v1",
                "text": text, "id": "0b8f2a54-1111-4222-8333-444455556666", "workspace": null, "whose": whose,
                "weight": "plain", "changes": changes,
            })
        };
        let edge = |position: u64| json!({"position": position, "at": "2026-03-01T12:00:00Z"});
        let lead = json!({"what": "workspace", "key": "a1", "name": "lead", "fields": {"status": "online"}});
        let all = json!([
            {"kind": "state", "from": edge(40), "to": edge(43), "subjects": [lead]},
            fact(41, "lead", "called chief", json!([change("workspace", "a1", "name", "chief")])),
            fact(42, "fleet", "a hold", json!([
                change("hold", "h1", "reason", "new disk"), change("hold", "h1", "mode_since", "x"),
            ])),
            {"kind": "end", "position": 43, "changes": [change("workspace", "a1", "status", "offline")]},
        ]);
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn each_fact_stands_above_what_it_changed_and_a_new_name_is_used_at_once() {
        let mut names = Names::default();
        let texts: Vec<String> = lines()
            .iter()
            .flat_map(|line| shown(line, &mut names, PLAIN))
            .map(|text| text.trim().to_owned())
            .collect();
        let ends = [
            "(position 40): 1 workspaces",
            "41  lead: called chief",
            "chief  name  none → chief",
            "42  fleet: a hold",
            "hold h1  reason  none → new disk",
            "chief  status  none → offline",
            "the end, position 43",
        ];
        assert_eq!(texts.len(), ends.len(), "{texts:?}");
        for (text, end) in texts.iter().zip(ends) {
            assert!(text.ends_with(end), "{text}, not {end}");
        }
    }

    #[test]
    fn a_pause_is_what_passed_between_two_facts_by_the_speed_and_never_long() {
        let lines = lines();
        let mut before = None;
        assert_eq!(pause(&lines[0], &mut before, 100), Duration::ZERO);
        assert_eq!(pause(&lines[1], &mut before, 100), Duration::from_micros(4_201_230));
        assert_eq!(pause(&lines[2], &mut before, 100), Duration::ZERO);
        before = Some("2026-03-01T12:00:00Z".parse().unwrap());
        assert_eq!(pause(&lines[1], &mut before, 1), GAP_MAX);
        assert_eq!(pause(&lines[3], &mut before, 1), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_replay_without_its_end_is_a_failure() {
        let (sender, receiver) = mpsc::channel(1);
        drop(sender);
        assert!(print(receiver, PLAIN, None).await.unwrap_err().to_string().contains("cut off"));
    }
}
