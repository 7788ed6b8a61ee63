//! The actor: one stream, one writer, one mailbox.
//!
//! Commands are handled one at a time. A decision's facts are appended before anybody is answered and before the state
//! changes; heartbeats and call telemetry are the exception: they change the state when the log has taken them and are
//! answered before the flush, so that thousands a second fit through one mailbox.
//!
//! A panic in a pure function is caught here: its caller gets an error, the panic becomes a fact, and the state is
//! rebuilt from the stream. Nobody else notices.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use covalence_events::log::{Ack, Append, AppendError, Appending, Expected, Receipt as Appended};
use covalence_events::workspace::{BackendKind, HandlerPanicked};
use covalence_events::{Fact, NewEvent, Position, Principal, Recorded, StreamId, Timestamp, Version};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tracing::{error, warn};

use super::domain::{Domain, Workspace};
use super::outcomes::Counted;
use super::{CommandError, Runtime};
use crate::context::{Corrupt, Decision, Origin};
use crate::workspace::{self, Rejection};

/// Facts read at once while a state is rebuilt.
const REBUILD_PAGE: usize = 1024;

/// Heartbeats in the log's queue that have been answered already; more wait for their answer until the log has taken them,
/// so that those who send without a pause are slowed down before the queue is full. A quarter of what it holds.
pub(super) const EARLY_ANSWERS_MAX: usize = 1024;

/// How a command ended.
#[derive(Debug)]
pub(super) struct Done<S> {
    pub(super) events: Vec<Arc<Recorded>>,
    pub(super) summary: S,
}

pub(super) type Reply<D> = oneshot::Sender<Result<Done<<D as Domain>::Summary>, CommandError>>;

/// A command on its way.
pub(super) struct Do<D: Domain> {
    pub(super) command: D::Command,
    pub(super) origin: Origin,
    pub(super) reply: Reply<D>,
}

impl<D: Domain> Message for Do<D> {
    type Result = ();
}

/// A command that nobody waits for: a deadline that has passed.
pub(super) struct Unasked<D: Domain> {
    pub(super) command: D::Command,
    pub(super) origin: Origin,
}

impl<D: Domain> Message for Unasked<D> {
    type Result = ();
}

/// The deadline service's knock.
pub(super) struct Knock;

impl Message for Knock {
    type Result = ();
}

/// Asks for a copy of the state.
pub(super) struct Peek;

impl Message for Peek {
    type Result = Option<workspace::State>;
}

/// See the module.
pub(super) struct Cell<D: Domain> {
    pub(super) runtime: Runtime,
    pub(super) stream: StreamId,
    pub(super) state: Option<D::State>,
    version: Version,
    /// Why nothing works any more: a stream that can't be folded.
    corrupt: Option<Corrupt>,
    armed: Option<Timestamp>,
}

/// The facts that a command leads to.
pub(super) struct Decided {
    pub(super) events: Vec<NewEvent>,
    telemetry: bool,
}

/// Why a command leads to none.
pub(super) enum Undecided {
    Rejected(Rejection),
    Panicked(String),
    /// See [`Cell::corrupt`].
    Corrupt(String),
}

impl<D: Domain> Cell<D> {
    /// An actor over what is known of its stream.
    pub(super) fn new(runtime: Runtime, stream: StreamId, known: Option<(D::State, Version)>) -> Self {
        let (state, version) = known.map_or((None, Version(0)), |(state, version)| (Some(state), version));
        Self { runtime, stream, state, version, corrupt: None, armed: None }
    }

    /// Handles a command that nobody waits for. Its refusal by a full log would go unnoticed, so it comes back until it is
    /// taken: what it leads to is decided anew each time.
    pub(super) fn take(&mut self, message: Unasked<D>, ctx: &mut Context<Self>) {
        let (reply, answer) = oneshot::channel();
        let again = Unasked { command: message.command.clone(), origin: message.origin.clone() };
        self.handle(Do { command: message.command, origin: message.origin, reply }, ctx);
        let address = ctx.address();
        actix::spawn(async move {
            if let Ok(Err(error)) = answer.await
                && let Some(pause) = error.passes_after()
            {
                tokio::time::sleep(pause).await;
                let _ = address.send(again).await;
            }
        });
    }

