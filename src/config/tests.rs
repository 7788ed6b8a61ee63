//! Layers, errors and the token file.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use covalence_actors::policy::Policy;
use covalence_actors::policy::parameters::PARAMETERS;

use super::{BackendChoice, Config, Flags, Layers, Source, token};
use crate::config::settings::SETTINGS;
use crate::runtimes::Runner;

type Variables = BTreeMap<&'static str, &'static str>;

fn flags(values: &[(&'static str, &str)]) -> Flags {
    Flags {
        values: values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
        ..Flags::default()
    }
}

/// A configuration file in an empty data directory, found the default way.
fn with_file(text: &str) -> (tempfile::TempDir, Flags) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("covalence.toml"), text).unwrap();
    let flags = flags(&[("data_dir", dir.path().to_str().unwrap())]);
    (dir, flags)
}

fn error_of(flags: &Flags, variables: &Variables) -> String {
    Config::load(flags, variables).unwrap_err().to_string()
}

#[test]
fn without_anything_the_defaults_hold() {
    let config = Config::load(&Flags::default(), &Variables::new()).unwrap();
    assert_eq!(config.data_dir.to_str(), Some(".covalence"));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.backend.choice, None);
    assert_eq!(config.workspaces.default_runtime, None);
    assert!(!config.access.is_development());
    assert!(config.warnings.is_empty());
}

#[test]
fn the_table_states_the_policy_that_the_actors_have() {
    let config = Config::load(&Flags::default(), &Variables::new()).unwrap();
    assert_eq!(config.supervision, Policy::default());
    assert_eq!(config.supervision.hash(), Policy::default().hash());
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default() {
    let (_dir, mut flags) = with_file("[server]\nport = 1001\nrate_limit = 5\n[log]\nformat = \"json\"\n");
    let config = Config::load(&flags, &Variables::new()).unwrap();
    assert_eq!(config.server.listen.port(), 1001);

    let variables = Variables::from([("PORT", "1002")]);
    let config = Config::load(&flags, &variables).unwrap();
    assert_eq!((config.server.listen.port(), config.server.rate_limit.get()), (1002, 5));

    flags.values.insert("server.listen", "127.0.0.1:1003".to_owned());
    let mut layers = Layers::read(&flags, &variables).unwrap();
    let config = Config::from_layers(&mut layers, &flags).unwrap();
    assert_eq!(config.server.listen.port(), 1003);
    assert_eq!(layers.entry("server.listen").unwrap().source, Source::Flag);
    assert_eq!(layers.entry("server.port").unwrap().source, Source::Environment("PORT"));
    assert!(matches!(layers.entry("log.format").unwrap().source, Source::File(_)));
    assert_eq!(layers.entry("calls.idle_timeout").unwrap().source, Source::Default);
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    let (_dir, flags) = with_file("[server]\nprot = 8080\n");
    assert!(error_of(&flags, &Variables::new()).contains("unknown key `server.prot` in "));
    let (_dir, flags) = with_file("liveness_ttl = \"3m\"\n");
    let text = error_of(&flags, &Variables::new());
    assert!(text.contains("did you mean `supervision.liveness_ttl`?"), "{text}");
}

#[test]
fn a_wrong_value_names_its_variable_or_field_and_what_is_allowed() {
    let cases = [
        (
            Variables::from([("PORT", "http")]),
            "environment variable `PORT` is `http`: expected a port, 0 to 65535",
        ),
        (
            Variables::from([("COVALENCE_BACKEND", "podman")]),
            "environment variable `COVALENCE_BACKEND` is `podman`: expected `process` or `docker`",
        ),
        (
            Variables::from([("COVALENCE_ALLOW_PRIVILEGED", "yes")]),
            "environment variable `COVALENCE_ALLOW_PRIVILEGED` is `yes`: expected `3` or `4`",
        ),
    ];
    for (variables, expected) in cases {
        assert_eq!(error_of(&Flags::default(), &variables), expected);
    }
    let listen = flags(&[("server.listen", "8080")]);
    assert!(
        error_of(&listen, &Variables::new()).starts_with("flag `--listen` is `8080`: expected an address")
    );
    let (_dir, file) = with_file("[supervision]\nliveness_ttl = \"soon\"\n");
    assert!(error_of(&file, &Variables::new()).starts_with("`supervision.liveness_ttl` in "));
}

#[test]
fn a_wrong_secret_is_not_repeated() {
    let text = error_of(&Flags::default(), &Variables::from([("ADMIN_TOKEN", "two words")]));
    assert_eq!(text, "environment variable `ADMIN_TOKEN`: expected visible ASCII without spaces");
}

#[test]
fn malformed_limits_of_the_contract_fall_back_with_a_warning() {
    let variables = Variables::from([("TIER2_MEMORY_MB", "-3"), ("TIER3_CPU_SHARES", "4000000000")]);
    let config = Config::load(&Flags::default(), &variables).unwrap();
    assert_eq!(config.workspaces.limits(2).unwrap().memory_mb.get(), 512);
    assert_eq!(config.workspaces.limits(3).unwrap().nano_cpus(), 3_906_250_000_000_000);
    assert_eq!(config.workspaces.limits(1), None);
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].contains("`TIER2_MEMORY_MB` is `-3`"), "{:?}", config.warnings);
    assert!(config.warnings[0].ends_with("using 512"), "{:?}", config.warnings);
}

