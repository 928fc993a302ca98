//! The simulated tenant. It is a separate process, so that the CPU time of the other processes does not include its work. It
//! prints one line of JSON when it serves and one for each line that it reads from its parent. It ends with its standard input.

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
use simulator::{Application, Fault, Operation, Options, Session, Simulator, Tls};

use crate::{
    Result,
    process::{self, Process},
};

/// The first argument that makes this program the tenant; the second is the directory for the CA's certificate.
pub const ARGUMENT: &str = "tenant";
/// With this many users, checks of the same user are so rare that none reuses an earlier list. Their sessions do not use the
/// application, so each check needs a list.
pub const USERS: u32 = 50_000;
/// Users whose only session uses the application already, so that what the service remembers allows it again. Their numbers follow
/// those of the [`USERS`]. Few, so that each needs a list only once.
pub const HOLDERS: u32 = 100;
/// Every user whose number this divides has a session of the application already, and is blocked.
pub const BLOCKED_EVERY: u32 = 10;
/// The tenant's canonical domain.
pub const DOMAIN: &str = "bench.eu.auth0.com";
/// The application that users log in to.
pub const APPLICATION: &str = "bench-application";
/// The client id of the service's machine-to-machine application.
pub const CLIENT_ID: &str = "bench-session-checker";
/// The client secret of that application. It opens nothing but the simulated tenant.
pub const CLIENT_SECRET: &str = "bench-client-secret-of-a-simulated-tenant";

/// What the parent writes to let lists wait.
const HOLD: &str = "hold";
/// What the parent writes to answer them.
const RELEASE: &str = "release";

/// What the child prints once it serves.
#[derive(Serialize, Deserialize)]
struct Serving {
    url: String,
    /// An access token for nginx.
    token: String,
}

/// Numbers of requests that the tenant has answered.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Counters {
    /// `GET /api/v2/users/{id}/sessions`.
    pub lists: u64,
    /// `POST /oauth/token`.
    pub tokens: u64,
}

/// The parent's side of the tenant.
pub struct Tenant {
    /// The URL of the tenant: `https://127.0.0.1:PORT`.
    pub url: String,
    /// A token for the Management API.
    pub token: String,
    /// The certificate file of the CA that signed the tenant's certificate.
    pub ca: PathBuf,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _process: Process,
}

impl Tenant {
    /// Starts the child and waits until it serves.
    pub fn start(directory: &Path) -> Result<Self> {
        let mut command = process::command(&env::current_exe()?);
        let (process, stdin, stdout) = Process::start_piped(command.arg(ARGUMENT).arg(directory))?;
        let mut stdout = BufReader::new(stdout);
        let Serving { url, token } = read_line(&mut stdout)?;
        Ok(Self { url, token, ca: certificate(directory), stdin, stdout, _process: process })
    }

    /// The numbers of requests up to now.
    pub fn counters(&mut self) -> Result<Counters> {
        self.tell("counters")
    }

    /// Lets lists wait from now on.
    pub fn hold(&mut self) -> Result<()> {
        self.tell(HOLD).map(drop)
    }

    /// Answers the lists that wait, and all others.
    pub fn release(&mut self) -> Result<()> {
        self.tell(RELEASE).map(drop)
    }

    fn tell(&mut self, word: &str) -> Result<Counters> {
        writeln!(self.stdin, "{word}")?;
        read_line(&mut self.stdout)
    }
}

fn read_line<T: for<'a> Deserialize<'a>>(stdout: &mut impl BufRead) -> Result<T> {
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|error| format!("unexpected line of the tenant {line:?}: {error}").into())
}

fn certificate(directory: &Path) -> PathBuf {
    directory.join("ca.pem")
}

/// The user's id in the tenant.
pub fn user_id(user: u32) -> String {
    format!("auth0|{user:06}")
}

/// The id of one of the user's sessions. Session 0 is that of the checked login.
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
    print_line(&Serving { url: simulator.url(), token })?;
    for request in io::stdin().lines() {
        match &*request? {
            HOLD => drop(simulator.fault(Operation::List, Fault::Hang)),
            RELEASE => simulator.clear_faults(),
            _ => {}
        }
        print_line(&Counters { lists: simulator.count(Operation::List), tokens: simulator.count(Operation::Token) })?;
    }
    Ok(())
}

fn print_line(line: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(io::stdout().flush()?)
}

/// Adds the users' sessions. Each user has a session that is logging in (without applications) and a session of two other
/// applications. For one user in [`BLOCKED_EVERY`], the second session also has the application of the login.
/// The [`HOLDERS`] have one session, with the application.
fn populate(simulator: &Simulator) {
    let now = Timestamp::now();
    simulator.add_application(Application::with_secret(CLIENT_ID, CLIENT_SECRET));
    for user in 0..USERS {
        let id = user_id(user);
        let other = Session::new(session_id(user, 1), now).client("mail").client("calendar");
        let other = if user.is_multiple_of(BLOCKED_EVERY) { other.client(APPLICATION) } else { other };
        simulator.add_session(&id, other);
        simulator.add_session(&id, Session::new(session_id(user, 0), now));
    }
    for user in USERS..USERS + HOLDERS {
        simulator.add_session(&user_id(user), Session::new(session_id(user, 0), now).client(APPLICATION));
    }
}

/// Creates a CA, writes its certificate to the directory, and signs a certificate for loopback.
fn tls(directory: &Path) -> Result<Tls> {
    let mut ca = CertificateParams::default();
    // Without a different name, the CA's certificate would have the same subject as the certificate that it signs.
    ca.distinguished_name.push(DnType::CommonName, "CA of the load benchmark");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    fs::write(certificate(directory), ca.pem())?;
    let key = KeyPair::generate()?;
    let names = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let certificate = names.signed_by(&key, &ca)?;
    Ok(Tls { certificate: certificate.pem(), key: key.serialize_pem().into() })
}

/// Fetches an access token by the client credentials grant, like the service.
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
