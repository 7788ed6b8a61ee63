//! What the keyring promises about files, master keys and crashes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::id::WorkspaceId;

mod rotation;

const CONTEXT: &[u8] = b"here";

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys");
    (dir, path)
}

fn owner(n: u8) -> StreamId {
    StreamId::Workspace(WorkspaceId(uuid::Uuid::from_bytes([n; 16])))
}

fn sealed(keys: &Keyring, owner: StreamId, text: &str) -> Vec<u8> {
    let sealed = keys.seal(owner, CONTEXT, text.as_bytes()).unwrap().unwrap();
    keys.settle().unwrap();
    sealed
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what opening answers")]
fn plain(text: &str) -> Result<Unsealed, Damaged> {
    Ok(Unsealed::Plain(text.as_bytes().to_vec()))
}

#[test]
fn what_is_sealed_opens_in_the_next_run_and_in_its_context_alone() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    assert!(!path.exists(), "nothing is made before it is needed");
    let (one, fleet) = (sealed(&keys, owner(1), "one"), sealed(&keys, StreamId::Fleet, "fleet"));
    assert_ne!(one, sealed(&keys, owner(1), "one"), "never the same twice");
    drop(keys);
    let keys = Keyring::open(&path, None).unwrap();
    assert_eq!(keys.unseal(CONTEXT, &one), plain("one"));
    assert_eq!(keys.unseal(CONTEXT, &fleet), plain("fleet"));
    assert_eq!(keys.unseal(b"there", &one), Err(Damaged));
    for byte in 0..one.len() {
        let mut other = one.clone();
        other[byte] ^= 1;
        let opened = keys.unseal(CONTEXT, &other);
        assert!(matches!(opened, Err(Damaged) | Ok(Unsealed::Missing(_))), "byte {byte}: {opened:?}");
        assert!(!matches!(keys.unseal(CONTEXT, &one[..byte]), Ok(Unsealed::Plain(_))));
    }
}

#[test]
fn files_are_for_their_owner_alone() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    sealed(&keys, owner(1), "one");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(names(&path).len(), 2);
    assert!(names(&path).iter().all(|name| mode(&path.join(name)) == 0o600));
}

#[test]
fn a_missing_or_another_master_key_changes_nothing() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    let one = sealed(&keys, owner(1), "one");
    drop(keys);
    let before = names(&path);
    let error = Keyring::open(&path, Some(MasterKey::new([7; 32]))).unwrap_err();
    assert!(matches!(error, KeyringError::WrongMaster { .. }), "{error}");
    let master = fs::read(path.join("master")).unwrap();
    fs::remove_file(path.join("master")).unwrap();
    let error = Keyring::open(&path, None).unwrap_err();
    assert!(matches!(error, KeyringError::NoMaster { .. }), "{error}");
    fs::write(path.join("master"), "what").unwrap();
    let error = Keyring::open(&path, None).unwrap_err();
    assert!(error.to_string().contains("master` does not hold a key: restore it"), "{error}");
    fs::write(path.join("master"), master).unwrap();
    assert_eq!(names(&path), before);
    assert_eq!(Keyring::open(&path, None).unwrap().unseal(CONTEXT, &one), plain("one"));
}

#[test]
fn a_damaged_key_file_is_named() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    sealed(&keys, StreamId::Fleet, "one");
    let file = path.join("fleet.key");
    let text = fs::read_to_string(&file).unwrap();
    for broken in
        [String::new(), text.replace("fleet", "workspace/x"), text.replace("\"format\":1", "\"format\":2")]
    {
        fs::write(&file, broken).unwrap();
        let error = Keyring::open(&path, None).unwrap_err().to_string();
        assert!(error.contains("fleet.key` does not hold a key"), "{error}");
    }
    let last = text.rfind(|letter: char| letter.is_ascii_hexdigit()).unwrap();
    let other = if text[last..].starts_with('0') { "1" } else { "0" };
    fs::write(&file, format!("{}{other}{}", &text[..last], &text[last + 1..])).unwrap();
    assert!(matches!(Keyring::open(&path, None), Err(KeyringError::Malformed { .. })));
}

#[test]
fn an_erased_key_is_gone_for_good() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    let (one, two) = (sealed(&keys, owner(1), "one"), sealed(&keys, owner(2), "two"));
    let file = path.join(names(&path).into_iter().find(|name| name.contains("01010101")).unwrap());
    let kept = fs::read(&file).unwrap();
    keys.erase(owner(1)).unwrap();
    keys.erase(owner(1)).unwrap();
    for keys in [keys, Keyring::open(&path, None).unwrap()] {
        assert!(!file.exists());
        assert!(keys.is_erased(owner(1)) && !keys.is_erased(owner(2)));
        assert_eq!(keys.unseal(CONTEXT, &one), Ok(Unsealed::Erased));
        assert_eq!(keys.unseal(CONTEXT, &two), plain("two"));
        assert_eq!(keys.seal(owner(1), CONTEXT, b"again").unwrap(), None, "it gets no other key");
    }
    // A crash between the tombstone and the key's end, or somebody who restored the file.
    fs::write(&file, kept).unwrap();
    assert_eq!(Keyring::read(&path, None).unwrap().unseal(CONTEXT, &one), Ok(Unsealed::Erased));
    assert!(file.exists(), "who only reads changes nothing");
    assert_eq!(Keyring::open(&path, None).unwrap().unseal(CONTEXT, &one), Ok(Unsealed::Erased));
    assert!(!file.exists());
}

