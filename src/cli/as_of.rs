//! `--as-of`: what every command that shows state takes, and passes on.

use clap::Args;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::failure::Outcome;
use crate::cli::incidents::query;
use crate::cli::when::When;

/// As of when.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct AsOf {
    /// As things stood at this time or position
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::parse)]
    as_of: Option<When>,
}

impl AsOf {
    /// Whether it is about the past.
    pub(super) const fn is_past(self) -> bool {
        self.as_of.is_some()
    }

    /// A request about that moment.
    pub(super) fn on(self, request: RequestBuilder) -> RequestBuilder {
        match self.as_of {
            Some(when) => request.query(&[("as_of", query(when))]),
            None => request,
        }
    }

    /// `GET` of JSON as of that moment.
    pub(super) async fn get(self, client: &Client, segments: &[&str]) -> Outcome<Value> {
        client.json(self.on(client.request(Method::GET, segments))).await
    }

    /// All workspaces that were there and not removed.
    pub(super) async fn roster(self, client: &Client) -> Outcome<Vec<Value>> {
        let answer = self.get(client, &["workspaces"]).await?;
        Ok(answer.as_array().cloned().unwrap_or_default())
    }
}
