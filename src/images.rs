//! Building the images that workspaces run in (R28): one base, one image per runtime on top, the base always first.
//!
//! The base is the static agent in an otherwise empty image. Each image is started once after it was built, and counts
//! only if its own health check passes. A command needs programs, and nothing here fetches any: they come from an image
//! that the engine has (`--base`), which gets the agent on top. Runtimes that bring an agent of their own (`claude-code`,
//! `langgraph` and the like) have no recipe here: their images come from elsewhere, and the error says so.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use covalence_actors::effect::BackendError;

use crate::backends::docker::ImageEngine;
use crate::runtimes::ImageNames;

/// The recipe of the base, the same that builds it by hand.
const BASE_DOCKERFILE: &str = include_str!("../agent/Dockerfile");
/// The base's name in `<prefix>/<name>:<channel>`.
const BASE: &str = "base";
/// Runtimes that this builds: each is the base and one variable.
pub const BUILDABLE: [&str; 2] = ["echo", "command"];
/// Beside the program, where a package puts it.
const STATIC_AGENT_NAME: &str = "covalence-agent-static";
/// A cold build of the agent takes two minutes on two cores; a busy machine several times that.
const CARGO_TIMEOUT: Duration = Duration::from_secs(1_800);
/// The agent is about 5 MB, unstripped about 60. More is not an agent.
const AGENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
const EXECUTABLE_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// What to build, and where.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// One runtime; `None`: all that can be built.
    pub runtime: Option<String>,
    /// `DOCKER_HOST`; `None`: the local socket.
    pub host: Option<String>,
    /// How images are named.
    pub names: ImageNames,
    /// An image with programs that the engine has, to put the agent on top of; `None`: an empty one.
    pub base: Option<String>,
    /// Runtimes that run a command of the configuration's: they can be built on a base.
    pub commands: BTreeSet<String>,
    /// A static `covalence-agent`; `None`: beside this program, else built with cargo from the sources here.
    pub agent_binary: Option<PathBuf>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// Nobody knows how to build that one.
    #[error(
        "no recipe for runtime `{runtime}`: this builds {}. An image that brings its own agent comes from elsewhere: \
         `docker pull`, `docker load` or `docker import` it as `{image}`, or name it in `[runtimes.{runtime}] image`. A \
         program without an agent runs under `command`: `images build command --base IMAGE` puts ours on top of it",
        BUILDABLE.join(" and ")
    )]
    NoRecipe {
        /// The runtime.
        runtime: String,
        /// The image that it would run in.
        image: String,
    },
    /// A runtime with a command of its own has nothing to run it in.
    #[error("runtime `{runtime}` runs a program: name an image that has it with `--base IMAGE`")]
    NeedsBase {
        /// The runtime.
        runtime: String,
    },
    /// A base is for one image.
    #[error("`--base` needs a runtime, such as `images build command --base IMAGE`")]
    BaseWithoutRuntime,
    /// There is no agent to put into an image.
    #[error(
        "no static `covalence-agent`: give `--agent-binary PATH`, put `{STATIC_AGENT_NAME}` beside this program, or run this in a source checkout"
    )]
    NoAgent,
    /// The agent's file can't be used.
    #[error("agent binary `{path}` can't be used: {reason}", path = path.display())]
    Agent {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Cargo did not build it.
    #[error("`cargo build` of the static agent: {reason}")]
    Cargo {
        /// Why.
        reason: String,
    },
    /// The archive for the engine could not be put together.
    #[error("build context")]
    Context(#[from] std::io::Error),
    /// The engine refused, failed or is not there.
    #[error(transparent)]
    Engine(#[from] BackendError),
}

/// Builds what is asked for and starts each image once. Answers the names of the images, the base first.
///
/// # Errors
/// See [`ImagesError`]. Images that were built before the failure stay.
pub async fn build(
    request: &BuildRequest,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<Vec<String>, ImagesError> {
    let runtimes = wanted(request)?;
    let engine = ImageEngine::new(request.host.as_deref());
    engine.check().await?;
    let path = agent_binary(request.agent_binary.as_deref(), progress).await?;
    let agent = read_agent(&path).await?;
    let mut built = Vec::new();
    let (below, has_agent) = if let Some(programs) = &request.base {
        (programs.clone(), false)
    } else {
        let base = image_name(&request.names, BASE);
        progress(&format!("building {base}"));
        engine.build(&base, context(BASE_DOCKERFILE, Some(&agent))?, &HashMap::new(), progress).await?;
        engine.verify(&base, check_environment("echo")).await?;
        built.push(base.clone());
        (base, true)
    };
    for name in runtimes {
        let image = image_name(&request.names, name);
        progress(&format!("building {image}"));
        // What is configured with a command runs under `command`, whatever it is called.
        let runtime = if BUILDABLE.contains(&name) { name } else { "command" };
        let recipe = if has_agent { format!("FROM {below}\n") } else { on_top_of(&below) };
        let recipe = format!("{recipe}ENV AGENT_RUNTIME={runtime}\n");
        let context = context(&recipe, (!has_agent).then_some(&agent[..]))?;
        engine.build(&image, context, &HashMap::new(), progress).await?;
        engine.verify(&image, check_environment(runtime)).await?;
        built.push(image);
    }
    Ok(built)
}

/// Which runtimes are to be built, if there is a recipe for what was asked.
fn wanted(request: &BuildRequest) -> Result<Vec<&str>, ImagesError> {
    let Some(runtime) = request.runtime.as_deref() else {
        return match request.base {
            Some(_) => Err(ImagesError::BaseWithoutRuntime),
            None => Ok(BUILDABLE.to_vec()),
        };
    };
    let runs_command = request.commands.contains(runtime);
    if BUILDABLE.contains(&runtime) || (runs_command && request.base.is_some()) {
        Ok(vec![runtime])
    } else if runs_command {
        Err(ImagesError::NeedsBase { runtime: runtime.to_owned() })
    } else {
        let image = image_name(&request.names, runtime);
        Err(ImagesError::NoRecipe { runtime: runtime.to_owned(), image })
    }
}

/// The base's recipe on an image that has programs, instead of an empty one.
fn on_top_of(programs: &str) -> String {
    BASE_DOCKERFILE.replacen("FROM scratch", &format!("FROM {programs}"), 1)
}

fn image_name(names: &ImageNames, name: &str) -> String {
    format!("{}/{name}:{}", names.prefix.trim_end_matches('/'), names.channel)
}

/// An agent that is only started to see whether it does: its platform is a port that nobody listens on.
fn check_environment(runtime: &str) -> Vec<String> {
    [
        "WORKSPACE_ID=image-check",
        "PLATFORM_URL=http://127.0.0.1:9",
        &format!("AGENT_RUNTIME={runtime}"),
        // The runtime `command` does not start without one; it is never run here.
        r#"AGENT_COMMAND=["/covalence-agent", "--version"]"#,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// A build context: the recipe and, where the agent is copied, that and an empty directory.
fn context(dockerfile: &str, agent: Option<&[u8]>) -> std::io::Result<Bytes> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut file = |path: &str, mode: u32, body: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(body.len() as u64);
        builder.append_data(&mut header, path, body)
    };
    file("Dockerfile", FILE_MODE, dockerfile.as_bytes())?;
    if let Some(agent) = agent {
        file("covalence-agent", EXECUTABLE_MODE, agent)?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o700);
        header.set_size(0);
        builder.append_data(&mut header, "configs", std::io::empty())?;
    }
    Ok(Bytes::from(builder.into_inner()?))
}

async fn agent_binary(
    given: Option<&Path>,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<PathBuf, ImagesError> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let beside =
        std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(STATIC_AGENT_NAME)));
    if let Some(path) = beside.filter(|path| path.is_file()) {
        return Ok(path);
    }
    if !Path::new("agent/Cargo.toml").is_file() {
        return Err(ImagesError::NoAgent);
    }
    progress("building the static agent with cargo");
    build_agent().await
}

