# Install a release of the gateway from its bundle into an environment of its own.
# Its record is written last: a directory without one is what an interrupted run has left.
# Usage: gateway-install.sh ROOT RELEASE BUNDLE UNIT
set -eu
root=$1 release=$2 bundle=$3 unit=$4
target=$root/$release
incoming=$root/.incoming/$release
authorities=/etc/ssl/certs/ca-certificates.crt

fail() {
    echo "$*" >&2
    exit 1
}

# The machine's way to the network, which a login over SSH need not have: proxies and mirrors.
take_environment() {
    pattern="^[[:space:]]*(export[[:space:]]+)?((https?|no|all)_proxy|(PIP|UV)_[A-Z_]+)=[\"']?([^\"']*)[\"']?[[:space:]]*\$"
    sed -nE "s/$pattern/\\2=\\5/Ip" /etc/environment 2>/dev/null >"$incoming/environment" || true
    while IFS= read -r line; do
        export "${line?}"
    done <"$incoming/environment"
    export PIP_CERT="$authorities" SSL_CERT_FILE="$authorities" PIP_DISABLE_PIP_VERSION_CHECK=1
}

exec 9>"$root/.incoming/lock"
flock -w 600 9 || fail "another run is installing the gateway on this machine; try again when it is done"
python=$(readlink -f /usr/bin/python3)
if [ "$(cat "$target/.complete" 2>/dev/null)" = "$python" ]; then exit 0; fi

# Leavings of interrupted runs, and releases that never came up.
current=$(readlink "$root/current" || true)
previous=$(readlink "$root/previous" || true)
pid=$(systemctl show -p MainPID --value "$unit")
running=$(tr '\0' '\n' 2>/dev/null <"/proc/${pid:-0}/environ" | sed -n 's/^JARVIS_UNIT=//p')
for directory in "$root"/*/; do
    directory=${directory%/}
    case ${directory##*/} in
    '*' | current | previous | "$current" | "$previous" | "$running") ;;
    *) rm -rf "$directory" ;;
    esac
done
# The same release for another Python: its process could not go on without its files.
if [ "$running" = "$release" ]; then systemctl stop "$unit"; fi
rm -rf "$target" "$incoming"

umask 022
mkdir -p "$incoming"
tar -xzf "$bundle" --no-same-owner -C "$incoming" ||
    fail "the bundle of release $release has not arrived whole"
take_environment
echo "making the installer"
python3 -m venv "$incoming/installer" || fail "python3 -m venv failed"
"$incoming/installer/bin/pip" install --quiet --no-cache-dir --require-hashes -r "$incoming/uv.txt" ||
    fail "the installer uv could not be installed; is the package index reachable from this machine?"
echo "installing the packages that the gateway is pinned to"
python3 -m venv --without-pip "$target"
UV_CACHE_DIR="$incoming/cache" "$incoming/installer/bin/uv" pip install --quiet \
    --python "$target/bin/python" --compile-bytecode --require-hashes -r "$incoming/gateway.txt" ||
    fail "the gateway's packages could not be installed; is the package index reachable from this machine?"
"$incoming/installer/bin/uv" pip install --quiet --no-cache --offline --no-deps \
    --python "$target/bin/python" --compile-bytecode "$incoming"/*.whl ||
    fail "the wheel of the plugin could not be installed"
cp "$incoming"/*.service "$target/"

# The record must not reach the disk before what it vouches for.
echo "writing to disk"
sync -f "$target"
echo "$python" >"$target/.complete.new"
sync "$target/.complete.new"
mv "$target/.complete.new" "$target/.complete"
sync -f "$target"
rm -rf "$incoming" "$bundle"
echo "release $release is installed"
