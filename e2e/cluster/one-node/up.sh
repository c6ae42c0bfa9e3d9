#!/bin/bash
# Starts the one-node cluster: etcd, the Kubernetes programs and containerd as processes of this machine, CoreDNS as
# a pod. down.sh undoes all of it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"
need_root
if [ -e "$run/which" ]; then
	kubectl --kubeconfig "$own_kubeconfig" get --raw /readyz >/dev/null 2>&1 && exit 0
	echo "cluster: the cluster in $run no longer answers; starting anew"
fi
if [ -e "$run" ]; then "$here/one-node/down.sh"; fi
export KUBECONFIG=$own_kubeconfig
pki=$run/pki
mkdir -p "$run"/{pki,logs,pids,etcd,kubelet,containerd,cni/conf,cni/ipam,pod-logs} "$sockets"
chmod 700 "$pki"
node_ip=${NODE_IP:-$(ip -4 -o addr show scope global | awk -v bridge="$bridge" '$2 != bridge { split($4, a, "/"); print a[1]; exit }')}
[ -n "$node_ip" ] || fail "this machine has no IPv4 address that pods could reach; set NODE_IP"
say() { printf 'cluster: %4d s  %s\n' "$SECONDS" "$*"; }

# --- the machine: everything here is noted or marked, for down.sh to take back

mount --make-rshared / # the kubelet propagates mounts out of pods
for setting in net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1 vm.overcommit_memory=1 \
	kernel.panic=10 kernel.panic_on_oops=1 fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=524288; do
	echo "${setting%%=*}=$(sysctl -n "${setting%%=*}" 2>/dev/null || true)" >>"$run/sysctl.before"
	sysctl -qw "$setting" || echo "cluster: cannot set $setting" >&2
done

# Pods may talk to pods and to this machine. Anything else is refused at once: without the last rule a wrong port of a
# Service would be routed out, and on a machine behind a transparent proxy that proxy would answer it. The rules are
# inserted, not appended, because a Docker engine leaves FORWARD on DROP; so they stand here last one first.
firewall() { iptables -w -I "$@" -m comment --comment dapr-cluster; }
firewall FORWARD -i "$bridge" -j REJECT
firewall FORWARD -i "$bridge" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
firewall FORWARD -o "$bridge" -j ACCEPT
firewall OUTPUT -d "$service_range" -j REJECT # filter comes after nat: only what kube-proxy knows no Service for

# --- keys

new_key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${new_key[@]}" -days 30 -subj /CN=dapr-cluster-ca -keyout "$pki/ca.key" -out "$pki/ca.crt" \
	-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature 2>/dev/null
certify() { # NAME COMMON-NAME ORGANISATION [ALTERNATIVE-NAMES]
	openssl req -new "${new_key[@]}" -subj "/O=$3/CN=$2" -keyout "$pki/$1.key" -out "$pki/$1.csr" 2>/dev/null
	{
		printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature extendedKeyUsage=serverAuth,clientAuth
		[ -z "${4:-}" ] || echo "subjectAltName=$4"
	} >"$pki/$1.ext"
	openssl x509 -req -days 30 -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" \
		-set_serial "0x$(openssl rand -hex 8)" -extfile "$pki/$1.ext" -out "$pki/$1.crt" 2>/dev/null
	rm "$pki/$1.csr" "$pki/$1.ext"
}
kubeconfig() { # FILE NAME-OF-KEY
	(umask 077 && cat >"$1") <<-EOF
	apiVersion: v1
	kind: Config
	clusters:
	- name: dapr
	  cluster: {server: "https://$node_ip:$api_port", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}
	users:
	- name: $2
	  user: {client-certificate-data: $(base64 -w0 "$pki/$2.crt"), client-key-data: $(base64 -w0 "$pki/$2.key")}
	contexts:
	- name: dapr
	  context: {cluster: dapr, user: $2}
	current-context: dapr
	EOF
}
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$pki/tokens.key" 2>/dev/null
openssl pkey -in "$pki/tokens.key" -pubout -out "$pki/tokens.pub"
internal_names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
certify apiserver kube-apiserver cluster "$internal_names,DNS:localhost,IP:127.0.0.1,IP:$api_service,IP:$node_ip"
certify kubelet-server "$node" cluster "DNS:$node,IP:$node_ip"
certify apiserver-to-kubelet kube-apiserver-kubelet-client system:masters
certify admin dapr-admin system:masters
certify controller-manager system:kube-controller-manager system:kube-controller-manager
certify scheduler system:kube-scheduler system:kube-scheduler
certify kubelet "system:node:$node" system:nodes
certify proxy system:kube-proxy cluster
for user in admin controller-manager scheduler kubelet proxy; do kubeconfig "$run/$user.kubeconfig" "$user"; done
say "keys made"

# --- processes

