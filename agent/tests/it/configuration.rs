//! Configuration: what is taken from where, and what a bad value is answered with.

use std::collections::BTreeMap;
use std::time::Duration;

use covalence_agent::cli::Options;
use covalence_agent::config::{self, CommandInput, Config, ConfigError, Environment, RuntimeConfig};

struct Variables(BTreeMap<&'static str, &'static str>, bool);

impl Environment for Variables {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }

    fn in_container(&self) -> bool {
        self.1
    }
}

fn resolve(variables: &[(&'static str, &'static str)]) -> Result<Config, ConfigError> {
    let mut all: BTreeMap<_, _> = [("WORKSPACE_ID", "w-1")].into();
    all.extend(variables.iter().copied());
    Config::resolve(&Options::default(), &Variables(all, false))
}

fn refusal(variables: &[(&'static str, &'static str)]) -> String {
    resolve(variables).unwrap_err().to_string()
}

#[test]
fn only_the_workspace_id_has_no_default() {
    let error = Config::resolve(&Options::default(), &Variables(BTreeMap::new(), false)).unwrap_err();
    assert!(error.to_string().contains("`WORKSPACE_ID` is not set"), "{error}");

    let config = resolve(&[]).unwrap();
    assert_eq!(config.workspace_name, "w-1");
    assert_eq!(config.platform_url, "http://localhost:8080");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.heartbeat_interval, Duration::from_secs(30));
    assert_eq!(config.config_dir.to_str(), Some("/configs"));
    assert_eq!(config.runtime, RuntimeConfig::Echo);
}

#[test]
fn a_flag_wins_over_the_environment_and_an_empty_variable_counts_as_unset() {
    let options = Options { port: Some("9001".to_owned()), ..Options::default() };
    let env = Variables([("WORKSPACE_ID", "w"), ("PORT", "9002"), ("AGENT_RUNTIME", "")].into(), false);
    let config = Config::resolve(&options, &env).unwrap();
    assert_eq!(config.listen.port(), 9001);
    assert_eq!(config.runtime, RuntimeConfig::Echo);
}

#[test]
fn in_a_container_it_listens_on_all_addresses_and_health_asks_loopback() {
    let env = Variables([("WORKSPACE_ID", "w"), ("HOSTNAME", "box")].into(), true);
    let config = Config::resolve(&Options::default(), &env).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:8000");
    assert_eq!(config.url_host, "box");
    let health = config::health_address(&Options::default(), &env).unwrap();
    assert_eq!(health.to_string(), "127.0.0.1:8000");
}

#[test]
fn each_name_of_the_platform_url_is_read_in_order() {
    let url = |variables: &[_]| resolve(variables).unwrap().platform_url;
    assert_eq!(url(&[("MOLECULE_API_URL", "https://c/")]), "https://c");
    assert_eq!(url(&[("MOLECULE_API_URL", "http://c"), ("MOLECULE_URL", "http://b")]), "http://b");
    assert_eq!(url(&[("MOLECULE_URL", "http://b"), ("PLATFORM_URL", "http://a:1/p")]), "http://a:1/p");
}

#[test]
fn the_agent_url_follows_from_that_of_its_card() {
    let config = resolve(&[("AGENT_CARD_URL", "http://me:8000/agent/card")]).unwrap();
    assert_eq!(config.agent_url.as_deref(), Some("http://me:8000"));
}

#[test]
fn the_runtime_command_takes_its_settings() {
    let config = resolve(&[
        ("AGENT_RUNTIME", "command"),
        ("AGENT_COMMAND", r#"["claude", "-p"]"#),
        ("AGENT_COMMAND_INPUT", "argument"),
        ("AGENT_COMMAND_TIMEOUT", "7"),
        ("AGENT_COMMAND_CONCURRENCY", "2"),
    ])
    .unwrap();
    let RuntimeConfig::Command(command) = config.runtime else { panic!("not a command") };
    assert_eq!(command.argv, ["claude", "-p"]);
    assert_eq!(command.input, CommandInput::Argument);
    assert_eq!(command.timeout, Duration::from_secs(7));
    assert_eq!(command.concurrency_max, 2);
}

#[test]
fn a_bad_value_is_refused_with_its_name_and_what_is_allowed() {
    for (name, value, allowed) in [
        ("PORT", "70000", "a port from 0 to 65535"),
        ("AGENT_LISTEN_HOST", "localhost", "an IP address"),
        ("PLATFORM_URL", "ftp://x", "an http or https URL"),
        ("PLATFORM_URL", "http://x/?a=1", "without query"),
        ("AGENT_URL", "nonsense", "an http or https URL"),
        ("HEARTBEAT_INTERVAL", "0", "a whole number from 1 to 180"),
        ("AGENT_RUNTIME", "langgraph", "`echo` or `command`"),
        ("WORKSPACE_ID", "a b", "letters, digits"),
        ("WORKSPACE_NAME", "a\nb", "one line"),
    ] {
        let error = refusal(&[(name, value)]);
        assert!(error.starts_with(&format!("`{name}` is")) && error.contains(allowed), "{error}");
    }
    for (name, value, allowed) in [
        ("AGENT_COMMAND", "sh -c 'x", "balanced quotes"),
        ("AGENT_COMMAND_INPUT", "file", "`stdin` or `argument`"),
        ("AGENT_COMMAND_TIMEOUT", "-1", "a whole number from 1 to 86400"),
        ("AGENT_COMMAND_CONCURRENCY", "0", "a whole number from 1 to 256"),
    ] {
        let error = refusal(&[("AGENT_RUNTIME", "command"), ("AGENT_COMMAND", "cat"), (name, value)]);
        assert!(error.starts_with(&format!("`{name}` is")) && error.contains(allowed), "{error}");
    }
    assert!(refusal(&[("AGENT_RUNTIME", "command")]).contains("`AGENT_COMMAND` is not set"));
}

#[test]
fn a_printed_configuration_shows_no_credential() {
    let config = resolve(&[("MOLECULE_API_KEY", "very-secret")]).unwrap();
    assert!(!format!("{config:?}").contains("very-secret"));
}
