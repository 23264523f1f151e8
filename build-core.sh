#!/bin/sh
# Build the extension in place (tracer/_core.*.so) for development. Arguments go to cmake, such as
# -DSHSTK_SANITIZE=ON. Uses the active venv's nanobind, or that of /tmp/v.
set -eu
cd "$(dirname "$0")"
python=${VIRTUAL_ENV:-/tmp/v}/bin/python
cmake -S . -B build/in-place -DPython_EXECUTABLE="$python" "$@" >/dev/null
cmake --build build/in-place --parallel 2
for built in build/in-place/_core.*.so; do  # renamed into place: a running shstk keeps the old one
    cp "$built" "tracer/.new" && mv "tracer/.new" "tracer/$(basename "$built")"
done
