//! Folding projections anew beside those that serve, comparing, and swapping.
//!
//! # Guarantees
//! - The serving projections go on serving and following; a reader never gets an error or an older state because of a rebuild.
//! - A fresh one takes over whole, at a position that is not before what it replaces. One that stops on the way never does.
//! - Both are compared by the hash of their states at the same position. One that differs was wrong, whatever the reason: it
//!   is replaced all the same, and that is said loudly.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use covalence_events::Position;
use covalence_events::log::{EventLog, ReadError};
use tokio::runtime::Handle;

use crate::metrics as names;
use crate::runner::{READ, Views};
use crate::view::{AnyView, Fingerprint, Health};

/// Rounds in which the fresh ones catch up with the serving ones. Folding is many times faster than appending, so one or two
/// do; more would be a log that is written faster than it can be read.
const ROUNDS_MAX: usize = 1000;

/// What became of one projection's rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Still going on.
    Running,
    /// The fresh one is equal, and serves.
    Agreed,
    /// The fresh one is not equal, and serves. What was answered before was wrong.
    Differed,
    /// The serving one had stopped at a fact that the fresh one could apply; it serves and follows again.
    Healed,
    /// The fresh one stopped too. The serving one stays as it is.
    Stalled(String),
    /// The log could not be read to its end. The serving one stays as it is.
    Failed(String),
}

impl Outcome {
    /// The word used everywhere.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Agreed => "agreed",
            Self::Differed => "differed",
            Self::Healed => "healed",
            Self::Stalled(_) => "stalled",
            Self::Failed(_) => "failed",
        }
    }

    /// Why it did not take over.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Stalled(reason) | Self::Failed(reason) => Some(reason),
            Self::Running | Self::Agreed | Self::Differed | Self::Healed => None,
        }
    }
}

/// The last rebuild of one projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which projection.
    pub name: &'static str,
    /// When it began.
    pub began: DateTime<Utc>,
    /// How far the fresh one is.
    pub position: Position,
    /// Where the log ended when it began.
    pub through: Position,
    /// What became of it.
    pub outcome: Outcome,
    /// The serving state where they were compared.
    pub serving: Option<Fingerprint>,
    /// The fresh state there.
    pub fresh: Option<Fingerprint>,
}

/// Why a rebuild was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One is going on.
    #[error("a rebuild is going on")]
    Running,
    /// No projection has that name.
    #[error("no such projection")]
    Unknown,
}

/// What is asked of a rebuild, and what the last ones came to.
#[derive(Clone, Debug)]
pub struct Rebuilder {
    views: Arc<Views>,
    log: Arc<dyn EventLog>,
    runtime: Handle,
    reports: Arc<Mutex<Vec<Report>>>,
}

impl Rebuilder {
    /// One for these projections. It works on threads of `runtime` that may block.
    pub fn new(views: Arc<Views>, log: Arc<dyn EventLog>, runtime: Handle) -> Self {
        Self { views, log, runtime, reports: Arc::default() }
    }

    /// The last rebuild of each projection that was rebuilt in this run.
    pub fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each projection fares, with what its state comes to. Takes a copy of each, one after the other, and blocks.
    pub fn fingerprints(&self) -> Vec<(Health, Option<Fingerprint>)> {
        let head = self.log.head();
        let each = self.views.each().into_iter();
        each.map(|view| (view.health(head), view.fork_any().fingerprint().ok())).collect()
    }

    /// Begins to rebuild one projection, or all of them. `began` is when. [`Rebuilder::reports`] shows how it goes on.
    pub fn begin(&self, only: Option<&str>, began: DateTime<Utc>) -> Result<(), Refused> {
        let each = self.views.each().into_iter();
        let chosen: Vec<&'static str> =
            each.map(AnyView::name).filter(|name| only.is_none_or(|only| only == *name)).collect();
        if chosen.is_empty() {
            return Err(Refused::Unknown);
        }
        let through = self.log.head();
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.iter().any(|report| report.outcome == Outcome::Running) {
            return Err(Refused::Running);
        }
        reports.retain(|report| !chosen.contains(&report.name));
        reports.extend(chosen.iter().map(|name| Report {
            name,
            began,
            position: Position(0),
            through,
            outcome: Outcome::Running,
            serving: None,
            fresh: None,
        }));
        drop(reports);
        let (this, runtime) = (self.clone(), self.runtime.clone());
        self.runtime.spawn_blocking(move || runtime.block_on(this.run(&chosen)));
        Ok(())
    }

