//! Connections on a clock that the tests control, without sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::DuplexStream;
use tokio::io::{copy, duplex, split};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::super::observer::{Observer, Unobserved};
use super::connection::Opened;
use super::driver::{BUSY_PING, IDLE_PING, MIN_PONG_TIME};
use super::*;

/// A tenant behind a network that loses all bytes while it is cut.
#[derive(Clone)]
struct Network {
    opened: Arc<AtomicUsize>,
    is_cut: Arc<watch::Sender<bool>>,
    /// How long opening a connection takes. `None`: for ever.
    opens_after: Arc<Mutex<Option<Duration>>>,
    /// Whether opening fails.
    fails: Arc<AtomicBool>,
    /// How long the tenant takes for an answer.
    answers_after: Duration,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Network {
    fn new(answers_after: Duration) -> Self {
        Self {
            opened: Arc::default(),
            is_cut: Arc::new(watch::Sender::new(false)),
            opens_after: Arc::new(Mutex::new(Some(Duration::ZERO))),
            fails: Arc::default(),
            answers_after,
            connections: Arc::default(),
        }
    }

    fn pool(&self) -> Arc<Pool> {
        self.pool_counted_by(&Arc::new(ConnectionCount::new("acme.eu.auth0.com", Arc::new(Unobserved))))
    }

    fn pool_counted_by(&self, count: &Arc<ConnectionCount>) -> Arc<Pool> {
        Pool::new(Box::new(self.clone()), true, Arc::clone(count))
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    fn close_all(&self) {
        *self.connections.lock().unwrap() = JoinSet::new();
    }

    fn open_after(&self, time: Option<Duration>) {
        *self.opens_after.lock().unwrap() = time;
    }

    /// Cuts the connections that are open now. Later ones work.
    fn cut_open_ones(&self) {
        self.is_cut.send_replace(true);
    }
}

impl Connect for Network {
    fn connect(&self) -> BoxFuture<'_, Result<Opened, ConnectError>> {
        async move {
            self.opened.fetch_add(1, Ordering::SeqCst);
            let opens_after = *self.opens_after.lock().unwrap();
            opens_after.map_or_else(|| futures::future::pending().boxed(), |time| sleep(time).boxed()).await;
            if self.fails.load(Ordering::SeqCst) {
                return Err(ConnectError::TimedOut(Duration::ZERO));
            }
            let (ours, outer) = duplex(1 << 16);
            let (inner, theirs) = duplex(1 << 16);
            self.is_cut.send_replace(false);
            let is_cut = self.is_cut.subscribe();
            let mut connections = self.connections.lock().unwrap();
            connections.spawn(relay(outer, inner, is_cut));
            connections.spawn(serve(theirs, self.answers_after));
            Ok(Opened { io: Box::new(ours), is_http2: true, round_trip: Duration::ZERO })
        }
        .boxed()
    }
}

async fn relay(outer: DuplexStream, inner: DuplexStream, mut is_cut: watch::Receiver<bool>) {
    let ((mut from, mut to), (mut back_from, mut back_to)) = (split(outer), split(inner));
    let cut = async { is_cut.wait_for(|is_cut| *is_cut).await.is_ok() };
    tokio::select! {
        _ = copy(&mut from, &mut back_to) => {}
        _ = copy(&mut back_from, &mut to) => {}
        _ = cut => std::future::pending().await,
    }
}

async fn serve(io: DuplexStream, answers_after: Duration) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            sleep(answers_after).await;
            let _ = respond.send_response(hyper::Response::new(()), true);
        });
    }
}

async fn ask(pool: &Arc<Pool>) -> Result<(), Broken> {
    let mut place = pool.place().await.unwrap();
    let request = Request::get("https://acme.eu.auth0.com/").body(()).unwrap();
    let mut response = place.send(request).await?;
    while place.chunk(&mut response).await?.is_some() {}
    Ok(())
}

fn asking(pool: &Arc<Pool>) -> JoinHandle<Result<(), Broken>> {
    let pool = Arc::clone(pool);
    tokio::spawn(async move { ask(&pool).await })
}

