//! What may be in the dependency tree (`deny.toml`), held over what cargo resolved.
//!
//! Advisories are not looked at: they need a database from the network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Which of our crates may depend on which others of ours. Read side and write side meet only in the log.
const ARROWS: [(&str, &[&str]); 6] = [
    ("covalence", &["covalence-actors", "covalence-projections", "covalence-incidents", "covalence-events"]),
    ("covalence-actors", &["covalence-events"]),
    ("covalence-projections", &["covalence-events"]),
    ("covalence-incidents", &["covalence-events"]),
    ("covalence-events", &[]),
    ("covalence-agent", &[]),
];

#[test]
fn every_licence_is_on_the_list() {
    let rules = rules();
    let allowed: BTreeSet<&str> = strings(&rules["licenses"]["allow"]).collect();
    let refused: Vec<String> = packages(&metadata())
        .filter(|package| !permits(package["license"].as_str().unwrap_or_default(), &allowed))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "licences that deny.toml does not allow:\n{}", refused.join("\n"));
}

#[test]
fn everything_comes_from_the_public_registry() {
    let rules = rules();
    let allowed: BTreeSet<String> =
        strings(&rules["sources"]["allow-registry"]).map(|url| format!("registry+{url}")).collect();
    let strangers: Vec<String> = packages(&metadata())
        .filter(|package| package["source"].as_str().is_some_and(|source| !allowed.contains(source)))
        .map(|package| format!("{} from {}", package["name"], package["source"]))
        .collect();
    assert!(strangers.is_empty(), "sources that deny.toml does not allow: {strangers:?}");
}

#[test]
fn fenced_crates_are_used_only_behind_their_fence() {
    let rules = rules();
    let fences: BTreeMap<&str, BTreeSet<&str>> = rules["bans"]["deny"]
        .as_array()
        .expect("a list of fences")
        .iter()
        .map(|fence| (fence["name"].as_str().expect("a name"), wrappers(fence)))
        .collect();
    assert!(
        fences.len() >= 4,
        "the fences around bollard, sled, actix and actix-web are gone from deny.toml"
    );
    for (user, used) in dependencies(&metadata()) {
        if let Some(wrappers) = fences.get(used.as_str()) {
            assert!(
                wrappers.contains(user.as_str()),
                "`{user}` depends on `{used}`; deny.toml allows that to {wrappers:?} only: adapters keep libraries of \
                 the outside away from the rest"
            );
        }
    }
}

#[test]
fn our_crates_depend_on_each_other_only_along_the_arrows() {
    for (user, used) in dependencies(&metadata()) {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == user) else { continue };
        assert!(
            !used.starts_with("covalence") || used == user || allowed.contains(&used.as_str()),
            "`{user}` depends on `{used}`; docs/architecture.md allows it {allowed:?}"
        );
    }
}

/// Every direct dependency, but for those that only tests have.
fn dependencies(metadata: &Value) -> Vec<(String, String)> {
    let name = |id: &Value| {
        let package =
            packages(metadata).find(|package| package["id"] == *id).expect("every node is a package");
        package["name"].as_str().expect("a name").to_owned()
    };
    let nodes = metadata["resolve"]["nodes"].as_array().expect("a resolved tree");
    let mut found = Vec::new();
    for node in nodes {
        let user = name(&node["id"]);
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().expect("kinds");
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                found.push((user.clone(), name(&dependency["pkg"])));
            }
        }
    }
    found
}

/// Whether one of the alternatives of a licence expression needs only what is allowed.
fn permits(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    // `A OR B AND C` and `(A OR B) AND C` both occur: all parts of a conjunction of alternatives must have one that fits.
    if let Some((left, right)) = expression.strip_prefix('(').and_then(|rest| rest.split_once(") AND ")) {
        return permits(left, allowed) && permits(right, allowed);
    }
    expression.split(" OR ").any(|part| part.split(" AND ").all(|name| allowed.contains(name.trim())))
}

#[test]
fn a_licence_expression_needs_one_alternative_and_all_parts_of_it() {
    let allowed = BTreeSet::from(["MIT", "ISC"]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND ISC", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 OR MIT) AND GPL-2.0", false),
        ("", false),
    ] {
        assert_eq!(permits(expression, &allowed), expected, "{expression}");
    }
}

fn metadata() -> Value {
    // Only what is compiled here: other systems' crates need not even be downloaded.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target])
        .current_dir(ROOT)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn rules() -> toml::Table {
    let text = fs::read_to_string(Path::new(ROOT).join("deny.toml")).expect("deny.toml is there");
    text.parse().expect("deny.toml is TOML")
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().expect("packages").iter()
}

fn strings(list: &toml::Value) -> impl Iterator<Item = &str> {
    list.as_array().expect("a list").iter().filter_map(toml::Value::as_str)
}

fn wrappers(fence: &toml::Value) -> BTreeSet<&str> {
    fence.get("wrappers").map(|list| strings(list).collect()).unwrap_or_default()
}
