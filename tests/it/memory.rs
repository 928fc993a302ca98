//! How the program asks the kernel for memory.

use serde_json::json;

use crate::common::{callers, credentials, folder, policy, tenant};
use crate::process::{Process, finish, place, program};

/// The variable that holds options of the allocator.
const OPTIONS: &str = "_RJEM_MALLOC_CONF";

/// The options that the image sets.
fn image_options() -> &'static str {
    let lines = include_str!("../../Dockerfile").lines();
    let mut set = lines.filter_map(|line| line.strip_prefix("ENV ")?.strip_prefix(OPTIONS)?.strip_prefix('='));
    set.next().expect("the image sets options of the allocator")
}

#[test]
fn allocator_knows_every_option_of_the_image() {
    let version = |options: &str| {
        // The allocator ends the program at an option that it does not know.
        let options = format!("abort_conf:true,{options}");
        program(&place(), &[(OPTIONS, &options)], &["--version"]).status().unwrap().success()
    };
    assert!(version(image_options()));
    assert!(!version(&format!("{},unknown:1", image_options())));
    let (code, output) = finish(&[(OPTIONS, image_options())], &["--version"]);
    assert_eq!((code, output.lines().count()), (0, 1), "{output}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn service_has_no_huge_pages() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let options = ["--policy-dir", folder.path().to_str().unwrap()];
    let (service, _) = Process::serve(&tenant, place(), &[], &options).await;
    let status = service.kernel_status();
    assert!(status.lines().any(|line| line == "THP_enabled:\t0"), "{status}");
}
