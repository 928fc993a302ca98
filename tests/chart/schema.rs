//! The schema of the values knows every field of Kubernetes' own objects, so that it rejects typing mistakes alone.

use k8s_openapi::api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior, MetricSpec};
use k8s_openapi::api::core::v1::{
    Affinity, EnvFromSource, EnvVar, HostAlias, Lifecycle, LifecycleHandler, PodDNSConfig, PodSecurityContext, Probe,
    ResourceRequirements, SecurityContext, Toleration, TopologySpreadConstraint, VolumeMount,
};
use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::render::chart;

fn schema() -> Value {
    serde_json::from_str(&std::fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap()
}

/// Asserts that the object at the pointer accepts every field of the type.
fn accepts<T: JsonSchema>(schema: &Value, pointer: &str) {
    let object = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} does not exist"));
    assert_eq!(object["additionalProperties"], false, "{pointer} accepts typing mistakes");
    let fields = serde_json::to_value(schema_for!(T)).unwrap()["properties"].clone();
    let fields = fields.as_object().unwrap();
    assert!(!fields.is_empty(), "{pointer}");
    for field in fields.keys() {
        assert!(!object["properties"][field].is_null(), "{pointer} rejects {field}");
    }
}

#[test]
#[ignore = "runs with the other tests of the chart: make chart-test"]
fn fields_of_kubernetes_objects_are_accepted() {
    let schema = schema();
    accepts::<ResourceRequirements>(&schema, "/definitions/resources");
    accepts::<Probe>(&schema, "/definitions/probe");
    accepts::<Lifecycle>(&schema, "/definitions/lifecycle");
    accepts::<LifecycleHandler>(&schema, "/definitions/hook");
    accepts::<PodSecurityContext>(&schema, "/definitions/podSecurityContext");
    accepts::<SecurityContext>(&schema, "/definitions/securityContext");
    accepts::<DeploymentStrategy>(&schema, "/definitions/strategy");
    accepts::<RollingUpdateDeployment>(&schema, "/definitions/strategy/properties/rollingUpdate");
    accepts::<TopologySpreadConstraint>(&schema, "/definitions/spread");
    accepts::<Toleration>(&schema, "/definitions/toleration");
    accepts::<Affinity>(&schema, "/definitions/affinity");
    accepts::<PodDNSConfig>(&schema, "/definitions/dnsConfig");
    accepts::<HostAlias>(&schema, "/definitions/hostAlias");
    accepts::<EnvVar>(&schema, "/definitions/variable");
    accepts::<EnvFromSource>(&schema, "/definitions/variables");
    accepts::<VolumeMount>(&schema, "/definitions/mount");
    accepts::<HorizontalPodAutoscalerBehavior>(&schema, "/definitions/behavior");
    accepts::<HPAScalingRules>(&schema, "/definitions/behavior/properties/scaleUp");
    accepts::<MetricSpec>(&schema, "/properties/autoscaling/properties/metrics/items");
    accepts::<NetworkPolicyPeer>(&schema, "/definitions/peers/items");
    accepts::<NetworkPolicyEgressRule>(&schema, "/properties/networkPolicy/properties/extraEgress/items");
}
