//! Fifteen workspaces of the platform, as its callers, its log and its admins see them.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::engine::{Engine, IMAGE, SLOW};
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
        let settings = Settings::docker().env("DOCKER_HOST", round.proxy.host());
        let started = Self::with(round.engine, settings, "").await;
        Self { caller: started.admin.with_limit(round.patience()), ..started }
    }

    /// The same with other settings; they say where the engine is.
    pub(super) async fn with(engine: &Engine, settings: Settings, config: &str) -> Self {
        let runtime = format!(
            "[runtimes.slow]\nimage = \"{IMAGE}\"\ncommand = [\"{SLOW}\"]\ninput = \"stdin\"\n{config}"
        );
        // Not left to the first starts: what they make of an engine without it is another story.
        engine.docker(&["network", "create", NETWORK]).await;
        let settings = Settings { runs_in: RunsIn::Elsewhere, ..settings };
        let platform = Platform::start(settings.config(&runtime)).await;
        let admin = platform.admin();
        let ours = Self { platform, caller: admin.clone(), admin, members: Vec::new() };
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

    pub(super) async fn online(&self) -> Result<Vec<String>, String> {
        let rows = self.admin.get("/workspaces").await.map_err(|error| error.to_string())?.json();
        let rows = rows.as_array().into_iter().flatten().filter(|row| row["status"] == "online");
        Ok(rows.filter_map(|row| row["id"].as_str().map(str::to_owned)).collect())
    }

    /// Leaves what it recorded from a position on as a golden case.
    pub(super) fn keep(&self, directory: &Path, (name, about): (&str, &str), since: u64) {
        let directory = directory.canonicalize().expect("the directory of the cases is there");
        let file = directory.join(format!("{name}.case")).display().to_string();
        let since = since.to_string();
        self.said(&[
            "incidents",
            "export",
            "--since",
            &since,
            "--name",
            name,
            "--about",
            about,
            "--to",
            &file,
        ]);
    }

    /// What a command says about it.
    pub(super) fn said(&self, arguments: &[&str]) -> String {
        let output = self.platform.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// What the platform said about itself.
    pub(super) fn words(&self) -> String {
        self.platform.stderr()
    }

    /// How many facts of one type it recorded.
    pub(super) async fn facts_of(&self, tag: &str) -> usize {
        let facts = self.admin.log(None, 0).await.expect("the log answers");
        facts.iter().filter(|fact| fact.tag == tag).count()
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
