#!/bin/bash
# Makes what the one-node cluster is started from: Debian's packages for what touches the kernel, the rest from
# published Go modules. Quick when the result is there and its sources are the same.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"
programs=$here/programs

packages=(containerd runc containernetworking-plugins iptables nftables conntrack iproute2 openssl procps)
sources=$({
	cat "$programs"/go.{mod,sum} "$programs"/*/main.go
	echo "$kubernetes $helm $pause_image $coredns_image"
} | sha256sum | cut -d' ' -f1)

if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
	need_root
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
if [ "$(cat "$cache/built-from" 2>/dev/null)" = "$sources" ]; then exit 0; fi

wanted=$(sed -n 's/^go //p' "$programs/go.mod")
command -v go >/dev/null || fail "needs Go $wanted or newer to build Kubernetes, and there is no go in PATH"
found=$(go env GOVERSION); found=${found#go}
[ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -1)" = "$wanted" ] || fail "needs Go $wanted or newer to build Kubernetes; this one is $found"

export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
minor=${kubernetes#v1.}
version=k8s.io/component-base/version
# A module build stamps no version, and Helm charts refuse a server that says v0.0.0.
stamp="-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*} -X $version.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=$kubernetes"
build() { # LDFLAGS PACKAGE...
	echo "cluster: building ${*:2}"
	go build -C "$programs" -trimpath -ldflags "$1" -o "$bin/" "${@:2}"
}
mkdir -p "$bin" "$images"
build "$stamp" ./kubeall
build "$stamp" ./coredns ./pause
# likewise Helm: `helm template` asks no server, and would take Kubernetes for v1.20
chart=helm.sh/helm/v3/pkg/chartutil
build "-s -w -X helm.sh/helm/v3/internal/version.version=$helm -X $chart.k8sVersionMajor=1 -X $chart.k8sVersionMinor=${minor%%.*}" helm.sh/helm/v3/cmd/helm
for program in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
	ln -sf kubeall "$bin/$program"
done
pack() { # IMAGE PROGRAM USER
	"$here/../../.ci/xtask" pack --image "$1" --program "$bin/$2" --user "$3" --out "$images/$2.tar"
}
pack "$pause_image" pause 65535
pack "$coredns_image" coredns 0
echo "$sources" >"$cache/built-from"
