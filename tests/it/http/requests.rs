//! What a request has to be, and the error for every other.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn check_before_the_policies_are_loaded_waits_for_them() {
    let readiness = Readiness::default();
    let latch = readiness.wait_for("policies");
    let service = Setup { readiness, ..Setup::default() }.serve(&[callers(), policy("one", json!({}))]);
    let arrived = Instant::now();
    let early = |number: usize| {
        let service = &service;
        async move { (number, service.post(login(json!({})).to_string()).await.status, arrived.elapsed()) }
    };
    let checks = join_all((0..130).map(early));
    let loaded = async {
        sleep(Duration::from_millis(400)).await;
        latch.release();
    };
    let (answers, ()) = tokio::join!(checks, loaded);
    for (number, status, waited) in answers {
        let expected = if number < 128 { (200, Duration::from_millis(400)) } else { (503, Duration::ZERO) };
        assert_eq!((status, waited), expected, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_follow_a_fixed_order() {
    let readiness = Readiness::default();
    let latch = readiness.wait_for("policies");
    let service = Setup { readiness, ..Setup::default() }.serve(&[callers(), policy("one", json!({}))]);
    let all_wrong = || "x".repeat(LIMIT + 1);
    let of_type = |mut request: Request<Body>, content_type: &str| {
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        request
    };

    let nowhere = Request::get("/nowhere").body(Body::from(all_wrong())).unwrap();
    assert_eq!(service.send(nowhere).await.error(), (404, "not_found"));
    let get = Request::get("/check").body(Body::from(all_wrong())).unwrap();
    assert_eq!(service.send(get).await.error(), (405, "method_not_allowed"));
    let stranger = || of_type(request(Some("nobody-knows-this-token"), all_wrong()), "text/plain");
    assert_eq!(service.send(stranger()).await.error(), (503, "not_ready"));
    latch.release();
    assert_eq!(service.send(stranger()).await.error(), (401, "unauthorized"));
    let text = of_type(request(Some(TOKEN), all_wrong()), "text/plain");
    assert_eq!(service.send(text).await.error(), (415, "unsupported_media_type"));
    assert_eq!(service.post(all_wrong()).await.error(), (413, "body_too_large"));
    assert_eq!(service.post("{").await.error(), (400, "invalid_json"));
    assert_eq!(service.post("{}").await.error(), (422, "invalid_request"));
    assert_eq!(service.post(login(json!({})).to_string()).await.status, 200);
}

#[tokio::test]
async fn check_accepts_only_post_and_allow_lists_it() {
    let service = one();
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let request = Request::builder().method(method).uri("/check").header("host", HOST).body(Body::empty()).unwrap();
        let response = service.0.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.headers()["allow"], "POST", "{method}");
    }
    for path in [
        "/",
        "/check//",
        "/Check",
        "/check/x",
        "/sessions",
        "/sessions/x/check",
        "//check",
        "/livez",
        "/readyz",
        "/metrics",
        "/debug/policies",
        "/openapi.json",
    ] {
        let request = Request::post(path).body(Body::empty()).unwrap();
        assert_eq!(service.send(request).await.error(), (404, "not_found"), "{path}");
    }
    let mut with_query = request(Some(TOKEN), login(json!({})).to_string());
    *with_query.uri_mut() = "/check?from=an-action".parse().unwrap();
    assert_eq!(service.send(with_query).await.status, 200);
}

#[tokio::test]
async fn content_type_is_json_with_or_without_parameters() {
    let service = one();
    let send = |content_type: Option<&'static str>| {
        let mut request = request(Some(TOKEN), login(json!({})).to_string());
        match content_type {
            Some(content_type) => request.headers_mut().insert("content-type", content_type.parse().unwrap()),
            None => request.headers_mut().remove("content-type"),
        };
        service.send(request)
    };
    for good in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json ;a=b"] {
        assert_eq!(send(Some(good)).await.status, 200, "{good}");
    }
    let bad = ["", "text/plain", "text/json", "application/jsonp", "application/problem+json", "application/*"];
    for bad in bad.map(Some).into_iter().chain([None]) {
        assert_eq!(send(bad).await.error(), (415, "unsupported_media_type"), "{bad:?}");
    }
}

