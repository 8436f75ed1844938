#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program with and without a CUDA device as a user meets it, under mpirun too. The device is the plugin's given here.
#   device_run_test.sh PROGRAM MPIRUN PLUGIN
set -u
program=$1
mpirun=$2
plugin=$3
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-device-run.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
check() { # description, command...
  local what=$1
  shift
  if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failures=$((failures + 1)); fi
}
says() { grep -q -- "$2" "$1" || { cat "$1"; false; }; } # FILE PATTERN
last_loss() { sed -n 's/.*"split":"train","loss":\([^,]*\),.*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
near() { # A B TOLERANCE
  awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a / b - 1; exit !(a > 0 && d < t && d > -t) }' || { echo "$1 against $2"; false; }
}

awk 'BEGIN { for (i = 0; i < 300; i++) print "the ring turns and every key meets its query once more " i "\n" }' > text.txt
"$program" data text text.txt --tokenizer=byte --document=blank-line --split=0.9/0.1 -o c.h5 > data.log 2>&1 || { cat data.log; exit 1; }
cat > run.toml <<'TOML'
[data]
train = ["c.h5"]
sequence = 32
[model]
layers = 1
width = 32
heads = 2
[train]
steps = "3 steps"
batch = "4 samples"
[eval]
every = "0 steps"
[checkpoint]
every = "0 steps"
TOML

# Named, so that one that was built beside the program is not found either.
absent=$work/libfarsight_cuda.so
export FARSIGHT_CUDA_PLUGIN=$absent
"$program" train run.toml --run.dir=cpu > cpu.log 2>&1
check "without a plugin 'auto' computes on the CPU" test $? -eq 0
check "and says why" says cpu.log "computes on the CPU (.*libfarsight_cuda.so was not found"
"$program" train run.toml --run.dir=none --run.device=cuda > none.log 2>&1
check "'cuda' without a device ends with 69" test $? -eq 69
check "and says what is missing and what to do" says none.log "libfarsight_cuda.so was not found.*--run.device=cpu"
check "and leaves no run directory behind" test ! -e none
"$mpirun" -np 2 "$program" train run.toml --run.dir=none --run.device=cuda > none2.log 2>&1
check "two ranks end alike" test $? -eq 69
"$program" train run.toml --run.dir=none --train.precision=bf16 > bf16.log 2>&1
check "bf16 on the CPU ends with 69" test $? -eq 69
check "and names the key" says bf16.log "train.precision"

export FARSIGHT_CUDA_PLUGIN=$plugin
"$program" train run.toml --run.dir=auto > auto.log 2>&1
check "with a device 'auto' takes it" says auto.log "computes on CUDA"
"$mpirun" -np 2 "$program" train run.toml --run.dir=cuda --run.device=cuda --parallel.ring=2 > cuda.log 2>&1
check "two ranks train on a device" test $? -eq 0
check "and say where" says cuda.log "2 ranks on 1 device"
check "with the same loss as on the CPU" near "$(last_loss cuda)" "$(last_loss cpu)" 1e-5
"$mpirun" -np 2 "$program" train run.toml --run.dir=mixed --train.precision=bf16 --parallel.zero=2 > mixed.log 2>&1
check "mixed precision trains" near "$(last_loss mixed)" "$(last_loss cpu)" 5e-3

"$program" eval mixed > device.log 2>&1
check "a run in bf16 is evaluated on the device" test $? -eq 0
FARSIGHT_CUDA_PLUGIN=$absent "$program" eval mixed > host.log 2>&1
check "and on the CPU" test $? -eq 0
check "with nearly the same loss" near "$(sed -n 's/.*loss \([0-9.]*\) .*/\1/p' device.log)" "$(sed -n 's/.*loss \([0-9.]*\) .*/\1/p' host.log)" 2e-3
on_device=$("$program" generate cuda --prompt="the ring" --tokens=12 --device=cuda)
on_host=$("$program" generate cuda --prompt="the ring" --tokens=12 --device=cpu)
check "the same text is generated on the device and on the CPU" test "$on_device" = "$on_host"
"$program" generate cuda --prompt="the ring" --device=gpu > generate.log 2>&1
check "an unknown device is a usage error" test $? -eq 64
"$program" doctor > doctor.log 2>&1
check "doctor lists the device" says doctor.log "CUDA devices.*multiprocessors"

echo "$failures failures"
test "$failures" -eq 0
