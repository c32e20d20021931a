# Wait until Ollama answers with its version. Usage: wait-ready.sh URL VERSION UNIT SECONDS LINES
url=$1 version=$2 unit=$3 seconds=$4 lines=$5
until=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$until" ]; do
    answer=$(curl -sS --noproxy '*' --max-time 5 "$url/api/version" 2>&1)
    found=${answer#*\"version\":\"}
    found=${found%%\"*}
    if [ "$found" = "$version" ]; then exit 0; fi
    sleep 0.5
done
journalctl --no-pager -o cat -n "$lines" -u "$unit"
echo "Ollama $version did not come up within $seconds seconds; $url/api/version says: $answer" >&2
exit 1
