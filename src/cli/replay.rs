//! `covalence replay`: steps the fleet through its past, on a terminal or in lines.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use covalence_incidents::Weight;
use reqwest::Method;
use tokio::sync::mpsc;

use crate::cli::Shared;
use crate::cli::client::Lines;
use crate::cli::diff::{past, span, workspaces};
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::incidents::{Source, query};
use crate::cli::output::Output;
use crate::cli::when::When;
use crate::moments::replay::{Line, Reel, Step};

mod lines;
mod play;
mod player;
mod screen;
mod terminal;

/// Lines on their way from the log to the screen.
const AHEAD: usize = 4096;
/// Nobody watches nothing happen for longer.
const GAP_MAX: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
On a terminal: space plays and pauses, left and right step back and on, p and n go to the fact before and after that is
notable, + and - change the speed, g goes to a time or a position, home and end to the ends, q quits.
Elsewhere, or with --plain: a line for each fact, and one for each field that it changed.

Examples:
  covalence replay --from 03:00 --to 03:30    the night, step by step
  covalence replay --from -15m --speed 10     played ten times as fast as it happened
  covalence replay --from 1200 --to 1300 --workspace lead
  covalence replay --from -1h --plain --notable | less
  covalence replay --from 03:00 --to 03:30 --data-dir /var/lib/covalence
                                              without its server, from a copy of the log

Times: RFC 3339, a time of day (03:07), an age (-15m; s, m, h, d), or a position (1200).";

/// Step the fleet through its past: play, pause, back and on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Replay {
    /// Begin with the state at this time or position
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    from: When,
    /// End at this time or position [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    to: Option<When>,
    /// Play so many times as fast as it happened, 1 to 1000; without it a terminal begins paused, and lines come at once
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u16).range(1..=1000))]
    speed: Option<u16>,
    /// Only about this workspace, and what holds everybody: name, id, or the beginning of either; may be repeated
    #[arg(long = "workspace", short, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
    /// Leave out what only says that things go on as ever, such as heartbeats
    #[arg(long)]
    notable: bool,
    /// Print lines without colour, also on a terminal
    #[arg(long)]
    plain: bool,
}

impl Replay {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let output = shared.output();
        let source = Source::find(shared).await?;
        let (sender, read) = mpsc::channel(AHEAD);
        let ids = workspaces(&source, &self.workspaces).await?;
        let step = if self.notable { Step::Notable } else { Step::Fact };
        let span = span(self.from, self.to, &ids, false)?;
        let asked = Asked { from: self.from, to: self.to, ids: ids.into_iter().collect(), step };
        let reading = tokio::spawn(async move { asked.read(source, span, &sender).await });
        let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let shown = if output.json || self.plain || !on_terminal {
            lines::print(read, output.plain(), self.speed).await
        } else {
            play::run(read, self.speed).await
        };
        reading.abort();
        // The copy of a log is removed with its source.
        drop(reading.await);
        shown
    }
}

/// What is read.
#[derive(Debug)]
struct Asked {
    from: When,
    to: Option<When>,
    ids: Vec<String>,
    step: Step,
}

impl Asked {
    /// Passes the lines on until there are no more, or nobody wants them; a failure is the last thing that it passes on.
    async fn read(self, source: Source, span: crate::moments::Span, lines: &mpsc::Sender<Outcome<Line>>) {
        if let Err(failure) = self.lines(&source, span, lines).await {
            // Whoever has stopped reading does not want to know.
            drop(lines.send(Err(failure)).await);
        }
    }

    async fn lines(
        &self,
        source: &Source,
        span: crate::moments::Span,
        lines: &mpsc::Sender<Outcome<Line>>,
    ) -> Outcome {
        match source {
            Source::Server(client) => {
                let step = if self.step == Step::Notable { "notable" } else { "fact" };
                let mut asked = vec![("from", query(self.from)), ("step", step.to_owned())];
                asked.extend(self.to.map(|to| ("to", query(to))));
                if !self.ids.is_empty() {
                    asked.push(("workspace", self.ids.join(",")));
                }
                let request = client.request(Method::GET, &["replay"]).query(&asked);
                let mut answer = Lines::new(client.send(request).await?);
                while let Some(line) = answer.next().await.map_err(|error| client.transport_failure(error))? {
                    let line = serde_json::from_slice(&line).map_err(|error| {
                        Failure::new(Exit::Failure, format!("the server's answer is not understood: {error}"))
                    })?;
                    if lines.send(Ok(line)).await.is_err() {
                        break;
                    }
                }
            }
            Source::Copied(copied) => {
                let mut reel = Reel::open(past(copied), span, self.step).await?;
                while let Some(line) = reel.next().await? {
                    if lines.send(Ok(line)).await.is_err() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The colour of a fact by its weight.
const fn colour(weight: Weight) -> Option<crate::cli::output::Colour> {
    use crate::cli::output::Colour;
    match weight {
        Weight::Routine => Some(Colour::Dim),
        Weight::Plain => None,
        Weight::Good => Some(Colour::Green),
        Weight::Doubt => Some(Colour::Yellow),
        Weight::Bad => Some(Colour::Red),
    }
}

/// A replay that was cut off in the middle.
fn cut_off() -> Failure {
    Failure::new(Exit::Failure, "the replay was cut off before its end")
}

/// The text in the colour of its weight.
fn painted(output: Output, weight: Weight, text: &str) -> String {
    output.paint_maybe(colour(weight), text)
}
