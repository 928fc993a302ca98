//! The registry of metric families.
//!
//! Each part declares its families once, in its own `metrics` module, with the methods of [`MetricRegistry`]. Names get the
//! prefix `session_checker_`. Units are base units, and label sets are closed, except `policy` and `tenant`: a series with
//! one of these labels ends by itself at the first scrape after the policy or the tenant is gone. Between two scrapes only
//! what was counted takes memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Metric, MetricFamily};
use prometheus::{
    Counter, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

/// Histogram buckets from half a millisecond to 15 seconds: the durations of checks and of calls to Auth0.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

/// Registers metric families and writes them for Prometheus. Made once; every part registers its families here.
pub struct MetricRegistry {
    /// A registry for each family, so that a scrape holds the series of one family at a time.
    families: Mutex<BTreeMap<String, Registry>>,
    /// Run at each scrape, before the families are written.
    on_scrape: Mutex<Vec<ScrapeHook>>,
}

/// What the operating system says of the process, without its CPU time, of which the collector counts whole seconds.
struct Process(ProcessCollector);

/// What the names of the families of the process begin with.
const PROCESS: &str = "process_";
/// The CPU time of the process.
const CPU_SECONDS: &str = "process_cpu_seconds_total";

type ScrapeHook = Box<dyn Fn(&LiveSeries) + Send + Sync>;

/// The policies and tenants that exist. Series of all others end.
pub struct LiveSeries {
    /// The tenant of each policy.
    policies: HashMap<String, String>,
    tenants: HashSet<String>,
}

impl LiveSeries {
    /// `policies` are the name of each policy and the domain of its tenant. The empty policy and the empty tenant stand for
    /// a check that no policy governs, and always exist.
    pub fn new<'a>(policies: impl IntoIterator<Item = (String, &'a str)>) -> Self {
        let mut live =
            Self { policies: HashMap::from([Default::default()]), tenants: HashSet::from([String::default()]) };
        for (policy, tenant) in policies {
            live.tenants.insert(tenant.to_owned());
            live.policies.insert(policy, tenant.to_owned());
        }
        live
    }

    /// Whether the policy exists.
    pub fn has_policy(&self, policy: &str) -> bool {
        self.policies.contains_key(policy)
    }

    /// The domains of the tenants that exist, and the empty one.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.iter().map(String::as_str)
    }

    fn has(&self, labels: &HashMap<&str, &str>) -> bool {
        match (labels.get("policy"), labels.get("tenant")) {
            (Some(policy), tenant) => self.policies.get(*policy).map(String::as_str) == tenant.copied(),
            (None, Some(tenant)) => self.tenants.contains(*tenant),
            (None, None) => true,
        }
    }
}

impl MetricRegistry {
    /// Registers the version, the number of tasks, and what the operating system says of the process.
    pub fn new() -> Self {
        let registry = Self { families: Mutex::default(), on_scrape: Mutex::default() };
        let build = registry.gauges("build_info", "The version that runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let tasks = registry.gauge("tasks", "Tasks of the runtime that have not ended.");
        // A scrape outside a runtime shows the value of the scrape before.
        registry.on_scrape(move |_| {
            if let Ok(runtime) = Handle::try_current() {
                tasks.set(to_i64(runtime.metrics().num_alive_tasks()));
            }
        });
        registry.add(PROCESS, Process(ProcessCollector::for_self()));
        let cpu = Counter::new(CPU_SECONDS, "Total user and system CPU time spent in seconds.").expect("a valid name");
        registry.add(CPU_SECONDS, cpu.clone());
        registry.on_scrape(move |_| {
            let spent = clock_gettime(ClockId::ProcessCPUTime);
            let seconds = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
            cpu.inc_by((seconds - cpu.get()).max(0.0));
        });
        registry
    }

    /// The names of all registered families, without those of the process.
    pub fn names(&self) -> Vec<String> {
        lock(&self.families).keys().filter(|name| !name.starts_with(PROCESS)).cloned().collect()
    }

    /// Runs `hook` at each scrape, before the families are written.
    pub fn on_scrape(&self, hook: impl Fn(&LiveSeries) + Send + Sync + 'static) {
        lock(&self.on_scrape).push(Box::new(hook));
    }

    /// Ends the series of policies and tenants that are gone, and writes the rest in the text format of Prometheus. Series
    /// end here and not when a policy goes: a check under way counts itself after that.
    pub fn scrape(&self, live: &LiveSeries) -> String {
        // The lock is held to the end: two scrapes at once would each see the other's half-ended series.
        let hooks = lock(&self.on_scrape);
        hooks.iter().for_each(|hook| hook(live));
        let mut text = String::new();
        for family in lock(&self.families).values() {
            TextEncoder::new().encode_utf8(&family.gather(), &mut text).expect("writing to memory");
        }
        text
    }

    /// Counters, one for each combination of labels.
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let counters = self.register(name, IntCounterVec::new(options(name, help), labels));
        self.end_series(labels, &counters, |counters, labels| counters.remove(labels).is_ok());
        counters
    }

