//! The list of examples: it is complete, and names tests that exist.

use std::collections::BTreeSet;

use super::{files, links, root};

/// The programs in backquotes that are no function of a test.
const PROGRAMS: [&str; 3] = [".ci/readme", "make action-test", "make chart-test"];

/// The files with the tests that the list names.
const SOURCES: [&str; 6] = [
    include_str!("../docs.rs"),
    include_str!("../policy_tests.rs"),
    include_str!("../scenario.rs"),
    include_str!("auth0_as_code.rs"),
    include_str!("commands.rs"),
    include_str!("timelines.rs"),
];

#[test]
fn every_example_is_listed_with_its_test() {
    let list = std::fs::read_to_string(root().join("examples/README.md")).unwrap();
    let rows: Vec<&str> = list.lines().filter(|line| line.starts_with("| [")).collect();
    let mut listed = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [files, _, tests] = cells.as_slice() else { panic!("{row}") };
        listed.extend(links(files).into_iter().map(str::to_owned));
        for test in tests.split('`').skip(1).step_by(2) {
            let exists = PROGRAMS.contains(&test) || SOURCES.iter().any(|text| text.contains(&format!("fn {test}(")));
            assert!(exists, "{row}: {test} is no test");
        }
        assert!(tests.contains('`'), "{row}");
    }
    let expected = files("examples").into_iter().filter(|path| path.extension().is_none_or(|it| it != "md"));
    let expected = expected.map(|path| path.strip_prefix("examples").unwrap().to_str().unwrap().to_owned());
    assert_eq!(listed, expected.collect());
}