#[test]
fn development_mode_needs_no_admin_token_and_a_loopback_address() {
    let open = Variables::from([("MOLECULE_ENV", " Development ")]);
    assert!(Config::load(&Flags::default(), &open).unwrap().access.is_development());
    let guarded = Variables::from([("MOLECULE_ENV", "dev"), ("ADMIN_TOKEN", "secret")]);
    assert!(!Config::load(&Flags::default(), &guarded).unwrap().access.is_development());

    let everywhere = flags(&[("server.listen", "0.0.0.0:8080")]);
    let text = error_of(&everywhere, &open);
    assert!(text.contains("loopback only, not on 0.0.0.0:8080"), "{text}");
    assert!(Config::load(&everywhere, &guarded).is_ok());
    assert!(Config::load(&everywhere, &Variables::new()).is_ok());
}

#[test]
fn a_demo_is_open_on_loopback_with_processes_that_echo() {
    let demo = Flags { demo: true, ..Flags::default() };
    let config = Config::load(&demo, &Variables::new()).unwrap();
    assert!(config.access.is_development());
    assert_eq!(config.backend.choice, Some(BackendChoice::Process));
    assert_eq!(config.workspaces.default_runtime.as_deref(), Some("echo"));
    let docker = Variables::from([("CONTAINER_BACKEND", "docker")]);
    assert_eq!(Config::load(&demo, &docker).unwrap().backend.choice, Some(BackendChoice::Docker));
}

#[test]
fn our_backend_variable_wins_over_the_contracts_and_both_over_the_tenant() {
    let mut variables = Variables::from([("CONTAINER_BACKEND", "docker"), ("COVALENCE_BACKEND", "process")]);
    let choice = |variables: &Variables| Config::load(&Flags::default(), variables).map(|c| c.backend.choice);
    assert_eq!(choice(&variables).unwrap(), Some(BackendChoice::Process));
    variables.insert("CONTAINER_BACKEND", "flyio");
    assert_eq!(choice(&variables).unwrap(), Some(BackendChoice::Process));
    variables.remove("COVALENCE_BACKEND");
    assert!(choice(&variables).unwrap_err().to_string().contains("`flyio` backend"));
    let tenant = Variables::from([("MOLECULE_ORG_ID", "org-1")]);
    assert!(choice(&tenant).unwrap_err().to_string().contains("`control plane` backend"));
}

#[test]
fn privileges_are_granted_up_to_the_tier_that_the_operator_names() {
    let granted = |value| {
        let config =
            Config::load(&Flags::default(), &Variables::from([("COVALENCE_ALLOW_PRIVILEGED", value)]));
        let workspaces = config.unwrap().workspaces;
        [2, 3, 4].map(|tier| workspaces.is_privileged(tier))
    };
    assert_eq!(granted(""), [false, false, false]);
    assert_eq!(granted("3"), [false, true, false]);
    assert_eq!(granted("4"), [false, true, true]);
}

#[test]
fn a_workspace_directory_must_lie_below_a_root() {
    let load = |dir| {
        let variables =
            Variables::from([("COVALENCE_WORKSPACE_ROOTS", "/srv/work, /home"), ("WORKSPACE_DIR", dir)]);
        Config::load(&Flags::default(), &variables)
    };
    assert!(load("/srv/work/team").is_ok());
    for outside in ["/srv/workshop", "/srv/work/../secret", "work"] {
        assert!(load(outside).is_err(), "{outside}");
    }
}

#[test]
fn runtimes_come_from_the_file_and_are_checked_with_the_rest() {
    let (_dir, flags) = with_file("[runtimes.shout]\ncommand = [\"tr\", \"a-z\", \"A-Z\"]\n");
    let config = Config::load(&flags, &Variables::new()).unwrap();
    assert!(matches!(config.runtimes.get("shout").unwrap().runner, Runner::Command(Some(_))));
    let (_dir, flags) = with_file("[runtimes.shout]\ncommand = []\n");
    assert!(error_of(&flags, &Variables::new()).contains("`runtimes.shout.command`"));
    let (_dir, flags) = with_file("[runtimes.shout]\nargs = [\"tr\"]\n");
    assert!(error_of(&flags, &Variables::new()).contains("unknown field `args`"));
}

