# Install a release of Ollama: download, verify, unpack, and move into place in one step.
# Whatever an interrupted run has left is taken up or replaced.
# Usage: install-release.sh ROOT VERSION URL UNIT {ARCHIVE SHA256}...
#   URL     where the archives and sha256sum.txt of this version are
#   SHA256  64 hex digits, or '-' to take the one of sha256sum.txt
set -eu
root=$1 version=$2 url=$3 unit=$4
shift 4
incoming=$root/.incoming/$version
tree=$incoming/tree
child=

fail() {
    echo "$*" >&2
    exit 1
}

# Runs a command in the background and reports on it every two seconds: report_while REPORT COMMAND
# The reports are also what ends it when nobody listens any more: the next one meets a closed pipe.
report_while() {
    report=$1
    shift
    "$@" &
    child=$!
    for pause in 0.1 0.2 0.4 0.8; do
        if kill -0 "$child" 2>/dev/null; then sleep "$pause"; fi
    done
    while kill -0 "$child" 2>/dev/null; do
        "$report"
        sleep 2
    done
    ended=0
    wait "$child" || ended=$?
    child=
    return "$ended"
}
trap '[ -z "$child" ] || kill "$child" 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT PIPE TERM

bytes() { stat -c %s "$1" 2>/dev/null || echo 0; }

downloading() {
    now=$(bytes "$incoming/$archive")
    echo "$archive: $((now / 1000000)) of $((total / 1000000)) MB, $(((now - before) / 2000000)) MB/s"
    before=$now
}

working() { echo "$archive: $doing"; }

# In bytes; 0 if the server does not tell.
remote_size() {
    curl -fsSIL --connect-timeout 15 --retry 3 "$url/$archive" |
        tr -d '\r' | awk 'tolower($1) == "content-length:" { n = $2 } END { print n + 0 }'
}

# Takes up what is there. A connection that brings less than 1 kB/s for a minute is dropped.
transfer() {
    report_while downloading curl -fsSL -C - -o "$incoming/$archive" \
        --connect-timeout 15 --speed-limit 1000 --speed-time 60 "$url/$archive"
}

download() {
    total=$(remote_size)
    before=$(bytes "$incoming/$archive")
    if [ "$total" -gt 0 ] && [ "$before" -ge "$total" ]; then return 0; fi
    for attempt in 1 2 3 4 5; do
        why=0
        transfer || why=$?
        case $why in
        0) return 0 ;;
        22) return 1 ;; # the server refuses: 404 and the like
        33) rm -f "$incoming/$archive" ;; # it cannot resume
        esac
        echo "$archive: the connection broke (curl: $why), attempt $attempt of 5"
        sleep 2
    done
    return 1
}

checksum() { sha256sum <"$incoming/$archive" >"$incoming/sum"; }

is_intact() {
    doing="checking its checksum"
    report_while working checksum
    read -r found _ <"$incoming/sum"
    [ "$found" = "$sha256" ]
}

fetch() {
    resumed=$(bytes "$incoming/$archive")
    download || fail "$url/$archive: the download failed; what has come so far is kept"
    if is_intact; then return; fi
    rm -f "$incoming/$archive"
    # The beginning may be what a power cut has left of it.
    [ "$resumed" -gt 0 ] || fail "$archive: its sha256 is $found, and $sha256 was expected;" \
        "it was deleted, and nothing of it was unpacked"
    echo "$archive: what an earlier run has left of it is bad, starting over"
    fetch
}

published() {
    [ -s "$incoming/sha256sum.txt" ] || curl -fsSL --connect-timeout 15 --retry 3 \
        -o "$incoming/sha256sum.txt" "$url/sha256sum.txt" ||
        fail "$url/sha256sum.txt: the release's checksums could not be downloaded"
    awk -v name="$archive" '{ sub(/^\*?(\.\/)?/, "", $2) } $2 == name { print $1 }' \
        "$incoming/sha256sum.txt"
}

mkdir -p "$root/.incoming"
exec 9>"$root/.incoming/lock"
flock -w 30 9 || fail "another run is installing Ollama on this machine; try again when it is done"
# Leavings of other versions, and what was not downloaded but made of it.
find "$root/.incoming" -mindepth 1 -maxdepth 1 ! -name "$version" ! -name lock -exec rm -rf {} +
rm -rf "$tree" "$incoming/replaced" "$incoming/sha256sum.txt"
mkdir -p "$tree"

: >"$incoming/record"
while [ $# -gt 0 ]; do
    archive=$1 sha256=$2
    shift 2
    if [ "$sha256" = - ]; then sha256=$(published); fi
    [ -n "$sha256" ] || fail "$url/sha256sum.txt does not name $archive"
    fetch
    doing="unpacking"
    report_while working tar --zstd --no-same-owner -xf "$incoming/$archive" -C "$tree" ||
        fail "$archive: it could not be unpacked"
    echo "$sha256 $archive" >>"$incoming/record"
done
[ -x "$tree/bin/ollama" ] || fail "the archives of $version hold no program bin/ollama"

# The record is what makes a directory count as installed, so it comes last and goes in with it.
mv "$incoming/record" "$tree/.jarvis-archives"
chmod 755 "$tree"
doing="writing to disk"
report_while working sync -f "$tree"
if [ -e "$root/$version" ]; then
    # The same version with other archives: the service must not run on half of each.
    if [ "$(readlink "$root/current")" = "$version" ]; then systemctl stop "$unit"; fi
    mv -T "$root/$version" "$incoming/replaced"
fi
mv -T "$tree" "$root/$version"
sync -f "$root"
rm -rf "$incoming"
echo "Ollama $version is installed"
