//! Forms of parameters and bodies that mean the same wherever they stand: said once, by name.

use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, RefOr, Required};

use super::failures::operations;

/// Operations whose body may be empty: it means `{}`, or an empty value.
const BODY_MAY_BE_EMPTY: [&str; 8] = [
    "create_namespace",
    "create_table",
    "update_table",
    "update_token",
    "update_store_token",
    "prepare_load",
    "commit_load",
    "put_row",
];

/// Words that a parameter takes.
const WORDS: [(&str, &[&str]); 5] = [
    ("key_encoding", &["text", "base64url"]),
    ("value_encoding", &["auto", "utf8", "base64", "json"]),
    ("consistency", &["eventual", "session", "strong"]),
    ("on_stale", &["fail", "serve"]),
    ("nacre-priority", &["high", "normal", "low"]),
];

/// Says of every parameter what it may be, and of every body whether it may be empty.
pub(super) fn describe(document: &mut OpenApi) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("nacre_<id>_<secret>");
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(bearer.build()));
    // A server on loopback may want none.
    document.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new("token", [""; 0])]);
    let paths = document.paths.paths.values_mut();
    for (_, operation) in paths.flat_map(operations) {
        let may_be_empty =
            operation.operation_id.as_deref().is_some_and(|id| BODY_MAY_BE_EMPTY.contains(&id));
        if let (true, Some(RefOr::T(body))) = (may_be_empty, &mut operation.request_body) {
            body.required = Some(Required::False);
        }
        bytes_are_binary(operation);
        for parameter in parameters(operation) {
            let name = parameter.name.clone();
            let in_path = parameter.parameter_in == ParameterIn::Path;
            let Some(schema) = object(&mut parameter.schema) else { continue };
            match &*name {
                "ns" | "table" if in_path => {
                    schema.pattern = Some("^[a-z0-9][a-z0-9_-]{0,127}$".to_owned());
                }
                "id" if in_path => schema.pattern = Some("^[0-9a-f]{32}$".to_owned()),
                "name" if in_path => schema.pattern = Some("^[A-Za-z0-9._=/-]{1,512}$".to_owned()),
                "key" => schema.min_length = Some(1),
                "idempotency-key" => (schema.min_length, schema.max_length) = (Some(1), Some(255)),
                "nacre-deadline-ms" => schema.minimum = Some(utoipa::Number::Int(1)),
                "page_token" => schema.pattern = Some("^[A-Za-z0-9_-]+$".to_owned()),
                name => {
                    if let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == name) {
                        schema.enum_values = Some(words.iter().map(|word| (*word).into()).collect());
                    }
                }
            }
        }
    }
}

fn parameters(operation: &mut Operation) -> impl Iterator<Item = &mut Parameter> {
    operation.parameters.iter_mut().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    })
}

fn object(schema: &mut Option<RefOr<Schema>>) -> Option<&mut Object> {
    match schema {
        Some(RefOr::T(Schema::Object(object))) => Some(object),
        _ => None,
    }
}

/// Bodies of bytes: derived from `Vec<u8>` they would be lists of numbers.
fn bytes_are_binary(operation: &mut Operation) {
    let request = match &mut operation.request_body {
        Some(RefOr::T(body)) => Some(body.content.iter_mut()),
        _ => None,
    };
    let answers = operation.responses.responses.values_mut().filter_map(|response| match response {
        RefOr::T(response) => Some(response.content.iter_mut()),
        RefOr::Ref(_) => None,
    });
    for (name, content) in request.into_iter().flatten().chain(answers.flatten()) {
        if let (nacre_api::OCTET_STREAM | nacre_api::batch::MEDIA_TYPE, RefOr::T(content)) =
            (&**name, content)
        {
            let bytes = ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
            content.schema = Some(bytes.into());
        }
    }
}
