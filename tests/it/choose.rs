//! `strategy: Ask` through the service and a simulated tenant: from the check of a blocked login to the page, a choice, and back.

use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::header::{ACCEPT_LANGUAGE, CONTENT_SECURITY_POLICY, COOKIE, ORIGIN, SET_COOKIE};
use serde_json::{Value, json};
use session_checker::service::RunError;
use simulator::{Application, Fault, Operation, Session, Simulator};
use tokio::time::sleep;

use crate::common::{APP, DOMAIN, Running, callers, credentials, folder, policy, serve_args, tenant, write};
use crate::redis_server::RedisServer;

const ORIGIN_OF_PAGE: &str = "https://sessions.example.com";
const CHOOSE: [&str; 4] = ["--choose-listen", "127.0.0.1:0", "--choose-url", ORIGIN_OF_PAGE];
const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";
const CONTINUE: &str = "https://acme.eu.auth0.com/continue?state=state-1";

/// A page as a browser got it.
struct Page {
    status: u16,
    text: String,
    cookie: Option<String>,
}

/// A browser with the cookie of the page.
#[derive(Clone, Default)]
struct Browser {
    cookie: Option<String>,
}

impl Page {
    /// The value of a hidden field.
    fn field(&self, name: &str) -> String {
        self.text.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    /// The codes of the sessions, in their order.
    fn codes(&self) -> Vec<String> {
        let parts = self.text.split("name=\"session\" value=\"").skip(1);
        parts.map(|part| part.split('"').next().unwrap().to_owned()).collect()
    }

    /// The hidden fields of the form.
    fn hidden(&self) -> Vec<(&'static str, String)> {
        ["ticket", "state", "binding"].map(|name| (name, self.field(name))).into()
    }

    fn goes_on(&self) -> bool {
        self.status == 200 && self.text.contains(&format!("content=\"0; url={CONTINUE}\""))
    }
}

impl Browser {
    async fn get(&mut self, service: &Running, url: &str) -> Page {
        self.get_with(service, url, "en").await
    }

    async fn get_with(&mut self, service: &Running, url: &str, languages: &str) -> Page {
        let request = service.http.get(local(service, url)).header(ACCEPT_LANGUAGE, languages);
        let page = self.send(request).await;
        self.cookie = page.cookie.clone().or(self.cookie.take());
        page
    }

    /// Sends a form from the page.
    async fn post(&self, service: &Running, fields: &[(&str, String)]) -> Page {
        let url = format!("{ORIGIN_OF_PAGE}/choose");
        self.send(service.http.post(local(service, &url)).header(ORIGIN, ORIGIN_OF_PAGE).form(fields)).await
    }

    /// Sends the form of a page with these sessions.
    async fn choose(&self, service: &Running, page: &Page, codes: &[String]) -> Page {
        let mut fields = page.hidden();
        fields.extend(codes.iter().map(|code| ("session", code.clone())));
        self.post(service, &fields).await
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> Page {
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let response = request.send().await.unwrap();
        let cookie = response.headers().get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap().to_owned());
        if let Some(cookie) = &cookie {
            assert!(cookie.ends_with("; Path=/; Max-Age=300; HttpOnly; Secure; SameSite=Lax"), "{cookie}");
        }
        let policy = response.headers().get(CONTENT_SECURITY_POLICY).expect("every page has a policy");
        assert!(policy.to_str().unwrap().starts_with("default-src 'none'"));
        let cookie = cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned());
        let status = response.status().as_u16();
        // The escape of a slash, which no browser needs.
        Page { status, cookie, text: response.text().await.unwrap().replace("&#x2f;", "/") }
    }
}

/// The address of the listener for what the page's public origin is in a browser.
fn local(service: &Running, url: &str) -> String {
    url.replace(ORIGIN_OF_PAGE, &format!("http://{}", service.choose_address.unwrap()))
}

