//! The platform's own loops.

use super::*;
use crate::runtime::STUCK_AFTER;

#[actix::test]
async fn a_loop_that_is_stuck_is_an_alarm_until_it_comes_round_again() {
    let (log, pulse) = (Arc::<MemoryLog>::default(), Pulse::aged("other", STUCK_AFTER * 2));
    let port = Arc::clone(&log) as Arc<dyn EventLog>;
    let pulses = vec![Arc::clone(&pulse)];
    let _platform =
        platform_with((port, Arc::clone(&log)), Arc::default(), Settings::default(), pulses).await;
    let told = async |tag: &str| {
        for _ in 0..2000 {
            let facts = log.read(covalence_events::StreamId::Fleet, Version(1), usize::MAX).await.unwrap();
            let alarms: Vec<_> =
                facts.iter().filter(|recorded| recorded.fact.tag().contains("alarm")).collect();
            if let Some(last) = alarms.last().filter(|recorded| recorded.fact.tag() == tag) {
                return (alarms.len(), format!("{:?}", last.fact));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not within ten seconds: {tag}");
    };
    let (count, raised) = told("fleet.alarm_raised.v1").await;
    assert!(count == 1 && raised.contains("loop_stuck:other"), "the runtime's own loops are well: {raised}");
    pulse.tick();
    let (count, resolved) = told("fleet.alarm_resolved.v1").await;
    assert!(count == 2 && resolved.contains("loop_stuck:other"), "{resolved}");
}