/// Builds the agent from the sources in the working directory.
async fn build_agent() -> Result<PathBuf, ImagesError> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = tokio::process::Command::new("cargo");
    cargo
        .args([
            "build",
            "-p",
            "covalence-agent",
            "--profile",
            "image",
            "--target",
            &target,
            "--target-dir",
            "target",
        ])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .stdin(Stdio::null())
        // Cargo's own progress is for people, and standard output is for data.
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let status = match tokio::time::timeout(CARGO_TIMEOUT, cargo.status()).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(ImagesError::Cargo { reason: error.to_string() }),
        Err(_) => {
            return Err(ImagesError::Cargo { reason: format!("longer than {} s", CARGO_TIMEOUT.as_secs()) });
        }
    };
    if !status.success() {
        return Err(ImagesError::Cargo { reason: status.to_string() });
    }
    Ok(Path::new("target").join(target).join("image").join("covalence-agent"))
}

async fn read_agent(path: &Path) -> Result<Vec<u8>, ImagesError> {
    let unusable = |reason: String| ImagesError::Agent { path: path.to_owned(), reason };
    let metadata = tokio::fs::metadata(path).await.map_err(|error| unusable(error.to_string()))?;
    if metadata.len() > AGENT_BYTES_MAX {
        return Err(unusable(format!("it is larger than {AGENT_BYTES_MAX} bytes")));
    }
    let body = tokio::fs::read(path).await.map_err(|error| unusable(error.to_string()))?;
    match needs_interpreter(&body) {
        None => Err(unusable("it is not a 64-bit little-endian ELF program".to_owned())),
        Some(true) => Err(unusable(
            "it is dynamically linked, and the image has no libraries; build it with `-C target-feature=+crt-static`"
                .to_owned(),
        )),
        Some(false) => Ok(body),
    }
}

