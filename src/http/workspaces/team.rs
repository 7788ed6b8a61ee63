//! `POST /workspaces/{id}/expand` and `…/collapse`: the team that a workspace's template asks for, made and taken away again
//! (contract 1.11, content 4.3).

use std::path::Path;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{post, web};
use covalence_actors::workspace::Command;
use covalence_actors::workspace::command::Remove;
use covalence_events::workspace::TeamMember;
use covalence_events::{Principal, WorkspaceId};
use covalence_projections::Row;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, workspace_id};
use crate::http::workspaces::create::{self, Checked, CreateBody};
use crate::http::workspaces::remove::{last, mark, stopped};
use crate::http::workspaces::{present, settled};
use crate::templates::{Entry, TemplateError, Templates};

/// Entries of one template. More than this is no team that anybody oversees.
const TEAM_MAX: usize = 50;

/// A team.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExpandedView {
    /// Always `expanded`.
    status: &'static str,
    /// Whom the template asks for, in its order; those that were there already too.
    children: Vec<ChildView>,
}

/// One of a team.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChildView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: WorkspaceId,
    /// Its name, with a suffix if the wished one was taken.
    name: String,
    /// Its job description, or empty.
    role: String,
}

impl From<TeamMember> for ChildView {
    fn from(member: TeamMember) -> Self {
        Self { id: member.id, name: member.name, role: member.role.unwrap_or_default() }
    }
}

fn member(row: &Row) -> TeamMember {
    TeamMember { id: row.id, name: row.name.clone(), role: row.role.clone() }
}

/// Creates and starts the team that a workspace's template asks for, or what is missing of it: all of it is checked before any of it is
/// created. The body is not looked at.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)),
    responses(
        (status = 200, body = ExpandedView),
        (status = 400, description = "there is no template, it asks for nobody, or an entry is no good", body = ErrorBody),
        (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 500, description = "its template can't be read", body = ErrorBody), (status = 503, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/expand")]
pub(crate) async fn expand_workspace(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    // A task of its own: once begun, a team is finished, whether its caller waits or not.
    let state = Arc::clone(&ctx.state);
    let task = state.inner.calls.track_future(expand(ctx, id, principal));
    actix_web::rt::spawn(task).await.map_err(|reason| ApiError::internal("internal error", reason))?
}

async fn expand(ctx: Ctx, id: WorkspaceId, principal: Principal) -> Answer {
    let planned = plan(&ctx, &*present(&ctx, id)?).await?;
    // Held until the projections show the result, so that whoever comes next sees who is there.
    let _structure = ctx.state.inner.structure.lock().await;
    let slots = slots(&ctx, &*present(&ctx, id)?, planned)?;
    let mut children = Vec::new();
    let mut position = None;
    let mut failure = None;
    for slot in slots {
        let (profile, secrets) = match slot {
            Slot::There(row) => {
                children.push(member(&row));
                continue;
            }
            Slot::Empty(wanted) => *wanted,
        };
        let (name, role) = (profile.name.clone(), profile.role.clone());
        match create::begin(&ctx, principal.clone(), (profile, secrets), None).await {
            Ok((id, receipt)) => {
                position = position.max(receipt.position);
                children.push(TeamMember { id, name, role });
            }
            Err(error) => {
                failure = Some(error.with("created", children.len()));
                break;
            }
        }
    }
    ctx.caught_up(position).await;
    // Who was created stays: the next expand goes on from there, and tells of all of them.
    if let Some(error) = failure {
        return Err(error);
    }
    let command = Command::RecordTeamExpanded(children.clone());
    let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
    let children = children.into_iter().map(ChildView::from).collect();
    let view = ExpandedView { status: "expanded", children };
    Ok(settled(&ctx, position.max(receipt.position), StatusCode::OK, view).await)
}

/// An entry, and the runtime that its template names.
#[derive(Debug)]
struct Planned {
    config: String,
    name: String,
    role: Option<String>,
    runtime: Option<String>,
}

impl Planned {
    /// How a person finds it in the file.
    fn which(&self, number: usize) -> String {
        which(number, &self.name)
    }
}

fn which(number: usize, name: &str) -> String {
    format!("sub_workspaces[{number}] `{name}`")
}

/// Reads what a workspace's template asks for.
async fn plan(ctx: &Ctx, row: &Row) -> Result<Vec<Planned>, ApiError> {
    let Some(root) = ctx.state.config.templates.clone() else {
        return Err(no_config("there are no templates: `CONFIGS_DIR` is not set".to_owned()));
    };
    let (template, name) = (row.template.clone(), row.name.clone());
    let read = web::block(move || read(&root, template.as_deref(), &name)).await;
    read.map_err(|reason| ApiError::internal("failed to read config", reason))?
}

fn read(root: &Path, template: Option<&str>, name: &str) -> Result<Vec<Planned>, ApiError> {
    let templates = Templates::in_directory(root);
    let config = templates.of_workspace(template, name).map_err(unusable)?;
    let entries = config.sub_workspaces.unwrap_or_default();
    if entries.is_empty() {
        let text = "workspace has no sub_workspaces defined in config";
        return Err(ApiError::bad("no_sub_workspaces", text));
    }
    if entries.len() > TEAM_MAX {
        return Err(bad_entry(format!("{} entries, at most {TEAM_MAX}", entries.len())));
    }
    entries.into_iter().enumerate().map(|(number, entry)| planned(templates, number, entry)).collect()
}

fn planned(templates: Templates<'_>, number: usize, entry: Entry) -> Result<Planned, ApiError> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let Some(config) = given(entry.config) else {
        let name = entry.name.unwrap_or_default();
        return Err(bad_entry(format!("{}: it has no `config`", which(number, &name))));
    };
    let name = given(entry.name).unwrap_or_else(|| config.clone());
    let runtime = match templates.config(&config) {
        Ok(config) => config.runtime,
        Err(error @ TemplateError::Missing { .. }) => {
            return Err(bad_entry(format!("{}: {error}", which(number, &name))));
        }
        Err(error) => return Err(unusable(error).about(&which(number, &name))),
    };
    Ok(Planned { config, name, role: given(entry.role), runtime })
}

fn no_config(detail: String) -> ApiError {
    ApiError::bad("no_config", "no config found for workspace").detail(detail)
}

fn bad_entry(detail: String) -> ApiError {
    ApiError::bad("invalid_sub_workspaces", "invalid sub_workspaces in config").detail(detail)
}

/// The contract's words for a template that is of no use.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unusable(error: TemplateError) -> ApiError {
    let failed = |code, text: &'static str| {
        tracing::warn!(%error, "{text}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code, text)
    };
    match &error {
        TemplateError::Missing { .. } => no_config(error.to_string()),
        TemplateError::Read { .. } => {
            failed("config_unreadable", "failed to read config").detail(error.to_string())
        }
        TemplateError::Parse { .. } => {
            failed("config_invalid", "failed to parse config").detail(error.to_string())
        }
    }
}

