//! The login that a check is about, with every field within the bounds of the contract.

use super::origin::Origin;

/// A login as the Action describes it. [`Login::new`] makes sure that every field is within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    user_id: String,
    client_id: String,
    sid: Option<String>,
    context: LoginContext,
}

/// The optional facts of a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginContext {
    /// `event.transaction.protocol`.
    pub protocol: Option<String>,
    /// `event.transaction.prompt`.
    pub prompt: Vec<String>,
    /// `event.organization.id`.
    pub organization_id: Option<String>,
    /// `event.connection.name`.
    pub connection: Option<String>,
    /// The names of the user's roles.
    pub roles: Vec<String>,
    /// Whether the user passed a second factor.
    pub mfa: bool,
    /// The authentication methods of an identity provider (RFC 8176).
    pub amr: Vec<String>,
    /// Whether somebody else acts as the user (`event.session.actor`).
    pub actor: bool,
    /// The client id of the application that opened this login as a web view (`event.session_transfer_token`).
    pub opened_by: Option<String>,
    /// The tenant's canonical or custom domain.
    pub tenant: Option<String>,
    /// Whether Auth0 can send the browser to another page (`api.redirect.canRedirect()`).
    pub can_redirect: bool,
    /// Whether the login comes back from such a page.
    pub continued: bool,
    /// The host of the login page (`event.request.hostname`).
    pub hostname: Option<String>,
    /// The language of the user, as a BCP 47 tag. Anything else is no language.
    pub locale: Option<String>,
    /// The protocols that the Action does not ask about. Empty when it asks about all, or does not say.
    pub skip_protocols: Vec<String>,
}

impl LoginContext {
    /// Whether the user passed two factors: the Action says so, or the authentication methods do. They say `mfa`; or a password
    /// and another factor; or a key that verified its user, as a passkey does. One factor alone is one factor.
    pub fn is_multi_factor(&self) -> bool {
        let has = |names: &[&str]| self.amr.iter().any(|method| names.contains(&method.as_str()));
        self.mfa || has(&["mfa"]) || (has(&["pwd"]) && has(&SECOND_FACTORS)) || (has(&KEYS) && has(&USER_VERIFICATIONS))
    }

    /// How the login's session began, where it matters.
    pub fn origins(&self) -> impl Iterator<Item = Origin> {
        let web_view = self.opened_by.clone().map(|opened_by| Origin::WebView { opened_by });
        self.actor.then_some(Origin::Delegated).into_iter().chain(web_view)
    }

    /// Whether the login is a silent renewal (`prompt=none`): no user waits at a login page.
    pub fn is_silent(&self) -> bool {
        self.prompt.iter().any(|prompt| prompt == "none")
    }
}

/// The error for a field that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {rule}")]
pub struct InvalidField {
    /// The name of the field in the request.
    pub field: &'static str,
    /// What the field must be.
    pub rule: &'static str,
}

/// The longest user id in characters. Auth0 makes it of the connection and the id that an identity provider or a custom database
/// gives the user, and such an id may have any characters. Longer ones are not known.
const MAX_USER_ID_CHARS: usize = 1024;
/// The methods that are a second factor beside a password.
const SECOND_FACTORS: [&str; 4] = ["otp", "hwk", "swk", "sms"];
/// The methods that prove a key.
const KEYS: [&str; 3] = ["hwk", "swk", "pop"];
/// The methods by which a device verifies its user. `user` is not one: it says that somebody is present.
const USER_VERIFICATIONS: [&str; 6] = ["pin", "fpt", "face", "iris", "retina", "vbm"];
/// The most items of a list of the context, as the contract sets it.
const MAX_CONTEXT_ITEMS: usize = 128;
/// The longest text of the context in characters, as the contract sets it.
const MAX_CONTEXT_CHARS: usize = 300;

impl Login {
    /// Checks the bounds of the contract. An empty `sid` or `tenant` counts as absent. `user_id` may have any
    /// characters and is taken unchanged, because it is compared exactly.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn new(
        user_id: String,
        client_id: String,
        sid: Option<String>,
        mut context: LoginContext,
    ) -> Result<Self, InvalidField> {
        check(
            (1..=MAX_USER_ID_CHARS).contains(&user_id.chars().count()) && user_id != "." && user_id != "..",
            "user_id",
            "1 to 1024 characters, and neither . nor ..",
        )?;
        check(
            is_identifier(&client_id, 128),
            "client_id",
            "1 to 128 characters, none of them white space or a control character",
        )?;
        let sid = sid.filter(|sid| !sid.is_empty());
        check(
            sid.as_deref().is_none_or(|sid| is_identifier(sid, 128)),
            "sid",
            "at most 128 characters, none of them white space or a control character",
        )?;
        context.opened_by = context.opened_by.filter(|client| !client.is_empty());
        context.tenant = context.tenant.filter(|tenant| !tenant.is_empty());
        context.hostname = context.hostname.filter(|hostname| !hostname.is_empty());
        let text = "at most 300 characters long";
        check(is_context(context.protocol.as_deref()), "protocol", text)?;
        check(is_context(context.organization_id.as_deref()), "organization_id", text)?;
        check(is_context(context.connection.as_deref()), "connection", text)?;
        check(is_context(context.tenant.as_deref()), "tenant", text)?;
        check(is_context(context.opened_by.as_deref()), "session_transfer_token.client_id", text)?;
        check(is_context(context.hostname.as_deref()), "hostname", text)?;
        check(is_context(context.locale.as_deref()), "locale", text)?;
        let list = "a list of at most 128 texts, each at most 300 characters long";
        check(is_context_list(&context.prompt), "prompt", list)?;
        check(is_context_list(&context.roles), "roles", list)?;
        check(is_context_list(&context.amr), "amr", list)?;
        check(is_context_list(&context.skip_protocols), "skip_protocols", list)?;
        Ok(Self { user_id, client_id, sid, context })
    }

    /// The Auth0 id of the user.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The client id of the application that logs in.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The session id; refresh-token exchanges and password grants have none.
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// The optional facts of the login.
    pub fn context(&self) -> &LoginContext {
        &self.context
    }
}

