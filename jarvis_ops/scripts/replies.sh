# Ask web servers: one line per request, the base64 of headers and body, or of what went wrong.
# Usage: replies.sh METHOD URL [METHOD URL]...
while [ $# -gt 0 ]; do
    case $1 in
    HEAD) option=--head ;;
    *) option=--get ;;
    esac
    curl -sS -i -L "$option" --connect-timeout 15 --max-time 60 --proto '=https,http' \
        -H 'Accept: application/vnd.docker.distribution.manifest.v2+json, */*' "$2" 2>&1 |
        base64 -w 0
    echo
    shift 2
done
