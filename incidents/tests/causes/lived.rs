//! A world that was lived through, as a log.

use covalence_actors::simulation::World;
use covalence_events::fleet::Event;
use covalence_events::log::memory::MemoryLog;
use covalence_events::log::{Ack, Append, EventLog as _, Expected};
use covalence_events::{Fact, IncidentId, NewEvent, Timestamp};
use covalence_incidents::report::{self, About, Report};
use covalence_incidents::{Moment, Who};

/// Its log, and who is who in it.
pub(crate) struct Lived {
    log: MemoryLog,
    who: Who,
    incidents: Vec<IncidentId>,
}

impl Lived {
    pub(crate) async fn of(world: &World) -> Self {
        let log = MemoryLog::new();
        let (mut who, mut incidents) = (Who::default(), Vec::new());
        for (_, recorded) in world.ledger().facts() {
            who.learn(recorded);
            if let Fact::Fleet(Event::IncidentOpened(e)) = &recorded.fact {
                incidents.push(e.incident);
            }
            let event = NewEvent { meta: recorded.meta.clone(), fact: recorded.fact.clone() };
            let append = Append { stream: recorded.stream, expected: Expected::Any, events: vec![event] };
            log.append(vec![append], Ack::Durable).await.expect("appended");
        }
        Self { log, who, incidents }
    }

    /// The incidents that brakes opened, in order.
    pub(crate) fn incidents(&self) -> &[IncidentId] {
        &self.incidents
    }

    pub(crate) async fn incident(&self, id: IncidentId, now: Timestamp) -> Report {
        report::show(&self.log, &About::Incident(id), now, &self.who).await.expect("a report")
    }

    pub(crate) async fn span(&self, since: Timestamp, until: Timestamp) -> Report {
        let about = About::Span {
            since: Moment::Time(since),
            until: Moment::Time(until),
            workspaces: std::collections::BTreeSet::new(),
        };
        report::show(&self.log, &about, until, &self.who).await.expect("a report")
    }
}
