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

fn refusal(more: &[(&str, &str)]) -> SecretError {
    read(more).map(|_| ()).unwrap_err()
}

#[test]
fn a_client_secret_is_read_without_the_line_end_of_an_editor() {
    let credentials = read(&[("clientSecret", "  s3cret \n")]).unwrap();
    assert_eq!(credentials.domain, "acme.eu.auth0.com");
    assert_eq!((credentials.custom_domain.as_deref(), credentials.client_id.as_str()), (None, "machine"));
    let ClientAuth::ClientSecret(secret) = &credentials.client_auth else { panic!("not a client secret") };
    assert_eq!(secret.expose_secret(), "  s3cret ");
}

#[test]
fn a_private_key_signs_with_rs256_unless_the_secret_says_otherwise() {
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
fn the_first_thing_wrong_is_named() {
    let secret = ("clientSecret", "s3cret");
    assert_eq!(refusal(&[]), SecretError::NoProof);
    assert_eq!(refusal(&[("clientSecret", "\n")]), SecretError::NoProof);
    assert_eq!(refusal(&[secret, ("privateKey", &RSA)]), SecretError::TwoProofs);
    assert_eq!(refusal(&[secret, ("domain", "")]), SecretError::Missing { key: "domain" });
    assert_eq!(refusal(&[secret, ("clientId", "")]), SecretError::Missing { key: "clientId" });
    for algorithm in ["HS256", "rs256", "RS512", "none"] {
        assert_eq!(refusal(&[("privateKey", &RSA), ("signingAlgorithm", algorithm)]), SecretError::SigningAlgorithm);
    }
}

#[test]
fn a_private_key_that_could_not_sign_is_refused_at_once() {
    let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let torn = RSA.lines().take(5).collect::<Vec<_>>().join("\n");
    for key in ["no", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &elliptic, &torn] {
        assert_eq!(refusal(&[("privateKey", key)]), SecretError::PrivateKey);
    }
}

#[test]
fn another_type_of_secret_is_never_used() {
    let entries = data(&[("domain", "acme.eu.auth0.com"), ("clientId", "machine"), ("clientSecret", "s3cret")]);
    for type_ in ["Opaque", "", CALLERS_TYPE] {
        let refused = Credentials::from_secret(type_, &entries).map(|_| ()).unwrap_err();
        assert_eq!(refused, SecretError::Type { expected: CREDENTIALS_TYPE, found: type_.to_owned() });
    }
    assert!(CallerTokens::from_secret(CREDENTIALS_TYPE, &entries).is_err());
}

#[test]
fn a_value_that_is_not_text_is_named_by_its_key() {
    let mut entries = data(&BASE);
    entries.insert("clientSecret".to_owned(), vec![0xff]);
    let refused = Credentials::from_secret(CREDENTIALS_TYPE, &entries).map(|_| ()).unwrap_err();
    assert_eq!(refused, SecretError::NotText { key: "clientSecret".to_owned() });
}

#[test]
fn no_message_and_no_debug_output_repeats_a_value() {
    let values = ["s3cret-value", "privat3", "alg0", "shor7"];
    let refused = [
        refusal(&[("clientSecret", values[0]), ("privateKey", values[1])]),
        refusal(&[("privateKey", values[1])]),
        refusal(&[("privateKey", &RSA), ("signingAlgorithm", values[2])]),
        Caller::new("one", values[3]).unwrap_err(),
    ];
    let credentials = read(&[("clientSecret", values[0])]).unwrap();
    let fingerprint = credentials.fingerprint();
    let shown =
        format!("{refused:?} {} {credentials:?} {fingerprint:?}", refused.each_ref().map(ToString::to_string).concat());
    for value in values {
        assert!(!shown.contains(value), "{shown}");
    }
}

#[test]
fn the_secrets_owner_says_where_it_may_be_sent() {
    let plain = read(&[("clientSecret", "s3cret")]).unwrap();
    assert_eq!(plain.allows("ACME.eu.auth0.com", None), Ok(()));
    assert!(plain.allows("evil.example", None).is_err());
    assert!(plain.allows("acme.eu.auth0.com", Some("evil.example")).is_err());

    let custom = read(&[("clientSecret", "s3cret"), ("customDomain", "Login.Acme.com")]).unwrap();
    assert_eq!(custom.allows("acme.eu.auth0.com", None), Ok(()), "an unused custom domain is no harm");
    assert_eq!(custom.allows("acme.eu.auth0.com", Some("login.ACME.com")), Ok(()));
    assert!(custom.allows("acme.eu.auth0.com", Some("evil.example")).is_err());
}

#[test]
fn a_fingerprint_changes_with_every_part_and_with_nothing_else() {
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
fn callers_are_trimmed_and_a_short_one_is_refused_alone() {
    let entries = data(&[("a", " 0123456789abcdef\n"), ("b", "  0123456789abcde  "), ("c", "ffffffffffffffffffff")]);
    let read = CallerTokens::from_secret(CALLERS_TYPE, &entries).unwrap();
    let tokens: Vec<_> = read.callers.iter().map(|c| (c.name.as_str(), c.token.expose_secret())).collect();
    assert_eq!(tokens, [("a", "0123456789abcdef"), ("c", "ffffffffffffffffffff")]);
    assert_eq!(read.refused, [SecretError::ShortToken { name: "b".to_owned() }]);
}

#[test]
fn a_callers_length_is_counted_in_characters() {
    assert!(matches!(Caller::new("a", &"£".repeat(15)), Err(SecretError::ShortToken { .. })));
    assert!(Caller::new("a", &"x".repeat(16)).is_ok());
}

#[test]
fn a_callers_token_that_no_header_could_carry_is_refused() {
    for token in ["£".repeat(16), "sixteen characters".to_owned(), "sixteen\tcharacters".to_owned()] {
        assert!(matches!(Caller::new("a", &token), Err(SecretError::UnfitToken { .. })), "{token}");
    }
}
