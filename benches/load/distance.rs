//! A tenant that is far away: a TCP relay that holds every byte back for half a round trip, in both directions.
//!
//! What a person waits for at a login are round trips. After a quiet minute a service without a warm connection needs three: for
//! TCP, for TLS, and for the list.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result,
    caller::{Caller, Question, sleep_until},
    service::Service,
    tenant::Tenant,
};

/// The simulated round trip: from Europe to the east of America.
pub const ROUND_TRIP: Duration = Duration::from_millis(100);

/// A service whose tenant is far away.
pub struct Distant {
    service: Service,
    quiet_since: Instant,
}

/// How long checks took.
pub struct Waits {
    /// How long no check came before the first.
    pub quiet: Duration,
    /// The first check after that.
    pub first: Duration,
    /// The next one.
    pub next: Duration,
}

impl Distant {
    /// Starts the relay and the service, which is quiet from now on.
    pub fn start(directory: &Path, tenant: &Tenant) -> Result<Self> {
        let to: SocketAddr = tenant.url.trim_start_matches("https://").parse()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("https://{}", listener.local_addr()?);
        thread::spawn(move || {
            for accepted in listener.incoming() {
                let _ = accepted.and_then(|near| relay(near, to));
            }
        });
        let service = Service::start_at(directory, tenant, &url, &[], &[])?;
        Ok(Self { service, quiet_since: Instant::now() })
    }

    /// Waits until the service was quiet for that long, and measures two checks.
    pub fn measure(&self, quiet: Duration) -> Result<Waits> {
        sleep_until(self.quiet_since + quiet);
        let quiet = self.quiet_since.elapsed();
        let check = |user| Result::Ok(Caller::new(self.service.address)?.ask(Question::Check, user)?.1);
        Ok(Waits { quiet, first: check(2)?, next: check(3)? })
    }
}

/// Connects to the other side and copies in both directions.
fn relay(near: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let far = TcpStream::connect(to)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    // The connection is there at once, because it is on this host. Its first bytes wait for the round trip that it would have
    // taken.
    copy_later(near.try_clone()?, far.try_clone()?, ROUND_TRIP);
    copy_later(far, near, Duration::ZERO);
    Ok(())
}

/// Copies what comes from one side to the other, half a round trip later; the first bytes by `more`.
fn copy_later(mut from: TcpStream, mut to: TcpStream, more: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let (mut buffer, mut more) = (vec![0; 64 * 1024], more);
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let due = Instant::now() + ROUND_TRIP / 2 + std::mem::take(&mut more);
            if sender.send((due, buffer[..read].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            sleep_until(due);
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
