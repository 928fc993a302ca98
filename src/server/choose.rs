//! `/choose`: the page on which a person whose login is blocked chooses which sessions to end.
//!
//! Browsers come here, not callers of `/check`, so it has a listener and bounds of its own. The answer to a form is a page that
//! goes on by itself, never a redirect: browsers apply `form-action` to each redirect after a form, and would cancel the one to the
//! application after the sessions have ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderName, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::time::Instant;
use url::form_urlencoded;

use super::app::App;
use super::body;
use super::request_id::RequestId;
use super::same_origin::is_same_origin;
use crate::check::{Choices, Chosen};
use crate::choose::{
    ChoiceOutcome, Chooser, Language, Links, Message, OpenTicket, PATH, PageRejection, Problem, TICKET_SECONDS,
    TicketError, Visit, is_same_code, new_browser,
};
use crate::continued::Continued;
use crate::ledger::TicketState;

/// The cookie that binds a ticket to a browser. The prefix keeps other hosts of the domain from setting it.
const COOKIE_NAME: &str = "__Host-choose";
/// The same for a page on this machine without HTTPS, where browsers accept no prefix.
const LOCAL_COOKIE_NAME: &str = "choose";
/// The characters of its value.
const COOKIE_CHARS: usize = 22;
/// The longest state of a login at Auth0. Those of Auth0 have some tens of characters.
const MAX_STATE_CHARS: usize = 2_048;
/// The maximum size of a form in bytes: the longest ticket and state, and as many codes as are offered.
const MAX_FORM_BYTES: usize = 16 * 1024;
/// The most codes of a form that are read.
const MAX_CODES: usize = 100;

/// What the pages may load and do: a style sheet and images of their own origin, and a form to it.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// What a browser sent: the fields of the address or of the form.
#[derive(Default)]
struct Fields {
    ticket: String,
    state: String,
    binding: String,
    sessions: BTreeSet<String>,
    is_cancelled: bool,
}

/// A page to send, with its status.
struct Answer<'a> {
    app: &'a App,
    chooser: &'a Chooser,
    /// The `Accept-Language` of the browser.
    accepted: Option<&'a str>,
    language: &'static Language,
    /// The value of the cookie to set.
    browser: Option<&'a str>,
}

/// A cookie to set: its name and value.
#[derive(Clone, Copy)]
struct Cookie<'a>(&'static str, &'a str);

/// Shows the sessions of a ticket.
pub(super) async fn show(State(app): State<Arc<App>>, request: Request) -> Response {
    let arrived = Instant::now();
    let Some(chooser) = app.checker.chooser() else { return not_found(State(app), request).await };
    let (head, _) = request.into_parts();
    let answer = Answer::new(&app, chooser, &head.headers);
    let fields = Fields::parse(head.uri.query().unwrap_or_default().as_bytes());
    let (ticket, answer) = match answer.open(&fields) {
        Ok(opened) => opened,
        Err(response) => return *response,
    };
    let browser = cookie(&head.headers, cookie_name(chooser)).unwrap_or_else(new_browser);
    let state = app.checker.open_ticket(&ticket, &ticket.browser_code(&browser, &fields.state), arrived).await;
    let links = links(chooser, &ticket, &fields);
    match state {
        // The ticket may be bound to the browser all the same, when the write comes late.
        None => return Answer { browser: Some(&browser), ..answer }.not_opened(&ticket, links),
        Some(TicketState::Elsewhere) => return answer.reject(PageRejection::Browser, &Links::default()),
        Some(TicketState::Done(_)) => return answer.message(StatusCode::OK, Message::Done, &links),
        Some(TicketState::Open) => {}
    }
    let answer = Answer { browser: Some(&browser), ..answer };
    if !app.checker.may_show(&ticket) {
        return answer.reject(PageRejection::WornOut, &links);
    }
    let visit = Visit { ticket: &fields.ticket, state: &fields.state, browser: &browser };
    answer.show(&ticket, visit, &links, None, arrived).await
}

