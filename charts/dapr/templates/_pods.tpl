{{- /*
What the pods of all parts have in common. Most take the part's own context; those that also have to know which part
it is take (dict "at" . "part" "operator" "app" "dapr-operator").
*/ -}}

{{- define "dapr.labels" -}}
app.kubernetes.io/component: {{ .Values.component }}
{{- /* upstream's values file has the component among these, as a template that says the same */}}
{{- range $name, $value := omit .Values.global.k8sLabels "app.kubernetes.io/component" }}
{{ $name }}: {{ tpl $value $ | quote }}
{{- end }}
{{- end }}

{{- define "dapr.prometheusAnnotations" -}}
{{- with .Values.global.prometheus }}
{{- if .enabled }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .port | quote }}
prometheus.io/path: /
{{- end }}
{{- end }}
{{- end }}

{{- /* (list . "name") */ -}}
{{- define "dapr.image" -}}
{{- include "dapr.imageOfTag" (list (first .) (last .) (first .).Values.global.tag) }}
{{- end }}

{{- /* (list . "etcd" "v3.5.33") */ -}}
{{- define "dapr.imageOfTag" -}}
{{- $name := index . 1 }}
{{- if contains "/" $name }}{{ $name }}{{ else }}{{ (first .).Values.global.registry }}/{{ $name }}:{{ last . }}{{ end }}
{{- end }}

{{- define "dapr.sentryAddress" -}}
{{- .Values.global.mtls.sentryAddress | default (printf "dapr-sentry.%s.svc%s:443" .Release.Namespace .Values.global.dnsSuffix) }}
{{- end }}

{{- define "dapr.podMetadata" -}}
labels:
  app: {{ .app }}
  {{- include "dapr.labels" .at | nindent 2 }}
  {{- range $name, $value := .at.Values.global.labels }}
  {{ $name }}: {{ $value | quote }}
  {{- end }}
annotations:
  dapr.io/control-plane: {{ .part }}
  {{- include "dapr.prometheusAnnotations" .at | nindent 2 }}
  {{- with .at.Values.deploymentAnnotations | default .at.Values.statefulsetAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* A pod leaves its Services when it is told to stop, and goes on serving until every node has heard of it (Q-chart-restarts). */ -}}
{{- define "dapr.rollout" -}}
strategy:
  type: RollingUpdate
  rollingUpdate:
    {{- /* two pods cannot have the same port of one host */}}
    maxSurge: {{ ternary 0 1 (default false .Values.hostNetwork) }}
    maxUnavailable: {{ ternary 1 0 (default false .Values.hostNetwork) }}
{{- end }}