    async fn run(&self, chosen: &[&'static str]) {
        let finish = Finish(self);
        let serving: Vec<&dyn AnyView> =
            self.views.each().into_iter().filter(|view| chosen.contains(&view.name())).collect();
        let mut pairs: Vec<Pair<'_>> = serving.into_iter().map(Pair::new).collect();
        if let Err(error) = self.fold_and_swap(&mut pairs).await {
            for pair in &pairs {
                self.end(pair.serving.name(), Outcome::Failed(error.to_string()));
            }
        }
        drop(finish);
    }

    async fn fold_and_swap(&self, pairs: &mut [Pair<'_>]) -> Result<(), ReadError> {
        // First nearly all of it, with what serves left alone but for those that stopped: they are compared where they did.
        let through = pairs.iter().filter(|pair| pair.stalled_at.is_none()).map(Pair::at).min();
        let mut at = Position(0);
        at = self.fold(pairs, at, through.unwrap_or_else(|| self.log.head())).await?;
        // Then a copy of what serves, and the fresh ones up to where it is.
        for pair in &mut *pairs {
            pair.capture();
        }
        let captured = pairs.iter().filter_map(|pair| pair.compare_at).max().unwrap_or(at);
        at = self.fold(pairs, at, captured).await?;
        for pair in &mut *pairs {
            pair.compare();
            self.update(pair.serving.name(), |report| {
                (report.serving, report.fresh) = (pair.was.clone(), pair.is.clone());
            });
        }
        for _ in 0..ROUNDS_MAX {
            let offered = pairs.iter().map(|pair| pair.serving.offered()).max().unwrap_or(at);
            at = self.fold(pairs, at, offered.max(at)).await?;
            let waiting = pairs.iter_mut().filter(|pair| pair.fresh.is_some()).map(|pair| self.swap(pair));
            if waiting.filter(|done| !done).count() == 0 {
                return Ok(());
            }
        }
        let reason = "the log grows faster than it can be read".to_owned();
        Err(ReadError::Store { what: "its end".to_owned(), reason })
    }

    /// Takes in what lies after `at`, up to `through`.
    async fn fold(
        &self,
        pairs: &mut [Pair<'_>],
        at: Position,
        through: Position,
    ) -> Result<Position, ReadError> {
        let mut next = at.next();
        while next <= through {
            let batch = self.log.read_all(next, READ).await?;
            let Some(last) = batch.last() else { break };
            next = last.position.next();
            for recorded in batch.iter().take_while(|recorded| recorded.position <= through) {
                for pair in &mut *pairs {
                    pair.take(recorded);
                }
            }
            for pair in &*pairs {
                let position = Position(next.0 - 1).min(through);
                self.update(pair.serving.name(), |report| report.position = position);
            }
        }
        Ok(through.max(at))
    }

    /// Lets the fresh one take over; `false` where it is still behind.
    fn swap(&self, pair: &mut Pair<'_>) -> bool {
        let Some(fresh) = pair.fresh.take() else { return true };
        let name = pair.serving.name();
        if let Some(stalled) = fresh.health(Position(0)).stalled {
            self.end(name, Outcome::Stalled(format!("position {}: {}", stalled.position, stalled.reason)));
            return true;
        }
        let had_stopped = pair.serving.health(Position(0)).stalled.is_some();
        if let Err(behind) = pair.serving.replace(fresh) {
            pair.fresh = Some(behind);
            return false;
        }
        if had_stopped {
            self.views.mended();
        }
        let differs = pair.was.is_none() || pair.was != pair.is;
        self.end(
            name,
            match (differs, had_stopped) {
                (true, _) => Outcome::Differed,
                (false, true) => Outcome::Healed,
                (false, false) => Outcome::Agreed,
            },
        );
        true
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut Report)) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = reports.iter_mut().find(|report| report.name == name) {
            change(report);
        }
    }

    fn end(&self, name: &'static str, outcome: Outcome) {
        self.update(name, |report| {
            if report.outcome != Outcome::Running {
                return;
            }
            let (word, reason) = (outcome.as_str(), outcome.reason().unwrap_or_default().to_owned());
            metrics::counter!(names::REBUILDS, names::PROJECTION => name, names::OUTCOME => word)
                .increment(1);
            match outcome {
                Outcome::Differed => tracing::error!(
                    projection = name, serving = ?report.serving, fresh = ?report.fresh,
                    "a projection was wrong: folded anew it is another one, which serves from here on"
                ),
                Outcome::Stalled(_) | Outcome::Failed(_) => {
                    tracing::error!(projection = name, reason, "a projection could not be rebuilt");
                }
                Outcome::Running | Outcome::Agreed | Outcome::Healed => {
                    tracing::info!(projection = name, outcome = word, "a projection was rebuilt");
                }
            }
            report.outcome = outcome;
        });
    }
}

/// Ends whatever a rebuild that was cut off, by a panic say, has left running: the next one must not wait for it.
struct Finish<'a>(&'a Rebuilder);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        for report in self.0.reports() {
            self.0.end(report.name, Outcome::Failed("it was cut off".to_owned()));
        }
    }
}

/// One projection that serves, and the fresh one beside it.
struct Pair<'a> {
    serving: &'a dyn AnyView,
    fresh: Option<Box<dyn AnyView>>,
    stalled_at: Option<Position>,
    /// What serves, as it was where the two are compared.
    captured: Option<Box<dyn AnyView>>,
    compare_at: Option<Position>,
    compared: bool,
    was: Option<Fingerprint>,
    is: Option<Fingerprint>,
}

impl<'a> Pair<'a> {
    fn new(serving: &'a dyn AnyView) -> Self {
        let (health, fresh) = (serving.health(Position(0)), Some(serving.fresh()));
        let stalled_at = health.stalled.is_some().then_some(health.checkpoint);
        let mut pair = Self {
            serving,
            fresh,
            stalled_at,
            captured: None,
            compare_at: None,
            compared: false,
            was: None,
            is: None,
        };
        if stalled_at.is_some() {
            pair.capture();
        }
        pair
    }

    /// The last fact that serves.
    fn at(&self) -> Position {
        self.serving.health(Position(0)).checkpoint
    }

    fn capture(&mut self) {
        if !self.compared && self.captured.is_none() {
            let captured = self.serving.fork_any();
            self.compare_at = Some(captured.health(Position(0)).checkpoint);
            self.captured = Some(captured);
        }
    }

    fn take(&mut self, recorded: &covalence_events::Recorded) {
        if self.compare_at.is_some_and(|at| recorded.position > at) {
            self.compare();
        }
        if let Some(fresh) = &mut self.fresh {
            fresh.fold_one(recorded);
        }
    }

    /// Compares, once, where the fresh one has got as far as what was captured.
    fn compare(&mut self) {
        let Some(captured) = self.captured.take() else { return };
        let is = self.fresh.as_ref().and_then(|fresh| fresh.fingerprint().ok());
        (self.was, self.is) = (captured.fingerprint().ok(), is);
        (self.compare_at, self.compared) = (None, true);
    }
}
