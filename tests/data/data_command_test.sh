#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The commands `farsight data ...` as a user types them: output, exit codes, what to do after a mistake.
#   data_command_test.sh PROGRAM
set -u
program=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/farsight-data-command.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
# expect CODE 'regex of the output' ARGUMENTS of `farsight data`...
expect() {
  local want=$1 pattern=$2 got
  shift 2
  "$program" data "$@" > out.log 2>&1
  got=$?
  if [ $got -ne "$want" ] || ! grep -Eq -- "$pattern" out.log; then
    echo "FAILED: exit $got, expected $want with /$pattern/: data $*"
    head -n 5 out.log
    failures=$((failures + 1))
  fi
}
only() {  # the files that may be there, apart from the log
  local found
  found=$(find . -mindepth 1 ! -name out.log -printf '%f\n' | sort | tr '\n' ' ')
  [ "$found" = "$1" ] || { echo "FAILED: files '$found', expected '$1'"; failures=$((failures + 1)); }
}

for i in $(seq 400); do echo "line $i of a small text"; done > t.txt

# Help: usage, an example, exit 0.
expect 0 "tokenizer +train" --help
expect 64 "no command given"
expect 64 "no command 'bogus'" bogus
for command in text csv inspect verify "tokenizer train" "tokenizer encode" "tokenizer decode" "tokenizer fingerprint"; do
  read -ra words <<< "$command"
  expect 0 "usage: farsight data $command" "${words[@]}" --help
  expect 0 "^  farsight data $command " "${words[@]}" --help
done
expect 0 "fingerprint  print" tokenizer --help

# text: mistakes leave nothing behind.
expect 65 "absent.txt: cannot open: No such file or directory .*check the path" text absent.txt -o c.h5
expect 64 "no input file; see" text -o c.h5
expect 64 "no output; pass -o" text t.txt
expect 74 "create the folder or choose another -o" text t.txt -o nodir/c.h5
expect 64 "unknown tokenizer 'gtp2'; use byte, gpt2:DIR" text t.txt -o c.h5 --tokenizer=gtp2
expect 65 "nodir/encoder.json: cannot open" text t.txt -o c.h5 --tokenizer=gpt2:nodir
expect 64 "do not add up to 1; write fractions like" text t.txt -o c.h5 --split=0.9/0.2
expect 64 "'--threads' is invalid" text t.txt -o c.h5 --threads=x
expect 64 "unrecognised option '--bogus'; see" text t.txt -o c.h5 --bogus
expect 64 "by=half: use one of: document, position" text t.txt -o c.h5 --by=half
expect 65 "pass --by=position" text t.txt -o c.h5 --split=0.9/0.1
only "t.txt "

# text: two fractions, three with zero; inspect and verify agree with it.
expect 0 "^valid +1 documents +990 tokens" text t.txt -o c.h5 --split=0.9/0.1 --by=position
expect 0 "^valid +1 documents +990 tokens" text t.txt -o c.h5 --split=0.9/0.1/0 --by=position --overwrite --licence=CC0-1.0
expect 65 "c.h5: exists already; choose another -o or pass --overwrite" text t.txt -o c.h5
expect 0 "train: 8,902 tokens in 1 documents, 8,902 bytes of text" inspect c.h5
expect 0 "licence: CC0-1.0" inspect c.h5
expect 0 'begins: line 1 of a small text\\nline 2' inspect c.h5
expect 0 "c.h5: good: 9,892 tokens, 2 documents, 4 content hashes, every byte" verify c.h5
for command in inspect verify; do
  expect 65 "absent.h5: cannot open: No such file.*prepare it with 'farsight data text FILE... -o absent.h5'" $command absent.h5
  expect 65 "t.txt: not an HDF5 file" $command t.txt
  expect 64 "no file given" $command
done
# Other programs read it too.
if command -v h5dump > /dev/null; then
  h5dump -d /valid/doc_offsets c.h5 | grep -q '(0): 0, 990' || { echo "FAILED: h5dump"; failures=$((failures + 1)); }
else
  echo "h5dump is not here: not tried"
fi
for python in python3 /usr/bin/python3 none; do "$python" -c 'import h5py' 2> /dev/null && break; done
if [ "$python" != none ]; then
  "$python" - << 'EOP' || { echo "FAILED: h5py"; failures=$((failures + 1)); }
import h5py
text = open("t.txt", "rb").read()
with h5py.File("c.h5") as f:
    assert f.attrs["format"] == "farsight-data" and f.attrs["licence"] == "CC0-1.0"
    assert bytes(f["train/tokens"][:].astype("uint8")) == text[:8902]
    assert bytes(f["valid/tokens"][:].astype("uint8")) == text[8902:]
    assert f["valid/tokens"].attrs["bytes_of_text"] == 990
EOP
else
  echo "python3-h5py is not here: not tried"
