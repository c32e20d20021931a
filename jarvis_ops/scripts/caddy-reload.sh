# Have Caddy load its configuration, and wait until the endpoint answers through it. A reload cuts no
# stream.
# Usage: caddy-reload.sh UNIT SOCKET MARKER HOSTNAME PORT ADDRESS SECONDS LINES
unit=$1 socket=$2 marker=$3 hostname=$4 port=$5 address=$6 seconds=$7 lines=$8

fail() {
    journalctl --no-pager -o cat -n "$lines" -u "$unit" | grep -v '"level":"info"'
    echo "$*" >&2
    exit 1
}

loaded() { curl -fsS --max-time 5 -H 'Host;' --unix-socket "$socket" http://caddy/config/ 2>/dev/null; }

is_loaded() { loaded | grep -q "\"jarvis_config\":\"$marker\""; }

if ! is_loaded; then
    # A reload goes through the socket, which only a configuration of ours opens.
    if loaded >/dev/null; then how=reload; else how=restart; fi
    systemctl "$how" "$unit" || fail "Caddy does not take its new configuration (systemctl $how $unit)"
    is_loaded || fail "Caddy has loaded another configuration than ours; see: systemctl cat $unit"
fi
until=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$until" ]; do
    said=$(curl -kfsS --noproxy '*' --max-time 5 -o /dev/null \
        --resolve "$hostname:$port:$address" "https://$hostname:$port/health/live" 2>&1) && exit 0
    sleep 0.5
done
fail "https://$hostname:$port does not answer: $said"
