//! The `covalence-agent` binary: flags, configuration, logging, then run until a signal.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use covalence_agent::agent::Agent;
use covalence_agent::cli::{Cli, Command};
use covalence_agent::config::{self, Config, ProcessEnvironment};
use covalence_agent::health;

// Two workers: one call that is busy with bytes must not delay a heartbeat, and a host carries hundreds of agents.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Health) => {
            let address = config::health_address(&cli.options, &ProcessEnvironment)?;
            health::check(address).await.with_context(|| format!("the agent at {address} is not healthy"))?;
            Ok(ExitCode::SUCCESS)
        }
        None => serve(Config::resolve(&cli.options, &ProcessEnvironment)?).await,
    }
}

async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    // Not `EnvFilter`: this binary is copied into every container, and needs no regular expressions for its log.
    let filter: Targets = config
        .log_filter
        .parse()
        .with_context(|| format!("log filter `{}` is not valid", config.log_filter))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(filter).init();

    // Handlers come before the listener: a signal that arrives during the start must stop us too.
    let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
    let agent = Agent::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "stopping"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "stopping"),
        part = agent.failed() => {
            tracing::error!(part, "a part of the agent ended unexpectedly");
            agent.stop().await;
            return Ok(ExitCode::FAILURE);
        }
    }
    agent.stop().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
