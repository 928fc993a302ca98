//! The definition that is committed is the one that the program prints.

use std::path::Path;

/// The second is the chart's: Helm reads nothing outside of a chart, and a link in it is not followed everywhere.
const COMMITTED: [&str; 2] = ["crds/sessionpolicies.yaml", "charts/session-checker/files/sessionpolicies.yaml"];

/// With `UPDATE=1` in the environment the files are written instead.
#[test]
fn the_committed_crd_is_the_one_that_the_program_prints() {
    let printed = session_checker::crd::manifest().unwrap();
    for path in COMMITTED {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == printed, "{} is out of date: run the tests with UPDATE=1", path.display());
    }
}
