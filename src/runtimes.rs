//! The runtime registry (R27): what a runtime's name stands for.
//!
//! A runtime is an image (for container backends), perhaps a way to run it as a plain process, and the few facts that
//! provisioning needs. The table is closed: a name that is not in it is an error that lists the known ones, never a
//! fallback to another runtime. Operators add to it, or change entries, in the server's configuration
//! (`[runtimes.<name>]`); no request can, which is why a command line is a property of a runtime and of nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Claude Code keeps its conversations here, in the images that exist (R25).
const CLAUDE_SESSION_PATH: &str = "/root/.claude/sessions";
/// The model of generated configurations where neither request nor registry says one.
const MODEL_DEFAULT: &str = "anthropic:claude-opus-4-7";
/// A message may run for ten minutes: long enough for a tool-using model call, short enough to be seen the same hour.
const COMMAND_TIMEOUT_SECONDS_DEFAULT: u64 = 600;
/// A day: beyond it a timeout guards nothing.
const COMMAND_TIMEOUT_SECONDS_MAX: u64 = 86_400;
/// A name becomes part of an image reference and of directory names.
const NAME_BYTES_MAX: usize = 100;

/// One `[runtimes.<name>]` table of the configuration. What is absent keeps the built-in value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeTable {
    /// The whole image reference, instead of `<prefix>/<name>:<channel>`.
    pub image: Option<String>,
    /// Program and arguments that `covalence-agent` runs for each message; no shell is involved.
    pub command: Option<Vec<String>>,
    /// How that command gets the text of a message.
    pub input: Option<CommandInput>,
    /// Seconds after which that command is killed.
    pub timeout_seconds: Option<u64>,
    /// Where the runtime keeps its sessions inside a container.
    pub session_path: Option<String>,
    /// The model where nobody says one.
    pub model: Option<String>,
    /// Whether its configuration must come from a template, because a generated one is not enough.
    pub needs_template: Option<bool>,
}

/// The `[runtimes]` part of the configuration: tables by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuntimesConfig(pub BTreeMap<String, RuntimeTable>);

/// How images are named: `<prefix>/<runtime>:<channel>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageNames {
    /// Registry and organisation, without a trailing slash.
    pub prefix: String,
    /// The tag.
    pub channel: String,
}

impl Default for ImageNames {
    fn default() -> Self {
        Self { prefix: "covalence".to_owned(), channel: "latest".to_owned() }
    }
}

/// How a command gets the text of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandInput {
    /// On its standard input, which is then closed.
    #[default]
    Stdin,
    /// As its last argument.
    Argument,
}

impl CommandInput {
    /// The word that the agent's `AGENT_COMMAND_INPUT` takes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Argument => "argument",
        }
    }
}

/// A command line that the agent runs for each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// How the text is passed.
    pub input: CommandInput,
    /// After so many seconds it is killed.
    pub timeout_seconds: u64,
}

/// What answers messages of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// `covalence-agent`, answering what it was told.
    Echo,
    /// `covalence-agent`, running a command for each message; without a command line it is not configured yet.
    Command(Option<CommandLine>),
    /// Only the program in its image.
    Image,
    /// Nothing of ours (R50).
    External,
}

/// What a runtime's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name.
    pub name: String,
    /// Its image; none for `external`.
    pub image: Option<String>,
    /// What answers.
    pub runner: Runner,
    /// Where it keeps its sessions inside a container, if they survive a restart (R25).
    pub session_path: Option<String>,
    /// The model where nobody says one; none for runtimes that use no model.
    pub default_model: Option<String>,
    /// The template directories to try, in this order, where the workspace names none.
    pub default_templates: Vec<String>,
    /// Whether its configuration must come from a template, because a generated one is not enough.
    pub needs_template: bool,
}

