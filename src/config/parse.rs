//! What each setting's text means.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use covalence_actors::effect::Secret;
use covalence_actors::policy::parameters::PARAMETERS;
use covalence_actors::policy::{ParameterError, Policy};
use covalence_events::keyring::MasterKey;
use covalence_events::retention::{ACTIVITY_DEFAULT, HEARTBEATS_MIN, Rules};
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::config::{
    Access, Alarms, Backend, BackendChoice, Calls, ConfigError, Layers, LogFormat, Logging, Segments, Server,
    TierLimits, Workspaces,
};
use crate::http::workspaces::traces::Tracing;
use crate::runtimes::{ImageNames, Runtimes, RuntimesConfig};
use crate::segments::Destination;

const ADDRESS: &str = "an address and a port, such as `127.0.0.1:8080` or `[::1]:8080`";
const PORT: &str = "a port, 0 to 65535";
const POSITIVE: &str = "a whole number from 1 to 4294967295";
const DURATION: &str = "seconds, or a duration such as `500ms`, `90s`, `10m` or `2h`, more than 0";
const HEARTBEATS: &str = "days, such as `7d`, from `1d` to `365d`, or `off`";
const ACTIVITY: &str = "days, such as `90d`, from `31d` to `365d`, or `off`";
const HTTP_URL: &str = "an `http://` or `https://` address";
const BACKENDS: &str = "`process` or `docker`";

/// A year: longer durations are slips of the keyboard, and would overflow sums of times.
const DURATION_MAX: Duration = Duration::from_hours(365 * 24);

/// A setting that has a default always has a value; the fallback is for a table that lost it.
fn or_invalid<T>(layers: &Layers, key: &str, value: Option<T>, allowed: &str) -> Result<T, ConfigError> {
    value.ok_or_else(|| {
        let origin = layers.entry(key).map_or_else(|| format!("`{key}`"), super::layers::Entry::origin);
        ConfigError::invalid(origin, None, allowed)
    })
}

