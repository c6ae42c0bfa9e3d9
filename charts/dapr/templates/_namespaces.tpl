{{- /* The one namespace with apps, where there is only one; empty: all. */ -}}
{{- define "dapr.appsNamespace" -}}
{{- with .Values.global.rbac }}
{{- .watchNamespace | default (ternary $.Release.Namespace "" .namespaced) }}
{{- end }}
{{- end }}
