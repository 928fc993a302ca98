//! Where traces and records go, by the standard variables of OpenTelemetry, and what both exporters have in common.

use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// What is exported, with the OpenTelemetry variables about it.
#[derive(Clone, Copy)]
pub(super) struct Signal {
    /// The name for people.
    pub name: &'static str,
    /// The variables that name an endpoint. The first that is set counts.
    endpoints: [&'static str; 2],
    /// The variable that chooses the exporters.
    exporter: &'static str,
    /// The variables that name a protocol. The first that is set counts.
    protocols: [&'static str; 2],
}

pub(super) const TRACES: Signal = Signal {
    name: "traces",
    endpoints: ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
    exporter: "OTEL_TRACES_EXPORTER",
    protocols: ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
};

pub(super) const LOGS: Signal = Signal {
    name: "records of decisions",
    endpoints: ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
    exporter: "OTEL_LOGS_EXPORTER",
    protocols: ["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
};

/// Where a signal goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// No endpoint is set, or the signal is switched off.
    Nowhere,
    /// To this endpoint, by gRPC.
    Otlp(String),
    /// A variable asks for something that this program cannot do.
    Unsupported { variable: &'static str, value: String, supported: &'static str },
}

impl Destination {
    /// Reads the standard variables. `variable` gives the value of one that is set.
    pub fn new(signal: Signal, variable: impl Fn(&str) -> Option<String>) -> Self {
        let Some(endpoint) = signal.endpoints.into_iter().find_map(&variable) else { return Self::Nowhere };
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Self::Nowhere;
        }
        if let Some(value) = variable(signal.exporter) {
            let mut exporters = value.split(',').map(str::trim);
            if value.trim() == "none" {
                return Self::Nowhere;
            }
            if !exporters.any(|exporter| exporter == "otlp") {
                return Self::Unsupported { variable: signal.exporter, value, supported: "otlp and none" };
            }
        }
        let protocol = signal.protocols.into_iter().find_map(|name| Some((name, variable(name)?)));
        match protocol {
            Some((variable, value)) if value.trim() != "grpc" => {
                Self::Unsupported { variable, value, supported: "grpc" }
            }
            _ => Self::Otlp(endpoint),
        }
    }

    /// The endpoint, when there is one to use.
    pub fn endpoint(&self) -> Option<&str> {
        if let Self::Otlp(endpoint) = self { Some(endpoint) } else { None }
    }
}

/// Exports traces to the endpoint.
///
/// # Errors
/// The endpoint is not a valid URL.
pub(super) fn tracer_provider(endpoint: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = with_tls(SpanExporter::builder().with_tonic(), endpoint);
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter.build()?).with_resource(resource()).build())
}

/// Trusts the platform's CAs, when the endpoint has TLS.
pub(super) fn with_tls<E: WithTonicConfig>(exporter: E, endpoint: &str) -> E {
    if endpoint.starts_with("https:") {
        exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
    } else {
        exporter
    }
}

/// This service, as a collector sees it.
pub(super) fn resource() -> Resource {
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("session-checker");
    }
    let sets_version = std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|text| text.contains("service.version="));
    if !sets_version {
        resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    }
    resource.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_variables_decide_where_traces_go() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        let sent = Destination::Otlp(endpoint.1.to_owned());
        let unsupported = |variable, value: &str, supported| Destination::Unsupported {
            variable,
            value: value.to_owned(),
            supported,
        };
        for (more, expected) in [
            (vec![], sent),
            (vec![("OTEL_SDK_DISABLED", "true")], Destination::Nowhere),
            (vec![("OTEL_SDK_DISABLED", " TRUE ")], Destination::Nowhere),
            (vec![("OTEL_SDK_DISABLED", "1")], Destination::Otlp(endpoint.1.to_owned())),
            (vec![("OTEL_TRACES_EXPORTER", "none")], Destination::Nowhere),
            (vec![("OTEL_TRACES_EXPORTER", "console, otlp")], Destination::Otlp(endpoint.1.to_owned())),
            (vec![("OTEL_TRACES_EXPORTER", "zipkin")], unsupported(TRACES.exporter, "zipkin", "otlp and none")),
            (vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], Destination::Otlp(endpoint.1.to_owned())),
            (
                vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
                unsupported(TRACES.protocols[1], "http/protobuf", "grpc"),
            ),
            (
                vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")],
                unsupported(TRACES.protocols[0], "http/json", "grpc"),
            ),
        ] {
            let variable = |name: &str| {
                let set = [endpoint].into_iter().chain(more.iter().copied()).find(|(set, _)| *set == name);
                set.map(|(_, value)| value.to_owned())
            };
            assert_eq!(Destination::new(TRACES, variable), expected, "{more:?}");
        }
        assert_eq!(Destination::new(TRACES, |_| None), Destination::Nowhere);
    }

    #[test]
    fn variables_of_one_signal_do_not_change_the_other() {
        for (name, value, traces, logs) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317", true, true),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317", true, false),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://collector:4317", false, true),
        ] {
            let variable = |asked: &str| (asked == name).then(|| value.to_owned());
            let is_sent = |signal| matches!(Destination::new(signal, variable), Destination::Otlp(_));
            assert_eq!((is_sent(TRACES), is_sent(LOGS)), (traces, logs), "{name}");
        }
        let switched_off = |asked: &str| match asked {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://collector:4317".to_owned()),
            "OTEL_LOGS_EXPORTER" => Some("none".to_owned()),
            _ => None,
        };
        assert_eq!(Destination::new(LOGS, switched_off), Destination::Nowhere);
        assert_ne!(Destination::new(TRACES, switched_off), Destination::Nowhere);
    }
}
