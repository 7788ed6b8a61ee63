//! Question: how many heartbeats a second does the whole server take, each one authenticated and a fact in the log?
//!
//! 200 external workspaces beat with their own tokens over 64 connections. The baseline is an actix-web server that answers
//! the same body and looks at nothing. Load generator and server share the machine. Goal: 30 000 a second on two cores.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Result;
use bytes::Bytes;
use serde_json::json;

use crate::load::{self, Outcome};
use crate::server::Server;
use crate::{Args, http, median, verdict};

const GOAL: f64 = 30_000.0;
const WORKSPACES: usize = 200;
const CONNECTIONS: usize = 64;

/// Prints what came out.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let scratch = tempfile::TempDir::new_in(&args.dir)?;
    let server = runtime.block_on(Server::start(args, &scratch.path().join("data"), "process", None))?;
    let beats = runtime.block_on(team(&server, if args.quick { 4 } else { WORKSPACES }))?;
    let bare = bare()?;
    let before = runtime.block_on(server.head())?;
    let (mut ours, mut baseline) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        baseline.push(load::run(bare, &deal(&beats, bare), args.span)?);
        ours.push(load::run(server.address, &deal(&beats, server.address), args.span)?);
    }
    let answered: u64 = ours.iter().map(|outcome| outcome.answers).sum();
    let recorded = runtime.block_on(server.recorded(before, answered))?;
    report(args, (&ours, &baseline), (recorded, answered));
    Ok(())
}

/// Creates workspaces; answers the id and token of each.
async fn team(server: &Server, size: usize) -> Result<Vec<(String, String)>> {
    let mut team = Vec::new();
    for n in 0..size {
        let body = json!({"name": format!("beats-{n}"), "runtime": "external", "delivery_mode": "poll"});
        let created = server.create(&body).await?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (id, token) = (text(&created["id"]), text(&created["connection"]["auth_token"]));
        let card = json!({"id": id, "delivery_mode": "poll", "agent_card": {"name": "bench"}});
        http::json(server.address, ("POST", "/registry/register"), &token, Some(&card)).await?;
        team.push((id, token));
    }
    Ok(team)
}

/// Deals the workspaces out over the connections.
fn deal(team: &[(String, String)], address: SocketAddr) -> Vec<Vec<Bytes>> {
    let mut connections = vec![vec![]; CONNECTIONS.min(team.len())];
    let last = connections.len();
    for (n, (id, token)) in team.iter().enumerate() {
        let body = json!({
            "workspace_id": id, "error_rate": 0.0, "sample_error": "", "active_tasks": 1, "uptime_seconds": n,
            "current_task": "summing up what the team found out",
        });
        connections[n % last].push(http::wire(address, "/registry/heartbeat", token, &body.to_string()));
    }
    connections
}

/// The baseline, on threads of its own until the program ends.
fn bare() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let app = || {
            let answer = |_: Bytes| async { HttpResponse::Ok().json(json!({ "status": "ok" })) };
            App::new().route("/registry/heartbeat", web::post().to(answer))
        };
        let server = HttpServer::new(app).workers(2).disable_signals().listen(listener)?;
        actix_web::rt::System::new().block_on(server.run())
    });
    Ok(address)
}

fn report(args: &Args, (ours, baseline): (&[Outcome], &[Outcome]), (recorded, answered): (u64, u64)) {
    let of =
        |outcomes: &[Outcome], pick: &dyn Fn(&Outcome) -> f64| median(outcomes.iter().map(pick).collect());
    let ratio = median(ours.iter().zip(baseline).map(|(ours, bare)| ours.rate / bare.rate).collect());
    for (name, outcomes) in [("bare actix-web", baseline), ("covalence", ours)] {
        println!(
            "{name:15} {:9.0}/s  p50 {:6.0} us  p99 {:6.0} us  refused {}",
            of(outcomes, &|outcome| outcome.rate),
            of(outcomes, &|outcome| outcome.p50_us),
            of(outcomes, &|outcome| outcome.p99_us),
            outcomes.iter().map(|outcome| outcome.refusals).sum::<u64>(),
        );
    }
    let rate = of(ours, &|outcome| outcome.rate);
    println!(
        "recorded {recorded} facts for {answered} beats; ratio to bare {ratio:.2}; goal {GOAL:.0}/s: {}",
        verdict(rate >= GOAL)
    );
    if args.quick {
        println!("(one short round: not a measurement)");
    }
}