/// Carries out a choice.
pub(super) async fn choose(
    State(app): State<Arc<App>>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Response {
    let arrived = Instant::now();
    let Some(chooser) = app.checker.chooser() else { return not_found(State(app), request).await };
    let (head, body) = request.into_parts();
    let answer = Answer::new(&app, chooser, &head.headers);
    if !is_same_origin(&head.headers, chooser.origin()) {
        return answer.reject(PageRejection::Origin, &Links::default());
    }
    let is_form = body::has_type(&head.headers, "application/x-www-form-urlencoded");
    let form = if is_form { body::read(body, MAX_FORM_BYTES, &request_id).await.ok() } else { None };
    let Some(form) = form else { return answer.reject(PageRejection::Form, &Links::default()) };
    let fields = Fields::parse(&form);
    let (ticket, answer) = match answer.open(&fields) {
        Ok(opened) => opened,
        Err(response) => return *response,
    };
    let Some(browser) = cookie(&head.headers, cookie_name(chooser)) else {
        return answer.reject(PageRejection::Browser, &Links::default());
    };
    let browser_code = ticket.browser_code(&browser, &fields.state);
    if !is_same_code(&browser_code, &fields.binding) {
        return answer.reject(PageRejection::Browser, &Links::default());
    }
    let links = links(chooser, &ticket, &fields);
    match app.checker.open_ticket(&ticket, &browser_code, arrived).await {
        None => return answer.not_opened(&ticket, links),
        Some(TicketState::Elsewhere) => return answer.reject(PageRejection::Browser, &Links::default()),
        // A double click, or a form that was sent again.
        Some(TicketState::Done(choice)) if fields.is_cancelled || choice == ticket.choice_code(&fields.sessions) => {
            return answer.message(StatusCode::OK, Message::Continue, &links);
        }
        Some(TicketState::Done(_)) => return answer.reject(PageRejection::Done, &links),
        Some(TicketState::Open) => {}
    }
    if fields.is_cancelled {
        chooser.metrics().outcome(&ticket.ticket.tenant, ChoiceOutcome::Cancelled);
        return answer.message(StatusCode::OK, Message::Continue, &links);
    }
    let ticket = Arc::new(ticket);
    // When the browser goes away, an eviction must not stop halfway.
    let carrying_out = {
        let (app, ticket, sessions) = (Arc::clone(&app), Arc::clone(&ticket), fields.sessions);
        let running = app.checks.token();
        async move {
            let chosen = app.checker.choose(&app.checker.snapshot(), &ticket, &sessions, arrived).await;
            drop(running);
            chosen
        }
    };
    let chosen = Continued::new(Box::pin(carrying_out)).await;
    let answer = Answer { browser: Some(&browser), ..answer };
    let visit = Visit { ticket: &fields.ticket, state: &fields.state, browser: &browser };
    match chosen {
        Chosen::Ended | Chosen::NotNeeded => answer.message(StatusCode::OK, Message::Continue, &links),
        Chosen::Unfit => answer.show(&ticket, visit, &links, Some(Problem::Unfit), arrived).await,
        Chosen::Failed => answer.show(&ticket, visit, &links, Some(Problem::Failed), arrived).await,
        Chosen::Impossible => answer.message(StatusCode::CONFLICT, Message::Impossible, &links),
        Chosen::Unavailable => answer.message(StatusCode::SERVICE_UNAVAILABLE, Message::Unavailable, &links),
        Chosen::WornOut => answer.reject(PageRejection::WornOut, &links),
    }
}

/// The style sheet of the pages.
pub(super) async fn style(State(app): State<Arc<App>>) -> Response {
    let style = app.checker.chooser().map(|chooser| chooser.pages().style().to_owned()).unwrap_or_default();
    respond(StatusCode::OK, "text/css; charset=utf-8", style, None)
}

/// Answers requests for other paths.
pub(super) async fn not_found(State(app): State<Arc<App>>, request: Request) -> Response {
    plain(&app, &request, StatusCode::NOT_FOUND)
}

/// Answers requests with other methods.
pub(super) async fn method_not_allowed(State(app): State<Arc<App>>, request: Request) -> Response {
    plain(&app, &request, StatusCode::METHOD_NOT_ALLOWED)
}

fn plain(app: &App, request: &Request, status: StatusCode) -> Response {
    let language = Language::find(None, text(request.headers(), &ACCEPT_LANGUAGE));
    let page = app.checker.chooser().map(|it| it.pages().message(language, Message::Invalid, &Links::default()));
    respond(status, "text/html; charset=utf-8", page.and_then(Result::ok).unwrap_or_default(), None)
}

impl<'a> Answer<'a> {
    /// In the language of the browser, and without a cookie.
    fn new(app: &'a App, chooser: &'a Chooser, headers: &'a HeaderMap) -> Self {
        let accepted = text(headers, &ACCEPT_LANGUAGE);
        Self { app, chooser, accepted, language: Language::find(None, accepted), browser: None }
    }

    /// Reads the ticket and checks the state of its login. The pages are then in the language of the login.
    fn open(self, fields: &Fields) -> Result<(OpenTicket, Self), Box<Response>> {
        let of_login = |locale: Option<&str>| Self { language: Language::find(locale, self.accepted), ..self };
        match self.chooser.open(&fields.ticket, self.app.checker.now()) {
            Ok(ticket) => {
                let answer = of_login(ticket.ticket.locale.as_deref());
                if is_state(&fields.state) {
                    Ok((ticket, answer))
                } else {
                    Err(Box::new(answer.reject(PageRejection::State, &Links::default())))
                }
            }
            Err(TicketError::Invalid) => Err(Box::new(self.reject(PageRejection::Ticket, &Links::default()))),
            Err(TicketError::Expired(ticket)) => {
                self.chooser.metrics().outcome(&ticket.tenant, ChoiceOutcome::Expired);
                let answer = of_login(ticket.locale.as_deref());
                Err(Box::new(answer.message(StatusCode::GONE, Message::Expired, &Links::default())))
            }
        }
    }

    /// The page with the sessions as they are now, or what there is to say in place of it.
    async fn show(
        &self,
        ticket: &OpenTicket,
        visit: Visit<'_>,
        links: &Links,
        problem: Option<Problem>,
        arrived: Instant,
    ) -> Response {
        let metrics = self.chooser.metrics();
        let tenant = &ticket.ticket.tenant;
        match self.app.checker.choices(&self.app.checker.snapshot(), ticket, arrived).await {
            Choices::Offer(offer, devices) => {
                metrics.outcome(tenant, ChoiceOutcome::Shown);
                let device = |sid: &str| devices.device(sid);
                let now = devices.tenant_time(self.app.checker.now());
                let pages = self.chooser.pages();
                let page = pages.choice(self.language, (ticket, visit), (&offer, device), problem, now);
                let status = match problem {
                    None => StatusCode::OK,
                    Some(Problem::Unfit) => StatusCode::UNPROCESSABLE_ENTITY,
                    Some(Problem::Failed) => StatusCode::SERVICE_UNAVAILABLE,
                };
                self.page(status, page)
            }
            Choices::NotNeeded => {
                metrics.outcome(tenant, ChoiceOutcome::NotNeeded);
                self.message(StatusCode::OK, Message::Continue, links)
            }
            Choices::Impossible => {
                metrics.outcome(tenant, ChoiceOutcome::Impossible);
                self.message(StatusCode::CONFLICT, Message::Impossible, links)
            }
            Choices::Unavailable => {
                metrics.outcome(tenant, ChoiceOutcome::Failed);
                self.message(StatusCode::SERVICE_UNAVAILABLE, Message::Unavailable, links)
            }
            Choices::WornOut => self.reject(PageRejection::WornOut, links),
        }
    }

    /// The page for a ticket that was not read in time. It has no link to the login, because the browser may be another
    /// one's.
    fn not_opened(&self, ticket: &OpenTicket, links: Links) -> Response {
        self.chooser.metrics().outcome(&ticket.ticket.tenant, ChoiceOutcome::Failed);
        let links = Links { continue_url: None, ..links };
        self.message(StatusCode::SERVICE_UNAVAILABLE, Message::Unavailable, &links)
    }

    fn reject(&self, reason: PageRejection, links: &Links) -> Response {
        self.chooser.metrics().rejected(reason);
        if let Some(suppressed) = self.app.rejections.log(true) {
            tracing::info!(error = reason.as_str(), suppressed, "request to the page for choosing sessions rejected");
        }
        let (status, message) = match reason {
            PageRejection::Ticket | PageRejection::State | PageRejection::Form => {
                (StatusCode::BAD_REQUEST, Message::Invalid)
            }
            PageRejection::Origin => (StatusCode::FORBIDDEN, Message::Invalid),
            PageRejection::Browser => (StatusCode::FORBIDDEN, Message::Elsewhere),
            PageRejection::Done => (StatusCode::CONFLICT, Message::Done),
            PageRejection::WornOut => (StatusCode::TOO_MANY_REQUESTS, Message::WornOut),
        };
        self.message(status, message, links)
    }

    fn message(&self, status: StatusCode, message: Message, links: &Links) -> Response {
        self.page(status, self.chooser.pages().message(self.language, message, links))
    }

    fn page(&self, status: StatusCode, page: Result<String, minijinja::Error>) -> Response {
        match page {
            Ok(page) => {
                let cookie = self.browser.map(|browser| Cookie(cookie_name(self.chooser), browser));
                respond(status, "text/html; charset=utf-8", page, cookie)
            }
            Err(error) => {
                tracing::error!(%error, "a template of --choose-page-dir failed");
                respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", String::new(), None)
            }
        }
    }
}

impl Fields {
    /// Reads the fields. One that comes twice counts as absent, except a session.
    fn parse(text: &[u8]) -> Self {
        let mut fields = Self::default();
        let mut seen = BTreeSet::new();
        for (name, value) in form_urlencoded::parse(text) {
            let field = match &*name {
                "ticket" => &mut fields.ticket,
                "state" => &mut fields.state,
                "binding" => &mut fields.binding,
                "session" if fields.sessions.len() < MAX_CODES => {
                    fields.sessions.insert(value.into_owned());
                    continue;
                }
                "cancel" => {
                    fields.is_cancelled = true;
                    continue;
                }
                _ => continue,
            };
            *field = if seen.insert(name.into_owned()) { value.into_owned() } else { String::new() };
        }
        fields
    }
}

/// Whether the text has the form of a state: unreserved characters, which need no escape in an address.
fn is_state(text: &str) -> bool {
    (1..=MAX_STATE_CHARS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
}

/// Back to the login at Auth0, and to the same page.
fn links(chooser: &Chooser, ticket: &OpenTicket, fields: &Fields) -> Links {
    let state = &fields.state;
    Links {
        continue_url: Some(chooser.continue_url(&ticket.ticket.host, state)),
        retry_url: Some(format!("{PATH}?ticket={}&state={state}", fields.ticket)),
    }
}

fn cookie_name(chooser: &Chooser) -> &'static str {
    if chooser.is_https() { COOKIE_NAME } else { LOCAL_COOKIE_NAME }
}

/// The value of the cookie, when it has the form of one.
fn cookie(headers: &HeaderMap, cookie_name: &str) -> Option<String> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == cookie_name)?;
    let is_code =
        value.len() == COOKIE_CHARS && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    is_code.then(|| value.to_owned())
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn respond(status: StatusCode, kind: &'static str, page: String, cookie: Option<Cookie<'_>>) -> Response {
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    let robots = HeaderName::from_static("x-robots-tag");
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        // With `no-referrer` a browser would send the form with the origin `null`.
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (opener, "same-origin"),
        (robots, "noindex, nofollow"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(Cookie(name, browser)) = cookie {
        let secure = if name == COOKIE_NAME { " Secure;" } else { "" };
        let cookie = format!("{name}={browser}; Path=/; Max-Age={TICKET_SECONDS}; HttpOnly;{secure} SameSite=Lax");
        // The value is a code, so it is valid in a header.
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            headers.insert(SET_COOKIE, cookie);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn form_is_accepted_from_the_page_alone() {
        let is_same_origin =
            |pairs: &[(&'static str, &'static str)]| is_same_origin(&headers(pairs), "https://sessions.example.com");
        assert!(is_same_origin(&[("sec-fetch-site", "same-origin")]));
        assert!(is_same_origin(&[("origin", "https://sessions.example.com")]));
        for wrong in [
            &[][..],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://sessions.example.com")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "null")],
            &[("origin", "https://sessions.example.com.evil.example")],
            &[("origin", "http://sessions.example.com")],
        ] {
            assert!(!is_same_origin(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn cookie_is_found_among_others_and_has_its_form() {
        let value = "abcdefghijklmnopqrst-_";
        for (header, found) in [
            ("__Host-choose=abcdefghijklmnopqrst-_", Some(value)),
            ("a=b; __Host-choose=abcdefghijklmnopqrst-_; c", Some(value)),
            ("__Host-choose=short", None),
            ("__Host-choose=abcdefghijklmnopqrst+/", None),
            ("choose=abcdefghijklmnopqrst-_", None),
        ] {
            assert_eq!(cookie(&headers(&[("cookie", header)]), COOKIE_NAME).as_deref(), found, "{header}");
        }
    }

    #[test]
    fn field_that_comes_twice_is_absent() {
        let fields = Fields::parse(b"ticket=t&state=a&state=b&session=x&session=y&cancel=1&other=z");
        assert_eq!((fields.ticket.as_str(), fields.state.as_str(), fields.is_cancelled), ("t", "", true));
        assert_eq!(fields.sessions, BTreeSet::from(["x".to_owned(), "y".to_owned()]));
        let three = Fields::parse(b"ticket=a&ticket=b&ticket=c");
        assert_eq!(three.ticket, "");
    }

    #[test]
    fn state_needs_no_escape() {
        let longest = "x".repeat(2_048);
        for state in ["a", "hKFo2SBx._~-", &longest] {
            assert!(is_state(state), "{state}");
        }
        for state in ["", "a b", "a&x=1", "\"><script>", "é", &"x".repeat(2_049)] {
            assert!(!is_state(state), "{state}");
        }
    }
}
