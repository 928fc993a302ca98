//! What the fuzzers call: every parser of bytes that others write, and what holds of its results. A function panics where
//! that does not hold.
//!
//! The module is part of the tests and of builds with `--cfg fuzzing`; the program does not contain it. The fuzzers are in
//! `fuzz/`, with the inputs that they start from, on which the tests run the same functions.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::policy::{
    Decision, Index, LimitInputs, Login, LoginContext, Manifest, Origins, SessionList, Verdict, compile, fallback,
    warnings,
};
use crate::source::{Document, read_documents};

/// A function under test.
pub type Target = fn(&[u8]);

/// Every target, by the name of its fuzzer and its corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("check_body", crate::server::fuzz_check_body),
    ("session_list", crate::auth0::fuzzing::list),
    ("token_answer", crate::auth0::fuzzing::token),
    ("rate_limit_headers", crate::auth0::fuzzing::rate_limit_headers),
    ("policy_decision", policy_decision),
    ("ledger_record", crate::ledger::fuzzing::record),
    ("log_stream", crate::coverage::fuzzing::log_stream),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or when something does not hold that must.
pub fn run(target: &str, input: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.expect("a known target").1(input);
}

/// Separates the policy from the page of sessions in the input of `policy_decision`.
const SEPARATOR: u8 = 0;

/// Reads policies, and decides a login by each with the sessions of a page. The policies are YAML, the page is what follows
/// the first zero byte.
fn policy_decision(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == SEPARATOR);
    let Ok(text) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let Ok(documents) = read_documents(text) else { return };
    let sessions = parts.next().and_then(crate::auth0::fuzzing::page).unwrap_or_default();
    let sessions = SessionList::new("auth0|u", sessions);
    let mut index = Index::default();
    for document in &documents {
        document.feed(&mut index);
        if let Document::Policy(manifest) = document {
            decide(manifest, &sessions);
        }
    }
    let _ = index.publish(&crate::policy::CallerAccess::default());
}

fn decide(manifest: &Manifest, sessions: &SessionList) {
    let policy = match compile(manifest) {
        Ok(policy) => policy,
        Err(errors) => {
            assert!(!errors.is_empty());
            let _ = fallback(manifest);
            return;
        }
    };
    let now = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH);
    let _ = warnings(&policy, Some(now));
    for sid in [Some("s1"), Some("current"), None] {
        let login = Login::new("auth0|u".to_owned(), "app".to_owned(), sid.map(str::to_owned), LoginContext::default());
        let login = login.expect("the fields are within bounds");
        let verdict = match policy.pre_checks(&login, now) {
            Err(verdict) => verdict,
            Ok(check) => {
                let (revoked, origins) = (HashSet::new(), Origins::default());
                let decision =
                    check.decide(LimitInputs { sessions, admissions: &[], revoked: &revoked, origins: &origins, now });
                if let Decision::Evict { victims, .. } = &decision {
                    let listed: HashSet<&str> = sessions.ids().collect();
                    assert!(victims.iter().all(|victim| listed.contains(&**victim) && Some(&**victim) != sid));
                    assert_eq!(victims.iter().collect::<HashSet<_>>().len(), victims.len());
                }
                Verdict::from(&decision)
            }
        };
        for (force_audit, locale) in [(false, None), (false, Some("de-AT")), (true, None)] {
            let answer = policy.enforcement.answer(verdict, locale, force_audit);
            assert_eq!(answer.block, answer.message.is_some());
            assert!(!(force_audit && answer.block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corpus is also what the fuzzers start from.
    #[test]
    fn corpus_holds() {
        for (name, target) in TARGETS {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(inputs.len() >= 3, "{name}");
            for input in inputs {
                let bytes = std::fs::read(&input).unwrap();
                target(&bytes);
                // Inputs cut short are inputs too.
                for end in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
                    target(&bytes[..end]);
                }
            }
        }
    }

    #[test]
    fn every_target_has_its_fuzzer() {
        let manifest = include_str!("../fuzz/Cargo.toml");
        for (name, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }
}
