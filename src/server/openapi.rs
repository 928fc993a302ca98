//! The OpenAPI document of the port for checks. Its types describe what the parser of a check takes and what the answers hold;
//! the tests below compare them with both.

use std::borrow::Cow;
use std::sync::LazyLock;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Map, Value, json};

use super::error::ErrorKind;
use crate::policy::{LimitScope, Reason};

/// The document, as JSON.
pub static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// A login to check. Unknown fields are ignored, and `null` is the same as a missing field.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the parser has its own type; this one describes it")]
struct CheckRequest {
    /// Auth0's id of the user.
    #[schemars(length(min = 1, max = 1024), extend("not" = json!({ "enum": [".", ".."] })))]
    user_id: String,
    /// The application that the user logs in to.
    #[schemars(length(min = 1, max = 128), regex(pattern = VISIBLE))]
    client_id: String,
    /// The session of the login. Missing, null and empty are the same: the login has no session.
    #[schemars(length(max = 128), regex(pattern = VISIBLE))]
    sid: Option<String>,
    /// The protocol of the transaction, such as `oidc-basic-profile`.
    #[schemars(length(max = 300))]
    protocol: Option<String>,
    /// `prompt` of the transaction. `none` marks a silent login.
    prompt: Option<TextOrTexts>,
    /// The id of the organization of the login.
    #[schemars(length(max = 300))]
    organization_id: Option<String>,
    /// The name of the connection of the login.
    #[schemars(length(max = 300))]
    connection: Option<String>,
    /// The names of the user's roles.
    #[schemars(length(max = 128), inner(length(max = 300)))]
    roles: Option<Vec<String>>,
    /// Whether the user completed a second factor.
    mfa: Option<bool>,
    /// The authentication methods of an identity provider (RFC 8176).
    amr: Option<TextOrTexts>,
    /// Whether somebody else acts as the user: true, or Auth0's object that says who.
    actor: Option<ActorField>,
    /// The token with which an application opened this web view.
    session_transfer_token: Option<SessionTransferToken>,
    /// The canonical domain of the tenant, or one of its custom domains.
    #[schemars(length(max = 300))]
    tenant: Option<String>,
    /// Whether Auth0 can send the browser to another page.
    can_redirect: Option<bool>,
    /// Whether the login comes back from the page for choosing sessions.
    continued: Option<bool>,
    /// The host of the login page.
    #[schemars(length(max = 300))]
    hostname: Option<String>,
    /// The language of the user, as a tag of BCP 47.
    #[schemars(length(max = 300))]
    locale: Option<String>,
    /// The protocols that the caller never asks about. They change no decision: the service reports those that the policy limits.
    #[schemars(length(max = 128), inner(length(max = 300)))]
    skip_protocols: Option<Vec<String>>,
}

/// No white space and no control character.
const VISIBLE: &str = r"^[^\s\u0000-\u001f\u007f-\u009f]*$";

/// A text, or a list of texts.
struct TextOrTexts;

impl JsonSchema for TextOrTexts {
    fn schema_name() -> Cow<'static, str> {
        "TextOrTexts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "maxLength": 300 },
            { "type": "array", "maxItems": 128, "items": { "type": "string", "maxLength": 300 } },
        ] })
    }
}

/// See `actor`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it describes a part of a request")]
enum ActorField {
    Flag(bool),
    Object(Map<String, Value>),
}

/// See `session_transfer_token`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes a part of a request")]
struct SessionTransferToken {
    /// The application that opened the web view.
    #[schemars(length(max = 300))]
    client_id: Option<String>,
}

