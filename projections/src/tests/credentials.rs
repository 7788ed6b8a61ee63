//! Who may speak for whom.

use covalence_events::TokenId;
use covalence_events::fleet::{OrgTokenIssued, OrgTokenRevoked};
use covalence_events::workspace::{Removed, TokensRevoked};
use uuid::Uuid;

use crate::Projection;
use crate::credentials::{Credentials, REVOKED_KEPT};
use crate::testing::{History, created, id, token};

fn fold(history: &History) -> Credentials {
    let mut credentials = Credentials::default();
    for recorded in &history.0 {
        credentials.apply(recorded).unwrap();
    }
    credentials
}

fn revoked(tokens: &[u8]) -> TokensRevoked {
    let tokens = tokens.iter().map(|number| TokenId(Uuid::from_u128(u128::from(*number)))).collect();
    TokensRevoked { tokens, reason: "rotated".to_owned() }
}

#[test]
fn an_issued_token_opens_its_own_workspace_only() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(2, created("b", None));
    history.of(1, token(9));
    let credentials = fold(&history);
    let found = credentials.lookup(&[9; 32]).unwrap();
    assert!(found.is_live());
    assert_eq!(found.workspace, id(1));
    assert!(credentials.lookup(&[8; 32]).is_none());
    assert!(credentials.has_live(id(1)) && !credentials.has_live(id(2)) && credentials.any_live());
}

#[test]
fn revoking_some_tokens_leaves_the_others_live() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, token(1));
    history.of(1, token(2));
    history.of(1, revoked(&[1]));
    let credentials = fold(&history);
    assert!(!credentials.lookup(&[1; 32]).unwrap().is_live());
    assert!(credentials.lookup(&[2; 32]).unwrap().is_live());
}

#[test]
fn revoking_without_names_revokes_all_of_that_workspace() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(2, created("b", None));
    history.of(1, token(1));
    history.of(1, token(2));
    history.of(2, token(3));
    history.of(1, revoked(&[]));
    let credentials = fold(&history);
    assert!(!credentials.has_live(id(1)) && credentials.has_live(id(2)) && credentials.any_live());
    assert_eq!(credentials.of(id(1)).filter(|credential| credential.revoked_at.is_some()).count(), 2);
}

#[test]
fn a_removed_workspace_keeps_its_digests_and_none_is_live() {
    let mut history = History::default();
    history.of(1, created("a", None));
    history.of(1, token(1));
    history.of(1, Removed { cascade_deleted: None, purge: false, forwarded_to: None });
    history.of(1, revoked(&[]));
    let credentials = fold(&history);
    let found = credentials.lookup(&[1; 32]).unwrap();
    assert!(found.workspace_removed && !found.is_live());
    assert!(!credentials.any_live());
}

#[test]
fn revoked_digests_of_one_workspace_are_bounded_and_the_oldest_go() {
    let mut history = History::default();
    history.of(1, created("a", None));
    let many = u8::try_from(REVOKED_KEPT).unwrap() + 4;
    for number in 1..=many {
        history.of(1, revoked(&[]));
        history.of(1, token(number));
    }
    let credentials = fold(&history);
    assert_eq!(credentials.of(id(1)).count(), REVOKED_KEPT + 1);
    assert!(credentials.lookup(&[1; 32]).is_none());
    assert!(credentials.lookup(&[many; 32]).unwrap().is_live());
}

fn issued_to_org(number: u8, name: Option<&str>) -> OrgTokenIssued {
    OrgTokenIssued {
        token: TokenId(Uuid::from_u128(u128::from(number))),
        sha256: [number; 32],
        prefix: format!("prefix-{number}"),
        name: name.map(str::to_owned),
    }
}

#[test]
fn an_organisation_s_token_is_known_until_it_is_revoked_and_says_who_made_it() {
    let mut history = History::default();
    history.fleet(issued_to_org(1, Some("ci")));
    history.fleet(issued_to_org(2, None));
    let credentials = fold(&history);
    let token = |number: u8| TokenId(Uuid::from_u128(u128::from(number)));
    assert_eq!(credentials.lookup_org(&[1; 32]), Some(token(1)));
    let names: Vec<_> = credentials.of_org().iter().map(|known| known.name.as_deref()).collect();
    assert_eq!(names, [None, Some("ci")], "newest first");
    assert!(!credentials.any_live(), "they close no fresh installation");

    history.fleet(OrgTokenRevoked { token: token(1) });
    let credentials = fold(&history);
    assert_eq!((credentials.lookup_org(&[1; 32]), credentials.of_org().len()), (None, 1));
}
