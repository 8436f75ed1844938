#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One full training step of a long sequence: peak memory per rank on one rank and on a ring of two, from 8k to 64k tokens,
# full causal attention, 4 layers, width 128. Memory must be linear in T and halve on two ranks.
#   tests/bench/length_bench.sh [T ...]       PROGRAM=build/release/farsight
# Fails when two ranks need more than 0.55 of the memory of one, or memory grows faster than T^1.05.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${PROGRAM:-$root/build/release/farsight}
data=${FARSIGHT_DATA:-$root/../shared/data}
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-length.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
"$program" data text "$data/text/tinyshakespeare.txt" --tokenizer=byte --split=0.9/0.1 --by=position -o c.h5 > /dev/null
cat > long.toml <<'TOML'
[data]
train = ["c.h5"]
pack = "concat"
prefetch = 1
[model]
layers = 4
width = 128
heads = 4
[train]
steps = "1 steps"
batch = "1 samples"
[eval]
every = "0 steps"
[checkpoint]
every = "0 steps"
[log]
every = "1 steps"
[guard]
watchdog = "0s"
TOML
[ $# -gt 0 ] || set -- 8192 16384 32768 65536
for t in "$@"; do
  for ranks in 1 2; do
    "$root/launch/mpirun" -np $ranks "$program" train long.toml --run.dir="t$t-r$ranks" --data.sequence="$t" \
      --parallel.ring=$ranks > "t$t-r$ranks.log" 2>&1 || { cat "t$t-r$ranks.log"; exit 1; }
  done
done
python3 - "$@" <<'P'
import json, sys
lengths = [int(t) for t in sys.argv[1:]]
peak = lambda t, r: json.loads(open(f"t{t}-r{r}/metrics.jsonl").readline())
print("      T   1 rank MiB   2 ranks MiB each   ratio   loss 1 / loss 2        tok/s 1 / 2")
for t in lengths:
    a, b = peak(t, 1), peak(t, 2)
    print(f'{t:7d}   {a["memory_peak"] / 2**20:10.1f}   {b["memory_peak"] / 2**20:16.1f}   {b["memory_peak"] / a["memory_peak"]:.3f}   '
          f'{a["loss"]:.7f} {b["loss"]:.7f}  {a["tokens_per_s"]:.0f} {b["tokens_per_s"]:.0f}')
if len(lengths) > 1:
    import math
    slope = lambda r: math.log(peak(lengths[-1], r)["memory_peak"] / peak(lengths[0], r)["memory_peak"]) / math.log(lengths[-1] / lengths[0])
    print(f"memory grows as T^{slope(1):.2f} on one rank, T^{slope(2):.2f} on two")
    if max(slope(1), slope(2)) > 1.05:
        sys.exit("FAILED: memory is not linear in T")
last = lengths[-1]
if peak(last, 2)["memory_peak"] > 0.55 * peak(last, 1)["memory_peak"]:
    sys.exit("FAILED: two ranks do not halve the memory")
P
