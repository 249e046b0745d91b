#!/bin/bash
# What the NFS protocol alone costs: the server's processor seconds per GiB, ours over a store that does nothing beside
# nfs-ganesha over its own memory and over a tmpfs, under the same client (qemu-img bench over libnfs) in the same run.
#
#   bench/compare/nfs-protocol.sh [ROUNDS]
#
# Needs root (network namespaces), qemu-utils, qemu-block-extra, rpcbind, nfs-ganesha, nfs-ganesha-mem and
# nfs-ganesha-vfs; what is not
# there is left out with a word. Prints the median and the range of ROUNDS (3) runs.
set -eu
cd "$(dirname "$0")/../.."
if [ "${IN_NAMESPACE:-}" != yes ]; then
    cargo build --release -q -p narrowboat --example nfs-null
    IN_NAMESPACE=yes exec unshare --net --mount --fork "$0" "$@"
fi
rounds=${1:-3}
work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
ip link set lo up
servers=()
trap 'kill "${servers[@]}" 2>/dev/null; wait; umount -l "$work"; rmdir "$work"' EXIT

ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# measure NAME PID URL: every access pattern, the server's cost of each.
measure() {
    local name=$1 pid=$2 url=$3 pattern direction size depth count
    for pattern in "write 1M 1 2048" "write 1M 16 2048" "read 1M 1 2048" "read 1M 16 2048" \
        "write 64K 32 16384" "read 64K 32 16384" "write 4K 32 65536" "read 4K 32 65536"; do
        read -r direction size depth count <<<"$pattern"
        local results=()
        for _ in $(seq "$rounds"); do
            local before after begun ended
            before=$(ticks "$pid"); begun=$(date +%s.%N)
            qemu-img bench $([ "$direction" = write ] && echo -w) -f raw -t none -c "$count" -d "$depth" -s "$size" \
                "$url" >/dev/null
            ended=$(date +%s.%N); after=$(ticks "$pid")
            results+=("$(python3 -c "
bytes = $count * {'1M': 1 << 20, '64K': 1 << 16, '4K': 1 << 12}['$size']
print(f'{($after - $before) / $(getconf CLK_TCK) / bytes * 2**30:.3f} {bytes / 2**20 / ($ended - $begun):.0f}')")")
        done
        printf '%s\n' "${results[@]}" | sort -n | awk -v row="$name, $direction $size x $depth" '
            { cost[NR] = $1; if ($2 > best) best = $2 }
            END { printf "%-34s %6.2f CPU s/GiB (%.2f to %.2f) %6d MiB/s at best\n",
                  row, cost[int((NR + 1) / 2)], cost[1], cost[NR], best }'
    done
}

mkfifo "$work/stop"
target/release/examples/nfs-null 127.0.0.1:2049 1073741824 <"$work/stop" >"$work/null.log" &
ours=$!; servers+=("$ours"); exec 9>"$work/stop"
sleep 1
measure "Narrowboat, null store" "$ours" "nfs://127.0.0.1/share/file"
exec 9>&-; wait "$ours" || true

if ! command -v ganesha.nfsd >/dev/null || ! command -v rpcbind >/dev/null; then
    echo "nfs-ganesha or rpcbind is not installed: left out"
    exit
fi
mkdir -p "$work/export" "$work/run"
mount -t tmpfs tmpfs /run
mkdir -p /run/ganesha /run/rpcbind
truncate -s 1G "$work/export/file"
rpcbind -f & servers+=("$!")
sleep 1

# rival NAME FSAL PATH: nfs-ganesha over one of its stores.
rival() {
    local name=$1 fsal=$2 path=$3 pid url
    cat >"$work/ganesha.conf" <<CONF
NFS_CORE_PARAM { Protocols = 3; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }
EXPORT { Export_Id = 1; Path = $path; Pseudo = /share; Access_Type = RW; Squash = No_Root_Squash;
         Protocols = 3; Transports = TCP; SecType = sys; FSAL { Name = $fsal; }
         MaxRead = 1048576; MaxWrite = 1048576; PrefRead = 1048576; PrefWrite = 1048576; }
CONF
    ganesha.nfsd -F -f "$work/ganesha.conf" -L "$work/ganesha.log" -p "$work/run/ganesha.pid" -N CRIT &
    pid=$!; servers+=("$pid")
    url="nfs://127.0.0.1$path/file"
    for _ in $(seq 40); do
        sleep 0.5
        qemu-img info -f raw "$url" >/dev/null 2>&1 && break
        qemu-img create -f raw "$url" 1G >/dev/null 2>&1 && break
    done
    if qemu-img info -f raw "$url" >/dev/null; then measure "$name" "$pid" "$url"; else tail -5 "$work/ganesha.log"; fi
    kill "$pid"; wait "$pid" || true
}

rival "nfs-ganesha, its memory store" MEM /mem
rival "nfs-ganesha, tmpfs" VFS "$work/export"
