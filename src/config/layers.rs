//! Four layers of values, each over the one before: built-in, file, environment, flag.
//!
//! Everything is text here; what a text means is decided in `config.rs`, once. Nothing here knows what a setting is for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use covalence_actors::policy::{ParameterError, Policy};

use crate::config::ConfigError;
use crate::config::settings::{SETTINGS, Setting, find};

/// A configuration file longer than this is a mistake, not a configuration.
const FILE_MAX: u64 = 1024 * 1024;

/// Where variables come from. Tests pass a map, so that they never set the process's environment.
pub trait Lookup {
    /// The variable's value, if it is set.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's environment.
#[derive(Clone, Copy, Debug)]
pub struct Environment;

impl Lookup for Environment {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Lookup for BTreeMap<&str, &str> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).map(|value| (*value).to_owned())
    }
}

/// Which layer a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// Follows from `--demo`.
    Demo,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Demo => f.write_str("--demo"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One setting's effective value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which setting.
    pub setting: &'static Setting,
    /// The value as text; `None` if it is unset.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
}

impl Entry {
    /// How the setting is called where this value comes from, for error texts.
    pub fn origin(&self) -> String {
        match &self.source {
            Source::Default | Source::Demo => format!("`{}`", self.setting.key),
            Source::File(path) => format!("`{}` in {}", self.setting.key, path.display()),
            Source::Environment(name) => format!("environment variable `{name}`"),
            Source::Flag => {
                let name = self.setting.key.rsplit('.').next().unwrap_or(self.setting.key);
                let name = if self.setting.key == "backend.kind" { "backend" } else { name };
                format!("flag `--{}`", name.replace('_', "-"))
            }
        }
    }
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Values by key.
    pub values: BTreeMap<&'static str, String>,
    /// `--demo`.
    pub demo: bool,
    /// `--stop-workspaces`.
    pub stop_workspaces: bool,
    /// `--naive`.
    #[cfg(feature = "fault-hooks")]
    pub naive: bool,
}

/// All settings' effective values, and what the file says besides.
#[derive(Clone, Debug)]
pub struct Layers {
    entries: BTreeMap<&'static str, Entry>,
    /// The `[runtimes]` table, uninterpreted.
    pub(super) runtimes: toml::Table,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What a person should know about ignored values.
    pub warnings: Vec<String>,
}