    /// What a command leads to as things stand. Changes nothing.
    pub(super) fn decide(&self, command: &D::Command, origin: &Origin) -> Result<Decided, Undecided> {
        if let Some(corrupt) = &self.corrupt {
            return Err(Undecided::Corrupt(corrupt.to_string()));
        }
        let begun = Instant::now();
        let decision = self.runtime.shared.in_context(origin, self.kind(), |cx| {
            catch_unwind(AssertUnwindSafe(|| {
                let facts = D::decide(self.state.as_ref(), command, cx)?;
                let telemetry = facts.facts().iter().all(|fact| D::is_telemetry(&fact.event));
                Ok(Decided { events: facts.into_new_events(cx), telemetry })
            }))
        });
        self.runtime.shared.decide_seconds.record(begun.elapsed());
        match decision {
            Ok(decided) => decided.map_err(Undecided::Rejected),
            Err(panic) => Err(Undecided::Panicked(panic_text(&*panic))),
        }
    }

    fn store(&mut self, facts: Decided, message: Do<D>, ctx: &mut Context<Self>) {
        if facts.telemetry {
            self.store_telemetry(facts.events, message.reply, ctx);
        } else {
            let name = D::name(&message.command);
            let begun = Instant::now();
            let appending = self.append(facts.events, Ack::Durable);
            ctx.wait(appending.into_actor(self).map(move |result, cell, ctx| {
                cell.runtime.shared.strain.appended(begun.elapsed(), result.is_err());
                cell.stored(result, (name, message.reply), ctx);
            }));
        }
    }

    fn append(&self, events: Vec<NewEvent>, ack: Ack) -> Appending {
        let expected =
            if self.version == Version(0) { Expected::NoStream } else { Expected::Exact(self.version) };
        self.runtime.shared.log.append(vec![Append { stream: self.stream, expected, events }], ack)
    }

    fn store_telemetry(&mut self, events: Vec<NewEvent>, reply: Reply<D>, ctx: &mut Context<Self>) {
        match self.queue(events, ctx) {
            Err(error) => {
                let _ = reply.send(Err(refused(&error)));
            }
            Ok(None) => {
                let _ = reply.send(Ok(self.done(Vec::new())));
            }
            Ok(Some(appending)) => {
                let (queued, before) = Counted::in_addition(&self.runtime.shared.queued);
                let mut reply = Some(reply);
                if before < EARLY_ANSWERS_MAX
                    && let Some(reply) = reply.take()
                {
                    let _ = reply.send(Ok(self.done(Vec::new())));
                }
                ctx.spawn(appending.into_actor(self).map(move |result, cell, ctx| {
                    drop(queued);
                    let answer = result.map(|_| cell.done(Vec::new())).map_err(|error| {
                        warn!(stream = %cell.stream, %error, "telemetry was not recorded, rebuilding the actor");
                        cell.rebuild(ctx);
                        refused(&error)
                    });
                    if let Some(reply) = reply {
                        let _ = reply.send(answer);
                    }
                }));
            }
        }
    }

    /// Hands the log facts that are answered before the flush, and folds them as they will be recorded. Answers the append
    /// if it is under way still: should it fail after all, the actor has to be rebuilt.
    pub(super) fn queue(
        &mut self,
        events: Vec<NewEvent>,
        ctx: &mut Context<Self>,
    ) -> Result<Option<Appending>, AppendError> {
        let provisional: Vec<_> = events.iter().zip(1..).map(|(event, n)| self.foresee(event, n)).collect();
        let mut appending = self.append(events, Ack::Accepted);
        let at_once = (&mut appending).now_or_never().transpose()?;
        self.fold_or_rebuild(&provisional, ctx);
        Ok(at_once.is_none().then_some(appending))
    }

    /// The fact as it will be recorded, but for its position, on which no state rests.
    fn foresee(&self, event: &NewEvent, n: u64) -> Arc<Recorded> {
        Arc::new(Recorded {
            position: Position(0),
            stream: self.stream,
            version: Version(self.version.0 + n),
            meta: event.meta.clone(),
            fact: event.fact.clone(),
        })
    }

