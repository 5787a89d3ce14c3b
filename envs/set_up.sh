#!/usr/bin/env bash
# Makes the private environment .venv from the hash-locked pins; does nothing when it is up to date.
# Usage: envs/set_up.sh [PYTHON]   (default: the Python that .venv has, else the first suitable one on PATH)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

venv=.venv
stamp=$venv/.set-up

fail() {
    printf 'set-up: %s\n' "$@" >&2
    exit 1
}

# The interpreter's own word for what it is, e.g. "3.11.7 /usr"; nothing if it does not run.
identity() {
    "$1" -c 'import platform, sys; print(platform.python_version(), sys.base_prefix)' 2>/dev/null || true
}

suitable() {
    [[ "$(identity "$1")" == 3.1[12].* ]]
}

python=${1:-}
if [[ -n $python ]]; then
    command -v "$python" >/dev/null || fail "$python: no such Python; give one that exists: make PYTHON=python3.12"
    suitable "$python" || fail "$python is Python $(identity "$python" | cut -d' ' -f1); Python 3.11 or 3.12 is needed: make PYTHON=python3.12"
else
    for candidate in $venv/bin/python python3 python3.12 python3.11 python; do
        if suitable "$candidate"; then
            python=$candidate
            break
        fi
    done
    [[ -n $python ]] || fail "no Python 3.11 or 3.12 on PATH; install one, or name it: make PYTHON=/path/to/python3.12"
fi

# What the environment depends on. The place counts too: an environment cannot be moved.
identity=$(identity "$python")
fingerprint="$identity $PWD $(cat envs/bootstrap.lock envs/requirements.lock pyproject.toml envs/set_up.sh | cksum)"
if [[ -f $stamp && "$(cat $stamp)" == "$fingerprint" ]]; then
    exit 0
fi

rm -f $stamp
if [[ "$(identity $venv/bin/python)" != "$identity" ]] || ! $venv/bin/python -m pip --version >/dev/null 2>&1; then
    # From the interpreter beneath, should "python" be the very environment that is about to go.
    python=$("$python" -c 'import sys; print(sys._base_executable)')
    "$python" -c 'import venv; from ensurepip import bootstrap' 2>/dev/null || fail \
        "$python cannot make environments (its venv or ensurepip module is missing)." \
        "On Debian or Ubuntu: apt-get install python3-venv (or python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv), then again."
    echo "set-up: new environment with Python ${identity%% *}"
    rm -rf $venv
    "$python" -m venv $venv
fi
echo "set-up: installing the pinned packages (first time: a few GB to fetch)"
$venv/bin/python -m pip install --quiet --no-deps --only-binary :all: --require-hashes -r envs/bootstrap.lock
# The few source archives among the pins are built by the pinned setuptools above, not by whatever is newest today.
$venv/bin/uv pip sync --quiet --python $venv/bin/python --no-build-isolation --require-hashes envs/requirements.lock
$venv/bin/uv pip install --quiet --python $venv/bin/python --no-build-isolation --no-deps --editable .
printf '%s\n' "$fingerprint" >$stamp
echo "set-up: done"
