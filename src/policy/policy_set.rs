//! What is in force at one moment: every policy, who may use it, and which of them governs a login.
//!
//! A snapshot never changes; a new one takes its place as a whole. All comparing and sorting is done when it is made, so
//! that a check costs a few look-ups, however many policies and callers there are: each caller has its own view of the
//! policies it may use, and a view finds candidates by the login's organization, connection or client, not by looking
//! at all of them.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};

use super::answer::Enforcement;
use super::compile::FallbackPolicy;
use super::compiled::{Policy, PolicyScope};
use super::login::Login;
use super::name::ObjectName;
use crate::secret::Credentials;

/// All that a replica needs to answer checks.
#[derive(Debug)]
pub struct PolicySet {
    active_policies: Vec<Arc<ActivePolicy>>,
    callers: HashMap<TokenDigest, Arc<CallerView>>,
    /// What whoever asks without a token may use; `None` = nothing, they are refused.
    anonymous: Option<Arc<CallerView>>,
}

/// A policy in force, with the credential for its tenant.
#[derive(Debug)]
pub struct ActivePolicy {
    /// The policy, or what could be read of one that does not compile.
    pub rule: Arc<PolicyVersion>,
    /// The tenant's credential; `None` when the Secret or its keys are not there or not allowed.
    pub credentials: Option<Arc<Credentials>>,
}

/// What a policy resource came to.
#[derive(Debug)]
pub enum PolicyVersion {
    /// It compiled, now or in an earlier version.
    Compiled(Policy),
    /// It does not compile and never did: it governs by its failure policy.
    Invalid(FallbackPolicy),
}

/// The policies that a caller may use.
#[derive(Debug, Default)]
pub struct CallerView {
    /// In the order in which they stand before each other.
    active_policies: Vec<Arc<ActivePolicy>>,
    /// Positions by the first of these that the policy names: organizations, connections, clients; the rest.
    by_organization: HashMap<String, Vec<usize>>,
    by_connection: HashMap<String, Vec<usize>>,
    by_client: HashMap<String, Vec<usize>>,
    rest: Vec<usize>,
}

/// Which policy governs a login.
#[derive(Clone, Copy, Debug)]
pub enum Resolution<'a> {
    /// This one.
    Policy(&'a Arc<ActivePolicy>),
    /// None.
    NoPolicy,
    /// Policies of several tenants match.
    AmbiguousTenant,
}

/// A caller that presented no token, or one that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCaller;

/// A bearer token as the service keeps it: its SHA-256. Looking one up takes time that depends on the digest only, which
/// says nothing about the token; the digests themselves are compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct TokenDigest([u8; 32]);

/// Who may use which policies, beside the Secrets that the policies name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerAccess {
    /// Tokens for policies that name no callers.
    pub tokens: HashSet<TokenDigest>,
    /// Whether policies that name no callers may be used without a token.
    pub allow_anonymous: bool,
}

