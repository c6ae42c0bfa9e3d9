{{- /*
How many placement servers there are: none, one, or three that elect a leader, with `ha` or global.ha.enabled. Empty: not
even the Service is wanted.
*/ -}}
{{- define "dapr.placement.replicas" -}}
{{- if and .Values.global.actors.enabled (eq .Values.global.actors.serviceName "placement") -}}
{{- if .Values.scaleZero }}0{{ else if or .Values.ha .Values.global.ha.enabled }}3{{ else }}1{{ end }}
{{- end }}
{{- end }}

{{- /* The servers by name and address, as each of them has to know them. */ -}}
{{- define "dapr.placement.members" -}}
{{- $members := list }}
{{- range $index := until (int (include "dapr.placement.replicas" .)) }}
{{- $name := printf "dapr-placement-server-%d" $index }}
{{- $members = append $members (printf "%s=%s.dapr-placement-server.%s.svc%s:%v" $name $name $.Release.Namespace $.Values.global.dnsSuffix $.Values.ports.raftRPCPort) }}
{{- end }}
{{- join "," $members }}
{{- end }}
