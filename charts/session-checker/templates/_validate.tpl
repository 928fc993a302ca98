{{- /* Values that each stand for themselves, and cannot stand together. */}}
{{- define "session-checker.validate" -}}
{{- if and .Values.watch.allNamespaces .Values.watch.namespaces }}
{{- fail "watch: name namespaces, or set allNamespaces, not both" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.hosts: name at least one host" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs: name at least one Gateway" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics: enable serviceMonitor or podMonitor, not both: every series would be there twice" }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail "autoscaling: minReplicas is above maxReplicas" }}
{{- end }}
{{- if not (dig "requests" "cpu" "" .Values.resources) }}
{{- fail "autoscaling: set resources.requests.cpu, of which the target is a percentage" }}
{{- end }}
{{- end }}
{{- if and .Values.examplePolicy.enabled (not .Values.examplePolicy.domain) }}
{{- fail "examplePolicy.domain: write the tenant's canonical domain, such as acme.eu.auth0.com" }}
{{- end }}
{{- end }}
