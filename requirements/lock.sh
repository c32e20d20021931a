#!/bin/sh
# Pin everything again: hashes, no URLs. Usage: requirements/lock.sh path/to/uv
set -eu
uv=$1
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"
}
echo "uv>=0.9,<1" | compile - -o requirements/uv.txt
compile --group ops -o requirements/ops.txt
compile pyproject.toml -o requirements/gateway.txt
compile pyproject.toml --group ops --group lab --group test --group lint -o requirements/dev.txt
