#!/usr/bin/env bash
# Sets everything up: Debian packages, .venv with the locked requirements, libvpx, the
# compiled extension. Each step leaves a stamp that holds a hash of what it depends on, so
# a second run takes a moment and a changed file redoes only its own step.
#
#   scripts/setup.sh            all steps
#   scripts/setup.sh libvpx     that step and those before it
#   scripts/setup.sh browser    all steps, and a Chromium for the tests of the report
#   PYTHON=python3.12           the interpreter for a new .venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
last=${1:-extension}
venv=.venv
stamps=$venv/.stamps

say() { echo "setup: $*" >&2; }
die() {
  say "$*"
  exit 1
}
digest() { sha256sum | cut -c1-32; }
up_to_date() { [[ -f $stamps/$1 && $(<"$stamps/$1") == "$2" ]]; }
stamp() { mkdir -p "$stamps" && echo "$2" >"$stamps/$1"; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

# ---------------------------------------------------------------- Debian packages

missing_packages() {
  local need=(
    g++:build-essential make:make cmake:cmake ninja:ninja-build nasm:nasm patch:patch
    xz:xz-utils ffmpeg:ffmpeg ffprobe:ffmpeg vpxenc:vpx-tools vpxdec:vpx-tools
  )
  local pair python
  [[ $last != browser ]] || need+=(chromium:chromium chromedriver:chromium-driver)
  [[ $(uname -m) == x86_64 ]] || need=("${need[@]/nasm:nasm/}")
  {
    for pair in "${need[@]}"; do
      [[ -z $pair ]] || command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"
    done
    python=$(find_python)
    if [[ -z $python ]]; then
      echo python3 python3-venv python3-dev
    else
      "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
      "$python" -c '
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
' || echo python3-dev
    fi
  } | tr ' ' '\n' | sort -u | tr '\n' ' ' | sed 's/ $//'
}

step_packages() {
  local missing
  missing=$(missing_packages)
  [[ -n $missing ]] || return 0
  if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    die "missing Debian packages: $missing (as root: apt-get install $missing)"
  fi
  say "installing Debian packages: $missing"
  mkdir -p build
  local log=build/apt.log
  # shellcheck disable=SC2086  # a list of words
  if ! { apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } \
    >"$log" 2>&1 </dev/null; then
    die "apt-get install $missing failed: $(grep -m1 '^E:' "$log" || tail -n 1 "$log") (see $log)"
  fi
  missing=$(missing_packages)
  [[ -z $missing ]] || die "still missing after apt-get install: $missing (Python 3.11 or" \
    "newer is needed; PYTHON=/path/to/python names one)"
}

# ---------------------------------------------------------------- Python

step_venv() {
  if ! $venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    local python
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
  fi
}

step_requirements() {
  local key
  key=$( (cat requirements.lock && $venv/bin/python -VV) | digest)
  up_to_date requirements "$key" && return 0
  say "installing the locked requirements"
  mkdir -p build
  if ! $venv/bin/python -m pip install --require-hashes -r requirements.lock \
    >build/pip.log 2>&1 </dev/null; then
    die "pip failed: $(grep -m1 '^ERROR' build/pip.log || tail -n 1 build/pip.log)" \
      "(see build/pip.log)"
  fi
  stamp requirements "$key"
}

# ---------------------------------------------------------------- compiled parts

step_libvpx() { third_party/libvpx/build.sh; }

step_extension() {
  local key log=build/extension.log
  # Of Python files only the names are part of the key: the editable install reads them from
  # the checkout, but knows by name where each one lies.
  key=$( (
    cat CMakeLists.txt pyproject.toml third_party/libvpx/build/current/BUILD_ID
    # Completions and the man page are made of the command line's options.
    cat scripts/shell_files.py muzero_rc/cli/*.py
    find env/codec/native -type f | sort | xargs cat
    find muzero_rc env agents evaluation -name '*.py' | sort
    cat "$stamps/requirements"
    echo "$PWD"
  ) | digest)
  up_to_date extension "$key" && [[ -x $venv/bin/muzero-rc ]] && return 0
  say "building the extension"
  mkdir -p build
  if ! $venv/bin/python -m pip install --no-build-isolation --no-deps --no-index -v -e . \
    >"$log" 2>&1 </dev/null; then
    grep -m 5 -E 'error:|CMake Error' "$log" >&2 || tail -n 5 "$log" >&2
    die "the build failed (see $log)"
  fi
  stamp extension "$key"
}

mkdir -p build
exec 8>build/.setup.lock
flock 8
for step in packages venv requirements libvpx extension; do
  "step_$step"
  [[ $step != "$last" ]] || break
done
