//! Why a decision came about, session by session: what `session-checker check` would say just before the login.

use super::Person;
use super::action::{PROTOCOL, connection};
use super::policy_text::DOMAIN;
use super::setup::SimulatedSetup;
use super::state::{ExplainedSession, Explanation};
use crate::check::{Hypothesis, dry_run};
use crate::policy::{Login, LoginContext};

/// Decides the login without any effect, and says how each session counts. `None` when no policy limits it, or the list is
/// not there.
pub(super) async fn explain(
    setup: &SimulatedSetup,
    person: &Person,
    login: &simulator::Login,
    (mfa, continued): (bool, bool),
) -> Option<Explanation> {
    let context = LoginContext {
        protocol: Some(PROTOCOL.to_owned()),
        organization_id: person.organization.clone(),
        connection: Some(connection(person).to_owned()),
        roles: person.roles.clone(),
        mfa,
        can_redirect: true,
        continued,
        hostname: Some(DOMAIN.to_owned()),
        ..LoginContext::default()
    };
    let [user_id, client_id, sid] = [login.user_id(), login.client_id(), login.sid()].map(str::to_owned);
    let login = Login::new(user_id, client_id, Some(sid), context).ok()?;
    let given = Hypothesis { at: Some(setup.clock.now()), ..Hypothesis::default() };
    let view = setup.explainer.policy_set.whole_view();
    let (_, seen) = dry_run(&setup.explainer, &view, &login, given).await;
    let limit_check = seen.limit_check?;
    let (sessions, roles) = seen.sessions?.ok()?;
    let sessions = sessions.views().zip(&roles).map(|(session, role)| ExplainedSession {
        id: session.id.to_owned(),
        counts: role.takes_place(),
        role: role.to_string(),
        would_end: seen.victims.iter().any(|victim| victim == session.id),
    });
    Some(Explanation {
        limits: limit_check.limits().to_string(),
        chosen_by: limit_check.override_name().map(str::to_owned),
        sessions: sessions.collect(),
    })
}
