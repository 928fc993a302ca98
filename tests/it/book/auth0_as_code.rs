//! The examples that set up a tenant: the scopes are those that the strategies need, and the Action comes last.

use serde_json::Value;
use session_checker::policy::Strategy;

const TERRAFORM: &str = include_str!("../../../examples/terraform/main.tf");
const DEPLOY_CLI: &str = include_str!("../../../examples/deploy-cli/tenant.yaml");
const ACTION: &str = include_str!("../../../examples/auth0-action/session-limit.js");

const STRATEGIES: [Strategy; 5] = [
    Strategy::Deny,
    Strategy::RevokeOldest,
    Strategy::RevokeLeastRecentlyUsed,
    Strategy::RevokeNextToExpire,
    Strategy::Ask,
];

/// The names of secrets that the head of the Action documents.
fn documented_secrets() -> Vec<&'static str> {
    let words = ACTION.split("exports.").next().unwrap().split_whitespace();
    words.filter(|word| word.len() > 5 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')).collect()
}

#[test]
fn terraform_grants_the_scopes_of_the_strategy() {
    let quoted = |scopes: &[&str]| format!("{scopes:?}");
    let [deny, revoke] = [Strategy::Deny, Strategy::RevokeOldest].map(Strategy::oauth_scopes);
    let chosen = format!("var.strategy == \"Deny\" ? {} : {}\n", quoted(deny), quoted(revoke));
    assert!(TERRAFORM.contains(&chosen), "{chosen}");
    for strategy in STRATEGIES {
        assert!(TERRAFORM.contains(&format!("\"{strategy:?}\"")), "{strategy:?} can be chosen");
        assert_eq!(strategy.oauth_scopes(), if strategy == Strategy::Deny { deny } else { revoke });
    }
    // Appends to the flow, and depends on what the service needs.
    let (_, binding) = TERRAFORM.split_once("resource \"auth0_trigger_action\"").unwrap();
    assert!(binding.contains("depends_on = [auth0_client_grant.session_checker"), "{binding}");
}

#[test]
fn deploy_cli_grants_the_scopes_of_the_strategy() {
    let tenant: Value = serde_saphyr::from_str(DEPLOY_CLI).unwrap();
    assert_eq!(tenant["clientGrants"][0]["scope"], serde_json::json!(Strategy::RevokeOldest.oauth_scopes()));
    let [deny] = Strategy::Deny.oauth_scopes() else { panic!("one scope") };
    assert!(DEPLOY_CLI.contains(&format!("With strategy Deny, {deny} alone.")));
    let flow = tenant["triggers"]["post-login"].as_array().unwrap();
    assert_eq!(flow.last().unwrap()["action_name"], tenant["actions"][0]["name"]);
}

#[test]
fn examples_of_a_tenant_set_secrets_that_the_action_reads() {
    let known = documented_secrets();
    assert!(known.contains(&"ERROR_CODE"), "{known:?}");
    let tenant: Value = serde_saphyr::from_str(DEPLOY_CLI).unwrap();
    for secret in tenant["actions"][0]["secrets"].as_array().unwrap() {
        let name = secret["name"].as_str().unwrap();
        assert!(known.contains(&name), "{name}");
        assert_eq!(secret["value"], format!("##{name}##"));
        assert!(TERRAFORM.contains(&format!("name  = \"{name}\"")), "{name}");
    }
}
