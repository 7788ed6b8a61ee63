//! Another master key for the same keys: while they are used, and whenever the process ends in between.

use std::thread;

use super::*;

fn given(n: u8) -> MasterKey {
    MasterKey::new([n; 32])
}

/// A directory with the keys of the fleet and of this many workspaces, and something sealed by each.
fn filled(path: &Path, master: Option<MasterKey>, workspaces: u8) -> Vec<Vec<u8>> {
    let keys = Keyring::open(path, master).unwrap();
    let owners = std::iter::once(StreamId::Fleet).chain((1..=workspaces).map(owner));
    owners.map(|owner| sealed(&keys, owner, "text")).collect()
}

fn opens_all(keys: &Keyring, all: &[Vec<u8>]) {
    for bytes in all {
        assert_eq!(keys.unseal(CONTEXT, bytes), plain("text"));
    }
}

/// How many master keys each key is wrapped by.
fn wraps(path: &Path) -> Vec<usize> {
    let paths = Folder::new(path).key_paths().unwrap();
    paths.iter().map(|path| fs::read_to_string(path).unwrap().matches("\"master\"").count()).collect()
}

#[test]
fn a_master_key_in_its_file_is_replaced_at_once_while_keys_are_used() {
    let (_dir, path) = place();
    let all = filled(&path, None, 2);
    let keys = Keyring::open(&path, None).unwrap();
    let old = fs::read_to_string(path.join("master")).unwrap();
    let rotation = keys.rotate(None).unwrap();
    assert_eq!((rotation.keys, rotation.in_force), (3, true));
    let new = fs::read_to_string(path.join("master")).unwrap();
    assert!(old != new && !new.contains(&rotation.master), "a name that the key can't be learned from");
    assert_eq!(wraps(&path), [1, 1, 1]);
    assert!(!path.join("next").exists());
    opens_all(&keys, &all);
    let later = sealed(&keys, owner(3), "text");
    drop(keys);
    let keys = Keyring::open(&path, None).unwrap();
    assert_eq!(keys.rotated(), None, "it was over before");
    opens_all(&keys, &all);
    opens_all(&keys, &[later]);
    drop(keys);
    fs::write(path.join("master"), old).unwrap();
    assert!(matches!(Keyring::open(&path, None), Err(KeyringError::WrongMaster { .. })));
}

#[test]
fn a_master_key_from_outside_is_replaced_by_the_start_that_is_given_the_next_one() {
    let (_dir, path) = place();
    let mut all = filled(&path, Some(given(1)), 2);
    let keys = Keyring::open(&path, Some(given(1))).unwrap();
    assert!(matches!(keys.rotate(None), Err(KeyringError::KeptOutside)));
    assert!(matches!(keys.rotate(Some(given(1))), Err(KeyringError::SameMaster)));
    let rotation = keys.rotate(Some(given(2))).unwrap();
    assert_eq!((rotation.keys, rotation.in_force), (3, false));
    all.push(sealed(&keys, owner(3), "text"));
    drop(keys);
    // Both open them until then, also what another start with the old one makes.
    let keys = Keyring::open(&path, Some(given(1))).unwrap();
    opens_all(&keys, &all);
    all.push(sealed(&keys, owner(4), "text"));
    assert_eq!((keys.rotated(), wraps(&path)), (None, vec![2; 5]));
    drop(keys);
    assert!(matches!(Keyring::open(&path, Some(given(3))), Err(KeyringError::WrongMaster { .. })));
    let keys = Keyring::open(&path, Some(given(2))).unwrap();
    opens_all(&keys, &all);
    assert_eq!(keys.rotated(), Some(&Rotation { keys: 5, in_force: true, ..rotation }));
    assert_eq!(wraps(&path), [1; 5]);
    drop(keys);
    assert!(matches!(Keyring::open(&path, Some(given(1))), Err(KeyringError::WrongMaster { .. })));
}