#[test]
fn images_are_named_by_the_registry_and_channel() {
    let variables = Variables::from([
        ("MOLECULE_IMAGE_REGISTRY", "registry.example/team"),
        ("COVALENCE_IMAGE_CHANNEL", "v2"),
    ]);
    let config = Config::load(&Flags::default(), &variables).unwrap();
    assert_eq!(config.runtimes.get("echo").unwrap().image.as_deref(), Some("registry.example/team/echo:v2"));
}

#[test]
fn a_default_runtime_must_be_a_known_one() {
    let text = error_of(&Flags::default(), &Variables::from([("COVALENCE_DEFAULT_RUNTIME", "eco")]));
    assert!(
        text.contains("`COVALENCE_DEFAULT_RUNTIME` is `eco`: expected one of ") && text.contains("echo"),
        "{text}"
    );
}

#[test]
fn every_setting_is_documented() {
    let example = include_str!("../../.env.example");
    let page = include_str!("../../docs/configuration.md");
    for setting in SETTINGS.iter() {
        let row = format!("| `{}` |", setting.key);
        assert!(page.contains(&row), "docs/configuration.md lacks `{}`", setting.key);
        let Some(name) = setting.env else { continue };
        let line = format!("\n#{name}={}\n", setting.default.unwrap_or_default());
        assert!(example.contains(&line), ".env.example lacks `{}`", line.trim());
        assert!(page.contains(&format!("`{name}`")), "docs/configuration.md lacks `{name}`");
    }
}

#[test]
fn durations_have_units_and_a_bare_number_counts_seconds() {
    let seconds = |text| super::parse::duration(text).map(|duration| duration.as_secs_f64());
    assert_eq!(seconds("90"), Some(90.0));
    assert_eq!(seconds("500ms"), Some(0.5));
    assert_eq!(seconds("10m"), Some(600.0));
    assert_eq!(seconds("2h"), Some(7200.0));
    for wrong in ["", "0", "s", "-1s", "1.5h", "10 weeks", "999999999999h"] {
        assert_eq!(seconds(wrong), None, "{wrong}");
    }
}

#[test]
fn the_admin_token_is_written_once_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    assert!(token::read(&data_dir).unwrap().is_none());
    let first = token::read_or_create(&data_dir).unwrap();
    let second = token::read_or_create(&data_dir).unwrap();
    assert_eq!(first.expose(), second.expose());
    assert_eq!(first.expose().len(), 43);
    let mode = std::fs::metadata(token::path(&data_dir)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&data_dir).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn an_empty_token_file_is_refused_and_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(token::path(dir.path()), "\n").unwrap();
    let text = token::read_or_create(dir.path()).unwrap_err().to_string();
    assert!(text.contains("does not hold a token"), "{text}");
}

#[test]
fn every_setting_is_named_once() {
    let mut names: Vec<&str> = SETTINGS.iter().flat_map(|s| [Some(s.key), s.env]).flatten().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_parameter_of_the_policy_is_in_the_table_of_its_numbers() {
    let page = include_str!("../../docs/supervision.md");
    let policy = Policy::default();
    let rows: Vec<String> = PARAMETERS
        .iter()
        .map(|parameter| {
            let default = policy.get(parameter.name).unwrap();
            let (name, meaning, source) = (parameter.name, parameter.meaning, parameter.source);
            format!("| `{name}` | `{default}` | {meaning} | {source} |")
        })
        .collect();
    let rows = rows.join("\n");
    assert!(page.contains(&rows), "the table in docs/supervision.md has to be:\n{rows}");
}

#[test]
fn parameters_of_the_policy_are_settings_with_their_own_limits() {
    let (_dir, flags) = with_file("[supervision]\nphi_threshold = 9.5\nhold_max = \"8h\"\n");
    let policy = Config::load(&flags, &Variables::new()).unwrap().supervision;
    assert_eq!(policy.get("phi_threshold").as_deref(), Some("9.5"));
    assert_eq!(policy.get("hold_max").as_deref(), Some("28800s"));
    for (text, said) in [
        ("phi_treshold = 9", "did you mean `supervision.phi_threshold`?"),
        ("phi_threshold = 99", "expected a number, 1 to 16"),
        ("backoff_base = \"10m\"", "expected at most `supervision.backoff_cap`"),
    ] {
        let (_dir, flags) = with_file(&format!("[supervision]\n{text}\n"));
        let error = error_of(&flags, &Variables::new());
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn the_contracts_two_variables_are_lenient() {
    let variables =
        Variables::from([("REMOTE_LIVENESS_STALE_AFTER", "120"), ("PROVISION_TIMEOUT_SECONDS", "-1")]);
    let config = Config::load(&Flags::default(), &variables).unwrap();
    assert_eq!(config.supervision.external_stale.as_secs(), 120);
    assert_eq!(config.supervision.provision_timeout.as_secs(), 600);
    assert!(config.warnings[0].ends_with("using 600"), "{:?}", config.warnings);
}
