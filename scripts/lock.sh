#!/usr/bin/env bash
# Writes requirements.lock anew from the ranges in pyproject.toml: exact versions and the
# hashes of every file of each release, no index address. `make lock` runs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${1:?usage: scripts/lock.sh PYTHON}
tool=build/lock
[[ -x $tool/bin/uv ]] || { "$python" -m venv "$tool" && "$tool/bin/python" -m pip install -q uv; }
# What the build needs stands beside what the package needs: both go into one .venv.
build_requires=$("$python" -c '
import tomllib
print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))')
{
  echo "# Written by make lock from pyproject.toml; exact versions for make setup and CI."
  "$tool/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --upgrade --no-emit-index-url --no-annotate --no-header \
    --extra corpus --extra demo --extra vmaf --extra dev \
    pyproject.toml - <<<"$build_requires"
} >requirements.lock.new
mv requirements.lock.new requirements.lock
