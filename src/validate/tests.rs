//! Every kind of mistake gives a message with its line and what to write.

use super::*;

#[path = "../../tests/fixtures/broken_manifests.rs"]
mod broken_manifests;

use broken_manifests::{ApiServer, CALLERS, CREDENTIAL, POLICY, broken_manifests, odd_spellings};

fn validated(texts: &[&[u8]]) -> Validation {
    let file =
        |(number, text): (usize, &&[u8])| InputFile { name: format!("{number}.yaml"), content: Ok(text.to_vec()) };
    let files: Vec<InputFile> = texts.iter().enumerate().map(file).collect();
    validate(&files, "2026-06-01T00:00:00Z".parse().unwrap())
}

/// Words of Rust and of the libraries, which no message has.
const JARGON: [&str; 12] = [
    "i32",
    "u32",
    "sequence",
    "struct",
    "variant",
    "Option",
    "serde",
    "invalid type",
    "mapping",
    "scalar",
    "flow",
    "node",
];

#[test]
fn every_mistake_has_its_line_and_its_remedy() {
    let mut wrong = Vec::new();
    let rows = broken_manifests();
    assert!(rows.len() >= 100, "{}", rows.len());
    for row in rows {
        let validation = validated(&[&row.text]);
        let problems = &validation.problems;
        let found = problems.iter().find(|problem| problem.line == row.line && problem.to_string().contains(row.words));
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        if found.is_none() {
            wrong.push(format!("{}: line {}, {:?} in {lines:#?}", row.mistake, row.line, row.words));
        }
        if let Some(jargon) = JARGON.iter().find(|word| lines.iter().any(|line| line.contains(**word))) {
            wrong.push(format!("{}: {jargon:?} in {lines:#?}", row.mistake));
        }
        let expected = match row.server {
            ApiServer::Rejects => Some(false),
            ApiServer::Accepts => Some(true),
            ApiServer::NotAsked => None,
        };
        if expected.is_some_and(|expected| validation.is_valid() != expected) {
            wrong.push(format!("{}: {} {lines:#?}", row.mistake, validation.is_valid()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn good_manifests_have_no_problem() {
    let validation = validated(&[[POLICY, CREDENTIAL, CALLERS].join("---\n").as_bytes()]);
    assert_eq!(validation.problems, []);
    assert_eq!(validation.policies[0].name, "default/one");
    for text in odd_spellings() {
        assert_eq!(validated(&[text.as_bytes()]).problems, [], "{text}");
    }
}

#[test]
fn resources_of_different_files_are_compared() {
    let validation = validated(&[POLICY.as_bytes(), CREDENTIAL.as_bytes(), POLICY.as_bytes()]);
    let duplicate = &validation.problems[..].iter().find(|problem| problem.kind == ProblemKind::Duplicate).unwrap();
    assert_eq!((duplicate.file.as_str(), duplicate.line), ("2.yaml", 4));
    assert!(duplicate.message.contains("0.yaml at line 4"), "{duplicate}");
}

#[test]
fn items_of_a_list_have_their_own_lines() {
    let text = "kind: List\napiVersion: v1\nitems:\n- apiVersion: sessionchecker.dev/v1alpha1\n  kind: SessionPolicy\n  \
                metadata: {name: a}\n  spec:\n    limit: {}\n";
    let problems = validated(&[text.as_bytes()]).problems;
    assert!(
        problems.iter().any(|problem| problem.line == 8 && problem.message.contains("did you mean limits?")),
        "{problems:#?}"
    );
}

#[test]
fn no_message_quotes_a_secret() {
    for row in broken_manifests() {
        for problem in validated(&[&row.text]).problems {
            let text = problem.to_string();
            for value in ["a-secret-of-the-tenant", "0123456789abcdef", "12345"] {
                assert!(!text.contains(value), "{text}");
            }
        }
    }
}

#[test]
fn unreadable_file_is_a_problem_and_others_are_validated() {
    let files = [
        InputFile { name: "a".to_owned(), content: Err("the file cannot be read".to_owned()) },
        InputFile { name: "b".to_owned(), content: Ok(POLICY.as_bytes().to_vec()) },
    ];
    let validation = validate(&files, Timestamp::now());
    assert_eq!((validation.problems.len(), validation.policies.len()), (1, 1));
    assert!(!validation.is_valid());
}
