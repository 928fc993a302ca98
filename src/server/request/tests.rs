//! Compares the parser with one that first makes a `serde_json::Value` of each field, which is slower and plain.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

/// The known fields, as values.
#[derive(Deserialize)]
struct PlainFields {
    user_id: Option<Value>,
    client_id: Option<Value>,
    sid: Option<Value>,
    protocol: Option<Value>,
    prompt: Option<Value>,
    organization_id: Option<Value>,
    connection: Option<Value>,
    roles: Option<Value>,
    mfa: Option<Value>,
    amr: Option<Value>,
    actor: Option<Value>,
    session_transfer_token: Option<Value>,
    tenant: Option<Value>,
    can_redirect: Option<Value>,
    continued: Option<Value>,
    hostname: Option<Value>,
    locale: Option<Value>,
    skip_protocols: Option<Value>,
}

fn field(value: Value) -> Field<'static> {
    match value {
        Value::Null => Field::Null,
        Value::Bool(value) => Field::Bool(value),
        Value::Number(_) => Field::Number,
        Value::String(text) => Field::Text(Cow::Owned(text)),
        Value::Array(items) => Field::List(
            items
                .into_iter()
                .map(|item| if let Value::String(text) = item { Some(Cow::Owned(text)) } else { None })
                .collect(),
        ),
        Value::Object(mut object) => Field::Object(object.remove("client_id").map(|client| Box::new(field(client)))),
    }
}

fn parse_plainly(text: &str) -> Result<Login, BodyError> {
    let fields = read::<PlainFields>(text)?;
    CheckFields {
        user_id: fields.user_id.map(field),
        client_id: fields.client_id.map(field),
        sid: fields.sid.map(field),
        protocol: fields.protocol.map(field),
        prompt: fields.prompt.map(field),
        organization_id: fields.organization_id.map(field),
        connection: fields.connection.map(field),
        roles: fields.roles.map(field),
        mfa: fields.mfa.map(field),
        amr: fields.amr.map(field),
        actor: fields.actor.map(field),
        session_transfer_token: fields.session_transfer_token.map(field),
        tenant: fields.tenant.map(field),
        can_redirect: fields.can_redirect.map(field),
        continued: fields.continued.map(field),
        hostname: fields.hostname.map(field),
        locale: fields.locale.map(field),
        skip_protocols: fields.skip_protocols.map(field),
    }
    .into_login()
}

fn text() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        4 => "\"[a-z|]{0,6}\"",
        1 => Just(r#""\ud83d\ude00""#.to_owned()),
        1 => Just(r#""\ud800""#.to_owned()),
        1 => Just(r#""\n\u0041""#.to_owned()),
        1 => Just("\"\t\"".to_owned()),
        1 => Just("\"client_id\"".to_owned()),
    ]
}

/// A value without brackets, with what JSON does not allow now and then.
fn leaf() -> impl Strategy<Value = String> + Clone {
    let number = prop_oneof![
        Just("0"),
        Just("-1"),
        Just("1.5e3"),
        Just("1e999"),
        Just("18446744073709551616"),
        Just("01"),
        Just("-"),
        Just("NaN"),
    ];
    prop_oneof![
        4 => text(), 1 => number.prop_map(str::to_owned), 1 => Just("null".to_owned()),
        1 => Just("true".to_owned()), 1 => Just("false".to_owned()), 1 => Just("nul".to_owned()),
    ]
}

/// JSON text of any shape.
fn json() -> impl Strategy<Value = String> {
    let key = prop_oneof![text(), Just("\"client_id\"".to_owned()), Just(r#""client\u005fid""#.to_owned())];
    leaf().prop_recursive(3, 12, 4, move |inner| {
        let pairs = prop::collection::vec((key.clone(), inner.clone()), 0..4).prop_map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("{{{}}}", pairs.join(","))
        });
        let list = prop::collection::vec(inner, 0..4).prop_map(|items| format!("[ {} ]", items.join(" ,")));
        prop_oneof![pairs, list]
    })
}

fn body() -> impl Strategy<Value = String> {
    const NAMES: [&str; 16] = [
        "user_id",
        "client_id",
        "sid",
        "protocol",
        "prompt",
        "organization_id",
        "connection",
        "roles",
        "mfa",
        "amr",
        "actor",
        "session_transfer_token",
        "tenant",
        "locale",
        "skip_protocols",
        "unknown",
    ];
    let fields = prop::collection::vec((prop::sample::select(&NAMES[..]), json()), 0..6);
    (any::<bool>(), fields, "[ \n]{0,2}[}x]{0,2}").prop_map(|(is_check, fields, end)| {
        let given =
            if is_check { vec![r#""user_id":"u""#.to_owned(), r#""client_id":"c""#.to_owned()] } else { Vec::new() };
        let is_new = |name: &&str| !is_check || !matches!(*name, "user_id" | "client_id");
        let fields = fields.iter().filter(|(name, _)| is_new(name)).map(|(name, value)| format!("\"{name}\": {value}"));
        format!("{{{}}}{end}", given.into_iter().chain(fields).collect::<Vec<_>>().join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The same login, or the same error with the same words and the same place.
    #[test]
    fn parser_agrees_with_one_that_makes_values(body in body()) {
        prop_assert_eq!(parse(body.as_bytes()), parse_plainly(&body));
    }

    #[test]
    fn parser_agrees_about_values_that_are_no_object(text in leaf()) {
        let plainly = read::<Value>(&text).and_then(|_| Err::<Login, _>(not_an_object()));
        prop_assert_eq!(parse(text.as_bytes()), plainly);
    }
}

#[test]
fn generated_bodies_are_checks_and_every_error() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = Map::new();
    for _ in 0..2_000 {
        let body = body().new_tree(&mut runner).unwrap().current();
        let kind = match parse(body.as_bytes()) {
            Ok(_) => "login".to_owned(),
            Err(BodyError::Encoding(text) | BodyError::Json(text) | BodyError::Shape(text)) => {
                text.split(" at line").next().unwrap_or_default().to_owned()
            }
        };
        seen.insert(kind, Value::Null);
    }
    for kind in [
        "login",
        "The body is not valid JSON: trailing characters",
        "The body is not valid JSON: unexpected end of hex escape",
        "The body is not valid JSON: number out of range",
        "roles must be a list of strings",
        "session_transfer_token must be an object with a client_id",
    ] {
        assert!(seen.contains_key(kind), "{kind}: {seen:?}");
    }
}
