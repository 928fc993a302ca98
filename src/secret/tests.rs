//! Reading Secrets.

use std::sync::LazyLock;

use super::*;

static RSA: LazyLock<String> =
    LazyLock::new(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem());

const BASE: [(&str, &str); 2] = [("domain", "Acme.eu.auth0.com"), ("clientId", "machine")];

fn data(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
}

fn read(more: &[(&str, &str)]) -> Result<Credentials, SecretError> {
    Credentials::from_secret(CREDENTIALS_TYPE, &data(&[&BASE[..], more].concat()))
}

fn error_of(more: &[(&str, &str)]) -> SecretError {
    read(more).map(|_| ()).unwrap_err()
}

#[test]
fn client_secret_is_read_without_the_final_line_break() {
    let credentials = read(&[("clientSecret", "  s3cret \n")]).unwrap();
    assert_eq!(credentials.domain, "acme.eu.auth0.com");
    assert_eq!((credentials.custom_domain.as_deref(), credentials.client_id.as_str()), (None, "machine"));
    let ClientAuth::ClientSecret(secret) = &credentials.client_auth else { panic!("not a client secret") };
    assert_eq!(secret.expose_secret(), "  s3cret ");
}

#[test]
fn private_key_signs_with_rs256_by_default() {
    for (more, expected) in [
        (vec![], (Algorithm::RS256, None)),
        (vec![("signingAlgorithm", "RS384\n"), ("keyId", "k1\n")], (Algorithm::RS384, Some("k1"))),
        (vec![("signingAlgorithm", "PS256"), ("keyId", "")], (Algorithm::PS256, None)),
    ] {
        let credentials = read(&[&[("privateKey", RSA.as_str())][..], &more].concat()).unwrap();
        let ClientAuth::PrivateKey { algorithm, key_id, .. } = credentials.client_auth else { panic!("not a key") };
        assert_eq!((algorithm, key_id.as_deref()), expected);
    }
}

#[test]
fn first_invalid_key_is_named() {
    let secret = ("clientSecret", "s3cret");
    let keys = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(error_of(&[]), SecretError::NoClientAuth { present: keys(&["clientId", "domain"]) });
    let present = keys(&["clientId", "clientSecret", "domain"]);
    assert_eq!(error_of(&[("clientSecret", "\n")]), SecretError::NoClientAuth { present: present.clone() });
    assert_eq!(error_of(&[secret, ("privateKey", &RSA)]), SecretError::TwoClientAuths);
    assert_eq!(error_of(&[secret, ("domain", "")]), SecretError::Missing { key: "domain", present: present.clone() });
    assert_eq!(error_of(&[secret, ("clientId", "")]), SecretError::Missing { key: "clientId", present });
    for algorithm in ["HS256", "rs256", "RS512", "none"] {
        assert_eq!(error_of(&[("privateKey", &RSA), ("signingAlgorithm", algorithm)]), SecretError::SigningAlgorithm);
    }
}

#[test]
fn private_key_that_cannot_sign_is_an_error() {
    let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let torn = RSA.lines().take(5).collect::<Vec<_>>().join("\n");
    for key in ["no", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &elliptic, &torn] {
        assert_eq!(error_of(&[("privateKey", key)]), SecretError::PrivateKey);
    }
}

#[test]
fn secret_of_another_type_is_an_error() {
    let entries = data(&[("domain", "acme.eu.auth0.com"), ("clientId", "machine"), ("clientSecret", "s3cret")]);
    for type_ in ["Opaque", "", CALLERS_TYPE] {
        let error = Credentials::from_secret(type_, &entries).map(|_| ()).unwrap_err();
        assert_eq!(error, SecretError::Type { expected: CREDENTIALS_TYPE, found: type_.to_owned() });
    }
    assert!(CallerTokens::from_secret(CREDENTIALS_TYPE, &entries).is_err());
}

#[test]
fn value_that_is_not_text_is_named_by_its_key() {
    let mut entries = data(&BASE);
    entries.insert("clientSecret".to_owned(), vec![0xff]);
    let error = Credentials::from_secret(CREDENTIALS_TYPE, &entries).map(|_| ()).unwrap_err();
    assert_eq!(error, SecretError::NotText { key: "clientSecret".to_owned() });
}

#[test]
fn messages_and_debug_output_never_contain_a_value() {
    let values = ["s3cret-value", "privat3", "alg0", "shor7"];
    let errors = [
        error_of(&[("clientSecret", values[0]), ("privateKey", values[1])]),
        error_of(&[("privateKey", values[1])]),
        error_of(&[("privateKey", &RSA), ("signingAlgorithm", values[2])]),
        Caller::new("one", values[3]).unwrap_err(),
    ];
    let credentials = read(&[("clientSecret", values[0])]).unwrap();
    let fingerprint = credentials.fingerprint();
    let shown =
        format!("{errors:?} {} {credentials:?} {fingerprint:?}", errors.each_ref().map(ToString::to_string).concat());
    for value in values {
        assert!(!shown.contains(value), "{shown}");
    }
}

#[test]
fn credential_is_allowed_for_the_domains_of_its_secret() {
    let plain = read(&[("clientSecret", "s3cret")]).unwrap();
    assert_eq!(plain.allows("ACME.eu.auth0.com", None), Ok(()));
    assert!(plain.allows("evil.example", None).is_err());
    assert!(plain.allows("acme.eu.auth0.com", Some("evil.example")).is_err());

    let custom = read(&[("clientSecret", "s3cret"), ("customDomain", "Login.Acme.com")]).unwrap();
    assert_eq!(custom.allows("acme.eu.auth0.com", None), Ok(()), "the policy does not have to use the custom domain");
    assert_eq!(custom.allows("acme.eu.auth0.com", Some("login.ACME.com")), Ok(()));
    assert!(custom.allows("acme.eu.auth0.com", Some("evil.example")).is_err());
}

