#!/bin/sh
# Make the virtual environment that everything here runs in. Usage: lab/bootstrap.sh .venv
# On Debian and Ubuntu, as root, a missing python3-venv is installed; elsewhere it is asked for.
set -eu
venv=$1
python=${PYTHON:-python3}

command -v "$python" >/dev/null || python_missing=1
if [ -n "${python_missing:-}" ] || ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv >/dev/null
    else
        echo "make: Python 3.10 or newer with venv is needed; on Debian: apt install python3-venv" >&2
        exit 1
    fi
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
