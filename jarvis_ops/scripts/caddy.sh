# What Caddy has loaded and what stands in its way, as key=value lines.
# Usage: caddy.sh CADDYFILE SOCKET AUTHORITY HOSTNAME PORT ADDRESS FILE...
caddyfile=$1 socket=$2 authority=$3 hostname=$4 port=$5 address=$6
shift 6
for file in "$@"; do
    if [ ! -f "$file" ]; then echo "missing=$file"; fi
done
if [ -S "$socket" ]; then
    # Caddy lets nobody in by that socket who names a host.
    curl -fsS --max-time 5 -H 'Host;' --unix-socket "$socket" http://caddy/config/ |
        sed -n 's/.*"jarvis_config":"\([0-9a-f]*\)".*/loaded=\1/p'
fi
status=$(curl -ksS --noproxy '*' --max-time 5 -o /dev/null -w '%{http_code}' \
    --resolve "$hostname:$port:$address" "https://$hostname:$port/health/live")
echo "status=$status"
if ! command -v caddy >/dev/null; then
    # Without these options apt would write its cache, and a dry run would change the machine.
    options='-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache='
    # shellcheck disable=SC2086 # several words
    candidate=$(apt-cache $options policy caddy | sed -n 's/^ *Candidate: *//p')
    # The lists of a fresh machine may be empty yet, except that Ubuntu 22.04 has no such package.
    case ${candidate:-unknown}$(sed -n 's/^VERSION_ID=//p' /etc/os-release) in
    '(none)'* | 'unknown"22.04"') echo "unavailable=caddy" ;;
    esac
fi
if [ -f "$caddyfile" ] && ! head -n 1 "$caddyfile" | grep -q 'Made by jarvis-ops'; then
    shipped=$(dpkg-query -W -f '${Conffiles}\n' caddy | awk -v f="$caddyfile" '$1 == f { print $2 }')
    found=$(md5sum <"$caddyfile" | cut -c1-32)
    if [ "$found" != "$shipped" ]; then echo "foreign=$caddyfile"; fi
fi
if [ -s "$authority" ]; then sed 's/^/authority=/' "$authority"; fi
