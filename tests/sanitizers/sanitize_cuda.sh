#!/usr/bin/env bash
# The CUDA kernels under NVIDIA's compute-sanitizer, on a machine with a GPU: reads and writes out of bounds, races in shared
# memory, memory that is read before it was written. Usage: tests/sanitizers/sanitize_cuda.sh [memcheck racecheck initcheck]
# CALL=NAME: only that call of cuda_calls.py (racecheck takes a minute for 24 atoms).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONPATH="$PWD/workflow:$PWD${PYTHONPATH:+:$PYTHONPATH}"
for tool in "${@:-memcheck}"; do
    echo "== $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 5 \
        "${PYTHON:-python3}" tests/sanitizers/cuda_calls.py ${CALL:+"$CALL"}
done
