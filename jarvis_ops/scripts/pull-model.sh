# Pull a model through the host's own Ollama, with a line of progress every two seconds.
# Usage: pull-model.sh URL MODEL BODY MANIFEST DIGEST STALL SILENCE
#   BODY      the request as JSON
#   MANIFEST  where Ollama keeps the model's manifest
#   DIGEST    the manifest's sha256, or '-' for any
#   STALL     seconds without a byte more of a layer after which the pull is given up
#   SILENCE   seconds without a word from Ollama after which it is
set -u
url=$1 model=$2 body=$3 manifest=$4 digest=$5 stall=$6 silence=$7

fail() {
    echo "$*" >&2
    exit 1
}

# The number after a key, or nothing: number KEY LINE
number() {
    rest=${2#*\""$1"\":}
    if [ "$rest" != "$2" ]; then echo "${rest%%[!0-9]*}"; fi
}

# The text after a key, as it stands in the JSON, or nothing: text KEY LINE
text() {
    rest=${2#*\""$1"\":\"}
    if [ "$rest" != "$2" ]; then printf '%s\n' "$rest" | sed 's/"[,}].*$//; s/\\"/"/g'; fi
}

# A number of bytes in millions, with one decimal
mega() { echo "$(($1 / 1000000)).$(($1 / 100000 % 10))"; }

size() {
    if [ "$1" -lt 1000000000 ]; then echo "$(mega "$1") MB"; else echo "$(mega "$(($1 / 1000))") GB"; fi
}

show() {
    total=$(number total "$line")
    completed=$(number completed "$line")
    completed=${completed:-0}
    if [ "${total:-0}" = 0 ]; then return; fi
    if [ "$completed" != "$last_completed" ]; then moved_at=$now; fi
    if [ "$((now - moved_at))" -ge "$stall" ]; then
        fail "$model: nothing has come for $stall seconds; what has come so far is kept"
    fi
    speed=
    if [ "$completed" -ge "$last_completed" ] && [ "$last_completed" -gt 0 ]; then
        speed=", $(mega "$(((completed - last_completed) / (now - shown_at)))") MB/s"
    fi
    last_completed=$completed
    echo "$model: $((completed * 100 / total))% of $(size "$total")$speed"
}

follow() {
    status=
    last_completed=0
    shown_at=0
    moved_at=$(date +%s)
    while read -r line || [ -n "$line" ]; do
        error=$(text error "$line")
        if [ -n "$error" ]; then fail "$model: $error"; fi
        status=$(text status "$line")
        now=$(date +%s)
        if [ "$((now - shown_at))" -lt 2 ]; then continue; fi
        case $status in
        pulling\ [0-9a-f]*) show ;;
        success) ;;
        *) echo "$model: $status" ;;
        esac
        shown_at=$now
    done
    if [ "$status" = success ]; then return; fi
    fail "$model: Ollama ended the pull after '${status:-nothing}'; the next run takes it up"
}

curl -sS -N --noproxy '*' --connect-timeout 15 --speed-limit 1 --speed-time "$silence" \
    -X POST -d "$body" "$url/api/pull" | follow || exit 1
sync -f "${manifest%/manifests/*}"
if [ "$digest" != - ]; then
    found=$(sha256sum <"$manifest")
    found=${found%% *}
    [ "$found" = "$digest" ] || fail "$model: its digest is $found, and the inventory expects $digest"
fi
echo "$model: pulled"
