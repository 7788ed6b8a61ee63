//! Answers that go on for as long as somebody listens: they end when the credential that opened them is worthless.

use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::Identity;
use crate::http::request::Ctx;

/// How often the credential behind an answer in which nothing happens is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether what a request showed still opens what it opened.
pub fn still(ctx: &Ctx) -> bool {
    Identity::of(ctx.request.headers(), &ctx.state) == ctx.known.identity
}

/// The same pieces, and none after the credential was revoked; the end of the answer follows within a second.
pub fn while_valid<S, E>(ctx: &Ctx, pieces: S) -> impl Stream<Item = Result<Bytes, E>> + use<S, E>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    let (before_each, meanwhile) = (ctx.clone(), ctx.clone());
    let revoked = async move {
        while still(&meanwhile) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    pieces.take_while(move |_| ready(still(&before_each))).take_until(revoked)
}
