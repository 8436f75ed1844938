#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Executes every command line of README.md ("$ " lines of its console blocks), in order, in one empty directory that
# sees launch/ and build/ as a reader in the source directory does. A command that would take minutes runs in a shorter
# form: `shorten` below lists them all, and both forms are printed. sbatch runs the script at once, with launch/mpirun in
# the place of srun.
#   readme_test.sh [README]
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd -P)
readme=${1:-$root/README.md}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/here" "$scratch/bin"
cd "$scratch/here" || exit 1
ln -s "$root"/{launch,build,README.md,CONTRIBUTING.md,LICENSE} .

cat >"$scratch/bin/srun" <<END
#!/usr/bin/env bash
while [[ \$1 == --* ]]; do shift; done
unset SLURM_JOB_ID
exec "$root/launch/mpirun" -np 2 "\$@"
END
cat >"$scratch/bin/sbatch" <<'END'
#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
echo "Submitted batch job 17"
SLURM_JOB_ID=17 SLURM_SUBMIT_DIR=$PWD exec bash "$@"
END
chmod +x "$scratch/bin"/*
export PATH=$scratch/bin:$PATH FARSIGHT_QUICKSTART_STEPS=4

# The form in which a command runs here. The tests cannot run themselves, and the source directory is configured once.
shorten() {
  case $1 in
    launch/check*) echo "launch/check -R '^house_rules$'" ;;
    *'ctest --preset release'*) echo "cd '$root' && ${1/ctest --preset release/ctest --preset release -R "'^house_rules\$'"}" ;;
    cmake* | .ci/run*) echo "cd '$root' && $1" ;;
    *--train.steps=*00*) echo "$(sed -E 's/(--train\.steps=[0-9]+)00/\1/' <<<"$1") --optim.warmup=1 --eval.batches=1" ;;
    *) echo "$1" ;;
  esac
}

failures=0 count=0
while IFS= read -r command; do
  count=$((count + 1))
  form=$(shorten "$command")
  echo "== $command"
  if [[ $form != "$command" ]]; then echo "   as: $form"; fi
  if bash -c "$form" </dev/null >"$scratch/log" 2>&1; then continue; fi
  echo "FAILED with $?: its last words:" && tail -n 20 "$scratch/log"
  failures=$((failures + 1))
done < <(awk '/^```console$/ { on = 1; next } /^```/ { on = 0 }
  on && (/^\$ / || more) { more = sub(/\\$/, ""); sub(/^\$ /, ""); sub(/^ +/, more_before ? " " : ""); printf "%s", $0; more_before = more; if (!more) print "" }' "$readme")
echo "$count commands, $failures failed"
((count > 0 && failures == 0))
