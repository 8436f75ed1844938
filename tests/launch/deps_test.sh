#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# launch/deps with stand-ins for dpkg-query, apt-get, id and sudo: what it installs, that it does nothing when all is
# there, and what it says when it cannot.
# shellcheck disable=SC2016
set -uo pipefail

deps=$(cd "$(dirname "$0")/../.." && pwd -P)/launch/deps
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0
expect() { # WHAT FOUND WANTED(a pattern)
  # shellcheck disable=SC2053
  [[ $2 == $3 ]] && return
  printf "FAILED: %s: %s is '%s', expected '%s'\n" "$case_name" "$1" "$2" "$3"
  failures=$((failures + 1))
}

mkdir bin
cat >bin/dpkg-query <<'END'
#!/usr/bin/env bash
for package in "$@"; do grep -qx "$package" "$SCRATCH/absent" || echo "$package=installed"; done
END
cat >bin/apt-get <<'END'
#!/usr/bin/env bash
words=" $* "
[[ $DEBIAN_FRONTEND == noninteractive ]] || echo "not told to ask nothing" >>"$SCRATCH/calls"
for mode in update install; do [[ $words == *" $mode "* ]] && called=$mode; done
[[ $words == *' -s '* ]] && called=simulate
echo "$called ${words##* --no-install-recommends }" >>"$SCRATCH/calls"
[[ $called == simulate && -e $SCRATCH/lists_are_old ]] && exit 100
[[ $called == update ]] && rm -f "$SCRATCH/lists_are_old"
[[ -e $SCRATCH/$called-fails ]] && echo "E: reason" >&2 && exit 100
exit 0
END
printf '#!/bin/sh\necho "${USER_ID:-0}"\n' >bin/id
printf '#!/bin/sh\necho "sudo $*" >>"$SCRATCH/calls"\n[ "$1" = -n ] && shift\nexec "$@"\n' >sudo
chmod +x bin/* sudo

# A PATH of the stand-ins and of the few tools the script needs, so that this machine's sudo is not found.
for tool in bash env grep sed cat true; do ln -s "$(type -P $tool)" bin/; done
run() { # NAME ABSENT-PACKAGES... -- ARGUMENTS...
  case_name=$1 && shift
  rm -f calls
  : >absent
  while (($#)) && [[ $1 != -- ]]; do echo "$1" >>absent && shift; done
  shift
  SCRATCH=$scratch PATH=$scratch/bin "$scratch/bin/bash" "$deps" "$@" >log 2>&1 </dev/null
  status=$?
  calls=$(tr -s ' \n' ' ' 2>/dev/null <calls)
  log=$(cat log)
}

run nothing_missing --
expect status $status 0
expect calls "$calls" ''
expect log "$log" '*all * packages are installed*'
run one_missing libdnnl-dev --
expect status $status 0
expect calls "$calls" 'simulate libdnnl-dev install libdnnl-dev '
run tests_not_asked_for strace --
expect calls "$calls" ''
run tests strace libhdf5-dev -- --tests
expect calls "$calls" 'simulate libhdf5-dev strace install libhdf5-dev strace '
touch lists_are_old
run lists_are_refreshed_once cmake --
expect status $status 0
expect calls "$calls" 'simulate cmake update * install cmake '
touch lists_are_old update-fails
run no_network cmake --
expect status $status 69
expect log "$log" '*apt-get update failed*mirror*launch/deps again*'
rm -f lists_are_old update-fails && touch install-fails
run broken_mirror cmake ninja-build --
expect status $status 69
expect calls "$calls" 'simulate * install * update * install *'
expect log "$log" '*could not install: cmake ninja-build*'
rm install-fails

export USER_ID=1000
run user_without_sudo cmake --
expect status $status 69
expect calls "$calls" ''
expect log "$log" '*neither root nor*apt-get install -y --no-install-recommends cmake*'
run user_with_everything --
expect status $status 0
mv sudo bin/
run user_with_sudo cmake --
expect status $status 0
expect calls "$calls" 'sudo -n true sudo env *install cmake *'
run unknown_argument -- --test
expect status $status 64
expect log "$log" "*unknown argument '--test'*"

((failures == 0)) && echo "all cases passed"
exit $((failures > 0))