    fn stored(
        &mut self,
        result: Result<Appended, AppendError>,
        (command, reply): (&'static str, Reply<D>),
        ctx: &mut Context<Self>,
    ) {
        let appended = match result {
            Ok(appended) => appended,
            Err(error) => {
                // A log that takes nothing has said so itself, once.
                if !matches!(error, AppendError::Busy | AppendError::ReadOnly(_)) {
                    error!(stream = %self.stream, command, %error, "facts were not recorded");
                }
                if matches!(error, AppendError::Conflict { .. }) {
                    self.rebuild(ctx);
                }
                let _ = reply.send(Err(refused(&error)));
                return;
            }
        };
        if self.fold_or_rebuild(&appended.events, ctx) {
            for recorded in &appended.events {
                super::diary::tell(recorded);
                if let Some(state) = &self.state {
                    for work in D::react(recorded, state) {
                        self.runtime.dispatch(work, recorded.meta.correlation);
                    }
                }
            }
        }
        let _ = reply.send(Ok(self.done(appended.events)));
    }

    fn done(&self, events: Vec<Arc<Recorded>>) -> Done<D::Summary> {
        Done { events, summary: D::summary(self.state.as_ref()) }
    }

    fn fold_or_rebuild(&mut self, events: &[Arc<Recorded>], ctx: &mut Context<Self>) -> bool {
        let folded = catch_unwind(AssertUnwindSafe(|| {
            events.iter().try_for_each(|recorded| {
                self.state = Some(D::evolve(self.state.take(), recorded)?);
                self.version = recorded.version;
                Ok::<_, Corrupt>(())
            })
        }));
        match folded {
            Ok(Ok(())) => {
                self.settle(ctx);
                true
            }
            Ok(Err(corrupt)) => {
                self.give_up(corrupt);
                false
            }
            Err(panic) => {
                error!(stream = %self.stream, panic = %panic_text(&*panic), "folding a fact panicked");
                self.rebuild(ctx);
                false
            }
        }
    }

    /// Tells the rest of the runtime what changed, and arms the next deadline.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        let Some(state) = &self.state else { return };
        D::note(state, &self.runtime.shared);
        let due = self.due(state);
        if let Some(due) = due
            && self.armed.is_none_or(|armed| due < armed)
        {
            self.armed = Some(due);
            self.runtime.shared.deadlines.arm(due, ctx.address().recipient());
        }
    }

    fn kind(&self) -> Option<BackendKind> {
        D::cell(self.state.as_ref())
    }

    fn due(&self, state: &D::State) -> Option<Timestamp> {
        let shared = &self.runtime.shared;
        let view = shared.sight.view(D::cell(Some(state)), shared.clock.now().at);
        D::deadline(state, &shared.sight.policy().0, view.since)
    }

    fn give_up(&mut self, corrupt: Corrupt) {
        error!(stream = %self.stream, %corrupt, "this actor stops: its stream can't be folded");
        self.corrupt = Some(corrupt);
        if let StreamId::Workspace(id) = self.stream {
            self.runtime.shared.registry.withdraw(id);
        }
    }

    /// Reads the stream again from its beginning. Nothing is handled meanwhile.
    pub(super) fn rebuild(&mut self, ctx: &mut Context<Self>) {
        let (log, stream) = (Arc::clone(&self.runtime.shared.log), self.stream);
        let reading = async move {
            let mut state = None;
            let mut version = Version(0);
            loop {
                let page = log.read(stream, version.next(), REBUILD_PAGE).await.map_err(|e| e.to_string())?;
                if page.is_empty() {
                    return Ok((state, version));
                }
                for recorded in page {
                    state = Some(D::evolve(state, &recorded).map_err(|e| e.to_string())?);
                    version = recorded.version;
                }
            }
        };
        ctx.wait(reading.into_actor(self).map(|result: Result<_, String>, cell, ctx| match result {
            Ok((state, version)) => {
                cell.state = state;
                cell.version = version;
                cell.armed = None;
                cell.settle(ctx);
            }
            Err(error) => {
                error!(stream = %cell.stream, %error, "the actor could not be rebuilt");
                cell.corrupt =
                    Some(Corrupt { tag: "", position: Position(0), reason: "the stream could not be read" });
            }
        }));
    }