#[test]
fn fingerprint_changes_with_every_part_and_nothing_else() {
    let secret = [("clientSecret", "s3cret")];
    let same = read(&[("clientSecret", "s3cret\n"), ("domain", "acme.EU.auth0.com"), ("customDomain", "")]).unwrap();
    assert_eq!(read(&secret).unwrap().fingerprint(), same.fingerprint());

    let key = ("privateKey", RSA.as_str());
    let all = [
        read(&secret),
        read(&[("clientSecret", "other")]),
        read(&[secret[0], ("clientId", "other")]),
        read(&[secret[0], ("domain", "other.eu.auth0.com")]),
        read(&[secret[0], ("customDomain", "login.acme.com")]),
        read(&[secret[0], ("domain", "acme.eu.auth0.comm"), ("clientId", "achine")]),
        read(&[key]),
        read(&[key, ("signingAlgorithm", "PS256")]),
        read(&[key, ("keyId", "k1")]),
    ]
    .map(|credentials| credentials.unwrap().fingerprint());
    for (i, one) in all.iter().enumerate() {
        assert!(!all[i + 1..].contains(one), "{i}");
    }
}

#[test]
fn short_token_is_rejected_and_the_others_are_trimmed() {
    let entries = data(&[
        ("current", " 0123456789abcdef\n"),
        ("next", "  0123456789abcde  "),
        ("token-2", "ffffffffffffffffffff"),
    ]);
    let read = CallerTokens::from_secret(CALLERS_TYPE, &entries).unwrap();
    let tokens: Vec<_> = read.callers.iter().map(|c| (c.name.as_str(), c.token.expose_secret())).collect();
    assert_eq!(tokens, [("current", "0123456789abcdef"), ("token-2", "ffffffffffffffffffff")]);
    assert_eq!(read.rejected, [SecretError::ShortToken { name: "next".to_owned() }]);
}

#[test]
fn token_length_is_counted_in_characters() {
    assert!(matches!(Caller::new("a", &"£".repeat(15)), Err(SecretError::ShortToken { .. })));
    assert!(Caller::new("a", &"x".repeat(16)).is_ok());
}

#[test]
fn token_that_no_header_can_carry_is_rejected() {
    for token in ["£".repeat(16), "sixteen characters".to_owned(), "sixteen\tcharacters".to_owned()] {
        assert!(matches!(Caller::new("a", &token), Err(SecretError::UnsendableToken { .. })), "{token}");
    }
}

#[test]
fn only_some_keys_of_a_callers_secret_are_for_tokens() {
    for key in ["token", "token-", "token-1", "action", "action-shop", "current", "previous", "next"] {
        assert!(is_token_key(key), "{key}");
    }
    for key in ["", "tokens", "Token", "actions", "currently", "description", "next-1", "domain"] {
        assert!(!is_token_key(key), "{key}");
    }
    let entries = data(&[("current", "0123456789abcdef"), ("url", "https://wiki.acme.com/"), ("note", "not a token")]);
    let read = CallerTokens::from_secret(CALLERS_TYPE, &entries).unwrap();
    assert_eq!((read.callers.len(), read.rejected.len()), (2, 0));
    assert_eq!(read.other_keys, ["note", "url"]);
}

#[test]
fn private_key_with_written_line_ends_is_read() {
    let expected = read(&[("privateKey", &RSA)]).unwrap().fingerprint();
    for line_end in ["\\n", "\\r\\n", "\\n\n"] {
        let written = RSA.trim_end().replace('\n', line_end);
        assert_eq!(read(&[("privateKey", &written)]).unwrap().fingerprint(), expected, "{line_end:?}");
    }
}

#[test]
fn value_with_white_space_or_quotes_is_suspect() {
    for (entries, expected) in [
        (vec![("clientSecret", "s3cret\n")], vec![]),
        (vec![("clientSecret", " s3cret")], vec!["clientSecret"]),
        (vec![("clientSecret", "s3\ncret")], vec!["clientSecret"]),
        (vec![("clientSecret", "'s3cret'"), ("clientId", "\"machine\"")], vec!["clientId", "clientSecret"]),
        (vec![("privateKey", RSA.as_str()), ("keyId", "k 1")], vec!["keyId"]),
    ] {
        assert_eq!(read(&entries).unwrap().suspect_keys(), expected, "{entries:?}");
    }
}

#[test]
fn key_by_another_spelling_is_named_with_the_right_one() {
    let message = |keys: &[&str]| {
        let data = keys.iter().map(|key| ((*key).to_owned(), b"acme.eu.auth0.com".to_vec())).collect();
        Credentials::from_secret(CREDENTIALS_TYPE, &data).err().unwrap().to_string()
    };
    let said = message(&["AUTH0_DOMAIN", "client_id", "client-secret", "note"]);
    for words in
        ["rename AUTH0_DOMAIN to domain", "rename client_id to clientId", "rename client-secret to clientSecret"]
    {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("rename note"), "{said}");
    let said = message(&["domain", "client_id", "clientSecret"]);
    assert!(
        said.starts_with("the key \"clientId\" is missing") && said.contains("rename client_id to clientId"),
        "{said}"
    );
    let said = message(&["domain", "clientId", "CLIENT_SECRET"]);
    assert!(said.starts_with("neither") && said.ends_with("; rename CLIENT_SECRET to clientSecret"), "{said}");
    assert!(!message(&["domain", "clientSecret"]).contains("rename"));
}
