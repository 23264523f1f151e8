#!/bin/sh
# Build the extension in place (tracer/_core.*.so) for development. Arguments go to cmake, such as
# -DSHSTK_SANITIZE=ON. Uses the active venv's nanobind, or that of /tmp/v.
set -eu
cd "$(dirname "$0")"
python=${VIRTUAL_ENV:-/tmp/v}/bin/python
cmake -S . -B build/in-place -DPython_EXECUTABLE="$python" "$@" >/dev/null
cmake --build build/in-place --parallel 2
cp build/in-place/_core.*.so tracer/
