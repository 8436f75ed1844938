#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How much of the throughput of one rank with two threads two ranks with one thread each keep:
#   tests/bench/overlap_bench.sh [ring|data|tensor|ulysses ...]     PROGRAM=build/release/farsight  ROUNDS=5
# The two runs of a pair follow each other directly, every other pair the other way round; the ratio is the median of the
# pairs' ratios, its range that of all pairs. Goals: ring at 8,192 tokens 0.92, data 0.95, tensor 0.80.
set -euo pipefail  # a run that fails must not leave a median of the others
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${PROGRAM:-$root/build/release/farsight}
data=${FARSIGHT_DATA:-$root/../shared/data}
rounds=${ROUNDS:-5}
[ $# -gt 0 ] || set -- ring data tensor ulysses
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
"$program" data text "$data/text/tinyshakespeare.txt" --tokenizer=byte --split=0.9/0.1 --by=position -o c.h5 > /dev/null

config() { # name sequence samples layers width heads steps
  cat > "$1.toml" << T
[data]
train = ["c.h5"]
pack = "concat"
sequence = $2
[model]
layers = $4
width = $5
heads = $6
[train]
steps = "$7 steps"
batch = "$3 samples"
[eval]
every = "0 steps"
[checkpoint]
every = "0 steps"
[log]
every = "1 steps"
T
}
config ring 8192 1 4 384 6 3
config data 256 16 6 384 6 8
config tensor 256 16 6 768 12 5
config ulysses 8192 1 4 384 6 3

# run WORKLOAD RANKS KEYS...: median tokens/s of the steps after the first, and exposed communication in ms a step
run() {
  local workload=$1 ranks=$2
  shift 2
  rm -rf run
  "$root/launch/mpirun" -np "$ranks" "$program" train "$workload.toml" --run.dir=run "$@" > log 2>&1 || { cat log >&2; exit 1; }
  python3 - << 'P'
import json, statistics
rows = [json.loads(l) for l in open("run/metrics.jsonl")]
rows = [r for r in rows if r["split"] == "train"][1:]
print(statistics.median(r["tokens_per_s"] for r in rows), statistics.median(r["comm_exposed_ms"] for r in rows),
      rows[-1]["fraction_of_ceiling"])
P
}
for workload in "$@"; do
  for ((round = 0; round < rounds; ++round)); do
    keys=("--parallel.$workload=2")
    if ((round % 2)); then
      many=$(run "$workload" 2 "${keys[@]}")
      one=$(run "$workload" 1)
    else
      one=$(run "$workload" 1)
      many=$(run "$workload" 2 "${keys[@]}")
    fi
    echo "$one $many"
  done | python3 -c '
import statistics, sys
rows = [[float(x) for x in line.split()] for line in sys.stdin]
ratios = sorted(r[3] / r[0] for r in rows)
print(f"{sys.argv[1]:8} 1 rank {statistics.median(r[0] for r in rows):8.0f} tok/s  2 ranks "
      f"{statistics.median(r[3] for r in rows):8.0f} tok/s  ratio {statistics.median(ratios):.3f} "
      f"({ratios[0]:.3f}-{ratios[-1]:.3f})  exposed {statistics.median(r[4] for r in rows):.1f} ms a step  "
      f"of the ceiling {rows[-1][2]:.2f} and {rows[-1][5]:.2f}")' "$workload"
done
