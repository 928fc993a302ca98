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

use super::answer::Stance;
use super::compile::Salvage;
use super::compiled::{Claim, Policy};
use super::login::Login;
use super::name::ObjectName;
use crate::secret::Credentials;

/// All that a replica needs to answer checks.
#[derive(Debug)]
pub struct Snapshot {
    governors: Vec<Arc<Governor>>,
    callers: HashMap<TokenDigest, Arc<View>>,
    /// What whoever asks without a token may use; `None` = nothing, they are refused.
    anonymous: Option<Arc<View>>,
}

/// A policy in force, with the credential for its tenant.
#[derive(Debug)]
pub struct Governor {
    /// The policy, or what could be read of one that does not compile.
    pub rule: Arc<Rule>,
    /// The tenant's credential; `None` when the Secret or its keys are not there or not allowed.
    pub credentials: Option<Arc<Credentials>>,
}

/// What a policy resource came to.
#[derive(Debug)]
pub enum Rule {
    /// It compiled, now or in an earlier version.
    Compiled(Policy),
    /// It does not compile and never did: it governs by its failure policy.
    Invalid(Salvage),
}

/// The policies that a caller may use.
#[derive(Debug, Default)]
pub struct View {
    /// In the order in which they stand before each other.
    governors: Vec<Arc<Governor>>,
    /// Positions by the first of these that the policy names: organizations, connections, clients; the rest.
    by_organization: HashMap<String, Vec<usize>>,
    by_connection: HashMap<String, Vec<usize>>,
    by_client: HashMap<String, Vec<usize>>,
    rest: Vec<usize>,
}

/// Which policy governs a login.
#[derive(Clone, Copy, Debug)]
pub enum Governance<'a> {
    /// This one.
    By(&'a Arc<Governor>),
    /// None.
    Nobody,
    /// Policies of several tenants match.
    Ambiguous,
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
pub struct Doors {
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

impl Rule {
    /// What it governs.
    pub fn claim(&self) -> &Claim {
        match self {
            Self::Compiled(policy) => &policy.claim,
            Self::Invalid(salvage) => &salvage.claim,
        }
    }

    /// How it answers.
    pub fn stance(&self) -> &Stance {
        match self {
            Self::Compiled(policy) => &policy.stance,
            Self::Invalid(salvage) => &salvage.stance,
        }
    }
}

impl Claim {
    /// Sorts a policy before those that it stands before: priority, then what its selector names, then age (a known one
    /// first), then the name.
    pub(super) fn rank(&self) -> impl Ord + use<'_> {
        let age = (self.created_at.is_none(), self.created_at);
        (Reverse(self.priority), Reverse(self.selector.specificity()), age, &self.name)
    }
}

impl Snapshot {
    /// Puts policies in force. `callers` are the tokens of each callers' Secret that a policy names.
    pub fn new(
        mut governors: Vec<Arc<Governor>>,
        callers: &HashMap<&ObjectName, &HashSet<TokenDigest>>,
        doors: &Doors,
    ) -> Self {
        governors.sort_by(|a, b| a.rule.claim().rank().cmp(&b.rule.claim().rank()));

        let mut usable: HashMap<TokenDigest, Vec<usize>> =
            doors.tokens.iter().map(|token| (*token, Vec::new())).collect();
        let mut open = Vec::new();
        for (position, governor) in governors.iter().enumerate() {
            let tokens = match &governor.rule.claim().callers {
                Some(secret) => callers.get(secret).copied(),
                None => {
                    open.push(position);
                    Some(&doors.tokens)
                }
            };
            for token in tokens.into_iter().flatten() {
                usable.entry(*token).or_default().push(position);
            }
        }
        // Tokens that may use the same policies share a view: there are many of them, and few kinds.
        let mut views: HashMap<Vec<usize>, Arc<View>> = HashMap::new();
        let mut view = |positions: Vec<usize>| {
            let make =
                || Arc::new(View::new(positions.iter().map(|position| Arc::clone(&governors[*position])).collect()));
            Arc::clone(views.entry(positions.clone()).or_insert_with(make))
        };
        let all_name_callers = open.is_empty() && !governors.is_empty();
        let anonymous = (doors.allow_anonymous && !all_name_callers).then(|| view(open));
        let callers = usable.into_iter().map(|(token, positions)| (token, view(positions))).collect();
        Self { governors, callers, anonymous }
    }

    /// Every policy in force, in the order in which they stand before each other.
    pub fn governors(&self) -> &[Arc<Governor>] {
        &self.governors
    }

    /// Every policy, as if one caller might use them all.
    pub fn whole_view(&self) -> View {
        View::new(self.governors.clone())
    }

    /// The policies that a caller may use, by the bearer token that it presented.
    ///
    /// # Errors
    /// When the token is not known, or none was presented and one is needed.
    pub fn view(&self, token: Option<&str>) -> Result<&Arc<View>, UnknownCaller> {
        match token {
            Some(token) => self.callers.get(&TokenDigest::of(token)),
            None => self.anonymous.as_ref(),
        }
        .ok_or(UnknownCaller)
    }
}

impl View {
    fn new(governors: Vec<Arc<Governor>>) -> Self {
        let mut view = Self::default();
        for (position, governor) in governors.iter().enumerate() {
            let selector = &governor.rule.claim().selector;
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
        view.governors = governors;
        view
    }

    /// The policy that governs a login.
    pub fn govern(&self, login: &Login) -> Governance<'_> {
        let context = login.context();
        let candidates = [
            context.organization_id.as_ref().and_then(|key| self.by_organization.get(key)),
            context.connection.as_ref().and_then(|key| self.by_connection.get(key)),
            self.by_client.get(login.client_id()),
            Some(&self.rest),
        ];
        let mut first: Option<usize> = None;
        for position in candidates.into_iter().flatten().flatten() {
            let claim = self.governors[*position].rule.claim();
            if context.tenant.as_ref().is_some_and(|tenant| !claim.tenant.is_called(tenant))
                || !claim.selector.matches(login)
            {
                continue;
            }
            match first {
                None => first = Some(*position),
                Some(other) if self.governors[other].rule.claim().tenant.domain() != claim.tenant.domain() => {
                    return Governance::Ambiguous;
                }
                Some(other) => first = Some(other.min(*position)),
            }
        }
        first.map_or(Governance::Nobody, |position| Governance::By(&self.governors[position]))
    }
}