/// A decision. New fields and reasons may appear.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the answer has its own type; this one describes it")]
struct CheckAnswer {
    /// Whether to block the login.
    block: bool,
    /// Why.
    #[schemars(extend("enum" = reasons()))]
    reason: String,
    /// The text for the user. Present exactly when `block` is true.
    message: Option<String>,
    /// Whether to end the session of this login.
    revoke_session: bool,
    /// The policy that applies, as `namespace/name`.
    policy: Option<String>,
    /// The limit that decided.
    limit: Option<u32>,
    /// What the limit counts.
    #[schemars(extend("enum" = LimitScope::ALL.map(LimitScope::as_str)))]
    limit_scope: Option<String>,
    /// The other sessions that counted.
    active_sessions: Option<u64>,
    /// True when more sessions may count than `active_sessions` says. Absent otherwise.
    active_sessions_at_least: Option<bool>,
    /// How many sessions were revoked or already gone. Present when revoking was tried.
    revoked_sessions: Option<u64>,
    /// The page to send the browser to. Present when the user is asked which sessions to end.
    choose: Option<ChoosePage>,
    /// What `Enforce` would have answered. Present when `reason` is `audit`.
    #[schemars(extend("enum" = reasons()))]
    audited_reason: Option<String>,
    /// The request's `X-Request-Id`, or a new id.
    request_id: String,
}

/// See `choose`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it describes a part of an answer")]
struct ChoosePage {
    /// The address of the page, with a ticket that is valid for five minutes.
    url: String,
}

fn reasons() -> Vec<&'static str> {
    Reason::all().map(Reason::as_str).collect()
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The schema of the answer. A field without a value is absent, and never null.
fn answer_schema() -> Value {
    let mut schema = schema_of::<CheckAnswer>();
    for field in schema["properties"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Value::Array(types) = &field["type"] {
            field["type"] = types[0].clone();
        }
        if let Value::Array(kinds) = &field["anyOf"] {
            field["allOf"] = json!([kinds[0]]);
            field.as_object_mut().map(|field| field.remove("anyOf"));
        }
    }
    schema
}

/// The errors, by status. Several words can share a status.
fn errors() -> Map<String, Value> {
    let mut words: Vec<(u16, Vec<&str>)> = Vec::new();
    for kind in ErrorKind::OF_CHECKS {
        let (status, word) = kind.status_and_word();
        match words.iter_mut().find(|(known, _)| *known == status.as_u16()) {
            Some((_, known)) => known.push(word),
            None => words.push((status.as_u16(), vec![word])),
        }
    }
    words.into_iter().map(|(status, words)| (status.to_string(), error(&words))).collect()
}

fn error(words: &[&str]) -> Value {
    json!({
        "description": words.join(", "),
        "content": { "application/json": { "schema": {
            "type": "object",
            "properties": {
                "error": { "type": "string", "enum": words },
                "message": { "type": "string", "description": "What is wrong, for people." },
                "request_id": { "type": "string" },
            },
            "required": ["error", "message", "request_id"],
        } } },
    })
}

