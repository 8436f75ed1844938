#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Training throughput of the reference workloads, as tokens/s and as a fraction of the FMA peak measured in the same run.
#   tests/bench/train_bench.sh [baby|gpt2-t256|gpt2-t1024|gpt2-t64|all]       PROGRAM=build/release/farsight  RANKS="1 2"
# Text comes from FARSIGHT_DATA (default ../shared/data): tinyshakespeare.txt, byte tokens; the arithmetic of the GPT-2
# workloads is that of the full vocabulary of 50,257, whatever the text.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${PROGRAM:-$root/build/release/farsight}
data=${FARSIGHT_DATA:-$root/../shared/data}
which=${1:-all}
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
"$program" data text "$data/text/tinyshakespeare.txt" --tokenizer=byte --split=0.9/0.1 --by=position -o c.h5 > /dev/null

common='[run]\nname = "bench"\n[data]\ntrain = ["c.h5"]\npack = "concat"\nsequence = %s\n[eval]\nevery = "0 steps"\n[checkpoint]\nevery = "0 steps"\n'
gpt='[attention]\nposition = "learned"\n[model]\nmlp = "gelu"\nnorm = "layer"\nbias = true\ntie_embeddings = true\n'
config() { # name sequence steps batch layers width heads vocab log
  # shellcheck disable=SC2059  # the format is ours
  { printf "$common" "$2"; printf "$gpt"; printf 'layers = %s\nwidth = %s\nheads = %s\nvocab = %s\n' "$5" "$6" "$7" "$8"
    printf '[train]\nsteps = "%s steps"\nbatch = "%s samples"\n[log]\nevery = "%s steps"\n' "$3" "$4" "$9"; } > "$1.toml"
}
config baby 256 20 16 6 384 6 259 10
config gpt2-t256 256 6 4 12 768 12 50257 3
config gpt2-t1024 1024 6 1 12 768 12 50257 3
config gpt2-t64 64 6 4 12 768 12 50257 3

last() { python3 - "$1/metrics.jsonl" <<'P'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1])]
m = [r for r in rows if r["split"] == "train"][-1]
print(f'{m["tokens_per_s"]:9.0f} tok/s  {m["flops_per_s"] / 1e9:7.1f} GFLOP/s  {m["fraction_of_ceiling"]:.2f} of peak  '
      f'mem {m["memory_peak"] / 2**20:.0f} MiB  data wait {m["data_wait_ms"]:.2f} ms  exposed {m["comm_exposed_ms"]:.1f} ms')
P
}
run() { # config label ranks args...
  local config=$1 label=$2 ranks=$3
  shift 3
  "$root/launch/mpirun" -np "$ranks" "$program" train "$config.toml" --run.dir="$config-$label" "$@" > "$config-$label.log" 2>&1 ||
    { cat "$config-$label.log"; exit 1; }
  printf '%-11s %-8s %s\n' "$config" "$label" "$(last "$config-$label")"
}
for c in baby gpt2-t256 gpt2-t1024 gpt2-t64; do
  [ "$which" = all ] || [ "$which" = "$c" ] || continue
  run "$c" "1 rank" 1
  run "$c" "ring2" 2 --parallel.ring=2
  case $c in gpt2-t1024) ;; *) run "$c" "dp2" 2 --parallel.data=2 ;; esac
done
