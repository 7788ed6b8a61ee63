//! Fifteen workspaces of the platform, as its callers, its log and its admins see them.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::engine::{IMAGE, SLOW};
use super::round::{Ended, Fleet, MEMBERS, Round, Weapon};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::platform::{Platform, RunsIn, Settings};

/// Fifteen starts, four at a time, on two cores that others use too.
const UP_LIMIT: Duration = Duration::from_secs(120);

/// The network of the workspaces, as the platform calls it by default.
const NETWORK: &str = "covalence-net";

/// See the module.
pub(super) struct Ours {
    platform: Platform,
    admin: Client,
    caller: Client,
    members: Vec<String>,
}

impl Ours {
    /// Starts the platform on the proxy's engine, and waits until all are online.
    pub(super) async fn start(round: &Round<'_>) -> Self {
        let config =
            format!("[runtimes.slow]\nimage = \"{IMAGE}\"\ncommand = [\"{SLOW}\"]\ninput = \"stdin\"\n");
        // Not left to the first starts: what they make of an engine without it is another story.
        round.engine.docker(&["network", "create", NETWORK]).await;
        let settings = Settings { runs_in: RunsIn::Elsewhere, ..Settings::docker() };
        let settings = settings.config(&config).env("DOCKER_HOST", round.proxy.host());
        let platform = Platform::start(settings).await;
        let admin = platform.admin();
        let caller = admin.with_limit(round.patience());
        let ours = Self { platform, admin, caller, members: Vec::new() };
        let names: Vec<String> = (1..=MEMBERS).map(|number| format!("member-{number}")).collect();
        let members = futures_util::future::join_all(names.iter().map(|name| ours.create(name))).await;
        eventually("all members are online", UP_LIMIT, async || {
            let online = ours.online().await?;
            if members.iter().all(|id| online.contains(id)) { Ok(()) } else { Err(format!("{online:?}")) }
        })
        .await;
        Self { members, ..ours }
    }

    async fn create(&self, name: &str) -> String {
        let body = json!({ "name": name, "runtime": "slow" });
        let created = self.admin.post("/workspaces", &body).await.expect("the platform answers").expect(201);
        created["id"].as_str().expect("an id").to_owned()
    }

    async fn online(&self) -> Result<Vec<String>, String> {
        let rows = self.admin.get("/workspaces").await.map_err(|error| error.to_string())?.json();
        let rows = rows.as_array().into_iter().flatten().filter(|row| row["status"] == "online");
        Ok(rows.filter_map(|row| row["id"].as_str().map(str::to_owned)).collect())
    }

    /// Leaves what it recorded as a golden case.
    pub(super) fn keep(&self, directory: &Path, seed: u64) {
        let directory = directory.canonicalize().expect("the directory of the cases is there");
        let (name, file) = (format!("storm-{seed}"), directory.join(format!("storm-{seed}.case")));
        let about = format!(
            "storm {seed}: an engine that fails in every way, then says nothing; two of fifteen were killed"
        );
        let export = ["incidents", "export", "--since", "1", "--name", &name, "--about", &about, "--to"];
        let written = self.platform.cli(&[&export[..], &[&file.display().to_string()]].concat());
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    }

    /// What the platform said about itself.
    pub(super) fn words(&self) -> String {
        self.platform.stderr()
    }

    /// Restarts that were admitted, and of whom.
    pub(super) async fn admitted(&self) -> Vec<String> {
        let facts = self.admin.log(None, 0).await.expect("the log answers");
        let admitted = facts.iter().filter(|fact| fact.tag == "fleet.restart_admitted.v1");
        admitted.filter_map(|fact| fact.get("workspace").as_str().map(str::to_owned)).collect()
    }
}

impl Fleet for Ours {
    fn members(&self) -> &[String] {
        &self.members
    }

    fn weapon(&self) -> Weapon {
        Weapon::Engine
    }

    async fn call(&self, member: &str, seconds: f64) -> Ended {
        match self.caller.message(member, &seconds.to_string()).await {
            Ok(reply) if reply.status == 200 && reply.json()["result"].is_object() => Ended::Answered,
            Ok(reply) if reply.json()["code"].is_string() => {
                Ended::Refused(format!("{} {}", reply.status, reply.text))
            }
            Ok(reply) => Ended::CutOff(format!("{} {}", reply.status, reply.text)),
            Err(error) if error.is_timeout() => Ended::Endless,
            Err(error) => Ended::CutOff(error.to_string()),
        }
    }

    async fn mark(&self) -> u64 {
        self.admin.log(None, 0).await.expect("the log answers").last().map_or(0, |fact| fact.position)
    }

    async fn is_back(&self, member: &str, mark: u64) -> bool {
        let facts = self.admin.log(Some(member), mark).await.expect("the log answers");
        facts.iter().any(|fact| fact.tag == "workspace.came_online.v1")
    }

    async fn provision(&self, name: &str) {
        self.create(name).await;
    }

    async fn newcomers_up(&self) -> usize {
        let online = self.online().await.expect("the platform answers");
        online.iter().filter(|id| !self.members.contains(id)).count()
    }
}
