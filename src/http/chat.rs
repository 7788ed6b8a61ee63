//! `/workspaces/{id}/chat/…`: files that go with what people and agents say to each other (contract data 4.7).

#![expect(unused_qualifications, reason = "the OpenAPI macro repeats the names of query types")]

use std::time::Duration;

use actix_multipart::{Multipart, MultipartError};
use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_TYPE, Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue,
};
use actix_web::{HttpResponse, get, post, web};
use bytes::{Bytes, BytesMut};
use covalence_actors::effect::files::{FileError, FilePath, NewFile, PathFlaw, Root};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::http::auth;
use crate::http::error::{Answer, ApiError, ErrorBody};
use crate::http::request::{Ctx, text, workspace_id};
use crate::http::workspaces::present;

mod name;
pub mod turn;

/// Where files are put, below the workspace's own directory.
const DIRECTORY: &str = ".molecule/chat-uploads";
/// Bytes of all files of one upload together.
const TOTAL_BYTES_MAX: usize = 50 * 1024 * 1024;
/// Bytes of one file.
const FILE_BYTES_MAX: usize = 25 * 1024 * 1024;
/// Files of one upload: as many as may be written at once by the contract's other way (content 3.1).
const FILES_MAX: usize = 200;
/// How long the body of one may take: clients wait for as long.
const READ_WITHIN: Duration = Duration::from_secs(60);
/// In seconds: how long a start takes.
const RETRY_NOT_RUNNING: u64 = 5;

/// The form of an upload.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only the document's: the form is read piece by piece")]
pub struct UploadForm {
    /// One part for each file, with its name. Others are left out.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    files: Vec<Vec<u8>>,
}

/// What came of an upload.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadedView {
    /// The files, in the order of the form.
    files: Vec<ChatFile>,
}

/// A file in a workspace.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatFile {
    /// `workspace:` and its path there; to be named in a message or a notice.
    uri: String,
    /// Its name without what is not safe in one.
    name: String,
    /// As the form says, or by the name's extension; absent if neither tells.
    #[serde(rename = "mimeType", skip_serializing_if = "Option::is_none")]
    mime_type: Option<String>,
    /// Its bytes.
    size: usize,
}

/// One part of a form.
struct Upload {
    name: String,
    mime_type: Option<String>,
    body: Bytes,
}

/// Puts files into a workspace, where its agent finds them at the paths that the answer names. All of them, or none.
#[utoipa::path(
    tag = "activity", params(("id" = String, Path)),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = UploadedView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, description = "the workspace has no place for files", body = ErrorBody),
        (status = 413, description = "a file has more than 25 MiB", body = ErrorBody),
        (status = 503, description = "nothing of the workspace runs here", body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[post("/workspaces/{id}/chat/uploads")]
pub(crate) async fn upload(ctx: Ctx, path: web::Path<String>, payload: web::Payload) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let row = present(&ctx, id)?;
    let busy = || ApiError::unavailable("busy", "too many uploads at the same time", RETRY_NOT_RUNNING);
    let _turn = ctx.state.inner.uploads.next(id).await.ok_or_else(busy)?;
    let form = Multipart::new(ctx.request.headers(), payload);
    let read = tokio::time::timeout(READ_WITHIN, read(form)).await;
    let uploads =
        read.map_err(|_| unparsed(format!("it took longer than {} s", READ_WITHIN.as_secs())))??;
    if uploads.is_empty() {
        return Err(ApiError::bad("invalid_form", "expected at least one 'files' field").field("files"));
    }
    let backend = ctx.state.backends.get(&row.backend).ok_or_else(not_running)?;
    let mut files = Vec::new();
    let mut views = Vec::new();
    for Upload { name, mime_type, body } in uploads {
        let relative = format!("{DIRECTORY}/{}-{name}", Uuid::new_v4().simple());
        let path = FilePath::new(Root::Workspace, &relative)
            .map_err(|flaw| ApiError::internal("failed to stage files in workspace", flaw))?;
        views.push(ChatFile { uri: format!("workspace:{path}"), name, mime_type, size: body.len() });
        files.push(NewFile { path, body });
    }
    backend.put_files(id, files).await.map_err(|error| match error {
        FileError::NotRunning => not_running(),
        FileError::NoPlace => ApiError::conflict("no_place", "failed to stage files in workspace")
            .detail("the workspace has no directory for files: tier 1 has none, a higher tier does"),
        error => ApiError::internal("failed to stage files in workspace", error),
    })?;
    Ok(HttpResponse::Ok().json(UploadedView { files: views }))
}

