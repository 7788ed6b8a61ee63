//! Every route there is, and the document that describes them.

use actix_web::{HttpResponse, web};
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_actix_web::AppExt as _;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::http::supervision::{self, backtest, holds, policy};
use crate::http::{
    a2a, activity, admin, chat, delegations, document, events, health, incidents, live, moments, org, page,
    registry, secrets, subscriptions, upstream, workspaces,
};

/// The document's head.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Covalence",
        description = "Control plane for teams of AI-agent workspaces. `docs/api.md` in the repository says what no schema can. Most routes want \
            a bearer: the admin token is in `<data-dir>/admin-token`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&Bearer),
    tags(
        (name = "workspaces", description = "the roles that people create, change, restart, pause and remove"),
        (name = "registry", description = "what agents say of themselves and may know of each other"),
        (name = "a2a", description = "calls to agents through the platform"),
        (name = "activity", description = "what was said to agents, by them and about them"),
        (name = "organisation", description = "tokens of the organisation, which open what the admin's does"),
        (name = "secrets", description = "what agents find in their environment"),
        (name = "delegations", description = "tasks that workspaces hand to each other"),
        (name = "supervision", description = "what was decided about restarts and why, holds, the policy"),
        (name = "incidents", description = "why something happened or did not, and what happened when"),
        (name = "events", description = "what happened, in the wire contract's names"),
        (name = "subscriptions", description = "who follows the log under a name, how far they are, and what they put aside"),
        (name = "operations", description = "health, metrics, the raw log, output, strangers"),
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("the admin token, an organisation's, or a workspace's own"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Adds all routes. They are tried in this order, so the two that carry nearly all requests come first.
pub fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(registry::heartbeat::heartbeat)
        .service(a2a::call)
        .service(health::get_health)
        .service(health::head_health)
        .service(health::ready)
        .service(health::metrics)
        .service(health::liveness)
        .service(workspaces::list)
        .service(workspaces::create::create)
        .service(workspaces::show)
        .service(workspaces::details)
        .service(workspaces::state)
        .service(workspaces::amend::amend)
        .service(workspaces::remove::remove)
        .service(workspaces::erase::erase)
        .configure(lifecycle)
        .configure(assignment)
        .service(workspaces::tokens::list_tokens)
        .service(workspaces::tokens::create_token)
        .service(workspaces::tokens::revoke_token)
        .service(workspaces::tokens::enroll)
        .service(workspaces::tokens::rotate_credentials)
        .service(workspaces::tokens::show_connection)
        .service(workspaces::tokens::test_token)
        .service(org::list_org_tokens)
        .service(org::create_org_token)
        .service(org::revoke_org_token)
        .configure(coordination)
        .configure(secrets)
        .service(supervision::of_workspace)
        .service(incidents::explain_workspace)
        .service(holds::lift_quarantine)
        .service(policy::set_strategy)
        .service(a2a::agent_card)
        .service(a2a::card_before_0_3)
        .service(a2a::card_of_runtimes)
        .service(registry::register::register)
        .service(registry::update_card)
        .service(registry::discover)
        .service(registry::list_peers)
        .service(registry::check_access)
        .service(live::socket)
        .service(live::events)
        .service(events::all)
        .service(events::of_workspace)
        .configure(supervision)
        .service(incidents::explain_fact)
        .service(incidents::show_timeline)
        .service(moments::show_diff)
        .service(moments::replay::play)
        .configure(incident_objects)
        .service(incidents::case::make)
        .service(incidents::case::of_incident)
        .service(admin::log::log)
        .service(admin::log::verify)
        .service(admin::segments::get_segment)
        .service(admin::segments::list_checkpoints)
        .service(admin::segments::check_checkpoints)
        .service(admin::retention::show)
        .service(admin::retention::run)
        .service(admin::projections::list)
        .service(admin::projections::rebuild)
        .configure(subscriptions)
        .service(admin::logs)
        .service(admin::strangers)
        .service(admin::remove_stranger);
}

/// What only agents may know.
fn secrets(config: &mut ServiceConfig<'_>) {
    config
        .service(secrets::list)
        .service(secrets::values)
        .service(secrets::save)
        .service(secrets::put_one)
        .service(secrets::remove)
        .service(secrets::model::show)
        .service(secrets::model::choose)
        .service(secrets::global::list)
        .service(secrets::global::list_as_admin)
        .service(secrets::global::put_one)
        .service(secrets::global::save)
        .service(secrets::global::save_as_admin)
        .service(secrets::global::remove)
        .service(secrets::global::remove_as_admin)
        .service(secrets::master::rotate_master_key);
}

/// What starts and stops workspaces that are there, and the teams below them.
fn lifecycle(config: &mut ServiceConfig<'_>) {
    config
        .service(workspaces::lifecycle::restart_workspace)
        .service(workspaces::lifecycle::pause_workspace)
        .service(workspaces::lifecycle::resume_workspace)
        .service(workspaces::hibernation::hibernate_workspace)
        .service(workspaces::team::expand_workspace)
        .service(workspaces::team::collapse_workspace);
}

/// Which model is assigned to a workspace.
fn assignment(config: &mut ServiceConfig<'_>) {
    config
        .service(workspaces::assignment::assign_agent)
        .service(workspaces::assignment::replace_agent)
        .service(workspaces::assignment::remove_agent)
        .service(workspaces::assignment::move_agent);
}

/// What agents say and hand to each other.
fn coordination(config: &mut ServiceConfig<'_>) {
    config
        .service(a2a::queue::list)
        .service(a2a::queue::show)
        .service(a2a::queue::drop_stale)
        .service(activity::list)
        .service(activity::report)
        .service(activity::ack)
        .service(activity::notify)
        .service(activity::search::search)
        .service(workspaces::transcript::show)
        .service(workspaces::traces::list)
        .service(chat::upload)
        .service(chat::download)
        .service(delegations::hand_on)
        .service(delegations::list)
        .service(delegations::record)
        .service(delegations::update);
}

/// Incidents as objects; a span comes before what takes any id.
fn incident_objects(config: &mut ServiceConfig<'_>) {
    config
        .service(incidents::objects::list)
        .service(incidents::objects::open)
        .service(incidents::objects::show_span)
        .service(incidents::objects::show)
        .service(incidents::objects::show_flight)
        .service(incidents::objects::note)
        .service(incidents::objects::close);
}

/// Who follows the log under a name.
fn subscriptions(config: &mut ServiceConfig<'_>) {
    config
        .service(subscriptions::create)
        .service(subscriptions::list)
        .service(subscriptions::show)
        .service(subscriptions::remove)
        .service(subscriptions::list_parked)
        .service(subscriptions::replay)
        .service(subscriptions::discard)
        .service(subscriptions::consume::fetch)
        .service(subscriptions::consume::ack)
        .service(subscriptions::consume::nack)
        .service(subscriptions::consume::release)
        .service(subscriptions::consume::follow);
}

/// The operator's hand.
fn supervision(config: &mut ServiceConfig<'_>) {
    config
        .service(supervision::fleet)
        .service(holds::list)
        .service(holds::set)
        .service(holds::release)
        .service(holds::emergency_stop)
        .service(holds::release_brake)
        .service(policy::show)
        .service(policy::set)
        .service(policy::check)
        .service(policy::roll_back)
        .service(policy::set_mode)
        .service(backtest::run);
}

/// The routes without a schema: the document itself, its page, and what others answer under our address, if anybody does.
pub fn unlisted(config: &mut web::ServiceConfig, document: web::Data<String>) {
    let serve = move || {
        let document = document.clone();
        async move { HttpResponse::Ok().content_type("application/json").body(document.as_str().to_owned()) }
    };
    #[cfg(feature = "fault-hooks")]
    config.service(crate::http::fault::panic);
    config
        .route("/openapi.json", web::get().to(serve))
        .route("/docs", web::get().to(page::enter))
        .route("/docs/{file}", web::get().to(page::file))
        .route("/cp/{below:.*}", web::route().to(upstream::control_plane))
        .default_service(web::to(upstream::canvas));
}

/// The document, as JSON text.
pub fn document() -> String {
    let (_, mut document) = actix_web::App::new()
        .into_utoipa_app()
        .openapi(Document::openapi())
        .configure(routes)
        .split_for_parts();
    document::complete(&mut document);
    // A document is plain data; what could fail is a key that is no text, and there is none.
    document.to_pretty_json().unwrap_or_default()
}