start() { # NAME COMMAND...
	setsid "${@:2}" >"$run/logs/$1.log" 2>&1 </dev/null &
	echo $! >"$run/pids/$1"
}
await() { # SECONDS WHAT COMMAND...
	local end=$((SECONDS + $1))
	until "${@:3}" >/dev/null 2>&1; do
		if [ $SECONDS -ge $end ]; then
			tail -n 5 "$run"/logs/*.log | cut -c1-300 >&2
			fail "gave up waiting: $2; the logs are in $run/logs"
		fi
		sleep 0.2
	done
	say "$2"
}

# restrict_oom_score_adj: a sandbox without CAP_SYS_RESOURCE may not lower oom_score_adj, and no pod would start in it.
cat >"$run/containerd.toml" <<EOF
version = 2
root = "$run/containerd"
state = "$sockets/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$sockets/containerd.sock"
[ttrpc]
  address = "$sockets/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause_image"
  stream_server_address = "127.0.0.1"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  cni = { bin_dir = "/usr/lib/cni", conf_dir = "$run/cni/conf" }
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    runtimes = { runc = { runtime_type = "io.containerd.runc.v2", options = { SystemdCgroup = false } } }
EOF
cat >"$run/cni/conf/10-dapr.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "dapr", "plugins": [
  {"type": "bridge", "bridge": "$bridge", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$run/cni/ipam", "ranges": [[{"subnet": "$pod_range"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
EOF
start containerd containerd --config "$run/containerd.toml"
start etcd "$bin/etcd" --data-dir "$run/etcd" --log-level warn --unsafe-no-fsync \
	--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
	--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
	--initial-cluster default=http://127.0.0.1:2380
start kube-apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
	--advertise-address="$node_ip" --secure-port=$api_port --service-cluster-ip-range=$service_range \
	--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true --profiling=false \
	--client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
	--kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
	--kubelet-client-certificate="$pki/apiserver-to-kubelet.crt" --kubelet-client-key="$pki/apiserver-to-kubelet.key" \
	--service-account-issuer=https://kubernetes.default.svc.cluster.local \
	--service-account-key-file="$pki/tokens.pub" --service-account-signing-key-file="$pki/tokens.key"
await 60 "containerd answers" "${ctr[@]}" version
imports=()
for archive in "$images"/*.tar; do
	"${ctr[@]}" images import "$archive" >>"$run/logs/import.log" 2>&1 &
	imports+=($!)
done
for import in "${imports[@]}"; do wait "$import" || fail "an image of the cluster was not imported; see $run/logs/import.log"; done
await 120 "API server ready" kubectl get --raw /readyz

# Under RBAC only the controllers' own accounts have the controllers' rights.
start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig="$run/controller-manager.kubeconfig" \
	--use-service-account-credentials --leader-elect=false --profiling=false \
	--service-account-private-key-file="$pki/tokens.key" --root-ca-file="$pki/ca.crt" \
	--cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key"
start kube-scheduler "$bin/kube-scheduler" --kubeconfig="$run/scheduler.kubeconfig" --leader-elect=false --profiling=false

# An image that the kubelet collects is gone for good, with no registry to pull from; hence no bound on disk use.
cat >"$run/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$sockets/containerd.sock
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
clusterDNS: [$dns_service]
clusterDomain: cluster.local
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet-server.crt
tlsPrivateKeyFile: $pki/kubelet-server.key
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", nodefs.inodesFree: "1%", imagefs.available: "1%", imagefs.inodesFree: "1%"}
podLogsDir: $run/pod-logs
volumePluginDir: $run/kubelet/plugins-exec
staticPodPath: ""
serializeImagePulls: false
maxPods: 200
registryPullQPS: 0
eventRecordQPS: 0
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
EOF
start kubelet "$bin/kubelet" --config="$run/kubelet.yaml" --kubeconfig="$run/kubelet.kubeconfig" \
	--hostname-override=$node --node-ip="$node_ip" --root-dir="$run/kubelet" --cert-dir="$run/kubelet/pki"

cat >"$run/proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ${PROXY_MODE:-iptables}
hostnameOverride: $node
clusterCIDR: $pod_range
clientConnection: {kubeconfig: $run/proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 100ms}
nftables: {minSyncPeriod: 100ms}
EOF
kubectl create clusterrolebinding dapr-kube-proxy --clusterrole=system:node-proxier --user=system:kube-proxy >/dev/null
start kube-proxy "$bin/kube-proxy" --config="$run/proxy.yaml"
kubectl apply -f "$here/one-node/coredns.yaml" >/dev/null
# Claims are given folders of this machine, made beforehand: nobody makes more of them, and none is given twice.
volume() { # NUMBER
	mkdir -p "$run/volumes/$1"
	cat <<-EOF
	---
	apiVersion: v1
	kind: PersistentVolume
	metadata: {name: volume-$1}
	spec:
	  capacity: {storage: 16Gi}
	  accessModes: [ReadWriteOnce]
	  storageClassName: folders
	  local: {path: "$run/volumes/$1"}
	  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$node]}]}]}}
	EOF
}
{
	cat <<-EOF
	apiVersion: storage.k8s.io/v1
	kind: StorageClass
	metadata: {name: folders, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
	provisioner: kubernetes.io/no-provisioner
	volumeBindingMode: WaitForFirstConsumer
	EOF
	for number in {1..30}; do volume "$number"; done
} | kubectl apply -f - >/dev/null
await 120 "node registered" kubectl get node $node
await 120 "node ready" kubectl wait --for=condition=Ready node/$node --timeout=1s
await 120 "DNS ready" kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=1s
echo one-node >"$run/which"
say "up: export KUBECONFIG=$KUBECONFIG"
