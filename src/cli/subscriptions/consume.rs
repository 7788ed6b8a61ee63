//! `covalence subscriptions read|ack|nack`.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::failure::Outcome;
use crate::cli::output::{Output, note, text};

/// Seconds that one request of a reader who goes on waits for facts.
const WAIT: f64 = 20.0;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence subscriptions read audit --limit 10\n                                              look at the next ten, and leave them open\n  covalence subscriptions read audit --ack --follow > audit.ndjson\n                                              keep all of them, and go on as more come\n\nEach fact is a line of JSON, with how often it was delivered (attempt). What is not acknowledged comes again."
)]
pub(super) struct Read {
    /// Its name
    name: String,
    /// At most so many at once
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Acknowledge each delivery when it is printed
    #[arg(long)]
    ack: bool,
    /// Go on as more come; needs --ack, since what is not acknowledged stops it in the end
    #[arg(long, requires = "ack")]
    follow: bool,
    /// Wait for another consumer to go, instead of giving up
    #[arg(long)]
    standby: bool,
    /// Who reads, for others to see
    #[arg(long, value_name = "CONSUMER", default_value = "covalence")]
    consumer: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  covalence subscriptions ack audit --lease 7c9e… 41 42 43")]
pub(super) struct Ack {
    /// Its name
    name: String,
    /// The lease that `read` printed
    #[arg(long, value_name = "LEASE")]
    lease: String,
    /// Positions of the facts
    #[arg(value_name = "POSITION", required_unless_present = "up_to")]
    positions: Vec<u64>,
    /// And everything that was read up to this position
    #[arg(long, value_name = "POSITION")]
    up_to: Option<u64>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  covalence subscriptions nack audit --lease 7c9e… 41 --reason 'the disk is full'"
)]
pub(super) struct Nack {
    /// Its name
    name: String,
    /// The lease that `read` printed
    #[arg(long, value_name = "LEASE")]
    lease: String,
    /// Positions of the facts
    #[arg(value_name = "POSITION", required = true)]
    positions: Vec<u64>,
    /// Why; nothing about persons, since it is kept as it is
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Put them aside at once
    #[arg(long)]
    park: bool,
}

impl Read {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let mut lease = Value::Null;
        loop {
            let wait = if self.follow || self.standby { WAIT } else { 0.0 };
            let wish = json!({
                "consumer": self.consumer, "lease": lease, "limit": self.limit, "wait": wait, "standby": self.standby,
            });
            let batch = post(client, &self.name, "fetch", &wish).await?;
            lease = batch["lease"].clone();
            let facts = batch["facts"].as_array().map(Vec::as_slice).unwrap_or_default();
            for fact in facts {
                output.line(&fact.to_string())?;
            }
            // After the lines are out: who is killed in between sees them again, and never misses one.
            if self.ack && !facts.is_empty() {
                let positions: Vec<&Value> = facts.iter().map(|fact| &fact["position"]).collect();
                post(client, &self.name, "ack", &json!({"lease": lease, "positions": positions})).await?;
            }
            if self.follow {
                continue;
            }
            if self.ack || facts.is_empty() {
                let released = json!({"lease": lease});
                post(client, &self.name, "release", &released).await?;
            } else {
                let (name, lease) = (&self.name, text(&batch, "lease"));
                note(&format!("covalence subscriptions ack {name} --lease {lease} POSITION…"));
            }
            return Ok(());
        }
    }
}

impl Ack {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let wish = json!({"lease": self.lease, "positions": self.positions, "up_to": self.up_to});
        let answer = post(client, &self.name, "ack", &wish).await?;
        super::done(output, &answer, &format!("{}: {} acknowledged", self.name, answer["count"]))
    }
}

impl Nack {
    pub(super) async fn run(self, client: &Client, output: Output) -> Outcome {
        let wish = json!({
            "lease": self.lease, "positions": self.positions, "reason": self.reason, "park": self.park,
        });
        let answer = post(client, &self.name, "nack", &wish).await?;
        let said = format!("{}: refused; parked now: {}", self.name, answer["count"]);
        super::done(output, &answer, &said)
    }
}

async fn post(client: &Client, name: &str, what: &str, wish: &Value) -> Outcome<Value> {
    let path = ["admin", "subscriptions", name, what];
    client.json(client.request(Method::POST, &path).json(wish)).await
}
