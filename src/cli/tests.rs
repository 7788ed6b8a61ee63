//! The command line's shape: help texts as snapshots, and what the parser takes.

use clap::{CommandFactory as _, Parser as _};

use super::Cli;

/// The help of the command at `path`, as at 100 columns.
fn help(path: &[&str]) -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut found = &mut command;
    for name in path {
        found = found.find_subcommand_mut(name).unwrap_or_else(|| panic!("no command {name}"));
    }
    let text = found.render_help().to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Every command that runs, with its path.
fn leaves(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    for child in command.get_subcommands().filter(|child| child.get_name() != "help") {
        let mut path = path.to_vec();
        path.push(child.get_name().to_owned());
        if child.get_subcommands().any(|grandchild| grandchild.get_name() != "help") {
            leaves(child, &path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn the_help_of_every_command_is_as_recorded() {
    let mut paths = Vec::new();
    leaves(&Cli::command(), &[], &mut paths);
    insta::assert_snapshot!("help", help(&[]));
    for path in paths {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        insta::assert_snapshot!(format!("help_{}", path.join("_")), help(&path));
    }
}

#[test]
fn every_command_that_runs_shows_an_example() {
    let mut paths = Vec::new();
    leaves(&Cli::command(), &[], &mut paths);
    for path in paths {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        assert!(help(&path).contains("Examples:"), "{} has no example", path.join(" "));
    }
}

/// Arguments of commands that would be taken for an option of all commands, whose value they would then set.
fn shadowing(command: &clap::Command, everywhere: &[&str], found: &mut Vec<String>) {
    for child in command.get_subcommands() {
        let own = child.get_arguments().map(|argument| argument.get_id().as_str());
        let taken = own.filter(|name| everywhere.contains(name));
        found.extend(taken.map(|name| format!("{}: {name}", child.get_name())));
        shadowing(child, everywhere, found);
    }
}

#[test]
fn no_argument_goes_by_the_name_of_an_option_of_all_commands() {
    let command = Cli::command();
    let global = command.get_arguments().filter(|argument| argument.is_global_set());
    let everywhere: Vec<&str> = global.map(|argument| argument.get_id().as_str()).collect();
    assert!(everywhere.contains(&"token"), "{everywhere:?}");
    let mut found = Vec::new();
    shadowing(&command, &everywhere, &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_issue_and_other_tools_type_is_understood() {
    for line in [
        "covalence serve --data-dir /tmp/x --listen 127.0.0.1:0 --backend process --demo --stop-workspaces",
        "covalence workspaces ls --json",
        "covalence --json workspaces show lead",
        "covalence workspaces create lead --runtime echo --wait --timeout 30s",
        "covalence ws restart lead --wait --yes",
        "covalence workspaces rm lead --yes",
        "covalence workspaces expand lead --json",
        "covalence workspaces collapse lead --yes",
        "covalence send lead hello --url http://127.0.0.1:1 --token t",
        "covalence logs lead --previous --tail 5",
        "covalence events --workspace lead --since -15m --until 03:07 --type went_offline --limit 5",
        "covalence events --follow --since 12",
        "covalence log verify --data-dir /tmp/x",
        "covalence log verify --segments s3://bucket/prefix --checkpoint /tmp/kept",
        "covalence log backup /tmp/backup",
        "covalence log restore --from /tmp/backup --to 42 --move-aside",
        "covalence log checkpoint key",
        "covalence strangers rm --dry-run",
        "covalence config show --json",
        "covalence health",
        "covalence completions bash",
        "covalence status",
        "covalence hold lead --subtree --reason r --for 30m",
        "covalence hold --reason r --for 30m",
        "covalence release lead",
        "covalence release --fleet --reason done",
        "covalence release --brake docker",
        "covalence stop-all --reason fire --yes",
        "covalence restart lead --force --reason x",
        "covalence policy show",
        "covalence policy check policy.toml",
        "covalence policy set intensity_max=7 backoff_cap=4m --reason r --dry-run",
        "covalence policy rollback 0123456789abcdef --reason r",
        "covalence mode advise lead --subtree --reason r",
        "covalence strategy lead one_for_all",
        "covalence supervision show lead",
    ] {
        if let Err(error) = Cli::try_parse_from(line.split(' ')) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn a_wrong_time_is_refused_with_what_is_accepted() {
    let error = Cli::try_parse_from(["covalence", "events", "--since", "soon"]).unwrap_err();
    assert!(error.to_string().contains("RFC 3339"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_hold_needs_a_reason_and_an_end() {
    for line in ["covalence hold lead --for 30m", "covalence hold lead --reason r"] {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
    let error = Cli::try_parse_from(["covalence", "hold", "--subtree", "--reason", "r", "--for", "1h"]);
    assert!(error.is_err(), "a subtree needs its root");
}
