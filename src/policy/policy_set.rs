//! The active policies, who may use them, and which of them governs a login.
//!
//! A policy set never changes; a new one replaces it as a whole. All comparing and sorting happens when a set is built, so
//! that a check costs a few look-ups, however many policies and callers there are: each caller has a view of the policies
//! that it may use, and a view finds the candidates for a login by organization, connection or client.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};

use super::compile::FallbackPolicy;
use super::login::Login;
use super::model::{Enforcement, Policy, PolicyScope};
use super::name::ObjectName;
use super::tenant::{Tenant, is_canonical_domain, lower_case};
use crate::secret::{Credentials, SignedTokens};

/// The active policies and their callers.
#[derive(Debug)]
pub struct PolicySet {
    active_policies: Vec<Arc<ActivePolicy>>,
    callers: HashMap<TokenDigest, Arc<CallerView>>,
    /// The policies for callers without a token; `None` when a token is required.
    anonymous: Option<Arc<CallerView>>,
    /// Which signed tokens callers may present, and their policies: those that name no callers.
    signed_tokens: Option<(Arc<SignedTokens>, Arc<CallerView>)>,
    log_streams: LogStreams,
    /// The policies of the tenants with a log stream.
    streamed: CallerView,
    /// The tenants of the policies without an active version.
    inactive: Vec<Tenant>,
    /// Whether a policy names callers whose Secret was not read yet.
    lacks_callers: bool,
    /// See [`digest`](Self::digest).
    digest: u64,
}

/// The log streams that are received: the tenant of each token, by its canonical domain.
#[derive(Debug, Default)]
pub struct LogStreams(pub HashMap<TokenDigest, Arc<str>>);

/// An active policy, with the credential for its tenant.
#[derive(Debug)]
pub struct ActivePolicy {
    /// The active version of the policy.
    pub version: Arc<PolicyVersion>,
    /// The tenant's credential; `None` when the Secret is missing, invalid or not for this tenant.
    pub credentials: Option<Arc<Credentials>>,
    /// How well it is shown that the policy's owner may speak for the tenant.
    pub tenant_proof: TenantProof,
}

/// How well it is shown that a policy's owner may speak for the tenant that the policy names. Anybody who may write policies
/// can name any tenant; only somebody with a credential of the tenant can prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TenantProof {
    /// The policy has no credential that was accepted.
    Unproven,
    /// A host accepted the credential that the policy names as the custom domain of the tenant.
    CustomDomain,
    /// The canonical domain accepted the credential.
    CanonicalDomain,
}

/// The version of a policy that is active.
#[derive(Debug)]
pub enum PolicyVersion {
    /// The newest version that compiled.
    Compiled(Policy),
    /// No version compiled: the failure policy answers every check.
    Invalid(FallbackPolicy),
}

/// The policies that a caller may use.
#[derive(Debug, Default)]
pub struct CallerView {
    /// In the order of precedence.
    active_policies: Vec<Arc<ActivePolicy>>,
    /// Positions of the policies that name organizations. A policy is in the first of these four indexes that fits.
    by_organization: HashMap<String, Vec<usize>>,
    /// Positions of the policies that name connections.
    by_connection: HashMap<String, Vec<usize>>,
    /// Positions of the policies that name clients.
    by_client: HashMap<String, Vec<usize>>,
    /// Positions of the policies that select every login.
    rest: Vec<usize>,
    /// Every name of every tenant, also of policies without an active version, with the tenant's canonical domain; `None` when
    /// several tenants have the name.
    tenant_names: HashMap<String, Option<String>>,
    /// The tenant of all policies, also of those without an active version; `None` when they have several, or there are none.
    only_tenant: Option<String>,
}

