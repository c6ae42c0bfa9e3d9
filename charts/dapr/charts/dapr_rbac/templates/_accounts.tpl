{{- /* An account and what binds roles to it: (dict "at" . "part" "operator" "clusterRole" "dapr-operator-admin" "role" "dapr-operator"); an empty role is bound to nothing. */ -}}
{{- define "dapr.account" -}}
{{- $account := printf "dapr-%s" .part }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $account }}
  {{- include "dapr.rbac.namespaced" .at | nindent 2 }}
  {{- with (get .at.Values.serviceAccount .part).annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- range $kind, $role := dict "ClusterRole" .clusterRole "Role" .role }}
{{- with $role }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $role }}
  {{- include (ternary "dapr.rbac.namespaced" "dapr.rbac.clustered" (eq $kind "Role")) $.at | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ $role }}}
subjects:
- {kind: ServiceAccount, name: {{ $account }}, namespace: {{ $.at.Release.Namespace }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "dapr.rbac.clustered" -}}
labels:
  {{- include "dapr.labels" . | nindent 2 }}
{{- end }}

{{- define "dapr.rbac.namespaced" -}}
namespace: {{ .Release.Namespace }}
{{ include "dapr.rbac.clustered" . }}
{{- end }}
