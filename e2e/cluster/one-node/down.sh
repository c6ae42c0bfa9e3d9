#!/bin/bash
# Ends the one-node cluster and removes what it left: processes, mounts, network, cgroups, files. It ends only what
# up.sh started: the processes noted in the run folder, and the containers and shims of this cluster's containerd.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"
[ -e "$run" ] || { echo "cluster: none is running"; exit 0; }
need_root

# Nothing in it is worth a graceful end. A dead process may stay a zombie for long, hence no `kill -0`; and a number
# noted before a reboot may be another process by now, hence the look at its command line.
alive() { grep -qsE '^State:\s+[^ZX]' "/proc/$1/status"; }
stop() {
	local name pid
	for name; do
		pid=$(cat "$run/pids/$name" 2>/dev/null) || continue
		[[ $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") == *"$name"* ]] || continue
		kill -9 "$pid" 2>/dev/null
		while alive "$pid"; do sleep 0.05; done
	done
}
stop kubelet kube-scheduler kube-controller-manager kube-proxy kube-apiserver etcd

if [ -S "$sockets/containerd.sock" ]; then
	for task in $(timeout 10 "${ctr[@]}" tasks ls -q 2>/dev/null); do
		timeout 10 "${ctr[@]}" tasks kill --all --signal KILL "$task" 2>/dev/null
	done
	for _ in {1..30}; do
		timeout 10 "${ctr[@]}" tasks ls 2>/dev/null | grep -q RUNNING || break
		sleep 0.1
	done
fi
stop containerd
for process in /proc/[0-9]*; do
	mapfile -d '' -t command <"$process/cmdline" 2>/dev/null || continue
	[[ ${command[0]:-} == *containerd-shim-runc-v2 && " ${command[*]} " == *" -address $sockets/containerd.sock "* ]] &&
		kill -9 "${process#/proc/}" 2>/dev/null
done

# Volumes, root file systems and network namespaces of pods, innermost first; some free others, hence the rounds.
mounted() { awk '{ print $5 }' /proc/self/mountinfo | grep -E "^($run|$sockets)/" | sort -r; }
for _ in 1 2 3; do
	mounted | while read -r point; do umount "$point" 2>/dev/null || umount -l "$point"; done
	[ -n "$(mounted)" ] || break
done

ip link del "$bridge" 2>/dev/null
iptables -w -S 2>/dev/null | grep -e '--comment dapr-cluster' | sed 's/^-A/-D/' | while read -r rule; do eval "iptables -w $rule"; done
timeout 20 "$bin/kube-proxy" --cleanup >/dev/null 2>&1
for tables in iptables ip6tables; do
	for table in nat filter mangle; do
		# the rules that point into the chains first, or the chains cannot go
		"$tables" -w -t $table -S 2>/dev/null | grep -E '^-A .*(CNI-|KUBE-)' | sed 's/^-A/-D/' |
			while read -r rule; do eval "$tables -w -t $table $rule" 2>/dev/null; done
		"$tables" -w -t $table -S 2>/dev/null | sed -nE 's/^-N ((CNI|KUBE)-.*)$/\1/p' |
			while read -r chain; do "$tables" -w -t $table -F "$chain" && "$tables" -w -t $table -X "$chain"; done 2>/dev/null
	done
done

for pods in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods; do
	[ -d "$pods" ] && find "$pods" -depth -type d -exec rmdir {} + 2>/dev/null
done
while IFS='=' read -r key value; do
	[ -n "$value" ] && sysctl -qw "$key=$value" 2>/dev/null
done <"$run/sysctl.before"
rm -rf --one-file-system "$run" "$sockets"
echo "cluster: stopped"