/// The policy that governs a login.
#[derive(Clone, Copy, Debug)]
pub enum Resolution<'a> {
    /// One policy governs the login.
    Policy(&'a Arc<ActivePolicy>),
    /// No policy selects the login.
    NoPolicy,
    /// Policies of more than one tenant select the login.
    AmbiguousTenant,
    /// The request names its tenant by a name that no policy of the caller has, and nothing says which tenant it is.
    UnknownTenant,
    /// The request names its tenant by a custom domain that no policy has. All policies of the caller are for one tenant, and
    /// this one governs the login if it is that tenant's.
    AssumedTenant(&'a Arc<ActivePolicy>),
}

/// The SHA-256 of a caller's bearer token: the service keeps no token itself. The time of a look-up depends on the digest
/// only, which reveals nothing about the token; digests are compared in constant time.
#[derive(Clone, Copy, Eq)]
pub struct TokenDigest([u8; 32]);

/// Who may use the policies that name no callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerAccess {
    /// The tokens that may use these policies.
    pub tokens: HashSet<TokenDigest>,
    /// Which signed tokens may use them as well.
    pub signed_tokens: Option<Arc<SignedTokens>>,
    /// Whether these policies may be used without a token.
    pub allow_anonymous: bool,
}

impl TokenDigest {
    /// The digest of a token as presented.
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
    /// The generation of a version that compiles.
    pub fn generation(&self) -> Option<i64> {
        match self {
            Self::Compiled(policy) => Some(policy.generation),
            Self::Invalid(_) => None,
        }
    }

    /// What the policy governs.
    pub fn scope(&self) -> &PolicyScope {
        match self {
            Self::Compiled(policy) => &policy.scope,
            Self::Invalid(fallback) => &fallback.scope,
        }
    }

    /// How the policy answers.
    pub fn enforcement(&self) -> &Enforcement {
        match self {
            Self::Compiled(policy) => &policy.enforcement,
            Self::Invalid(fallback) => &fallback.enforcement,
        }
    }
}

impl PolicySet {
    /// Activates policies. `callers` are the tokens of each callers' Secret that a policy names.
    ///
    /// `inactive` are the policies without an active version. They select no login. Their callers stay known, and so does which
    /// tenants these have: a login of such a tenant is not assumed to be another tenant's.
    pub fn new(
        mut active_policies: Vec<Arc<ActivePolicy>>,
        inactive: &[&PolicyScope],
        callers: &HashMap<&ObjectName, &HashSet<TokenDigest>>,
        caller_access: &CallerAccess,
    ) -> Self {
        active_policies.sort_by(|a, b| a.version.scope().rank().cmp(&b.version.scope().rank()));

        let scopes: Vec<&PolicyScope> = active_policies
            .iter()
            .map(|active_policy| active_policy.version.scope())
            .chain(inactive.iter().copied())
            .collect();
        let mut usable: HashMap<TokenDigest, Vec<usize>> =
            caller_access.tokens.iter().map(|token| (*token, Vec::new())).collect();
        let mut without_callers = Vec::new();
        for (position, scope) in scopes.iter().enumerate() {
            let tokens = match &scope.callers {
                Some(secret) => callers.get(secret).copied(),
                None => {
                    without_callers.push(position);
                    Some(&caller_access.tokens)
                }
            };
            for token in tokens.into_iter().flatten() {
                usable.entry(*token).or_default().push(position);
            }
        }
        // Tokens that may use the same policies share a view: there are many tokens, but few different views.
        let mut views: HashMap<Vec<usize>, Arc<CallerView>> = HashMap::new();
        let mut view = |positions: Vec<usize>| {
            let make = || {
                let active = positions.iter().filter_map(|position| active_policies.get(*position).cloned());
                let inactive = positions.iter().filter(|position| **position >= active_policies.len());
                let inactive: Vec<&Tenant> = inactive.map(|position| &scopes[*position].tenant).collect();
                Arc::new(CallerView::new(active.collect(), &inactive))
            };
            Arc::clone(views.entry(positions.clone()).or_insert_with(make))
        };
        let is_active = |position: &usize| *position < active_policies.len();
        let all_name_callers = !without_callers.iter().any(is_active) && !active_policies.is_empty();
        let own = view(without_callers);
        let signed_tokens = caller_access.signed_tokens.clone().map(|tokens| (tokens, Arc::clone(&own)));
        let anonymous = (caller_access.allow_anonymous && !all_name_callers).then_some(own);
        let callers = usable.into_iter().map(|(token, positions)| (token, view(positions))).collect();
        let inactive = inactive.iter().map(|scope| scope.tenant.clone()).collect();
        Self {
            active_policies,
            callers,
            anonymous,
            signed_tokens,
            log_streams: LogStreams::default(),
            streamed: CallerView::default(),
            inactive,
            lacks_callers: false,
            digest: 0,
        }
    }

