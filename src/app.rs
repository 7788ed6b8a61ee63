//! The composition root: the only place where a concrete log, backend and clock meet.
//!
//! The order matters. The log's lock is taken first, so that a second server learns at once that there is one; sockets are
//! bound before anything is started that will call them; actors run before requests are let in; and at the end the way
//! back: no new requests, calls under way, then the log.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use anyhow::Context as _;
use covalence_actors::effect::{Clock, Secret};
use covalence_actors::fleet::Command;
use covalence_actors::runtime::{Ports, Recovery, Runtime, Settings};
use covalence_events::fleet::{LogMended, PlatformStarted, TailRepaired};
use covalence_events::keyring::Keyring;
use covalence_events::log::EventLog;
use covalence_events::log::checkpoint::Book;
use covalence_events::log::segments::export::{Exporter, Status};
use covalence_events::log::sled::{Opened, Options, Scavenger, SledLog};
use covalence_events::pulse::Pulse;
use covalence_events::vault::Vault;
use covalence_events::workspace::{BackendKind, ERASED_TAG};
use covalence_events::{Timestamp, WorkspaceId};
use covalence_projections::{History as Past, Rebuilder, Subscriptions, Views};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::alarms::{Alarms, Webhook, tell_past_the_log};
use crate::channel::HttpChannel;
use crate::clock::SystemClock;
use crate::conditions::{self, Condition, Conditions, Sources, Watcher};
use crate::config::{Config, keys_dir, token};
use crate::http::address::Surroundings;
use crate::http::live::hub::Hub;
use crate::http::secrets::master;
use crate::http::{HttpConfig, HttpState, Listener, Parts, listen};
use crate::retention::{Around, Keeping, Retention};
use crate::segments::Export;
use crate::{data_dir, demo, segments, telemetry};

mod fabric;

use fabric::{backends, trimmed};

/// Threads for effects and observers. They wait for engines most of the time.
const TASK_THREADS: usize = 2;
/// Threads for actors: one carries tens of thousands of commands a second, more would only add wake-ups between cores.
const ACTOR_THREADS: usize = 1;
/// Histograms are folded this often, or they would grow without bound between scrapes.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How long calls under way may take once no new ones are let in.
const CALLS_GRACE: Duration = Duration::from_secs(30);

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// Whatever keeps it from serving, in words that say what to do about it. Nothing is left running then.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    // Before the log is opened: its writer takes its instruments then.
    let metrics = telemetry::install_metrics()?;
    describe_metrics();
    let history = open(&config).await?;
    let admin_token = admin_token(&config)?;
    let (socket, address) = bind(config.server.listen)?;

    let tasks = effects().context("starting the threads for effects")?;
    let fabric = tasks
        .spawn(backends(config.clone(), history.recovery.backends().collect(), address))
        .await
        .context("a backend could not be set up")??;
    let sockets =
        [Some(socket), fabric.bridge].into_iter().flatten().map(|socket| Listener { socket }).collect();

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_after(history.last_at));
    let upkeep = Pulse::new("metrics");
    let export = Export::begin(history.exporter, tasks.handle());
    let mut pulses = vec![history.log.pulse(), export.pulse(), Arc::clone(&upkeep)];
    let (log, views): (Arc<dyn EventLog>, _) = (Arc::new(history.log), Arc::new(history.views));
    let hub = follow(&log, &views, &tasks, &mut pulses);
    let subscriptions = subscriptions(&config, &log, history.erased).await?;
    let who = (&subscriptions, &views, &clock);
    let own = tell_alarms(&config, who, (&log, export.status()), &tasks, &mut pulses)?;
    let past = keep_past(&config, &log, history.erased_at, &tasks)?;
    let retention = retention(&config, (history.scavenger, export.status()), (&views, &past), &clock);
    let keeping = keep_up_with(&retention, &tasks, &shutdown, &mut pulses);
    let facts = first_facts((&history.opened, &history.vault), &history.recovery, fabric.chosen);
    let ports = Ports {
        log: Arc::clone(&log),
        clock: Arc::clone(&clock),
        backends: fabric.backends.clone(),
        vault: history.vault.clone(),
        channel: Arc::new(HttpChannel::new(surroundings(&config)).context("the channel to agents")?),
        tasks: tasks.handle().clone(),
        pulses,
    };
    let runtime = Runtime::start(history.recovery, ports, settings(&config), facts).await?;

    let state = HttpState::new(Parts {
        runtime: runtime.clone(),
        views: Arc::clone(&views),
        history: past,
        rebuilder: Rebuilder::new(Arc::clone(&views), Arc::clone(&log), tasks.handle().clone()),
        subscriptions,
        log,
        vault: history.vault,
        export: Some(export.status()),
        hub,
        checkpoints: Some(history.checkpoints),
        conditions: own.begin(&runtime, &clock, &tasks),
        retention: Some(retention),
        backends: fabric.backends,
        config: http_config(&config, fabric.chosen, address),
        admin_token,
        clock,
        metrics: metrics.clone(),
    });
    let server = listen(&state, sockets, workers(&config)).context("the server could not be started")?;
    let handle = server.handle();
    drop((actix_rt::spawn(server), actix_rt::spawn(keep_up(metrics, upkeep))));
    info!(address = %address, backend = fabric.chosen.as_str(), "serving");

    if config.demo {
        demo::run(&runtime, &views, address, &shutdown).await?;
    }
    shutdown.cancelled().await;
    finish_calls(&state, &handle).await;
    // A demo is something to look at: its team goes when it does.
    runtime.shut_down(config.stop_workspaces || config.demo).await;
    tokio::join!(keeping.end(), export.end());
    tasks.shutdown_background();
    info!("stopped");
    Ok(())
}

