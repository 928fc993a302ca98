//! What a blocked user reads: one text for each reason, in the language of the login.

use super::*;

const LIMIT: &str = "You are already signed in elsewhere. Sign out there and try again.";

fn blocked(policy: &Policy, verdict: Verdict, locale: Option<&str>) -> String {
    let answer = policy.enforcement.answer(verdict, locale, false);
    assert!(answer.block, "{verdict:?}");
    answer.message.unwrap()
}

fn strict(extra: Value) -> Policy {
    let mut spec = json!({ "limits": { "perClient": 1 }, "failurePolicy": "Deny" });
    merge(&mut spec, extra);
    policy(spec)
}

fn over_limit() -> Verdict {
    let count = Count { limit_scope: LimitScope::Client, limit: 1, active: 1, at_least: false };
    Verdict::Exceeded { count, revoke_session: false }
}

/// One verdict for each kind of text.
fn verdicts() -> [Verdict; 5] {
    [
        over_limit(),
        Verdict::failed(Failure::UpstreamTimeout),
        Verdict::NoSession(AllowDeny::Deny),
        Verdict::SessionRevoked,
        Verdict::failed(Failure::InternalError),
    ]
}

#[test]
fn every_kind_of_block_has_its_own_text_in_every_language() {
    let policy = strict(json!({}));
    let languages = ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "da", "ja", "zh"];
    let mut all = HashSet::new();
    for language in languages {
        for verdict in verdicts() {
            let text = blocked(&policy, verdict, Some(language));
            assert!(all.insert(text.clone()), "{language}: {text}");
        }
    }
    assert_eq!(blocked(&policy, over_limit(), None), LIMIT);
    for failure in Failure::ALL.into_iter().filter(|failure| *failure != Failure::InternalError) {
        let text = blocked(&policy, Verdict::failed(failure), None);
        assert_eq!(text, "Your sessions could not be checked. Please try again in a moment.", "{failure}");
    }
}

#[test]
fn message_is_for_the_limit_alone() {
    let with_message = strict(json!({ "message": "One seat each." }));
    let without = strict(json!({}));
    for locale in [None, Some("de"), Some("tlh")] {
        assert_eq!(blocked(&with_message, over_limit(), locale), "One seat each.", "{locale:?}");
        for verdict in &verdicts()[1..] {
            let text = blocked(&with_message, *verdict, locale);
            assert_eq!(text, blocked(&without, *verdict, locale), "{verdict:?} {locale:?}");
        }
    }
}

#[test]
fn texts_of_a_language_replace_message_and_sentence() {
    let policy = strict(json!({
        "message": "One seat each.",
        "messages": [
            { "language": "de", "limitExceeded": "Ein Platz.", "unavailable": "Gestört.", "noSession": "Ohne Sitzung." },
            { "language": "de-CH", "limitExceeded": "Ein Platz, gell." },
        ],
    }));
    let texts = |locale| verdicts().map(|verdict| blocked(&policy, verdict, Some(locale)));
    let built_in = strict(json!({}));
    let sentence = |verdict, locale| blocked(&built_in, verdict, Some(locale));
    let [_, _, _, revoked, internal] = verdicts();
    let german = ["Ein Platz.", "Gestört.", "Ohne Sitzung."].map(str::to_owned);
    assert_eq!(texts("de-AT")[..3], german);
    assert_eq!(texts("DE_at")[..3], german);
    // The nearest item that has the text.
    assert_eq!(texts("de-CH-1996")[..2], ["Ein Platz, gell.".to_owned(), "Gestört.".to_owned()]);
    assert_eq!(texts("de")[3..], [sentence(revoked, "de"), sentence(internal, "de")]);
    // No language fits: the policy's message, and sentences in the user's language.
    assert_eq!(texts("fr")[0], "One seat each.");
    assert_eq!(texts("fr")[1], sentence(verdicts()[1], "fr"));
}

#[test]
fn locale_is_looked_up_as_bcp_47_says() {
    let items = ["zh-Hant", "en-US", "sr"].map(|language| json!({ "language": language, "limitExceeded": language }));
    let policy = strict(json!({ "messages": items, "message": "other" }));
    for (locale, expected) in [
        ("zh-Hant-TW", "zh-Hant"),
        ("zh-Hant-x-private", "zh-Hant"),
        ("ZH-HANT", "zh-Hant"),
        ("zh-Hans", "other"),
        ("en", "other"),
        ("en-GB", "other"),
        ("en-US-u-ca-buddhist", "en-US"),
        ("sr-Latn-RS", "sr"),
        ("srx", "other"),
        ("", "other"),
        ("-", "other"),
        ("--", "other"),
        ("*", "other"),
        ("x-en-US", "other"),
        ("de, en-US;q=0.5", "other"),
        ("\u{0}é", "other"),
    ] {
        assert_eq!(blocked(&policy, over_limit(), Some(locale)), expected, "{locale:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_locale_has_a_text(locale in ".{0,40}", tag in "[a-zA-Z0-9_-]{0,40}") {
        let policy = strict(json!({ "messages": [{ "language": "de", "unavailable": "Gestört." }] }));
        for verdict in verdicts() {
            for locale in [&locale, &tag] {
                proptest::prop_assert!(!blocked(&policy, verdict, Some(locale)).is_empty());
            }
        }
    }
}

#[test]
fn unreadable_policy_keeps_its_readable_messages() {
    let messages = json!([{ "language": "de", "unavailable": "Gestört.", "noSession": 5 }, { "language": 5 }, "x"]);
    let spec = json!({ "failurePolicy": "Deny", "messages": messages, "typo": 1 });
    let enforcement = fallback(&manifest(spec)).unwrap().enforcement;
    let answer = enforcement.answer(Verdict::failed(Failure::PolicyInvalid), Some("de-DE"), false);
    assert_eq!(answer.message.as_deref(), Some("Gestört."));
}
