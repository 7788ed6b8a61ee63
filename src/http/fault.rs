//! Deliberate faults for tests: a handler that panics. Compiled with the feature `fault-hooks` only, which release builds
//! refuse. Not in the API's document.

use actix_web::{HttpResponse, post, web};
use covalence_actors::workspace::Command;

use crate::http::auth;
use crate::http::error::Answer;
use crate::http::request::{Ctx, workspace_id};

/// Makes the handler of one workspace's actor panic. Admins only, even here.
#[post("/workspaces/{id}/fault/panic")]
pub(super) async fn panic(ctx: Ctx, path: web::Path<String>) -> Answer {
    let id = workspace_id(&path)?;
    let principal = auth::admin(&ctx)?;
    ctx.state.runtime.command(id, Command::Panic, ctx.origin(principal)).await?;
    Ok(HttpResponse::NoContent().finish())
}
