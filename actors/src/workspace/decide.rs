//! State, command and context to facts, or to a rejection. Pure, synchronous, total.
//!
//! An empty decision means "already so". What a person or an agent asks for is in [`asked`], what the outside reports in
//! [`reported`], what follows from a verdict in [`supervised`], from the platform's own end and start in [`platform`], how
//! what works is replaced in [`drain`], how it sleeps in [`hibernation`], what calls say in [`called`], what waits for a busy
//! agent in [`queued`], who is let in with what in [`tokens`], what is said in [`said`], what it keeps secret in [`secrets`],
//! which model is assigned to it in [`assignment`], who is below it in [`team`], and what becomes of tasks that are handed on in [`delegated`].

use covalence_events::Timestamp;
use covalence_events::workspace::Event;

use super::command::Command;
use super::rejection::Rejection;
use super::state::State;
use crate::context::{Context, Decision};
use crate::policy::Policy;

mod asked;
mod assignment;
mod called;
mod delegated;
mod doubt;
mod drain;
mod hibernation;
mod platform;
mod queued;
mod reported;
mod said;
mod secrets;
mod supervised;
mod team;
mod tokens;

/// When this workspace has to be looked at again though nothing happens.
pub fn deadline(state: &State, policy: &Policy, observing_since: Timestamp) -> Option<Timestamp> {
    let said = called::due(state).or_else(|| supervised::deadline(state, policy, observing_since));
    [said, state.delegations.due(), state.queue.due()].into_iter().flatten().min()
}

/// The facts that one command leads to.
pub(super) type Facts = Decision<Event>;