#[tokio::test(start_paused = true)]
async fn dead_connection_is_found_within_a_second() {
    let network = Network::new(Duration::ZERO);
    let pool = network.pool();
    for quiet in [0, 7, 3_600] {
        ask(&pool).await.unwrap();
        sleep(Duration::from_secs(quiet)).await;
        let opened = network.opened();
        network.cut_open_ones();
        let started = Instant::now();
        assert!(matches!(ask(&pool).await, Err(Broken::Dead)));
        assert!(started.elapsed() <= BUSY_PING + MIN_PONG_TIME + Duration::from_millis(2));
        assert!(started.elapsed() < Duration::from_secs(1));
        ask(&pool).await.unwrap();
        assert_eq!(network.opened(), opened + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_answer_is_no_dead_connection() {
    let network = Network::new(Duration::from_secs(60));
    let pool = network.pool();
    let (first, second) = (asking(&pool), asking(&pool));
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    assert_eq!(network.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn warm_pool_has_a_connection_after_any_quiet_time() {
    let network = Network::new(Duration::ZERO);
    let pool = network.pool();
    pool.keep_warm();
    pool.keep_warm();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(network.opened(), 1);
    for _ in 0..10 {
        sleep(Duration::from_secs(600)).await;
        assert!(pool.is_connected());
        ask(&pool).await.unwrap();
    }
    assert_eq!(network.opened(), 1, "it was never idle for too long");
    for count in 2..5 {
        network.close_all();
        sleep(Duration::from_secs(1)).await;
        assert_eq!((network.opened(), pool.is_connected()), (count, true), "it is open again before a login needs it");
        ask(&pool).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn connection_that_dies_while_idle_is_replaced() {
    let network = Network::new(Duration::ZERO);
    let pool = network.pool();
    pool.keep_warm();
    sleep(Duration::from_secs(600)).await;
    network.cut_open_ones();
    sleep(IDLE_PING + MIN_PONG_TIME + Duration::from_secs(1)).await;
    assert_eq!((network.opened(), pool.is_connected()), (2, true));
}

#[tokio::test(start_paused = true)]
async fn warm_pool_backs_off_while_nothing_opens() {
    let network = Network::new(Duration::ZERO);
    let pool = network.pool();
    network.fails.store(true, Ordering::SeqCst);
    pool.keep_warm();
    sleep(Duration::from_secs(3_600)).await;
    assert!((50..=80).contains(&network.opened()), "about one a minute: {}", network.opened());
    network.fails.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(120)).await;
    assert!(pool.is_connected());
    // A peer that closes each connection at once is not contacted without a pause either.
    let opened = network.opened();
    for _ in 0..600 {
        network.close_all();
        sleep(Duration::from_secs(1)).await;
    }
    assert!(network.opened() - opened < 30, "{}", network.opened() - opened);
}

#[tokio::test(start_paused = true)]
async fn pool_that_is_dropped_closes_its_connections() {
    let network = Network::new(Duration::ZERO);
    let pool = network.pool();
    pool.keep_warm();
    ask(&pool).await.unwrap();
    drop(pool);
    let connections = std::mem::take(&mut *network.connections.lock().unwrap());
    timeout(Duration::from_secs(1), connections.join_all()).await.expect("both ends are closed");
    sleep(Duration::from_secs(600)).await;
    assert_eq!(network.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn surplus_connections_close_when_they_are_idle() {
    let network = Network::new(Duration::from_secs(1));
    let pool = network.pool();
    pool.keep_warm();
    let burst: Vec<_> = (0..350).map(|_| asking(&pool)).collect();
    for asked in burst {
        asked.await.unwrap().unwrap();
    }
    assert!(network.opened() > 1);
    sleep(IDLE_TIMEOUT * 3).await;
    assert_eq!(pool.lock().connections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn attempt_that_hangs_is_followed_by_another() {
    let network = Network::new(Duration::ZERO);
    let pool = network.pool();
    network.open_after(None);
    let first = asking(&pool);
    sleep(NEXT_ATTEMPT_AFTER / 2).await;
    network.open_after(Some(Duration::ZERO));
    let started = Instant::now();
    first.await.unwrap().unwrap();
    assert!(started.elapsed() <= NEXT_ATTEMPT_AFTER);
    assert_eq!(network.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn connection_opens_for_those_that_follow_one_that_gave_up() {
    let network = Network::new(Duration::ZERO);
    let pool = network.pool();
    network.open_after(Some(Duration::from_secs(5)));
    for _ in 0..5 {
        assert!(timeout(Duration::from_millis(900), pool.place()).await.is_err());
    }
    sleep(Duration::from_secs(1)).await;
    assert!(pool.is_connected());
    ask(&pool).await.unwrap();
    assert!(network.opened() <= MAX_HEDGED_ATTEMPTS, "not one for each: {}", network.opened());
}

#[tokio::test(start_paused = true)]
async fn failed_attempt_fails_those_that_wait() {
    let network = Network::new(Duration::ZERO);
    network.fails.store(true, Ordering::SeqCst);
    let pool = network.pool();
    assert!(pool.place().await.is_err());
    assert!(pool.place().await.is_err());
    assert_eq!(network.opened(), 2);
    network.fails.store(false, Ordering::SeqCst);
    ask(&pool).await.unwrap();
}

#[derive(Default)]
struct Gauge(AtomicUsize);

impl Observer for Gauge {
    fn connections(&self, _: &str, count: usize) {
        self.0.store(count, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_of_all_pools_of_a_tenant_are_counted() {
    let (network, gauge) = (Network::new(Duration::ZERO), Arc::new(Gauge::default()));
    let open = || gauge.0.load(Ordering::SeqCst);
    let count = Arc::new(ConnectionCount::new("acme.eu.auth0.com", gauge.clone()));
    let (first, second) = (network.pool_counted_by(&count), network.pool_counted_by(&count));
    ask(&first).await.unwrap();
    ask(&second).await.unwrap();
    assert_eq!(open(), 2);
    let _third = network.pool_counted_by(&count);
    assert_eq!(open(), 2, "a new pool has none and takes none");
    drop(first);
    assert_eq!(open(), 1);
    ask(&second).await.unwrap();
    network.close_all();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(open(), 0);
}
