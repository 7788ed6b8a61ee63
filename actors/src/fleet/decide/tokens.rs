//! Organisation tokens: who gets one, and when it ends.

use covalence_events::TokenId;
use covalence_events::fleet::{OrgTokenIssued, OrgTokenRevoked};

use super::Draft;
use crate::fleet::command::NewOrgToken;
use crate::workspace::Rejection;
use crate::workspace::rejection::ORG_TOKENS_MAX;

pub(super) fn issue(draft: &mut Draft<'_>, token: &NewOrgToken) -> Result<(), Rejection> {
    if draft.state.org_tokens.len() >= ORG_TOKENS_MAX {
        return Err(Rejection::TooManyOrgTokens);
    }
    draft.push(OrgTokenIssued {
        token: token.token,
        sha256: token.sha256,
        prefix: token.prefix.clone(),
        name: token.name.clone(),
    });
    Ok(())
}

pub(super) fn revoke(draft: &mut Draft<'_>, token: TokenId) -> Result<(), Rejection> {
    if !draft.state.org_tokens.contains(&token) {
        return Err(Rejection::NoSuchToken);
    }
    draft.push(OrgTokenRevoked { token });
    Ok(())
}
