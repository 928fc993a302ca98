//! A proxy between the service and a Redis of the tests, which moves to another server, delays, and poisons connections.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The proxy. It ends when dropped.
pub struct RedisProxy {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    /// Where new connections go.
    target: AtomicU16,
    /// How long a request is held back.
    delay_ms: AtomicU64,
    requests: AtomicUsize,
    accepted: AtomicUsize,
    /// Connections up to this number get `poison` instead of an answer.
    poisoned: AtomicUsize,
    poison: Mutex<&'static str>,
}

impl RedisProxy {
    /// Forwards to a port of this host.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            target: target.into(),
            delay_ms: 0.into(),
            requests: 0.into(),
            accepted: 0.into(),
            poisoned: 0.into(),
            poison: Mutex::default(),
        });
        let accepting = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(Arc::clone(&accepting), client));
            }
        });
        Self { port, state, task }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends new connections elsewhere; open ones stay where they are.
    pub fn retarget(&self, target: u16) {
        self.state.target.store(target, Ordering::SeqCst);
    }

    pub fn delay(&self, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    /// Every open connection gets this error from now on.
    pub fn poison(&self, error: &'static str) {
        *self.state.poison.lock().unwrap() = error;
        self.state.poisoned.store(self.state.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// How many requests were forwarded.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for RedisProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(state: Arc<State>, mut client: TcpStream) {
    let number = state.accepted.fetch_add(1, Ordering::SeqCst) + 1;
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, state.target.load(Ordering::SeqCst))).await else {
        return;
    };
    let (mut request, mut answer) = ([0; 65_536], [0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(1..) = read else { return };
                state.requests.fetch_add(1, Ordering::SeqCst);
                if number <= state.poisoned.load(Ordering::SeqCst) {
                    let error = format!("-{}\r\n", *state.poison.lock().unwrap());
                    if client.write_all(error.as_bytes()).await.is_err() {
                        return;
                    }
                    continue;
                }
                sleep(Duration::from_millis(state.delay_ms.load(Ordering::SeqCst))).await;
                if server.write_all(&request[..read.unwrap()]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answer) => {
                let Ok(1..) = read else { return };
                if client.write_all(&answer[..read.unwrap()]).await.is_err() {
                    return;
                }
            }
        }
    }
}
