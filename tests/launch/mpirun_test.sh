#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# launch/mpirun: what it chooses and what it leaves to the user (with a stand-in for mpirun that prints what it got), and
# that exit codes and USR1 pass through the real one.
set -uo pipefail

launcher=$(cd "$(dirname "$0")/../.." && pwd -P)/launch/mpirun
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
expect() { # CASE FOUND WANTED(a pattern)
  # shellcheck disable=SC2053
  [[ $2 == $3 ]] && return
  printf "FAILED: %s: found '%s', expected '%s'\n" "$1" "$2" "$3"
  failures=$((failures + 1))
}
unset OMP_NUM_THREADS HWLOC_COMPONENTS SLURM_JOB_ID PBS_JOBID LSB_JOBID
for name in $(compgen -e OMPI_MCA_); do unset "$name"; done

mkdir "$scratch/bin"
cat >"$scratch/bin/mpirun" <<'END'
#!/usr/bin/env bash
if [[ $1 == --version ]]; then echo 'mpirun (Open MPI) 4.1.4' && exit; fi
echo "$*; threads=${OMP_NUM_THREADS:-unset} pml=${OMPI_MCA_pml:-unset} btl=${OMPI_MCA_btl:-unset}" \
  "hwloc=${HWLOC_COMPONENTS:-unset} yield=${OMPI_MCA_mpi_yield_when_idle:-unset}"
END
chmod +x "$scratch/bin/mpirun"
# One core, whatever this machine has: the choices do not depend on it then.
core=$(sed -nE 's/^Cpus_allowed_list:[[:space:]]*([0-9]+).*/\1/p' /proc/self/status)
fake() { PATH="$scratch/bin:$PATH" taskset -c "$core" "$launcher" "$@" 2>&1; }

expect 'two ranks on one core' "$(fake -np 2 true -np 9)" \
  '--oversubscribe --bind-to none -np 2 true -np 9; threads=1 pml=ob1 btl=self,vader hwloc=-gl yield=1'
expect 'one rank on one core waits busily' "$(fake -np 1 true)" '*-np 1 true; threads=1 *yield=unset'
expect 'ranks of two programs are added' "$(fake -np 1 true : -np 1 true)" '*threads=1 *yield=1'
expect 'threads of the user' "$(OMP_NUM_THREADS=7 fake -np 2 true)" '*threads=7 *'
expect 'binding of the user' "$(fake --bind-to core -np 2 true)" '--oversubscribe --bind-to core -np 2 true; *'
expect 'binding of the user by variable' "$(OMPI_MCA_hwloc_base_binding_policy=core fake -np 2 true)" '--oversubscribe -np 2 true; *'
expect 'transport of the user' "$(OMPI_MCA_btl=tcp,self OMPI_MCA_pml=ucx fake -np 2 true)" '*pml=ucx btl=tcp,self *'
expect 'hosts of the user' "$(fake -H a,b -np 2 true)" '-H a,b -np 2 true; threads=unset pml=unset btl=unset *'
expect 'a scheduler' "$(SLURM_JOB_ID=1 fake -np 2 true)" '-np 2 true; threads=unset pml=unset btl=unset *'
cores=$(PATH="$scratch/bin:$PATH" "$launcher" -np 1 true | sed -n 's/.*threads=\([0-9]*\).*/\1/p')
expect 'one rank has the threads of all cores' $((cores >= 1 && cores <= $(nproc))) 1

mkdir "$scratch/mpich" "$scratch/empty"
printf '#!/bin/sh\necho "HYDRA build details:"\n' >"$scratch/mpich/mpirun"
chmod +x "$scratch/mpich/mpirun"
output=$(PATH="$scratch/mpich:$PATH" "$launcher" -np 2 true 2>&1)
expect 'another MPI: exit code' $? 69
expect 'another MPI: message' "$output" "*is not Open MPI's ('HYDRA build details:')*"
for tool in bash id sed df tail grep; do ln -s "$(type -P $tool)" "$scratch/empty/"; done
output=$(PATH="$scratch/empty" bash "$launcher" -np 2 true 2>&1)
expect 'no mpirun: exit code' $? 69
expect 'no mpirun: message' "$output" '*no mpirun in PATH*launch/deps*'
ln -s "$launcher" "$scratch/empty/mpirun"
output=$(PATH="$scratch/empty" bash "$launcher" -np 2 true 2>&1)
expect 'itself in PATH: exit code' $? 69

"$launcher" -np 2 sh -c 'exit 85' >"$scratch/log" 2>&1
expect 'exit code of the ranks' $? 85
# shellcheck disable=SC2016
"$launcher" -np 2 bash -c 'trap "exit 85" USR1; : >"$0/ready.$OMPI_COMM_WORLD_RANK"; while :; do sleep 0.1; done' "$scratch" \
  >"$scratch/log" 2>&1 &
pid=$!
for ((i = 0; i < 100; ++i)); do
  if [[ -e $scratch/ready.0 && -e $scratch/ready.1 ]]; then break; fi
  sleep 0.1
done
kill -s USR1 "$pid"
wait "$pid"
expect 'USR1 reaches the ranks' $? 85

((failures == 0)) && echo "all cases passed"
exit $((failures > 0))
