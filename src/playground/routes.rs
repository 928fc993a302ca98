//! The requests of the page.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Playground, Rejected, SCENES, assets};
use crate::scenario::{MAX_BYTES, Scenario, ScenarioRun, check_policy};

/// The longest body: a scenario as a JSON string, in which at worst most characters are escaped.
const MAX_BODY: usize = 2 * MAX_BYTES + 1024;

/// What a browser reads whose login does not wait any more.
const OVER: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>This login is over</title>\
                    <link rel=icon href=/icon.svg><link rel=stylesheet href=/style.css><main><h1>This login is over</h1>\
                    <p>It has continued already, or the scenario was played again. <a href=/>Open the playground</a></main>";

/// A login that comes back.
#[derive(Deserialize)]
struct RedirectedLogin {
    state: String,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

pub(super) fn router(playground: Arc<Playground>) -> Router {
    Router::new()
        .merge(assets::router())
        .route("/api/state", get(state))
        .route("/api/events", get(events))
        .route("/api/scenes", get(scenes))
        .route("/continue", get(resume))
        .route("/api/step", post(step))
        .route("/api/back", post(back))
        .route("/api/scenario", post(scenario))
        .route("/api/policy", post(policy))
        .route("/api/validate", post(validate))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(playground)
}

/// The state once, for `curl` and tests.
async fn state(State(playground): State<Arc<Playground>>) -> Response {
    done(&playground, playground.start_if_needed().await)
}

/// The state now, and after each change. A reader that is late gets the newest.
async fn events(
    State(playground): State<Arc<Playground>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Rejected> {
    playground.start_if_needed().await?;
    let mut shown = playground.shown.subscribe();
    shown.mark_changed();
    let events = stream::unfold(shown, async |mut shown| {
        shown.changed().await.ok()?;
        let (number, json) = {
            let shown = shown.borrow_and_update();
            (shown.number, Arc::clone(&shown.json))
        };
        Some((Ok(Event::default().id(number.to_string()).data(&*json)), shown))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

async fn scenes() -> Json<Value> {
    let title = |text: &str| Scenario::parse(text).map(|scenario| scenario.title).unwrap_or_default();
    SCENES.iter().map(|text| json!({ "title": title(text), "text": text })).collect::<Value>().into()
}

/// Where the page for choosing sessions sends the browser, as to Auth0's `/continue`. The state works once, and nobody can
/// guess it.
async fn resume(State(playground): State<Arc<Playground>>, Query(login): Query<RedirectedLogin>) -> Response {
    let changed = Arc::clone(&playground);
    let resumed = tokio::spawn(async move { changed.resume(&login.state).await });
    if resumed.await.unwrap_or(false) {
        return Redirect::to("/").into_response();
    }
    (StatusCode::BAD_REQUEST, Html(OVER)).into_response()
}

async fn step(State(playground): State<Arc<Playground>>, Json(body): Json<Value>) -> Response {
    let changed = Arc::clone(&playground);
    run(playground, async move { changed.step(&body).await }).await
}

async fn back(State(playground): State<Arc<Playground>>, Json(_): Json<Value>) -> Response {
    let changed = Arc::clone(&playground);
    run(playground, async move { changed.back().await }).await
}

async fn scenario(State(playground): State<Arc<Playground>>, Json(body): Json<Text>) -> Response {
    let changed = Arc::clone(&playground);
    run(playground, async move { changed.open(&body.text).await }).await
}

async fn policy(State(playground): State<Arc<Playground>>, Json(body): Json<Text>) -> Response {
    let changed = Arc::clone(&playground);
    run(playground, async move { changed.set_policy(&body.text).await }).await
}

async fn validate(State(playground): State<Arc<Playground>>, Json(body): Json<Text>) -> Response {
    let now = playground.run.lock().await.as_ref().map_or_else(jiff::Timestamp::now, ScenarioRun::now);
    Json(check_policy(&body.text, now)).into_response()
}

/// Runs a change to its end, also when the browser closes the connection: a step must not stop half way.
async fn run(
    playground: Arc<Playground>,
    change: impl Future<Output = Result<(), Rejected>> + Send + 'static,
) -> Response {
    match tokio::spawn(change).await {
        Ok(result) => done(&playground, result),
        Err(error) => {
            tracing::error!(%error, "a step of the playground failed");
            Rejected::because("the step failed: see the log of the demo, and start again").into_response()
        }
    }
}

fn done(playground: &Playground, result: Result<(), Rejected>) -> Response {
    match result {
        Ok(()) => {
            let json = Arc::clone(&playground.shown.borrow().json);
            ([("content-type", "application/json")], json.to_string()).into_response()
        }
        Err(rejected) => rejected.into_response(),
    }
}

impl IntoResponse for Rejected {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(self.0)).into_response()
    }
}
