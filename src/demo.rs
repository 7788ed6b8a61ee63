//! The demo team: five workspaces in a hierarchy, to look at before anything is configured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use covalence_actors::context::Origin;
use covalence_actors::runtime::Runtime;
use covalence_actors::workspace::Command;
use covalence_actors::workspace::command::Create;
use covalence_events::workspace::{BackendKind, Created, WorkspaceAccess};
use covalence_events::{Principal, WorkspaceId};
use covalence_projections::Views;
use covalence_projections::roster::Removed;
use tokio_util::sync::CancellationToken;

use crate::cli::output;

/// The team: name, job, and whose report it is (an index into this list).
const TEAM: [(&str, &str, Option<usize>); 5] = [
    ("lead", "Splits work up and puts answers together", None),
    ("research", "Finds out what is known", Some(0)),
    ("engineering", "Builds it", Some(0)),
    ("scout", "Reads sources for research", Some(1)),
    ("tester", "Tries to break what engineering built", Some(2)),
];
/// The runtime of all of them.
const RUNTIME: &str = "echo";
/// Calls that each takes at once.
const CALLS_AT_ONCE: u32 = 5;
/// How long the team may take before we say that something is wrong. It takes well under a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Creates the team if there is none, waits until it is online, and says what to try.
pub async fn run(
    runtime: &Runtime,
    views: &Views,
    address: SocketAddr,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let started = Instant::now();
    if views.roster.read().list(Removed::Hide).is_empty() {
        create(runtime).await?;
    }
    loop {
        let rows = views.roster.read().list(Removed::Hide);
        let online = rows.iter().filter(|row| row.status.as_str() == "online").count();
        if online >= TEAM.len() || online == rows.len() && !rows.is_empty() {
            output::note(&welcome(online, started.elapsed(), address));
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            output::note(&format!(
                "only {online} of {} came online within {} s: see `covalence workspaces ls` and `covalence logs <name>`",
                rows.len(),
                PATIENCE.as_secs()
            ));
            return Ok(());
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn create(runtime: &Runtime) -> anyhow::Result<()> {
    let ids = TEAM.map(|_| WorkspaceId::generate());
    for (index, (name, role, parent)) in TEAM.iter().enumerate() {
        let profile = Created {
            name: (*name).to_owned(),
            role: Some((*role).to_owned()),
            tier: 2,
            runtime: RUNTIME.to_owned(),
            backend: BackendKind::Process,
            model: None,
            template: None,
            entry: None,
            parent: parent.map(|parent| ids[parent]),
            workspace_dir: None,
            workspace_access: WorkspaceAccess::None,
            url: None,
            delivery_mode: None,
            budget_limit: None,
            max_concurrent_tasks: CALLS_AT_ONCE,
            x: 0.0,
            y: 0.0,
        };
        let command = Command::Create(Box::new(Create { profile, token: None, secrets: Vec::new() }));
        runtime
            .command(ids[index], command, Origin::new(Principal::System))
            .await
            .with_context(|| format!("creating `{name}`"))?;
    }
    Ok(())
}

fn welcome(online: usize, took: Duration, address: SocketAddr) -> String {
    // As it was called here, since a build's directory is seldom in `PATH`.
    let program = std::env::args().next().unwrap_or_else(|| "covalence".to_owned());
    let url = match address.port() {
        8080 => String::new(),
        _ => format!("\n  export COVALENCE_URL=http://{address}"),
    };
    format!(
        "
{online} workspaces online after {:.1} s, API at http://{address}

Try, in another terminal in the same directory:{url}
  {program} workspaces ls
  {program} send lead 'hello'
  kill -9 $({program} events --workspace lead --type instance_started --json |
    jq -r .data.instance.id | tail -n 1 | cut -d : -f 1)     # a death; it is back in a moment
  {program} events --since -1m     # and here is why
  curl -s http://{address}/workspaces | head -c 400

Ctrl-C stops the server and its team.",
        took.as_secs_f64()
    )
}