async fn read(mut form: Multipart) -> Result<Vec<Upload>, ApiError> {
    let failed = |error: MultipartError| unparsed(error.to_string());
    let (mut uploads, mut total) = (Vec::new(), 0);
    while let Some(mut field) = form.try_next().await.map_err(failed)? {
        let is_file = field.name() == Some("files");
        let said = field.content_disposition().and_then(|disposition| disposition.get_filename());
        let said = said.unwrap_or_default().to_owned();
        let name = name::safe(&said);
        let mime_type = text(field.headers(), CONTENT_TYPE.as_str())
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .or_else(|| mime_guess::from_path(&name).first_raw().map(str::to_owned));
        let mut body = BytesMut::new();
        while let Some(piece) = field.try_next().await.map_err(failed)? {
            total += piece.len();
            if total > TOTAL_BYTES_MAX {
                return Err(unparsed("all files together may have 50 MiB".to_owned()));
            }
            if !is_file {
                continue;
            }
            if body.len() + piece.len() > FILE_BYTES_MAX {
                let text = format!("{said} exceeds per-file limit (25 MB)");
                let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "file_too_large", text);
                return Err(error.field("files"));
            }
            body.extend_from_slice(&piece);
        }
        if is_file {
            uploads.push(Upload { name, mime_type, body: body.freeze() });
        }
        if uploads.len() > FILES_MAX {
            return Err(unparsed(format!("at most {FILES_MAX} files at a time")));
        }
    }
    Ok(uploads)
}

fn unparsed(detail: String) -> ApiError {
    ApiError::bad("invalid_form", "failed to parse multipart form").detail(detail)
}

fn not_running() -> ApiError {
    ApiError::unavailable("not_running", "workspace container not running", RETRY_NOT_RUNNING)
}

/// Which file.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Its absolute path: a message's `uri` without `workspace:`.
    #[param(required, pattern = r"^/(configs|workspace|home|plugins)(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$")]
    path: Option<String>,
}

/// A file out of a workspace.
#[utoipa::path(
    tag = "activity", params(("id" = String, Path), Wanted),
    responses(
        (status = 200, description = "the file's bytes", body = String, content_type = "application/octet-stream"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 503, description = "nothing of the workspace runs here, or its engine does not answer", body = ErrorBody),
    ),
    security(("bearer" = []))
)]
#[get("/workspaces/{id}/chat/download")]
pub(crate) async fn download(ctx: Ctx, path: web::Path<String>, wanted: web::Query<Wanted>) -> Answer {
    let id = workspace_id(&path)?;
    auth::workspace(&ctx, id)?;
    let row = present(&ctx, id)?;
    let bad = |text: String| ApiError::bad("invalid_path", text).field("path");
    let wanted = wanted.into_inner().path.filter(|path| !path.is_empty());
    let wanted = wanted.ok_or_else(|| bad("path query required".to_owned()))?;
    let path = FilePath::parse(&wanted).map_err(|flaw| match flaw {
        PathFlaw::Token => bad(flaw.to_string()).detail("a workspace's token is given to nobody"),
        flaw => bad(flaw.to_string()),
    })?;
    let backend = ctx.state.backends.get(&row.backend).ok_or_else(not_running)?;
    let found = backend.open_file(id, &path).await.map_err(|error| match error {
        FileError::NotRunning => not_running(),
        FileError::NotFound | FileError::NoPlace => ApiError::not_found("file_not_found", "file not found"),
        FileError::NotRegular => bad("path is not a regular file".to_owned()),
        FileError::Backend(error) => {
            let text =
                if row.backend.as_str() == "docker" { "docker unavailable" } else { "failed to read file" };
            ApiError::unavailable("engine_unavailable", text, RETRY_NOT_RUNNING).detail(error.to_string())
        }
    })?;
    let kind = mime_guess::from_path(path.relative()).first_or_octet_stream();
    let body = auth::lasting::while_valid(&ctx, found.body);
    let body = body.map(|piece| piece.map_err(|error| std::io::Error::other(error.detail)));
    Ok(HttpResponse::Ok()
        .content_type(kind.essence_str())
        .insert_header(attachment(path.name()))
        .body(SizedStream::new(found.bytes, Box::pin(body))))
}

/// A browser saves it under its name and shows none of it.
fn attachment(name: &str) -> ContentDisposition {
    let plain = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let value = name.as_bytes().to_vec();
    let extended = ExtendedValue { charset: Charset::Ext("UTF-8".to_owned()), language_tag: None, value };
    ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![DispositionParam::Filename(plain), DispositionParam::FilenameExt(extended)],
    }
}
