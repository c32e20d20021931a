# Who listens on TCP ports: the port, the process's id, its name, and its system service or '-'.
# From /proc, because a freshly installed machine may have neither ss nor lsof.
# Usage: listeners.sh PORT...
for port in "$@"; do
    ends=$(printf ':%04X$' "$port")
    # Column 4 is the state, 0A is LISTEN; column 10 is the socket's inode.
    awk -v ends="$ends" '$4 == "0A" && $2 ~ ends { print $10 }' /proc/net/tcp /proc/net/tcp6 |
        while read -r inode; do
            fd=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" | head -n 1)
            pid=${fd#/proc/}
            pid=${pid%%/*}
            if [ -z "$pid" ]; then
                echo "$port 0 unknown -"
                continue
            fi
            unit=$(sed -n 's|.*/system\.slice/\([^/]*\.service\).*|\1|p' "/proc/$pid/cgroup" | head -n 1)
            echo "$port $pid $(tr ' ' '_' <"/proc/$pid/comm") ${unit:--}"
        done
done
