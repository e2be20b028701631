#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can show, in at most ten minutes, as one report: gpu.sh [--check] [options].
# With --check it does everything but the device. Options: gpu.py --help.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${DARTS_GPU_PYTHON:-}
if [ -z "$python" ]; then
    python=.venv/bin/python
    if [ ! -x "$python" ]; then
        # From an index, or from a folder of wheels that UV_FIND_LINKS names together with UV_OFFLINE=1.
        uv sync --extra "${DARTS_GPU_EXTRA:-cuda12}"
    fi
fi
exec "$python" .github/scripts/gpu.py "$@"
