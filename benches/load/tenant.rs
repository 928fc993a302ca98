//! The simulated tenant, in a process of its own so that its work is nobody else's CPU time. The parent asks over its
//! pipes: one line of JSON when it serves, one more for each line read, and it ends when its input does.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout},
};

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use simulator::{Application, Operation, Options, Session, Simulator, Tls};

use crate::{
    Result,
    process::{self, Process},
};

/// The first argument that makes this program the tenant; the second is the directory for the CA's certificate.
pub const ARGUMENT: &str = "tenant";
/// So many that nobody is asked about often enough to be answered from an earlier list.
pub const USERS: u32 = 50_000;
/// Every user whose number this divides already has the application, and is refused.
pub const REFUSED_EVERY: u32 = 10;
/// The tenant's canonical domain.
pub const DOMAIN: &str = "bench.eu.auth0.com";
/// The application that logs in.
pub const APPLICATION: &str = "bench-application";
/// The machine-to-machine application of the service.
pub const CLIENT_ID: &str = "bench-session-checker";
/// Its secret, as secret as the simulated tenant.
pub const CLIENT_SECRET: &str = "bench-client-secret-of-a-simulated-tenant";

/// What the child says once it serves.
#[derive(Serialize, Deserialize)]
struct Serving {
    url: String,
    /// A token for nginx.
    token: String,
}

/// Requests that the tenant has answered so far.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Counters {
    /// `GET /api/v2/users/{id}/sessions`.
    pub lists: u64,
    /// `POST /oauth/token`.
    pub tokens: u64,
}

/// The parent's side of the tenant.
pub struct Tenant {
    /// Where it serves: `https://127.0.0.1:PORT`.
    pub url: String,
    /// A token for the Management API.
    pub token: String,
    /// The certificate of the CA that signed the tenant's.
    pub ca: PathBuf,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    _process: Process,
}

impl Tenant {
    /// Starts the child and waits until it serves.
    pub fn start(directory: &Path) -> Result<Self> {
        let mut command = process::command(&env::current_exe()?);
        let (process, questions, answers) = Process::start_piped(command.arg(ARGUMENT).arg(directory))?;
        let mut answers = BufReader::new(answers);
        let Serving { url, token } = read_line(&mut answers)?;
        Ok(Self { url, token, ca: certificate(directory), questions, answers, _process: process })
    }

    /// What it has been asked so far.
    pub fn counters(&mut self) -> Result<Counters> {
        writeln!(self.questions, "counters")?;
        read_line(&mut self.answers)
    }
}

fn read_line<T: for<'a> Deserialize<'a>>(answers: &mut impl BufRead) -> Result<T> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|error| format!("the tenant said {line:?}: {error}").into())
}

fn certificate(directory: &Path) -> PathBuf {
    directory.join("ca.pem")
}

/// The user's id in the tenant.
pub fn user_id(user: u32) -> String {
    format!("auth0|{user:06}")
}

/// The id of one of the user's sessions; the first is the one of the login that is checked.
pub fn session_id(user: u32, session: u32) -> String {
    format!("sid-{user:06}-{session}")
}

/// The child's side: serves the tenant until standard input ends.
pub fn serve() -> Result<()> {
    let directory = PathBuf::from(env::args_os().nth(2).ok_or("the tenant needs a directory")?);
    let runtime = tokio::runtime::Runtime::new()?;
    let options = Options { tls: Some(tls(&directory)?), recorded_requests: 0, ..Options::new(DOMAIN) };
    let simulator = runtime.block_on(Simulator::start(options))?;
    populate(&simulator);
    let token = runtime.block_on(token(&simulator, &directory))?;
    say(&Serving { url: simulator.url(), token })?;
    for limit_check in io::stdin().lines() {
        limit_check?;
        say(&Counters { lists: simulator.count(Operation::List), tokens: simulator.count(Operation::Token) })?;
    }
    Ok(())
}

fn say(line: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(io::stdout().flush()?)
}

/// Each user is logging in (a session without applications), is active in two other applications, and one in
/// [`REFUSED_EVERY`] is in this one already.
fn populate(simulator: &Simulator) {
    let now = Timestamp::now();
    simulator.add_application(Application::with_secret(CLIENT_ID, CLIENT_SECRET));
    for user in 0..USERS {
        let id = user_id(user);
        let other = Session::new(session_id(user, 1), now).client("mail").client("calendar");
        let other = if user.is_multiple_of(REFUSED_EVERY) { other.client(APPLICATION) } else { other };
        simulator.add_session(&id, other);
        simulator.add_session(&id, Session::new(session_id(user, 0), now));
    }
}

/// Makes a CA, leaves its certificate in the directory, and signs a certificate for loopback.
fn tls(directory: &Path) -> Result<Tls> {
    let mut ca = CertificateParams::default();
    // Without a name of its own it would look like the certificate that it signs.
    ca.distinguished_name.push(DnType::CommonName, "CA of the load benchmark");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    fs::write(certificate(directory), ca.pem())?;
    let key = KeyPair::generate()?;
    let names = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = names.signed_by(&key, &ca)?;
    Ok(Tls { certificate: certificate.pem(), key: key.serialize_pem().into() })
}

/// Fetches a token as the service does.
async fn token(simulator: &Simulator, directory: &Path) -> Result<String> {
    let ca = reqwest::Certificate::from_pem(&fs::read(certificate(directory))?)?;
    let client = reqwest::Client::builder().tls_certs_only([ca]).build()?;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("audience", &format!("https://{DOMAIN}/api/v2/")),
    ];
    let answer = client.post(format!("{}/oauth/token", simulator.url())).form(&form).send().await?;
    let answer: Value = answer.error_for_status()?.json().await?;
    answer["access_token"].as_str().map(str::to_owned).ok_or_else(|| format!("no token in {answer}").into())
}
