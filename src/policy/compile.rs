//! From a manifest to a policy: the same rules as the schema and the CEL rules of the resource, so that a policy means the
//! same in a folder and in Kubernetes, with an error for each field that breaks one.
//!
//! Only this file and its parts read the types of [`crd`] in `policy`.

mod applied;
mod enums;
mod newer;
mod read;
mod structure;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;

use self::newer::Unknown;
use self::read::read;
pub(crate) use self::structure::nearest;
use self::structure::{Structure, UnknownFields};
use super::limits::Limits;
use super::messages::{LanguageMessages, is_language_tag};
use super::model::{Enforcement, MAX_TIMEOUT, Override, Policy, PolicyScope, Selector};
use super::name::ObjectName;
use super::tenant::{MAX_DOMAIN_CHARS, Tenant, is_custom_domain};
use super::time::parse_rfc3339;
use super::written::{Manifest, SpecError, as_stored, is_label, readable_list, readable_messages, readable_text};
use crate::crd::{self, AllowDenySpec, GoDuration, ModeSpec, SessionPolicySpec, StrategySpec, bounds};

/// The lists by which an override selects logins.
const OVERRIDE_LISTS: [&str; 5] = ["users", "roles", "organizations", "connections", "clientIds"];

/// The readable part of a policy that does not compile. It governs the policy's logins by its failure policy, so that a typing
/// error never switches a limit off unnoticed.
#[derive(Clone, Debug)]
pub struct FallbackPolicy {
    /// What the policy governs; a list that cannot be read selects everything.
    pub scope: PolicyScope,
    /// How the policy answers; a failure policy that cannot be read is `Allow`.
    pub enforcement: Enforcement,
}

/// Compiles a manifest as a person wrote it.
///
/// # Errors
/// Every field that breaks a rule, in the order of the resource's fields.
pub fn compile(manifest: &Manifest) -> Result<Policy, Vec<SpecError>> {
    compile_spec(manifest, as_stored(&manifest.spec), UnknownFields::Rejected)
}

/// Compiles a manifest as `compile` does, and by the rules that only the API server has.
///
/// # Errors
/// Every field that breaks a rule.
pub fn validate(manifest: &Manifest) -> Result<Policy, Vec<SpecError>> {
    let applied = applied::errors(&manifest.spec);
    match compile(manifest) {
        Ok(policy) if applied.is_empty() => Ok(policy),
        Ok(_) => Err(applied),
        Err(mut errors) => {
            errors.extend(applied);
            Err(errors)
        }
    }
}

/// Compiles a manifest as an API server holds it, whose definition may be newer than this program. Fields and words that are
/// not known are returned beside the policy, and do not keep it from compiling.
///
/// # Errors
/// Every field that breaks a rule, after those that are not known. An unknown field that may narrow the logins that the policy
/// selects is such a field.
pub fn compile_stored(manifest: &Manifest) -> Result<(Policy, Vec<SpecError>), Vec<SpecError>> {
    let mut spec = as_stored(&manifest.spec);
    let Unknown { mut notes, mut errors } = newer::without_unknown(&mut spec);
    match compile_spec(manifest, spec, UnknownFields::Ignored) {
        Ok(policy) if errors.is_empty() => return Ok((policy, notes)),
        Ok(_) => {}
        Err(broken) => errors.extend(broken),
    }
    notes.extend(errors);
    Err(notes)
}

fn compile_spec(manifest: &Manifest, mut written: Value, unknown: UnknownFields) -> Result<Policy, Vec<SpecError>> {
    let structure = Structure::fit(&mut written, unknown);
    let mut errors = Errors(Vec::new());
    let policy = match read(&written) {
        Ok(spec) => build(manifest, &spec, &mut errors),
        Err(error) => {
            errors.0.push(error);
            None
        }
    };
    errors.0.retain(|error| !structure.concerns(&error.field));
    errors.0.splice(..0, structure.errors);
    match policy {
        Some(policy) if errors.0.is_empty() => Ok(policy),
        _ => Err(errors.0),
    }
}

