//! Organisation tokens: made up to a number, and ended once.

use covalence_events::TokenId;

use super::*;
use crate::fleet::command::NewOrgToken;
use crate::workspace::rejection::ORG_TOKENS_MAX;

fn token(number: u128) -> TokenId {
    TokenId(Uuid::from_u128(number))
}

fn issue(number: u128) -> Command {
    Command::IssueOrgToken(NewOrgToken {
        token: token(number),
        sha256: [0; 32],
        prefix: "prefix".to_owned(),
        name: None,
    })
}

#[test]
fn an_organisation_has_so_many_tokens_and_one_that_ends_makes_room() {
    let mut fleet = Fleet::of(1);
    for number in 0..ORG_TOKENS_MAX as u128 {
        assert_eq!(tags(&fleet.when(&issue(number))), ["fleet.org_token_issued.v1"]);
    }
    assert_eq!(fleet.try_when(&issue(1000)), Err(Rejection::TooManyOrgTokens));
    let end = Command::RevokeOrgToken { token: token(7) };
    assert_eq!(tags(&fleet.when(&end)), ["fleet.org_token_revoked.v1"]);
    assert_eq!(fleet.try_when(&end), Err(Rejection::NoSuchToken));
    assert_eq!(tags(&fleet.when(&issue(1000))), ["fleet.org_token_issued.v1"]);
}
