#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Training speed of the GPU suite's models on one CUDA device, one JSON line each: tokens/s and MFU after the warm-up.
#   tests/bench/train_gpu.sh [MODEL...]      (default: all of gpu_models.py)  PROGRAM=build/cuda/farsight  PRECISION=bf16
#   ARGS="--train.recompute=attn" adds options to every run, LABEL=... names them
# A model that needs more memory than the device has is skipped. torch_train.py trains the same ones.
set -euo pipefail
root=$(cd -P "$(dirname "$0")/../.." && pwd)
here=$root/tests/bench
program=$(realpath "${PROGRAM:-$root/build/cuda/farsight}")
precision=${PRECISION:-bf16}
read -ra extra <<<"${ARGS:-}"
(($#)) || read -ra models <<<"$("$here/gpu_models.py" list)"
(($#)) && models=("$@")
last_step=${LAST_STEP:-30}
patience=${PATIENCE:-240} # seconds for one model

work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-train-gpu.XXXXXX")
run=
end_run() { [[ -z $run ]] || kill -KILL "$run" 2>/dev/null || true; }
trap 'end_run; rm -rf "$work"' EXIT
cd "$work"

# Random letters: what they say does not matter, and the file is small however long the run.
python3 -c 'import random; random.seed(1)
print("".join(random.choices("abcdefghijklmnopqrstuvwxyz \n", k=3_000_000)))' >text.txt
"$program" data text text.txt --tokenizer=byte --by=position -o c.h5 >data.log 2>&1 || { cat data.log >&2 && exit 1; }

device_gib=$("$program" doctor | sed -nE 's/.*CUDA devices.* ([0-9.]+) GiB, bus.*/\1/p')
fits() { awk -v has="${device_gib:-0}" -v needs="$("$here/gpu_models.py" memory "$1")" 'BEGIN { exit !(has >= needs) }'; }
reached() { [[ -f $1 ]] && awk -v last="$last_step" -F'"step":' '{ split($2, a, ","); if (a[1] + 0 >= last) found = 1 } END { exit !found }' "$1"; }

# The run is ended from here: a checkpoint of its last step would take longer than the timed steps.
train() { # MODEL
  local model=$1 deadline=$((SECONDS + patience)) status=0
  "$here/gpu_models.py" config "$model" c.h5 "$precision" >"$model.toml"
  "$program" train "$model.toml" --run.dir="$model" --run.device=cuda "${extra[@]}" >"$model.log" 2>&1 &
  run=$!
  while ! reached "$model/metrics.jsonl"; do
    kill -0 "$run" 2>/dev/null || { wait "$run" || status=$?; break; }
    ((SECONDS < deadline)) || { echo "train_gpu.sh: $model took longer than $patience s" >"$model.late"; break; }
    sleep 0.2
  done
  end_run
  wait "$run" 2>/dev/null || true
  run=
  if ! reached "$model/metrics.jsonl"; then
    { cat "$model.late" 2>/dev/null || echo "train_gpu.sh: $model ended with $status"; tail -n 3 "$model.log"; } >&2
    return 1
  fi
  "$here/gpu_models.py" figures "$model" "$model/metrics.jsonl" "${LABEL:-farsight $precision}"
}

failed=0 trained=0
for model in "${models[@]}"; do
  if fits "$model"; then
    trained=1
    train "$model" || failed=1
  else
    echo "SKIP: $model needs $("$here/gpu_models.py" memory "$model") GiB, the device has ${device_gib:-0}" >&2
  fi
  rm -rf "${work:?}/$model"
done
((trained)) || exit 77
exit $failed
