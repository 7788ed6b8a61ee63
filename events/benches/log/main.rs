//! Question: what does the log cost, against the least that durability can cost on this disk, and as it grows?
//!
//! `cargo bench -p covalence-events --bench log -- append [--check] [--json] [--seconds S] [--rounds N] [--dir DIR]`
//! compares durable appends with a plain file and with `SQLite`, in one run; `append.rs` has the floors. `--writers N --store
//! file|log|sqlite` measure one alone, for a profiler.
//!
//! `cargo bench -p covalence-events --bench log -- large [--facts N] [--workspaces N] [--keep DIR] [--check] [--dir DIR]`
//! writes a large log and asks it what people ask; `large.rs` has the bounds.
//!
//! `--check` tries three times and ends with status 1 where a bound is not held with a quarter of slack: no shared machine keeps
//! its speed for minutes. `--dir` must be on the disk in question, not on tmpfs. Run as a test both do a short round.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]
#![expect(clippy::cast_precision_loss, reason = "counts of millions, for ratios with two digits")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

mod append;
mod batched;
mod file;
mod large;
mod sqlite;

/// How often a check may be tried.
const TRIES: usize = 3;
/// What a bound may be missed by.
const SLACK: f64 = 0.25;

/// What is wished for.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
struct Args {
    append: bool,
    large: bool,
    check: bool,
    json: bool,
    /// Short rounds: whether it runs at all.
    quick: bool,
    dir: PathBuf,
    span: Duration,
    rounds: usize,
    facts: u64,
    workspaces: u32,
    keep: Option<PathBuf>,
    /// One of the counts of writers, instead of all.
    writers: Option<usize>,
    /// One of the stores, instead of all.
    store: Option<String>,
}

impl Args {
    fn read(given: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut args = Self {
            append: false,
            large: false,
            check: false,
            json: false,
            quick: true,
            dir: PathBuf::from("target"),
            span: Duration::from_secs(4),
            rounds: 3,
            facts: 1_000_000,
            workspaces: 1000,
            keep: None,
            writers: None,
            store: None,
        };
        let mut given = given.into_iter();
        let mut quick = false;
        while let Some(arg) = given.next() {
            let mut value = || given.next().with_context(|| format!("`{arg}` needs a value"));
            match arg.as_str() {
                "append" => args.append = true,
                "large" => args.large = true,
                // Cargo says this for `cargo bench`, and nothing for `cargo test --benches`.
                "--bench" => args.quick = false,
                "--quick" => quick = true,
                "--check" => args.check = true,
                "--json" => args.json = true,
                "--dir" => args.dir = value()?.into(),
                "--keep" => args.keep = Some(value()?.into()),
                "--seconds" => args.span = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--rounds" => args.rounds = value()?.parse()?,
                "--facts" => args.facts = value()?.parse()?,
                "--writers" => args.writers = Some(value()?.parse()?),
                "--store" => args.store = Some(value()?),
                "--workspaces" => args.workspaces = value()?.parse()?,
                // The test runner's own, such as `--test-threads`.
                unknown if args.quick || quick => drop(unknown.to_owned()),
                unknown => bail!("`{unknown}`: expected append, large and their options"),
            }
        }
        args.quick |= quick;
        if args.quick {
            (args.span, args.rounds, args.facts) = (Duration::from_millis(100), 1, 20_000);
        }
        if !args.append && !args.large {
            (args.append, args.large) = (true, true);
        }
        Ok(args)
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::read(std::env::args().skip(1))?;
    let dir = std::fs::canonicalize(&args.dir).unwrap_or_else(|_| PathBuf::from("."));
    let mut held = true;
    if args.append {
        held &= tried(&args, || append::run(&args, &dir))?;
    }
    if args.large {
        held &= large::run(&args, &dir)?;
    }
    Ok(if held || !args.check { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether one of a few tries holds; without a check one is made, whatever comes out.
fn tried(args: &Args, mut attempt: impl FnMut() -> Result<bool>) -> Result<bool> {
    let tries = if args.check { TRIES } else { 1 };
    for number in 1..=tries {
        if attempt()? {
            return Ok(true);
        }
        if number < tries {
            println!("a bound is not held: try {} of {tries}", number + 1);
        }
    }
    Ok(false)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
