#!/usr/bin/env bash
# ruff and codespell on the sources, scripts/prose.py on README and docs; mypy and
# import-linter on the package as it is installed. The sources lie in folders that only the
# build puts together as muzero_rc.env and so on, so a real (not editable) copy of the
# package is installed into build/installed first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$PWD/.venv/bin
root=$PWD
failed=0

"$bin/ruff" check --quiet --output-format concise . || failed=1
"$bin/ruff" format --check --quiet --output-format concise . || {
  echo "lint: these files are not formatted: run make format" >&2
  failed=1
}

"$bin/codespell" README.md CONTRIBUTING.md CHANGELOG.md CITATION.cff NOTICE docs .github \
  third_party/libvpx/*.md muzero_rc env agents evaluation tests benchmarks scripts pyproject.toml || {
  echo "lint: codespell: correct the words above, or name them in pyproject.toml" >&2
  failed=1
}
"$bin/python" scripts/prose.py >&2 || failed=1

# Not while a set-up builds in the same folder.
mkdir -p build
exec 8>build/.setup.lock
flock 8
key=$( (
  cat pyproject.toml CMakeLists.txt third_party/libvpx/build/current/BUILD_ID
  find muzero_rc env agents evaluation -type f -not -path '*/__pycache__/*' -print0 \
    | sort -z | xargs -0 sha256sum
) | sha256sum)
if [[ $(cat build/installed/.key 2>/dev/null) != "$key" ]]; then
  rm -rf build/installed
  "$bin/python" -m pip install --no-build-isolation --no-deps --no-index -q \
    --target build/installed . >build/installed.log 2>&1 </dev/null || {
    tail -n 5 build/installed.log >&2
    echo "lint: the package cannot be built (see build/installed.log)" >&2
    exit 1
  }
  echo "$key" >build/installed/.key
fi

flock -u 8

cd build/installed
"$bin/mypy" --config-file "$root/pyproject.toml" --cache-dir "$root/build/mypy" \
  --no-error-summary -p muzero_rc || failed=1
"$bin/python" "$root/scripts/lint_imports.py" "$PWD" >"$root/build/import_linter.log" 2>&1 || {
  cat "$root/build/import_linter.log" >&2
  failed=1
}
[[ $failed -eq 0 ]] && echo "lint: clean"
exit $failed
