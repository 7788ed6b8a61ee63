//! The benches that need more than one function: each question in a file of its own, one program for all of them, because
//! linking is what costs.
//!
//! `cargo bench --bench platform -- [mailbox|heartbeat|proxy|listeners|boot|heal]... [--quick] [--seconds S] [--rounds N]
//! [--program PATH] [--backend process|docker] [--kills N] [--dir DIR]`; without names it runs all six. Run as a test it does
//! one short round of each. `--program` names the `covalence` under test (`covalence-agent` is looked for beside it); without
//! it the one is taken that cargo built along with this program. `docs/performance.md` says what came out.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

mod agent;
mod boot;
mod cpu;
mod heal;
mod heartbeat;
mod http;
mod listeners;
mod load;
mod mailbox;
mod nginx;
mod proxy;
mod server;

const BENCHES: [&str; 6] = ["mailbox", "heartbeat", "proxy", "listeners", "boot", "heal"];

/// What was asked for.
#[derive(Clone, Debug)]
struct Args {
    /// Benches to run.
    names: Vec<String>,
    /// One short round: it shows that the bench works, and no more.
    quick: bool,
    /// For how long each load is put on.
    span: Duration,
    /// Interleaved rounds.
    rounds: usize,
    /// The server under test.
    program: PathBuf,
    /// What runs workspaces while they are killed.
    backend: String,
    /// How many are killed.
    kills: usize,
    /// Where data directories are made; must be on the disk in question.
    dir: PathBuf,
}

impl Args {
    fn parse() -> Result<Self> {
        let mut args = Self {
            names: Vec::new(),
            quick: true,
            span: Duration::from_secs(3),
            rounds: 3,
            program: PathBuf::from(env!("CARGO_BIN_EXE_covalence")),
            backend: "process".to_owned(),
            kills: 200,
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        };
        let (mut asked_quick, mut given) = (false, std::env::args().skip(1));
        while let Some(arg) = given.next() {
            let mut value = || given.next().with_context(|| format!("`{arg}` needs a value"));
            match arg.as_str() {
                // Cargo says this for `cargo bench`, and nothing for `cargo test --benches`.
                "--bench" => args.quick = false,
                "--quick" | "--test" => asked_quick = true,
                "--seconds" => args.span = Duration::from_secs_f64(value()?.parse()?),
                "--rounds" => args.rounds = value()?.parse()?,
                "--program" => args.program = PathBuf::from(value()?).canonicalize()?,
                "--backend" => args.backend = value()?,
                "--kills" => args.kills = value()?.parse()?,
                "--dir" => args.dir = value()?.into(),
                name if BENCHES.contains(&name) => args.names.push(name.to_owned()),
                other => bail!("`{other}` is neither an option nor one of {BENCHES:?}"),
            }
        }
        args.quick |= asked_quick;
        if args.names.is_empty() {
            args.names = BENCHES.map(str::to_owned).into();
        }
        if args.quick {
            (args.span, args.rounds, args.kills) = (Duration::from_millis(200), 1, 2);
        }
        Ok(args)
    }
}

/// The middle of some values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which that share of all values lies.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let place = (values.len() as f64 * share) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn verdict(held: bool) -> &'static str {
    if held { "holds" } else { "falls short" }
}

fn main() -> Result<()> {
    if agent::is_asked_for() {
        return agent::run();
    }
    let args = Args::parse()?;
    std::fs::create_dir_all(&args.dir)?;
    for name in &args.names {
        println!(
            "\n== {name} (load {})",
            std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
        );
        match name.as_str() {
            "mailbox" => mailbox::run(&args)?,
            "heartbeat" => heartbeat::run(&args)?,
            "proxy" => proxy::run(&args)?,
            "listeners" => listeners::run(&args)?,
            "boot" => boot::run(&args)?,
            _ => heal::run(&args)?,
        }
    }
    Ok(())
}
