//! Faults that a test injects, and how the simulator starts and ends.

use super::*;

#[tokio::test]
async fn faults_apply_in_the_order_of_their_injection() {
    let tenant = Tenant::plain().await;
    tenant.add_session("s1");
    let retry_after = (HeaderName::from_static("retry-after"), HeaderValue::from_static("7"));
    let too_many = Fault::status(StatusCode::TOO_MANY_REQUESTS).header(retry_after.0, retry_after.1);
    tenant.simulator.fault(Operation::List.times(2), Fault::status(StatusCode::BAD_GATEWAY));
    tenant.simulator.fault(Operation::List.times(1), too_many);
    let ask = || tenant.request(Method::GET, "users/auth0%7Cann/sessions").send();
    assert_eq!(ask().await.unwrap().status(), 502);
    assert_eq!(ask().await.unwrap().status(), 502);
    assert_eq!(ask().await.unwrap().headers()["retry-after"], "7");
    assert_eq!(ask().await.unwrap().status(), 200);
    assert_eq!(tenant.simulator.count(Operation::List), 4);
}

#[tokio::test]
async fn fault_can_apply_to_one_session_only() {
    let tenant = Tenant::plain().await;
    tenant.add_session("s1");
    tenant.add_session("s2");
    let fault = tenant.simulator.fault(Operation::Revoke.of("s1"), Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(tenant.send(Method::POST, "sessions/s1/revoke").await.0, 500);
    assert_eq!(tenant.send(Method::POST, "sessions/s2/revoke").await.0, 202);
    assert_eq!(tenant.listed_ids().await, ["s1"], "a request with a fault has no effect");
    assert_eq!(fault.strikes(), 1);
    fault.clear();
    assert_eq!(tenant.send(Method::POST, "sessions/s1/revoke").await.0, 202);
}

#[tokio::test]
async fn request_hangs_until_the_fault_is_cleared() {
    let tenant = Tenant::plain().await;
    let fault = tenant.simulator.fault(Operation::List.times(1), Fault::Hang);
    let hanging = tokio::spawn(tenant.request(Method::GET, "users/auth0%7Cann/sessions").send());
    fault.struck(1).await;
    tenant.list().await;
    assert!(!hanging.is_finished());
    fault.clear();
    assert_eq!(hanging.await.unwrap().unwrap().status(), 200);
    tenant.simulator.reached(Operation::List, 2).await;
}

#[tokio::test]
async fn delayed_request_is_answered_later() {
    let tenant = Tenant::plain().await;
    tenant.simulator.fault(Operation::List, Fault::Delay(Duration::from_millis(20)));
    let sent = std::time::Instant::now();
    tenant.list().await;
    assert!(sent.elapsed() >= Duration::from_millis(20));
}

#[tokio::test]
async fn connection_can_be_reset_cut_short_or_not_http() {
    let tenant = Tenant::plain().await;
    tenant.add_session("s1");
    let ask = || tenant.request(Method::GET, "users/auth0%7Cann/sessions").send();

    tenant.simulator.fault(Operation::List.times(1), Fault::Reset);
    assert!(causes(&ask().await.unwrap_err()).contains("reset"));

    tenant.simulator.fault(Operation::List.times(1), Fault::CutShort);
    let response = ask().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.content_length().unwrap() > 100);
    assert!(response.bytes().await.is_err());

    tenant.simulator.fault(Operation::List.times(1), Fault::NotHttp);
    assert!(causes(&ask().await.unwrap_err()).contains("HTTP"));
    tenant.list().await;
}

/// An error and its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn list_can_be_endless_repeating_or_empty() {
    let tenant = Tenant::plain().await;
    tenant.add_session("s1");
    let page = async |from: &str| tenant.send(Method::GET, &format!("users/auth0%7Cann/sessions?{from}")).await.1;
    let two = async |fault: Fault| {
        let fault = tenant.simulator.fault(Operation::List, fault);
        let first = page("").await;
        let second = page(&format!("from={}", first["next"].as_str().unwrap())).await;
        fault.clear();
        (first, second)
    };
    let (first, second) = two(Fault::EndlessPages).await;
    assert_eq!(first["sessions"], second["sessions"]);
    assert_ne!(first["next"], second["next"]);
    let (first, second) = two(Fault::RepeatedCursor).await;
    assert_eq!(first["sessions"][0]["id"], "s1");
    assert_eq!(first, second);
    let (first, _) = two(Fault::EmptyPageWithNext).await;
    assert_eq!(first["sessions"], json!([]));
}

