//! Prepares a workspace's directory and starts its process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use covalence_actors::effect::{BackendError, ProvisionError, ProvisionSpec};
use covalence_events::workspace::WorkspaceAccess;

use super::ProcessSettings;
use super::record::{Layout, Survives, create_private, write_private};
use super::scan::{GENERATION_VARIABLE, INSTANCE_VARIABLE};
use crate::backends::config_files::{self, CONFIG_FILE, GENERATED_MARK};
use crate::backends::environment;
use crate::backends::redact::redact;
use crate::runtimes::{Runner, Runtime};

/// Everything that a start needs, worked out before anything is touched.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) argv: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    pub(super) withheld: Vec<String>,
    /// Names of variables whose values nobody is shown.
    pub(super) hidden: BTreeSet<String>,
}

/// What runs the workspace, and with what environment; refuses runtimes that are no plain process.
pub(super) fn plan(
    settings: &ProcessSettings,
    layout: &Layout,
    spec: &ProvisionSpec,
) -> Result<Plan, ProvisionError> {
    let runtime = settings
        .runtimes
        .get(&spec.runtime)
        .map_err(|unknown| failure("invalid_config", unknown.to_string()))?;
    let mut environment = environment::variables(&settings.environment, spec, &text(&layout.configs())?);
    let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
    add_runner(&mut set, runtime)?;
    let directory = match (&spec.workspace_dir, spec.workspace_access) {
        (Some(given), WorkspaceAccess::ReadOnly | WorkspaceAccess::ReadWrite) => PathBuf::from(given),
        (Some(_), WorkspaceAccess::None) | (None, _) => layout.work(),
    };
    set("AGENT_LISTEN_HOST", Ipv4Addr::LOCALHOST.to_string());
    set("AGENT_SESSION_DIR", text(&layout.session())?);
    set("WORKSPACE_DIR", text(&directory)?);
    set(INSTANCE_VARIABLE, settings.platform_instance.clone());
    set(GENERATION_VARIABLE, spec.generation.to_string());
    let hidden = spec.secrets.iter().map(|(name, _)| name.clone()).collect();
    Ok(Plan { argv: settings.agent.clone(), environment, directory, withheld: withheld(spec), hidden })
}

fn add_runner(
    set: &mut impl FnMut(&str, String) -> Option<String>,
    runtime: &Runtime,
) -> Result<(), ProvisionError> {
    let name = &runtime.name;
    match &runtime.runner {
        Runner::Echo => {
            set("AGENT_RUNTIME", "echo".to_owned());
        }
        Runner::Command(Some(line)) => {
            let argv = serde_json::to_string(&line.argv)
                .map_err(|error| failure("invalid_config", error.to_string()))?;
            set("AGENT_RUNTIME", "command".to_owned());
            set("AGENT_COMMAND", argv);
            set("AGENT_COMMAND_INPUT", line.input.as_str().to_owned());
            set("AGENT_COMMAND_TIMEOUT", line.timeout_seconds.to_string());
        }
        Runner::Command(None) => {
            let message =
                format!("runtime `{name}` has no command line: give the server one in `[runtimes.{name}]`");
            return Err(failure("invalid_config", message));
        }
        Runner::Image => {
            let image = runtime.image.as_deref().unwrap_or("its image");
            let message = format!(
                "runtime `{name}` runs from its image `{image}` only: start the server with `--backend docker`, \
                 or choose `echo` or `command`"
            );
            return Err(failure("image_missing", message));
        }
        Runner::External => {
            let message =
                format!("runtime `{name}` is nobody's process of ours: create the workspace as external");
            return Err(failure("invalid_config", message));
        }
    }
    Ok(())
}

/// What the tier promises and a plain process does not give.
fn withheld(spec: &ProvisionSpec) -> Vec<String> {
    let mut withheld: Vec<&str> = match spec.tier {
        1 => vec!["read-only root"],
        3 | 4 => vec!["memory limit", "cpu limit", "privileged"],
        _ => vec!["memory limit", "cpu limit"],
    };
    if spec.workspace_dir.is_some() && spec.workspace_access == WorkspaceAccess::ReadOnly {
        withheld.push("read-only workspace directory");
    }
    withheld.into_iter().map(str::to_owned).collect()
}