impl TokenDigest {
    /// Of a token as presented.
    pub fn of(token: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

impl PolicyVersion {
    /// What it governs.
    pub fn scope(&self) -> &PolicyScope {
        match self {
            Self::Compiled(policy) => &policy.scope,
            Self::Invalid(fallback) => &fallback.scope,
        }
    }

    /// How it answers.
    pub fn enforcement(&self) -> &Enforcement {
        match self {
            Self::Compiled(policy) => &policy.enforcement,
            Self::Invalid(fallback) => &fallback.enforcement,
        }
    }
}

impl PolicyScope {
    /// Sorts a policy before those that it stands before: priority, then what its selector names, then age (a known one
    /// first), then the name.
    pub(super) fn rank(&self) -> impl Ord + use<'_> {
        let age = (self.created_at.is_none(), self.created_at);
        (Reverse(self.priority), Reverse(self.selector.specificity()), age, &self.name)
    }
}

impl PolicySet {
    /// Puts policies in force. `callers` are the tokens of each callers' Secret that a policy names.
    pub fn new(
        mut active_policies: Vec<Arc<ActivePolicy>>,
        callers: &HashMap<&ObjectName, &HashSet<TokenDigest>>,
        caller_access: &CallerAccess,
    ) -> Self {
        active_policies.sort_by(|a, b| a.rule.scope().rank().cmp(&b.rule.scope().rank()));

        let mut usable: HashMap<TokenDigest, Vec<usize>> =
            caller_access.tokens.iter().map(|token| (*token, Vec::new())).collect();
        let mut open = Vec::new();
        for (position, active_policy) in active_policies.iter().enumerate() {
            let tokens = match &active_policy.rule.scope().callers {
                Some(secret) => callers.get(secret).copied(),
                None => {
                    open.push(position);
                    Some(&caller_access.tokens)
                }
            };
            for token in tokens.into_iter().flatten() {
                usable.entry(*token).or_default().push(position);
            }
        }
        // Tokens that may use the same policies share a view: there are many of them, and few kinds.
        let mut views: HashMap<Vec<usize>, Arc<CallerView>> = HashMap::new();
        let mut view = |positions: Vec<usize>| {
            let make = || {
                Arc::new(CallerView::new(
                    positions.iter().map(|position| Arc::clone(&active_policies[*position])).collect(),
                ))
            };
            Arc::clone(views.entry(positions.clone()).or_insert_with(make))
        };
        let all_name_callers = open.is_empty() && !active_policies.is_empty();
        let anonymous = (caller_access.allow_anonymous && !all_name_callers).then(|| view(open));
        let callers = usable.into_iter().map(|(token, positions)| (token, view(positions))).collect();
        Self { active_policies, callers, anonymous }
    }

    /// Every policy in force, in the order in which they stand before each other.
    pub fn active_policies(&self) -> &[Arc<ActivePolicy>] {
        &self.active_policies
    }

    /// Every policy, as if one caller might use them all.
    pub fn whole_view(&self) -> CallerView {
        CallerView::new(self.active_policies.clone())
    }

    /// The policies that a caller may use, by the bearer token that it presented.
    ///
    /// # Errors
    /// When the token is not known, or none was presented and one is needed.
    pub fn view(&self, token: Option<&str>) -> Result<&Arc<CallerView>, UnknownCaller> {
        match token {
            Some(token) => self.callers.get(&TokenDigest::of(token)),
            None => self.anonymous.as_ref(),
        }
        .ok_or(UnknownCaller)
    }
}

impl CallerView {
    fn new(active_policies: Vec<Arc<ActivePolicy>>) -> Self {
        let mut view = Self::default();
        for (position, active_policy) in active_policies.iter().enumerate() {
            let selector = &active_policy.rule.scope().selector;
            let (index, keys) = match (&selector.organizations, &selector.connections, &selector.clients) {
                (Some(organizations), _, _) => (&mut view.by_organization, organizations),
                (None, Some(connections), _) => (&mut view.by_connection, connections),
                (None, None, Some(clients)) => (&mut view.by_client, clients),
                (None, None, None) => {
                    view.rest.push(position);
                    continue;
                }
            };
            for key in keys {
                index.entry(key.clone()).or_default().push(position);
            }
        }
        view.active_policies = active_policies;
        view
    }

    /// The policy that governs a login.
    pub fn resolve(&self, login: &Login) -> Resolution<'_> {
        let context = login.context();
        let candidates = [
            context.organization_id.as_ref().and_then(|key| self.by_organization.get(key)),
            context.connection.as_ref().and_then(|key| self.by_connection.get(key)),
            self.by_client.get(login.client_id()),
            Some(&self.rest),
        ];
        let mut first: Option<usize> = None;
        for position in candidates.into_iter().flatten().flatten() {
            let scope = self.active_policies[*position].rule.scope();
            if context.tenant.as_ref().is_some_and(|tenant| !scope.tenant.is_called(tenant))
                || !scope.selector.matches(login)
            {
                continue;
            }
            match first {
                None => first = Some(*position),
                Some(other) if self.active_policies[other].rule.scope().tenant.domain() != scope.tenant.domain() => {
                    return Resolution::AmbiguousTenant;
                }
                Some(other) => first = Some(other.min(*position)),
            }
        }
        first.map_or(Resolution::NoPolicy, |position| Resolution::Policy(&self.active_policies[position]))
    }
}
