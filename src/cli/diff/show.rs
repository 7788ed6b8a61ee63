//! Differences for people.

use std::fmt::Write as _;

use crate::cli::incidents::{clock, day_and_clock};
use crate::cli::output::{Colour, Output, printable};
use crate::cli::value::short;
use crate::moments::diff::{Diff, Differing, FieldDiffers, How};
use crate::moments::{Edge, Told};

/// Of a subject that came or went these say what it was; `--json` has the rest.
const TELLING: [&str; 11] = [
    "status",
    "backend",
    "runtime",
    "tier",
    "generation",
    "brake",
    "scope",
    "until",
    "message",
    "mode",
    "hash",
];

/// What differs, in lines.
pub(super) fn text(diff: &Diff, output: Output) -> String {
    let edge = |edge: Edge| format!("{} (position {})", day_and_clock(edge.at), edge.position);
    let mut lines = vec![
        output.paint(Colour::Dim, &format!("{} to {}: {} facts", edge(diff.from), edge(diff.to), diff.facts)),
    ];
    if diff.subjects.is_empty() {
        lines.push("nothing differs".to_owned());
    }
    for subject in &diff.subjects {
        lines.push(String::new());
        lines.extend(shown(subject, output));
    }
    let untold = diff.subjects.iter().flat_map(|subject| &subject.fields).any(|field| field.by.is_none());
    if untold && diff.traced_after > diff.from.position {
        lines.push(String::new());
        let note = format!("fields without a fact were changed at position {} or before", diff.traced_after);
        lines.push(output.paint(Colour::Dim, &note));
    }
    lines.join("\n")
}

fn shown(subject: &Differing, output: Output) -> Vec<String> {
    let (mark, colour) = match subject.how {
        How::Added => ("+", Colour::Green),
        How::Removed => ("-", Colour::Red),
        How::Changed => ("~", Colour::Yellow),
    };
    let mut head = format!("{mark} {}", subject.what);
    if !subject.name.is_empty() {
        let _ = write!(head, " {}", printable(&subject.name));
    }
    let mut lines = vec![output.paint(colour, &head)];
    match subject.how {
        How::Changed => {
            let width = subject.fields.iter().map(|field| field.field.chars().count()).max().unwrap_or(0);
            lines.extend(subject.fields.iter().map(|field| line(field, width, output)));
        }
        How::Added | How::Removed => {
            let was = |field: &FieldDiffers| {
                let value = if subject.how == How::Added { &field.after } else { &field.before };
                let telling = TELLING.contains(&field.field.as_str()) && !value.is_null();
                telling.then(|| format!("{} {}", field.field, short(value)))
            };
            let told: Vec<String> = subject.fields.iter().filter_map(was).collect();
            if !told.is_empty() {
                lines.push(format!("    {}", told.join(", ")));
            }
            if let Some(by) = &subject.by {
                lines.push(format!("    {}", output.paint(Colour::Dim, &because(by))));
            }
        }
    }
    lines
}

fn line(field: &FieldDiffers, width: usize, output: Output) -> String {
    let change = format!("{} → {}", short(&field.before), short(&field.after));
    let because = field.by.as_ref().map(because).unwrap_or_default();
    let line = format!("    {:width$}  {change}  {}", field.field, output.paint(Colour::Dim, &because));
    line.trim_end().to_owned()
}

fn because(fact: &Told) -> String {
    format!("← {} {} {}: {}", fact.position, clock(fact.at), fact.tag, printable(&fact.text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::incidents::without_times;

    fn diff() -> Diff {
        let told = |position: u64, tag: &str, text: &str| json!({"position": position, "at": "2026-03-01T12:07:00.123Z", "type": tag, "text": text});
        let edge = |position: u64, at: &str| json!({"position": position, "at": at});
        let field = |field: &str, before: Value, after: Value, by: Value| json!({"field": field, "before": before, "after": after, "by": by});
        let offline = told(60, "workspace.went_offline.v1", "offline: ended by signal 9");
        let made = told(50, "workspace.created.v1", "created");
        let lead = [
            field("status", json!("online"), json!("offline"), offline.clone()),
            field("status_since", json!("2026-03-01T11:00:00Z"), json!("2026-03-01T12:07:00Z"), offline),
            field("url", json!("http://a"), Value::Null, Value::Null),
            field("last_sample_error", Value::Null, json!("x".repeat(70)), Value::Null),
        ];
        let coder = [
            field("name", Value::Null, json!("coder"), made.clone()),
            field("status", Value::Null, json!("online"), Value::Null),
            field("generation", Value::Null, json!(1), Value::Null),
        ];
        let brake = [field("brake", json!("freeze"), Value::Null, Value::Null)];
        let subject = |what: &str, name: &str, how: &str, by: Value, fields: &[Value]| json!({"what": what, "key": name, "name": name, "how": how, "by": by, "fields": fields});
        serde_json::from_value(json!({
            "from": edge(40, "2026-03-01T12:00:00Z"), "to": edge(90, "2026-03-01T12:30:00Z"), "facts": 50,
            "traced_after": 45,
            "subjects": [
                subject("cell", "docker", "removed", Value::Null, &brake),
                subject("workspace", "coder", "added", made, &coder),
                subject("workspace", "lead", "changed", Value::Null, &lead),
            ],
        }))
        .unwrap()
    }

    #[test]
    fn what_came_went_and_changed_is_shown_with_the_fact_behind_it() {
        let plain = text(&diff(), Output { json: false, colours: false });
        insta::assert_snapshot!("plain", without_times(&plain));
    }

    #[test]
    fn colour_says_how_a_subject_differs() {
        let coloured = text(&diff(), Output { json: false, colours: true });
        for part in ["\x1b[31m- cell docker", "\x1b[32m+ workspace coder", "\x1b[33m~ workspace lead"] {
            assert!(coloured.contains(part), "{coloured}");
        }
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let empty = Diff { subjects: Vec::new(), ..diff() };
        assert!(text(&empty, Output { json: false, colours: false }).ends_with("\nnothing differs"));
    }
}