/// Reads the readable part of a manifest that does not compile; `None` when its tenant cannot be read.
pub fn fallback(manifest: &Manifest) -> Option<FallbackPolicy> {
    let spec = &manifest.spec;
    let domain = spec["tenant"]["domain"].as_str()?;
    let custom_domain = spec["tenant"]["customDomain"].as_str();
    let tenant = Tenant::new(domain, custom_domain).or_else(|| Tenant::new(domain, None))?;
    let names = spec["tenant"]["customDomains"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let tenant = tenant.also_called(names);
    let namespace = manifest.name.namespace();
    let secret = |reference: &Value| Some(ObjectName::new(namespace, reference["name"].as_str()?));
    Some(FallbackPolicy {
        scope: PolicyScope {
            name: manifest.name.clone(),
            tenant,
            credentials: secret(&spec["tenant"]["credentialsSecretRef"])
                .unwrap_or_else(|| ObjectName::new(namespace, "")),
            callers: secret(&spec["callerSecretRef"]),
            log_stream: secret(&spec["tenant"]["logStreamSecretRef"]),
            selector: Selector {
                clients: readable_list(&spec["selector"]["clientIds"]),
                organizations: readable_list(&spec["selector"]["organizations"]),
                connections: readable_list(&spec["selector"]["connections"]),
            },
            priority: i32::deserialize(&spec["priority"]).unwrap_or_default(),
            created_at: manifest.created_at,
        },
        enforcement: Enforcement {
            policy: manifest.name.clone(),
            mode: ModeSpec::deserialize(&spec["mode"]).unwrap_or_default().into(),
            failure_policy: AllowDenySpec::deserialize(&spec["failurePolicy"]).unwrap_or_default().into(),
            message: readable_text(&spec["message"]),
            messages: spec["messages"].as_array().into_iter().flatten().filter_map(readable_messages).collect(),
        },
    })
}

/// Reads the readable part of a manifest that an API server holds and that does not compile; `None` also when it may select
/// fewer logins than this program can read.
pub fn fallback_stored(manifest: &Manifest) -> Option<FallbackPolicy> {
    if newer::unknown_selectors(&as_stored(&manifest.spec)).is_empty() { fallback(manifest) } else { None }
}

/// The errors that were found so far.
struct Errors(Vec<SpecError>);

impl Errors {
    fn add(&mut self, field: impl fmt::Display, message: impl Into<String>) {
        self.0.push(SpecError { field: format!("spec.{field}"), message: message.into() });
    }

    fn check(&mut self, holds: bool, field: impl fmt::Display, message: impl Into<String>) {
        if !holds {
            self.add(field, message);
        }
    }

    /// Checks an optional list of texts: not empty, without duplicates, at most `most` of at most `longest` characters.
    fn set(&mut self, list: Option<&Vec<String>>, field: &str, most: usize, longest: usize) -> Option<HashSet<String>> {
        let list = list?;
        self.check(!list.is_empty(), field, "write at least one value, or leave the list out to select all");
        self.items(list, field, most, longest);
        Some(list.iter().cloned().collect())
    }

    fn items(&mut self, list: &[String], field: &str, most: usize, longest: usize) {
        self.check(list.len() <= most, field, format!("write at most {most} values, not {}", list.len()));
        let mut seen = HashSet::new();
        for (position, item) in list.iter().enumerate() {
            let length = item.chars().count();
            let fits = (1..=longest).contains(&length);
            self.check(
                fits,
                format_args!("{field}[{position}]"),
                format!("write 1 to {longest} characters, not {length}"),
            );
            self.check(
                seen.insert(item),
                format_args!("{field}[{position}]"),
                "this value is listed twice: write it once",
            );
        }
    }

    /// Checks that every value is an organization id: a login carries the id, so a name would never match.
    fn organization_ids(&mut self, list: &[String], field: &str) {
        let message = "write the organization's id, which begins with org_, in place of its name";
        self.check(list.iter().all(|id| id.starts_with(bounds::ORGANIZATION_PREFIX)), field, message);
    }

    fn duration(
        &mut self,
        text: &GoDuration,
        field: &str,
        least: Duration,
        most: Duration,
        remedy: &str,
    ) -> Option<Duration> {
        let parsed = text.parse().filter(|duration| (least..=most).contains(duration));
        self.check(parsed.is_some(), field, format!("{:?} is not valid here: {remedy}", text.as_str()));
        parsed
    }

    fn limits(&mut self, limits: &crd::LimitsSpec, field: &str, has_group: bool) -> Option<Limits> {
        let mut limit = |value: Option<i32>, name: &str| {
            let value = value?;
            let fits = (1..=bounds::MAX_LIMIT).contains(&value);
            self.check(
                fits,
                format_args!("{field}.{name}"),
                format!("write a number from 1 to {}, not {value}", bounds::MAX_LIMIT),
            );
            u32::try_from(value).ok()
        };
        let per_client = limit(limits.per_client, "perClient");
        let per_group = limit(limits.per_group, "perGroup");
        let per_user = limit(limits.per_user, "perUser");
        self.check(
            limits.per_group.is_none() || has_group,
            format_args!("{field}.perGroup"),
            "counts over the clients of the selector: name them in selector.clientIds, or use perUser",
        );
        let named = limits.per_client.or(limits.per_group).or(limits.per_user).is_some();
        self.check(named, field, "write at least one of perClient, perGroup and perUser");
        Limits::new(per_client, per_group, per_user)
    }

    fn tenant(&mut self, tenant: &crd::TenantSpec) -> Option<Tenant> {
        let bare = "is not a bare domain name: write one";
        let none = "without scheme, port, path or IP address";
        let domain = &tenant.domain;
        if Tenant::new(domain, None).is_none() {
            self.add("tenant.domain", format!("{domain:?} {bare} such as acme.eu.auth0.com, {none}"));
        }
        if let Some(custom) = tenant.custom_domain.as_ref().filter(|custom| Tenant::new(custom, None).is_none()) {
            self.add("tenant.customDomain", format!("{custom:?} {bare} such as login.acme.com, {none}"));
        }
        self.items(
            &tenant.custom_domains,
            "tenant.customDomains",
            bounds::MAX_CUSTOM_DOMAINS,
            bounds::MAX_DOMAIN_CHARS,
        );
        for (position, name) in tenant.custom_domains.iter().enumerate().filter(|(_, name)| !is_custom_domain(name)) {
            let message = format!("{name:?} is not a custom domain: write one such as login.acme.com, {none}");
            self.add(format_args!("tenant.customDomains[{position}]"), message);
        }
        let names = tenant.custom_domains.iter().map(String::as_str);
        Some(Tenant::new(domain, tenant.custom_domain.as_deref())?.also_called(names))
    }

    fn message(&mut self, text: Option<&String>, field: &str) -> Option<String> {
        let text = text?;
        let length = text.chars().count();
        let fits = (1..=bounds::MAX_MESSAGE_CHARS).contains(&length);
        self.check(fits, field, format!("write 1 to {} characters, not {length}", bounds::MAX_MESSAGE_CHARS));
        Some(text.clone())
    }

    fn secret_name(&mut self, name: &str, field: &str) {
        let fits = (1..=bounds::MAX_SECRET_NAME_CHARS).contains(&name.chars().count());
        self.check(fits, format_args!("{field}.name"), "write the name of a Secret in the policy's namespace");
    }
}

/// The shortest duration above zero: durations are whole nanoseconds.
const ABOVE_ZERO: Duration = Duration::from_nanos(1);

fn build(manifest: &Manifest, spec: &SessionPolicySpec, errors: &mut Errors) -> Option<Policy> {
    if let Some(class) = &spec.class_name {
        let fits = is_label(class) && class.len() <= bounds::MAX_CLASS_CHARS;
        errors.check(fits, "className", "write the name of a class: lower case letters, digits and '-'");
    }
    let tenant = errors.tenant(&spec.tenant);
    let credentials = &spec.tenant.credentials_secret_ref.name;
    errors.secret_name(credentials, "tenant.credentialsSecretRef");
    if let Some(rate) = spec.tenant.requests_per_second {
        let fits = (1..=bounds::MAX_REQUESTS_PER_SECOND).contains(&rate);
        let message = format!("write a number from 1 to {}, not {rate}", bounds::MAX_REQUESTS_PER_SECOND);
        errors.check(fits, "tenant.requestsPerSecond", message);
    }
    if let Some(callers) = &spec.caller_secret_ref {
        errors.secret_name(&callers.name, "callerSecretRef");
        errors.check(
            callers.name != *credentials,
            "callerSecretRef.name",
            "names the same Secret as tenant.credentialsSecretRef: keep the callers' tokens in a Secret of their own",
        );
    }
    if let Some(stream) = &spec.tenant.log_stream_secret_ref {
        let shared = stream.name == *credentials || Some(stream) == spec.caller_secret_ref.as_ref();
        let (field, message) = (
            "tenant.logStreamSecretRef",
            "names the Secret of the credential or of the callers: keep the log stream's tokens in a Secret of their own",
        );
        errors.secret_name(&stream.name, field);
        errors.check(!shared, format_args!("{field}.name"), message);
    }
    let selector = selector(
        errors,
        "selector",
        &spec.selector.client_ids,
        &spec.selector.organizations,
        &spec.selector.connections,
    );
    let limits = errors.limits(&spec.limits, "limits", selector.clients.is_some());
    let active_within = spec.active_within.as_ref().map(|text| {
        let remedy = "write a duration above zero with its units, such as 30m or 12h (there is no unit for days), or leave it out";
        errors.duration(text, "activeWithin", ABOVE_ZERO, Duration::MAX, remedy)
    });
    errors.items(&spec.skip_protocols, "skipProtocols", bounds::MAX_PROTOCOLS, bounds::MAX_PROTOCOL_CHARS);
    let overrides = overrides(errors, spec, selector.clients.is_some());
    let timeout = errors.duration(
        &spec.timeout,
        "timeout",
        ABOVE_ZERO,
        MAX_TIMEOUT,
        "write a duration above zero and up to 10s, such as 3s or 1500ms",
    );
    let admission_window = errors.duration(
        &spec.admission_window,
        "admissionWindow",
        Duration::ZERO,
        Duration::from_secs(600),
        "write a duration up to 10m, such as 10s, or 0s to switch it off",
    );
    let recheck_after = errors.duration(
        &spec.recheck_after,
        "recheckAfter",
        Duration::ZERO,
        Duration::from_secs(168 * 3600),
        "write a duration up to 168h, such as 1h, or 0s to switch it off",
    );
    let asks_without_factors = spec.ask.as_ref().is_some_and(|ask| !ask.require_mfa);
    errors.check(
        spec.strategy != StrategySpec::Ask || !spec.revoke_requires_mfa || !asks_without_factors,
        "ask.requireMfa",
        "is false and revokeRequiresMfa is true: leave one of them out",
    );
    errors.message(spec.message.as_ref(), "message");
    let messages = messages(errors, spec);

    let namespace = manifest.name.namespace();
    Some(Policy {
        scope: PolicyScope {
            name: manifest.name.clone(),
            tenant: tenant?,
            credentials: ObjectName::new(namespace, credentials),
            callers: spec.caller_secret_ref.as_ref().map(|callers| ObjectName::new(namespace, &callers.name)),
            log_stream: spec.tenant.log_stream_secret_ref.as_ref().map(|it| ObjectName::new(namespace, &it.name)),
            selector,
            priority: spec.priority,
            created_at: manifest.created_at,
        },
        enforcement: Enforcement {
            policy: manifest.name.clone(),
            mode: spec.mode.into(),
            failure_policy: spec.failure_policy.into(),
            message: spec.message.clone(),
            messages,
        },
        generation: manifest.generation,
        requests_per_second: spec.tenant.requests_per_second.and_then(|rate| u32::try_from(rate).ok()),
        limits: limits?,
        reentry: spec.reentry.into(),
        strategy: spec.strategy.into(),
        ask: spec.ask.clone().unwrap_or_default().into(),
        revoke_requires_mfa: spec.revoke_requires_mfa,
        explain_evictions: spec.explain_evictions,
        active_within: match active_within {
            None => None,
            Some(span) => Some(SignedDuration::try_from(span?).ok()?),
        },
        missing_session: spec.missing_session.into(),
        skip_protocols: spec.skip_protocols.iter().cloned().collect(),
        actors: spec.actors.into(),
        overrides,
        timeout: timeout?,
        admission_window: admission_window?,
        recheck_after: recheck_after?,
    })
}

fn selector(
    errors: &mut Errors,
    field: &str,
    clients: &Option<Vec<String>>,
    organizations: &Option<Vec<String>>,
    connections: &Option<Vec<String>>,
) -> Selector {
    errors.organization_ids(organizations.as_deref().unwrap_or_default(), &format!("{field}.organizations"));
    let mut set = |list: &Option<Vec<String>>, name: &str, most, longest| {
        errors.set(list.as_ref(), &format!("{field}.{name}"), most, longest)
    };
    Selector {
        clients: set(clients, "clientIds", bounds::MAX_CLIENT_IDS, bounds::MAX_CLIENT_ID_CHARS),
        organizations: set(organizations, "organizations", bounds::MAX_ORGANIZATIONS, bounds::MAX_ORGANIZATION_CHARS),
        connections: set(connections, "connections", bounds::MAX_ORGANIZATIONS, bounds::MAX_ORGANIZATION_CHARS),
    }
}

fn messages(errors: &mut Errors, spec: &SessionPolicySpec) -> Vec<LanguageMessages> {
    let (count, most) = (spec.messages.len(), bounds::MAX_MESSAGES);
    errors.check(count <= most, "messages", format!("write at most {most}, not {count}"));
    let mut languages = HashSet::new();
    let compile = |(position, item): (usize, &crd::MessagesSpec)| {
        let field = format!("messages[{position}]");
        let language = &item.language;
        let fits = is_language_tag(language) && language.len() <= bounds::MAX_LANGUAGE_CHARS;
        let message = format!("{language:?} is not a language tag: write one of BCP 47, such as de or pt-BR");
        errors.check(fits, format_args!("{field}.language"), message);
        let unique = languages.insert(language.to_ascii_lowercase());
        let message = format!("{language:?} is the language of another item: write its texts in one item");
        errors.check(unique, format_args!("{field}.language"), message);
        let compiled = LanguageMessages {
            language: language.clone(),
            limit_exceeded: errors.message(item.limit_exceeded.as_ref(), &format!("{field}.limitExceeded")),
            unavailable: errors.message(item.unavailable.as_ref(), &format!("{field}.unavailable")),
            no_session: errors.message(item.no_session.as_ref(), &format!("{field}.noSession")),
        };
        let has_text = compiled != LanguageMessages { language: language.clone(), ..LanguageMessages::default() };
        errors.check(has_text, &field, "write at least one of limitExceeded, unavailable and noSession");
        compiled
    };
    spec.messages.iter().enumerate().map(compile).collect()
}

fn overrides(errors: &mut Errors, spec: &SessionPolicySpec, has_group: bool) -> Vec<Override> {
    let most = bounds::MAX_OVERRIDES;
    errors.check(
        spec.overrides.len() <= most,
        "overrides",
        format!("write at most {most}, not {}", spec.overrides.len()),
    );
    let mut names = HashSet::new();
    let mut compiled = Vec::with_capacity(spec.overrides.len());
    for (position, entry) in spec.overrides.iter().enumerate() {
        let field = format!("overrides[{position}]");
        let fits = (1..=bounds::MAX_OVERRIDE_NAME_CHARS).contains(&entry.name.chars().count());
        errors.check(
            fits,
            format_args!("{field}.name"),
            format!("write 1 to {} characters", bounds::MAX_OVERRIDE_NAME_CHARS),
        );
        let unique = names.insert(entry.name.as_str());
        errors.check(
            unique,
            format_args!("{field}.name"),
            format!("{:?} is another override's name: give each its own", entry.name),
        );
        let users =
            errors.set(entry.users.as_ref(), &format!("{field}.users"), bounds::MAX_USERS, bounds::MAX_USER_CHARS);
        let roles =
            errors.set(entry.roles.as_ref(), &format!("{field}.roles"), bounds::MAX_ROLES, bounds::MAX_ROLE_CHARS);
        let selector = selector(errors, &field, &entry.client_ids, &entry.organizations, &entry.connections);
        errors.check(
            users.is_some() || roles.is_some() || selector != Selector::default(),
            &field,
            "write at least one of users, roles, organizations, connections and clientIds",
        );
        errors.check(
            entry.limits.is_some() != entry.exempt,
            &field,
            "write either limits or exempt: true, not both and not neither",
        );
        let limits =
            entry.limits.as_ref().and_then(|limits| errors.limits(limits, &format!("{field}.limits"), has_group));
        let expires_at = entry.expires_at.as_ref().map(|text| {
            let time = parse_rfc3339(text);
            let message = format!("{text:?} is not a time: write RFC 3339, such as 2027-01-31T00:00:00Z");
            errors.check(time.is_some(), format_args!("{field}.expiresAt"), message);
            time
        });
        compiled.push(Override {
            name: entry.name.clone(),
            users,
            roles,
            selector,
            limits,
            expires_at: expires_at.flatten(),
        });
    }
    compiled
}

const _: () = assert!(MAX_DOMAIN_CHARS == bounds::MAX_DOMAIN_CHARS, "a domain that the schema accepts compiles");
