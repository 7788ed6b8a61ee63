//! The house rules that no compiler and no lint checks. Each failure quotes its rule and names the place.
//!
//! The rules read source text line by line, which is enough because rustfmt lays it out. A rule that gets in the way of
//! clear code is changed here, with a reason, and not worked around there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where our source is.
const SOURCE_FOLDERS: [&str; 10] = [
    "src",
    "events/src",
    "events/benches",
    "actors/src",
    "projections/src",
    "incidents/src",
    "agent/src",
    "agent/tests",
    "tests",
    "benches",
];

/// A file that is longer reads better in parts.
const LINES_MAX: usize = 500;

/// No reason is good enough for more.
const LINES_HARD_MAX: usize = 800;

/// Bugs that are seeded to see whether the simulator finds them.
const SEEDED_BUGS: usize = 52;

/// Files that may be longer than [`LINES_MAX`], and why.
const LONG_FILES: [(&str, &str); 0] = [];

/// Folders and files with these names say nothing about what is in them.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "misc", "types"];

/// One file of ours.
struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

impl Source {
    /// The lines with their numbers, without comments and without the tests at the end of the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()))
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .filter(|(_, line)| !line.starts_with("//"))
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("tests/") || self.path.contains("/conformance")
    }
}

/// A crate or library that only some files may name.
struct Fence {
    /// Its name as it stands in code.
    name: &'static str,
    /// Files below this folder are concerned.
    within: &'static str,
    /// Path prefixes that may name it.
    allowed: &'static [&'static str],
    rule: &'static str,
}

const FENCES: [Fence; 10] = [
    Fence {
        name: "bollard",
        within: "",
        allowed: &["src/backends/docker"],
        rule: "Docker's client stays inside its adapter",
    },
    Fence {
        name: "sled",
        within: "",
        allowed: &["events/src/log/sled"],
        rule: "sled stays inside its store",
    },
    Fence {
        name: "actix",
        within: "",
        // The bench compares our mailbox with a plain one.
        allowed: &["actors/src/runtime", "benches/platform/mailbox"],
        rule: "the rest of the code sees the runtime's words only",
    },
    Fence {
        name: "tokio",
        within: "actors/src/",
        allowed: &["actors/src/runtime", "actors/src/effect"],
        rule: "only the runtime waits; decisions are plain functions",
    },
    Fence {
        name: "actix_web",
        within: "",
        allowed: &["src/", "tests/", "benches/"],
        rule: "HTTP is the edge's business",
    },
    Fence {
        name: "covalence_projections",
        within: "",
        // The log's bench asks a large log what people ask.
        allowed: &["src/", "tests/", "benches/", "events/benches/"],
        rule: "write side and read side meet only in the log",
    },
    Fence {
        name: "covalence_incidents",
        within: "",
        // The log's bench asks a large log what people ask.
        allowed: &["src/", "tests/", "benches/", "events/benches/"],
        rule: "questions about what happened decide nothing",
    },
    Fence {
        name: "covalence_actors",
        within: "",
        allowed: &["src/", "tests/", "benches/"],
        rule: "write side and read side meet only in the log",
    },
    Fence {
        name: "covalence_events",
        within: "",
        allowed: &[
            "src/",
            "actors/src/",
            "projections/src/",
            "incidents/src/",
            "tests/",
            "benches/",
            "events/benches/",
        ],
        rule: "the agent shares nothing with the platform but the wire",
    },
    Fence {
        name: "covalence_agent",
        within: "",
        allowed: &["agent/", "tests/", "benches/"],
        rule: "the platform knows the agent by its wire only",
    },
];

/// The parts of an actor that must be pure: the same input always leads to the same output.
const PURE_PARTS: [&str; 7] = ["decide", "evolve", "state", "react", "policy", "watch", "session"];

/// What pure parts may import besides their siblings. `serde_json` and `uuid` only hold values, `thiserror` only derives.
const PURE_IMPORTS: [&str; 10] = [
    "std::",
    "core::",
    "covalence_events",
    "crate::",
    "super::",
    "self::",
    "serde_json",
    "uuid",
    "thiserror",
    "chrono",
];

/// What pure parts may not name although it is near: clocks, chance, the outside, and collections without an order.
const IMPURE: [&str; 11] = [
    "crate::runtime",
    "SystemTime",
    "Instant::",
    "Utc::now",
    "thread_rng",
    "rand::rng",
    "::generate()",
    "std::fs",
    "std::process",
    "HashMap",
    "HashSet",
];

#[test]
fn files_are_short_enough_to_read_at_once() {
    let mut broken = Broken::default();
    for source in sources() {
        let lines = source.text.lines().count();
        let listed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        let limit = if listed { LINES_HARD_MAX } else { LINES_MAX };
        broken.unless(lines <= limit, || format!("{}: {lines} lines, at most {limit}", source.path));
    }
    broken.report("files are short: split it by noun, or list it in LONG_FILES with a reason");
}

