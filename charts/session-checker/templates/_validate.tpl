{{- /* Fails on values that the schema accepts one by one, but that do not work together. */}}
{{- define "session-checker.validate" -}}
{{- if and .Values.watch.allNamespaces .Values.watch.namespaces }}
{{- fail "watch: namespaces and allNamespaces are both set; set one of them, not both" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.hosts is empty: name at least one host" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs is empty: name at least one Gateway" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics: serviceMonitor and podMonitor are both enabled, so Prometheus would scrape every series twice; enable one of them, not both" }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling: minReplicas is above maxReplicas; lower minReplicas or raise maxReplicas" }}
{{- end }}
{{- if not (dig "requests" "cpu" "" .Values.resources) }}
{{- fail "autoscaling: resources.requests.cpu is not set, and targetCPUUtilizationPercentage is a percentage of it; set resources.requests.cpu" }}
{{- end }}
{{- end }}
{{- if and .Values.examplePolicy.enabled (not .Values.examplePolicy.domain) }}
{{- fail "examplePolicy.domain is empty: write the tenant's canonical domain, such as acme.eu.auth0.com" }}
{{- end }}
{{- end }}