#[test]
fn a_master_key_moves_from_its_file_to_its_operator() {
    let (_dir, path) = place();
    let all = filled(&path, None, 1);
    Keyring::open(&path, None).unwrap().rotate(Some(given(2))).unwrap();
    opens_all(&Keyring::open(&path, None).unwrap(), &all);
    opens_all(&Keyring::open(&path, Some(given(2))).unwrap(), &all);
    assert!(!path.join("master").exists(), "who gives the key keeps it");
    assert!(matches!(Keyring::open(&path, None), Err(KeyringError::NoMaster { .. })));
}

#[test]
fn whichever_change_of_a_file_is_the_last_the_next_run_opens_every_key_and_ends_the_change() {
    for operator in [false, true] {
        let mut finished = 0;
        for steps in 0.. {
            let (_dir, path) = place();
            let all = filled(&path, None, 2);
            let keys = Keyring::open(&path, None).unwrap();
            keys.folder.steps.store(steps, Ordering::Relaxed);
            let done = keys.rotate(operator.then(|| given(2))).is_ok();
            opens_all(&keys, &all);
            drop(keys);
            opens_all(&Keyring::read(&path, None).unwrap(), &all);
            let keys = Keyring::open(&path, None).unwrap();
            opens_all(&keys, &all);
            let later = sealed(&keys, owner(9), "text");
            drop(keys);
            if operator && path.join("next").exists() {
                opens_all(&Keyring::open(&path, Some(given(2))).unwrap(), &all);
                finished += 1;
            } else {
                let keys = Keyring::open(&path, None).unwrap();
                opens_all(&keys, &all);
                opens_all(&keys, &[later]);
            }
            assert_eq!(wraps(&path), [1; 4], "after {steps} changes");
            assert!(!path.join("next").exists(), "after {steps} changes");
            if done {
                assert!(steps >= 8, "every change was tried");
                break;
            }
        }
        assert_eq!(finished > 0, operator);
    }
}

#[test]
fn keys_are_made_and_erased_while_the_master_key_is_replaced() {
    let (_dir, path) = place();
    let all = filled(&path, None, 40);
    let keys = Keyring::open(&path, None).unwrap();
    let made = thread::scope(|scope| {
        let rotating = scope.spawn(|| (0..5).for_each(|_| drop(keys.rotate(None).unwrap())));
        let making = scope.spawn(|| (100..160).map(|n| sealed(&keys, owner(n), "text")).collect::<Vec<_>>());
        let erasing = scope.spawn(|| (1..=20).for_each(|n| keys.erase(owner(n)).unwrap()));
        rotating.join().unwrap();
        erasing.join().unwrap();
        making.join().unwrap()
    });
    for keys in [keys, Keyring::open(&path, None).unwrap()] {
        opens_all(&keys, &made);
        opens_all(&keys, &all[21..]);
        opens_all(&keys, &all[..1]);
        assert!(all[1..21].iter().all(|bytes| keys.unseal(CONTEXT, bytes) == Ok(Unsealed::Erased)));
    }
    assert!(
        names(&path)
            .iter()
            .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "key"))
            .count()
            == 81,
        "none came back"
    );
}

#[test]
fn what_does_not_open_stops_a_replacement_before_anything_changes() {
    let (_dir, path) = place();
    let all = filled(&path, None, 2);
    let keys = Keyring::open(&path, None).unwrap();
    let other = tempfile::tempdir().unwrap();
    filled(other.path(), Some(given(7)), 1);
    let name = names(other.path()).into_iter().find(|name| name.contains("01010101")).unwrap();
    fs::copy(other.path().join(&name), path.join(&name)).unwrap();
    assert!(matches!(keys.rotate(None), Err(KeyringError::WrongMaster { .. })));
    assert!(!path.join("next").exists());
    opens_all(&keys, &all);
    let (_empty, nothing) = place();
    assert!(matches!(Keyring::open(&nothing, None).unwrap().rotate(None), Err(KeyringError::NoKeys)));
    assert!(Keyring::read(&path, None).is_err(), "another installation's key is among them");
}
