//! How a Redis is found and logged in to: Sentinels, a private CA, a password in a file.

use std::collections::BTreeSet;
use std::time::Duration;

use rcgen::CertificateParams;
use secrecy::SecretString;
use session_checker::redis::{Redis, RedisAddress};

use super::redis::PATIENT;
use crate::authority::Authority;
use crate::common::{eventually, provider};
use crate::ports::free_port;
use crate::redis_server::RedisServer;

async fn connect(address: RedisAddress) -> Redis {
    Redis::connect(address, Some(b"key"), PATIENT).await.unwrap()
}

async fn works(redis: &Redis) -> bool {
    redis.read("a name").await.is_some()
}

#[tokio::test]
async fn master_that_sentinels_name_is_used_and_followed() {
    let Some(first) = RedisServer::start().await else { return };
    let second = RedisServer::start_with(&["--replicaof", "127.0.0.1", &first.port().to_string()]).await.unwrap();
    let sentinel = RedisServer::sentinel("sessions", first.port()).await;
    let mut address = RedisAddress::from_url(format!("{}, redis://127.0.0.1:1", sentinel.url("redis")));
    address.sentinel_master = Some("sessions".to_owned());
    let redis = connect(address).await;
    assert!(!redis.is_degraded());
    assert!(redis.compare_exchange("u1", 0, 1, "text", Duration::from_secs(60)).await.unwrap().is_ok());
    assert!(first.dump().contains("text"));

    eventually("the replica follows", async || second.dump().contains("text")).await;
    // The Sentinel learns of the replica by itself; before that it has nothing to promote.
    eventually("the Sentinel begins a failover", async || {
        sentinel.ask(&["SENTINEL", "FAILOVER", "sessions"]).starts_with("OK")
    })
    .await;
    eventually("the second is the master", async || second.ask(&["ROLE"]).starts_with("master")).await;
    eventually("the first is a replica", async || first.ask(&["ROLE"]).starts_with("slave")).await;
    // The connection to the first is open, and its answer says that it is the wrong node.
    assert!(redis.compare_exchange("u2", 0, 1, "text", Duration::from_secs(60)).await.is_none());
    eventually("the new master is used", async || !redis.is_degraded()).await;
    assert!(redis.compare_exchange("u3", 0, 1, "later", Duration::from_secs(60)).await.unwrap().is_ok());
    assert!(second.dump().contains("later"));
}

#[tokio::test]
async fn unknown_master_is_degraded_and_not_another_server() {
    let Some(server) = RedisServer::start().await else { return };
    let sentinel = RedisServer::sentinel("sessions", server.port()).await;
    let mut address = RedisAddress::from_url(sentinel.url("redis"));
    address.sentinel_master = Some("another".to_owned());
    assert!(connect(address).await.is_degraded());
}

#[tokio::test]
async fn password_of_any_characters_is_read_from_a_file_at_each_connection() {
    const FIRST: &str = "p@ss/w#rd, with ? and %";
    const SECOND: &str = "another-password";
    let Some(server) = RedisServer::start_with(&["--requirepass", FIRST]).await else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{FIRST}\n")).unwrap();
    let mut address = RedisAddress::from_url(server.url("redis"));
    address.password_file = Some(file.path().to_owned());
    let redis = connect(address).await;
    assert!(works(&redis).await);

    // As a rotation does: the server takes the new password, ends what used the old one, and the file follows.
    server.ask_as(Some(FIRST), &["CONFIG", "SET", "requirepass", SECOND]);
    std::fs::write(file.path(), SECOND).unwrap();
    server.ask_as(Some(SECOND), &["CLIENT", "KILL", "TYPE", "normal"]);
    assert!(!works(&redis).await);
    eventually("the new password is used", async || !redis.is_degraded()).await;
    assert!(works(&redis).await);
}