/// Why the `[runtimes]` tables cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimesError {
    /// A name that can't be part of an image reference or directory name.
    #[error(
        "runtime name `{name}` must be lower-case letters, digits and `-`, at most {NAME_BYTES_MAX} of them"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A new runtime that nothing could run.
    #[error("runtime `{name}` is not built in, so `[runtimes.{name}]` needs `image` or `command`")]
    Nothing {
        /// Its name.
        name: String,
    },
    /// A field with a value that is not allowed.
    #[error("`runtimes.{name}.{field}` must be {allowed}")]
    Field {
        /// The runtime.
        name: String,
        /// The field.
        field: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// A name that is not in the registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown runtime `{name}`; known are {}", known.join(", "))]
pub struct UnknownRuntime {
    /// What was asked for.
    pub name: String,
    /// What there is, sorted.
    pub known: Vec<String>,
}

/// The registry.
#[derive(Clone, Debug)]
pub struct Runtimes {
    by_name: BTreeMap<String, Runtime>,
}

impl Runtimes {
    /// The built-in runtimes with the configured tables laid over them.
    pub fn new(config: &RuntimesConfig, images: &ImageNames) -> Result<Self, RuntimesError> {
        let mut by_name: BTreeMap<String, Runtime> =
            built_in(images).into_iter().map(|runtime| (runtime.name.clone(), runtime)).collect();
        for (name, table) in &config.0 {
            if !valid_name(name) {
                return Err(RuntimesError::Name { name: name.clone() });
            }
            let base = by_name.remove(name);
            by_name.insert(name.clone(), with_table(base, name, table, images)?);
        }
        Ok(Self { by_name })
    }

    /// What a name stands for.
    pub fn get(&self, name: &str) -> Result<&Runtime, UnknownRuntime> {
        self.by_name.get(name).ok_or_else(|| UnknownRuntime {
            name: name.to_owned(),
            known: self.by_name.keys().cloned().collect(),
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Runtime> {
        self.by_name.values()
    }
}

fn built_in(images: &ImageNames) -> Vec<Runtime> {
    let entry = |name: &str, runner: Runner, model: Option<&str>| Runtime {
        name: name.to_owned(),
        image: (runner != Runner::External).then(|| image_of(name, images)),
        runner,
        session_path: None,
        default_model: model.map(str::to_owned),
        default_templates: default_templates(name),
        needs_template: false,
    };
    let image = |name: &str| entry(name, Runner::Image, Some(MODEL_DEFAULT));
    vec![
        entry("echo", Runner::Echo, None),
        entry("command", Runner::Command(None), None),
        image("langgraph"),
        Runtime {
            session_path: Some(CLAUDE_SESSION_PATH.to_owned()),
            ..entry("claude-code", Runner::Image, Some("sonnet"))
        },
        image("openclaw"),
        image("crewai"),
        image("autogen"),
        image("deepagents"),
        image("hermes"),
        image("codex"),
        image("gemini-cli"),
        entry("external", Runner::External, None),
    ]
}

fn image_of(name: &str, images: &ImageNames) -> String {
    format!("{}/{name}:{}", images.prefix.trim_end_matches('/'), images.channel)
}

fn default_templates(name: &str) -> Vec<String> {
    vec![format!("{name}-default"), name.to_owned()]
}

fn with_table(
    base: Option<Runtime>,
    name: &str,
    table: &RuntimeTable,
    images: &ImageNames,
) -> Result<Runtime, RuntimesError> {
    let field = |field, allowed| RuntimesError::Field { name: name.to_owned(), field, allowed };
    if base.as_ref().is_some_and(|runtime| runtime.runner == Runner::External) {
        return Err(field(
            "image",
            "absent with all other fields: an external runtime is nobody's process of ours",
        ));
    }
    if base.is_none() && table.image.is_none() && table.command.is_none() {
        return Err(RuntimesError::Nothing { name: name.to_owned() });
    }
    if table.session_path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        return Err(field("session_path", "an absolute path"));
    }
    let mut runtime = base.unwrap_or_else(|| Runtime {
        name: name.to_owned(),
        image: Some(image_of(name, images)),
        runner: Runner::Image,
        session_path: None,
        default_model: None,
        default_templates: default_templates(name),
        needs_template: false,
    });
    if let Some(argv) = &table.command {
        if argv.first().is_none_or(String::is_empty) {
            return Err(field("command", "an array of strings that begins with a program"));
        }
        let timeout_seconds = table.timeout_seconds.unwrap_or(COMMAND_TIMEOUT_SECONDS_DEFAULT);
        if !(1..=COMMAND_TIMEOUT_SECONDS_MAX).contains(&timeout_seconds) {
            return Err(field("timeout_seconds", "a whole number from 1 to 86400"));
        }
        let input = table.input.unwrap_or_default();
        runtime.runner = Runner::Command(Some(CommandLine { argv: argv.clone(), input, timeout_seconds }));
    } else if table.input.is_some() || table.timeout_seconds.is_some() {
        return Err(field("command", "given, since `input` and `timeout_seconds` speak of it"));
    }
    runtime.image = table.image.clone().or(runtime.image);
    runtime.session_path = table.session_path.clone().or(runtime.session_path);
    runtime.default_model = table.model.clone().or(runtime.default_model);
    runtime.needs_template = table.needs_template.unwrap_or(runtime.needs_template);
    Ok(runtime)
}

fn valid_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(inner) && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes(toml: &str) -> Result<Runtimes, RuntimesError> {
        Runtimes::new(&toml::from_str(toml).unwrap(), &ImageNames::default())
    }

    #[test]
    fn an_unknown_runtime_is_refused_with_the_known_names() {
        let error = runtimes("").unwrap().get("langraph").unwrap_err();
        assert!(error.to_string().starts_with("unknown runtime `langraph`; known are autogen, claude-code,"));
        assert!(error.known.contains(&"gemini-cli".to_owned()));
    }

    #[test]
    fn images_follow_prefix_and_channel() {
        let images = ImageNames { prefix: "registry.example/team/".to_owned(), channel: "v2".to_owned() };
        let runtimes = Runtimes::new(&RuntimesConfig::default(), &images).unwrap();
        assert_eq!(runtimes.get("codex").unwrap().image.as_deref(), Some("registry.example/team/codex:v2"));
        assert_eq!(runtimes.get("external").unwrap().image, None);
    }

    #[test]
    fn only_claude_code_keeps_sessions_by_default() {
        let runtimes = runtimes("").unwrap();
        let keeping: Vec<_> = runtimes
            .iter()
            .filter(|runtime| runtime.session_path.is_some())
            .map(|r| r.name.as_str())
            .collect();
        assert_eq!(keeping, ["claude-code"]);
    }

    #[test]
    fn a_configured_command_becomes_a_runtime_of_its_own() {
        let runtimes = runtimes("[shout]\ncommand = [\"tr\", \"a-z\", \"A-Z\"]\ninput = \"stdin\"").unwrap();
        let Runner::Command(Some(line)) = &runtimes.get("shout").unwrap().runner else {
            panic!("not a command")
        };
        assert_eq!(line.argv, ["tr", "a-z", "A-Z"]);
        assert_eq!(line.timeout_seconds, COMMAND_TIMEOUT_SECONDS_DEFAULT);
    }

    #[test]
    fn tables_that_say_nothing_runnable_are_refused() {
        for (toml, field) in [
            ("[new]\nmodel = \"x\"", "runtimes.new"),
            ("[command]\ncommand = []", "runtimes.command.command"),
            ("[command]\ntimeout_seconds = 5", "runtimes.command.command"),
            ("[command]\ncommand = [\"cat\"]\ntimeout_seconds = 0", "runtimes.command.timeout_seconds"),
            ("[external]\nimage = \"x\"", "runtimes.external.image"),
            ("[\"Bad Name\"]\nimage = \"x\"", "runtime name `Bad Name`"),
        ] {
            let error = runtimes(toml).unwrap_err().to_string();
            assert!(error.contains(field), "`{toml}` said `{error}`");
        }
    }
}
