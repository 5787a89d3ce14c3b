#!/usr/bin/env bash
# set_up_beside.sh NAME: makes .venv-NAME from envs/NAME.lock, an environment beside .venv; does nothing when it is up to date.
# Needs .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONNOUSERSITE=1

name=$1
venv=.venv-$name
stamp=$venv/.set-up
fingerprint="$(cat .venv/.set-up) $(cat envs/bootstrap.lock "envs/$name.lock" envs/set_up_beside.sh | cksum)"
if [[ -f $stamp && "$(cat "$stamp")" == "$fingerprint" ]]; then
    exit 0
fi

echo "set-up: installing $venv (some 150 MB to fetch beside what .venv has)"
rm -rf "$venv"
.venv/bin/uv venv --quiet --python .venv/bin/python "$venv"
install=(.venv/bin/uv pip install --quiet --python "$venv/bin/python" --no-build-isolation --no-deps)
# What builds the source archives among the pins goes first.
"${install[@]}" --require-hashes -r envs/bootstrap.lock
"${install[@]}" --require-hashes -r "envs/$name.lock"
"${install[@]}" --editable .
printf '%s\n' "$fingerprint" >"$stamp"
echo "set-up: done"