/// Makes the directories, the configuration (R26) and the token file. Blocking.
pub(super) fn prepare(
    settings: &ProcessSettings,
    layout: &Layout,
    spec: &ProvisionSpec,
) -> Result<(), ProvisionError> {
    let runtime = settings
        .runtimes
        .get(&spec.runtime)
        .map_err(|unknown| failure("invalid_config", unknown.to_string()))?;
    let prepared = |error: io::Error| {
        retryable("start_failed", format!("the workspace's directory can't be prepared: {error}"))
    };
    if spec.reset_session {
        match std::fs::remove_dir_all(layout.session()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(prepared(error)),
            _ => {}
        }
    }
    for directory in [layout.configs(), layout.work(), layout.session(), layout.logs()] {
        create_private(&directory).map_err(prepared)?;
    }
    let config = layout.configs().join(CONFIG_FILE);
    let is_kept = std::fs::read_to_string(&config).is_ok_and(|text| !text.starts_with(GENERATED_MARK));
    if !is_kept {
        for file in config_files::gather(spec, runtime, settings.templates.as_deref())? {
            let path = layout.configs().join(&file.path);
            if let Some(parent) = path.parent() {
                create_private(parent).map_err(prepared)?;
            }
            // Most starts are restarts, with the same configuration: nothing to write, nothing to flush.
            if !is_private_copy(&path, &file.body) {
                write_private(&path, &file.body, Survives::PowerCut).map_err(prepared)?;
            }
        }
    }
    let token = layout.configs().join(".auth_token");
    write_private(&token, spec.token.expose().as_bytes(), Survives::Platform).map_err(prepared)
}

/// Whether a file is there with this body, readable by nobody but us.
fn is_private_copy(path: &Path, body: &[u8]) -> bool {
    let is_private = std::fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600);
    is_private && std::fs::read(path).is_ok_and(|there| there == body)
}

/// A loopback port that nobody had a moment ago. Somebody may take it before the agent does: then the agent says so, and
/// another is tried.
pub(super) fn free_port() -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}

/// Starts the process in a group of its own, with nothing of ours but its log. Blocking. It outlives us: no pipe ties
/// it to the platform, and no signal to our group reaches it.
pub(super) fn spawn(plan: &Plan, log: &File) -> Result<u32, ProvisionError> {
    let (program, arguments) = plan
        .argv
        .split_first()
        .ok_or_else(|| failure("program_missing", "no program is configured for agents".to_owned()))?;
    if !plan.directory.is_dir() {
        let message = format!("the working directory `{}` is not there", plan.directory.display());
        return Err(failure("invalid_config", redact(&message, &[])));
    }
    let output = || log.try_clone().map(Stdio::from);
    let spawned = output().and_then(|out| Ok((out, output()?))).and_then(|(out, err)| {
        Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&plan.environment)
            .current_dir(&plan.directory)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
    });
    // Dropping the handle neither ends nor reaps the child: its watch does that.
    spawned.map(|child| child.id()).map_err(|error| spawn_failure(program, &error, plan))
}

fn spawn_failure(program: &str, error: &io::Error, plan: &Plan) -> ProvisionError {
    let name = Path::new(program).file_name().map_or_else(|| program.into(), |name| name.to_string_lossy());
    let mut failed = match error.kind() {
        io::ErrorKind::NotFound => failure(
            "program_missing",
            format!(
                "the agent's program `{name}` is not there: build it with `cargo build --workspace`, or set \
                 `COVALENCE_AGENT_PROGRAM` to its path"
            ),
        ),
        io::ErrorKind::PermissionDenied => {
            failure("program_missing", format!("the agent's program `{name}` may not be executed: {error}"))
        }
        _ => retryable("start_failed", redact(&format!("`{name}` could not be started: {error}"), &[])),
    };
    failed.command = Some(by_hand(plan));
    failed
}

/// The same start, to try in a shell. The token is in its file and not shown; values of other variables that look like
/// credentials are masked.
pub(super) fn by_hand(plan: &Plan) -> String {
    let mut out = format!("cd {} && env -i", shell(&plan.directory.to_string_lossy()));
    for (name, value) in &plan.environment {
        let pair = format!("{name}={value}");
        let is_credential = plan.hidden.contains(name) || redact(&pair, &[]).ends_with("[redacted]");
        let shown = if is_credential { format!("{name}=…") } else { pair };
        let _ = write!(out, " {}", shell(&shown));
    }
    for argument in &plan.argv {
        let _ = write!(out, " {}", shell(argument));
    }
    out
}

fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A failure that trying again does not mend.
pub(super) fn failure(code: &'static str, message: String) -> ProvisionError {
    ProvisionError { code, message, retryable: false, command: None }
}

/// A failure that may be gone the next time.
pub(super) fn retryable(code: &'static str, message: String) -> ProvisionError {
    ProvisionError { code, message, retryable: true, command: None }
}

/// A port's error as the reason why a start failed.
pub(super) fn unknown(error: &BackendError) -> ProvisionError {
    retryable("start_failed", redact(&error.detail, &[]))
}

fn text(path: &Path) -> Result<String, ProvisionError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| failure("invalid_config", "the data directory's path is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_body_readable_by_us_alone_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CONFIG_FILE);
        assert!(!is_private_copy(&path, b"a: 1\n"), "there is none");
        write_private(&path, b"a: 1\n", Survives::PowerCut).unwrap();
        assert!(is_private_copy(&path, b"a: 1\n"));
        assert!(!is_private_copy(&path, b"a: 2\n"), "another body");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!is_private_copy(&path, b"a: 1\n"), "others can read it");
        std::os::unix::fs::symlink(&path, directory.path().join("link")).unwrap();
        assert!(!is_private_copy(&directory.path().join("link"), b"a: 1\n"), "a link to it");
    }
}
