//! Tokens: who gets one, and when it ends.

use chrono::TimeDelta;
use covalence_events::TokenId;
use covalence_events::workspace::{
    EnrolmentOpened, RefusedBecause, RegistrationRefused, TokenIssued, TokensRevoked,
};

use super::Facts;
use super::asked::alive;
use crate::context::{Context, Decision};
use crate::workspace::command::{NewToken, Register};
use crate::workspace::rejection::{Rejection, TOKENS_MAX};
use crate::workspace::state::State;

/// Refused registrations are recorded at most this often: whoever keeps trying must not fill the log.
const REFUSALS_EVERY: TimeDelta = TimeDelta::minutes(1);

/// The fact that a token exists.
pub(super) fn issued(token: &NewToken) -> TokenIssued {
    TokenIssued {
        token: token.token,
        sha256: token.sha256,
        prefix: token.prefix.clone(),
        purpose: token.purpose,
        generation: token.generation,
    }
}

/// The token that a registration hands out, if it hands one out: an agent gets its first one this way, while its workspace is
/// new or somebody said that it may. Nothing else proves that it is the agent.
pub(super) fn first<'a>(
    state: &State,
    register: &'a Register,
    ctx: &Context<'_>,
) -> Result<Option<&'a NewToken>, Rejection> {
    let Some(token) = register.mint.as_ref().filter(|_| !state.has_agents_token()) else { return Ok(None) };
    let until = state.enrolment.unwrap_or(state.created + register.enrolment);
    if ctx.at() > until { Err(Rejection::EnrolmentClosed) } else { Ok(Some(token)) }
}

pub(super) fn issue(state: &State, token: &NewToken, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if state.tokens.len() >= TOKENS_MAX {
        return Err(Rejection::TooManyTokens);
    }
    let mut facts = Decision::default();
    facts.push(ctx, issued(token));
    Ok(facts)
}

pub(super) fn revoke(state: &State, token: TokenId, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if !state.tokens.iter().any(|live| live.token == token) {
        return Err(Rejection::NoSuchToken);
    }
    let mut facts = Decision::default();
    facts.push(ctx, TokensRevoked { tokens: vec![token], reason: "revoked".to_owned() });
    Ok(facts)
}

pub(super) fn rotate(state: &State, token: &NewToken, ctx: &Context<'_>) -> Result<Facts, Rejection> {
    alive(state)?;
    if !state.is_external() {
        return Err(Rejection::NotExternal);
    }
    let mut facts = Decision::default();
    let revoked = facts.push(ctx, TokensRevoked { tokens: Vec::new(), reason: "rotated".to_owned() });
    facts.push_because(ctx, Some(revoked), issued(token));
    Ok(facts)
}

pub(super) fn open_enrolment(
    state: &State,
    window: TimeDelta,
    ctx: &Context<'_>,
) -> Result<Facts, Rejection> {
    alive(state)?;
    let mut facts = Decision::default();
    facts.push(ctx, EnrolmentOpened { until: ctx.at() + window });
    Ok(facts)
}

pub(super) fn refused(state: &State, reason: RefusedBecause, ctx: &Context<'_>) -> Facts {
    let mut facts = Decision::default();
    if state.refused.is_none_or(|last| ctx.at() - last >= REFUSALS_EVERY) {
        facts.push(ctx, RegistrationRefused { reason });
    }
    facts
}
