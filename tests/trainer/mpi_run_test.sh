#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program under mpirun as a user meets it: a rank that dies, a request to stop, a resume in another layout.
#   mpi_run_test.sh PROGRAM MPIRUN
set -u
program=$1
mpirun=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-mpi-run.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
check() { # description, command...
  local what=$1
  shift
  if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failures=$((failures + 1)); fi
}
losses() { sed -n 's/.*"step":\([0-9]*\),"split":"train","loss":\([^,]*\),.*/\1 \2/p' "$1/metrics.jsonl"; }

awk 'BEGIN { srand(7); split("the ring turns and every key meets its query once more", w, " ");
  for (i = 0; i < 4000; i++) { line = ""; for (k = 0; k < 3 + i % 7; k++) line = line w[1 + int(rand() * 11)] " "; print line "\n" } }' > text.txt
"$program" data text text.txt --tokenizer=byte --document=blank-line --split=0.9/0.1 -o c.h5 > data.log 2>&1 || { cat data.log; exit 1; }
cat > run.toml <<'TOML'
[data]
train = ["c.h5"]
sequence = 128
[model]
layers = 2
width = 64
heads = 4
dropout = 0.1
[parallel]
ring = 2
[train]
steps = "60 steps"
batch = "8 samples"
[eval]
every = "0 steps"
[checkpoint]
every = "5 steps"
[log]
every = "1 steps"
[guard]
watchdog = "60s"
TOML

"$mpirun" -np 2 "$program" train run.toml --run.dir=whole > whole.log 2>&1
check "an undisturbed run ends with 0" test $? -eq 0

# A rank killed in the middle: everybody leaves soon, non-zero, and resume goes on with the same losses.
# Slowed down by a longer run so that the kill arrives in the middle of it on any machine.
"$mpirun" -np 2 "$program" train run.toml --run.dir=killed --train.steps="100000 steps" --optim.schedule=constant > killed.log 2>&1 &
launcher=$!
for _ in $(seq 600); do [ -e killed/checkpoints/LATEST ] && [ "$(losses killed 2>/dev/null | wc -l)" -ge 12 ] && break; sleep 0.1; done
victim=$(pgrep -f -- "--run.dir=killed" | while read -r p; do [ "$(readlink "/proc/$p/exe")" = "$(readlink -f "$program")" ] && echo "$p"; done | tail -n 1)
check "a rank of the run was found" test -n "$victim"
kill -9 "$victim"
start=$SECONDS
wait $launcher
code=$?
check "killing a rank ends the job with a non-zero code ($code)" test $code -ne 0
check "the job ended within 30 s ($((SECONDS - start)) s)" test $((SECONDS - start)) -le 30
left=$(pgrep -f -- "--run.dir=killed" | while read -r p; do [ "$(readlink "/proc/$p/exe")" = "$(readlink -f "$program")" ] && echo "$p"; done)
check "no rank is left" test -z "$left"
last=$(sed -n 's/step-0*\([0-9]*\)/\1/p' killed/checkpoints/LATEST)
"$mpirun" -np 2 "$program" train run.toml --run.dir=killed --train.steps="$((last + 8)) steps" --optim.schedule=constant --resume=auto > resumed.log 2>&1
check "the killed run resumes" test $? -eq 0
check "it resumes from the last complete checkpoint" grep -q "resumed from .*step $last\|step-0*$last" resumed.log
"$mpirun" -np 2 "$program" train run.toml --run.dir=reference --train.steps="$((last + 8)) steps" --optim.schedule=constant > reference.log 2>&1
check "all losses before and after the kill are those of a run that was never killed" diff <(losses reference) <(losses killed)
check "there are $((last + 8)) of them" test "$(losses killed | wc -l)" -eq $((last + 8))

# USR1 to the launcher: saved, 85, and the rest of the run is bit-identical to one that was never stopped.
"$mpirun" -np 2 "$program" train run.toml --run.dir=parts > parts.log 2>&1 &
launcher=$!
for _ in $(seq 600); do [ "$(losses parts 2>/dev/null | wc -l)" -ge 3 ] && break; sleep 0.05; done
kill -USR1 $launcher
wait $launcher
code=$?
check "USR1 saves and exits with 85 ($code)" test $code -eq 85
check "exit.json says 85" grep -q '"code": *85' parts/exit.json
"$mpirun" -np 2 "$program" train run.toml --run.dir=parts --resume=auto > parts2.log 2>&1
check "the stopped run resumes to its end" test $? -eq 0
check "no bit of any loss differs from the undisturbed run" diff <(losses whole) <(losses parts)

# Another layout, other tools.
"$mpirun" -np 1 "$program" eval whole > eval1.log 2>&1
check "eval on one rank" test $? -eq 0
"$mpirun" -np 3 "$program" eval whole > eval3.log 2>&1
check "eval on three ranks" test $? -eq 0
check "both print the same loss" diff <(grep -o 'loss [0-9.]*' eval1.log) <(grep -o 'loss [0-9.]*' eval3.log)
"$program" generate whole --prompt="the ring" --tokens=40 > text1.log 2>&1
check "generate" test $? -eq 0
check "the text begins with the prompt" grep -q "^the ring" text1.log
"$program" checkpoint verify whole/checkpoints/step-00000060 --level=full > verify.log 2>&1
check "checkpoint verify" test $? -eq 0

"$mpirun" -np 3 "$program" train run.toml --run.dir=three > three.log 2>&1
check "three ranks do not fit ring = 2: 78" test $? -eq 78
check "the message is printed once" test "$(grep -c 'error:' three.log)" -eq 1
"$mpirun" -np 2 "$program" train run.toml --run.dir=whole > again.log 2>&1
check "a finished run is not overwritten: 78" test $? -eq 78
if [ $failures -ne 0 ]; then tail -n 5 ./*.log; fi
exit $((failures > 0))