impl Layers {
    /// Reads all layers. The file is `--config`, else `COVALENCE_CONFIG`, else `covalence.toml` in the data directory if
    /// it is there.
    pub fn read(flags: &Flags, environment: &dyn Lookup) -> Result<Self, ConfigError> {
        let mut layers = Self::built_in();
        layers.apply_environment_and_flags(flags, environment);
        let named = flags.config.clone().or_else(|| {
            environment.get("COVALENCE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
        });
        let path = named
            .clone()
            .unwrap_or_else(|| Path::new(layers.text("data_dir").unwrap_or_default()).join("covalence.toml"));
        if named.is_some() || path.is_file() {
            layers.apply_file(&path)?;
            layers.file = Some(path);
        }
        layers.apply_environment_and_flags(flags, environment);
        if flags.demo {
            layers.imply_demo();
        }
        layers.derive_listen();
        Ok(layers)
    }

    fn built_in() -> Self {
        let entries = SETTINGS
            .iter()
            .map(|setting| {
                let value = setting.default.map(str::to_owned);
                (setting.key, Entry { setting, value, source: Source::Default })
            })
            .collect();
        Self { entries, runtimes: toml::Table::new(), file: None, warnings: Vec::new() }
    }

    fn apply_environment_and_flags(&mut self, flags: &Flags, environment: &dyn Lookup) {
        for setting in SETTINGS.iter() {
            if let Some(value) = flags.values.get(setting.key) {
                self.set(setting.key, value.clone(), Source::Flag);
                continue;
            }
            let Some(name) = setting.env else { continue };
            // Compose files and unit files pass unset variables on as empty ones.
            if let Some(value) = environment.get(name).filter(|value| !value.trim().is_empty()) {
                self.set(setting.key, value.trim().to_owned(), Source::Environment(name));
            }
        }
    }

    fn apply_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let read = |source| ConfigError::ReadFile { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(read)?.len();
        if length > FILE_MAX {
            return Err(ConfigError::FileTooLong { path: path.to_owned(), length });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let mut table: toml::Table =
            text.parse().map_err(|source| ConfigError::ParseFile { path: path.to_owned(), source })?;
        match table.remove("runtimes") {
            None => {}
            Some(toml::Value::Table(runtimes)) => self.runtimes = runtimes,
            Some(_) => {
                return Err(ConfigError::invalid(
                    format!("`runtimes` in {}", path.display()),
                    None,
                    "a table",
                ));
            }
        }
        let mut values = Vec::new();
        flatten("", table, &mut values);
        for (key, value) in values {
            let Some(setting) = find(&key) else {
                return Err(ConfigError::UnknownKey { path: path.to_owned(), hint: nearest(&key), key });
            };
            if setting.key == "data_dir" {
                return Err(ConfigError::DataDirInFile { path: path.to_owned() });
            }
            let origin = || format!("`{key}` in {}", path.display());
            let text = text_of(value).ok_or_else(|| {
                ConfigError::invalid(origin(), None, "a text, a number, true or false, or a list of texts")
            })?;
            self.set(setting.key, text, Source::File(path.to_owned()));
        }
        Ok(())
    }

    /// A demo is for trying things on one machine: it needs nothing but this program.
    fn imply_demo(&mut self) {
        let backend_is_set =
            ["backend.kind", "backend.container_backend"].iter().any(|key| self.text(key).is_some());
        if !backend_is_set {
            self.set("backend.kind", "process".to_owned(), Source::Demo);
        }
        for (key, value) in [("access.environment", "development"), ("workspaces.default_runtime", "echo")] {
            if self.text(key).is_none() {
                self.set(key, value.to_owned(), Source::Demo);
            }
        }
    }

    fn derive_listen(&mut self) {
        if self.text("server.listen").is_none() {
            let port = self.text("server.port").unwrap_or("8080");
            let value = format!("127.0.0.1:{port}");
            let source = self.entry("server.port").map_or(Source::Default, |entry| entry.source.clone());
            self.set("server.listen", value, source);
        }
    }

    fn set(&mut self, key: &'static str, value: String, source: Source) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.value = Some(value);
            entry.source = source;
        }
    }

    /// The effective value's text; `None` if it is unset or there is no such setting.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.entries.get(key)?.value.as_deref()
    }

    /// The effective value with its source.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All of them, in the order of [`SETTINGS`].
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        SETTINGS.iter().filter_map(|setting| self.entries.get(setting.key))
    }

    /// What the text means, by `parse`; `allowed` says what it accepts. `None` if the setting is unset.
    pub(super) fn parse<T>(
        &mut self,
        key: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(entry) = self.entries.get_mut(key) else { return Ok(None) };
        let Some(text) = &entry.value else { return Ok(None) };
        if let Some(value) = parse(text) {
            return Ok(Some(value));
        }
        let shown = (!entry.setting.secret).then(|| text.clone());
        let error = ConfigError::invalid(entry.origin(), shown, allowed);
        if !(entry.setting.lenient && matches!(entry.source, Source::Environment(_))) {
            return Err(error);
        }
        entry.value = entry.setting.default.map(str::to_owned);
        entry.source = Source::Default;
        let default = entry.value.clone().unwrap_or_default();
        self.warnings.push(format!("{error}; using {default}"));
        Ok(parse(&default))
    }
}

fn flatten(prefix: &str, table: toml::Table, into: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, into),
            leaf => into.push((key, leaf)),
        }
    }
}

fn text_of(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<String>> =
                items.into_iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// The setting that a person may have meant: one with the same last part in another section, or a parameter of the
/// supervision policy with nearly that name.
fn nearest(key: &str) -> Option<&'static str> {
    let last = key.rsplit('.').next()?;
    let elsewhere =
        SETTINGS.iter().map(|setting| setting.key).find(|known| known.rsplit('.').next() == Some(last));
    elsewhere.or_else(|| match Policy::default().set(key.strip_prefix("supervision.")?, "") {
        Err(ParameterError::Unknown { hint: Some(hint), .. }) => {
            find(&format!("supervision.{hint}")).map(|setting| setting.key)
        }
        _ => None,
    })
}