fi
cp c.h5 d.h5
expect 0 "warning: no checksum file d.h5.sum" verify d.h5
cp c.h5.sum d.h5.sum
printf 'X' | dd of=d.h5 bs=1 seek=20000 conv=notrunc 2> /dev/null
expect 65 "d.h5: block 0 \(bytes 0\.\.[0-9,]+\) differs from d.h5.sum" verify d.h5
rm d.h5 d.h5.sum

# No room for the whole file: the old one stays, and the program ends in order.
cp c.h5 old.h5
if (trap '' XFSZ; ulimit -f 24; "$program" data text t.txt -o c.h5 --overwrite > out.log 2>&1; [ $? -eq 74 ]) &&
  grep -q 'File too large (errno 27)' out.log && cmp -s c.h5 old.h5; then
  rm old.h5
else
  echo "FAILED: a full disk"
  cat out.log
  failures=$((failures + 1))
fi
only "c.h5 c.h5.sum t.txt "

# tokenizer
expect 64 "no command given; use train" tokenizer
expect 64 "no command 'bogus'" tokenizer bogus
expect 0 "tokenizer.json: 300 ids, fingerprint [0-9a-f]{16}" tokenizer train t.txt --vocab=300
only "c.h5 c.h5.sum merges.txt t.txt tokenizer.json vocab.json "
expect 65 "exists already" tokenizer train t.txt --vocab=300
expect 65 "nodir: no such folder; create it" tokenizer train t.txt -o nodir/t.json
expect 64 "vocabulary size 'abc'" tokenizer train t.txt --vocab=abc --overwrite
printf 'hello line 3' > n.txt
expect 0 "^104 101 108 108 111 32 108 105 110 101 32 51$" tokenizer encode n.txt
expect 65 "absent.txt: cannot open" tokenizer encode absent.txt
"$program" data tokenizer encode n.txt --tokenizer=bpe:tokenizer.json > ids.txt
read -ra ids < ids.txt
[ ${#ids[@]} -lt 12 ] || { echo "FAILED: ${#ids[@]} ids for 12 bytes"; failures=$((failures + 1)); }
expect 0 "^hello line 3$" tokenizer decode "${ids[@]}" --tokenizer=bpe:tokenizer.json
expect 0 "^hi<\|eod\|>$" tokenizer decode 104 105 256 --tokenizer=c.h5
expect 65 "token id 999 is outside" tokenizer decode 999
expect 64 "'xx' is not a token id" tokenizer decode xx
"$program" data tokenizer decode 255 10 -o bytes || failures=$((failures + 1))
[ "$(od -An -tx1 bytes | tr -d ' ')" = "ff0a" ] || { echo "FAILED: decode -o"; failures=$((failures + 1)); }
expect 0 "^13beb2915ade65b5  byte 259 ids  c.h5$" tokenizer fingerprint byte bpe:tokenizer.json c.h5
expect 65 "prepare it with" tokenizer fingerprint absent.h5

# csv: mistakes leave nothing behind, and an existing output is refused before anything is read.
mkdir csv && cd csv || exit 1
{ echo "date,load,temperature"; for i in $(seq 0 239); do
  printf '2020-01-%02d %02d:00,%d.5,%d\n' $((1 + i / 24)) $((i % 24)) $((i % 24)) $((i % 7)); done; } > l.csv
expect 64 "no input file; see farsight data csv --help" csv -o s.h5
expect 64 "no output; pass -o" csv l.csv
expect 65 "absent.csv: cannot open" csv absent.csv -o s.h5
expect 64 "missing=fill: use one of: error, ffill, mask" csv l.csv -o s.h5 --missing=fill
expect 64 "sentinel=low: write a number, NUMBER:CHANNEL, or none" csv l.csv -o s.h5 --sentinel=low
expect 64 "delimiter=ab: write auto, tab, or one character" csv l.csv -o s.h5 --delimiter=ab
expect 64 "targets: an empty name" csv l.csv -o s.h5 --targets=load,
expect 64 "split=half: no such rule" csv l.csv -o s.h5 --split=half
expect 65 "no column 'OT' .has: date, load, temperature." csv l.csv -o s.h5 --targets=OT
expect 65 "series '0' has 240 rows, and 14,400 are needed" csv l.csv -o s.h5 --split=ett-hour
sed '100s/,[^,]*$/,n\/a/' l.csv > bad.csv
expect 65 "^error: bad.csv:100:3: 'n/a' in channel temperature; use --missing=mask or ffill" csv bad.csv -o s.h5
only "bad.csv l.csv "
echo precious > s.h5
expect 65 "s.h5: exists already; choose another -o or pass --overwrite" csv absent.csv -o s.h5
[ "$(cat s.h5)" = precious ] || { echo "FAILED: s.h5 is another file"; failures=$((failures + 1)); }
rm s.h5
# csv: what was made.
expect 0 "^240 rows in 1 series, 2 channels, frequency 1h, 2020-01-01T00:00:00Z to 2020-01-10T23:00:00Z" csv l.csv -o s.h5
expect 0 "^valid  24 rows  2020-01-08T00:00:00Z to 2020-01-08T23:00:00Z" csv l.csv -o s.h5 --overwrite
expect 0 "^  load +target  .MW.$" csv l.csv -o s.h5 --overwrite --targets=load --known-future=temperature --unit=load=MW
expect 0 "^  temperature  known_future$" csv l.csv -o s.h5 --overwrite --known-future=temperature
expect 0 "^l.csv: sha256 $(sha256sum l.csv | cut -d' ' -f1)" csv l.csv -o s.h5 --overwrite
expect 0 "^190 rows are in no split" csv l.csv -o s.h5 --overwrite --split=rows:30/10/10
expect 0 "^1 cells masked" csv bad.csv -o s.h5 --overwrite --missing=mask
sed 's/2020-01-\(..\) \(..\):00/\1.01.2020 \2:00/;s/,/;/g;s/\.5/,5/' l.csv > german.csv
expect 65 "date-format='%d.%m.%Y %H:%M' fits all 240 rows" csv german.csv -o s.h5 --overwrite --decimal=,
expect 0 "^240 rows" csv german.csv -o s.h5 --overwrite --decimal=, "--date-format=%d.%m.%Y %H:%M"
expect 0 "^next: farsight data inspect s.h5" csv l.csv -o s.h5 --overwrite
# csv, inspect, verify.
expect 0 "^240 rows" csv l.csv -o s.h5 --overwrite --targets=load --known-future=temperature --unit=load=MW \
  --licence=CC0-1.0
expect 0 "^240 rows in 1 series, 2 channels, frequency 1h, 2020-01-01T00:00:00Z to 2020-01-10T23:00:00Z" inspect s.h5
expect 0 "^licence: CC0-1.0" inspect s.h5
expect 0 "^masked cells: 0 of 480" inspect s.h5
expect 0 "^test +48 rows  2020-01-09T00:00:00Z to 2020-01-10T23:00:00Z" inspect s.h5
expect 0 "^load +target +MW +12 +6.92[0-9]* +0.5 +12 +23.5 +11.5 +168$" inspect s.h5
expect 0 '"masked_cells": 0,' inspect s.h5 --json
expect 0 "^s.h5: good: 240 rows in 1 series, 480 values, 0 of them masked, 1[0-9] content hashes, every byte" verify s.h5
# The load of an hour is that of the day before: seasonal_naive is exact, and its MASE scale 0.
expect 0 "^ +24 +12 +37  seasonal_naive +0.000000 +0.000000 +0.00000 +n/a +0.0000$" inspect s.h5 --baselines --lookback=24 --horizon=12
expect 0 "^note: MASE leaves out 1 of 1 channels" inspect s.h5 --baselines --lookback=24 --horizon=12
expect 0 "^ +24 +24 +24  linear " inspect s.h5 --baselines --lookback=24 --horizon=12,24 --drop-last=8
expect 0 "^note: look-back 24, horizon 12: seasonal_naive is left out: a season of 200 rows, but only 192 lie before" \
  inspect s.h5 --baselines --lookback=24 --horizon=12 --season=200
expect 0 '"forecast": "window_mean"' inspect s.h5 --json --baselines --lookback=24 --horizon=12
expect 65 "has no split 'final' .has: test, train, valid." inspect s.h5 --baselines --split=final
expect 65 "split .test. holds no window: 72 rows with their look-back, 120 are needed" inspect s.h5 --baselines --lookback=24 --horizon=96
expect 64 "drop-last=64: the split 'test' has 37 windows, no full batch" inspect s.h5 --baselines --lookback=24 \
  --horizon=12 --drop-last=64
expect 64 "lookback: '2x' is not a whole number from 1 on" inspect s.h5 --baselines --lookback=24,2x
expect 64 "--horizon is for --baselines, which is not given" inspect s.h5 --horizon=12
expect 64 "holds tokens; --baselines is for time series" inspect ../c.h5 --baselines
expect 0 "^1 cells masked" csv bad.csv -o s.h5 --overwrite --missing=mask
expect 0 "^masked cells: 1 of 480" inspect s.h5
expect 0 "480 values, 1 of them masked" verify s.h5
cp s.h5 t.h5
expect 0 "warning: no checksum file t.h5.sum" verify t.h5
printf 'X' | dd of=t.h5 bs=1 seek=4200 conv=notrunc 2> /dev/null
cp s.h5.sum t.h5.sum
expect 65 "t.h5: block 0 .*differs from t.h5.sum" verify t.h5
if [ "$python" != none ]; then
  rm t.h5.sum
  cp s.h5 t.h5
  "$python" -c 'import h5py; h5py.File("t.h5", "r+")["series/0/values"][7, 0] = 3'
  expect 65 "t.h5: '/series/0/values' has content hash [0-9a-f]{16}, [0-9a-f]{16} expected: damaged or edited" verify t.h5
fi
cd .. || exit 1

[ $failures -eq 0 ] && echo "all commands behave"
exit $((failures > 0))
