{{- /*
Fails on values that the schema accepts one by one, but that do not work together. Also on a value that would have no effect
without another one, because nothing else would show that. A feature that `enabled` switches off may keep its values: they
are for when it is switched on.
*/}}
{{- define "session-checker.validate" -}}
{{- if and .Values.watch.allNamespaces .Values.watch.namespaces }}
{{- fail "watch: namespaces and allNamespaces are both set; set one of them, not both" }}
{{- end }}
{{- if and .Values.tls.clientCa.configMapName (not .Values.tls.secretName) }}
{{- fail "tls.clientCa.configMapName is set, and tls.secretName is not; set tls.secretName, because client certificates need HTTPS" }}
{{- end }}
{{- $jwt := .Values.callerJwt }}
{{- if and $jwt.jwksConfigMapName (not (and $jwt.issuer $jwt.audience)) }}
{{- fail "callerJwt.jwksConfigMapName is set, and callerJwt.issuer or callerJwt.audience is not; set all three" }}
{{- end }}
{{- if and (or $jwt.issuer $jwt.audience) (not $jwt.jwksConfigMapName) }}
{{- fail "callerJwt.issuer or callerJwt.audience is set, and callerJwt.jwksConfigMapName is not; set all three" }}
{{- end }}
{{- if and .Values.auth0.ca.only (not .Values.auth0.ca.configMapName) }}
{{- fail "auth0.ca.only is set, and auth0.ca.configMapName is not, so no tenant could be trusted; set auth0.ca.configMapName" }}
{{- end }}
{{- $variables := include "session-checker.extraNames" . | fromYamlArray }}
{{- /* With `extraEnvFrom` the chart does not know the names. */}}
{{- $hasUnknown := .Values.extraEnvFrom }}
{{- with .Values.ledger }}
{{- if not (or .urlSecret.name $hasUnknown (has "SESSION_CHECKER_LEDGER" $variables)) }}
{{- $unused := dict "sentinelMaster" .sentinelMaster "user" .user "passwordSecret.name" .passwordSecret.name "ca.configMapName" .ca.configMapName }}
{{- range $name, $value := $unused }}
{{- if $value }}
{{- fail (printf "ledger.%s is set, and ledger.urlSecret.name is not, so there is no ledger to use it for; set ledger.urlSecret.name" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.auth0.proxy }}
{{- if not (or .url $hasUnknown (has "SESSION_CHECKER_AUTH0_PROXY" $variables)) }}
{{- range $name, $value := dict "exceptions" .exceptions "credentialsSecretName" .credentialsSecretName }}
{{- if $value }}
{{- fail (printf "auth0.proxy.%s is set, and auth0.proxy.url is not, so there is no proxy to use it for; set auth0.proxy.url" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.rbac.secretNames (not .Values.rbac.create) }}
{{- fail "rbac.secretNames is set, and rbac.create is not, so the chart creates no Role that they restrict; set rbac.create, or write the names into your own Role" }}
{{- end }}
{{- if and .Values.serviceAccount.annotations (not .Values.serviceAccount.create) }}
{{- fail "serviceAccount.annotations is set, and serviceAccount.create is not; set serviceAccount.create, or annotate the existing ServiceAccount yourself" }}
{{- end }}
{{- if and .Values.tests.enabled .Values.tests.tokenSecret.name .Values.tls.secretName (not .Values.tests.url) }}
{{- fail "tests.tokenSecret.name is set, and the test has no URL to send the token to: with tls.secretName the certificate does not have the name of the Service; set tests.url" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.hosts is empty: name at least one host" }}
{{- end }}
{{- with .Values.choose }}
{{- if .enabled }}
{{- if not .url }}
{{- fail "choose.url is empty: write the public origin of the page, such as https://sessions.example.com" }}
{{- end }}
{{- if and (not .ticketKeySecret.name) (gt (int (include "session-checker.replicas" $)) 1) }}
{{- fail "choose.ticketKeySecret.name is empty, and there is more than one Pod: create a Secret with a key (openssl rand -base64 32), so that each Pod reads the addresses that the others make" }}
{{- end }}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) }}
{{- fail "choose.httpRoute.parentRefs is empty: name at least one Gateway" }}
{{- end }}
{{- else }}
{{- range $name := list "ingress" "httpRoute" }}
{{- if (get $.Values.choose $name).enabled }}
{{- fail (printf "choose.%s.enabled is set, and choose.enabled is not, so there is no page to expose; set choose.enabled" $name) }}
{{- end }}
{{- end }}
{{- end }}
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
{{- if and .Values.podDisruptionBudget.maxUnavailable (ne (toString .Values.podDisruptionBudget.minAvailable) "") }}
{{- if ne (toString .Values.podDisruptionBudget.maxUnavailable) "1" }}
{{- fail "podDisruptionBudget: minAvailable and maxUnavailable are both set; set one of them, not both" }}
{{- end }}
{{- end }}
{{- with int .Values.terminationGracePeriodSeconds }}
{{- $needed := int (include "session-checker.shutdownSeconds" $) }}
{{- if lt . $needed }}
{{- fail (printf "terminationGracePeriodSeconds is %d, and the shutdown may take %d seconds; raise it to at least %d, or lower shutdown.drainSeconds" . $needed $needed) }}
{{- end }}
{{- end }}
{{- if and .Values.service.nodePort (eq .Values.service.type "ClusterIP") }}
{{- fail "service.nodePort is set, and service.type is ClusterIP; set service.type to NodePort or LoadBalancer" }}
{{- end }}
{{- if ne .Values.service.type "LoadBalancer" }}
{{- range $name := list "loadBalancerClass" "loadBalancerSourceRanges" }}
{{- if get $.Values.service $name }}
{{- fail (printf "service.%s is set, and service.type is not LoadBalancer; set service.type to LoadBalancer" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.service.externalTrafficPolicy (eq .Values.service.type "ClusterIP") }}
{{- fail "service.externalTrafficPolicy is set, and service.type is ClusterIP; set service.type to NodePort or LoadBalancer" }}
{{- end }}
{{- include "session-checker.validateKinds" . }}
{{- end }}

{{- /*
Fails when a policy is to be created in a cluster that does not know policies: Helm looks up all kinds before it installs
the first object, and would only say "no matches for kind". Without a cluster (`helm template`) nothing is known.
*/}}
{{- define "session-checker.validateKinds" -}}
{{- $policies := .Values.examplePolicy.enabled }}
{{- range .Values.extraObjects }}
{{- if regexMatch "(?m)^kind: *[\"']?SessionPolicy[\"']? *$" (kindIs "string" . | ternary . (toYaml .)) }}
{{- $policies = true }}
{{- end }}
{{- end }}
{{- if and $policies (not (.Capabilities.APIVersions.Has "sessionchecker.dev/v1alpha1/SessionPolicy")) }}
{{- if lookup "v1" "Namespace" "" "default" }}
{{- fail "the values contain a SessionPolicy, and this cluster has no CustomResourceDefinition for it yet. Install the chart session-checker-crds first, and set crds.enabled=false here. Or install this chart without policies first, and add them by an upgrade" }}
{{- end }}
{{- end }}
{{- end }}
