//! What a person sees: data on stdout, everything else on stderr, colour only where somebody looks.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde_json::Value;

use crate::cli::failure::{Exit, Failure, Outcome};
use crate::config::{Environment, Lookup as _};

/// Whether colour may be used, by the convention of no-color.org.
fn colours_wanted() -> bool {
    Environment.get("NO_COLOR").is_none_or(|value| value.is_empty())
        && Environment.get("TERM").as_deref() != Some("dumb")
}

/// Whether stderr is a terminal that shows colour.
pub fn stderr_has_colours() -> bool {
    io::stderr().is_terminal() && colours_wanted()
}

/// A colour of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// It is well.
    Green,
    /// It is on its way.
    Yellow,
    /// It is not well.
    Red,
    /// It is less important.
    Dim,
}

/// How a command writes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
    /// Whether text has colour.
    pub colours: bool,
}

impl Output {
    /// Writes to this process's stdout, in colour if it is a terminal.
    pub fn new(json: bool) -> Self {
        Self { json, colours: io::stdout().is_terminal() && colours_wanted() }
    }

    /// The same without colour.
    #[must_use]
    pub const fn plain(self) -> Self {
        Self { colours: false, ..self }
    }

    /// The text in a colour, where there is colour.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The text in a colour, where one is wanted.
    pub fn paint_maybe(self, colour: Option<Colour>, text: &str) -> String {
        colour.map_or_else(|| text.to_owned(), |colour| self.paint(colour, text))
    }

    /// One line on stdout.
    pub fn line(self, text: &str) -> Outcome {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.write_all(b"\n")?;
        // Each line at once: somebody may follow, through a pipe too.
        Ok(stdout.flush()?)
    }

    /// Bytes on stdout, as they are.
    pub fn bytes(self, bytes: &[u8]) -> Outcome {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// One JSON document on stdout.
    pub fn document(self, value: &Value) -> Outcome {
        let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
        self.line(&text)
    }

    /// Columns under headings on stdout.
    pub fn table(self, headings: &[&str], rows: &[Vec<Cell>]) -> Outcome {
        self.line(&self.render(headings, rows))
    }

    fn render(self, headings: &[&str], rows: &[Vec<Cell>]) -> String {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
            cells.max().unwrap_or(0).max(headings.get(column).map_or(0, |heading| heading.len()))
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        let head: Vec<Cell> = headings.iter().map(|heading| Cell::dim(heading)).collect();
        let lines: Vec<String> = std::iter::once(&head)
            .chain(rows)
            .map(|row| {
                let cells = row.iter().zip(&widths).map(|(cell, width)| {
                    let padding = " ".repeat(width.saturating_sub(cell.text.chars().count()));
                    let text = cell
                        .colour
                        .map_or_else(|| cell.text.clone(), |colour| self.paint(colour, &cell.text));
                    format!("{text}{padding}")
                });
                cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
            })
            .collect();
        lines.join("\n")
    }
}

/// One field of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// Plain text; control characters, which a name could carry, are made visible.
    pub fn new(text: &str) -> Self {
        Self { text: printable(text), colour: None }
    }

    /// Less important.
    pub fn dim(text: &str) -> Self {
        Self { text: printable(text), colour: Some(Colour::Dim) }
    }

    /// A workspace's status, in the colour of how it is.
    pub fn status(status: &str) -> Self {
        let colour = match status {
            "online" => Colour::Green,
            "failed" | "offline" => Colour::Red,
            "removed" | "paused" | "hibernating" | "hibernated" => Colour::Dim,
            _ => Colour::Yellow,
        };
        Self { text: printable(status), colour: Some(colour) }
    }

    /// It is on its way, or worth a look.
    pub fn warning(text: &str) -> Self {
        Self { text: printable(text), colour: Some(Colour::Yellow) }
    }

    /// It is not well.
    pub fn alarming(text: &str) -> Self {
        Self { text: printable(text), colour: Some(Colour::Red) }
    }

    /// A decision's word, in the colour of what it lets happen.
    pub fn judged(word: &str) -> Self {
        let colour = match word {
            "admitted" | "refuted" => Colour::Green,
            "suppressed" => Colour::Red,
            _ => Colour::Yellow,
        };
        Self { text: printable(word), colour: Some(colour) }
    }
}

/// The text on one line, without anything that a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// One line on stderr: progress, notes, errors. A closed stderr is no reason to fail.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Asks a person before something that can't be undone. Without a terminal, and without `--yes`, it is refused.
pub fn confirm(question: &str, yes: bool) -> Outcome {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{question} needs a confirmation, and there is no terminal"),
        )
        .hint("pass --yes to go ahead without a question"));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, "nothing was changed"))
}

/// A text field of a JSON object; empty if it is absent or null.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Output = Output { json: false, colours: false };

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let rows =
            [vec![Cell::new("lead"), Cell::status("online")], vec![Cell::new("ä"), Cell::status("failed")]];
        assert_eq!(PLAIN.render(&["NAME", "STATUS"], &rows), "NAME  STATUS\nlead  online\nä     failed");
    }

    #[test]
    fn colour_does_not_change_the_width() {
        let output = Output { json: false, colours: true };
        let rows = [vec![Cell::status("online"), Cell::new("x")]];
        assert!(output.render(&["STATUS", "N"], &rows).ends_with("\x1b[32monline\x1b[0m  x"));
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn without_a_terminal_a_question_is_refused_with_a_hint() {
        // The test runner's stdin is not a terminal in CI; on one, the question would wait for a person.
        if !io::stdin().is_terminal() {
            let failure = confirm("removing `lead`", false).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.to_string().contains("hint: pass --yes"));
        }
        assert!(confirm("removing `lead`", true).is_ok());
    }
}
