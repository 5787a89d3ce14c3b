#!/usr/bin/env bash
# Makes .venv-engines, the MD engines that run bundles, from a lock of their own; does nothing when it is up to date. Needs .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONNOUSERSITE=1

venv=.venv-engines
stamp=$venv/.set-up
fingerprint="$(cat .venv/.set-up) $(cat envs/bootstrap.lock envs/engines.lock envs/set_up_engines.sh | cksum)"
if [[ -f $stamp && "$(cat $stamp)" == "$fingerprint" ]]; then
    exit 0
fi

echo "set-up: installing the MD engines (150 MB to fetch beside what .venv has)"
rm -rf $venv
.venv/bin/uv venv --quiet --python .venv/bin/python $venv
install=(.venv/bin/uv pip install --quiet --python $venv/bin/python --no-build-isolation --no-deps)
# What builds the source archives among the pins goes first.
"${install[@]}" --require-hashes -r envs/bootstrap.lock
"${install[@]}" --require-hashes -r envs/engines.lock
"${install[@]}" --editable .
printf '%s\n' "$fingerprint" >$stamp
echo "set-up: done"