#[test]
fn long_files_are_listed_only_while_they_are_long() {
    let sources = sources();
    for (path, _) in LONG_FILES {
        let lines =
            sources.iter().find(|source| source.path == path).map(|source| source.text.lines().count());
        assert!(
            lines.is_some_and(|lines| lines > LINES_MAX),
            "{path} does not need its place in LONG_FILES any more: {lines:?} lines"
        );
    }
}

#[test]
fn every_module_says_first_what_it_is_for() {
    let mut broken = Broken::default();
    for source in sources() {
        broken.unless(source.text.starts_with("//!"), || source.path.clone());
    }
    broken.report("every module starts with `//!`: what it is for, its invariants, what it does not do");
}

#[test]
fn fenced_names_stay_behind_their_fence() {
    let mut broken = Broken::default();
    for source in sources() {
        for fence in FENCES.iter().filter(|fence| source.path.starts_with(fence.within)) {
            if allowed(&source, fence.allowed) {
                continue;
            }
            for (number, line) in source.code() {
                let place = || format!("{}:{number} names `{}`: {}", source.path, fence.name, fence.rule);
                broken.unless(!names(line, fence.name), place);
            }
        }
    }
    broken.report("each library and each crate of ours is named only where its arrow points from");
}

#[test]
fn decisions_import_nothing_that_acts_waits_or_differs_from_run_to_run() {
    let mut broken = Broken::default();
    let mut seen = 0;
    for source in sources().into_iter().filter(|source| is_pure(&source.path) && !source.is_test()) {
        seen += 1;
        for (number, line) in source.code() {
            let import = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("use ");
            let own = |path: &str| {
                let module = format!("mod {};", path.split("::").next().unwrap_or(path));
                source.text.lines().any(|line| {
                    ["", "pub ", "pub(crate) "].iter().any(|seen| line.strip_prefix(seen) == Some(&*module))
                })
            };
            let near = |path: &str| PURE_IMPORTS.iter().any(|allowed| path.starts_with(allowed)) || own(path);
            let pure = import.is_none_or(near);
            let clean = !IMPURE.iter().any(|name| line.contains(name));
            broken.unless(pure && clean, || format!("{}:{number}: {line}", source.path));
        }
    }
    broken.report(
        "decide, evolve, state, react, policy, session and watch import only events, their siblings and std; clocks, chance and the \
         outside come in with the context, and the order of a hash must not leak into events",
    );
    assert!(seen >= 5, "only {seen} pure modules found: PURE_PARTS no longer fits the tree");
}

#[test]
fn what_is_left_to_do_has_an_issue() {
    // Put together here, so that this file does not trip over itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut broken = Broken::default();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            let bare =
                marks.iter().any(|mark| comment.split(mark).skip(1).any(|rest| !rest.starts_with("(#")));
            broken.unless(!bare, || format!("{}:{}: {}", source.path, index + 1, line.trim()));
        }
    }
    broken.report("what is left to do names its issue, as in `(#12)`, or is done");
}

#[test]
fn names_of_files_and_folders_say_what_is_inside() {
    let mut broken = Broken::default();
    for source in sources() {
        let empty = source
            .path
            .split('/')
            .any(|part| EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)));
        broken.unless(!empty, || source.path.clone());
    }
    broken.report("no utils, common, helpers, misc, types: name the noun inside");
}

#[test]
fn event_tags_are_unique_and_never_go_away() {
    let recorded_path = "tests/fixtures/event_tags.txt";
    let recorded =
        fs::read_to_string(Path::new(ROOT).join(recorded_path)).expect("the list of tags is there");
    let recorded: BTreeSet<&str> = recorded.lines().filter(|line| !line.starts_with('#')).collect();
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in
        sources().iter().filter(|source| source.path.starts_with("events/src/") && !source.is_test())
    {
        for (number, line) in source.code() {
            if let Some(tag) =
                line.split_once("= \"").and_then(|(_, rest)| rest.strip_suffix("\",")).filter(is_tag)
            {
                places.entry(tag.to_owned()).or_default().push(format!("{}:{number}", source.path));
            }
        }
    }
    for (tag, places) in &places {
        assert_eq!(places.len(), 1, "the tag `{tag}` names two facts: {places:?}");
        assert!(
            recorded.contains(tag.as_str()),
            "the tag `{tag}` is new: add it to {recorded_path}, where it stays for ever"
        );
    }
    for tag in recorded {
        let still_read = places.contains_key(tag) || is_lifted(tag);
        assert!(still_read, "no code reads the tag `{tag}` any more, but logs out there hold such facts");
    }
}

