//! What the parser keeps of a page, and what it drops.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn page(body: &str) -> Page {
    Page::read(body.as_bytes(), None).unwrap()
}

fn sessions(entries: &[Value]) -> Vec<ListedSession> {
    page(&json!({ "sessions": entries }).to_string()).sessions
}

fn session(entry: Value) -> ListedSession {
    let mut all = sessions(&[entry]);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn full_session_is_read() {
    let read = session(json!({
        "id": "s1", "user_id": "auth0|1", "created_at": "2024-05-01T13:00:01Z", "updated_at": "2024-05-01T13:00:02Z",
        "authenticated_at": "2024-05-01T13:00:03Z", "idle_expires_at": "2024-05-01T13:00:04Z",
        "expires_at": "2024-05-01T13:00:05Z", "last_interacted_at": "2024-05-01T13:00:06Z",
        "device": {"initial_ip": null, "deep": [[{"a": 1.5e10}]]}, "clients": [{"client_id": "a"}, {"client_id": "b"}],
        "authentication": {"methods": [{"name": "pwd"}]}, "cookie": {"mode": "persistent"}, "actor": {"sub": "x"},
    }));
    let date = |second: u8| Some(format!("2024-05-01T13:00:0{second}Z").parse().unwrap());
    assert_eq!(
        read,
        ListedSession {
            id: "s1".to_owned(),
            user_id: Some("auth0|1".to_owned()),
            created_at: date(1),
            authenticated_at: date(3),
            idle_expires_at: date(4),
            expires_at: date(5),
            last_interacted_at: date(6),
            clients: Some(vec!["a".to_owned(), "b".to_owned()]),
            has_unreadable_clients: false,
            has_actor: true,
        }
    );
}

#[test]
fn escapes_in_strings_are_decoded() {
    let read =
        page(r#"{"\u0073essions":[{"id":"s\u0031","user_id":"waad|\"\u00a3","clients":[{"client_id":"a\/b"}]}]}"#);
    assert_eq!(read.sessions[0].id, "s1");
    assert_eq!(read.sessions[0].user_id.as_deref(), Some("waad|\"£"));
    assert_eq!(read.sessions[0].clients.as_deref(), Some(&["a/b".to_owned()][..]));
}

#[test]
fn everything_but_the_id_is_optional() {
    let bare = ListedSession { id: "s1".to_owned(), ..ListedSession::default() };
    assert_eq!(session(json!({"id": "s1"})), bare);
    assert_eq!(
        session(json!({"id": "s1", "user_id": null, "created_at": null, "expires_at": null, "clients": null})),
        bare
    );
}

#[test]
fn page_without_sessions_is_empty() {
    for body in
        ["{}", r#"{"sessions":null}"#, r#"{"sessions":[]}"#, " {\"sessions\" : [ ] } \n", r#"{"next":"n","total":3}"#]
    {
        let read = page(body);
        assert_eq!((read.sessions.len(), read.entries), (0, 0), "{body}");
    }
}

#[test]
fn error_about_another_answer_repeats_none_of_it() {
    for body in [
        "",
        "no",
        "[]",
        "null",
        "5",
        r#""auth0|1""#,
        r#"{"sessions":"auth0|1"}"#,
        r#"{"sessions":{}}"#,
        r#"{"sessions":5}"#,
        r#"{"sessions":true}"#,
        r#"{"sessions":[]"#,
        r#"{"sessions":[]} x"#,
        r#"{"sessions":[{"id":"auth0|1"]}"#,
        "<html>auth0|1</html>",
    ] {
        let error = Page::read(body.as_bytes(), None).unwrap_err();
        assert_eq!(error.failure, Failure::UpstreamError, "{body}");
        assert!(!error.detail.contains("auth0|1"), "{error}");
    }
}

#[test]
fn entries_that_are_no_sessions_are_dropped_and_counted() {
    let mut entries =
        vec![json!(null), json!(5), json!(1.5), json!("s1"), json!(true), json!([{"id": "s1"}]), json!({})];
    for id in [json!(null), json!(5), json!("")] {
        entries.push(json!({ "id": id }));
    }
    for owner in [json!(5), json!(true), json!([]), json!({"id": "u"})] {
        entries.push(json!({"id": "s1", "user_id": owner}));
    }
    entries.push(json!({"id": "kept"}));
    let read = page(&json!({ "sessions": entries }).to_string());
    assert_eq!(read.entries, entries.len());
    assert_eq!(read.sessions.iter().map(|session| session.id.as_str()).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn ids_of_every_character_and_length_are_kept() {
    let long = "a".repeat(300);
    for id in ["a", "...", "AZaz09._~-", ".", "..", "a/b", "a b", "£", &long] {
        assert_eq!(session(json!({ "id": id })).id, id);
    }
}

#[test]
fn date_that_is_not_rfc_3339_costs_nothing_else() {
    for date in
        [json!({"$date": 5}), json!(null), json!(1_714_568_430), json!([]), json!("yesterday"), json!("2024-05-01")]
    {
        let read = session(json!({
            "id": "s1", "created_at": date, "authenticated_at": date, "last_interacted_at": date, "idle_expires_at": date,
            "expires_at": date, "clients": [{"client_id": "a"}],
        }));
        let clients = Some(vec!["a".to_owned()]);
        assert_eq!(read, ListedSession { id: "s1".to_owned(), clients, ..ListedSession::default() }, "{date}");
    }
}

#[test]
fn clients_that_are_no_list_count_as_missing() {
    for clients in [json!(null), json!({}), json!("a"), json!(5), json!(false), json!({"client_id": "a"})] {
        assert_eq!(session(json!({"id": "s1", "clients": clients})).clients, None, "{clients}");
    }
}

#[test]
fn items_without_a_client_id_are_skipped() {
    let clients = json!([null, "a", 5, [], {}, {"client_id": null}, {"client_id": 5}, {"client_id": {"a": 1}},
        {"name": "x", "client_id": "kept", "more": [1]}]);
    let read = session(json!({"id": "s1", "clients": clients}));
    assert_eq!((read.clients, read.has_unreadable_clients), (Some(vec!["kept".to_owned()]), true));
    let read = session(json!({"id": "s1", "clients": []}));
    assert_eq!((read.clients, read.has_unreadable_clients), (Some(vec![]), false));
}

#[test]
fn next_is_none_unless_it_is_a_nonempty_string() {
    for next in [json!(null), json!(""), json!(5), json!({}), json!([])] {
        assert_eq!(page(&json!({ "next": next }).to_string()).next, None);
    }
    assert_eq!(page(r#"{"next":"cursor"}"#).next.as_deref(), Some("cursor"));
}

#[test]
fn ignored_values_may_be_nested_to_any_depth() {
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let body = format!(r#"{{"x":{open}{close},"sessions":[{{"id":"s1","device":{open}{close}}}]}}"#);
    assert_eq!(page(&body).sessions.len(), 1);
}

/// The bodies of a recording, in the order of its exchanges.
fn recording(name: &str) -> Vec<String> {
    let path = format!("{}/tests/fixtures/auth0/recordings/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let cassette: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let exchanges = cassette["interactions"].as_array().unwrap();
    exchanges.iter().map(|exchange| exchange["response"]["body"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn recorded_list_is_read() {
    let read = page(&recording("TestUserManager_ListUserSessions")[1]);
    assert_eq!((read.entries, read.next), (0, None));
}

#[test]
fn recorded_session_is_read() {
    let body = &recording("TestSessionManager_Read")[0];
    let read = page(&format!(r#"{{"sessions":[{body}]}}"#));
    let date = Some("2024-05-01T13:00:30.380Z".parse().unwrap());
    assert_eq!(
        read.sessions,
        [ListedSession {
            id: "SessionID".to_owned(),
            user_id: Some("UserID".to_owned()),
            created_at: date,
            authenticated_at: date,
            last_interacted_at: date,
            idle_expires_at: date,
            expires_at: date,
            clients: Some(vec!["ClientID".to_owned()]),
            has_unreadable_clients: false,
            has_actor: false,
        }]
    );
}

#[test]
fn actor_is_one_that_has_a_name() {
    let has_actor = |actor: Value| session(json!({ "id": "s1", "actor": actor })).has_actor;
    assert!(has_actor(json!({ "sub": "auth0|agent", "more": [1] })));
    for none in
        [json!(null), json!({}), json!({ "sub": "" }), json!({ "sub": null }), json!("x"), json!(true), json!([])]
    {
        assert!(!has_actor(none.clone()), "{none}");
    }
}

/// The text of a JSON value, mostly of the kind that Auth0 sends for the key, sometimes of another, sometimes none.
fn value() -> impl Strategy<Value = String> {
    let texts = [
        "\"s1\"",
        "\"\"",
        "\"auth0|1\"",
        "\"2024-05-01T13:00:30.380Z\"",
        "\"2024-05-01\"",
        "\"\\u0073\"",
        "\"a\\\"b\"",
        "\"£\"",
        "null",
        "[]",
        "{}",
        "0",
        "17",
        "-1",
        "1.5",
        "01",
        "1e3",
        "123456789012345678901234567890",
        "true",
        "false",
        "nul",
        "\"\t\"",
        "\"",
        "\u{a0}1",
        "[1,]",
        "{\"a\":}",
        "[[[[[[[[[[[1]]]]]]]]]]]",
    ];
    let leaf = prop::sample::select(texts.to_vec()).prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop::sample::select(vec![
            "id",
            "user_id",
            "created_at",
            "authenticated_at",
            "last_interacted_at",
            "idle_expires_at",
            "expires_at",
            "clients",
            "actor",
            "sub",
            "client_id",
            "device",
            "sessions",
            "next",
            "i\\u0064",
        ]);
        let space = || prop::sample::select(vec!["", "", "", " ", "\n\t", "\u{c}"]);
        let member = (space(), key, space(), inner.clone())
            .prop_map(|(before, key, after, value)| format!("{before}\"{key}\"{after}:{before}{value}{after}"));
        let object = prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")));
        let list = prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", ")));
        prop_oneof![3 => object, 1 => list]
    })
}

/// A page that is as documented but for a value here and there.
fn page_text() -> impl Strategy<Value = String> {
    let date = "\"2024-05-01T13:00:[0-6][0-9](\\.[0-9]{1,9})?Z\"";
    let clients =
        prop::collection::vec("\\{\"client_id\":\"[a-c]\"\\}", 0..3).prop_map(|all| format!("[{}]", all.join(",")));
    let odd = prop_oneof![8 => Just(None), 1 => value().prop_map(Some)];
    let session = ("\"s[0-9]\"", date, clients, odd, any::<bool>()).prop_map(|(id, date, clients, odd, has_actor)| {
        let actor = if has_actor { "{\"sub\":\"x\"}" } else { "null" };
        let device = r#"{"initial_ip":"203.0.113.7","initial_user_agent":null,"last_asn":"64496"}"#;
        let odd = odd.map(|value| format!(",\"idle_expires_at\":{value}")).unwrap_or_default();
        format!(
            r#"{{"id":{id},"user_id":"u","created_at":{date},"expires_at":null,"clients":{clients},"actor":{actor},"device":{device}{odd}}}"#
        )
    });
    (prop::collection::vec(session, 0..4), "\"[a-z]{0,3}\"|null|5")
        .prop_map(|(sessions, next)| format!("{{\"sessions\":[{}],\"next\":{next}}}", sessions.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// The quick parser reads a page as the lenient one does, or leaves it.
    #[test]
    fn quick_parser_agrees_with_the_lenient_one(page in prop_oneof![page_text(), value()], cut in 0usize..4_000) {
        parsers_agree(page.as_bytes());
        parsers_agree(format!("{{\"sessions\":[{page}]}}").as_bytes());
        parsers_agree(&page.as_bytes()[..cut.min(page.len())]);
    }
}

#[test]
fn quick_parser_reads_pages_as_auth0_sends_them() {
    let recorded = format!(r#"{{"sessions":[{}]}}"#, &recording("TestSessionManager_Read")[0]);
    for body in [recorded, recording("TestUserManager_ListUserSessions")[1].clone()] {
        assert!(parsers_agree(body.as_bytes()), "{body}");
    }
}

#[test]
fn quick_parser_leaves_what_is_not_utf_8() {
    let body = b"{\"x\":\"\xff\",\"sessions\":[{\"id\":\"s1\"}]}";
    assert!(!parsers_agree(body));
    assert_eq!(Page::read(body, None).unwrap().sessions.len(), 1, "the lenient parser skips it");
}

#[test]
fn owner_of_the_list_is_not_kept_for_each_entry() {
    let body = r#"{"sessions":[{"id":"a","user_id":"u"},{"id":"b","user_id":"v"},{"id":"c","user_id":""},{"id":"d"}]}"#;
    let read = Page::read(body.as_bytes(), Some("u")).unwrap();
    let users: Vec<_> = read.sessions.iter().map(|session| session.user_id.as_deref()).collect();
    assert_eq!(users, [None, Some("v"), Some(""), None]);
}