/// Lets nobody in any more, and calls under way end, for a while.
async fn finish_calls(state: &HttpState, server: &ServerHandle) {
    // Who listens would never end by itself.
    state.hub.close();
    server.stop(true).await;
    if tokio::time::timeout(CALLS_GRACE, state.calls_finished()).await.is_err() {
        warn!("calls were cut off by the shutdown, their outcome is recorded as unknown");
    }
}

/// Effects run apart from the HTTP workers and the actors, so that a slow engine slows down nobody else.
fn effects() -> std::io::Result<tokio::runtime::Runtime> {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.worker_threads(TASK_THREADS).thread_name("effects").enable_all().build()
}

/// Tells the recorder what the names of all crates mean.
fn describe_metrics() {
    covalence_events::metrics::describe();
    covalence_actors::runtime::metrics_names::describe();
    covalence_projections::metrics::describe();
    crate::metrics_names::describe();
}

/// What looks at our own disk and log, ready to begin.
struct OwnAlarms {
    conditions: Arc<Conditions>,
    watcher: Watcher,
}

impl OwnAlarms {
    /// Looks from now on.
    fn begin(
        self,
        runtime: &Runtime,
        clock: &Arc<dyn Clock>,
        tasks: &tokio::runtime::Runtime,
    ) -> Arc<Conditions> {
        let clock = Arc::clone(clock);
        tasks.spawn(self.watcher.run(runtime.clone(), move || clock.now().at));
        self.conditions
    }
}

/// Alarms go to the configured address, if there is one. Those about our own disk and log don't wait for the log.
fn tell_alarms(
    config: &Config,
    (subscriptions, views, clock): (&Arc<Subscriptions>, &Arc<Views>, &Arc<dyn Clock>),
    (log, export): (&Arc<dyn EventLog>, Arc<Status>),
    tasks: &tokio::runtime::Runtime,
    pulses: &mut Vec<Arc<Pulse>>,
) -> anyhow::Result<OwnAlarms> {
    let mut tell = None;
    if let Some(url) = config.alarms.webhook.clone() {
        let webhook = Webhook::new(url).context("the client that posts alarms could not be made")?;
        let now = Arc::clone(clock);
        let (past_the_log, telling) =
            tell_past_the_log(webhook.clone(), tasks.handle(), move || now.now().at);
        let alarms = Alarms::new(webhook, &config.data_dir, Arc::clone(subscriptions), Arc::clone(views));
        pulses.extend([telling, alarms.pulse()]);
        tell = Some(past_the_log);
        let clock = Arc::clone(clock);
        tasks.spawn(alarms.run(move || clock.now().at));
    }
    let conditions = Arc::new(Conditions::beginning_with(known_conditions(views)));
    let sources = Sources { data_dir: config.data_dir.clone(), log: Arc::clone(log), export };
    let watcher = Watcher::new(sources, Arc::clone(&conditions), config.alarms.every, tell);
    pulses.push(watcher.pulse());
    Ok(OwnAlarms { conditions, watcher })
}

/// What was wrong with our own disk and log when the last run ended, as far as the log has it.
fn known_conditions(views: &Views) -> Vec<Condition> {
    let supervision = views.supervision.read();
    let known = supervision.alarms().filter(|alarm| conditions::is_ours(&alarm.kind));
    let known = known.map(|alarm| Condition {
        kind: alarm.kind.clone(),
        message: alarm.message.clone(),
        since: alarm.since,
    });
    known.collect()
}

/// Who follows the log under a name; what they said of those who were erased is forgotten, also where a crash came in between.
async fn subscriptions(
    config: &Config,
    log: &Arc<dyn EventLog>,
    erased: Vec<WorkspaceId>,
) -> anyhow::Result<Arc<Subscriptions>> {
    let opened = Subscriptions::open(config.data_dir.join(data_dir::SUBSCRIPTIONS), Arc::clone(log))
        .context("reading the subscriptions")?;
    for id in erased {
        opened.forget(id).await.context("forgetting what was said of erased workspaces")?;
    }
    Ok(Arc::new(opened))
}