#[test]
fn every_variable_that_is_read_is_documented() {
    let documented = fs::read_to_string(Path::new(ROOT).join(".env.example")).expect(".env.example is there");
    let documented: BTreeSet<&str> = documented
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='))
        .map(|(name, _)| name)
        .collect();
    let mut broken = Broken::default();
    let mut seen = 0;
    for source in sources().iter().filter(|source| reads_environment(&source.path) && !source.is_test()) {
        for (number, line) in source.code() {
            for name in line.split('"').skip(1).step_by(2).filter(|text| is_variable(text)) {
                seen += 1;
                broken
                    .unless(documented.contains(name), || format!("{}:{number} reads `{name}`", source.path));
            }
        }
    }
    broken.report("`.env.example` explains every variable, in the change that introduces it (R62)");
    assert!(seen > 20, "only {seen} variables found: this rule looks in the wrong place");
}

#[test]
fn documents_for_people_name_only_files_that_exist() {
    let mut broken = Broken::default();
    for document in ["README.md", "docs/architecture.md"] {
        let text = fs::read_to_string(Path::new(ROOT).join(document)).expect("the document is there");
        for path in text.split('`').skip(1).step_by(2).filter(|text| is_path(text)) {
            broken.unless(Path::new(ROOT).join(path).exists(), || format!("{document} names `{path}`"));
        }
    }
    broken.report("what a document names is in the repository");
}

#[test]
fn every_seeded_bug_still_applies() {
    let mut patches = Vec::new();
    collect(&Path::new(ROOT).join("actors/tests/seeded_bugs"), "patch", &mut patches);
    assert_eq!(patches.len(), SEEDED_BUGS, "scripts/seeded-bugs counts on so many");
    let mut broken = Broken::default();
    for patch in patches {
        let checked = std::process::Command::new("git")
            .args(["apply", "--check", &patch.path])
            .current_dir(ROOT)
            // Without a repository of its own, the tree is not a part of the one around it.
            .env("GIT_CEILING_DIRECTORIES", Path::new(ROOT).parent().unwrap_or_else(|| Path::new(ROOT)))
            .output()
            .expect("git is there");
        let why = String::from_utf8_lossy(&checked.stderr);
        broken.unless(checked.status.success(), || format!("{}: {}", patch.path, why.trim()));
    }
    broken
        .report("each seeded bug applies to the source as it is: make these patches anew, for the same bugs");
}

/// The places where a rule is broken: all of them are told at once.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    fn unless(&mut self, holds: bool, place: impl FnOnce() -> String) {
        if !holds {
            self.0.push(place());
        }
    }

    fn report(self, rule: &str) {
        assert!(self.0.is_empty(), "{rule}\n  {}", self.0.join("\n  "));
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in SOURCE_FOLDERS {
        collect(&Path::new(ROOT).join(folder), "rs", &mut found);
    }
    assert!(found.len() > 30, "only {} source files found below {ROOT}", found.len());
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|known| known == extension) {
            let relative = path.strip_prefix(ROOT).expect("it is below the root").display().to_string();
            found.push(Source { text: fs::read_to_string(&path).expect("source is text"), path: relative });
        }
    }
}

/// Whether a line of code uses a crate's name as a path: `name::`, or `use name`.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let whole =
            before.is_none_or(|letter| !letter.is_alphanumeric() && !matches!(letter, '_' | ':' | '"' | '`'));
        whole && line[at + name.len()..].starts_with("::")
    })
}

fn allowed(source: &Source, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| source.path.starts_with(prefix))
}

fn is_pure(path: &str) -> bool {
    let Some(inside) = path.strip_prefix("actors/src/") else { return false };
    inside.split('/').any(|part| PURE_PARTS.contains(&part.strip_suffix(".rs").unwrap_or(part)))
        && !inside.starts_with("runtime")
}

fn is_tag(text: &&str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let word = |part: &str| {
        !part.is_empty() && part.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
    };
    matches!(parts[..], [stream, fact, version] if word(stream) && word(fact) && version.starts_with('v'))
}

/// Whether the codec lifts facts with this old tag to a newer shape.
fn is_lifted(tag: &str) -> bool {
    fs::read_to_string(Path::new(ROOT).join("events/src/codec/upcast.rs"))
        .is_ok_and(|text| text.contains(&format!("\"{tag}\"")))
}

fn reads_environment(path: &str) -> bool {
    ["src/config", "agent/src/config"].iter().any(|prefix| path.starts_with(prefix))
}

fn is_variable(text: &str) -> bool {
    (text.contains('_') || text == "PORT")
        && text.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
}

fn is_path(text: &str) -> bool {
    let rooted = [
        "src/",
        "events/",
        "actors/",
        "projections/",
        "incidents/",
        "agent/",
        "tests/",
        "benches/",
        "docs/",
        "scripts/",
        "deploy/",
    ];
    rooted.iter().any(|folder| text.starts_with(folder))
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter))
}
