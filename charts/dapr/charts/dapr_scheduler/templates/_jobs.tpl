{{- /*
Where jobs are, and that no upgrade leaves them behind. A release of this chart says of itself in annotations where its jobs are;
one of upstream's says nothing, and has them in an etcd within its scheduler.
*/ -}}

{{- /*
`embedded`: a file of one server. `etcd`: members of an etcd, one beside each of three servers. `external`: an etcd elsewhere.
Empty: no scheduler.
*/ -}}
{{- define "dapr.scheduler.store" -}}
{{- if .Values.global.scheduler.enabled -}}
{{- $wanted := .Values.etcd.enabled | toString }}
{{- if not .Values.etcdEmbed }}
{{- if not .Values.etcdClientEndpoints }}
{{- fail "dapr_scheduler.etcdEmbed=false: etcdClientEndpoints has to name the etcd" }}
{{- end }}
{{- print "external" }}
{{- else if or .Values.etcdClientEndpoints .Values.etcdClientUsername .Values.etcdClientPassword }}
{{- fail "dapr_scheduler.etcdClientEndpoints, etcdClientUsername and etcdClientPassword are of an etcd elsewhere, so of etcdEmbed=false" }}
{{- else if and (eq $wanted "true") .Values.cluster.inMemoryStorage }}
{{- fail "dapr_scheduler.etcd.enabled and cluster.inMemoryStorage: an etcd does not take back a member that has lost its files. Leave one of the two out" }}
{{- else if or (eq $wanted "true") (and (eq $wanted "auto") .Values.global.ha.enabled (not .Values.cluster.inMemoryStorage)) }}
{{- print "etcd" }}
{{- else }}
{{- print "embedded" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "dapr.scheduler.replicas" -}}
{{- with include "dapr.scheduler.store" . }}{{ ternary 1 3 (eq . "embedded") }}{{ end }}
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
{{- $upstreams := "etcd" }}
{{- range .spec.template.spec.containers }}
{{- if has "--etcd-embed=false" .args }}
{{- $upstreams = "external" }}
{{- end }}
{{- end }}
{{- $there := get $annotations "dapr.io/scheduler-store" | default $upstreams }}
{{- if and (ne $there $store) (eq (get $annotations "dapr.io/scheduler-folder") $.Values.cluster.folder) }}
{{- $where := get (dict "embedded" "a file of its own" "etcd" "an etcd among its servers" "external" "an etcd elsewhere") $there }}
{{- $how := get (dict "embedded" "etcd.enabled=false" "etcd" "etcd.enabled=true" "external" "etcdEmbed=false and etcdClientEndpoints") $there }}
{{- fail (printf "the scheduler of the release in namespace %s keeps its jobs in %s, and would begin without them (%s). It keeps them with dapr_scheduler.%s. Where no app has jobs, reminders or workflows that are to be kept, say so with another folder on the volume, such as dapr_scheduler.cluster.folder=%s. How jobs are moved is in docs/operations.md, \"Move a scheduler\"" $.Release.Namespace $where $store $how $store) }}
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