/// The past, with the snapshots that make it quick; none that may hold what was erased meanwhile.
fn keep_past(
    config: &Config,
    log: &Arc<dyn EventLog>,
    erased_at: Option<Timestamp>,
    tasks: &tokio::runtime::Runtime,
) -> anyhow::Result<Past> {
    let past = Past::new(Arc::clone(log), Some(config.data_dir.join(data_dir::SNAPSHOTS)));
    if let Some(at) = erased_at {
        past.forget_until(at).context("removing snapshots that may hold what was erased")?;
    }
    let keeper = past.clone();
    tasks.spawn(async move { keeper.keep_snapshots().await });
    Ok(past)
}

/// What removes what is too old from the log, once everybody has it who wants it.
fn retention(
    config: &Config,
    (log, export): (Scavenger, Arc<Status>),
    (views, past): (&Arc<Views>, &Past),
    clock: &Arc<dyn Clock>,
) -> Retention {
    let (views, past) = (Arc::clone(views), past.clone());
    let around = Around {
        through: Box::new(move || {
            let exported = export.place.as_ref().map(|_| export.progress().exported);
            let folded = views.checkpoint();
            exported.map_or(folded, |exported| exported.min(folded))
        }),
        removed: Box::new(move |first, last| past.forget_between(first, last)),
        clock: Arc::clone(clock),
    };
    Retention::new(log, config.retention, around)
}

/// Begins to remove what is too old, if anything ever is.
fn keep_up_with(
    retention: &Retention,
    tasks: &tokio::runtime::Runtime,
    shutdown: &CancellationToken,
    pulses: &mut Vec<Arc<Pulse>>,
) -> Keeping {
    pulses.extend((!retention.rules().keep_all()).then(|| retention.pulse()));
    Keeping::begin(retention.clone(), tasks.handle(), shutdown.clone())
}

/// The configured one, else the data directory's own, which the first start makes.
fn admin_token(config: &Config) -> anyhow::Result<Secret> {
    match &config.access.admin_token {
        Some(token) => Ok(token.clone()),
        None => Ok(token::read_or_create(&config.data_dir)?),
    }
}

/// What the log knew when it was opened.
struct History {
    vault: Vault,
    log: SledLog,
    scavenger: Scavenger,
    exporter: Exporter,
    checkpoints: Book,
    opened: Opened,
    recovery: Recovery,
    views: Views,
    last_at: Option<Timestamp>,
    /// When a workspace was last erased.
    erased_at: Option<Timestamp>,
    /// Workspaces that were erased.
    erased: Vec<WorkspaceId>,
}

/// Opens the log and folds every fact once, into the actors' states and into the projections.
async fn open(config: &Config) -> anyhow::Result<History> {
    segments::guard(config).await?;
    data_dir::create(&config.data_dir)?;
    let mut recovery = Recovery::default();
    let mut views = Views::new();
    let (mut last_at, mut erased_at, mut erased) = (None, None, Vec::new());
    let keys = Keyring::open(&keys_dir(&config.data_dir), config.access.encryption_key.clone())?;
    let keys = Arc::new(keys);
    let options = Options { keys: Some(Arc::clone(&keys)), ..Options::default() };
    let (log, opened) = SledLog::open_with(&config.log_dir(), &options, &mut |recorded| {
        recovery.fold(recorded);
        views.fold(recorded);
        last_at = last_at.max(Some(recorded.meta.at));
        if recorded.fact.tag() == ERASED_TAG {
            erased_at = erased_at.max(Some(recorded.meta.at));
            erased.extend(recorded.subject());
        }
    })?;
    if let Some(repair) = &opened.repaired {
        warn!(kept = %repair.kept, cut_bytes = repair.cut_bytes, reason = repair.reason, "the log's torn end was cut off and kept aside");
    }
    for mended in mended(&opened) {
        warn!(
            part = mended.part,
            reason = mended.reason,
            action = mended.action,
            "the log was mended, and lost nothing"
        );
    }
    info!(head = %opened.head, workspaces = recovery.workspaces(), "log opened");
    let (exporter, checkpoints) = (segments::exporter(config, &log)?, log.checkpoints());
    let scavenger = log.scavenger();
    Ok(History {
        vault: Vault::new(keys),
        log,
        scavenger,
        exporter,
        checkpoints,
        opened,
        recovery,
        views,
        last_at,
        erased_at,
        erased,
    })
}