fn required<T>(
    layers: &mut Layers,
    key: &str,
    allowed: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, ConfigError> {
    let value = layers.parse(key, allowed, parse)?;
    or_invalid(layers, key, value, allowed)
}

fn text(layers: &mut Layers, key: &str) -> Result<Option<String>, ConfigError> {
    layers.parse(key, "a text", |text| Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn path(layers: &mut Layers, key: &str) -> Result<Option<PathBuf>, ConfigError> {
    Ok(text(layers, key)?.map(PathBuf::from))
}

fn address(layers: &mut Layers, key: &str) -> Result<Option<Url>, ConfigError> {
    layers.parse(key, HTTP_URL, |text| {
        Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    })
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// A positive duration: a bare number counts seconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let value = match unit.trim() {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        "d" => Duration::from_secs(number.checked_mul(86_400)?),
        _ => return None,
    };
    (!value.is_zero() && value <= DURATION_MAX).then_some(value)
}

pub(super) fn server(layers: &mut Layers) -> Result<Server, ConfigError> {
    // The port is checked by itself, so that its error names it and not the address made from it.
    required(layers, "server.port", PORT, |text| u16::from_str(text).ok())?;
    Ok(Server {
        listen: required(layers, "server.listen", ADDRESS, |text| SocketAddr::from_str(text).ok())?,
        platform_url: address(layers, "server.platform_url")?,
        external_platform_url: address(layers, "server.external_platform_url")?,
        cors_origins: required(layers, "server.cors_origins", "origins separated by commas", |text| {
            Some(list(text))
        })?,
        rate_limit: required(layers, "server.rate_limit", POSITIVE, |text| NonZeroU32::from_str(text).ok())?,
        workers: layers.parse("server.workers", "a whole number from 1 to 1024", |text| {
            NonZeroUsize::from_str(text).ok().filter(|workers| workers.get() <= 1024)
        })?,
    })
}

pub(super) fn access(layers: &mut Layers) -> Result<Access, ConfigError> {
    let deploy_mode = layers.parse("access.deploy_mode", "`saas` or `self-hosted`", |text| match text {
        "saas" | "self-hosted" | "selfhosted" => Some(text.to_owned()),
        _ => None,
    })?;
    let visible = |text: &str| {
        let valid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        valid.then(|| Secret::new(text.to_owned()))
    };
    let environment = text(layers, "access.environment")?.map(|text| text.trim().to_lowercase());
    let test_tokens = layers.parse("access.test_tokens", "`1` or `0`", |text| match text {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    })?;
    Ok(Access {
        enrolment: required(layers, "access.enrolment", DURATION, |text| {
            TimeDelta::from_std(duration(text)?).ok()
        })?,
        test_tokens: test_tokens.unwrap_or_else(|| environment.as_deref() != Some("production")),
        admin_token: layers.parse("access.admin_token", "visible ASCII without spaces", visible)?,
        environment,
        organisation: text(layers, "access.organisation")?,
        organisation_slug: text(layers, "access.organisation_slug")?,
        control_plane: address(layers, "access.control_plane")?,
        canvas: address(layers, "access.canvas")?,
        deploy_mode,
        encryption_key: encryption_key(layers)?,
    })
}

/// Only with all three: a service that can't be asked is as good as none.
pub(super) fn tracing(layers: &mut Layers) -> Result<Option<Tracing>, ConfigError> {
    let host = address(layers, "tracing.host")?;
    let public_key = text(layers, "tracing.public_key")?;
    let secret_key = text(layers, "tracing.secret_key")?.map(Secret::new);
    Ok(host.zip(public_key).zip(secret_key).map(|((host, public_key), secret_key)| Tracing {
        host,
        public_key,
        secret_key,
    }))
}

pub(crate) fn encryption_key(layers: &mut Layers) -> Result<Option<MasterKey>, ConfigError> {
    layers.parse("access.encryption_key", "base64 of 32 bytes, or 32 bytes that are not base64", master_key)
}

/// Base64 of 32 bytes; what is not base64 at all may be the 32 bytes themselves, as the wire contract has it.
pub(crate) fn master_key(text: &str) -> Option<MasterKey> {
    let bytes = match STANDARD.decode(text) {
        Ok(bytes) => bytes.try_into().ok(),
        Err(_) => text.as_bytes().try_into().ok(),
    };
    bytes.map(MasterKey::new)
}

pub(super) fn backend(layers: &mut Layers) -> Result<Backend, ConfigError> {
    Ok(Backend {
        choice: backend_choice(layers)?,
        docker_host: layers.parse(
            "backend.docker_host",
            "`unix://PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`",
            |text| {
                let known = ["unix://", "tcp://", "http://"].iter().any(|scheme| text.starts_with(scheme));
                known.then(|| text.to_owned())
            },
        )?,
        network: required(
            layers,
            "backend.network",
            "a name of letters, digits, `_`, `.` and `-`",
            |text| {
                let valid = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
                (valid && !text.is_empty()).then(|| text.to_owned())
            },
        )?,
        images: ImageNames {
            prefix: required(
                layers,
                "backend.image_registry",
                "a registry or namespace without a slash at its end",
                |text| {
                    let valid =
                        !text.is_empty() && !text.ends_with('/') && !text.contains(char::is_whitespace);
                    valid.then(|| text.to_owned())
                },
            )?,
            channel: required(layers, "backend.image_channel", "an image tag", |text| {
                let valid = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
                (valid && !text.is_empty() && text.len() <= 128).then(|| text.to_owned())
            })?,
        },
        agent_program: path(layers, "backend.agent_program")?,
    })
}

/// What was said explicitly wins over the contract's variable, which wins over what follows from a tenant (R21).
fn backend_choice(layers: &mut Layers) -> Result<Option<BackendChoice>, ConfigError> {
    let own = |text: &str| match text {
        "process" => Some(BackendChoice::Process),
        "docker" => Some(BackendChoice::Docker),
        _ => None,
    };
    if let Some(choice) = layers.parse("backend.kind", BACKENDS, own)? {
        return Ok(Some(choice));
    }
    if layers.text("backend.container_backend") == Some("flyio") {
        return Err(ConfigError::NoSuchBackend { origin: "`CONTAINER_BACKEND`", name: "flyio" });
    }
    if let Some(choice) = layers.parse("backend.container_backend", BACKENDS, own)? {
        return Ok(Some(choice));
    }
    if layers.text("access.organisation").is_some() {
        return Err(ConfigError::NoSuchBackend { origin: "`MOLECULE_ORG_ID`", name: "control plane" });
    }
    Ok(None)
}

pub(super) fn workspaces(layers: &mut Layers) -> Result<Workspaces, ConfigError> {
    let roots = layers.parse("workspaces.roots", "absolute paths separated by commas", |text| {
        let roots: Vec<PathBuf> = list(text).into_iter().map(PathBuf::from).collect();
        roots.iter().all(|root| root.is_absolute()).then_some(roots)
    })?;
    let roots = roots.unwrap_or_default();
    let below = |text: &str| {
        let path = Path::new(text);
        let plain = path.is_absolute() && !path.components().any(|part| part.as_os_str() == "..");
        (plain && roots.iter().any(|root| path.starts_with(root))).then(|| path.to_owned())
    };
    let workspace_dir = layers.parse(
        "workspaces.workspace_dir",
        "an absolute path below one of `COVALENCE_WORKSPACE_ROOTS`",
        below,
    )?;
    Ok(Workspaces {
        default_runtime: text(layers, "workspaces.default_runtime")?,
        privileged_tier_max: layers.parse(
            "workspaces.allow_privileged",
            "`3` or `4`",
            |text| match text {
                "3" => Some(3),
                "4" => Some(4),
                _ => None,
            },
        )?,
        workspace_dir,
        roots,
        configs_dir: path(layers, "workspaces.configs_dir")?,
        awareness_url: address(layers, "workspaces.awareness_url")?,
        tiers: [
            tier(layers, "workspaces.tier2.memory_mb", "workspaces.tier2.cpu_shares")?,
            tier(layers, "workspaces.tier3.memory_mb", "workspaces.tier3.cpu_shares")?,
            tier(layers, "workspaces.tier4.memory_mb", "workspaces.tier4.cpu_shares")?,
        ],
    })
}

fn tier(layers: &mut Layers, memory: &str, cpu: &str) -> Result<TierLimits, ConfigError> {
    let number = |text: &str| NonZeroU32::from_str(text).ok();
    Ok(TierLimits {
        memory_mb: required(layers, memory, POSITIVE, number)?,
        cpu_shares: required(layers, cpu, POSITIVE, number)?,
    })
}

pub(super) fn calls(layers: &mut Layers) -> Result<Calls, ConfigError> {
    Ok(Calls {
        idle_timeout: required(layers, "calls.idle_timeout", DURATION, duration)?,
        busy_patience: required(layers, "calls.busy_patience", DURATION, duration)?,
        away_patience: required(layers, "calls.away_patience", DURATION, duration)?,
    })
}

pub(super) fn supervision(layers: &mut Layers) -> Result<Policy, ConfigError> {
    let mut policy = Policy::default();
    for parameter in PARAMETERS {
        let key = format!("supervision.{}", parameter.name);
        let accepted = |text: &str| policy.clone().set(parameter.name, text).ok().map(|()| text.to_owned());
        let text = required(layers, &key, &parameter.allowed(), accepted)?;
        policy.set(parameter.name, &text).map_err(|error| contradiction(layers, &error))?;
    }
    policy.check().map_err(|error| contradiction(layers, &error))?;
    Ok(policy)
}

/// Names the setting that is at fault, where it was set.
fn contradiction(layers: &Layers, error: &ParameterError) -> ConfigError {
    let (name, allowed) = match error {
        ParameterError::Unknown { name, .. } => (name.as_str(), "the name of a parameter".to_owned()),
        ParameterError::Invalid { name, allowed, .. } => (name.as_str(), allowed.clone()),
        ParameterError::Order { name, limit } => (*name, format!("at most `supervision.{limit}`")),
    };
    let key = format!("supervision.{name}");
    let origin = layers.entry(&key).map_or_else(|| format!("`{key}`"), super::layers::Entry::origin);
    ConfigError::invalid(origin, layers.text(&key).map(str::to_owned), &allowed)
}

pub(super) fn alarms(layers: &mut Layers) -> Result<Alarms, ConfigError> {
    let every = required(layers, "alarms.every", DURATION, duration)?;
    Ok(Alarms { webhook: address(layers, "alarms.webhook")?, every })
}

pub(super) fn segments(layers: &mut Layers) -> Result<Segments, ConfigError> {
    let data_dir = PathBuf::from(layers.text("data_dir").unwrap_or_default());
    let to = layers.parse("segments.to", crate::segments::ALLOWED, |text| text.parse().ok())?;
    let to = to.unwrap_or_else(|| Destination::Directory(data_dir.join("segments")));
    Ok(Segments { to, every: required(layers, "segments.every", DURATION, duration)? })
}

/// What is kept for how long. A bare number counts days: nobody means seconds.
pub(super) fn retention(layers: &mut Layers) -> Result<Rules, ConfigError> {
    let limit = |text: &str, least: TimeDelta| {
        if text == "off" {
            return Some(None);
        }
        let days = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{text}d"));
        let limit = TimeDelta::from_std(duration(days.as_deref().unwrap_or(text))?).ok()?;
        (limit >= least).then_some(Some(limit))
    };
    Ok(Rules {
        heartbeats: required(layers, "retention.heartbeats", HEARTBEATS, |text| limit(text, HEARTBEATS_MIN))?,
        activity: required(layers, "retention.activity", ACTIVITY, |text| limit(text, ACTIVITY_DEFAULT))?,
    })
}

pub(super) fn runtimes(layers: &Layers, images: &ImageNames) -> Result<Runtimes, ConfigError> {
    let config: RuntimesConfig = layers.runtimes.clone().try_into().map_err(|error: toml::de::Error| {
        let path = layers.file.clone().unwrap_or_default();
        ConfigError::ReadRuntimes { path, reason: error.to_string().trim().to_owned() }
    })?;
    Ok(Runtimes::new(&config, images)?)
}

pub(super) fn logging(layers: &mut Layers) -> Result<Logging, ConfigError> {
    let filter =
        required(layers, "log.filter", "a level or directives such as `info,covalence=debug`", |text| {
            EnvFilter::try_new(text).ok().map(|_| text.to_owned())
        })?;
    let format = required(layers, "log.format", "`human` or `json`", |text| match text {
        "human" => Some(LogFormat::Human),
        "json" => Some(LogFormat::Json),
        _ => None,
    })?;
    Ok(Logging { filter, format })
}
