{{- define "session-checker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The name of the release's objects. 50 characters leave room for the longest suffix, "-force-audit". */}}
{{- define "session-checker.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "session-checker.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "session-checker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "session-checker.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "session-checker.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "session-checker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /*
The metadata of an object, from a dict with `root`, `name`, and optionally `namespace`, `clusterWide`, `labels` and
`annotations`. The labels that selectors use cannot be replaced.
*/}}
{{- define "session-checker.metadata" -}}
{{- $values := .root.Values }}
{{- $metadata := dict "name" .name }}
{{- if not .clusterWide }}
{{- $_ := set $metadata "namespace" (default (include "session-checker.namespace" .root) .namespace) }}
{{- end }}
{{- $labels := include "session-checker.labels" .root | fromYaml }}
{{- $_ := set $metadata "labels" (merge $labels (default dict .labels) $values.commonLabels) }}
{{- with merge dict (default dict .annotations) $values.commonAnnotations }}
{{- $_ := set $metadata "annotations" . }}
{{- end }}
{{- toYaml $metadata }}
{{- end }}

{{- define "session-checker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "session-checker.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The watched namespaces, as a JSON list. The list is empty when all namespaces are watched. */}}
{{- define "session-checker.namespaces" -}}
{{- if .Values.watch.allNamespaces -}}
[]
{{- else -}}
{{- default (list (include "session-checker.namespace" .)) .Values.watch.namespaces | uniq | toJson }}
{{- end }}
{{- end }}

{{- define "session-checker.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end }}
{{- end }}

{{- /* The Secrets for pulling the image, as a YAML list. `global.imagePullSecrets` may hold names. */}}
{{- define "session-checker.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range concat (default list .Values.global.imagePullSecrets) .Values.imagePullSecrets }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- $secrets | uniq | toYaml }}
{{- end }}

{{- /*
The highest number of Pods outside a rollout. Without a shared ledger, each Pod divides the request budget by it. It is at
least 1, because the program rejects 0, and a release with `replicaCount: 0` may be scaled up by `kubectl scale`.
*/}}
{{- define "session-checker.replicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicaCount .Values.autoscaling.enabled | int | max 1 }}
{{- end }}

{{- /*
The longest shutdown: the delay, the drain of connections, the drain of checks whose caller has disconnected, 1 s to share
the last checks, and 4 s to flush traces. While connections drain, the Lease is given back (2 s), and the page for choosing
sessions finishes a choice (11 s).
*/}}
{{- define "session-checker.shutdownSeconds" -}}
{{- $connections := max (int .Values.shutdown.drainSeconds) (ternary 11 2 .Values.choose.enabled) }}
{{- add .Values.shutdown.delaySeconds $connections .Values.shutdown.drainSeconds 5 }}
{{- end }}

{{- /* The path of checks outside of the cluster. */}}
{{- define "session-checker.path" -}}
{{- printf "%s/check" (trimSuffix "/" .Values.pathPrefix) }}
{{- end }}

{{- /* The port of a URL: the one that it names, else that of its scheme. An IPv6 address stands in brackets. */}}
{{- define "session-checker.portOf" -}}
{{- $url := urlParse . }}
{{- $default := ternary "443" "80" (eq $url.scheme "https") }}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default $default }}
{{- end }}

{{- /* A probe, from a dict with `probe` and the `path` that it asks unless it has its own handler. */}}
{{- define "session-checker.probe" -}}
{{- $probe := .probe }}
{{- if not (or $probe.httpGet $probe.exec $probe.tcpSocket $probe.grpc) }}
{{- $probe = merge (dict "httpGet" (dict "path" .path "port" "admin")) $probe }}
{{- end }}
{{- toYaml $probe }}
{{- end }}
