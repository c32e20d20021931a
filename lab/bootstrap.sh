#!/bin/sh
# Make the virtual environment that everything here runs in. Usage: lab/bootstrap.sh .venv
# On Debian and Ubuntu, as root, missing packages are installed; elsewhere they are asked for.
set -eu
venv=$1
python=${PYTHON:-python3}

missing=
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then missing="python3 python3-venv"; fi
if ! command -v curl >/dev/null; then missing="$missing curl"; fi
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "make: these are missing, by their names in Debian: $missing" >&2
        exit 1
    fi
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing ca-certificates >/dev/null
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "make: $("$python" --version) is too old; 3.10 or newer is needed" >&2
    exit 1
}

# The system's own certificates, so that it works behind a company's proxy too.
bundle=/etc/ssl/certs/ca-certificates.crt
if [ -z "${SSL_CERT_FILE:-}" ] && [ -r "$bundle" ]; then
    export SSL_CERT_FILE=$bundle PIP_CERT=$bundle
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --require-hashes -r requirements/uv.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
    --require-hashes -r requirements/dev.txt
touch "$venv/.ready"