    /// The same policies, with whether one of them names callers whose Secret was not read yet.
    #[must_use]
    pub fn with_unread_callers(self, lacks_callers: bool) -> Self {
        Self { lacks_callers, ..self }
    }

    /// The same policies with this number.
    #[must_use]
    pub fn with_digest(self, digest: u64) -> Self {
        Self { digest, ..self }
    }

    /// A number of at most 48 bits, made of what the active policies say: replicas with the same policies have the same
    /// one.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The same policies with these log streams.
    pub fn with_log_streams(self, log_streams: LogStreams) -> Self {
        let tenants: HashSet<&str> = log_streams.0.values().map(AsRef::as_ref).collect();
        let has_stream = |policy: &&Arc<ActivePolicy>| tenants.contains(policy.version.scope().tenant.domain());
        // A log stream names its tenant by the canonical domain, so inactive policies change nothing.
        let streamed = CallerView::new(self.active_policies.iter().filter(has_stream).cloned().collect(), &[]);
        Self { log_streams, streamed, ..self }
    }

    /// The policies that select a login of a tenant with a log stream, whoever may use them: a log names no caller.
    pub fn selecting(&self, login: &Login) -> Vec<ObjectName> {
        let names = self
            .streamed
            .selecting(login, login.context().tenant.as_deref())
            .map(|position| &self.streamed.active_policies[position]);
        names.map(|active_policy| active_policy.version.scope().name.clone()).collect()
    }

    /// Whether a token that is not known may be one of a Secret that was not read yet.
    pub fn lacks_callers(&self) -> bool {
        self.lacks_callers
    }

    /// The tenant whose log stream may present a token.
    pub fn log_stream(&self, token: &str) -> Option<&Arc<str>> {
        self.log_streams.0.get(&TokenDigest::of(token))
    }

    /// Whether any log stream may be received.
    pub fn has_log_streams(&self) -> bool {
        !self.log_streams.0.is_empty()
    }

    /// The tenants with a log stream; one may come several times.
    pub fn log_stream_tenants(&self) -> impl Iterator<Item = &str> {
        self.log_streams.0.values().map(AsRef::as_ref)
    }

    /// Every active policy, in the order of precedence.
    pub fn active_policies(&self) -> &[Arc<ActivePolicy>] {
        &self.active_policies
    }

    /// A view of every policy, as for a caller that may use all of them.
    pub fn whole_view(&self) -> CallerView {
        CallerView::new(self.active_policies.clone(), &self.inactive.iter().collect::<Vec<_>>())
    }

    /// The policies that a caller may use, by the bearer token that it presented. `None` when the token is not known, or
    /// none was presented and one is required.
    pub fn view(&self, token: Option<&str>) -> Option<&Arc<CallerView>> {
        match token {
            Some(token) => self.callers.get(&TokenDigest::of(token)).or_else(|| {
                let (tokens, own) = self.signed_tokens.as_ref()?;
                tokens.accepts(token).then_some(own)
            }),
            None => self.anonymous.as_ref(),
        }
    }
}

