#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# launch/bundle: what the archive holds, that it needs nothing outside itself but glibc, and that it trains, with the
# losses of this machine, in a root directory that holds nothing but glibc, a shell and the few tools its scripts name.
#   bundle_test.sh BUILD_DIRECTORY PLUGIN
# PLUGIN is one of another build, which launch/bundle refuses. Made to need a library of a CUDA that no machine has, it
# stands for one whose libraries are missing.
# The part in the empty root is skipped (exit 77) without patchelf or the right to mount.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd -P)
build=$1 plugin=$2
command -v patchelf >/dev/null || { echo "SKIP: patchelf is not installed (launch/deps --tests)" && exit 77; }
scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT
cd "$scratch" || exit 1
unset LD_LIBRARY_PATH FARSIGHT_CUDA_PLUGIN FARSIGHT_PYTHON PYTHONPATH
failures=0
check() { # DESCRIPTION COMMAND...
  if "${@:2}"; then echo "ok: $1"; else echo "FAILED: $1" && failures=$((failures + 1)); fi
}
says() { [[ $1 == *"$2"* ]] || { printf '  it says: %s\n' "$1" && false; }; } # TEXT WORDS
refuses() { # CODE WORDS ARGUMENTS...: and leaves nothing under or beside the final name
  local said status=0
  said=$("$root/launch/bundle" --build="$build" -o refused.tgz "${@:3}" 2>&1) || status=$?
  ((status == $1)) && says "$said" "$2" && ! compgen -G 'refused.tgz*'
}

# A plugin that needs a library of a future CUDA, and one that needs a library that nobody has.
install -m 644 "$plugin" plugin.so
patchelf --add-needed libcublasLt.so.99 plugin.so
install -m 644 "$plugin" lost.so
patchelf --add-needed libfarsight_nowhere.so.1 lost.so
mkdir tools && ln -s /usr/bin/* tools/ 2>/dev/null && rm -f tools/patchelf

check "an unknown argument is 64" refuses 64 "unknown argument '--no'" --no
check "a missing build is 69" refuses 69 'launch/build release' --build="$scratch/none"
check "a missing plugin is 69" refuses 69 'launch/build cuda' --plugin=none.so
check "a plugin of another build is 69" refuses 69 'is not of the build in' --plugin="$plugin"
check "a library that is not found is 69" refuses 69 'libfarsight_nowhere.so.1' --plugin=lost.so
PATH=$scratch/tools check "a missing patchelf is 69" refuses 69 'patchelf is not installed'
check "a missing folder is 74" refuses 74 'no file can be written' -o none/refused.tgz

bundle() { "$root/launch/bundle" --build="$build" --plugin=plugin.so -o "$1"; }
bundle one.tgz || { echo "FAILED: launch/bundle ends with $?" && exit 1; }
(umask 077 && TZ=UTC-5 bundle two.tgz >/dev/null)
check "packed twice it is the same" cmp one.tgz two.tgz
check "it is within 60 MiB" test "$(stat -c %s one.tgz)" -le $((60 << 20))
mkdir -p 'root/a place'
place="$scratch/root/a place" P="$scratch/root/a place/farsight-bundle"
tar xzf one.tgz -C "$place"
holds() { ls "$@" >/dev/null; }
check "it holds what its README names" holds "$P"/{env.sh,README.txt,LICENSE,bin/farsight,bin/mpirun,bin/orted,launch/mpirun} \
  "$P"/{launch/examples/quickstart.toml,lib/libfarsight_cuda.so,share/openmpi/help-orterun.txt,licenses/common-licenses}

# Every program and library: where it looks, and what it finds.
mapfile -t files < <(find "$P/bin" "$P/lib" -type f)
look_beside_themselves() {
  local file dynamic kind paths bad=0
  for file in "${files[@]}"; do
    dynamic=$(readelf -d "$file")
    paths=$(sed -nE 's/.*\((RPATH|RUNPATH)\).*\[(.*)\]/\1 \2/p' <<<"$dynamic")
    case $file in
      "$P"/lib/libfarsight_cuda.so) kind="RUNPATH \$ORIGIN" ;;
      "$P"/bin/*) kind="RPATH \$ORIGIN/../lib" ;;
      "$P"/lib/*/*) kind="RPATH \$ORIGIN/.." ;;
      *) kind="RPATH \$ORIGIN" ;;
    esac
    [[ $paths == "$kind" ]] || { echo "  $file: '$paths', expected '$kind'" && bad=1; }
  done
  return $bad
}
glibc='(linux-vdso|ld-linux-x86-64|lib(c|m|mvec|dl|rt|pthread|resolv|util|anl))\.so'
need_glibc_alone() {
  # ldd prints "NAME => PATH (ADDRESS)" or "NAME => not found".
  local found
  found=$(ldd "${files[@]}") || return
  found=$(awk -v place="$P/" '$2 == "=>" && index($0, place) == 0 { print "  " $1 " => " $3 ($3 == "not" ? " found" : "") }' <<<"$found" |
    sort -u | grep -vE "^  $glibc" | grep -v '^  libcublasLt\.so\.99 => not found$')
  [[ -z $found ]] || { echo "$found" && false; }
}
check "programs and libraries look beside themselves" look_beside_themselves
check "they find all there but glibc" need_glibc_alone
check "${#files[@]} files: CUDA is not among them" test -z "$(find "$P" -name 'libcu*Lt*' -o -name 'libcudnn*' -o -name 'libnccl*')"