#[tokio::test]
async fn answer_can_be_huge_wrong_or_a_redirect() {
    let tenant = Tenant::plain().await;
    let ask = async |fault: Fault| {
        tenant.simulator.fault(Operation::List.times(1), fault);
        tenant.request(Method::GET, "users/auth0%7Cann/sessions").send().await.unwrap()
    };
    assert!(ask(Fault::huge(5 << 20)).await.bytes().await.unwrap().len() > 5 << 20);
    assert_eq!(ask(Fault::json(StatusCode::OK, "[1]")).await.text().await.unwrap(), "[1]");
    let redirect = ask(Fault::redirect(HeaderValue::from_static("http://192.0.2.1/"))).await;
    assert_eq!((redirect.status().as_u16(), redirect.headers()[LOCATION].as_bytes()), (302, &b"http://192.0.2.1/"[..]));
}

// The handle

#[tokio::test]
async fn requests_are_recorded_and_their_debug_shows_no_secret() {
    let tenant = Tenant::start(|options| options.recorded_requests = 2).await;
    tenant.send(Method::GET, "users/auth0%7Cann/sessions?take=50").await;
    tenant.send(Method::GET, "nowhere").await;
    assert_eq!(tenant.simulator.requests().len(), 2, "only the latest are kept");
    let token = tenant.fetch_token().await;
    let requests = tenant.simulator.requests();
    assert_eq!(requests[0].operation, None);
    let fields = requests[1].form();
    assert_eq!(fields["client_secret"], SECRET);
    assert_eq!(requests[1].operation, Some(Operation::Token));

    tenant.send(Method::GET, "users/auth0%7Cann/sessions?take=50").await;
    let list = tenant.simulator.requests().pop().unwrap();
    assert_eq!((list.method.as_str(), list.path.as_str()), ("GET", "/api/v2/users/auth0%7Cann/sessions?take=50"));
    assert!(list.header(AUTHORIZATION.as_str()).unwrap().starts_with("Bearer "));

    let application = Application::with_secret(CLIENT, SECRET);
    let login = tenant.simulator.begin_login(USER, "c1", None);
    let shown = format!("{requests:?} {list:?} {application:?} {login:?} {:?}", tenant.simulator);
    for secret in [SECRET, "correct+horse", &token, &tenant.token] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn simulator_serves_https_with_http_2() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let tls = Tls { certificate: cert.pem(), key: signing_key.serialize_pem().into() };
    let options = Options { tls: Some(tls), ..Options::new(DOMAIN) };
    let simulator = Simulator::start(options).await.unwrap();
    simulator.add_application(Application::with_secret(CLIENT, SECRET));
    simulator.add_user(USER);
    assert!(simulator.url().starts_with("https://127.0.0.1:"));
    let trusted = reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap();
    let http = Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
    let url = format!("{}/oauth/token", simulator.url());
    let response = http.post(&url).form(&secret_form()).send().await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, reqwest::Version::HTTP_2));
    let token: Value = response.json().await.unwrap();
    let list = http.get(format!("{}/api/v2/users/auth0%7Cann/sessions", simulator.url()));
    let list = list.bearer_auth(token["access_token"].as_str().unwrap());
    assert_eq!(list.send().await.unwrap().status(), 200);
    simulator.fault(Operation::Token, Fault::Reset);
    assert!(http.post(&url).form(&secret_form()).send().await.is_err());
}

#[tokio::test]
async fn simulator_stops_at_shutdown_or_with_its_last_handle() {
    let first = Tenant::plain().await;
    let fault = first.simulator.fault(Operation::List, Fault::Hang);
    let hanging = tokio::spawn(first.request(Method::GET, "users/auth0%7Cann/sessions").send());
    fault.struck(1).await;
    first.simulator.shutdown().await.unwrap();
    assert!(hanging.await.unwrap().is_err(), "a request in flight ends with the tenant");
    assert!(first.request(Method::GET, "sessions/s").send().await.is_err());

    let second = Tenant::plain().await;
    let Tenant { simulator, http, .. } = second;
    let url = simulator.url();
    drop(simulator.clone());
    assert!(http.get(&url).send().await.is_ok());
    drop(simulator);
    let closed = async {
        while http.get(&url).send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::common::PATIENCE, closed).await.unwrap();
}
