//! What begins, what ends, and what is said of it.

use covalence_events::log::memory::MemoryLog;
use covalence_events::log::segments::export::Progress;

use super::*;

fn at(seconds: i64) -> Timestamp {
    chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn holds(kind: &str) -> (String, String) {
    (kind.to_owned(), format!("{kind} is wrong"))
}

fn said(changes: &[Change]) -> Vec<(&str, bool)> {
    changes.iter().map(|change| (change.condition.kind.as_str(), change.over)).collect()
}

#[test]
fn each_begins_once_and_ends_once() {
    let conditions = Conditions::default();
    let two = || vec![holds("low_space:20"), holds("low_space:10")];
    let begun = conditions.update(two(), at(0));
    assert_eq!(said(&begun), [("low_space:20", false), ("low_space:10", false)]);
    assert_eq!(conditions.update(two(), at(10)), []);
    let ended = conditions.update(vec![holds("low_space:20")], at(20));
    assert_eq!(said(&ended), [("low_space:10", true)]);
    assert_eq!(ended[0].notice()["resolved"], true);
    let left = conditions.list();
    assert_eq!((left.len(), left[0].since), (1, at(0)));
}

#[test]
fn what_the_last_run_recorded_begins_no_second_time_and_ends() {
    let known = Condition { kind: "log_damaged".to_owned(), message: String::new(), since: at(0) };
    let conditions = Conditions::beginning_with([known]);
    assert_eq!(conditions.update(vec![holds("log_damaged")], at(10)), []);
    assert_eq!(conditions.list()[0].message, "log_damaged is wrong", "said anew");
    assert_eq!(said(&conditions.update(Vec::new(), at(20))), [("log_damaged", true)]);
}

#[test]
fn alarms_about_our_own_disk_and_log_are_told_apart() {
    assert!(["low_space:5", "log_read_only", "log_damaged", "export_failing"].into_iter().all(is_ours));
    assert!(!is_ours("brake:docker") && !is_ours("low_spaces") && !is_ours(""));
}

#[test]
fn an_export_that_fails_is_an_alarm_only_when_it_lasts_and_over_when_it_works() {
    let status = |progress: Progress| Arc::new(Status::new(Some("s3://b".to_owned()), progress));
    let failing = || status(Progress { failed: Some("no such bucket".to_owned()), ..Progress::default() });
    let conditions = Conditions::default();
    let (mut since, patience) = (None, Duration::from_secs(300));
    let mut look = |export: Arc<Status>, now| {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
        let sources = Sources { data_dir: PathBuf::from("/"), log, export };
        let mut holding = sources.look(&conditions, (&mut since, patience), now);
        holding.retain(|(kind, _)| kind == "export_failing");
        said(&conditions.update(holding, now)).iter().map(|(_, over)| *over).collect::<Vec<_>>()
    };
    assert!(look(failing(), at(0)).is_empty());
    assert!(look(status(Progress::default()), at(200)).is_empty(), "it worked again meanwhile");
    assert!(look(failing(), at(210)).is_empty());
    assert!(look(failing(), at(500)).is_empty());
    assert_eq!(look(failing(), at(510)), [false]);
    assert!(look(failing(), at(520)).is_empty());
    assert_eq!(look(status(Progress::default()), at(530)), [true]);
}
