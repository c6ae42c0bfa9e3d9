# Where the cluster keeps its things and what they are called; sourced by the scripts of this folder.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DAPR_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dapr/cluster}
bin=$cache/bin       # programs, built once a machine: this folder and the next are all that a CI cache needs
images=$cache/images # images of the cluster itself, imported at every start
run=$cache/run       # all that a running cluster writes; `down` removes it
sockets=/run/dapr-cluster # a unix socket's path ends at 107 bytes, so these do not go below $run

kubernetes=v1.34.4 # the version in programs/go.mod; charts ask the API server for it
helm=v3.19.5       # likewise
node=dapr-node
service_range=10.96.0.0/16
api_service=10.96.0.1 # the first address of service_range, always
dns_service=10.96.0.10
pod_range=10.244.0.0/24
bridge=daprcni0
api_port=6443
pause_image=localhost/cluster/pause:1
coredns_image=localhost/cluster/coredns:1
kind_cluster=dapr-e2e
kind_node=kindest/node:v1.34.0 # the nearest that kind publishes

own_kubeconfig=$run/admin.kubeconfig
ctr=(ctr --address "$sockets/containerd.sock" --namespace k8s.io)
PATH=$bin:$PATH:/usr/sbin:/sbin

fail() { echo "cluster: $*" >&2; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || fail "the one-node cluster starts a kubelet and a container runtime, which needs root"; }
