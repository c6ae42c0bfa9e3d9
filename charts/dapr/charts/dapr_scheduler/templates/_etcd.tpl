{{- /* The servers by name and address, as members of an etcd name each other. Upstream's members have these names, and keep them in their files. */ -}}
{{- define "dapr.scheduler.members" -}}
{{- $members := list }}
{{- range $index := until (int (include "dapr.scheduler.replicas" .)) }}
{{- $name := printf "dapr-scheduler-server-%d" $index }}
{{- $members = append $members (printf "%s=%s" $name (include "dapr.scheduler.peer" (list $ $name))) }}
{{- end }}
{{- join "," $members }}
{{- end }}

{{- /* (list . "dapr-scheduler-server-0") */ -}}
{{- define "dapr.scheduler.peer" -}}
{{- with first . }}https://{{ last $ }}.dapr-scheduler-server.{{ .Release.Namespace }}.svc{{ .Values.global.dnsSuffix }}:{{ .Values.ports.etcdGRPCPeerPort }}{{ end }}
{{- end }}

{{- /* A number of bytes out of a quantity such as 9.2E or 2Gi: etcd takes numbers only. */ -}}
{{- define "dapr.scheduler.bytes" -}}
{{- $text := . | toString }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 }}
{{- if not (hasKey $units $unit) }}
{{- fail (printf "dapr_scheduler.etcdSpaceQuota: %q is no number of bytes" $text) }}
{{- end }}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit | float64) | printf "%.0f" }}
{{- end }}

{{- /*
The member of an etcd beside a scheduler: with the data, names and flags that upstream gives the etcd within its scheduler, so
that it takes over from it, and the other way round. Other members know it by the identity that sentry gives the scheduler,
which the scheduler writes into a folder that both see. Takes the context of the part, the folder of the data and where the
volume is mounted.
*/ -}}
{{- define "dapr.scheduler.etcd" -}}
{{- $at := .at }}
{{- $identity := "/var/run/secrets/dapr.io/identity" }}
{{- $hosts := list }}
{{- range $index := until (int (include "dapr.scheduler.replicas" $at)) }}
{{- $hosts = append $hosts (urlParse (include "dapr.scheduler.peer" (list $at (printf "dapr-scheduler-server-%d" $index)))).hostname }}
{{- end }}
- name: etcd
  image: {{ include "dapr.imageOfTag" (list $at $at.Values.etcd.image.name $at.Values.etcd.image.tag) }}
  imagePullPolicy: {{ $at.Values.global.imagePullPolicy }}
  command: {{ toJson $at.Values.etcd.command }}
  args:
  - --name=$(SCHEDULER_ID)
  - --data-dir={{ .folder }}/dapr-0.1
  - --initial-cluster={{ include "dapr.scheduler.members" $at }}
  - --initial-advertise-peer-urls={{ include "dapr.scheduler.peer" (list $at "$(SCHEDULER_ID)") }}
  - --listen-peer-urls=https://0.0.0.0:{{ $at.Values.ports.etcdGRPCPeerPort }}
  # for the scheduler of this pod alone
  - --listen-client-urls=http://127.0.0.1:{{ $at.Values.ports.etcdGRPCClientPort }}
  - --advertise-client-urls=http://127.0.0.1:{{ $at.Values.ports.etcdGRPCClientPort }}
  - --listen-metrics-urls=http://0.0.0.0:{{ $at.Values.etcd.metricsPort }}
  - --peer-cert-file={{ $identity }}/cert.pem
  - --peer-key-file={{ $identity }}/key.pem
  - --peer-trusted-ca-file={{ $identity }}/ca.pem
  - --peer-client-cert-auth=true
  # every sidecar has a certificate of this authority, and only schedulers have one with these names
  - --peer-cert-allowed-hostname={{ join "," $hosts }}
  - --max-request-bytes=2147483647
  - --max-txn-ops={{ $at.Values.etcdMaxTxnOps | int64 }}
  - --quota-backend-bytes={{ include "dapr.scheduler.bytes" $at.Values.etcdSpaceQuota }}
  - --auto-compaction-mode={{ $at.Values.etcdCompactionMode }}
  - --auto-compaction-retention={{ $at.Values.etcdCompactionRetention }}
  - --snapshot-count={{ $at.Values.etcdSnapshotCount | int64 }}
  - --max-snapshots={{ $at.Values.etcdMaxSnapshots | int64 }}
  - --max-wals={{ $at.Values.etcdMaxWals | int64 }}
  - --backend-batch-limit={{ $at.Values.etcdBackendBatchLimit | int64 }}
  - --backend-batch-interval={{ $at.Values.etcdBackendBatchInterval }}
  - --experimental-bootstrap-defrag-threshold-megabytes={{ $at.Values.etcdDefragThresholdMB | int64 }}
  - --initial-election-tick-advance={{ $at.Values.etcdInitialElectionTickAdvance }}
  - --metrics={{ $at.Values.etcdMetrics }}
  env:
  - name: SCHEDULER_ID
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  ports:
  - {name: etcd-peer, containerPort: {{ $at.Values.ports.etcdGRPCPeerPort }}, protocol: {{ $at.Values.ports.protocol }}}
  - {name: etcd-metrics, containerPort: {{ $at.Values.etcd.metricsPort }}, protocol: TCP}
  securityContext:
    # whatever user the image names; that of the scheduler, whose identity it reads
    runAsUser: 65532
    runAsNonRoot: true
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  resources:
    {{- toYaml $at.Values.etcd.resources | nindent 4 }}
  livenessProbe:
    httpGet: {path: "/health?exclude=NOSPACE&serializable=true", port: {{ $at.Values.etcd.metricsPort }}}
    initialDelaySeconds: {{ $at.Values.livenessProbe.initialDelaySeconds }}
    periodSeconds: {{ $at.Values.livenessProbe.periodSeconds }}
    failureThreshold: {{ $at.Values.livenessProbe.failureThreshold }}
  {{- if semverCompare ">=1.30.0-0" $at.Capabilities.KubeVersion.Version }}
  # longer than the scheduler, which gives its jobs to the others first
  lifecycle:
    preStop:
      sleep: {seconds: 10}
  {{- end }}
  volumeMounts:
  - {name: dapr-scheduler-data-dir, mountPath: {{ .mount }}}
  - {name: dapr-scheduler-identity, mountPath: {{ $identity }}, readOnly: true}
{{- end }}
