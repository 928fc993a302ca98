{{- /*
The options of the service as environment variables, as a YAML list. They are variables and not arguments, so that commands
that run in the Pod (`kubectl exec`) have the options of the service, and so that `extraArgs` takes precedence.
*/}}
{{- define "session-checker.options" -}}
# Both address families, so that the Pods get ready in every cluster.
- name: SESSION_CHECKER_LISTEN
  value: "[::]:3000"
- name: SESSION_CHECKER_ADMIN_LISTEN
  value: "[::]:9090"
{{- if .Values.logStream.enabled }}
- name: SESSION_CHECKER_LOGS_LISTEN
  value: "[::]:3100"
{{- end }}
{{- with .Values.choose }}
{{- if .enabled }}
- name: SESSION_CHECKER_CHOOSE_LISTEN
  value: "[::]:3200"
- name: SESSION_CHECKER_CHOOSE_URL
  value: {{ .url | quote }}
{{- if .ticketKeySecret.name }}
- name: SESSION_CHECKER_TICKET_KEY_FILE
  value: /etc/session-checker/ticket-keys/{{ .ticketKeySecret.key }}
{{- end }}
{{- if .pagesConfigMapName }}
- name: SESSION_CHECKER_CHOOSE_PAGE_DIR
  value: /etc/session-checker/choose-pages
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.watch.allNamespaces }}
- name: SESSION_CHECKER_ALL_NAMESPACES
  value: "true"
{{- end }}
{{- with .Values.watch.namespaces }}
- name: SESSION_CHECKER_NAMESPACE
  value: {{ join "," . | quote }}
{{- end }}
{{- if .Values.allowAnonymous }}
- name: SESSION_CHECKER_ALLOW_ANONYMOUS
  value: "true"
{{- end }}
{{- with .Values.pathPrefix }}
- name: SESSION_CHECKER_PATH_PREFIX
  value: {{ . | quote }}
{{- end }}
- name: SESSION_CHECKER_LEASE_NAME
  value: {{ include "session-checker.fullname" . | quote }}
{{- with .Values.className }}
- name: SESSION_CHECKER_CLASS_NAME
  value: {{ . | quote }}
{{- end }}
- name: SESSION_CHECKER_FORCE_AUDIT_FILE
  value: /etc/session-checker/force-audit/value
- name: SESSION_CHECKER_FORCE_AUDIT_CONFIG_MAP
  value: {{ printf "%s-force-audit" (include "session-checker.fullname" .) | quote }}
- name: SESSION_CHECKER_MAX_IN_FLIGHT
  value: {{ int .Values.maxInFlight | quote }}
- name: SESSION_CHECKER_REPLICAS
  value: {{ include "session-checker.replicas" . | quote }}
- name: SESSION_CHECKER_LEDGER_TIMEOUT
  value: {{ .Values.ledger.timeout | quote }}
{{- with .Values.ledger.urlSecret }}
{{- if .name }}
- name: SESSION_CHECKER_LEDGER
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- with $.Values.ledger.sentinelMaster }}
- name: SESSION_CHECKER_LEDGER_SENTINEL_MASTER
  value: {{ . | quote }}
{{- end }}
{{- with $.Values.ledger.user }}
- name: SESSION_CHECKER_LEDGER_USER
  value: {{ . | quote }}
{{- end }}
{{- if $.Values.ledger.passwordSecret.name }}
- name: SESSION_CHECKER_LEDGER_PASSWORD_FILE
  value: /etc/session-checker/ledger-password/{{ $.Values.ledger.passwordSecret.key }}
{{- end }}
{{- if $.Values.ledger.ca.configMapName }}
- name: SESSION_CHECKER_LEDGER_CA_FILE
  value: /etc/session-checker/ledger-ca/{{ $.Values.ledger.ca.key }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.ledger.keySecret }}
{{- if .name }}
- name: SESSION_CHECKER_LEDGER_KEY
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
{{- if .Values.callerTokens.secretName }}
- name: SESSION_CHECKER_CALLER_TOKEN_FILE
  value: /etc/session-checker/callers/{{ .Values.callerTokens.key }}
{{- end }}
{{- with .Values.callerJwt }}
{{- if .jwksConfigMapName }}
- name: SESSION_CHECKER_CALLER_JWKS_FILE
  value: /etc/session-checker/caller-jwks/{{ .key }}