    /// Counters whose series are shown before they count, see [`BegunCounters::begin`].
    pub fn begun_counters(&self, name: &str, help: &str, labels: &[&str]) -> BegunCounters {
        let family = || IntCounterVec::new(options(name, help), labels);
        let counters =
            family().and_then(|counted| Ok(BegunCounters { counted, uncounted: family()?, begun: Arc::default() }));
        let counters = self.register(name, counters);
        self.end_series(labels, &counters.counted, |counted, labels| counted.remove(labels).is_ok());
        counters
    }

    /// A counter without labels.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(name, IntCounter::with_opts(options(name, help)))
    }

    /// Gauges, one for each combination of labels.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauges = self.register(name, IntGaugeVec::new(options(name, help), labels));
        self.end_series(labels, &gauges, |gauges, labels| gauges.remove(labels).is_ok());
        gauges
    }

    /// Gauges that are set at each scrape, one for each combination of labels.
    pub fn scraped_gauges(&self, name: &str, help: &str, labels: &[&str]) -> ScrapedGauges {
        let gauges = IntGaugeVec::new(options(name, help), labels);
        self.register(name, gauges.map(|gauges| ScrapedGauges { gauges, values: Arc::default() }))
    }

    /// A gauge without labels.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(name, IntGauge::with_opts(options(name, help)))
    }

    /// A Unix time in seconds.
    pub fn time(&self, name: &str, help: &str) -> Gauge {
        self.register(name, Gauge::with_opts(options(name, help)))
    }

    /// Unix times in seconds, one for each combination of labels.
    pub fn times(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let times = self.register(name, GaugeVec::new(options(name, help), labels));
        self.end_series(labels, &times, |times, labels| times.remove(labels).is_ok());
        times
    }

    /// Histograms of durations in seconds.
    pub fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::from(options(name, help)).buckets(SECONDS.to_vec());
        let histograms = self.register(name, HistogramVec::new(options, labels));
        self.end_series(labels, &histograms, |histograms, labels| histograms.remove(labels).is_ok());
        histograms
    }

    /// Names and labels are constants, and each family is registered once: none of it can fail.
    fn register<C: Collector + Clone + 'static>(&self, name: &str, collector: prometheus::Result<C>) -> C {
        let collector = collector.expect("a valid name and valid labels");
        self.add(&full_name(name), collector.clone());
        collector
    }

    fn add(&self, name: &str, collector: impl Collector + 'static) {
        let family = Registry::new();
        family.register(Box::new(collector)).expect("a registry for each family");
        assert!(lock(&self.families).insert(name.to_owned(), family).is_none(), "{name} is registered twice");
    }

    /// Removes series of a family at each scrape, when it has labels that can end.
    fn end_series<C: Collector + Clone + 'static>(
        &self,
        labels: &[&str],
        family: &C,
        remove: impl Fn(&C, &HashMap<&str, &str>) -> bool + Send + Sync + 'static,
    ) {
        if !labels.iter().any(|label| matches!(*label, "policy" | "tenant")) {
            return;
        }
        let family = family.clone();
        self.on_scrape(move |live| remove_series(&family, |labels| live.has(labels), &remove));
    }
}

/// Counters whose series are shown before they count, so that the first event is an increase. A series takes about a kilobyte, and
/// most of these never count: one that has not counted exists only while its family is written.
#[derive(Clone)]
pub struct BegunCounters {
    counted: IntCounterVec,
    /// Empty between two scrapes.
    uncounted: IntCounterVec,
    /// The labels of the series that the next scrape shows.
    begun: Arc<Mutex<Vec<Box<[String]>>>>,
}

impl BegunCounters {
    /// Counts an event.
    pub fn inc(&self, labels: &[&str]) {
        self.counted.with_label_values(labels).inc();
    }

    /// Shows this series at the next scrape. Called at each scrape for each series that can count.
    pub fn begin(&self, labels: &[&str]) {
        lock(&self.begun).push(owned(labels));
    }

    /// Ends the series that do not live.
    pub fn retain(&self, lives: impl Fn(&HashMap<&str, &str>) -> bool) {
        remove_series(&self.counted, lives, |family, labels| family.remove(labels).is_ok());
    }
}

impl Collector for BegunCounters {
    fn desc(&self) -> Vec<&Desc> {
        self.counted.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for labels in std::mem::take(&mut *lock(&self.begun)) {
            self.uncounted.with_label_values(&labels);
        }
        let (mut families, uncounted) = (self.counted.collect(), self.uncounted.collect());
        self.uncounted.reset();
        let labels =
            |metric: &Metric| metric.get_label().iter().map(|pair| pair.value().to_owned()).collect::<Vec<_>>();
        for (family, uncounted) in families.iter_mut().zip(uncounted) {
            let counted: HashSet<_> = family.get_metric().iter().map(labels).collect();
            let new = uncounted.get_metric().iter().filter(|metric| !counted.contains(&labels(metric))).cloned();
            family.mut_metric().extend(new);
        }
        families
    }
}

