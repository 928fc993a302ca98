//! From a verdict to an answer: mode, failure policy, message.

use super::*;

const COUNT: Count = Count { limit_scope: LimitScope::Client, limit: 1, active: 2, at_least: false };

fn enforcement(mode: Mode, failure_policy: AllowDeny) -> Enforcement {
    let message = Some("One seat each.".to_owned());
    Enforcement { policy: ObjectName::new("team", "seats"), mode, failure_policy, message, messages: Vec::new() }
}

/// Every verdict but failures, with whether `Enforce` blocks, and the reason.
fn verdicts() -> Vec<(Verdict, bool, Reason)> {
    vec![
        (Verdict::Exempt, false, Reason::Exempt),
        (Verdict::SkippedProtocol, false, Reason::SkippedProtocol),
        (Verdict::NoSession(AllowDeny::Allow), false, Reason::NoSession),
        (Verdict::NoSession(AllowDeny::Deny), true, Reason::NoSession),
        (Verdict::SessionRevoked, true, Reason::SessionRevoked),
        (Verdict::Within(None), false, Reason::WithinLimit),
        (Verdict::Within(Some(COUNT)), false, Reason::WithinLimit),
        (Verdict::Exceeded { count: COUNT, revoke_session: true }, true, Reason::LimitExceeded),
        (Verdict::Exceeded { count: COUNT, revoke_session: false }, true, Reason::LimitExceeded),
        (Verdict::Evicted { count: COUNT, revoked: 2 }, false, Reason::Evicted),
    ]
}

fn failures() -> Vec<Verdict> {
    let failed = |failure| Verdict::Failed { failure, count: None, revoked: None };
    let while_revoking = Verdict::Failed { failure: Failure::UpstreamTimeout, count: Some(COUNT), revoked: Some(1) };
    Failure::ALL.into_iter().map(failed).chain([while_revoking]).collect()
}

#[test]
fn verdicts_under_enforce_are_answered_unchanged() {
    for (verdict, block, reason) in verdicts() {
        let answer = enforcement(Mode::Enforce, AllowDeny::Deny).answer(verdict, None, false);
        assert_eq!((answer.block, answer.reason), (block, reason), "{verdict:?}");
        assert_eq!(answer.message.is_some(), block, "{verdict:?}");
        assert_eq!(answer.policy, Some(ObjectName::new("team", "seats")));
        assert_eq!(answer.audited_reason, None);
        assert_eq!(answer.revoke_session, matches!(verdict, Verdict::Exceeded { revoke_session: true, .. }));
        assert_eq!(answer.revoked_sessions, matches!(verdict, Verdict::Evicted { .. }).then_some(2));
        let counted = matches!(verdict, Verdict::Within(Some(_)) | Verdict::Exceeded { .. } | Verdict::Evicted { .. });
        assert_eq!(answer.count, counted.then_some(COUNT), "{verdict:?}");
    }
}

#[test]
fn failure_is_answered_by_the_failure_policy() {
    for verdict in failures() {
        let Verdict::Failed { failure, count, revoked } = verdict else { unreachable!() };
        for (failure_policy, block) in [(AllowDeny::Allow, false), (AllowDeny::Deny, true)] {
            let answer = enforcement(Mode::Enforce, failure_policy).answer(verdict, None, false);
            assert_eq!((answer.block, answer.reason), (block, Reason::Failed(failure)));
            assert_eq!((answer.message.is_some(), answer.revoke_session), (block, false));
            assert_eq!((answer.count, answer.revoked_sessions), (count, revoked));
        }
    }
}

#[test]
fn audit_removes_the_effect_and_keeps_the_reason() {
    for (verdict, block, reason) in verdicts() {
        for (mode, force_audit) in [(Mode::Audit, false), (Mode::Audit, true), (Mode::Enforce, true)] {
            let answer = enforcement(mode, AllowDeny::Deny).answer(verdict, None, force_audit);
            let enforced = enforcement(Mode::Enforce, AllowDeny::Deny).answer(verdict, None, false);
            let has_effect = block || reason == Reason::Evicted;
            let expected = if has_effect { (Reason::Audit, Some(reason)) } else { (reason, None) };
            assert_eq!((answer.reason, answer.audited_reason), expected, "{verdict:?}");
            assert_eq!((answer.block, &answer.message, answer.revoke_session), (false, &None, false));
            assert_eq!((answer.revoked_sessions, answer.count), (None, enforced.count));
            assert_eq!(answer.policy, enforced.policy);
        }
    }
}

#[test]
fn failure_under_audit_never_blocks() {
    for verdict in failures() {
        let Verdict::Failed { failure, count, .. } = verdict else { unreachable!() };
        let own = Reason::Failed(failure);
        for (failure_policy, expected) in
            [(AllowDeny::Allow, (own, None)), (AllowDeny::Deny, (Reason::Audit, Some(own)))]
        {
            for (mode, force_audit) in [(Mode::Audit, false), (Mode::Enforce, true)] {
                let answer = enforcement(mode, failure_policy).answer(verdict, None, force_audit);
                assert_eq!((answer.reason, answer.audited_reason), expected);
                assert_eq!((answer.block, answer.message, answer.revoke_session), (false, None, false));
                assert_eq!((answer.count, answer.revoked_sessions), (count, None));
            }
        }
    }
}

#[test]
fn reasons_and_limit_scopes_are_those_of_the_contract() {
    let reasons: Vec<&str> = Reason::all().map(Reason::as_str).collect();
    let contract = [
        "within_limit",
        "limit_exceeded",
        "evicted",
        "exempt",
        "unknown_user",
        "no_policy",
        "tenant_ambiguous",
        "tenant_unknown",
        "no_session",
        "skipped_protocol",
        "session_revoked",
        "audit",
        "upstream_timeout",
        "upstream_unreachable",
        "upstream_error",
        "rate_limited",
        "credentials_rejected",
        "insufficient_scope",
        "not_entitled",
        "circuit_open",
        "overloaded",
        "credentials_missing",
        "policy_invalid",
        "internal_error",
    ];
    assert_eq!(reasons, contract);
    assert_eq!(LimitScope::ALL.map(LimitScope::as_str), ["client", "group", "user"]);
}
