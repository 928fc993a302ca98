//! The requests of the playground's page, over its socket. `tests/browser` tests the page itself.

use std::net::SocketAddr;

use serde_json::{Value, json};
use session_checker::playground::Playground;
use tokio::net::TcpListener;

use crate::common::provider;

struct Page {
    http: reqwest::Client,
    address: SocketAddr,
}

impl Page {
    async fn open() -> Self {
        provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Playground::new().serve(listener));
        Self { http: reqwest::Client::builder().no_proxy().build().unwrap(), address }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("http://{}{path}", self.address)).send().await.unwrap()
    }

    async fn state(&self) -> Value {
        self.get("/api/state").await.json().await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.post(format!("http://{}{path}", self.address)).header("Sec-Fetch-Site", "same-origin");
        let response = request.json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

fn outcomes(state: &Value) -> Vec<(bool, &str)> {
    let steps = state["run"]["steps"].as_array().unwrap();
    let logins = steps.iter().flat_map(|step| step["logins"].as_array().unwrap());
    logins.map(|login| (login["blocked"] == true, login["reason"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn login_is_blocked_and_explained_and_undone() {
    let page = Page::open().await;
    assert_eq!(outcomes(&page.state().await).len(), 2);
    let (status, state) = page.post("/api/step", json!({ "sign in": "Carla on phone" })).await;
    assert_eq!(status, 200, "{state}");
    let login = &state["run"]["steps"].as_array().unwrap().last().unwrap()["logins"][0];
    assert_eq!((&login["blocked"], &login["reason"]), (&json!(true), &json!("limit_exceeded")), "{login}");
    assert_eq!(login["answer"]["active_sessions"], 1);
    assert!(login["message"].as_str().unwrap().contains("another device"));
    let sessions = login["explanation"]["sessions"].as_array().unwrap();
    assert_eq!(sessions.iter().filter(|session| session["counts"] == true).count(), 1, "{login}");
    let lanes = state["run"]["sessions"].as_array().unwrap();
    assert!(lanes.iter().any(|lane| lane["device"] == "phone" && lane["ended"].is_string()), "{lanes:?}");

    let (_, state) = page.post("/api/back", json!({})).await;
    assert_eq!(outcomes(&state).len(), 2);
    assert_eq!(state["run"]["now"], "2026-03-02T10:00:02Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_policy_is_replayed_and_compared() {
    let page = Page::open().await;
    page.state().await;
    page.post("/api/step", json!({ "sign in": "Carla on phone" })).await;
    let (status, problems) = page.post("/api/policy", json!({ "text": "limits:\n  perClient: 0\n" })).await;
    assert_eq!((status, &problems["messages"]["problems"][0]["line"]), (400, &json!(2)), "{problems}");
    let (_, messages) = page.post("/api/validate", json!({ "text": "limits:\n  perClient: 2\n" })).await;
    assert_eq!(messages, json!({ "problems": [], "warnings": [] }));
    let (status, state) = page.post("/api/policy", json!({ "text": "limits:\n  perClient: 2\n" })).await;
    assert_eq!((status, outcomes(&state)[2]), (200, (false, "within_limit")), "{state}");
    assert_eq!(state["differences"].as_array().unwrap().len(), 1);
    assert_eq!(state["differences"][0]["before"], "blocked (limit_exceeded)");
}

#[tokio::test(flavor = "multi_thread")]
async fn scenario_of_a_link_is_played_or_has_an_error() {
    let page = Page::open().await;
    page.state().await;
    for scene in page.get("/api/scenes").await.json::<Vec<Value>>().await.unwrap() {
        let (status, state) = page.post("/api/scenario", json!({ "text": scene["text"] })).await;
        assert_eq!((status, &state["run"]["title"]), (200, &scene["title"]));
        let (status, again) = page.post("/api/scenario", json!({ "text": state["run"]["scenario"] })).await;
        // Of two logins at once either may be the one that is allowed.
        let sorted = |state| {
            let mut outcomes = outcomes(state);
            outcomes.sort_unstable();
            outcomes
        };
        assert_eq!((status, sorted(&again)), (200, sorted(&state)), "its own text");
    }
    let before = page.state().await;
    for (path, body, error) in [
        ("/api/scenario", json!({ "text": "people: [{ name: Carla, devices: [laptop] }]" }), "there is no policy"),
        (
            "/api/scenario",
            json!({ "text": "policyFile: a.yaml\npeople: [{ name: Carla, devices: [laptop] }]" }),
            "below `policy:`",
        ),
        ("/api/scenario", json!({ "text": "x".repeat(40_000) }), "at most"),
        ("/api/step", json!({ "sign in": "Dora on phone" }), "there is no person"),
    ] {
        let (status, answer) = page.post(path, body).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().contains(error), "{answer}");
    }
    assert_eq!(page.state().await, before, "what cannot be played changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_page_itself_is_served_to_others() {
    let page = Page::open().await;
    let response = page.get("/").await;
    let headers = response.headers().clone();
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    let url = |path: &str| format!("http://{}{path}", page.address);
    for (header, value) in [("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")] {
        for request in
            [page.http.get(url("/api/events")), page.http.post(url("/api/step")).json(&json!({ "pass": "1h" }))]
        {
            assert_eq!(request.header(header, value).send().await.unwrap().status(), 403, "{header}");
        }
    }
    let rebound = page.http.get(url("/")).header("Host", "rebound.example").send().await.unwrap();
    assert_eq!(rebound.status(), 403);
    let plain = page.http.post(url("/api/step")).json(&json!({ "pass": "1h" })).send().await.unwrap();
    assert_eq!(plain.status(), 403, "without a word of where it comes from");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_of_the_stream_gets_the_newest_state() {
    let page = Page::open().await;
    let mut stream = page.get("/api/events").await;
    let mut text = String::new();
    while !text.contains("\n\n") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert!(text.contains("id: ") && text.contains("Why is Carla blocked"), "{text}");
    page.post("/api/step", json!({ "pass": "3d" })).await;
    while !text.contains("3d pass") {
        text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
    }
}

/// The value of an attribute of the first element that has it after `start`.
fn attribute(html: &str, start: &str, name: &str) -> String {
    let (_, rest) = html.split_once(start).unwrap();
    let (_, rest) = rest.split_once(&format!("{name}=\"")).unwrap();
    rest.split_once('"').unwrap().0.replace("&#x2f;", "/").replace("&amp;", "&")
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_person_chooses_on_the_real_page_and_comes_back() {
    let page = Page::open().await;
    let scenes = page.get("/api/scenes").await.json::<Vec<Value>>().await.unwrap();
    let scene = scenes.iter().find(|scene| scene["text"].as_str().unwrap().contains("strategy: Ask")).unwrap();
    page.post("/api/scenario", json!({ "text": scene["text"] })).await;
    let (_, state) = page.post("/api/step", json!({ "sign in": "Carla on phone" })).await;
    let device = |state: &Value| state["run"]["people"][0]["devices"][2].clone();
    let address = device(&state)["page"].as_str().unwrap().to_owned();

    let shown = page.http.get(&address).send().await.unwrap();
    let cookie = shown.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let html = shown.text().await.unwrap();
    for session in state["run"]["sessions"].as_array().unwrap() {
        assert!(!html.contains(session["id"].as_str().unwrap()), "the page shows no session ids");
    }
    assert_eq!(html.matches("name=\"session\"").count(), 2, "the sessions of Carla, and not that of Bert: {html}");
    let fields = ["ticket", "state", "binding"];
    let fields = fields.map(|name| format!("{name}={}", attribute(&html, &format!("name=\"{name}\""), "value")));
    // The latest use comes first: the laptop, then the tablet.
    let (_, tablet) = html.split_once("Chrome on Windows").unwrap();
    let form = format!("{}&session={}", fields.join("&"), attribute(tablet, "name=\"session\"", "value"));
    let origin = address.split("/choose").next().unwrap();
    let sent = page.http.post(format!("{origin}/choose")).header("Origin", origin).header("Cookie", cookie);
    let sent = sent.header("Content-Type", "application/x-www-form-urlencoded").body(form).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let back = attribute(&sent.text().await.unwrap(), "class=\"button\"", "href");
    assert!(back.starts_with(&format!("http://{}/continue?state=", page.address)), "{back}");

    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let resumed = client.get(&back).header("Sec-Fetch-Site", "same-site").send().await.unwrap();
    assert_eq!((resumed.status().as_u16(), resumed.headers()["location"].to_str().unwrap()), (303, "/"));
    assert_eq!(client.get(&back).send().await.unwrap().status(), 400, "a state works once");
    let state = page.state().await;
    let last = state["run"]["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["sentence"], "Carla chooses on phone to end tablet");
    assert_eq!(outcomes(&state).last(), Some(&(false, "within_limit")));
    assert_eq!(device(&state)["page"], Value::Null);
    assert!(state["run"]["scenario"].as_str().unwrap().contains("choose: Carla on phone ends tablet"));

    // The steps are played again, and the form is sent by the scenario.
    let (_, again) = page.post("/api/scenario", json!({ "text": state["run"]["scenario"] })).await;
    assert_eq!(outcomes(&again), outcomes(&state));
    let (_, undone) = page.post("/api/back", json!({})).await;
    assert!(device(&undone)["page"].is_string(), "the login waits again");
}
