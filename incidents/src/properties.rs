//! Whatever a log holds, in whatever order: every question has the same answer twice, within its bounds, and none panics.

use covalence_events::fleet::{EngineFound, EngineLost, GraceStarted, ObserverChanged, PlatformStarted};
use covalence_events::log::EventLog as _;
use covalence_events::log::memory::MemoryLog;
use covalence_events::workspace::{
    HeartbeatReceived, OutcomeUnknown, Paused, ProvisionFailed, Removed, Resumed, SuspicionCleared,
    VerdictWithheld, WentOffline,
};
use covalence_events::{EventId, Generation, Position};
use proptest::prelude::*;

use crate::explain::STEPS_MAX;
use crate::report::About;
use crate::testing::{Story, all, at, id, restart, who};
use crate::timeline::{LINES_MAX, Span};
use crate::{Failure, Moment, Which, explain, incident, postmortem, report, timeline};

const PEOPLE: u128 = 3;

/// One thing that happens; causes and order need make no sense.
fn happen(story: &mut Story, what: u8, whose: u128, number: u64) -> EventId {
    let generation = Generation(number % 3);
    match what {
        0 => story.of(whose, HeartbeatReceived::default()),
        1 => story.suspicion(whose),
        2 => story.of(whose, SuspicionCleared { generation, by: "probe".to_owned(), lasted_ms: number }),
        3 => story.death(whose, restart(u128::from(number % 4))),
        4 => {
            let wish = story.death(whose, restart(u128::from(number % 4)));
            story.deferred(whose, restart(u128::from(number % 4)), wish, "tokens")
        }
        5 => {
            let wish = story.death(whose, restart(u128::from(number % 4)));
            let admission = story.admitted(whose, restart(u128::from(number % 4)), wish, 0.5);
            story.restarted(whose, restart(u128::from(number % 4)), admission)
        }
        6 => story.brake(&[whose]),
        18 => {
            let brake = story.brake(&[whose]);
            story.incident(brake)
        }
        7 => story.of(whose, Paused {}),
        8 => story.of(whose, Resumed {}),
        9 => story.of(whose, Removed { cascade_deleted: None, purge: false, forwarded_to: None }),
        10 => {
            let (engine, code) = ("process".to_owned(), "timeout".to_owned());
            story.fleet(EngineLost { engine, code, detail: "é".repeat(300) })
        }
        11 => story.fleet(EngineFound { engine: "process".to_owned(), after_ms: number }),
        12 => {
            let pause_ms = Some(u64::MAX - number);
            story.fleet(ObserverChanged { score: 3, pause_ms, ..ObserverChanged::default() })
        }
        13 => {
            story.reboot();
            let (version, backend) = (String::new(), String::new());
            story.fleet(PlatformStarted { version, backend, workspaces: number, head: Position(number) })
        }
        14 => story.fleet(GraceStarted { workspaces: 1, until: at(-5) }),
        15 => story.of(whose, WentOffline { rule: "r".to_owned(), message: Some("\u{1b}[2J".to_owned()) }),
        16 => {
            let (operation, detail) = ("provision".to_owned(), String::new());
            story.of(whose, OutcomeUnknown { generation, operation, detail })
        }
        17 => {
            let (code, message) = ("image_missing".to_owned(), String::new());
            story.of(whose, ProvisionFailed { generation, code, message, retryable: true, command: None })
        }
        _ => {
            let (rule, silent_ms) = ("one_source".to_owned(), u64::MAX);
            story.of(
                whose,
                VerdictWithheld { generation, rule, sources: Vec::new(), silent_ms, observer_score: 9 },
            )
        }
    }
}

/// Asks everything that there is to ask.
async fn ask(log: &MemoryLog, moment: i64) -> Vec<String> {
    let who = who(log).await;
    let mut answers = Vec::new();
    for number in 0..=PEOPLE {
        for moment in [Moment::Time(at(moment)), Moment::Now(at(moment)), Moment::Position(log.head())] {
            match explain::workspace(log, id(number), moment, &who).await {
                Ok(explained) => {
                    assert!(explained.steps.len() <= STEPS_MAX, "{explained:?}");
                    assert!(!explained.summary.is_empty(), "{explained:?}");
                    answers.push(serde_json::to_string(&explained).unwrap());
                }
                Err(Failure::NoWorkspace(_) | Failure::NotYet(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    for event in all(log).await {
        let explained = explain::fact(log, Which::Id(event.meta.id), &who).await.unwrap();
        assert!(
            explained.left_out > 0 || explained.steps.iter().any(|step| step.position == event.position.0),
            "{} is not in its own explanation: {explained:#?}",
            event.position
        );
        answers.push(serde_json::to_string(&explained).unwrap());
    }
    let since = Some(Moment::Time(at(moment.min(0))));
    let until = Moment::Position(log.head());
    let span = Span { since, until, after: None, workspaces: [id(1)].into(), lines: LINES_MAX };
    for span in [Span { workspaces: [].into(), ..span.clone() }, span] {
        let shown = timeline::between(log, &span, &who).await.unwrap();
        assert!(shown.lines.iter().all(|line| line.lane < shown.lanes.len()), "{shown:?}");
        let in_order = shown.lines.is_sorted_by_key(|line| line.position);
        assert!(in_order, "{shown:#?}");
        answers.push(serde_json::to_string(&shown).unwrap());
    }
    let known = incident::list(log, 50, &who).await.unwrap();
    let mut asked: Vec<About> = known.incidents.iter().map(|incident| About::Incident(incident.id)).collect();
    for workspaces in [[].into(), [id(1)].into()] {
        let since = Moment::Time(at(moment.min(0)));
        asked.push(About::Span { since, until: Moment::Position(log.head()), workspaces });
    }
    for about in asked {
        let report = report::show(log, &about, at(3_000_000), &who).await.unwrap();
        assert!(!report.causes.is_empty(), "{report:?}");
        assert!(report.causes.iter().all(|cause| (0.0..=1.0).contains(&cause.score)), "{report:#?}");
        assert!(report.main.len() <= report::LINES_MAX);
        answers.push(postmortem::draft(&report));
        answers.push(serde_json::to_string(&report).unwrap());
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_question_has_one_answer(
        happened in proptest::collection::vec((0..20_u8, 0..PEOPLE, 0..100_000_i64), 1..60),
        moment in -10_i64..2_000_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut story = Story::default();
            for number in 0..PEOPLE {
                story.created(number, &format!("w{number}"));
            }
            for (number, (what, whose, later)) in (1..).zip(&happened) {
                // Neighbours may be a little out of order.
                story.after(later - 20);
                happen(&mut story, *what, *whose, number);
            }
            let log = story.log().await;
            let first = ask(&log, moment).await;
            assert_eq!(ask(&log, moment).await, first);
        });
    }
}
