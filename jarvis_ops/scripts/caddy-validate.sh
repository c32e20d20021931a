# Whether Caddy would run with a configuration, tried as the user that it runs as: a certificate
# which that user may not read is found, too. Usage: caddy-validate.sh CADDYFILE
home=$(mktemp -d) || exit 1
chown caddy "$home"
# It makes an authority to see whether it can: not the real one.
output=$(runuser -u caddy -- env XDG_DATA_HOME="$home" XDG_CONFIG_HOME="$home" \
    caddy validate --adapter caddyfile --config - <"$1" 2>&1)
status=$?
rm -rf "$home"
if [ "$status" -ne 0 ]; then printf '%s\n' "$output" | grep -v '"level":"info"' >&2; fi
exit "$status"