impl CallerView {
    /// A view of these policies, and of the names of the tenants of others, which have no active version.
    fn new(active_policies: Vec<Arc<ActivePolicy>>, inactive: &[&Tenant]) -> Self {
        let mut view = Self::default();
        for (position, active_policy) in active_policies.iter().enumerate() {
            let selector = &active_policy.version.scope().selector;
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
        let active = active_policies.iter().map(|active_policy| &active_policy.version.scope().tenant);
        let tenants: Vec<&Tenant> = active.chain(inactive.iter().copied()).collect();
        for tenant in &tenants {
            for name in tenant.names() {
                match view.tenant_names.get_mut(name) {
                    Some(domain) => _ = domain.take_if(|domain| domain != tenant.domain()),
                    None => _ = view.tenant_names.insert(name.to_owned(), Some(tenant.domain().to_owned())),
                }
            }
        }
        let first = tenants.first().map(|tenant| tenant.domain());
        view.only_tenant =
            first.filter(|first| tenants.iter().all(|tenant| tenant.domain() == *first)).map(str::to_owned);
        view.active_policies = active_policies;
        view
    }

    /// The canonical domain of the one tenant that all policies are for; `None` when they have several, or there are none.
    pub fn only_tenant(&self) -> Option<&str> {
        self.only_tenant.as_deref()
    }

    /// The canonical domain of the tenant of a login, when it is known whatever policy governs it: the request names it, or all
    /// policies are for one tenant.
    pub fn known_tenant(&self, login: &Login) -> Option<&str> {
        let Some(name) = login.context().tenant.as_deref() else { return self.only_tenant() };
        match self.tenant_names.get(&*lower_case(name)) {
            Some(domain) => domain.as_deref(),
            None => self.only_tenant().filter(|_| !is_canonical_domain(name)),
        }
    }

    /// Finds the policy that governs a login.
    pub fn resolve(&self, login: &Login) -> Resolution<'_> {
        match login.context().tenant.as_deref() {
            Some(name) if !self.active_policies.is_empty() && !self.tenant_names.contains_key(&*lower_case(name)) => {
                // A canonical domain names a tenant, and it is not one of these: an Action that was copied to another tenant
                // must not end the sessions of the first one.
                if self.only_tenant.is_none() || is_canonical_domain(name) {
                    return Resolution::UnknownTenant;
                }
                match self.find(login, None) {
                    Resolution::Policy(active_policy) => Resolution::AssumedTenant(active_policy),
                    other => other,
                }
            }
            tenant => self.find(login, tenant),
        }
    }

    /// The positions of the policies that select a login, among those of a tenant or of all.
    fn selecting<'a>(&'a self, login: &'a Login, tenant: Option<&'a str>) -> impl Iterator<Item = usize> + 'a {
        let context = login.context();
        // A name that one policy of a tenant lists is the tenant's, so it keeps all of them.
        let domain = tenant.and_then(|name| self.tenant_names.get(&*lower_case(name))?.as_deref());
        let is_of = move |of: &Tenant| match domain {
            Some(domain) => of.domain() == domain,
            None => tenant.is_none_or(|name| of.is_called(name)),
        };
        let candidates = [
            context.organization_id.as_ref().and_then(|key| self.by_organization.get(key)),
            context.connection.as_ref().and_then(|key| self.by_connection.get(key)),
            self.by_client.get(login.client_id()),
            Some(&self.rest),
        ];
        candidates.into_iter().flatten().flatten().copied().filter(move |position| {
            let scope = self.active_policies[*position].version.scope();
            is_of(&scope.tenant) && scope.selector.matches(login)
        })
    }

    /// Finds the policy that governs a login, among those of a tenant or of all.
    fn find(&self, login: &Login, tenant: Option<&str>) -> Resolution<'_> {
        let domain = |position: usize| self.active_policies[position].version.scope().tenant.domain();
        let mut first: Option<usize> = None;
        for position in self.selecting(login, tenant) {
            match first {
                None => first = Some(position),
                Some(other) if domain(other) != domain(position) => return Resolution::AmbiguousTenant,
                Some(other) => first = Some(other.min(position)),
            }
        }
        first.map_or(Resolution::NoPolicy, |position| Resolution::Policy(&self.active_policies[position]))
    }
}