fn check(holds: bool, field: &'static str, rule: &'static str) -> Result<(), InvalidField> {
    if holds { Ok(()) } else { Err(InvalidField { field, rule }) }
}

fn is_identifier(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.chars().count() <= longest && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_context(text: Option<&str>) -> bool {
    text.is_none_or(|text| text.chars().count() <= MAX_CONTEXT_CHARS)
}

fn is_context_list(texts: &[String]) -> bool {
    texts.len() <= MAX_CONTEXT_ITEMS && texts.iter().all(|text| is_context(Some(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user_id: &str) -> Result<Login, InvalidField> {
        Login::new(user_id.to_owned(), "c".to_owned(), None, LoginContext::default())
    }

    #[test]
    fn user_id_is_counted_in_characters_and_taken_unchanged() {
        for good in ["auth0|1", "waad|a/b", "£", "a%2Fb", &"é".repeat(1024), "...", ".a"] {
            assert_eq!(user(good).unwrap().user_id(), good);
        }
        // As SAML attributes and custom databases have them.
        for good in [" ", "samlp|acme|Ann Lee", "a\u{a0}b", "a\tb", "a\r\n", "a\u{0}", "a\u{85}", "\u{202e}x"] {
            assert_eq!(user(good).unwrap().user_id(), good);
        }
    }

    #[test]
    fn user_id_that_would_change_a_path_is_invalid() {
        for bad in ["", ".", "..", &"é".repeat(1025)] {
            assert_eq!(user(bad).unwrap_err().field, "user_id", "{bad:?}");
        }
    }

    #[test]
    fn empty_sid_and_empty_tenant_are_absent() {
        let context = LoginContext { tenant: Some(String::new()), ..LoginContext::default() };
        let login = Login::new("u".into(), "c".into(), Some(String::new()), context).unwrap();
        assert_eq!(login.sid(), None);
        assert_eq!(login.context().tenant, None);
    }

    #[test]
    fn two_factors_are_known_by_the_authentication_methods() {
        let is_multi_factor = |amr: &[&str]| {
            let amr = amr.iter().map(|method| (*method).to_owned()).collect();
            LoginContext { amr, ..LoginContext::default() }.is_multi_factor()
        };
        for two in [&["mfa"][..], &["pwd", "otp"], &["sms", "pwd"], &["pwd", "hwk"], &["pwd", "swk"], &["mfa", "x"]] {
            assert!(is_multi_factor(two), "{two:?}");
        }
        for passkey in [&["hwk", "pin"][..], &["fpt", "swk"], &["pop", "face"]] {
            assert!(is_multi_factor(passkey), "{passkey:?}");
        }
        for one in [&[][..], &["pwd"], &["otp"], &["hwk"], &["sms", "otp"], &["pwd", "pwd"], &["hwk", "user"], &["MFA"]]
        {
            assert!(!is_multi_factor(one), "{one:?}");
        }
        assert!(LoginContext { mfa: true, ..LoginContext::default() }.is_multi_factor());
    }

    #[test]
    fn context_that_is_too_long_is_named_by_its_field() {
        let long = Some("x".repeat(301));
        let many = vec![String::new(); 129];
        for (context, field) in [
            (LoginContext { protocol: long.clone(), ..LoginContext::default() }, "protocol"),
            (LoginContext { organization_id: long.clone(), ..LoginContext::default() }, "organization_id"),
            (LoginContext { connection: long.clone(), ..LoginContext::default() }, "connection"),
            (LoginContext { tenant: long.clone(), ..LoginContext::default() }, "tenant"),
            (LoginContext { opened_by: long.clone(), ..LoginContext::default() }, "session_transfer_token.client_id"),
            (LoginContext { hostname: long.clone(), ..LoginContext::default() }, "hostname"),
            (LoginContext { locale: long.clone(), ..LoginContext::default() }, "locale"),
            (LoginContext { prompt: many.clone(), ..LoginContext::default() }, "prompt"),
            (LoginContext { amr: many.clone(), ..LoginContext::default() }, "amr"),
            (LoginContext { skip_protocols: many.clone(), ..LoginContext::default() }, "skip_protocols"),
            (LoginContext { roles: many, ..LoginContext::default() }, "roles"),
            (LoginContext { roles: vec!["x".repeat(301)], ..LoginContext::default() }, "roles"),
        ] {
            assert_eq!(Login::new("u".into(), "c".into(), None, context).unwrap_err().field, field);
        }
    }
}
