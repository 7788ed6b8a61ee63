//! Random worlds in large numbers: `cargo run -p covalence-actors --example simulate -- --seeds 10000 [--from 0] [--story]
//! [--first]`. Says which seeds broke a rule, and the shortest plan that still does; with `--story`, all that happened in it.
//! With `--first` it stops at the first such seed, and says no more than that.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;
use std::time::Instant;

use covalence_actors::simulation::storm::Plan;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut from, mut story, mut first) = (1_000_u64, 0_u64, false, false);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--seeds" => seeds = number().unwrap_or(seeds),
            "--from" => from = number().unwrap_or(from),
            "--story" => story = true,
            "--first" => first = true,
            other => {
                println!("unknown argument `{other}`: expected --seeds N, --from N, --story, --first");
                return ExitCode::from(2);
            }
        }
    }
    let began = Instant::now();
    let (mut broken, mut facts, mut restarts, mut slowest) = (0_u64, 0, 0, 0);
    std::panic::set_hook(Box::new(|_| {}));
    for seed in from..from + seeds {
        let plan = Plan::draw(seed);
        let ending = plan.run();
        facts += ending.facts;
        restarts += ending.restarts;
        slowest = slowest.max(ending.healed_after);
        if ending.broken.is_empty() {
            continue;
        }
        if first {
            println!("seed {seed}: {}", ending.broken[0]);
            return ExitCode::FAILURE;
        }
        broken += 1;
        let shortest = plan.shorten();
        let told = shortest.run();
        println!("seed {seed}, {} workspaces: {:#?}\n  shortest plan:", plan.setup.workspaces, told.broken);
        for (at, fault) in &shortest.faults {
            println!("    {:>6}.{:03} s {fault:?}", at / 1000, at % 1000);
        }
        if story {
            let (world, _) = shortest.live();
            println!("{}", world.history().story(200_000));
        }
    }
    println!(
        "{seeds} seeds in {:.1} s: {broken} broke a rule; {facts} facts, {restarts} restarts, healed within {} s",
        began.elapsed().as_secs_f64(),
        slowest / 1000
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