fn document() -> Value {
    let mut responses = errors();
    responses.insert(
        "200".to_owned(),
        json!({
            "description": "The decision, also one of the failure policy.",
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/CheckAnswer" } } },
        }),
    );
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "session-checker",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Limits the concurrent sessions of the users of an Auth0 tenant.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": {
            "/check": { "post": {
                "operationId": "check",
                "summary": "Whether to block a login.",
                "description": "A check may be sent again: the login counts once, and the answer stays the same.",
                "security": [{ "caller": [] }, {}],
                "parameters": [{
                    "name": "X-Request-Id", "in": "header", "required": false,
                    "description": "An id for logs and the answer: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'. Another value is replaced by a new id.",
                    "schema": { "type": "string" },
                }],
                "requestBody": {
                    "required": true,
                    "content": { "application/json": { "schema": { "$ref": "#/components/schemas/CheckRequest" } } },
                },
                "responses": responses,
            } },
            "/healthz": { "get": {
                "operationId": "healthz",
                "summary": "Whether checks should be sent here, for load balancers.",
                "responses": {
                    "200": { "description": "ok", "content": { "text/plain": { "schema": { "type": "string" } } } },
                    "503": { "description": "not ready", "content": { "text/plain": { "schema": { "type": "string" } } } },
                },
            } },
        },
        "components": {
            "securitySchemes": { "caller": { "type": "http", "scheme": "bearer" } },
            "schemas": { "CheckRequest": schema_of::<CheckRequest>(), "CheckAnswer": answer_schema() },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::HeaderMap;

    use super::*;
    use crate::policy::{Answer, Count, ObjectName};
    use crate::server::check::AnswerBody;
    use crate::server::request::{self, BodyError};
    use crate::server::request_id::RequestId;

    const CONTRACT: &str = include_str!("../../docs/design/contract.md");

    fn schema(name: &str) -> Value {
        document()["components"]["schemas"][name].clone()
    }

    fn names(schema: &Value) -> BTreeSet<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    /// The names in the first column of a table of the contract.
    fn contract(head: &str) -> BTreeSet<String> {
        let (_, table) = CONTRACT.split_once(head).unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let cells = rows.filter_map(|row| row.split('|').nth(1));
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
    }

    fn login(field: &str, value: &Value) -> String {
        let mut body = json!({ "user_id": "auth0|1", "client_id": "app" });
        body[field] = value.clone();
        body.to_string()
    }

    #[test]
    fn documented_fields_are_those_of_the_contract() {
        assert_eq!(names(&schema("CheckRequest")), contract("| request field | type |"));
        assert_eq!(names(&schema("CheckAnswer")), contract("| answer field | present |"));
    }

    #[test]
    fn parser_takes_what_the_document_allows_and_nothing_else() {
        let validator = jsonschema::validator_for(&schema("CheckRequest")).unwrap();
        let long = "x".repeat(301);
        let values = [
            json!(null),
            json!(""),
            json!("."),
            json!("word"),
            json!("two words"),
            json!("a\u{7f}"),
            json!("x".repeat(128)),
            json!("x".repeat(129)),
            json!(long),
            json!("x".repeat(1025)),
            json!(true),
            json!(1),
            json!([]),
            json!(["word"]),
            json!([1]),
            json!([null]),
            json!([long]),
            json!(vec!["word"; 129]),
            json!({}),
            json!({ "client_id": "app" }),
            json!({ "client_id": null }),
            json!({ "client_id": 1 }),
            json!({ "sub": "agent" }),
        ];
        for field in names(&schema("CheckRequest")) {
            for value in &values {
                let body = login(&field, value);
                let parsed = request::parse(body.as_bytes());
                let is_valid = validator.is_valid(&serde_json::from_str(&body).unwrap());
                assert_eq!(parsed.is_ok(), is_valid, "{field}: {value}: {parsed:?}");
            }
            // The parser knows the field: a second one is ambiguous.
            let twice = format!("{{\"{field}\":null,\"{field}\":null}}");
            assert!(matches!(request::parse(twice.as_bytes()), Err(BodyError::Json(_))), "{field}");
        }
    }

    #[test]
    fn documented_answer_is_that_of_the_type() {
        let limit_scope = LimitScope::User;
        let answer = Answer {
            block: true,
            message: Some("text".to_owned()),
            policy: Some(ObjectName::new("default", "policy")),
            count: Some(Count { limit_scope, limit: 1, active: 2, at_least: true }),
            revoked_sessions: Some(1),
            audited_reason: Some(Reason::LimitExceeded),
            choose_url: Some("https://sessions.example.com/choose?ticket=t".into()),
            ..Answer::allow(Reason::Audit)
        };
        let id = RequestId::of(&HeaderMap::new());
        let fullest = serde_json::to_value(AnswerBody::new(&answer, &id)).unwrap();
        let schema = schema("CheckAnswer");
        assert_eq!(fullest.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>(), names(&schema));
        let validator = jsonschema::validator_for(&schema).unwrap();
        let shortest = serde_json::to_value(AnswerBody::new(&Answer::allow(Reason::NoPolicy), &id)).unwrap();
        for body in [fullest, shortest] {
            assert!(validator.is_valid(&body), "{:?}", validator.iter_errors(&body).next());
        }
    }
}
