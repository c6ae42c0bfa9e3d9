{{- /*
How many placement servers there are: none or one. Several would have to elect a leader, which placement cannot yet, so
neither `ha` nor global.ha.enabled makes more of them (Q-chart-placement). Empty: not even the Service is wanted.
*/ -}}
{{- define "dapr.placement.replicas" -}}
{{- if and .Values.global.actors.enabled (eq .Values.global.actors.serviceName "placement") -}}
{{- ternary 0 1 .Values.scaleZero }}
{{- end }}
{{- end }}