/// Whether an ELF program asks for a dynamic loader; none if it is no such program.
fn needs_interpreter(body: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let number = |from: usize, bytes: usize| -> Option<usize> {
        let field = body.get(from..from + bytes)?;
        field
            .iter()
            .rev()
            .try_fold(0_usize, |sum, &byte| sum.checked_mul(256)?.checked_add(usize::from(byte)))
    };
    if body.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(table.checked_add(index * size)?, 4)? == PT_INTERP as usize {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_runtime_without_recipe_is_refused_before_anything_is_asked() {
        let request = BuildRequest { runtime: Some("claude-code".to_owned()), ..BuildRequest::default() };
        let error = build(&request, &|_| {}).await.unwrap_err().to_string();
        assert!(
            error.starts_with("no recipe for runtime `claude-code`: this builds echo and command"),
            "{error}"
        );
        for remedy in ["`covalence/claude-code:latest`", "[runtimes.claude-code]", "--base IMAGE"] {
            assert!(error.contains(remedy), "it says what to do: {error}");
        }
    }

    #[test]
    fn a_base_is_for_one_runtime_and_a_configured_command_needs_one() {
        let ask = |runtime: Option<&str>, base: Option<&str>| {
            let request = BuildRequest {
                runtime: runtime.map(str::to_owned),
                base: base.map(str::to_owned),
                commands: BTreeSet::from(["shout".to_owned()]),
                ..BuildRequest::default()
            };
            wanted(&request)
                .map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        assert_eq!(ask(None, None).unwrap(), ["echo", "command"]);
        assert_eq!(ask(Some("command"), Some("tools:1")).unwrap(), ["command"]);
        assert_eq!(ask(Some("shout"), Some("tools:1")).unwrap(), ["shout"]);
        assert!(ask(Some("shout"), None).unwrap_err().contains("--base IMAGE"));
        assert!(ask(None, Some("tools:1")).unwrap_err().contains("needs a runtime"));
        assert!(ask(Some("codex"), Some("tools:1")).unwrap_err().starts_with("no recipe"));
    }

    #[test]
    fn the_agent_goes_on_top_of_an_image_with_programs_by_the_same_recipe() {
        let recipe = on_top_of("tools:1");
        assert!(recipe.contains("\nFROM tools:1\n") && !recipe.contains("FROM scratch"), "{recipe}");
        assert!(recipe.contains("COPY covalence-agent") && recipe.ends_with('\n'));
    }

    #[test]
    fn the_test_program_itself_is_dynamically_linked() {
        let body = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(needs_interpreter(&body), Some(true));
        assert_eq!(needs_interpreter(b"#!/bin/sh"), None);
        assert_eq!(needs_interpreter(b"\x7fELF\x02\x01"), None);
    }

    #[test]
    fn the_base_context_has_the_recipe_the_agent_and_an_empty_directory() {
        let bytes = context(BASE_DOCKERFILE, Some(b"agent")).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        let paths: Vec<_> = paths.iter().map(|path| path.trim_end_matches('/')).collect();
        assert_eq!(paths, ["Dockerfile", "covalence-agent", "configs"]);
    }
}