/// Gauges that are set at each scrape. Their series exist only while their family is written.
#[derive(Clone)]
pub struct ScrapedGauges {
    /// Empty between two scrapes.
    gauges: IntGaugeVec,
    /// What the next scrape shows.
    values: Arc<Mutex<Vec<ScrapedValue>>>,
}

/// The labels of a gauge, and its value.
type ScrapedValue = (Box<[String]>, i64);

impl ScrapedGauges {
    /// Shows a value at the next scrape.
    pub fn set(&self, labels: &[&str], value: i64) {
        lock(&self.values).push((owned(labels), value));
    }
}

impl Collector for ScrapedGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (labels, value) in std::mem::take(&mut *lock(&self.values)) {
            self.gauges.with_label_values(&labels).set(value);
        }
        let families = self.gauges.collect();
        self.gauges.reset();
        families
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc().into_iter().filter(|family| family.fq_name != CPU_SECONDS).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect().into_iter().filter(|family| family.name() != CPU_SECONDS).collect()
    }
}

impl Default for MetricRegistry {
    fn default() -> Self {
        Self::new()
    }
}

/// Removes the series of a family that do not live.
fn remove_series<C: Collector>(
    family: &C,
    lives: impl Fn(&HashMap<&str, &str>) -> bool,
    remove: impl Fn(&C, &HashMap<&str, &str>) -> bool,
) {
    for collected in family.collect() {
        for metric in collected.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if !lives(&labels) {
                remove(family, &labels);
            }
        }
    }
}

/// A count as the value of a gauge.
pub fn to_i64(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Raises a counter to a total that is counted elsewhere.
pub fn raise_to(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn full_name(name: &str) -> String {
    format!("session_checker_{name}")
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(full_name(name), help)
}

fn owned(labels: &[&str]) -> Box<[String]> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu_seconds(registry: &MetricRegistry) -> f64 {
        let text = registry.scrape(&LiveSeries::new([]));
        let line = text.lines().find(|line| line.starts_with(&format!("{CPU_SECONDS} "))).unwrap();
        line.split(' ').next_back().unwrap().parse().unwrap()
    }

    #[test]
    fn begun_series_is_shown_until_it_counts_and_then_by_its_count() {
        let registry = MetricRegistry::new();
        let counters = registry.begun_counters("events_total", "Events.", &["kind", "tenant"]);
        let shown = |kinds: &[&str]| {
            kinds.iter().for_each(|kind| counters.begin(&[kind, ""]));
            let text = registry.scrape(&LiveSeries::new([]));
            let series = text.lines().filter_map(|line| line.strip_prefix("session_checker_events_total{kind="));
            series.map(|series| series.replace(",tenant=\"\"}", "")).collect::<Vec<_>>()
        };
        assert_eq!(shown(&["a", "b"]), ["\"a\" 0", "\"b\" 0"]);
        counters.inc(&["b", ""]);
        counters.inc(&["c", ""]);
        assert_eq!(shown(&["a", "b"]), ["\"a\" 0", "\"b\" 1", "\"c\" 1"]);
        assert_eq!(shown(&[]), ["\"b\" 1", "\"c\" 1"], "what is not begun again ends, and what counted stays");
        counters.retain(|labels| labels["kind"] == "c");
        assert_eq!(shown(&["b"]), ["\"b\" 0", "\"c\" 1"]);
    }

    #[test]
    fn scraped_gauge_is_shown_once() {
        let registry = MetricRegistry::new();
        let gauges = registry.scraped_gauges("level", "A level.", &["kind"]);
        gauges.set(&["a"], 7);
        let shown = || registry.scrape(&LiveSeries::new([])).contains("session_checker_level{kind=\"a\"} 7");
        assert_eq!((shown(), shown()), (true, false));
    }

    #[test]
    fn cpu_time_is_counted_in_fractions_of_a_second() {
        let registry = MetricRegistry::new();
        let before = cpu_seconds(&registry);
        let mut sum = 0_u64;
        let after = loop {
            (0..100_000).for_each(|n| sum = std::hint::black_box(sum.wrapping_add(n)));
            let now = cpu_seconds(&registry);
            if now > before {
                break now;
            }
        };
        assert!(after - before < 1.0, "{before} {after} {sum}");
        let text = registry.scrape(&LiveSeries::new([]));
        assert_eq!(text.matches(&format!("# TYPE {CPU_SECONDS} counter")).count(), 1);
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
