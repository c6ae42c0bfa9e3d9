{{- /* An account: (dict "at" . "part" "operator") */ -}}
{{- define "dapr.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: dapr-{{ .part }}
  {{- include "dapr.rbac.metadata" (dict "at" .at "namespace" .at.Release.Namespace) | nindent 2 }}
  {{- with (get .at.Values.serviceAccount .part).annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /*
A role and its binding to a part's account, or nothing where there are no rules: (dict "at" . "part" "operator" "name"
"dapr-operator" "namespace" "..." "rules" (include "..." .)). Without a namespace it is a ClusterRole.
*/ -}}
{{- define "dapr.grant" -}}
{{- $kind := ternary "Role" "ClusterRole" (hasKey . "namespace") }}
{{- if trim .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ .name }}
  {{- include "dapr.rbac.metadata" . | nindent 2 }}
rules:
{{- trim .rules | nindent 0 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ .name }}
  {{- include "dapr.rbac.metadata" . | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ .name }}}
subjects:
- {kind: ServiceAccount, name: dapr-{{ .part }}, namespace: {{ .at.Release.Namespace }}}
{{- end }}
{{- end }}

{{- define "dapr.rbac.metadata" -}}
labels:
  {{- include "dapr.labels" .at | nindent 2 }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
{{- end }}

{{- /* What a part asks of the namespaces with apps: everywhere, or with global.rbac.namespaced in one namespace. Takes what "dapr.grant" takes. */ -}}
{{- define "dapr.grantOverApps" -}}
{{- $grant := . }}
{{- if .at.Values.global.rbac.namespaced }}
{{- $grant = merge (dict "name" (.name | default (printf "dapr-%s-apps" .part)) "namespace" (include "dapr.appsNamespace" .at)) . }}
{{- end }}
{{- include "dapr.grant" $grant }}
{{- end }}