/// See the module. `None` is a workspace that was never created.
#[expect(clippy::too_many_lines, reason = "one arm for every command, exhaustive on purpose")]
pub fn decide(state: Option<&State>, command: &Command, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    if let Command::Create(create) = command {
        return match state {
            Some(_) => Err(Rejection::AlreadyExists),
            None => asked::create(create, ctx),
        };
    }
    let state = state.ok_or(Rejection::NotFound)?;
    match command {
        Command::Create(_) => Err(Rejection::AlreadyExists),
        Command::Amend(changes) => asked::amend(state, changes, ctx),
        Command::Restart(restart) => asked::restart(state, restart, ctx),
        Command::Pause => asked::pause(state, ctx),
        Command::Resume => asked::resume(state, ctx),
        Command::Hibernate(hibernate) => hibernation::hibernate(state, *hibernate, ctx),
        Command::Wake => hibernation::wake(state, ctx),
        Command::Remove(remove) => Ok(asked::remove(state, *remove, ctx)),
        Command::Erase => asked::erase(state, ctx),
        Command::ShutDown => Ok(platform::shut_down(state, ctx)),
        Command::RecordPlatformStart => Ok(platform::started(state, ctx)),
        Command::Register(register) => asked::register(state, register, ctx),
        Command::IssueToken(token) => tokens::issue(state, token, ctx),
        Command::RevokeToken(token) => tokens::revoke(state, *token, ctx),
        Command::RotateToken(token) => tokens::rotate(state, token, ctx),
        Command::OpenEnrolment { window } => tokens::open_enrolment(state, *window, ctx),
        Command::RecordRegistrationRefused(reason) => Ok(tokens::refused(state, *reason, ctx)),
        Command::Heartbeat(beat) => asked::heartbeat(state, beat, ctx),
        Command::UpdateCard { agent_card } => asked::update_card(state, agent_card, ctx),
        Command::RecordAdmission { restart, admission } => {
            supervised::admitted(state, *restart, *admission, ctx)
        }
        Command::RecordDrained(drained) => drain::ended(state, *drained, ctx),
        Command::RecordConfirmed { restart, evidence, url } => {
            supervised::confirmed(state, *restart, (evidence, url.as_deref()), ctx)
        }
        Command::RecordQuarantineProbed => Ok(supervised::quarantine_probed(state, ctx)),
        Command::RecordTakenAlong => Ok(supervised::taken_along(state, ctx)),
        Command::RecordOutcomeUnknown { generation, operation, detail } => {
            Ok(reported::outcome_unknown(state, *generation, (operation, detail), ctx))
        }
        Command::RecordSuppression { restart, rule, message } => {
            supervised::suppressed(state, *restart, (rule, message), ctx)
        }
        Command::RecordProvisionToken(token) => reported::provision_token(state, token, ctx),
        Command::RecordProvisioned { generation, provisioned } => {
            reported::provisioned(state, *generation, provisioned, ctx)
        }
        Command::RecordProvisionFailed(failure) => reported::provision_failed(state, failure, ctx),
        Command::RecordStopped { generation } => Ok(reported::stopped(state, *generation, ctx)),
        Command::RecordStopFailed { generation, message } => {
            Ok(reported::stop_failed(state, *generation, message, ctx))
        }
        Command::RecordAdopted { generation, instance } => {
            Ok(reported::adopted(state, *generation, instance, ctx))
        }
        Command::RecordEvidence(evidence) => Ok(supervised::evidence(state, evidence, ctx)),
        Command::RecordDeadline => {
            let said = called::overdue(state, ctx);
            let said = if said.is_empty() { delegated::overdue(state, ctx) } else { said };
            let said = if said.is_empty() { queued::overdue(state, ctx) } else { said };
            Ok(if said.is_empty() { supervised::overdue(state, ctx) } else { said })
        }
        Command::RecordCallFinished(call, said) => {
            Ok(reported::call_finished(state, (call, said.as_deref()), ctx))
        }
        Command::SetSecret(secret) => secrets::set(state, secret, ctx),
        Command::RemoveSecret(name) => secrets::remove(state, name, ctx),
        Command::RecordGlobalSecrets(changes) => Ok(secrets::spread(state, changes, ctx)),
        Command::Queue(message) => said::queue(state, message, ctx),
        Command::QueueCall(call) => queued::queue(state, call, ctx),
        Command::DropStale { before } => Ok(queued::drop_stale(state, *before, ctx)),
        Command::RecordCallDispatched(call) => queued::dispatched(state, call, ctx),
        Command::RecordCallReturned(returned) => queued::returned(state, returned, ctx),
        Command::RecordCallDelivered(delivered) => Ok(queued::delivered(state, delivered, ctx)),
        Command::Report(activity) => said::report(state, activity, ctx),
        Command::Notify(notified) => said::notify(state, notified, ctx),
        Command::Ack { seq } => said::ack(state, *seq, ctx),
        Command::AssignAgent(assigned) => assignment::assign(state, assigned, ctx),
        Command::ReplaceAgent(assigned) => assignment::replace(state, assigned, ctx),
        Command::RemoveAgent => assignment::remove(state, ctx),
        Command::MoveAgent { to } => assignment::leave(state, *to, ctx),
        Command::TakeAgent { assigned, from } => assignment::take(state, assigned, *from, ctx),
        Command::RecordAgentMoved { agent, taken } => Ok(assignment::moved(state, *agent, *taken, ctx)),
        Command::RecordTeamExpanded(children) => team::expanded(state, children, ctx),
        Command::RecordTeamCollapsed(children) => team::collapsed(state, children, ctx),
        Command::Delegate(delegate) => delegated::delegate(state, delegate, ctx),
        Command::EndDelegation { delegation, end } => delegated::end(state, *delegation, end, ctx),
        Command::RecordDelegationDispatched(delegation) => delegated::dispatched(state, *delegation, ctx),
        Command::RecordDelegationQueued(delegation) => delegated::queued(state, *delegation, ctx),
        Command::RecordReply(reply) => Ok(delegated::replied(state, reply, ctx)),
        Command::RecordRestartAnnounced(announced) => Ok(reported::restart_announced(state, announced, ctx)),
        Command::RecordPanic { command, message } => Ok(reported::panicked(command, message, ctx)),
        #[cfg(feature = "fault-hooks")]
        Command::Panic => {
            #[expect(clippy::panic, reason = "the fault hook whose whole point it is")]
            {
                panic!("fault hook: a handler panics on purpose")
            }
        }
    }
}
