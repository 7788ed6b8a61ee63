//! The table is held to the types that it speaks of, read from their source.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::ALL;
use super::*;
use crate::workspace::Created;

const SOURCES: &[&str] = &[
    include_str!("../workspace.rs"),
    include_str!("../workspace/activity.rs"),
    include_str!("../workspace/assignment.rs"),
    include_str!("../workspace/delegation.rs"),
    include_str!("../workspace/drain.rs"),
    include_str!("../workspace/evidence.rs"),
    include_str!("../workspace/instance.rs"),
    include_str!("../workspace/profile.rs"),
    include_str!("../workspace/queue.rs"),
    include_str!("../workspace/restart.rs"),
    include_str!("../workspace/secret.rs"),
    include_str!("../workspace/session.rs"),
    include_str!("../workspace/suspicion.rs"),
    include_str!("../workspace/team.rs"),
    include_str!("../workspace/token.rs"),
];

const FLEET: &[&str] = &[
    include_str!("../fleet.rs"),
    include_str!("../fleet/brake.rs"),
    include_str!("../fleet/flight.rs"),
    include_str!("../fleet/incident.rs"),
    include_str!("../fleet/policy.rs"),
    include_str!("../fleet/secret.rs"),
    include_str!("../fleet/token.rs"),
];

type Structs = BTreeMap<String, Vec<(String, String)>>;

/// Every `pub struct` with named fields, and the variants of the vocabulary with their tags.
fn read(sources: &[&str]) -> (Structs, Vec<(String, String)>) {
    let (mut structs, mut tags) = (Structs::new(), Vec::new());
    for source in sources {
        let mut current: Option<String> = None;
        for line in source.lines().map(str::trim) {
            if let Some((name, rest)) =
                line.strip_prefix("pub struct ").and_then(|rest| rest.split_once(" {"))
            {
                structs.entry(name.to_owned()).or_default();
                current = rest.is_empty().then(|| name.to_owned());
            } else if line == "}" {
                current = None;
            } else if let (Some(name), Some(field)) = (&current, line.strip_prefix("pub ")) {
                let (field, kind) =
                    field.trim_end_matches(',').split_once(": ").expect("a field with a type");
                structs.get_mut(name).expect("begun").push((field.to_owned(), kind.to_owned()));
            } else if let Some((variant, tag)) = line.split_once(" = \"").filter(|_| line.ends_with("\",")) {
                tags.push((variant.to_owned(), tag.trim_end_matches("\",").to_owned()));
            }
        }
    }
    (structs, tags)
}

fn texts(structs: &Structs, name: &str, prefix: &str, found: &mut BTreeSet<String>) {
    for (field, kind) in &structs[name] {
        let path = format!("{prefix}{field}");
        if kind.contains("String") || kind.contains("serde_json::Value") {
            found.insert(path);
            continue;
        }
        let inner = kind.rsplit(['<', ':']).next().unwrap_or(kind).trim_end_matches('>');
        if structs.contains_key(inner) {
            texts(structs, inner, &format!("{path}."), found);
        }
    }
}

#[test]
fn every_text_of_every_fact_is_sealed_or_plain_for_a_reason() {
    let mut listed: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for fields in ALL {
        let plain = fields.plain.iter().map(|(path, reason)| {
            assert!(!reason.is_empty(), "`{path}` of `{}` is plain without a reason", fields.tag);
            *path
        });
        let paths: Vec<_> = fields.sealed.iter().copied().chain(plain).map(str::to_owned).collect();
        let distinct: BTreeSet<_> = paths.iter().cloned().collect();
        assert_eq!(paths.len(), distinct.len(), "a field twice in `{}`", fields.tag);
        assert!(listed.insert(fields.tag, distinct).is_none(), "`{}` twice", fields.tag);
    }
    for sources in [SOURCES, FLEET] {
        let (structs, tags) = read(sources);
        assert!(tags.len() > 20, "the vocabulary was found: {tags:?}");
        for (variant, tag) in tags {
            let mut found = BTreeSet::new();
            texts(&structs, &variant, "", &mut found);
            let listed = listed.remove(tag.as_str()).unwrap_or_default();
            assert_eq!(listed, found, "the text fields of `{tag}`: left, in the table; right, in its type");
        }
    }
    assert!(listed.is_empty(), "facts that are not in the vocabulary: {listed:?}");
}

#[test]
fn the_sources_above_are_all_there_are() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (folder, listed) in [("workspace", SOURCES), ("fleet", FLEET)] {
        let files = std::fs::read_dir(root.join(folder)).unwrap().count();
        assert_eq!(files + 1, listed.len(), "files in `{folder}` and itself");
    }
}

fn created() -> Vec<u8> {
    let created = serde_json::json!({
        "name": "Ada", "role": "reads \u{1f4d6}", "tier": 2, "runtime": "echo", "backend": "process", "model": null,
        "template": null, "parent": null, "workspace_dir": null, "workspace_access": "none", "url": "", "x": 0.0,
        "y": 0.0, "delivery_mode": null, "budget_limit": null, "max_concurrent_tasks": 5,
    });
    let created: Created = serde_json::from_value(created).unwrap();
    crate::codec::pack(TAG, &created).unwrap()
}

const TAG: &str = "workspace.created.v1";

#[test]
fn a_sealed_payload_opens_to_the_same_bytes_for_its_own_fact_alone() {
    let dir = tempfile::TempDir::new().unwrap();
    let keys = Keyring::open(&dir.path().join("keys"), None).unwrap();
    let (id, owner) = (EventId::generate(), StreamId::Workspace(crate::WorkspaceId::generate()));
    let plain = created();
    let sealed = seal((id, TAG), owner, plain.clone(), &keys).unwrap();
    assert!(!sealed.windows(3).any(|bytes| bytes == b"Ada"));
    let (opened, unread) = open((id, TAG), owner, &sealed, Some(&keys)).unwrap();
    assert_eq!((&*opened, unread), (plain.as_slice(), Unread::default()));
    // Neither another fact's field, nor a changed one.
    let moved = open((EventId::generate(), TAG), owner, &sealed, Some(&keys)).unwrap_err();
    assert!(matches!(moved, CodecError::Sealed { ref field, .. } if field == "name"), "{moved}");
    let name = sealed.windows(5).position(|bytes| bytes == b"\xa4name").unwrap();
    let mut changed = sealed.clone();
    changed[name + 50] ^= 1;
    assert!(open((id, TAG), owner, &changed, Some(&keys)).is_err());
    // Nothing is sealed where there is nothing, and what is not sealed opens as it is.
    let (_, unread) = open((id, TAG), owner, &sealed, None).unwrap();
    assert_eq!((unread.sealed, unread.erased), (2, 0));
    assert_eq!(&*open((id, TAG), owner, &plain, Some(&keys)).unwrap().0, plain.as_slice());
}
