#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# launch/slurm/train.sbatch with stand-ins for srun, mpirun and scontrol: which ends of a run go back to the queue, which
# end the job and with what code, and which signals reach the ranks. Each case runs in a directory of its own.
set -uo pipefail

script=$(cd "$(dirname "$0")/../.." && pwd -P)/launch/slurm/train.sbatch
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
expect() { # WHAT FOUND WANTED
  [[ $2 == "$3" ]] && return
  echo "FAILED: $case_name: $1 is '$2', expected '$3'"
  failures=$((failures + 1))
}

mkdir "$scratch/bin"
# The launcher does what the file `plan` says, one line per start: "code CODE", "exit STATUS", "save STEP", "signal".
cat >"$scratch/bin/srun" <<'LAUNCHER'
#!/usr/bin/env bash
echo "${0##*/} $*" >>starts
saved() { echo '{"code": 85, "reason": "stopped"}' >run/exit.json && exit 85; }
trap 'echo USR1 >>signals; saved' USR1
trap 'echo TERM >>signals; saved' TERM
plan=$(sed -n "$(wc -l <starts)p" plan)
for step in ${plan//,/ }; do
  case $step in
    code=*) echo "{\"reason\": \"test\", \"code\": ${step#*=}}" >run/exit.json ;;
    save=*) mkdir -p run/checkpoints && echo "step-${step#*=}" >run/checkpoints/LATEST ;;
    wait) : >ready && for ((i = 0; i < 200; ++i)); do sleep 0.05; done ;;
    exit=*) exit "${step#*=}" ;;
  esac
done
LAUNCHER
cp "$scratch/bin/srun" "$scratch/bin/mpirun"
# shellcheck disable=SC2016
printf '#!/usr/bin/env bash\necho "$*" >>requeued\nexit "${SCONTROL_STATUS:-0}"\n' >"$scratch/bin/scontrol"
chmod +x "$scratch"/bin/*

# prepare NAME PLAN-LINE...: a fresh directory with an older checkpoint.
prepare() {
  case_name=$1
  mkdir -p "$scratch/$1/run/checkpoints" && cd "$scratch/$1" || exit 1
  shift
  printf '%s\n' "$@" >plan
  echo step-1 >run/checkpoints/LATEST
  echo '{"code": 0}' >run/exit.json # of an earlier job: must not be believed
}
job=(env PATH="$scratch/bin:$PATH" SLURM_JOB_ID=17 RUN=run FARSIGHT=/opt/farsight RETRY_DELAY_S=0.1 bash "$script" lm.toml --optim.lr=1)
starts() { wc -l <starts; }
requeued() { cat requeued 2>/dev/null; }

run_case() { # NAME PLAN STATUS REQUEUED STARTS
  prepare "$1" "${@:6}" && "${job[@]}" >log 2>&1
  expect "the job's exit code" $? "$2"
  expect "requeue" "$(requeued)" "$3"
  expect "number of starts" "$(starts)" "$4"
  expect "last line of starts" "$(tail -n 1 starts)" \
    "$5 /opt/farsight train lm.toml --resume=auto --run.dir=run --optim.lr=1"
}
srun='srun --mpi=pmix --kill-on-bad-exit=1'
run_case finished 0 '' 1 "$srun" code=0,exit=0
run_case saved_and_stopped 0 'requeue 17' 1 "$srun" code=85,exit=85
run_case saved_launcher_hides_it 0 'requeue 17' 1 "$srun" code=85,exit=1
run_case wrong_configuration 78 '' 1 "$srun" code=78,exit=78
for status in 64 65 69 70 74 76; do run_case "ends_with_$status" $status '' 1 "$srun" code=$status,save=9,exit=$status; done
run_case crash_after_progress 0 'requeue 17' 1 "$srun" save=2,exit=137
run_case crash_without_progress 137 '' 1 "$srun" exit=137
run_case hang_after_progress 0 'requeue 17' 1 "$srun" save=2,code=124,exit=124
run_case false_success_then_real 0 '' 2 "$srun" exit=0 code=0,exit=0
run_case false_success_always 69 '' 3 "$srun" exit=0 exit=0 exit=0
LAUNCHER=mpirun run_case with_mpirun 0 '' 1 mpirun code=0,exit=0
SCONTROL_STATUS=1 run_case requeue_refused 85 'requeue 17' 1 "$srun" code=85,exit=85

signal_case() { # NAME SIGNAL STATUS REQUEUED
  prepare "$1" wait
  "${job[@]}" >log 2>&1 &
  local job_pid=$!
  for ((i = 0; i < 100; ++i)); do
    if [[ -e ready ]]; then break; fi
    sleep 0.05
  done
  kill -s "$2" "$job_pid"
  wait "$job_pid"
  expect "the job's exit code" $? "$3"
  expect "signals of the ranks" "$(cat signals 2>/dev/null)" "$2"
  expect "requeue" "$(requeued)" "$4"
}
signal_case time_limit USR1 0 'requeue 17'
signal_case cancelled TERM 85 ''

prepare no_run_directory code=0
RUN='' "${job[@]/RUN=run/RUN=}" >log 2>&1
expect "exit code is not 0" $(($? != 0)) 1
expect "the message names RUN" "$(grep -c 'RUN' log)" 1
prepare unknown_launcher ''
LAUNCHER=ssh "${job[@]}" >log 2>&1
expect "the job's exit code" $? 64

((failures == 0)) && echo "all cases passed"
exit $((failures > 0))