/// What was damaged of the log beside its facts.
fn mended(opened: &Opened) -> Vec<LogMended> {
    let said = |part: &str, action: &str, reason: String| LogMended {
        part: part.to_owned(),
        action: action.to_owned(),
        reason,
    };
    let store = opened.mended.as_ref().map(|store| said("store", "set_aside", store.reason.clone()));
    let high_water = opened.high_water_missing.then(|| {
        let reason = "missing or unreadable: a loss at the log's end could not have been noticed";
        said("high_water", "written_anew", reason.to_owned())
    });
    store.into_iter().chain(high_water).collect()
}

/// What the platform says first in every run.
fn first_facts((opened, vault): (&Opened, &Vault), recovery: &Recovery, chosen: BackendKind) -> Vec<Command> {
    let repaired = opened.repaired.as_ref().map(|repair| {
        Command::RecordRepair(TailRepaired {
            kept: repair.kept,
            cut_bytes: repair.cut_bytes,
            reason: repair.reason.clone(),
        })
    });
    let started = Command::RecordStart(PlatformStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: chosen.as_str().to_owned(),
        workspaces: recovery.workspaces() as u64,
        head: opened.head,
    });
    let mended = mended(opened).into_iter().map(Command::RecordMended);
    let rotated = vault.rotated().map(|rotated| Command::RecordKeyRotated(master::fact(rotated)));
    repaired.into_iter().chain(mended).chain(rotated).chain([started]).collect()
}

fn settings(config: &Config) -> Settings {
    Settings {
        policy: config.supervision.clone(),
        arbiters: ACTOR_THREADS,
        away_patience: config.calls.away_patience,
        ..Settings::default()
    }
}

fn bind(wished: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let socket = TcpListener::bind(wished)
        .with_context(|| format!("listening on {wished}: choose another with `--listen` or `PORT`"))?;
    let address = socket.local_addr().context("the listener has no address")?;
    Ok((socket, address))
}

/// Makes the read side follow the log, and tells what happens to whoever listens.
fn follow(
    log: &Arc<dyn EventLog>,
    views: &Arc<Views>,
    tasks: &tokio::runtime::Runtime,
    pulses: &mut Vec<Arc<Pulse>>,
) -> Arc<Hub> {
    let (following, telling) = (Pulse::new("projections"), Pulse::new("live"));
    pulses.extend([&following, &telling].map(Arc::clone));
    let (follower, followed) = (Arc::clone(views), Arc::clone(log));
    tasks.spawn(async move { follower.follow(followed, &following).await });
    let hub = Arc::new(Hub::default());
    let (live, told, seen) = (Arc::clone(&hub), Arc::clone(log), Arc::clone(views));
    tasks.spawn(async move { live.follow(told, seen, &telling).await });
    hub
}

fn surroundings(config: &Config) -> Surroundings {
    let saas = match config.access.deploy_mode.as_deref() {
        Some(mode) => mode == "saas",
        None => config.access.organisation.is_some(),
    };
    Surroundings { development: config.access.is_development(), saas }
}

fn http_config(config: &Config, backend: BackendKind, address: SocketAddr) -> HttpConfig {
    let urls = [&config.server.platform_url, &config.server.external_platform_url];
    let mut hosts: BTreeSet<String> =
        urls.into_iter().flatten().filter_map(|url| url.host_str().map(str::to_owned)).collect();
    hosts.insert(address.ip().to_string());
    HttpConfig {
        open_on_loopback: config.access.is_development(),
        enrolment: config.access.enrolment,
        test_tokens: config.access.test_tokens,
        surroundings: surroundings(config),
        public_url: config.server.external_platform_url.as_ref().map(trimmed),
        hosts,
        cors_origins: config.server.cors_origins.clone(),
        rate_limit: config.server.rate_limit.get(),
        organisation: config.access.organisation.clone(),
        slug: config.access.organisation_slug.clone(),
        control_plane: config.access.control_plane.clone(),
        canvas: config.access.canvas.clone(),
        tracing: config.tracing.clone(),
        workspace_roots: config.workspaces.roots.clone(),
        templates: config.workspaces.configs_dir.clone(),
        workspace_dir: config.workspaces.workspace_dir.as_ref().map(|dir| dir.display().to_string()),
        default_runtime: config.workspaces.default_runtime.clone(),
        runtimes: config.runtimes.iter().map(|runtime| runtime.name.clone()).collect(),
        backend,
        call_idle_timeout: config.calls.idle_timeout,
        call_busy_patience: config.calls.busy_patience,
    }
}

/// HTTP workers: as configured, else one for each core.
fn workers(config: &Config) -> usize {
    let configured = config.server.workers.or_else(|| std::thread::available_parallelism().ok());
    configured.map_or(2, std::num::NonZeroUsize::get)
}

async fn keep_up(metrics: PrometheusHandle, pulse: Arc<Pulse>) {
    let mut tick = tokio::time::interval(METRICS_UPKEEP);
    loop {
        tick.tick().await;
        metrics.run_upkeep();
        pulse.tick();
    }
}