#[tokio::test]
async fn body_of_the_maximum_size_is_read_and_one_byte_more_is_not() {
    let service = one();
    let padded = |size: usize| {
        let body = login(json!({ "padding": "" })).to_string();
        body.replace("\"padding\":\"\"", &format!("\"padding\":\"{}\"", "x".repeat(size - body.len())))
    };
    let chunked = |body: String| {
        let chunks: Vec<_> = body.as_bytes().chunks(1000).map(<[u8]>::to_vec).map(Ok::<_, std::io::Error>).collect();
        Body::from_stream(stream::iter(chunks))
    };
    assert_eq!(padded(LIMIT).len(), LIMIT);
    assert_eq!(service.post(padded(LIMIT)).await.status, 200);
    assert_eq!(service.post(chunked(padded(LIMIT))).await.status, 200);
    assert_eq!(service.post(padded(LIMIT + 1)).await.error(), (413, "body_too_large"));
    assert_eq!(service.post(chunked(padded(LIMIT + 1))).await.error(), (413, "body_too_large"));
}

#[tokio::test]
async fn path_may_have_a_last_slash_and_the_prefix() {
    let service = one();
    for path in ["/check", "/check/", "/sessions/check", "/sessions/check/"] {
        let mut request = request(Some(TOKEN), login(json!({})).to_string());
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(service.send(request).await.status, 200, "{path}");
        let get = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(service.send(get).await.error(), (405, "method_not_allowed"), "{path}");
    }
}

#[tokio::test]
async fn healthz_says_whether_checks_are_answered() {
    let readiness = Readiness::default();
    let latch = readiness.wait_for("policies");
    let service = Setup { readiness: readiness.clone(), ..Setup::default() }.serve(&[callers()]);
    let status = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("host", HOST).body(Body::empty()).unwrap();
        service.0.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    for path in ["/healthz", "/sessions/healthz"] {
        assert_eq!(status("GET", path).await, 503);
    }
    latch.release();
    for path in ["/healthz", "/sessions/healthz"] {
        assert_eq!(
            [status("GET", path).await, status("HEAD", path).await, status("POST", path).await],
            [200, 200, 405]
        );
    }
    readiness.shut_down();
    assert_eq!(status("GET", "/healthz").await, 503, "load balancers stop to send");
}