#[tokio::test]
async fn acl_user_of_the_option_replaces_the_user_of_the_url() {
    let Some(server) = RedisServer::start().await else { return };
    server.ask(&["ACL", "SETUSER", "checker", "on", ">secret", "~*", "+@all"]);
    server.ask(&["ACL", "SETUSER", "default", "off"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret").unwrap();
    let mut address = RedisAddress::from_url(format!("redis://nobody:wrong@127.0.0.1:{}", server.port()));
    address.user = Some("checker".to_owned());
    address.password_file = Some(file.path().to_owned());
    assert!(works(&connect(address).await).await);
}

/// The command in docs/operations.md that permits an ACL user what the service needs.
fn documented_acl() -> Vec<String> {
    let page = include_str!("../../../docs/operations.md");
    let (_, rest) = page.split_once("```text\nACL SETUSER ").unwrap();
    let words = rest.split("```").next().unwrap().split_whitespace().map(str::to_owned);
    ["ACL", "SETUSER"].map(str::to_owned).into_iter().chain(words).collect()
}

/// The commands of Redis in the scripts below a folder.
fn scripted(folder: &std::path::Path, commands: &mut BTreeSet<String>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            scripted(&path, commands);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let text = text.replace("typed('", "redis.call('");
        let calls = text.split("redis.call('").skip(1).map(|rest| rest.split('\'').next().unwrap());
        commands.extend(calls.map(|command| format!("+{}", command.to_lowercase())));
    }
}

#[test]
fn documented_acl_permits_exactly_the_commands_of_the_scripts() {
    let mut needed = BTreeSet::from(["+evalsha".to_owned(), "+script|load".to_owned()]);
    scripted(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut needed);
    assert!(needed.len() > 10, "{needed:?}");
    let permitted: BTreeSet<_> = documented_acl().into_iter().filter(|word| word.starts_with('+')).collect();
    assert_eq!(permitted, needed);
}

#[tokio::test]
async fn user_of_the_documented_acl_reads_and_writes_the_ledger() {
    let Some(server) = RedisServer::start().await else { return };
    let acl = documented_acl();
    server.ask(&acl.iter().map(String::as_str).collect::<Vec<_>>());
    let password = acl.iter().find_map(|word| word.strip_prefix('>')).unwrap();
    let address = format!("redis://session-checker:{password}@127.0.0.1:{}", server.port());
    let redis = connect(RedisAddress::from_url(address)).await;
    assert!(!redis.is_degraded());
    assert!(redis.compare_exchange("u1", 0, 1, "text", Duration::from_secs(60)).await.unwrap().is_ok());
    assert!(redis.compare_exchange("u1", 1, 2, "", Duration::ZERO).await.unwrap().is_ok());
    assert!(works(&redis).await);
}

#[tokio::test]
async fn servers_of_a_private_ca_are_trusted_by_its_file_alone() {
    provider();
    let ca = Authority::new();
    let (certificate, key) = ca.sign(CertificateParams::new(["127.0.0.1".to_owned()]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca.pem"), &ca.pem).unwrap();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let port = free_port();
    let [ca_file, cert_file, key_file] = ["ca.pem", "cert.pem", "key.pem"].map(|name| path(name).display().to_string());
    let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", &cert_file, "--tls-key-file", &key_file];
    let options = [&tls[..], &["--tls-ca-cert-file", &ca_file, "--tls-auth-clients", "no"]].concat();
    let Some(_server) = RedisServer::start_with(&options).await else { return };
    let mut address = RedisAddress::from_url(format!("rediss://127.0.0.1:{port}"));
    assert!(connect(address.clone()).await.is_degraded(), "the system does not know the CA");
    // The file is read at each connection.
    std::fs::write(path("changed.pem"), Authority::new().pem).unwrap();
    address.ca_file = Some(path("changed.pem"));
    let redis = connect(address).await;
    assert!(redis.is_degraded(), "the file has another CA");
    std::fs::write(path("changed.pem"), ca.pem).unwrap();
    eventually("the new CA is trusted", async || !redis.is_degraded()).await;
    assert!(works(&redis).await);
}

#[tokio::test]
async fn options_that_cannot_work_are_named() {
    let address = RedisAddress::from_url("redis://user:very-secret@127.0.0.1:1");
    let missing = std::path::PathBuf::from("/nowhere/file");
    let cases = [
        (RedisAddress { ca_file: Some(missing.clone()), ..address.clone() }, "--ledger-ca-file is for rediss:// URLs"),
        (
            RedisAddress { password_file: Some(missing.clone()), ..address.clone() },
            "--ledger-password-file /nowhere/file: No such file",
        ),
        (
            RedisAddress { url: SecretString::from("rediss://127.0.0.1:1"), ca_file: Some(missing), ..address.clone() },
            "--ledger-ca-file /nowhere/file: No such file",
        ),
        (
            RedisAddress { url: "unix:/tmp/redis.sock".into(), sentinel_master: Some("one".to_owned()), ..address },
            "--ledger-sentinel-master needs the URLs of Sentinels",
        ),
    ];
    for (address, expected) in cases {
        let Err(error) = Redis::connect(address, None, PATIENT).await else { panic!("no error: {expected}") };
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains("very-secret"), "{error}");
    }
}
