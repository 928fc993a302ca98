//! Measures how long a change of one policy takes from the event to the snapshot that checks read. `make bench-controller` also
//! measures what comes before, from the API server, and after, to it.

use std::cell::Cell;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use policies::{TENANTS, callers, credentials};
use serde_json::json;
use session_checker::auth0::{Upstream, UpstreamOptions};
use session_checker::metrics::MetricRegistry;
use session_checker::policy::{Manifest, ObjectName, ProbeResult};
use session_checker::snapshot::{ObservedState, Publisher, SnapshotMetrics};
use session_checker::source::read_documents;

#[path = "shared/policies.rs"]
mod policies;

/// A version of a policy. Each has another limit than the one before.
fn manifest(number: usize, generation: i64) -> Manifest {
    let mut spec = policies::policy(number)["spec"].take();
    spec["limits"] = json!({ "perClient": 1 + generation % 1_000 });
    Manifest { name: ObjectName::new("default", format!("policy-{number}")), generation, created_at: None, spec }
}

/// A publisher of this many policies, with proven credentials.
fn publisher(policies: usize) -> Publisher {
    let upstream = Upstream::new(UpstreamOptions::default()).expect("the options are valid");
    let registry = MetricRegistry::new();
    let publisher = Publisher::new(upstream, ObservedState::default(), 100, SnapshotMetrics::new(&registry));
    publisher.update(|observed| {
        for secret in (0..TENANTS).flat_map(|tenant| [credentials(tenant, "id"), callers(tenant)]) {
            let documents = read_documents(&secret.to_string()).expect("the Secret is valid");
            documents.into_iter().for_each(|document| document.feed(&mut observed.index));
        }
        (0..policies).for_each(|number| observed.index.apply_stored_policy(&manifest(number, 1)));
        for key in observed.index.probe_targets().into_keys() {
            observed.index.probed(key, ProbeResult::Granted(None));
        }
    });
    publisher
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    group.sample_size(20);
    for policies in [100, 1_000, 10_000] {
        let publisher = publisher(policies);
        let generation = Cell::new(1);
        let change = || {
            generation.set(generation.get() + 1);
            publisher.update(|observed| observed.index.apply_stored_policy(&manifest(policies / 2, generation.get())));
        };
        let before = publisher.current().load().generation;
        group.bench_function(BenchmarkId::from_parameter(policies), |b| b.iter(change));
        let snapshot = publisher.current().load_full();
        assert_eq!(snapshot.generation - before, generation.get().cast_unsigned() - 1, "every change is published");
        assert!(snapshot.reports.iter().all(|report| report.is_ready()), "every change is active");
    }
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