- name: SESSION_CHECKER_CALLER_JWT_ISSUER
  value: {{ .issuer | quote }}
- name: SESSION_CHECKER_CALLER_JWT_AUDIENCE
  value: {{ .audience | quote }}
{{- end }}
{{- end }}
{{- with .Values.auth0.endpoints }}
{{- $endpoints := list }}
{{- range $domain, $url := . }}
{{- $endpoints = append $endpoints (printf "%s=%s" $domain $url) }}
{{- end }}
- name: SESSION_CHECKER_AUTH0_ENDPOINT
  value: {{ join "," $endpoints | quote }}
{{- end }}
{{- if .Values.auth0.ca.configMapName }}
- name: SESSION_CHECKER_AUTH0_CA_FILE
  value: /etc/session-checker/auth0-ca/{{ .Values.auth0.ca.key }}
{{- if .Values.auth0.ca.only }}
- name: SESSION_CHECKER_AUTH0_CA_ONLY
  value: "true"
{{- end }}
{{- end }}
{{- with .Values.auth0.proxy }}
{{- if .url }}
- name: SESSION_CHECKER_AUTH0_PROXY
  value: {{ .url | quote }}
{{- with .exceptions }}
- name: SESSION_CHECKER_AUTH0_NO_PROXY
  value: {{ join "," . | quote }}
{{- end }}
{{- if .credentialsSecretName }}
- name: SESSION_CHECKER_AUTH0_PROXY_CREDENTIALS_FILE
  value: /etc/session-checker/auth0-proxy/{{ .key }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.tls.secretName }}
- name: SESSION_CHECKER_TLS_CERT
  value: /etc/session-checker/tls/tls.crt
- name: SESSION_CHECKER_TLS_KEY
  value: /etc/session-checker/tls/tls.key
{{- if .Values.tls.clientCa.configMapName }}
- name: SESSION_CHECKER_TLS_CLIENT_CA
  value: /etc/session-checker/client-ca/{{ .Values.tls.clientCa.key }}
{{- end }}
{{- end }}
- name: SESSION_CHECKER_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- with .Values.log.filter }}
- name: RUST_LOG
  value: {{ . | quote }}
{{- end }}
{{- with .Values.log.hashKeySecret }}
{{- if .name }}
- name: SESSION_CHECKER_LOG_HASH_KEY
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
- name: SESSION_CHECKER_SHUTDOWN_DELAY
  value: {{ int .Values.shutdown.delaySeconds }}s
- name: SESSION_CHECKER_DRAIN_TIMEOUT
  value: {{ int .Values.shutdown.drainSeconds }}s
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.decisionRecords.endpoint }}
- name: OTEL_EXPORTER_OTLP_LOGS_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if or .Values.tracing.endpoint .Values.decisionRecords.endpoint }}
# For OTEL_RESOURCE_ATTRIBUTES, which has to come after it. Not an option of the program, and not called POD_NAME: a variable
# of this name in `extraEnv` would replace it, and come last.
- name: SESSION_CHECKER_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: OTEL_SERVICE_NAME
  value: session-checker
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ include "session-checker.namespace" $ }},k8s.deployment.name={{ include "session-checker.fullname" $ }},k8s.pod.name=$(SESSION_CHECKER_POD_NAME)
{{- end }}
{{- end }}

{{- /* The names of the variables in `extraEnv`, as a YAML list. */}}
{{- define "session-checker.extraNames" -}}
{{- $names := list }}
{{- range .Values.extraEnv }}
{{- $names = append $names .name }}
{{- end }}
{{- toYaml $names }}
{{- end }}

{{- /*
The environment of the container, as a YAML list: the options, then `extraEnv`. An option that `extraEnv` sets is left out,
because server-side apply does not accept a name twice.
*/}}
{{- define "session-checker.env" -}}
{{- $extra := include "session-checker.extraNames" . | fromYamlArray }}
{{- $env := list }}
{{- range include "session-checker.options" . | fromYamlArray }}
{{- if not (has .name $extra) }}
{{- $env = append $env . }}
{{- end }}
{{- end }}
{{- concat $env .Values.extraEnv | toYaml }}
{{- end }}