# env.sh, from a directory that is not its own, under the strictest shell and under one that does not know its place.
sourced() { env -i PATH=/usr/bin:/bin "$@" 2>&1; }
# shellcheck disable=SC2016
show='echo "$PATH|$OPAL_PREFIX|${LD_LIBRARY_PATH:-}"'
said=$(sourced bash -euo pipefail -c ". '$P/env.sh'; . '$P/env.sh'; $show")
check "env.sh names what is missing" says "$said" 'not found: libcublasLt.so.99'
check "env.sh sourced twice changes PATH once" says "$said" "$(printf '\n%s' "$P/launch:$P/bin:/usr/bin:/bin|$P|")"
said=$(sourced FARSIGHT_BUNDLE="$P" sh -euc ". '$P/env.sh'; $show")
check "env.sh works in sh where FARSIGHT_BUNDLE is set" says "$said" "$P/launch:$P/bin:/usr/bin:/bin|$P|"
check "env.sh says when it does not know its place" says "$(sourced sh -c ". '$P/env.sh'")" 'set FARSIGHT_BUNDLE'
mkdir -p 'packages/nvidia/cu 13/lib' && cp "$P/lib/libz.so.1" 'packages/nvidia/cu 13/lib/libcublasLt.so.99'
if command -v python3 >/dev/null; then
  said=$(sourced PYTHONPATH="$scratch/packages" bash -euo pipefail -c ". '$P/env.sh'; $show")
  check "env.sh finds CUDA libraries among python's packages" test "$said" = "$P/launch:$P/bin:/usr/bin:/bin|$P|$scratch/packages/nvidia/cu 13/lib"
fi

((failures == 0)) || { echo "$failures checks failed" && exit 1; }
space=(--mount --pid --fork --kill-child)
if (($(id -u) != 0)); then space+=(--map-root-user); fi
unshare "${space[@]}" true 2>/dev/null || { echo "SKIP: this machine does not allow mount and process namespaces" && exit 77; }

