//! How the program asks the kernel for memory.

use serde_json::json;
use simulator::Application;

use crate::common::{callers, credentials, eventually, folder, policy, tenant, write};
use crate::process::{Process, finish};

/// The variable that changes options of the allocator.
const OPTIONS: &str = "_RJEM_MALLOC_CONF";

/// The options that are built into the program.
fn built_in() -> &'static str {
    let mut lines = include_str!("../../.cargo/config.toml").lines();
    lines.find_map(|line| line.strip_prefix("JEMALLOC_SYS_WITH_MALLOC_CONF = \"")?.strip_suffix('"')).unwrap()
}

#[test]
fn allocator_has_its_options_and_knows_each() {
    let (code, output) = finish(&[(OPTIONS, "abort_conf:true,confirm_conf:true")], &["--version"]);
    assert_eq!(code, 0, "{output}");
    assert!(output.contains(built_in()), "{output}");
    for option in built_in().split(',') {
        let (name, value) = option.split_once(':').unwrap();
        assert!(output.contains(&format!("-- Set conf value: {name}:{value}")), "{option}: {output}");
    }
    let (_, output) = finish(&[], &["--version"]);
    assert_eq!(output.lines().count(), 1, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_has_no_huge_pages() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let (service, _) = Process::serve_folder(&tenant, &folder, &[], &[]).await;
    let status = service.kernel_status();
    assert!(status.lines().any(|line| line == "THP_enabled:\t0"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_secrets_are_in_no_memory_of_the_program() {
    const OLD: [&str; 2] = ["a-client-secret-that-is-replaced", "a-caller-token-that-is-replaced"];
    const NEW: [&str; 2] = ["a-client-secret-that-replaces-it", "a-caller-token-that-replaces-it"];
    let tenant = tenant().await;
    let documents = |[client_secret, token]: [&str; 2]| {
        let (mut credentials, mut callers) = (credentials(), callers());
        credentials["stringData"]["clientSecret"] = json!(client_secret);
        callers["stringData"] = json!({ "token": token });
        [credentials, callers, policy("one", json!({}))]
    };
    tenant.add_application(Application::with_secret("checker", OLD[0]));
    let folder = folder(&documents(OLD));
    let (process, service) = Process::serve_folder(&tenant, &folder, &[], &[]).await;
    eventually("a check is answered", || async { service.status(Some(OLD[1])).await == 200 }).await;
    for secret in OLD {
        assert!(process.count_in_memory(secret.as_bytes()) > 0, "{secret}: the search finds what is there");
    }
    tenant.add_application(Application::with_secret("checker", NEW[0]));
    write(folder.path(), "policies.yaml", &documents(NEW));
    eventually("the new token is used", || async { service.status(Some(NEW[1])).await == 200 }).await;
    for secret in OLD {
        eventually(secret, || async { process.count_in_memory(secret.as_bytes()) == 0 }).await;
    }
}
