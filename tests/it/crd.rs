//! The committed CRD is the one that the program prints.

use std::path::Path;

/// The other files are the charts': Helm reads no file outside of a chart, and not every tool follows a link.
const COMMITTED: [&str; 3] = [
    "crds/sessionpolicies.yaml",
    "charts/session-checker/files/sessionpolicies.yaml",
    "charts/session-checker-crds/files/sessionpolicies.yaml",
];

/// Writes the files instead when the environment has `UPDATE=1`.
#[test]
fn committed_crd_is_the_printed_one() {
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
