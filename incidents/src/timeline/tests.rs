//! What a page shows, how pages follow each other, and where gaps are.

use std::collections::BTreeSet;

use covalence_events::fleet::{EngineFound, EngineLost, ObserverChanged, PlatformStarted, PlatformStopped};
use covalence_events::log::memory::MemoryLog;
use covalence_events::workspace::{BackendKind, HeartbeatReceived};
use covalence_events::{Position, WorkspaceId};

use super::{FACTS_MAX, LINES_MAX, Span, Timeline, between};
use crate::testing::{LEAD, Story, at, id, restart, who};
use crate::{Failure, Moment};

fn span(since: i64, until: i64) -> Span {
    Span {
        since: Some(Moment::Time(at(since))),
        until: Moment::Time(at(until)),
        after: None,
        workspaces: BTreeSet::new(),
        lines: LINES_MAX,
    }
}

async fn shown(log: &MemoryLog, span: &Span) -> Timeline {
    between(log, span, &who(log).await).await.unwrap()
}

/// Lane and words of each line, with the count where it stands for several.
fn lines(timeline: &Timeline) -> Vec<String> {
    let line = |line: &super::Line| {
        let lane = &timeline.lanes[line.lane].name;
        let count = if line.count > 1 { format!(" x{}", line.count) } else { String::new() };
        format!("{lane}: {}{count}", line.text)
    };
    timeline.lines.iter().map(line).collect()
}

async fn incident() -> MemoryLog {
    let mut story = Story::of_lead();
    for _ in 0..3 {
        story.after(30_000).of(LEAD, HeartbeatReceived::default());
    }
    let wish = story.after(1000).death(LEAD, restart(1));
    let admission = story.after(10).admitted(LEAD, restart(1), wish, 3.0);
    story.restarted(LEAD, restart(1), admission);
    story.log().await
}

#[tokio::test]
async fn beats_are_one_line_and_decisions_are_marked_at_the_tokens_too() {
    let timeline = shown(&incident().await, &span(30_000, 200_000)).await;
    let said = lines(&timeline);
    assert_eq!(said[0], "lead: heartbeat x3");
    assert_eq!(said[1], "lead: proof of death from exit: exited, exit status 137 (SIGKILL), generation 1");
    let admission = timeline.lines.iter().find(|line| line.word == "restart_admitted").unwrap();
    assert_eq!(timeline.lanes[admission.also[0]].name, "tokens:process");
    assert_eq!((timeline.lines[0].to, timeline.next_after), (Some(at(91_000)), None));
    insta::assert_json_snapshot!(timeline.lines[4]);
}

#[tokio::test]
async fn pages_of_any_length_make_the_same_timeline() {
    let log = incident().await;
    let whole = shown(&log, &span(0, 200_000)).await;
    for lines in 1..whole.lines.len() {
        let mut asked = Span { lines, ..span(0, 200_000) };
        let mut together = shown(&log, &asked).await;
        while let Some(after) = together.next_after {
            asked.after = Some(Position(after));
            let page = shown(&log, &asked).await;
            assert!(page.lines.len() <= lines + 1, "a gap may come with the fact that ends it");
            together.go_on_with(&page);
        }
        // Only what repeats across the end of a page is more lines than one.
        let different = |timeline: &Timeline| {
            let found = timeline.lines.iter().filter(|line| line.word != "heartbeat_received");
            found.map(|line| (line.position, line.text.clone())).collect::<Vec<_>>()
        };
        assert_eq!((different(&together), together.facts), (different(&whole), whole.facts), "{lines}");
        assert_eq!(together.lanes, whole.lanes);
    }
}

