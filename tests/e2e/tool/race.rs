//! Sends simultaneous logins of one user, each over a new connection, which a Service distributes to different Pods. The limit is
//! one, so with a shared ledger exactly one login is allowed.

use std::error::Error;
use std::time::Duration;

use clap::Args;
use futures::future::try_join_all;
use reqwest::{Client, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::load::answer;

#[derive(Args)]
pub struct RaceArgs {
    /// The URL of the service, without a path.
    #[arg(long)]
    url: String,
    #[arg(long, env = "TOKEN")]
    token: String,
    /// Number of users, who log in one after the other.
    #[arg(long, default_value_t = 50)]
    users: u32,
    /// Number of simultaneous logins of each user.
    #[arg(long, default_value_t = 8)]
    logins: u32,
}

/// Prints how many users were allowed more than once, and how many were never allowed.
pub async fn run(args: &RaceArgs) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().timeout(Duration::from_secs(5)).pool_max_idle_per_host(0).build()?;
    let (mut more, mut none) = (0, 0);
    for _ in 0..args.users {
        let user = format!("auth0|race-{}", Uuid::new_v4());
        let logins = (0..args.logins).map(|n| {
            let login = json!({ "user_id": user, "client_id": "e2e-app", "sid": format!("{n}-{user}") });
            let client = &client;
            async move { answer(client, &args.url, &args.token, &login).await }
        });
        let mut allowed = 0;
        for (status, reason) in try_join_all(logins).await? {
            match (status, reason.as_str()) {
                (StatusCode::OK, "within_limit") => allowed += 1,
                (StatusCode::OK, "limit_exceeded") => {}
                _ => return Err(format!("{status}, reason {reason:?}").into()),
            }
        }
        more += u32::from(allowed > 1);
        none += u32::from(allowed == 0);
    }
    println!("users={} allowed_more_than_once={more} never_allowed={none}", args.users);
    Ok(())
}