# The empty root: glibc, what the bundle's scripts call, and the libraries of these tools where only they look.
tools=(bash cat df dirname env grep id sed sh tail)
mkdir -p root/{bin,dev,lib64,lib/tools,proc,sys,tmp,usr}
ln -s ../bin root/usr/bin
cp -L /lib64/ld-linux-x86-64.so.2 root/lib64/
mapfile -t system < <(for tool in "${tools[@]}"; do ldd "$(type -P "$tool")"; done | awk '$2 == "=>" { print $3 }' | sort -u)
libc=$(printf '%s\n' "${system[@]}" | grep '/libc\.so\.6$')
folder=root${libc%/*} # where this machine's loader looks by itself
mkdir -p "$folder"
for library in c.so.6 m.so.6 mvec.so.1 dl.so.2 rt.so.1 pthread.so.0 resolv.so.2 util.so.1 anl.so.1; do cp -L "${libc%/*}/lib$library" "$folder/"; done
for library in "${system[@]}"; do [[ -e $folder/${library##*/} ]] || cp -L "$library" root/lib/tools/; done
for tool in "${tools[@]}"; do
  install -m 755 "$(readlink -f "$(type -P "$tool")")" "root/bin/$tool"
  patchelf --force-rpath --set-rpath /lib/tools "root/bin/$tool"
done

for ((i = 0; i < 900; ++i)); do echo "Line $i of a text: $((i * i % 97)) plus $((i % 13)) gives $((i * i % 97 + i % 13))."; done >text.txt
cp text.txt root/tmp/
shape=(--model.layers=2 --model.width=32 --data.sequence=256 "--train.batch=1024 tokens" "--train.steps=3 steps" "--optim.warmup=1 steps"
  --eval.batches=1 "--log.every=1 steps" --run.device=cpu --data.train=corpus.h5)
printf -v shape_words '%q ' "${shape[@]}"
work="farsight --version >version && farsight data text text.txt --tokenizer=byte --split=0.8/0.2/0 --by=position -o corpus.h5 &&
  OMP_NUM_THREADS=1 farsight train \"\$EXAMPLE\" $shape_words --parallel.ring=1 --run.dir=one &&
  OMP_NUM_THREADS=1 mpirun -np 2 farsight train \"\$EXAMPLE\" $shape_words --run.dir=two"
inside() { # COMMAND, run in /tmp of the empty root after env.sh
  # shellcheck disable=SC2016
  unshare "${space[@]}" bash -c 'root=$1 && shift && mount --make-rprivate / && mount -t proc proc "$root/proc" &&
    mount --rbind /sys "$root/sys" && mount --rbind /dev "$root/dev" && exec chroot "$root" "$@"' inside "$scratch/root" \
    /bin/env -i PATH=/bin EXAMPLE='/a place/farsight-bundle/launch/examples/quickstart.toml' \
    /bin/bash -c "cd /tmp && . '/a place/farsight-bundle/env.sh' && $1"
}
losses() { # RUN: of every step and of the evaluation
  sed -nE 's/.*"loss": *([0-9.eE+-]+).*/\1/p' "$1/metrics.jsonl" | tr '\n' ' '
}

mkdir here bin && ln -s "$build/farsight" bin/ && ln -s "$root/launch/mpirun" bin/
(cd here && cp ../text.txt . && PATH=$scratch/bin:$PATH EXAMPLE=$root/launch/examples/quickstart.toml bash -c "$work") >here.log 2>&1 ||
  { tail -n 20 here.log && echo "FAILED: training on this machine" && exit 1; }
check "it trains in an empty root, on one rank and under mpirun" inside "$work" >inside.log 2>&1
if grep '^FAILED' inside.log; then tail -n 20 inside.log && exit 1; fi
check "the program is the same" cmp here/version root/tmp/version
for run in one two; do
  found=$(losses root/tmp/$run) expected=$(losses here/$run)
  echo "losses of $run: $found"
  check "run $run has losses" test "$(wc -w <<<"$found")" -eq 4
  check "run $run has the losses of this machine" test "$found" = "$expected"
done
doctor=$(inside 'farsight doctor' 2>&1)
check "doctor says why there is no device" says "$doctor" 'libcublasLt.so.99: cannot open shared object file'
((failures == 0)) || { echo "$failures checks failed" && exit 1; }
echo "all checks passed"
