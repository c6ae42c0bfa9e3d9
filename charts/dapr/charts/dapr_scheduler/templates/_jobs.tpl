{{- /*
Where jobs are, and that no upgrade leaves them behind. A release of this chart says of itself in annotations where its jobs are;
one of upstream's says nothing, and has them in an etcd within its scheduler.
*/ -}}

{{- /* `embedded`: a file of one server. `etcd`: members of an etcd, one beside each of three servers. Empty: no scheduler. */ -}}
{{- define "dapr.scheduler.store" -}}
{{- if .Values.global.scheduler.enabled -}}
{{- if or (not .Values.etcdEmbed) .Values.etcdClientEndpoints }}
{{- fail "dapr_scheduler.etcdEmbed=false and etcdClientEndpoints: jobs in an etcd elsewhere are not read yet, and would never fire. Leave both out to begin with an empty store, or turn the scheduler off with global.scheduler.enabled=false" }}
{{- end }}
{{- $wanted := .Values.etcd.enabled | toString }}
{{- $members := eq $wanted "true" }}
{{- if eq $wanted "auto" }}
{{- $members = .Values.global.ha.enabled }}
{{- end }}
{{- ternary "etcd" "embedded" $members }}
{{- end }}
{{- end }}

{{- define "dapr.scheduler.replicas" -}}
{{- with include "dapr.scheduler.store" . }}{{ ternary 3 1 (eq . "etcd") }}{{ end }}
{{- end }}

{{- define "dapr.scheduler.annotations" -}}
dapr.io/scheduler-store: {{ include "dapr.scheduler.store" . }}
{{- with .Values.cluster.folder }}
dapr.io/scheduler-folder: {{ . | quote }}
{{- end }}
{{- end }}

{{- /* Refuses an upgrade that would leave jobs behind, and says how they are moved (Q-chart-scheduler). */ -}}
{{- define "dapr.scheduler.check" -}}
{{- $store := include "dapr.scheduler.store" . }}
{{- with include "dapr.scheduler.live" . | fromYaml }}
{{- $annotations := .metadata.annotations | default dict }}
{{- $there := get $annotations "dapr.io/scheduler-store" | default "etcd" }}
{{- if and (ne $there $store) (eq (get $annotations "dapr.io/scheduler-folder") $.Values.cluster.folder) }}
{{- $how := ternary "Three servers with members of an etcd (dapr_scheduler.etcd.enabled=true) take it over with its jobs" "One server with that store (dapr_scheduler.etcd.enabled=false) keeps it" (eq $there "etcd") }}
{{- fail (printf "the scheduler of the release in namespace %s keeps its jobs in %s, and these values ask for another store (%s), which would begin without them. %s. Where no app has jobs, reminders or workflows that are to be kept, say so with another folder on the volume, such as dapr_scheduler.cluster.folder=%s. How jobs are moved is in docs/operations.md, \"Move a scheduler\"" $.Release.Namespace (ternary "etcd" "a file" (eq $there "etcd")) $store $how $store) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The StatefulSet as it is now, or nothing. `helm template` asks no cluster, and renders a first installation. */ -}}
{{- define "dapr.scheduler.live" -}}
{{- lookup "apps/v1" "StatefulSet" .Release.Namespace "dapr-scheduler-server" | toYaml }}
{{- end }}

{{- /* A StatefulSet's claims cannot be changed, so the size is that of the first installation, also of one that was removed. */ -}}
{{- define "dapr.scheduler.storageSize" -}}
{{- $size := .Values.cluster.storageSize }}
{{- with lookup "v1" "PersistentVolumeClaim" .Release.Namespace "dapr-scheduler-data-dir-dapr-scheduler-server-0" }}
{{- $size = .spec.resources.requests.storage }}
{{- end }}
{{- range (include "dapr.scheduler.live" . | fromYaml | default (dict "spec" dict)).spec.volumeClaimTemplates }}
{{- if eq .metadata.name "dapr-scheduler-data-dir" }}
{{- $size = .spec.resources.requests.storage }}
{{- end }}
{{- end }}
{{- $size }}
{{- end }}
