# Have Caddy load its configuration, and wait until the endpoint answers through it.
# Usage: caddy-reload.sh UNIT SOCKET MARKER HOSTNAME PORT ADDRESS SECONDS LINES
unit=$1 socket=$2 marker=$3 hostname=$4 port=$5 address=$6 seconds=$7 lines=$8

fail() {
    journalctl --no-pager -o cat -n "$lines" -u "$unit" | grep -v '"level":"info"'
    echo "$*" >&2
    exit 1
}

is_loaded() {
    curl -fsS --max-time 5 -H 'Host;' --unix-socket "$socket" http://caddy/config/ 2>/dev/null |
        grep -q "\"jarvis_config\":\"$marker\""
}

if ! is_loaded; then
    systemctl reload "$unit" || fail "Caddy does not load its configuration, and goes on with the one before"
    is_loaded || fail "Caddy has loaded another configuration than ours; see: systemctl cat $unit"
fi
until=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$until" ]; do
    said=$(curl -kfsS --noproxy '*' --max-time 5 -o /dev/null \
        --resolve "$hostname:$port:$address" "https://$hostname:$port/health/live" 2>&1) && exit 0
    sleep 0.5
done
fail "https://$hostname:$port does not answer: $said"