#[tokio::test]
async fn a_few_workspaces_are_shown_with_what_holds_everybody() {
    let mut story = Story::of_lead();
    story.created(0xb, "coder");
    story.created(0xc, "tester");
    story.after(5000).brake(&[LEAD, 0xc]);
    let wish = story.death(0xb, restart(1));
    story.deferred(0xb, restart(1), wish, "brake");
    story.after(1000).suspicion(LEAD);
    let log = story.log().await;
    let only = |wanted: &[u128]| {
        let workspaces: BTreeSet<WorkspaceId> = wanted.iter().map(|number| id(*number)).collect();
        Span { workspaces, ..span(4000, 60_000) }
    };
    let lead = shown(&log, &only(&[LEAD])).await;
    assert_eq!(
        lines(&lead),
        [
            "brake:process: brake freeze, by suspicion: 5 of 15, from 3 on",
            "lead: suspect: heartbeat speaks against it, silent for 76.0 s, phi 9.2, observer score 0",
        ]
    );
    let everybody = shown(&log, &span(4000, 60_000)).await;
    let both = shown(&log, &only(&[LEAD, 0xb, 0xc])).await;
    assert_eq!(lines(&both), lines(&everybody), "merged streams are the log's order");
}

#[tokio::test]
async fn where_nobody_watched_there_is_a_gap() {
    let mut story = Story::of_lead();
    let away = |engine: &str| EngineLost {
        engine: engine.to_owned(),
        code: "timeout".to_owned(),
        detail: "no answer".to_owned(),
    };
    story.after(1000).fleet(away("docker"));
    story.after(9000).fleet(EngineFound { engine: "docker".to_owned(), after_ms: 9000 });
    story.fleet(ObserverChanged {
        cell: Some(BackendKind::Process),
        score: 3,
        loop_lag: 3,
        pause_ms: Some(6000),
        ..ObserverChanged::default()
    });
    story.after(1000).fleet(PlatformStopped { reason: "signal".to_owned(), workspaces_stopped: false });
    story.reboot();
    let started = || PlatformStarted {
        version: "0.1.0".to_owned(),
        backend: "process".to_owned(),
        workspaces: 1,
        head: Position(9),
    };
    story.after(36_000).fleet(started());
    story.reboot();
    story.after(60_000).fleet(started());
    story.fleet(away("docker"));
    let log = story.log().await;
    let gaps = |timeline: &Timeline| {
        let gaps = timeline.lines.iter().filter(|line| line.gap);
        gaps.map(|gap| (gap.word.clone(), gap.text.clone(), gap.to.map(|to| to - gap.at))).collect::<Vec<_>>()
    };
    let whole = shown(&log, &span(0, 600_000)).await;
    let seconds = |seconds| Some(chrono::TimeDelta::seconds(seconds));
    let gap = |word: &str, text: &str, lasted| (word.to_owned(), text.to_owned(), lasted);
    assert_eq!(
        gaps(&whole),
        [
            gap("engine_away", "not observed for 9.0 s: the engine did not answer", seconds(9)),
            gap("own_pause", "not observed: we stood still for 6.0 s", seconds(6)),
            gap("platform_down", "not observed for 36.0 s: the platform was stopped in order", seconds(36)),
            gap(
                "platform_down",
                "not observed for 60.0 s: the platform was gone without a word",
                seconds(60)
            ),
            gap("engine_away", "not observed: the engine does not answer", None),
        ]
    );
    let late = shown(&log, &span(5000, 600_000)).await;
    assert_eq!(gaps(&late), gaps(&whole), "a gap that was open at the beginning is drawn where it ends");
}

#[tokio::test]
async fn a_page_looks_at_a_bounded_number_of_facts() {
    let mut story = Story::of_lead();
    for _ in 0..FACTS_MAX + 10 {
        story.after(10).of(LEAD, HeartbeatReceived::default());
    }
    let log = story.log().await;
    let first = shown(&log, &span(0, 10_000_000)).await;
    assert_eq!((first.facts, first.next_after), (FACTS_MAX as u64, Some(FACTS_MAX as u64)));
    let rest = Span { after: first.next_after.map(Position), ..span(0, 10_000_000) };
    assert_eq!(shown(&log, &rest).await.next_after, None);
}

#[tokio::test]
async fn a_span_that_ends_before_it_begins_is_refused_and_an_empty_one_is_empty() {
    let log = incident().await;
    let backwards = between(&log, &span(100, 99), &who(&log).await).await;
    assert!(matches!(backwards, Err(Failure::Backwards)), "{backwards:?}");
    assert!(shown(&log, &span(500_000, 600_000)).await.lines.is_empty());
    let usual = Span { since: None, ..span(0, 1_000_000) };
    assert_eq!(shown(&log, &usual).await.since, at(100_000), "a quarter of an hour before");
}
