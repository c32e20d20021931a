# Wait until Caddy has made its authority. Usage: caddy-authority.sh CERTIFICATE SECONDS
until=$(($(date +%s) + $2))
while [ ! -s "$1" ]; do
    if [ "$(date +%s)" -ge "$until" ]; then
        echo "Caddy has not made its authority within $2 seconds: $1 is not there" >&2
        exit 1
    fi
    sleep 0.2
done