fn asking(more: Value) -> Value {
    let mut spec = json!({ "strategy": "Ask" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy("one", spec)
}

async fn service(tenant: &Simulator, more: Value) -> Running {
    Running::folder(tenant, &[credentials(), callers(), asking(more)], &CHOOSE).await
}

/// The user's sessions: `session-1` and `session-2` with the application, and `me`, which logs in.
async fn scene() -> Simulator {
    let tenant = tenant().await;
    let now = tenant.now();
    let device = json!({ "last_user_agent": CHROME, "last_ip": "198.51.100.77" });
    let ago = |hours| now - SignedDuration::from_hours(hours);
    tenant.add_session("u", Session::new("session-1", ago(50)).client(APP).at("last_interacted_at", ago(3)));
    tenant.add_session(
        "u",
        Session::new("session-2", ago(48)).client(APP).at("last_interacted_at", ago(2)).field("device", device),
    );
    tenant.add_session("u", Session::new("me", now));
    tenant
}

async fn check(service: &Running, sid: &str, more: Value) -> Value {
    let mut body = json!({
        "user_id": "u", "client_id": APP, "sid": sid, "can_redirect": true, "hostname": DOMAIN, "mfa": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = service.ask(&body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The address of the page for a login that is blocked, with the state that Auth0 adds.
async fn asked(service: &Running, sid: &str) -> String {
    let answer = check(service, sid, json!({})).await;
    assert_eq!((&answer["block"], &answer["reason"]), (&json!(true), &json!("limit_exceeded")), "{answer}");
    assert_eq!(answer["revoke_session"], false, "{answer}");
    format!("{}&state=state-1", answer["choose"]["url"].as_str().unwrap_or_else(|| panic!("{answer}")))
}

/// The address of the page for a login that is blocked, and the page in a new browser.
async fn opened(service: &Running) -> (String, Browser, Page) {
    let url = asked(service, "me").await;
    let mut browser = Browser::default();
    let page = browser.get(service, &url).await;
    (url, browser, page)
}

fn sids(tenant: &Simulator) -> Vec<String> {
    tenant.sessions_of("u").iter().map(|session| session.id().to_owned()).collect()
}

async fn count(service: &Running, outcome: &str) -> f64 {
    let series = format!("session_checker_choices_total{{outcome=\"{outcome}\",tenant=\"{DOMAIN}\"}}");
    service.metric(&series).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn person_ends_a_session_and_is_allowed_once() {
    for back_as in ["me", "another"] {
        let tenant = scene().await;
        let service = service(&tenant, json!({ "limits": { "perClient": 2 } })).await;
        let (url, browser, page) = opened(&service).await;
        assert!(url.starts_with(&format!("{ORIGIN_OF_PAGE}/choose?ticket=")), "{url}");
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(
            page.text.contains("Chrome on Windows") && page.text.contains("Last used 2 hours ago"),
            "{}",
            page.text
        );
        for secret in ["session-1", "session-2", "198.51.100.77", "Mozilla"] {
            assert!(!page.text.contains(secret), "{secret}: {}", page.text);
        }
        let codes = page.codes();
        assert_eq!((codes.len(), page.text.matches("type=\"radio\"").count()), (2, 2), "current is not offered");

        let after = browser.choose(&service, &page, &codes[..1]).await;
        assert!(after.goes_on(), "{} {}", after.status, after.text);
        assert_eq!(sids(&tenant), ["session-1", "me"], "the latest one was chosen");
        let back = check(&service, back_as, json!({ "continued": true })).await;
        assert_eq!((&back["block"], &back["reason"]), (&json!(false), &json!("within_limit")), "{back}");
        let third = check(&service, "third", json!({})).await;
        assert_eq!(third["block"], true, "the place is taken: {third}");
        for (outcome, expected) in [("asked", 2.0), ("shown", 1.0), ("chosen", 1.0), ("cancelled", 0.0)] {
            assert_eq!(count(&service, outcome).await, expected, "{outcome}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_session_says_that_the_user_chose_it() {
    let tenant = scene().await;
    let scopes = ["read:sessions", "update:sessions", "delete:sessions", "delete:refresh_tokens"];
    tenant.add_application(Application::with_secret("checker", "checker-secret").scopes(scopes));
    let service = service(&tenant, json!({ "limits": { "perClient": 2 }, "explainEvictions": true })).await;
    let (_, browser, page) = opened(&service).await;
    assert!(browser.choose(&service, &page, &page.codes()[..1]).await.goes_on());
    let requests = tenant.requests();
    let update = requests.iter().find(|request| request.operation == Some(Operation::Update)).unwrap();
    let body: Value = serde_json::from_slice(&update.body).unwrap();
    assert_eq!(body, json!({ "session_metadata": { "session_checker_reason": "chosen" } }));
    assert_eq!(tenant.count(Operation::Revoke), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn person_who_cancels_ends_nothing_and_is_blocked() {
    let tenant = scene().await;
    let service = service(&tenant, json!({ "ask": { "otherwise": "RevokeOldest" } })).await;
    let (_, browser, page) = opened(&service).await;
    assert_eq!(page.text.matches("type=\"checkbox\"").count(), 2, "both have to end: {}", page.text);
    let fields = [page.hidden(), vec![("cancel", "1".to_owned())]].concat();
    assert!(browser.post(&service, &fields).await.goes_on());
    let back = check(&service, "me", json!({ "continued": true })).await;
    assert_eq!((&back["block"], &back["revoke_session"]), (&json!(true), &json!(true)), "{back}");
    assert!(back["choose"].is_null(), "never a second time: {back}");
    assert_eq!((sids(&tenant).len(), tenant.count(Operation::Revoke)), (3, 0));
    assert_eq!(count(&service, "cancelled").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stranger_is_rejected_and_nothing_ends() {
    let tenant = scene().await;
    let service = service(&tenant, json!({ "limits": { "perClient": 2 } })).await;
    let url = asked(&service, "me").await;
    let mut browser = Browser::default();
    for (wrong, status) in [
        (url.replace("ticket=", "ticket=A"), 400),
        (url.replace("ticket=", "other="), 400),
        (url.replace("&state=state-1", ""), 400),
        (url.replace("state-1", "%22%3E%3Cscript"), 400),
        (format!("{url}&ticket=x"), 400),
    ] {
        let page = Browser::default().get(&service, &wrong).await;
        assert_eq!(page.status, status, "{wrong}");
        assert!(page.text.contains("go back to the application") && page.cookie.is_none(), "{}", page.text);
    }
    let page = browser.get(&service, &url).await;
    let again = browser.get(&service, &url).await;
    assert_eq!((page.status, again.status), (200, 200));
    let elsewhere = Browser::default().get(&service, &url).await;
    assert_eq!((elsewhere.status, elsewhere.codes().len()), (403, 0), "another browser");
    let otherwise = browser.clone().get(&service, &url.replace("state-1", "state-2")).await;
    assert_eq!(otherwise.status, 403, "another state");

    let codes = page.codes();
    assert_eq!(Browser::default().choose(&service, &page, &codes[..1]).await.status, 403, "no cookie");
    let stranger = Browser { cookie: Some("__Host-choose=abcdefghijklmnopqrstuv".to_owned()) };
    assert_eq!(stranger.choose(&service, &page, &codes[..1]).await.status, 403, "another cookie");
    let form = [("ticket", page.field("ticket")), ("state", page.field("state")), ("session", codes[0].clone())];
    assert_eq!(browser.post(&service, &form).await.status, 403, "a form without the binding");
    let cross = service.http.post(local(&service, &format!("{ORIGIN_OF_PAGE}/choose"))).form(&form);
    for (header, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("x", "neither")] {
        let page = browser.send(cross.try_clone().unwrap().header(header, value)).await;
        assert_eq!(page.status, 403, "{header}");
    }
    assert_eq!(browser.post(&service, &[("ticket", "x".repeat(20_000))]).await.status, 400);
    assert_eq!((sids(&tenant).len(), tenant.count(Operation::Revoke)), (3, 0));
    assert!(browser.choose(&service, &page, &codes[..1]).await.goes_on(), "rejections do not use the ticket up");
    for reason in ["ticket", "state", "browser", "origin", "form"] {
        let series = format!("session_checker_choose_rejected_total{{reason=\"{reason}\"}}");
        assert!(service.metric(&series).await.unwrap() > 0.0, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn form_that_is_sent_again_goes_on_and_another_is_rejected() {
    let tenant = scene().await;
    let service = service(&tenant, json!({ "limits": { "perClient": 2 } })).await;
    let (url, mut browser, page) = opened(&service).await;
    let codes = page.codes();
    let [first, second] = <[Page; 2]>::from(tokio::join!(
        browser.choose(&service, &page, &codes[..1]),
        browser.choose(&service, &page, &codes[..1])
    ));
    assert!(first.goes_on() && second.goes_on(), "a double click: {} {}", first.text, second.text);
    assert!(browser.choose(&service, &page, &codes[..1]).await.goes_on(), "a reload");
    assert_eq!(browser.choose(&service, &page, &codes[1..]).await.status, 409, "another choice");
    assert_eq!(tenant.count(Operation::Revoke), 1);
    let done = browser.get(&service, &url).await;
    assert!(done.status == 200 && done.codes().is_empty() && done.text.contains(CONTINUE), "{}", done.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_number_of_sessions_shows_the_page_again() {
    let tenant = scene().await;
    let service = service(&tenant, json!({ "limits": { "perClient": 2 } })).await;
    let (_, browser, page) = opened(&service).await;
    let lists = tenant.count(Operation::List);
    for codes in [Vec::new(), page.codes(), vec!["unknown".to_owned()]] {
        for _ in 0..5 {
            let again = browser.choose(&service, &page, &codes).await;
            assert_eq!((again.status, again.codes()), (422, page.codes()), "{}", again.text);
            assert!(again.text.contains("Please choose one session."), "{}", again.text);
        }
    }
    assert_eq!(tenant.count(Operation::Revoke), 0);
    assert_eq!(tenant.count(Operation::List) - lists, 1, "the others are answered from the list of the first");
    assert!(browser.choose(&service, &page, &page.codes()[1..]).await.goes_on(), "and none is a try");
    assert_eq!(tenant.count(Operation::List) - lists, 2, "sessions end by a fresh list");
}

#[tokio::test(flavor = "multi_thread")]
async fn form_fits_what_is_exceeded_when_it_is_sent() {
    let tenant = scene().await;
    let service = service(&tenant, json!({ "limits": { "perClient": 1 } })).await;
    let (_, browser, page) = opened(&service).await;
    assert!(page.text.contains("end 2 of your other sessions"), "{}", page.text);
    // The person logs out on another device, and then has to end one session alone: the later, which is shown first.
    assert!(tenant.end_session("session-1"));
    assert!(browser.choose(&service, &page, &page.codes()[..1]).await.goes_on());
    assert_eq!(sids(&tenant), ["me"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_ticket_are_bounded_when_they_fail() {
    let tenant = scene().await;
    let service = service(&tenant, json!({ "limits": { "perClient": 2 } })).await;
    let (_, browser, page) = opened(&service).await;
    tenant.fault(Operation::List, Fault::json(axum::http::StatusCode::FORBIDDEN, r#"{"statusCode":403}"#));
    let lists = tenant.count(Operation::List);
    // The page had one of the thirteen.
    for _ in 0..12 {
        assert_eq!(browser.choose(&service, &page, &page.codes()[..1]).await.status, 503);
    }
    assert_eq!(tenant.count(Operation::List) - lists, 12);
    assert_eq!(browser.choose(&service, &page, &page.codes()[..1]).await.status, 429);
    assert_eq!(tenant.count(Operation::List) - lists, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_cannot_be_ended_allows_no_login() {
    let tenant = scene().await;
    let more = json!({ "limits": { "perClient": 2 }, "failurePolicy": "Allow", "timeout": "5s" });
    let service = service(&tenant, more).await;
    let (_, browser, page) = opened(&service).await;
    tenant.fault(Operation::Revoke, Fault::status(axum::http::StatusCode::INTERNAL_SERVER_ERROR));
    let failed = browser.choose(&service, &page, &page.codes()[..1]).await;
    assert_eq!(failed.status, 503, "{}", failed.text);
    assert!(failed.text.contains("could be ended") && failed.codes().len() == 2, "{}", failed.text);
    assert_eq!(check(&service, "me", json!({ "continued": true })).await["block"], true, "the login is not allowed");
    tenant.clear_faults();
    assert!(browser.choose(&service, &page, &page.codes()[..1]).await.goes_on());
    assert_eq!(check(&service, "me", json!({ "continued": true })).await["block"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_is_shown_and_tried_a_few_times() {
    let tenant = scene().await;
    let service = service(&tenant, json!({ "limits": { "perClient": 2 } })).await;
    let mut browser = Browser::default();
    let url = asked(&service, "me").await;
    let lists = tenant.count(Operation::List);
    let page = browser.get(&service, &url).await;
    for _ in 1..10 {
        assert_eq!(browser.get(&service, &url).await.status, 200);
    }
    assert_eq!(tenant.count(Operation::List) - lists, 1, "the list is kept for ten seconds");
    assert_eq!(browser.get(&service, &url).await.status, 429);
    tenant.fault(Operation::Revoke, Fault::status(axum::http::StatusCode::FORBIDDEN));
    for _ in 0..3 {
        assert_eq!(browser.choose(&service, &page, &page.codes()[..1]).await.status, 503);
    }
    assert_eq!(browser.choose(&service, &page, &page.codes()[..1]).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_read_again_before_a_session_ends() {
    for more in [
        json!({ "strategy": "Deny" }),
        json!({ "strategy": "RevokeOldest" }),
        json!({ "mode": "Audit" }),
        json!({ "limits": { "perClient": 5 } }),
    ] {
        let tenant = scene().await;
        let documents = |more: &Value| [credentials(), callers(), asking(more.clone())];
        let folder = folder(&documents(&json!({ "limits": { "perClient": 2 } })));
        let service = Running::path(&tenant, folder.path(), &CHOOSE).await;
        let (_, browser, page) = opened(&service).await;
        let rule = async || service.policy("default/one").await["rule"].take();
        let before = rule().await;
        write(folder.path(), "policies.yaml", &documents(&more));
        crate::common::eventually("the change is active", || async { rule().await != before }).await;
        assert!(browser.choose(&service, &page, &page.codes()[..1]).await.goes_on(), "{more}");
        assert_eq!((sids(&tenant).len(), tenant.count(Operation::Revoke)), (3, 0), "{more}");
        assert_eq!(count(&service, "not_needed").await, 1.0, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_and_a_service_without_the_page_ask_nobody() {
    let tenant = scene().await;
    let auditing = service(&tenant, json!({ "mode": "Audit" })).await;
    let answer = check(&auditing, "me", json!({})).await;
    assert_eq!((&answer["block"], &answer["audited_reason"]), (&json!(false), &json!("limit_exceeded")), "{answer}");
    assert!(answer["choose"].is_null());
    let series = format!("session_checker_would_asks_total{{policy=\"default/one\",tenant=\"{DOMAIN}\"}}");
    assert_eq!(auditing.metric(&series).await, Some(1.0));

    let documents = [credentials(), callers(), asking(json!({}))];
    let without = Running::folder(&tenant, &documents, &[]).await;
    let answer = check(&without, "me", json!({})).await;
    assert_eq!((&answer["block"], &answer["choose"]), (&json!(true), &Value::Null), "{answer}");
    let silent = service(&tenant, json!({ "ask": { "otherwise": "RevokeOldest" } })).await;
    let answer = check(&silent, "me", json!({ "prompt": "none", "can_redirect": false })).await;
    assert!(answer["block"] == true && answer["choose"]["url"].is_string(), "{answer}");
    assert_eq!(tenant.count(Operation::Revoke), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_is_in_the_language_of_the_login_or_of_the_browser() {
    let tenant = scene().await;
    let service = service(&tenant, json!({ "limits": { "perClient": 2 } })).await;
    let answer = check(&service, "me", json!({ "locale": "de-AT" })).await;
    let url = format!("{}&state=state-1", answer["choose"]["url"].as_str().unwrap());
    let page = Browser::default().get_with(&service, &url, "fr").await;
    assert!(page.text.contains("<html lang=\"de\">") && page.text.contains("Ihre Sitzungen"), "{}", page.text);
    let url = asked(&service, "me").await;
    let page = Browser::default().get_with(&service, &url, "xx, ja;q=0.8").await;
    assert!(page.text.contains("<html lang=\"ja\">"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_of_a_folder_are_followed_and_always_escaped() {
    let tenant = scene().await;
    let pages = tempfile::tempdir().unwrap();
    let own =
        "{% autoescape false %}<h1>Acme {{ title|safe }}</h1><p>{{ state|safe }}</p>{{ '<b>' }}{% endautoescape %}";
    std::fs::write(pages.path().join("choose.html"), own).unwrap();
    let options = [&CHOOSE[..], &["--choose-page-dir", pages.path().to_str().unwrap()]].concat();
    let documents = [credentials(), callers(), asking(json!({ "limits": { "perClient": 2 } }))];
    let service = Running::folder(&tenant, &documents, &options).await;
    let (url, mut browser, page) = opened(&service).await;
    assert!(page.text.starts_with("<h1>Acme You are") && page.text.ends_with("&lt;b&gt;"), "{}", page.text);
    std::fs::write(pages.path().join("choose.html"), "{% broken").unwrap();
    std::fs::write(pages.path().join("style.css"), "p { color: red }").unwrap();
    std::fs::write(pages.path().join("choose.html"), "<p>New</p>").unwrap();
    let style = local(&service, &format!("{ORIGIN_OF_PAGE}/choose/style.css"));
    crate::common::eventually("the new style sheet is used", || async {
        service.http.get(&style).send().await.unwrap().text().await.unwrap() == "p { color: red }"
    })
    .await;
    assert_eq!(browser.get(&service, &url).await.text, "<p>New</p>");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_a_key_and_a_ledger_share_a_ticket() {
    let Some(server) = RedisServer::start().await else { return };
    let tenant = scene().await;
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), format!("{}\n", "A".repeat(43) + "=")).unwrap();
    let documents = [credentials(), callers(), asking(json!({ "limits": { "perClient": 2 } }))];
    let url = server.socket_url();
    let options = ["--ledger", &url, "--ledger-timeout", "5s", "--replicas", "2"];
    let options = [&CHOOSE[..], &options[..], &["--ticket-key-file", keys.path().to_str().unwrap()]].concat();
    let one = Running::folder(&tenant, &documents, &options).await;
    let two = Running::folder(&tenant, &documents, &options).await;
    let (url, browser, page) = opened(&one).await;
    assert_eq!(Browser::default().get(&two, &url).await.status, 403, "the other replica knows the browser");
    let codes = page.codes();
    assert!(browser.choose(&two, &page, &codes[..1]).await.goes_on());
    assert!(browser.choose(&one, &page, &codes[..1]).await.goes_on());
    assert_eq!(browser.choose(&one, &page, &codes[1..]).await.status, 409);
    assert_eq!(tenant.count(Operation::Revoke), 1);
    let back = check(&one, "another", json!({ "continued": true })).await;
    assert_eq!((&back["block"], &back["reason"]), (&json!(false), &json!("within_limit")), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn page_says_in_time_that_the_ledger_does_not_answer() {
    let Some(server) = RedisServer::start().await else { return };
    let tenant = scene().await;
    let documents = [credentials(), callers(), asking(json!({ "limits": { "perClient": 2 } }))];
    // An operation may take so long that only a deadline of the page's can end it before.
    let ledger = server.socket_url();
    let options = [&CHOOSE[..], &["--ledger", &ledger, "--ledger-timeout", "60s"]].concat();
    let service = Running::folder(&tenant, &documents, &options).await;
    let (url, mut browser, page) = opened(&service).await;
    tenant.add_session("u", Session::new("another", tenant.now()));
    let (other_url, mut fresh) = (asked(&service, "another").await, Browser::default());
    server.freeze();
    let other = fresh.get(&service, &other_url).await;
    let (show, form) = (browser.get(&service, &url).await, browser.choose(&service, &page, &page.codes()[..1]).await);
    server.signal("-CONT");
    for answer in [show, form, other] {
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.text.contains("try again") && answer.text.contains("/choose?ticket="), "{}", answer.text);
        assert!(answer.codes().is_empty() && !answer.text.contains("/continue?"), "{}", answer.text);
    }
    assert_eq!(count(&service, "failed").await, 3.0);
    // The write that came too late may have bound the ticket to the browser, which is the same at the next visit.
    let mut status = 503;
    for _ in 0..600 {
        status = fresh.get(&service, &other_url).await.status;
        if status != 503 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status, 200);
    assert!(browser.choose(&service, &page, &page.codes()[..1]).await.goes_on());
}

#[tokio::test]
async fn replicas_without_a_key_do_not_start() {
    let folder = folder(&[credentials(), callers(), asking(json!({}))]);
    let path = folder.path().to_str().unwrap();
    let options = [&CHOOSE[..], &["--policy-dir", path, "--replicas", "2"]].concat();
    let Err(error) = Running::start(serve_args(&options)).await else { panic!("it starts") };
    assert!(matches!(error, RunError::TicketKeys(2)) && error.exit_code() == 64, "{error}");
    let missing = Path::new("/nowhere").to_str().unwrap();
    let options = [&CHOOSE[..], &["--policy-dir", path, "--choose-page-dir", missing]].concat();
    let Err(error) = Running::start(serve_args(&options)).await else { panic!("it starts") };
    assert!(error.to_string().contains("--choose-page-dir"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_that_asks_without_a_page_says_so() {
    let tenant = scene().await;
    let documents = [credentials(), callers(), asking(json!({}))];
    for (options, expected) in [(&CHOOSE[..], false), (&[], true)] {
        let service = Running::folder(&tenant, &documents, options).await;
        service.condition_becomes("default/one", "Ready", "Ready").await;
        let policy = service.policy("default/one").await;
        let warnings = policy["warnings"].to_string();
        assert_eq!(warnings.contains("give it --choose-listen and --choose-url"), expected, "{policy}");
        let ready = policy["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Ready").unwrap();
        assert_eq!(ready["message"].as_str().unwrap().contains("ask.otherwise decides"), expected, "{ready}");
    }
}
