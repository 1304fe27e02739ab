#!/bin/sh
# Installs what Volant needs on Debian 12 and says what it installs. Run twice, the second run only looks.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*"; }

missing=""
for package in $(grep -v '^#' packaging/debian-packages); do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        say "these Debian packages are missing:$missing"
        say "install them as root, or run make setup as root"
        exit 1
    fi
    say "installing Debian packages:$missing"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of words is meant
    if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log"
        rm -f "$log"
        say "apt-get failed; the end of its output stands above"
        exit 1
    fi
    rm -f "$log"
fi

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=/usr/bin/python3
fi
wanted=$(cat requirements/dev.txt pyproject.toml packaging/hatch_build.py packaging/setup.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/volant-setup 2>/dev/null || true)" != "$wanted" ]; then
    if [ ! -x .venv/bin/python ]; then
        say "making a virtual environment in .venv with $("$python" --version)"
        "$python" -m venv .venv
    fi
    say "installing $(grep -c '==' requirements/dev.txt) Python packages, each checked against its hash"
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
    .venv/bin/python -m compileall -q .venv/lib src >/dev/null 2>&1 || true
    printf '%s\n' "$wanted" >.venv/volant-setup
fi

make -s -C native OUT=../build/native
say "ready: .venv/bin/volantd, .venv/bin/volar, .venv/bin/fledge"
