//! `covalence images build`: the images that workspaces run in.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::output::note;
use crate::config::{Config, Environment};
use crate::images::{BuildRequest, ImagesError, build};
use crate::runtimes::Runner;

const EXAMPLES: &str = "\
The base is built first. Each image is started once, and counts only if its own health check passes.
Nothing is downloaded: a runtime that runs a program is built on an image that has it (--base), which
the engine has or pulls. An image that brings its own agent has no recipe here: pull, load or import it.

Examples:
  covalence images build                      the base and every runtime that has a recipe
  covalence images build echo
  covalence images build command --base debian:stable-slim
  covalence images build --agent-binary target/x86_64-unknown-linux-gnu/image/covalence-agent";

/// Build images of runtimes
#[derive(Debug, Args)]
pub(super) struct Images {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the image of one runtime, or of all that have a recipe
    #[command(after_help = EXAMPLES)]
    Build {
        /// Which runtime; all without one
        runtime: Option<String>,
        /// An image with programs to put the agent on top of; else an empty one
        #[arg(long, value_name = "IMAGE")]
        base: Option<String>,
        /// A statically linked covalence-agent; else the one beside this program, or built from the sources here
        #[arg(long, value_name = "FILE")]
        agent_binary: Option<PathBuf>,
    },
}

impl Images {
    pub(super) async fn run(self, shared: &Shared) -> Outcome {
        let Command::Build { runtime, base, agent_binary } = self.command;
        let config = Config::load(&shared.flags, &Environment)?;
        let request = BuildRequest {
            runtime,
            host: config.backend.docker_host,
            names: config.backend.images,
            base,
            commands: config
                .runtimes
                .iter()
                .filter(|runtime| matches!(runtime.runner, Runner::Command(Some(_))))
                .map(|runtime| runtime.name.clone())
                .collect(),
            agent_binary,
        };
        let built = build(&request, &note).await.map_err(failure)?;
        let output = shared.output();
        if output.json {
            return output.document(&json!({ "images": built }));
        }
        built.iter().try_for_each(|image| output.line(image))
    }
}

fn failure(error: ImagesError) -> Failure {
    let exit = match &error {
        ImagesError::NoRecipe { .. } => Exit::NotFound,
        ImagesError::NeedsBase { .. } | ImagesError::BaseWithoutRuntime => Exit::Usage,
        ImagesError::Engine(error) if matches!(error.code, "refused" | "not_found" | "timeout") => {
            Exit::Unreachable
        }
        ImagesError::NoAgent
        | ImagesError::Agent { .. }
        | ImagesError::Cargo { .. }
        | ImagesError::Context(_)
        | ImagesError::Engine(_) => Exit::Failure,
    };
    Failure { exit, ..Failure::from(anyhow::Error::from(error)) }
}