#[test]
fn an_erasure_without_a_key_keeps_one_from_being_made() {
    let (_dir, path) = place();
    Keyring::open(&path, None).unwrap().erase(owner(1)).unwrap();
    let keys = Keyring::open(&path, None).unwrap();
    assert_eq!(keys.seal(owner(1), CONTEXT, b"text").unwrap(), None);
}

#[test]
fn a_key_that_was_never_settled_is_in_no_file() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    let one = keys.seal(owner(1), CONTEXT, b"one").unwrap().unwrap();
    assert_eq!(keys.unseal(CONTEXT, &one), plain("one"));
    drop(keys);
    let keys = Keyring::open(&path, None).unwrap();
    assert!(matches!(keys.unseal(CONTEXT, &one), Ok(Unsealed::Missing(_))));
}

#[test]
fn who_only_reads_makes_no_key() {
    let (_dir, path) = place();
    let keys = Keyring::read(&path, None).unwrap();
    keys.seal(owner(1), CONTEXT, b"one").unwrap();
    assert!(keys.settle().is_err());
    keys.erase(owner(1)).unwrap();
    assert!(!path.exists());
}

#[test]
fn another_key_of_the_same_name_is_an_error_and_no_placeholder() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    let one = sealed(&keys, owner(1), "one");
    let id = key_id(&one).unwrap();
    for other in [Key::new(id, owner(1), &[7; 32]), Key::new(id, owner(2), &[7; 32])] {
        keys.lock_mut().by_id.insert(id, Arc::new(other));
        assert_eq!(keys.unseal(CONTEXT, &one), Err(Damaged));
    }
}

#[test]
fn a_crash_in_the_middle_of_an_erasure_keeps_nobody_from_his_keys() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    let (one, two) = (sealed(&keys, owner(1), "one"), sealed(&keys, owner(2), "two"));
    // Its name is in the tombstone, its file is overwritten and not removed.
    keys.folder.steps.store(3, Ordering::Relaxed);
    assert!(keys.erase(owner(1)).is_err());
    drop(keys);
    for keys in [Keyring::read(&path, None).unwrap(), Keyring::open(&path, None).unwrap()] {
        assert_eq!(keys.unseal(CONTEXT, &one), Ok(Unsealed::Erased));
        assert_eq!(keys.unseal(CONTEXT, &two), plain("two"));
    }
    assert_eq!(names(&path).len(), 3, "{:?}", names(&path));
}

#[test]
fn keys_that_were_given_up_are_kept_aside_and_their_owners_get_others() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    let (one, two) = (sealed(&keys, owner(1), "one"), sealed(&keys, owner(2), "two"));
    drop(keys);
    let ones = path.join(names(&path).into_iter().find(|name| name.contains("01010101")).unwrap());
    let garbled = fs::read_to_string(&ones).unwrap().replace("format", "what");
    fs::write(&ones, garbled).unwrap();
    assert!(Keyring::open(&path, None).is_err());
    let moved = Keyring::set_aside(&path, None).unwrap();
    assert_eq!(moved, [path.join("lost").join(ones.file_name().unwrap())]);
    assert!(Keyring::set_aside(&path, None).unwrap().is_empty(), "nothing is left to move");

    let keys = Keyring::open(&path, None).unwrap();
    let Ok(Unsealed::Missing(name)) = keys.unseal(CONTEXT, &one) else { panic!("its key is not here") };
    keys.give_up(owner(1), &[name].into()).unwrap();
    let again = sealed(&keys, owner(1), "again");
    drop(keys);
    let keys = Keyring::open(&path, None).unwrap();
    assert_eq!(keys.unseal(CONTEXT, &one), Ok(Unsealed::Lost));
    assert_eq!((keys.unseal(CONTEXT, &again), keys.unseal(CONTEXT, &two)), (plain("again"), plain("two")));
}

#[test]
fn without_its_master_key_everything_is_set_aside_and_nothing_is_removed() {
    let (_dir, path) = place();
    let keys = Keyring::open(&path, None).unwrap();
    sealed(&keys, owner(1), "one");
    sealed(&keys, StreamId::Fleet, "fleet");
    drop(keys);
    let given = MasterKey::new([7; 32]);
    let before = names(&path).len();
    assert_eq!(Keyring::set_aside(&path, Some(&given)).unwrap().len(), 2);
    assert_eq!(names(&path.join("lost")).len() + names(&path).len(), before + 1, "and the directory");
    Keyring::open(&path, Some(given)).unwrap();
}
