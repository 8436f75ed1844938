#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# launch/check-gpu on the emulated device: what it refuses, what its table says, what it ends with. ctest and the tools
# of a GPU machine are stood in for by scripts, because only what check-gpu makes of their words is in question.
#   check_gpu_test.sh BUILD
set -u
build=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
[[ -x $build/farsight && -x $build/parity_test && -x $build/device_bench ]] || { echo "SKIP: device_tests are not built" && exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-check-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0
run() { # EXPECTED-CODE ARGUMENT...
  local expected=$1 status=0
  shift
  PATH=$work:$PATH "$root/launch/check-gpu" "$@" >"$work/out" 2>&1 || status=$?
  if ((status != expected)); then
    cat "$work/out"
    echo "FAILED: check-gpu $* ended with $status, expected $expected"
    failures=$((failures + 1))
  fi
}
says() { # PATTERN
  grep -Eq -- "$1" "$work/out" && return
  cat "$work/out"
  echo "FAILED: nothing says '$1'"
  failures=$((failures + 1))
}
stand_in() { # NAME LINES
  printf '#!/bin/sh\n%s\n' "$2" >"$work/$1"
  chmod +x "$work/$1"
}

run 0 --help
says 'SECTION'
run 64 nonsense
run 64 --budget=soon
emulated=(--plugin=emulated --build="$build" --quick)
run 69 --build="$work" tests
says 'is not built for the plugin'
FARSIGHT_EMULATION_DEVICES=0 run 69 "${emulated[@]}" tests
says '^launch/check-gpu: error: there is no CUDA device .*no CUDA device is visible'

stand_in ctest 'echo "1/2 Test  #5: adamw_test ..............   Passed    0.50 sec"
echo "2/2 Test #10: norm_test ...............   Passed    1.25 sec"'
run 0 "${emulated[@]}" tests kernels
says '^tests +norm_test +1\.2 s +ok'
says '^kernels +forward own H4/2 .* cuDNN +[0-9.]+ '
says 'torch_attention .*skipped .*SKIP|torch cuDNN'
says ' 0 failed, 0 cut off'

stand_in ctest 'echo "1/2 Test  #5: adamw_test ..............   Passed    0.50 sec"
echo "2/2 Test #10: norm_test ...............***Failed    1.25 sec"
exit 8'
run 1 "${emulated[@]}" tests
says '^tests +norm_test .* FAILED'
says ' 1 failed'

stand_in ctest 'sleep 30'
run 0 "${emulated[@]}" --budget=1 tests
says 'cut off'

# shellcheck disable=SC2016  # the stand-in's own arguments
stand_in compute-sanitizer '[ "$1" = --help ] && exit 0
[ "$2" != racecheck ] || { echo "========= Error: Race reported between Write access"; exit 86; }'
run 1 "${emulated[@]}" sanitizer
says '^sanitizer +memcheck, 2 programs .* ok'
says '^sanitizer +racecheck norm_test .*FAILED .*Race reported'

echo "$failures failures"
test "$failures" -eq 0