/// One place in a team.
enum Slot {
    /// Somebody has it.
    There(Arc<Row>),
    /// Somebody is to be created for it.
    Empty(Box<Checked>),
}

/// Who has a place already, and who is to be created, checked as `POST /workspaces` checks.
fn slots(ctx: &Ctx, parent: &Row, planned: Vec<Planned>) -> Result<Vec<Slot>, ApiError> {
    let mut there = ctx.state.views.roster.read().children(parent.id);
    let mut promised = Vec::new();
    let mut missing = 0;
    let mut slots = Vec::new();
    for (number, planned) in planned.into_iter().enumerate() {
        // Two entries of one name are two places.
        let known = there.iter().position(|row| row.entry.as_deref() == Some(planned.name.as_str()));
        if let Some(known) = known {
            slots.push(Slot::There(there.remove(known)));
            continue;
        }
        let which = planned.which(number);
        let wanted = wanted(ctx, parent, planned, &mut promised).map_err(|error| error.about(&which))?;
        slots.push(Slot::Empty(Box::new(wanted)));
        missing += 1;
    }
    if missing > 0 {
        create::room(ctx, ctx.state.config.backend, missing)?;
    }
    Ok(slots)
}

fn wanted(
    ctx: &Ctx,
    parent: &Row,
    planned: Planned,
    promised: &mut Vec<String>,
) -> Result<Checked, ApiError> {
    let known = |runtime: &String| ctx.state.config.runtimes.contains(runtime);
    let inherited = Some(parent.runtime.to_string()).filter(known);
    let wish = CreateBody {
        name: planned.name.clone(),
        role: planned.role,
        template: Some(planned.config),
        tier: Some(i64::from(parent.tier)),
        runtime: planned.runtime.filter(known).or(inherited),
        parent_id: Some(parent.id.to_string()),
        ..CreateBody::default()
    };
    let (mut profile, secrets) = create::profile(ctx, wish)?;
    profile.entry = Some(planned.name);
    create::place(ctx, &mut profile, promised)?;
    Ok((profile, secrets))
}

/// What became of a team.
#[derive(Debug, Serialize, ToSchema)]
pub struct CollapsedView {
    /// Always `collapsed`.
    status: &'static str,
    /// The names of those right below it that were removed.
    removed: Vec<String>,
}

/// Removes everything below a workspace as `DELETE /workspaces/{id}` does: first all are marked removed, then they are stopped. The
/// workspace itself stays. A repeated one stops again what could not be stopped before. The body is not looked at.
#[utoipa::path(
    tag = "workspaces", params(("id" = String, Path)),
    responses(
        (status = 200, body = CollapsedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 500, body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/collapse")]
pub(crate) async fn collapse_workspace(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::workspace(&ctx, id)?;
    // A task of its own, as for a removal.
    let state = Arc::clone(&ctx.state);
    let task = state.inner.calls.track_future(collapse(ctx, id, principal));
    actix_web::rt::spawn(task).await.map_err(|reason| ApiError::internal("internal error", reason))?
}

async fn collapse(ctx: Ctx, id: WorkspaceId, principal: Principal) -> Answer {
    let (children, count, marked, told) = {
        let _structure = ctx.state.inner.structure.lock().await;
        present(&ctx, id)?;
        let (children, below, unstopped) = {
            let roster = ctx.state.views.roster.read();
            let children: Vec<TeamMember> = roster.children(id).iter().map(|row| member(row)).collect();
            (children, roster.descendants(id), roster.unstopped(id))
        };
        let all = below.iter().map(|row| row.id).chain(unstopped);
        let marked = mark(&ctx, all.map(|id| (id, Remove::default())), &principal).await?;
        // They are gone from here on, whatever becomes of their instances.
        let command = Command::RecordTeamCollapsed(children.clone());
        let receipt = ctx.state.runtime.command(id, command, ctx.origin(principal)).await?;
        (children, below.len(), marked, receipt.position)
    };
    stopped(&ctx, &marked, count).await?;
    let removed = children.into_iter().map(|child| child.name).collect();
    let view = CollapsedView { status: "collapsed", removed };
    Ok(settled(&ctx, last(&marked).max(told), StatusCode::OK, view).await)
}
