#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every kind of layout under mpirun: the losses of one rank, and one run that is stopped and resumed from layout to
# layout without anybody seeing it in its losses.
#   mpi_layouts_test.sh PROGRAM MPIRUN [few]     few: under a sanitizer, layouts that have nothing new to it left out
set -u
program=$1
mpirun=$2
few=${3:-}
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-mpi-layouts.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
check() { # description, command...
  local what=$1
  shift
  if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failures=$((failures + 1)); fi
}
losses() { sed -n 's/.*"step":\([0-9]*\),"split":"\([a-z]*\)","loss":\([^,]*\),.*/\2 \1 \3/p' "$1/metrics.jsonl"; }
# Largest relative difference of two files of losses; 1 when they do not list the same steps.
difference() {
  paste -d ' ' "$1" "$2" | awk 'NF != 6 || $1 != $4 || $2 != $5 { bad = 1 }
    { d = $3 / $6 - 1; if (d < 0) d = -d; if (d > worst) worst = d } END { print (bad || NR == 0) ? 1 : worst }'
}
close() { awk -v d="$(difference "$1" "$2")" -v most="$3" 'BEGIN { exit !(d <= most) }'; }

awk 'BEGIN { srand(7); split("the ring turns and every key meets its query once more", w, " ");
  for (i = 0; i < 4000; i++) { line = ""; for (k = 0; k < 3 + i % 7; k++) line = line w[1 + int(rand() * 11)] " "; print line "\n" } }' > text.txt
"$program" data text text.txt --tokenizer=byte --document=blank-line --split=0.95/0.05 -o c.h5 > data.log 2>&1 || { cat data.log; exit 1; }
cat > run.toml <<'TOML'
[data]
train = ["c.h5"]
sequence = 97
[model]
layers = 2
width = 64
heads = 8
kv_heads = 2
dropout = 0.1
[attention]
qk_norm = "rms"
dropout = 0.1
[parallel]
bucket = "64KiB"
[optim]
schedule = "constant"
[train]
steps = "12 steps"
batch = "12 samples"
label_smoothing = 0.1
[eval]
every = "6 steps"
batches = 2
prompt = "the ring"
sample_tokens = 16
[checkpoint]
every = "3 steps"
[log]
every = "1 steps"
[guard]
replica_check = 2
TOML

"$program" train run.toml --run.dir=one > one.log 2>&1 || { cat one.log; exit 1; }
losses one > one.txt
check "one rank reports 12 training and 2 validation losses" test "$(wc -l < one.txt)" -eq 14

run() { # name, ranks, options...
  local name=$1 ranks=$2
  shift 2
  "$mpirun" -np "$ranks" "$program" train run.toml --run.dir="$name" "$@" > "$name.log" 2>&1
  check "$name ends with 0" test $? -eq 0 || { tail -5 "$name.log"; return; }
  losses "$name" > "$name.txt"
  check "$name has the losses of one rank ($(difference "$name.txt" one.txt))" close "$name.txt" one.txt 1e-5
  check "$name writes the same sample" cmp -s one/samples/step-00000012.txt "$name/samples/step-00000012.txt"
}
if [ -z "$few" ]; then
  run tp2 2 --parallel.tensor=2
  run tp4-kv2 4 --parallel.tensor=4 --parallel.sequence_parallel=false
  run u3 3 --parallel.ulysses=3
fi
run ag3 3 --parallel.ring=3 --parallel.context=allgather --parallel.gather_heads=1
run r2u2z3 4 --parallel.ring=2 --parallel.ulysses=2 --parallel.zero=3
run dp2tp2z2 4 --parallel.data=2 --parallel.tensor=2 --parallel.zero=2

# Three steps at a time, each in another layout.
layouts=("1" "2 --parallel.tensor=2 --parallel.zero=1" "3 --parallel.data=3 --parallel.zero=3" "4 --parallel.ring=2 --parallel.ulysses=2")
for i in 0 1 2 3; do
  read -r ranks options <<< "${layouts[$i]}"
  # shellcheck disable=SC2086
  "$mpirun" -np "$ranks" "$program" train run.toml --run.dir=chain --train.steps="$((3 * i + 3)) steps" --resume=auto $options > "chain$i.log" 2>&1
  check "part $i of the chain (${layouts[$i]}) ends with 0" test $? -eq 0
done
losses chain | grep train > chain.txt
grep train one.txt > one-train.txt
check "a run resumed in four layouts has the losses of one rank ($(difference chain.txt one-train.txt))" close chain.txt one-train.txt 1e-5

# A rank that stops answering: everybody leaves with 124 within the watchdog's limit and 10 s, and the message names the
# operation, its axis, where it was called, and the suspect.
"$mpirun" -np 2 "$program" train run.toml --run.dir=stuck --train.steps="100000 steps" --eval.every="0 steps" \
  --parallel.tensor=2 --guard.watchdog=5s > stuck.log 2>&1 &
launcher=$!
for _ in $(seq 600); do [ "$(losses stuck 2> /dev/null | wc -l)" -ge 5 ] && break; sleep 0.1; done
victim=$(pgrep -f -- "--run.dir=stuck " | while read -r p; do [ "$(readlink "/proc/$p/exe")" = "$(readlink -f "$program")" ] && echo "$p"; done | tail -n 1)
kill -STOP "$victim"
start=$SECONDS
wait $launcher
code=$?
check "a stopped rank ends the job with 124 ($code)" test $code -eq 124
check "within 15 s ($((SECONDS - start)) s)" test $((SECONDS - start)) -le 15
# The wait may be one of the model, of the step or of a checkpoint (trainer/) as well as of a sharded layer (parallel/): the rank was stopped anywhere.
check "the message names axis and call site" grep -qE 'rank [01] .*waits: [a-z_]+ #[0-9]+ axis [a-z_]+ #.*(parallel|trainer)/[a-z_/]+\.cc:[0-9]+' stuck.log
check "it names the suspect" grep -q 'no report from: rank [01] <- suspect' stuck.log
[ $failures -eq 0 ] || tail -n 20 stuck.log
left=$(pgrep -f -- "--run.dir=stuck " | while read -r p; do [ "$(readlink "/proc/$p/exe")" = "$(readlink -f "$program")" ] && echo "$p"; done)
check "no rank is left" test -z "$left"

if [ $failures -gt 0 ]; then
  echo "$failures checks failed"
  exit 1
fi
echo "all checks passed"