#[tokio::test]
async fn request_needs_exactly_one_host() {
    let service = one();
    let with = |version: Version, hosts: &[&'static str], path: &'static str| {
        let mut request = request(Some(TOKEN), login(json!({})).to_string());
        *request.version_mut() = version;
        *request.uri_mut() = path.parse().unwrap();
        for host in hosts {
            request.headers_mut().append("host", HeaderValue::from_static(host));
        }
        service.send_as_it_is(request)
    };
    for (version, hosts, status) in [
        (Version::HTTP_11, &["a"][..], 200),
        (Version::HTTP_11, &[], 400),
        (Version::HTTP_11, &["a", "b"], 400),
        (Version::HTTP_11, &["a", "a"], 400),
        (Version::HTTP_10, &[], 200),
        (Version::HTTP_10, &["a", "b"], 400),
        (Version::HTTP_2, &[], 200),
        (Version::HTTP_2, &["a", "b"], 400),
    ] {
        assert_eq!(with(version, hosts, "/check").await.status, status, "{version:?} {hosts:?}");
    }
    assert_eq!(with(Version::HTTP_11, &[], "/nowhere").await.error(), (400, "bad_request"));
}

#[tokio::test]
async fn body_that_is_not_plain_utf8_is_an_unsupported_type() {
    let service = one();
    let good = login(json!({})).to_string();
    let utf16 = |unit: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    for body in [
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        [&b"\xff\xfe"[..], &utf16(u16::to_le_bytes)].concat(),
        [&b"\xfe\xff"[..], &utf16(u16::to_be_bytes)].concat(),
        good.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(),
    ] {
        let reply = service.post(body).await;
        assert_eq!(reply.error(), (415, "unsupported_media_type"));
        assert!(reply.body["message"].as_str().unwrap().contains("UTF-8"), "{}", reply.body);
    }
    let with = |name: &'static str, value: &'static str| {
        let mut request = request(Some(TOKEN), good.clone());
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        service.send(request)
    };
    for (name, value, named) in [
        ("content-encoding", "gzip", "gzip"),
        ("content-encoding", "br", "br"),
        ("content-type", "application/json; charset=utf-16", "utf-16"),
        ("content-type", "application/json;a=b; Charset=\"ISO-8859-1\"", "ISO-8859-1"),
    ] {
        let reply = with(name, value).await;
        assert_eq!(reply.error(), (415, "unsupported_media_type"), "{value}");
        assert!(reply.body["message"].as_str().unwrap().contains(named), "{}", reply.body);
    }
    assert_eq!(with("content-encoding", "identity").await.status, 200);
    assert_eq!(with("content-type", "application/json; charset=UTF-8").await.status, 200);
    assert_eq!(service.post(format!("\u{feff}{good}")).await.status, 200, "a byte order mark");
}

#[tokio::test]
async fn answer_before_the_body_was_read_closes_the_connection() {
    let service = one();
    let closes = |reply: &Reply| reply.headers.get("connection").is_some_and(|value| value == "close");
    let body = || login(json!({})).to_string();
    let nowhere = Request::post("/nowhere").body(Body::from(body())).unwrap();
    let method = Request::put("/check").body(Body::from(body())).unwrap();
    let type_less = Request::post("/check").header("authorization", format!("Bearer {TOKEN}"));
    for request in [
        nowhere,
        method,
        request(Some("nobody-knows-this-token"), body()),
        type_less.body(Body::from(body())).unwrap(),
        request(Some(TOKEN), "x".repeat(LIMIT + 1)),
    ] {
        let reply = service.send(request).await;
        assert!(reply.status >= 400 && closes(&reply), "{} {:?}", reply.status, reply.headers);
    }
    for request in [
        Request::get("/nowhere").body(Body::empty()).unwrap(),
        request(Some("nobody-knows-this-token"), Body::empty()),
        request(Some(TOKEN), "{"),
        request(Some(TOKEN), "{}"),
        request(Some(TOKEN), body()),
    ] {
        let reply = service.send(request).await;
        assert!(!closes(&reply), "{} {:?}", reply.status, reply.headers);
    }
}

#[tokio::test]
async fn ambiguous_or_malformed_json_is_rejected() {
    let service = one();
    let good = login(json!({})).to_string();
    let open = &good[..good.len() - 1];
    let bad = [
        String::new(),
        " ".to_owned(),
        "nonsense".to_owned(),
        format!("{good}x"),
        format!("{good}{good}"),
        format!("\u{feff}\u{feff}{good}"),
        open.to_owned(),
        format!("{open},}}"),
        format!("{open},\"x\":NaN}}"),
        format!("{open},\"x\":'a'}}"),
        format!("{open},\"x\":\"\n\"}}"),
        format!("{open},\"user_id\":\"auth0|1\"}}"),
        format!("{open},\"user_id\":null}}"),
        format!("{open},\"mfa\":true,\"mfa\":true}}"),
        format!("{open},\"tenant\":null,\"tenant\":null}}"),
        format!(r#"{open},"s\u0069d":"s2"}}"#),
        "[1,".to_owned(),
    ];
    for bad in bad {
        assert_eq!(service.post(bad.clone()).await.error(), (400, "invalid_json"), "{bad}");
    }
    for bytes in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80"] {
        let body = [open.as_bytes(), b",\"x\":\"", bytes, b"\"}"].concat();
        assert_eq!(service.post(body).await.error(), (400, "invalid_json"), "{bytes:?}");
    }
    let broken = stream::iter([Ok(good.clone().into_bytes()), Err(std::io::Error::other("the caller hung up"))]);
    assert_eq!(service.post(Body::from_stream(broken)).await.error(), (400, "invalid_json"));
    for good in [
        format!("{open},\"x\":1,\"x\":2}}"),
        format!("{open},\"x\":{{\"sid\":1,\"sid\":2}}}}"),
        format!("{open},\"x\":1e400}}"),
        format!(" \n\t{good}\r\n"),
    ] {
        assert_eq!(service.post(good.clone()).await.status, 200, "{good}");
    }
}

#[tokio::test]
async fn json_may_be_128_deep_also_in_ignored_fields() {
    let service = one();
    let nested = |field: &str, arrays: usize| {
        let value = format!("{}{}", "[".repeat(arrays), "]".repeat(arrays));
        format!(r#"{{"client_id":"c","sid":"s","{field}":{value}}}"#)
    };
    let ignored = |arrays| nested("x", arrays).replace('{', r#"{"user_id":"u","#);
    assert_eq!(service.post(ignored(127)).await.status, 200);
    assert_eq!(service.post(ignored(128)).await.error(), (400, "invalid_json"));
    assert_eq!(service.post(nested("user_id", 127)).await.error(), (422, "invalid_request"));
    assert_eq!(service.post(nested("user_id", 128)).await.error(), (400, "invalid_json"));
    let objects = format!(r#"{}{}{}"#, r#"{"x":"#.repeat(129), "1", "}".repeat(129));
    assert_eq!(service.post(objects).await.error(), (400, "invalid_json"));
    let in_text = login(json!({ "x": "[".repeat(500), "y": "\"{".repeat(500) }));
    assert_eq!(service.post(in_text.to_string()).await.status, 200);
}

#[tokio::test]
async fn error_for_a_wrong_type_names_the_field() {
    let service = one();
    for other in ["[]", "[{}]", "null", "true", "false", "0", "-1", "1.5", "\"text\"", "123456789012345678901234567890"]
    {
        assert_eq!(service.post(other).await.error(), (422, "invalid_request"), "{other}");
    }
    let long = |length: usize| "é".repeat(length);
    let mut bad: Vec<(&str, Value)> = vec![
        ("sid", json!(long(129))),
        ("sid", json!("a b")),
        ("client_id", json!(long(129))),
        ("user_id", json!(long(1025))),
        ("user_id", json!(".")),
        ("user_id", json!("..")),
        ("mfa", json!("true")),
        ("mfa", json!(1)),
        ("mfa", json!([])),
        ("prompt", json!([1])),
        ("prompt", json!([null])),
        ("prompt", json!(long(301))),
        ("roles", json!("admin")),
        ("roles", json!([["admin"]])),
        ("roles", json!([long(301)])),
        ("roles", json!(vec!["r"; 129])),
        ("prompt", json!(vec!["p"; 129])),
    ];
    let unfit = ["", "a b", " a", "a\n", "a\u{a0}b", "a\u{2028}", "a\u{0}", "\u{7f}", "a\u{85}"];
    bad.extend(unfit.map(|text| ("client_id", json!(text))));
    bad.extend([("user_id", json!("")), ("user_id", Value::Null), ("client_id", Value::Null)]);
    for field in ["user_id", "client_id", "sid", "protocol", "organization_id", "connection", "tenant"] {
        bad.extend([json!(1), json!(true), json!({}), json!(["a"])].map(|value| (field, value)));
    }
    for field in ["protocol", "organization_id", "connection", "tenant"] {
        bad.push((field, json!(long(301))));
    }
    for field in ["prompt", "roles"] {
        bad.extend([json!(1), json!(true), json!({})].map(|value| (field, value)));
    }
    for (field, value) in bad {
        let reply = service.ask_as(Some(TOKEN), &login(json!({ field: value }))).await;
        assert_eq!(reply.error(), (422, "invalid_request"), "{field}: {value}");
        let message = reply.body["message"].as_str().unwrap();
        assert!(message.contains(field), "{field}: {value}: {message}");
    }
    for field in ["user_id", "client_id"] {
        let mut login = login(json!({}));
        login.as_object_mut().unwrap().remove(field);
        let reply = service.ask_as(Some(TOKEN), &login).await;
        assert_eq!(reply.error(), (422, "invalid_request"), "{field}");
        assert!(reply.body["message"].as_str().unwrap().contains(field));
    }
}

#[tokio::test]
async fn fields_at_their_limits_null_and_unknown_are_accepted() {
    let service = one();
    for good in [
        json!({ "user_id": "😀".repeat(1024) }),
        json!({ "user_id": "samlp|acme|Ann Lee\u{a0}\r\n" }),
        json!({ "user_id": "waad|a/b?c=d%2F", "client_id": "https://app.example/cb" }),
        json!({ "client_id": "é".repeat(128), "sid": "é".repeat(128) }),
        json!({ "protocol": "é".repeat(300), "organization_id": "é".repeat(300), "connection": "é".repeat(300) }),
        json!({ "prompt": "login" }),
        json!({ "prompt": ["login", "consent"] }),
        json!({ "prompt": [], "roles": [] }),
        json!({ "prompt": vec!["é".repeat(30); 128] }),
        json!({ "roles": vec!["é".repeat(30); 128] }),
        json!({ "roles": ["é".repeat(300)], "mfa": false }),
        json!({ "protocol": null, "prompt": null, "organization_id": null, "connection": null, "roles": null,
            "mfa": null, "tenant": null }),
        json!({ "ip": "192.0.2.1", "event": { "user_id": 5 } }),
    ] {
        assert_eq!(service.decide(good.clone()).await["reason"], "credentials_missing", "{good}");
    }
}

#[tokio::test]
async fn plain_request_id_of_the_caller_is_kept() {
    let service = one();
    let send = |id: Vec<u8>, body: String| {
        let mut request = request(Some(TOKEN), body);
        request.headers_mut().insert("x-request-id", id.try_into().unwrap());
        service.send(request)
    };
    let decision = login(json!({})).to_string();
    for body in [decision, "{".to_owned()] {
        for good in ["a", "A.b_c-9", &"x".repeat(64)] {
            let reply = send(good.as_bytes().to_vec(), body.clone()).await;
            assert_eq!(reply.body["request_id"], good);
            assert_eq!(reply.headers["x-request-id"], good);
        }
        for bad in [&b""[..], b"a b", b"a/b", b"\xff", "é".as_bytes(), &[b'x'; 65]] {
            let reply = send(bad.to_vec(), body.clone()).await;
            let id = reply.body["request_id"].as_str().unwrap();
            assert_ne!(id.as_bytes(), bad);
            assert!((1..=64).contains(&id.len()), "{id}");
            assert_eq!(reply.headers["x-request-id"], id);
        }
    }
    let (first, second) = (service.post("{").await, service.post("{").await);
    assert_ne!(first.body["request_id"], second.body["request_id"], "a new one each time");
}

#[tokio::test]
async fn panic_is_answered_as_an_internal_error() {
    let service = one();
    let panics = stream::poll_fn(|_| -> std::task::Poll<Option<Result<Vec<u8>, std::io::Error>>> {
        panic!("a secret detail of the stack")
    });
    let reply = service.post(Body::from_stream(panics)).await;
    assert_eq!(reply.error(), (500, "internal_error"));
    assert!(!reply.body.to_string().contains("secret detail"));
    assert_eq!(service.post(login(json!({})).to_string()).await.status, 200, "the next is answered");
}