    fn panicked(&mut self, command: &'static str, text: String, origin: &Origin, ctx: &mut Context<Self>) {
        error!(stream = %self.stream, command, panic = text, "a handler panicked, rebuilding the actor");
        metrics::counter!(super::metrics_names::PANICS, "command" => command).increment(1);
        let StreamId::Workspace(_) = self.stream else { return self.rebuild(ctx) };
        if self.state.is_none() {
            return self.rebuild(ctx);
        }
        // Durable, so that everything queued before it is readable when the stream is read again.
        let fact = HandlerPanicked { command: command.to_owned(), message: text };
        let events = self.runtime.shared.in_context(origin, self.kind(), |cx| {
            let mut facts = Decision::<covalence_events::workspace::Event>::default();
            facts.push(cx, fact);
            facts.map(Fact::Workspace).into_new_events(cx)
        });
        let append = Append { stream: self.stream, expected: Expected::Any, events };
        let appending = self.runtime.shared.log.append(vec![append], Ack::Durable);
        ctx.wait(appending.into_actor(self).map(|result, cell, ctx| {
            if let Err(error) = result {
                error!(stream = %cell.stream, %error, "the panic was not recorded");
            }
            cell.rebuild(ctx);
        }));
    }
}

impl<D: Domain> Actor for Cell<D> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.runtime.shared.settings.mailbox_capacity);
        self.settle(ctx);
    }
}

impl<D: Domain> Handler<Do<D>> for Cell<D> {
    type Result = ();

    fn handle(&mut self, message: Do<D>, ctx: &mut Self::Context) {
        match self.decide(&message.command, &message.origin) {
            Ok(facts) if facts.events.is_empty() => {
                let _ = message.reply.send(Ok(self.done(Vec::new())));
            }
            Ok(facts) => self.store(facts, message, ctx),
            Err(Undecided::Rejected(rejection)) => {
                let _ = message.reply.send(Err(rejection.into()));
            }
            Err(Undecided::Corrupt(reason)) => {
                let _ = message.reply.send(Err(CommandError::Corrupt { reason }));
            }
            Err(Undecided::Panicked(panic)) => {
                let command = D::name(&message.command);
                let _ = message.reply.send(Err(CommandError::Panicked { command }));
                self.panicked(command, panic, &message.origin, ctx);
            }
        }
    }
}

impl<D: Domain> Handler<Unasked<D>> for Cell<D> {
    type Result = ();

    fn handle(&mut self, message: Unasked<D>, ctx: &mut Self::Context) {
        self.take(message, ctx);
    }
}

impl Handler<Peek> for Cell<Workspace> {
    type Result = Option<workspace::State>;

    fn handle(&mut self, _: Peek, _: &mut Self::Context) -> Self::Result {
        self.state.clone()
    }
}

impl<D: Domain> Handler<Knock> for Cell<D> {
    type Result = ();

    fn handle(&mut self, _: Knock, ctx: &mut Self::Context) {
        self.armed = None;
        let Some(state) = &self.state else { return };
        match self.due(state) {
            Some(due) if due <= self.runtime.shared.clock.now().at => {
                self.take(Unasked { command: D::due(), origin: Origin::new(Principal::System) }, ctx);
            }
            Some(_) => self.settle(ctx),
            None => {}
        }
    }
}

pub(super) fn refused(error: &AppendError) -> CommandError {
    match error {
        AppendError::Busy | AppendError::Conflict { .. } => {
            CommandError::Busy { retry_after: super::BUSY_RETRY_AFTER }
        }
        AppendError::ReadOnly(read_only) => CommandError::LogUnavailable(read_only.clone()),
        AppendError::Invalid(reason) => CommandError::Unrecordable { reason: reason.to_string() },
        AppendError::Closed => CommandError::ShuttingDown,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
