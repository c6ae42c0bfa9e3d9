{{- /* How many placement servers there are: none, one, or the three that elect a leader. */ -}}
{{- define "dapr.placement.replicas" -}}
{{- $global := .Values.global }}
{{- if or .Values.scaleZero (not $global.actors.enabled) (ne $global.actors.serviceName "placement") }}0
{{- else }}{{ ternary 3 1 (or $global.ha.enabled .Values.ha) }}
{{- end }}
{{- end }}
{{- define "dapr.placement.wanted" -}}
{{- if and .Values.global.actors.enabled (eq .Values.global.actors.serviceName "placement") }}yes{{ end }}
{{- end }}