{{- define "dapr.lastSeconds" -}}
{{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
lifecycle:
  preStop:
    sleep: {seconds: 5}
{{- end }}
{{- end }}

{{- define "dapr.podSettings" -}}
{{- $global := .at.Values.global }}
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: {{ .at.Values.runAsNonRoot }}
  {{- if and .at.Values.runAsNonRoot (ne $global.daprControlPlaneOs "windows") }}
  seccompProfile:
    type: {{ $global.seccompProfile | default "RuntimeDefault" }}
  {{- end }}
  {{- with .at.Values.fsGroup }}
  fsGroup: {{ . }}
  {{- end }}
{{- if .at.Values.debug.enabled }}
shareProcessNamespace: true
{{- end }}
{{- with $global.imagePullSecrets }}
imagePullSecrets:
{{- range ternary (list .) . (kindIs "string" .) }}
- {{ ternary (dict "name" .) . (kindIs "string" .) | toJson }}
{{- end }}
{{- end }}
{{- with $global.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $global.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $global.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
      - matchExpressions:
        - {key: kubernetes.io/os, operator: In, values: [{{ $global.daprControlPlaneOs }}]}
        {{- with $global.daprControlPlaneArch }}
        - {key: kubernetes.io/arch, operator: In, values: [{{ . }}]}
        {{- end }}
  {{- if $global.ha.enabled }}
  podAntiAffinity:
    {{ $global.ha.podAntiAffinityPolicy }}:
    {{- $term := dict "topologyKey" $global.ha.topologyKey "labelSelector" (dict "matchLabels" (dict "app" .app)) }}
    {{- if hasPrefix "required" $global.ha.podAntiAffinityPolicy }}
    - {{ toJson $term }}
    {{- else }}
    - {weight: 100, podAffinityTerm: {{ toJson $term }}}
    {{- end }}
  {{- end }}
{{- with get $global.initContainers .part }}
initContainers:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- /* The security of containers of hooks, which need nothing. */ -}}
{{- define "dapr.hookContainer" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "dapr.containerSettings" -}}
imagePullPolicy: {{ .Values.global.imagePullPolicy }}
securityContext:
  runAsNonRoot: {{ .Values.runAsNonRoot }}
  {{- if ne .Values.global.daprControlPlaneOs "windows" }}
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: {{ not .Values.debug.enabled }}
  capabilities:
    drop: [ALL]
    {{- if .Values.debug.enabled }}
    add: [SYS_PTRACE]
    {{- end }}
  {{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- range $kind := list "livenessProbe" "readinessProbe" }}
{{- $probe := get $.Values $kind }}
{{ $kind }}:
  httpGet: {path: /healthz, port: {{ $.Values.healthzPort | default 8080 }}}
  initialDelaySeconds: {{ ternary $.Values.debug.initialDelaySeconds $probe.initialDelaySeconds $.Values.debug.enabled }}
  periodSeconds: {{ $probe.periodSeconds }}
  failureThreshold: {{ $probe.failureThreshold }}
{{- end }}
{{- include "dapr.lastSeconds" . }}
{{- end }}

{{- define "dapr.commonFlags" -}}
- --log-level={{ .Values.logLevel }}
- --log-as-json={{ .Values.global.logAsJson }}
- --enable-metrics={{ .Values.global.prometheus.enabled }}
- --metrics-port={{ .Values.global.prometheus.port }}
{{- end }}

{{- define "dapr.metricsPort" -}}
{{- if .Values.global.prometheus.enabled }}
- {name: metrics, containerPort: {{ .Values.global.prometheus.port }}, protocol: TCP}
{{- end }}
{{- if .Values.debug.enabled }}
- {name: debug, containerPort: {{ .Values.debug.port }}, protocol: TCP}
{{- end }}
{{- end }}

{{- define "dapr.metricsServicePort" -}}
{{- with .Values.global.prometheus }}
{{- if .enabled }}
- {name: metrics, port: {{ .port }}, targetPort: {{ .port }}, protocol: TCP, appProtocol: http}
{{- end }}
{{- end }}
{{- end }}

{{- define "dapr.commonEnvironment" -}}
- name: NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- range $name, $value := .Values.extraEnvVars }}
- {name: {{ $name | quote }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{- /* The anchors by which sentry is known, and the token by which a program is known to sentry. */ -}}
{{- define "dapr.identityMounts" -}}
- {name: dapr-trust-bundle, mountPath: /var/run/secrets/dapr.io/tls, readOnly: true}
{{- if .Values.global.mtls.mountSentryVolume }}
- {name: dapr-identity-token, mountPath: /var/run/secrets/dapr.io/sentrytoken, readOnly: true}
{{- end }}
{{- end }}

{{- /* What the three parts of the issuer's credentials are called in the Secret, and the first also in the ConfigMap. */ -}}
{{- define "dapr.issuerFilenames" -}}
{{- $names := dict "ca" "ca.crt" "cert" "issuer.crt" "key" "issuer.key" }}
{{- with .Values.global.issuerFilenames }}
{{- if not (and .ca .cert .key) }}
{{- fail "global.issuerFilenames: ca, cert and key are needed together" }}
{{- end }}
{{- $names = . }}
{{- end }}
{{- range $what, $name := $names }}
{{- if not (regexMatch "^[-._a-zA-Z0-9]+$" $name) }}
{{- fail (printf "global.issuerFilenames.%s: %q is a key of the Secret dapr-trust-bundle, so letters, digits, '-', '_' and '.' only" $what $name) }}
{{- end }}
{{- end }}
{{- if lt (len (uniq (values $names))) 3 }}
{{- fail "global.issuerFilenames: ca, cert and key need three names" }}
{{- end }}
{{- toYaml $names }}
{{- end }}

{{- define "dapr.identityVolumes" -}}
{{- /* Naming the key makes the kubelet wait for sentry to write it. An empty file would be mounted at once, and looked at again a minute later (Q-chart-trust-bundle). */}}
- name: dapr-trust-bundle
  configMap:
    name: dapr-trust-bundle
    items: [{key: {{ (include "dapr.issuerFilenames" . | fromYaml).ca }}, path: ca.crt}]
{{- if .Values.global.mtls.mountSentryVolume }}
- name: dapr-identity-token
  projected:
    sources:
    - serviceAccountToken:
        path: token
        expirationSeconds: 600
        audience: spiffe://{{ .Values.global.mtls.controlPlaneTrustDomain }}/ns/{{ .Release.Namespace }}/dapr-sentry
{{- end }}
{{- end }}

{{- /* Items of one of the extra* lists, which are keyed by part: (list . "extraVolumes" "operator") */ -}}
{{- define "dapr.extra" -}}
{{- with get (get (index . 0).Values.global (index . 1)) (index . 2) }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* (dict "at" . "name" "dapr-operator-disruption-budget" "app" "dapr-operator") */ -}}
{{- define "dapr.disruptionBudget" -}}
{{- with .at.Values.global.ha.disruption }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $.name }}
  namespace: {{ $.at.Release.Namespace }}
  labels:
    app: {{ $.app }}
    {{- include "dapr.labels" $.at | nindent 4 }}
spec:
  {{- if .minimumAvailable }}
  minAvailable: {{ .minimumAvailable }}
  {{- else }}
  maxUnavailable: {{ .maximumUnavailable }}
  {{- end }}
  selector:
    matchLabels: {app: {{ $.app }}}
{{- end }}
{{- end }}
