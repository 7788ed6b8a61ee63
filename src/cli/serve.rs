//! `covalence serve`: the server itself.

use clap::Args;

use crate::cli::Shared;
use crate::cli::failure::{Failure, Outcome};
use crate::config::{Config, Environment};
use crate::{app, segments, shutdown, telemetry};

const EXAMPLES: &str = "\
Examples:
  covalence serve --demo                      a team of five, no Docker, no configuration
  covalence serve --backend docker            workspaces in containers
  covalence serve --listen 0.0.0.0:8080       for other machines too; needs credentials

SIGTERM and Ctrl-C drain, and leave workspaces running; the next start takes them over as they are.
A second signal ends the process at once. Log lines go to stderr.";

/// Run the server
#[expect(clippy::doc_markdown, reason = "these comments are help texts, where backticks would show")]
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// Address to listen on [env: COVALENCE_LISTEN] [default: 127.0.0.1:$PORT, 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where workspaces run: process or docker [env: COVALENCE_BACKEND] [default: docker where an engine answers]
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
    /// Create a team of five and let everyone on this machine in; Ctrl-C stops the team too
    #[arg(long)]
    demo: bool,
    /// Stop the workspaces too when the server stops; its next start brings them back
    #[arg(long)]
    stop_workspaces: bool,
    /// For tests: take every error of the engine for the death of what it was asked about
    #[cfg(feature = "fault-hooks")]
    #[arg(long, hide = true)]
    naive: bool,
}

impl Serve {
    pub(super) async fn run(self, shared: &mut Shared) -> Outcome {
        let flags = &mut shared.flags;
        flags.demo = self.demo;
        flags.stop_workspaces = self.stop_workspaces;
        #[cfg(feature = "fault-hooks")]
        {
            flags.naive = self.naive;
        }
        for (key, value) in [("server.listen", self.listen), ("backend.kind", self.backend)] {
            if let Some(value) = value {
                flags.values.insert(key, value);
            }
        }
        let config = Config::load(flags, &Environment)?;
        telemetry::init(&config.log).map_err(anyhow::Error::from)?;
        for warning in &config.warnings {
            tracing::warn!(reason = %warning, "a setting was ignored");
        }
        let token = shutdown::on_signal()?;
        app::run(config.clone(), token).await.map_err(|error| {
            let hint = segments::remedy(&error, &config);
            Failure { hint, ..Failure::from(error) }
        })
    }
}
