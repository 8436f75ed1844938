#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Learning: tinyshakespeare, 4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps must end at or below a
# validation loss of 1.88 nats per character over the whole validation part, the published figure of the smallest nanoGPT
# setting.   learning_test.sh PROGRAM
set -u
program=$1
text=${FARSIGHT_DATA:-../shared/data}/text/tinyshakespeare.txt
[ -e "$text" ] || { echo "skipped: $text is not there; set FARSIGHT_DATA to the folder that holds text/"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-learning.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$program" data text "$text" --tokenizer=byte --split=0.9/0.1 --by=position -o "$work/shakespeare.h5" || exit 1
start=$SECONDS
"$program" train launch/examples/shakespeare-char.toml --run.dir="$work/run" --data.train="$work/shakespeare.h5" --parallel.ring=1 || exit 1
loss=$(sed -n 's/.*"split":"valid","loss":\([0-9.]*\).*/\1/p' "$work/run/metrics.jsonl" | tail -n 1)
echo "validation loss $loss after $((SECONDS - start)) s"
awk -v loss="$loss" 'BEGIN { exit !(loss > 1.0 && loss <= 1.88) }'
