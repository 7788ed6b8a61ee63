//! What the macros can't say in the API's document: the parameters that are the same wherever they stand, and the range of our
//! numbers.

use utoipa::Number;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Content, OpenApi, RefOr};

/// The name of a subscription, as `covalence_projections::subscriptions::Name` wants it.
const SUBSCRIPTION: &str = "^[a-z0-9][a-z0-9_-]{0,63}$";
/// The name of a secret.
const SECRET: &str = "^[A-Za-z_][A-Za-z0-9_]{0,127}$";
/// Ids with commas between them.
const IDS: &str =
    "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(,[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}){0,99}$";

/// Completes the document.
pub(super) fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    describe(path, parameter);
                }
            }
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                body.content.values_mut().for_each(optional);
            }
        }
    }
}

/// A body that may be left out is not one that may be `null`.
fn optional(content: &mut RefOr<Content>) {
    if let RefOr::T(content) = content
        && let Some(RefOr::T(Schema::OneOf(choice))) = &content.schema
        && let Some(named @ RefOr::Ref(_)) = choice.items.first()
    {
        content.schema = Some(named.clone());
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.head, &mut item.patch]
        .into_iter()
        .filter_map(Option::as_mut)
}

fn describe(path: &str, parameter: &mut Parameter) {
    let name = parameter.name.as_str();
    let schema: Option<Schema> = match (&parameter.parameter_in, name) {
        (ParameterIn::Path, "id" | "workspaceId" | "token" | "delegation" | "queue")
        | (ParameterIn::Header, "X-Workspace-ID")
        | (ParameterIn::Query, "peer_id" | "forward_to" | "workspace_id") => Some(uuid().into()),
        // A cursor of the agent's own.
        (ParameterIn::Query, "since") if path.ends_with("/transcript") => None,
        (ParameterIn::Query, "after") if path == "/workspaces" => Some(uuid().into()),
        (ParameterIn::Path, "name") => Some(matching(SUBSCRIPTION).into()),
        (ParameterIn::Path, "key") => Some(matching(SECRET).into()),
        (ParameterIn::Query, "workspace" | "correlation") if path == "/admin/log" => Some(uuid().into()),
        (ParameterIn::Query, "workspace") => Some(matching(IDS).into()),
        (ParameterIn::Query, "since" | "until") if path == "/admin/log" => Some(time().into()),
        (ParameterIn::Query, "before_ts") => Some(time().into()),
        (ParameterIn::Query, "as_of" | "at" | "since" | "until" | "from" | "to") => Some(either(time())),
        (ParameterIn::Query, "event") => Some(either(uuid())),
        _ => None,
    };
    if let Some(schema) = schema {
        parameter.schema = Some(schema.into());
    } else if let Some(RefOr::T(Schema::Object(number))) = &mut parameter.schema {
        unsigned(number);
    }
}

/// The macros write `int64` for what has no sign, whose largest values that format has no place for.
fn unsigned(number: &mut Object) {
    let is_signed = number.format == Some(SchemaFormat::KnownFormat(KnownFormat::Int64));
    if is_signed && number.minimum.is_some() && number.maximum.is_none() {
        number.format = None;
        number.maximum = Some(Number::UInt(usize::MAX));
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn formatted(format: KnownFormat) -> Object {
    text().format(Some(SchemaFormat::KnownFormat(format))).build()
}

fn uuid() -> Object {
    formatted(KnownFormat::Uuid)
}

fn time() -> Object {
    formatted(KnownFormat::DateTime)
}

fn matching(pattern: &str) -> Object {
    text().pattern(Some(pattern)).build()
}

/// A thing by its name, or a position of the log.
fn either(named: Object) -> Schema {
    let position =
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(usize::MAX)).build();
    OneOfBuilder::new().item(named).item(position).build().into()
}
