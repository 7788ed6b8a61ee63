//! Question: what does the relay cost, with authentication, permit and recorded outcome, against a plain reverse proxy?
//!
//! The same request goes to the same agent directly, through nginx, and through the platform on behalf of a sibling workspace
//! with its own token; three interleaved rounds. At 16 connections and more everything competes for the same cores, so the
//! ratio is one of CPU cost, and what each of the two spends on a call stands beside it: neighbours change that least.
//! Floors: .60 of nginx at 16, 64 and 256 connections (goal .70); at one connection at most twice the time that nginx adds.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::json;

use crate::load::{self, Outcome};
use crate::nginx::Nginx;
use crate::server::Server;
use crate::{Args, http, median, verdict};

const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
const FLOOR: f64 = 0.60;
const ADDED_MAX: f64 = 2.0;
/// Size of a request's text, which makes the body about one KiB.
const TEXT_BYTES: usize = 860;

struct Round {
    direct: Outcome,
    nginx: Option<Loaded>,
    ours: Loaded,
}

/// What a proxy made of a load.
struct Loaded {
    outcome: Outcome,
    /// Microseconds of processor time for each answer.
    cpu_us: f64,
}

impl Loaded {
    fn measure(load: impl FnOnce() -> Result<Outcome>, cpu: impl Fn() -> Result<Duration>) -> Result<Self> {
        let before = cpu()?;
        let outcome = load()?;
        #[expect(clippy::cast_precision_loss, reason = "a count of a few million")]
        let cpu_us = cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / outcome.answers as f64;
        Ok(Self { outcome, cpu_us })
    }
}

/// Prints what came out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let scratch = tempfile::TempDir::new_in(&args.dir)?;
    let myself = std::env::current_exe()?;
    let server =
        runtime.block_on(Server::start(args, &scratch.path().join("data"), "process", Some(&myself)))?;
    let (id, token, agent) = runtime.block_on(team(&server))?;
    let nginx = Nginx::start(&scratch.path().join("nginx"), agent)?;
    let direct = message(agent, "/", "");
    let ours = message(server.address, &format!("/workspaces/{id}/a2a"), &token);
    let before = runtime.block_on(server.head())?;
    let mut rounds: Vec<Vec<Round>> = CONNECTIONS.map(|_| Vec::new()).into();
    for _ in 0..args.rounds {
        for (column, connections) in CONNECTIONS.into_iter().enumerate() {
            let load = |address, request: &Bytes| {
                load::run(address, &vec![vec![request.clone()]; connections], args.span)
            };
            rounds[column].push(Round {
                direct: load(agent, &direct)?,
                nginx: nginx
                    .as_ref()
                    .map(|nginx| Loaded::measure(|| load(nginx.address, &direct), || nginx.cpu()))
                    .transpose()?,
                ours: Loaded::measure(|| load(server.address, &ours), || server.cpu())?,
            });
        }
    }
    let answered: u64 = rounds.iter().flatten().map(|round| round.ours.outcome.answers).sum();
    let recorded = runtime.block_on(server.recorded(before, answered))?;
    println!(
        "{answered} calls relayed, {recorded} facts recorded, server's peak {:.0} MB",
        server.peak_mb()?
    );
    println!("every outcome is recorded: {}", verdict(recorded >= answered));
    report(&rounds);
    if args.quick {
        println!("(one short round: not a measurement)");
    }
    Ok(())
}

/// An agent to call, and a sibling that calls it: id of the one, token of the other, address of the agent.
async fn team(server: &Server) -> Result<(String, String, SocketAddr)> {
    let callee =
        server.create(&json!({"name": "callee", "runtime": "echo", "max_concurrent_tasks": 1000})).await?;
    let caller = server.create(&json!({"name": "caller", "runtime": "external"})).await?;
    let token = caller["connection"]["auth_token"].as_str().context("no token for the caller")?;
    let id = callee["id"].as_str().context("no id")?;
    // It may be heard from before its backend has said where it is.
    let started = server.fact(id, "workspace.instance_started.v1").await?;
    let url = started["data"]["url"].as_str().context("the agent has no address")?;
    let address = url.trim_start_matches("http://").trim_end_matches('/').parse()?;
    Ok((id.to_owned(), token.to_owned(), address))
}

fn message(address: SocketAddr, path: &str, token: &str) -> Bytes {
    let body = json!({
        "jsonrpc": "2.0", "id": "1", "method": "message/send",
        "params": {"message": {"messageId": "m", "role": "user", "kind": "message",
                               "parts": [{"kind": "text", "text": "y".repeat(TEXT_BYTES)}]}},
    });
    http::wire(address, path, token, &body.to_string())
}

fn report(rounds: &[Vec<Round>]) {
    println!(
        "connections |  direct/s   nginx/s    ours/s | x nginx x direct | CPU us nginx  ours x nginx | p50 us direct nginx  ours | p99 us nginx  ours | refused"
    );
    for (connections, rounds) in CONNECTIONS.into_iter().zip(rounds) {
        let of = |pick: &dyn Fn(&Round) -> f64| median(rounds.iter().map(pick).collect());
        let nginx =
            |round: &Round, pick: &dyn Fn(&Loaded) -> f64| round.nginx.as_ref().map_or(f64::NAN, pick);
        let rate = |loaded: &Loaded| loaded.outcome.rate;
        let ratio = of(&|round| rate(&round.ours) / nginx(round, &rate));
        println!(
            "{connections:11} | {:9.0} {:9.0} {:9.0} | {ratio:7.2} {:8.2} | {:12.1} {:5.1} {:7.2} | {:13.0} {:5.0} {:5.0} | {:12.0} {:5.0} | {}",
            of(&|round| round.direct.rate),
            of(&|round| nginx(round, &rate)),
            of(&|round| rate(&round.ours)),
            of(&|round| rate(&round.ours) / round.direct.rate),
            of(&|round| nginx(round, &|nginx| nginx.cpu_us)),
            of(&|round| round.ours.cpu_us),
            of(&|round| round.ours.cpu_us / nginx(round, &|nginx| nginx.cpu_us)),
            of(&|round| round.direct.p50_us),
            of(&|round| nginx(round, &|nginx| nginx.outcome.p50_us)),
            of(&|round| round.ours.outcome.p50_us),
            of(&|round| nginx(round, &|nginx| nginx.outcome.p99_us)),
            of(&|round| round.ours.outcome.p99_us),
            rounds.iter().map(|round| round.ours.outcome.refusals).sum::<u64>(),
        );
        if connections == 1 {
            let added = of(&|round| {
                (round.ours.outcome.p50_us - round.direct.p50_us)
                    / (nginx(round, &|nginx| nginx.outcome.p50_us) - round.direct.p50_us)
            });
            println!(
                "            | added p50 {added:.2} x nginx's, at most {ADDED_MAX}: {}",
                verdict(added <= ADDED_MAX)
            );
        } else {
            println!("            | floor {FLOOR:.2}: {}", verdict(ratio >= FLOOR));
        }
    }
}
