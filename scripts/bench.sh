#!/usr/bin/env bash
# Runs every benchmark, one after the other so that they do not share the cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shopt -s nullglob
for benchmark in benchmarks/bench_*.py; do
  [[ $benchmark != *bench_policy.py ]] || continue # wants a corpus: make benchmark-policy
  [[ $benchmark != *bench_work.py ]] || continue   # wants a corpus, too
  [[ $benchmark != *bench_films.py ]] || continue  # likewise
  echo "== $benchmark"
  .venv/bin/python "$benchmark"
done
