#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every kind of bad input gives one message (what, where, what to do), the documented exit code, and leaves nothing half
# written.   bad_input_test.sh PROGRAM
set -u
program=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-bad-input.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
# expect CODE 'regex of the message' COMMAND...
expect() {
  local want=$1 pattern=$2 got
  shift 2
  "$@" > out.log 2>&1
  got=$?
  if [ $got -eq "$want" ] && grep -Eq -- "$pattern" out.log; then
    echo "ok: $want  $(grep -E -m 1 -- "$pattern" out.log | cut -c1-150)"
  else
    echo "FAILED: exit $got, expected $want with /$pattern/:  $*"
    head -n 5 out.log
    failures=$((failures + 1))
  fi
}
absent() { for f in "$@"; do [ ! -e "$f" ] || { echo "FAILED: $f was left behind"; failures=$((failures + 1)); }; done; }

for i in $(seq 400); do echo "line $i of a small text about rings and keys"; done > text.txt
"$program" data text text.txt --tokenizer=byte --split=0.9/0.1 --by=position -o c.h5 > data.log 2>&1 || { cat data.log; exit 1; }
printf '[data]\ntrain = ["c.h5"]\nsequence = 64\n[model]\nlayers = 1\nwidth = 32\nheads = 4\n[train]\nsteps = "2 steps"\nbatch = "2 samples"\n[eval]\nevery = "0 steps"\n' > ok.toml
train() { "$program" train "$@"; }

# Configuration: 78.
printf '[parallel]\nrnig = 2\n' > bad.toml;              expect 78 "bad.toml:2:1: error: unknown key 'parallel.rnig'; did you mean .*ring" train bad.toml
printf '[model]\nlayers = "four"\n' > bad.toml;          expect 78 "bad.toml:2:10: error: .*model.layers" train bad.toml
printf '[model]\nlayers = -1\n' > bad.toml;              expect 78 "bad.toml:2:10: error: .*model.layers" train bad.toml
printf '[model\nlayers = 1\n' > bad.toml;                expect 78 "bad.toml:[0-9]+:[0-9]+: error" train bad.toml
expect 78 "heads" train ok.toml --model.width=32 --model.heads=5
expect 78 "kv_heads" train ok.toml --model.kv_heads=3
expect 78 "parallel.tensor|tensor" train ok.toml --parallel.tensor=2
expect 78 "missing.toml" train missing.toml
expect 78 "ring = 2|ranks" train ok.toml --parallel.ring=2
# Command line: 64.
expect 64 "did you mean 'train'" "$program" trian ok.toml
expect 64 "CONFIG|train" "$program" train
# Data: 65.
: > empty.txt;                                           expect 65 "empty" "$program" data text empty.txt --tokenizer=byte -o e.h5
printf 'caf\xe9 au lait\n' > latin.txt;                  expect 65 "latin.txt: byte 3: invalid UTF-8 \(0xE9\)" "$program" data text latin.txt --tokenizer=train:300 --by=position -o e.h5
printf '{"text": "a"}\n{"text": }\n' > broken.jsonl;     expect 65 "broken.jsonl:2:" "$program" data text broken.jsonl --tokenizer=byte --by=position -o e.h5
expect 65 "absent.txt" "$program" data text absent.txt --tokenizer=byte -o e.h5
absent e.h5 e.h5.sum
expect 65 "sequence|tokens" train ok.toml --data.sequence=1000000 --run.dir=long
head -c 3000 c.h5 > cut.h5;                              expect 65 "cut.h5" train ok.toml --data.train='["cut.h5"]' --run.dir=cut
cp text.txt fake.h5;                                     expect 65 "fake.h5.*(HDF5|not)" train ok.toml --data.train='["fake.h5"]' --run.dir=fake
expect 65 "none.h5" train ok.toml --data.train='["none.h5"]' --run.dir=none
expect 65 "vocab" train ok.toml --model.vocab=100 --run.dir=vocab
expect 65 "neither a run directory" "$program" generate nowhere --prompt=x
expect 65 "neither a run directory" "$program" eval nowhere
# A run directory in use: 69.
train ok.toml --run.dir=busy --train.steps="1000000 steps" > busy.log 2>&1 &
holder=$!
for _ in $(seq 200); do [ -e busy/metrics.jsonl ] && break; sleep 0.05; done
expect 69 "busy" train ok.toml --run.dir=busy --resume=auto
kill -TERM $holder; wait $holder
# N singletons of another MPI: 69.
expect 69 "MPI|singleton|launcher" env OMPI_COMM_WORLD_SIZE= PMI_SIZE=4 "$program" train ok.toml --run.dir=single
# A disk that fills up while saving: training goes on, the third failure in a row ends it with 74, the old checkpoint stays.
if mkdir small && unshare --user --map-root-user --mount true 2>/dev/null; then
  expect 74 "No space|space" unshare --user --map-root-user --mount sh -c "mount -t tmpfs -o size=1400k none small && '$program' train ok.toml --run.dir=small/run --train.steps='40 steps' --checkpoint.every='2 steps' --checkpoint.keep=100 --checkpoint.async=false; code=\$?; ls -A small/run/checkpoints | grep -q '^.tmp' && exit 1; '$program' checkpoint verify small/run/checkpoints/step-00000002 >&2 || exit 2; exit \$code"
else
  echo "skipped: no user namespaces here, the full disk is not tried"
fi
# A good run still works after all that.
expect 0 "finished 2 steps" train ok.toml --run.dir=good
expect 78 "--resume=auto" train ok.toml --run.dir=good
exit $((failures > 0))
